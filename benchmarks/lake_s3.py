"""What a lake in a bucket costs beside one in a folder: the same appends and queries, in the same run, in seconds of wall time.

    python -m benchmarks.lake_s3 [--rows 100000] [--commits 40]

The store is moto's server on loopback, in Python: it answers slower than a real store in the same room, and its network is faster.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tasks.live.lake import TABLES, Lake, Pending
from tasks.records import to_arrow
from tests.handmade import interaction
from tests.imports import ROOT
from tests.stores import KEYS, s3

GROUP = 5_000
TEXT = "refund order bicycle lamp delivery invoice brake saddle warranty exchange colour size pump tube helmet lock"
WORDS = TEXT.split()
QUERIES = {
    "count": "SELECT count(*) AS n FROM interactions",
    "aggregate of three columns": "SELECT model_version, count(*), min(ts) FROM interactions GROUP BY ALL",
    "500 ids, semi-join": "SELECT interaction_id FROM interactions SEMI JOIN wanted USING (interaction_id)",
    "a day, all columns": "SELECT * FROM interactions WHERE ts < 1000 ORDER BY ts",
    "all texts, streamed": "SELECT interaction_id, question, response FROM interactions",
    "all texts, sorted": "SELECT interaction_id, question, response FROM interactions ORDER BY interaction_id",
}


def rows(n: int, first: int) -> list:
    made = []
    for k in range(first, first + n):
        text = " ".join(WORDS[(k * 7 + j * (j + k % 13)) % len(WORDS)] for j in range(160))
        made.append(
            interaction(
                f"r-{k}", question=text[:200], response=text[200:], ts=(k * 7919) % 100_000, model_version=str(k % 4)
            )
        )
    return made


def measured(root: str, n: int, commits: int) -> dict[str, float]:
    """Seconds of each step on the lake at `root`."""
    lake, spent = Lake(root), {}

    def timed(name: str, work) -> None:
        began = time.monotonic()
        work()
        spent[name] = round(time.monotonic() - began, 3)

    def in_one_commit() -> None:
        pending = Pending(root, "interactions")
        for first in range(0, n, GROUP):
            pending.write(tables[first])
        pending.commit()

    tables = {
        first: to_arrow(TABLES["interactions"], rows(min(GROUP, n - first), first)) for first in range(0, n, GROUP)
    }
    timed(f"one commit of {n:,} rows", in_one_commit)
    few = [to_arrow(TABLES["interactions"], rows(50, n + k * 50)) for k in range(commits)]
    timed(f"{commits} commits of 50 rows", lambda: [lake.add("interactions", table) for table in few])
    wanted = to_arrow(TABLES["interactions"], rows(500, 0)).select(["interaction_id"])
    for again in ("", "after compaction: "):
        for name, sql in QUERIES.items():
            if "streamed" in name:
                timed(again + name, lambda sql=sql: sum(t.num_rows for t in lake.stream(sql, 32_768)))
            else:
                timed(again + name, lambda sql=sql: lake.query(sql, wanted=wanted))
        if not again:
            timed("compaction", lambda: lake.compact("interactions"))
    spent["peak MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return spent


def compared(n: int, commits: int) -> dict[str, dict[str, float]]:
    """Each in a process of its own, so that neither warms the other up."""
    found = {}
    with tempfile.TemporaryDirectory() as folder, s3(Path(folder) / "log", "lake") as url:
        for name, root in (("folder", f"{folder}/lake"), ("bucket", "s3://lake/lake")):
            command = [
                sys.executable,
                "-m",
                "benchmarks.lake_s3",
                "--rows",
                str(n),
                "--commits",
                str(commits),
                "--only",
                root,
            ]
            environment = {**os.environ, **KEYS, "AWS_ENDPOINT_URL": url}
            done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            found[name] = json.loads(done.stdout)
    return found


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rows", type=int, default=100_000)
    asked.add_argument("--commits", type=int, default=40)
    asked.add_argument("--only", default="", help="one lake, as JSON")
    given = asked.parse_args()
    if given.only:
        print(json.dumps(measured(given.only, given.rows, given.commits)))
        return
    found = compared(given.rows, given.commits)
    print("| | folder | bucket | ratio |\n|---|---|---|---|")
    for name, here in found["folder"].items():
        there = found["bucket"][name]
        print(f"| {name} | {here} | {there} | {there / here:.1f} |")


if __name__ == "__main__":
    main()
