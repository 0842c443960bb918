"""What it costs to say where a row comes from, where a user went, and to erase them: CPU seconds, on a lake, raw segments and a
snapshot of so many interactions each.

    python -m benchmarks.erasure [--rows 200000] [--keep DIR]

Captured lines and the made-up traffic of benchmarks.datasets, joined for one user with 40 interactions in 20 conversations.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import orjson
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.datasets import frozen
from benchmarks.snapshots import timed, version, workspace
from tasks import shards
from tasks.frozen import Exchange, Given
from tasks.live import kept
from tasks.live.capture import capture
from tasks.live.erasure.erase import erase
from tasks.live.erasure.subject import Wish
from tasks.live.lake import Lake
from tasks.live.lineage import where_used, why
from tasks.live.workspace import Workspace, new_key, quiet_environment

USER, OF_USER = "the-one-who-leaves", 40


def captured(place: Workspace, rows: int) -> list[str]:
    """Log and capture; returns the user's interactions."""
    place.inbox.mkdir(parents=True)
    place.answers.mkdir()
    new_key(place.state / "pseudonym.key")
    every = rows // OF_USER
    with (place.inbox / "traffic.jsonl").open("wb") as f:
        for k in range(rows):
            mine = k % every == 7
            session = f"session-of-one-{k // every // 2:04d}" if mine else f"session-{k // 3:08d}"
            text = f"question {k} " + " ".join(f"word{(k * n) % 9973}" for n in range(1, 30))
            line = {
                "flywheel": "interaction/1", "id": f"response-{k:09d}", "session_id": session, "time": "2026-01-05T12:00:00Z",
                "user_id": USER if mine else f"user-{k % 5000}", "messages": [{"role": "user", "content": text}],
                "response": f"answer {k} " + text[::-1],
            }  # fmt: skip
            f.write(orjson.dumps(line) + b"\n")
    capture(place)
    sql = "SELECT interaction_id FROM interactions WHERE session_id LIKE 'session-of-one-%' ORDER BY ALL"
    return Lake(place.lake).query(sql)["interaction_id"].to_pylist()


def joined(folder: Path, rows: int, interactions: list[str]) -> None:
    """The made-up traffic, of which some interactions are the user's."""
    frozen(folder, rows)
    every = rows // OF_USER
    theirs = {f"ix_{k * every + 11:024x}": id for k, id in enumerate(interactions)}
    for table, row in (("exchanges", Exchange), ("annotations", Given)):
        found = shards.read(folder / table, row)
        shards.write_rows(
            folder / table, row, (replace(r, interaction_id=theirs.get(r.interaction_id, r.interaction_id)) for r in found)
        )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.erasure", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--keep", type=Path, help="work in this folder, and keep it")
    options = parser.parse_args(argv)
    quiet_environment()
    root = options.keep or Path(tempfile.mkdtemp(prefix="flywheel-erasure-"))
    try:
        place = workspace(root)
        (place.data / "reports").mkdir(parents=True)
        (place.data / "reports" / "verdict.json").write_text('{"decision": "promote", "reasons": ["it is better"]}')
        interactions = captured(place, options.rows)
        version(place, "first", lambda folder: joined(folder, options.rows, interactions))
        with kept.opened(place) as objects:
            md5s = set(objects.files(kept.snapshots(place)[-1].commit).values())
            size = sum(path.stat().st_size for md5 in md5s if (path := objects.path(md5)))
        some = next(iter(sorted((place.data / "dataset/parquet/train/sft").glob("*.parquet"))))
        row = pc.min(pq.read_table(some, columns=["example_id"])["example_id"]).as_py()
        spent: dict[str, float] = {}
        with timed(spent, "why ROW"):
            why(place, row)
        with timed(spent, "why --where-used USER"):
            used = where_used(place, USER)
        with timed(spent, "erase --dry-run"):
            erase(place, Wish(user=USER), dry_run=True)
        with timed(spent, "erase"):
            done = erase(place, Wish(user=USER))
        rows = sum(len(r) for s in used.snapshots for r in s.rows.values())
        print(f"{options.rows:,} interactions; a snapshot of {len(md5s):,} files, {size / 1e6:,.0f} MB; {os.cpu_count()} cores,")
        print(f"{platform.processor() or platform.machine()}; {len(used.interactions)} interactions and {rows} rows of the user")
        print("| | CPU s |\n|---|---|")
        for what, seconds in spent.items():
            print(f"| {what} | {seconds:.1f} |")
        lost = sum(map(len, done.files.values()))
        looked = sum(p.bytes for p in done.proof.values())
        print(f"{lost} of {len(md5s)} files lost, {done.hits} hits in {looked / 1e6:,.0f} MB looked into (packed), {done.done}")
    finally:
        if not options.keep:
            shutil.rmtree(root, ignore_errors=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
