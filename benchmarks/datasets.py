"""What a data set of a million examples costs: curate, build and validate, in CPU seconds and peak memory, stage by stage.

    python -m benchmarks.datasets [--rows 1000000] [--keep DIR]

The traffic is made up (words drawn by Zipf's law, an eighth of the questions asked again in other words, three people an answer),
written as data/frozen in the loop's own shards; the stages are the ones that DVC runs, as processes of their own.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa

from tasks import shards
from tasks.frozen import Exchange, Given, Thumb
from tasks.records import Approved, arrow_schema, write_jsonl
from tasks.split import SplitParams, side_of

ROOT = Path(__file__).resolve().parents[1]
CHUNK = 20_000
WORDS, PEOPLE, ANSWERS = 60_000, 40, 100
START = 1_767_600_000_000_000
SPLIT = SplitParams("flywheel", 0.01, 0.65)


def frozen(folder: Path, rows: int, seed: int = 1) -> None:
    """Write data/frozen with so many answered interactions, about 1% of them on the holdout side."""
    draw = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = np.array(["".join(draw.choice(letters, size=n)) for n in draw.integers(3, 10, size=WORDS)], object)
    weights = 1 / np.arange(10, WORDS + 10)
    weights /= weights.sum()
    approved = [
        Approved(f"answer-{k:03d}", "escalate" if k == 0 else "refuse" if k == 1 else "answer", f"topic-{k % 9}", f"Answer {k}",
                 " ".join(draw.choice(words, size=40, p=weights)).capitalize() + ".", "")
        for k in range(ANSWERS)
    ]  # fmt: skip
    write_jsonl(folder / "catalogue.jsonl", approved)
    for name in ("questions", "answers", "anchors", "regression"):
        write_jsonl(folder / f"{name}.jsonl", [])
    (folder / "baseline.json").write_bytes(b"{}\n")
    shutil.copytree(ROOT / "data" / "guidelines", folder / "guidelines")
    exchanges = shards.Writer(folder / "exchanges", Exchange)
    annotations = shards.Writer(folder / "annotations", Given)
    for start in range(0, rows, CHUNK):
        made, answers = _chunk(draw, words, weights, approved, start, min(CHUNK, rows - start))
        exchanges.add(made)
        annotations.add(answers)
    exchanges.close()
    annotations.close()
    shards.write_rows(folder / "thumbs", Thumb, [])


def _chunk(draw, words, weights, approved, start: int, n: int) -> tuple[pa.Table, pa.Table]:
    drawn = draw.choice(words, size=(n, 14), p=weights)
    asked = [" ".join(row[:k]) for row, k in zip(drawn, draw.integers(7, 15, size=n), strict=True)]
    for k in np.flatnonzero(draw.random(n) < 0.125)[1:]:
        asked[k] = "please " + asked[k - 1] + " ?"
    served, wanted = draw.integers(ANSWERS, size=(2, n))
    wanted = np.where(draw.random(n) < 0.6, served, wanted)
    numbers = range(start, start + n)
    ids = [f"ix_{k:024x}" for k in numbers]
    groups = [f"gr_{k - (asked[k - start].startswith('please ')):024x}" for k in numbers]
    arrived = [START + (k // 300) * 3_600_000_000 for k in numbers]
    contexts = orjson.dumps([{"id": "kb", "text": approved[2].text}]).decode()
    exchanges = pa.table(
        {
            "interaction_id": ids, "arrived": arrived, "group_id": groups,
            "side": [side_of(g, SPLIT) for g in groups], "batch_id": [f"bt_{k // 300}" for k in numbers],
            "part": ["audit_holdout" if side_of(g, SPLIT) == "holdout" else "mined" for g in groups],
            "propensity": np.full(n, 0.5), "session_id": [f"s-{k}" for k in numbers],
            "user": [f"us_{k % 50_000}" for k in numbers], "tenant": [""] * n, "ts": arrived, "language": ["en"] * n,
            "model_version": ["1"] * n, "prompt_name": [""] * n,
            "messages": [orjson.dumps([{"content": q, "role": "user"}]).decode() for q in asked], "question": asked,
            "response": [approved[k].text for k in served], "outputs": ["[]"] * n, "contexts": [contexts] * n, "tools": ["[]"] * n,
        },
        schema=arrow_schema(Exchange),
    )  # fmt: skip
    said = np.where(draw.random((3, n)) < 0.92, wanted, draw.integers(ANSWERS, size=(3, n)))
    people = (np.arange(n)[None, :] + np.array([0, 7, 19])[:, None] + start) % PEOPLE
    columns: dict[str, list] = {name: [] for name in arrow_schema(Given).names}
    constant = {"batch_id": "bt", "kind": "answer", "role": "annotator", "status": "submitted", "note": "",
                "guideline": "answer/1", "received": 0, "seconds": None, "shown": "[]", "source": "answers.jsonl", "native_id": ""}
    for k in range(n):
        for who in range(3):
            right = said[who, k] == served[k]
            columns["annotation_id"].append(f"an_{start + k:023x}{who}")
            columns["candidate_id"].append(f"cd_{start + k:x}")
            columns["interaction_id"].append(ids[k])
            columns["annotator"].append(f"person-{people[who, k]:02d}")
            columns["value"].append(
                '{"verdict":"right"}' if right else f'{{"correction":"answer-{said[who, k]:03d}","verdict":"wrong"}}'
            )
            columns["ts"].append(arrived[k] + who)
            columns["arrived"].append(arrived[k])
    size = len(columns["annotation_id"])
    for name, value in constant.items():
        columns[name] = [value] * size
    return exchanges, pa.table(columns, schema=arrow_schema(Given))


STAGES = {
    "curate": ("--frozen", "frozen", "--out", "curated", "--report", "reports/curate.json"),
    "build": ("--frozen", "frozen", "--curated", "curated", "--curation", "reports/curate.json", "--out", "dataset",
              "--report", "reports/build.json"),
    "validate": ("--frozen", "frozen", "--curated", "curated", "--dataset", "dataset", "--report", "reports/validation.json",
                 "--page", "reports/validation.md", "--profile", "reports/profile.json",
                 "--quarantine", "reports/quarantine.jsonl"),
}  # fmt: skip


def stage(place: Path, name: str, arguments: tuple[str, ...]) -> tuple[float, float, int]:
    """Run one stage in a process of its own: CPU seconds, wall seconds, peak memory (MB)."""
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", f"tasks.stages.{name}", *arguments], cwd=place, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"stage {name} ended with {os.waitstatus_to_exitcode(status)}")
    return used.ru_utime + used.ru_stime, time.monotonic() - started, used.ru_maxrss // 1024


def _size(folder: Path) -> Iterator[int]:
    return (p.stat().st_size for p in folder.rglob("*") if p.is_file())


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.datasets", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--keep", type=Path, help="make the data in this folder, or use what is there, and keep it")
    options = parser.parse_args(argv)
    place = options.keep or Path(tempfile.mkdtemp(prefix="flywheel-datasets-"))
    try:
        if not (place / "frozen").is_dir():
            place.mkdir(parents=True, exist_ok=True)
            frozen(place / "frozen", options.rows)
        shutil.copy(ROOT / "params.yaml", place / "params.yaml")
        print(f"{options.rows:,} answered interactions, {platform.processor() or platform.machine()}, {os.cpu_count()} cores")
        print(f"{'stage':<10} {'CPU s':>8} {'wall s':>8} {'peak MB':>8}")
        total = 0.0
        for name, arguments in STAGES.items():
            cpu, wall, peak = stage(place, name, arguments)
            total += cpu
            print(f"{name:<10} {cpu:>8.1f} {wall:>8.1f} {peak:>8,}", flush=True)
        print(f"{'together':<10} {total:>8.1f}")
        for folder in ("frozen", "curated", "dataset"):
            print(f"{folder}: {sum(_size(place / folder)) / 1e6:,.0f} MB in {len(list(_size(place / folder))):,} files")
    finally:
        if not options.keep:
            shutil.rmtree(place, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
