"""Capture against the naive ways to get the same log into Parquet, on the same file in the same run.

    python -m benchmarks.capture [--interactions 1000000] [--personal 0.01] [--receiver]

The log is made anew (benchmarks/log_lines.py): sessions, documents, feedback, unicode, long tails, planted bad lines and
duplicates. Each contender is a process of its own; CPU is user and system time of all its threads, memory its peak.
The peers keep fewer promises: no types, no deduplication, no rejects, no redaction, no raw copy, no fsync.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.log_lines import Planted, write_log

CONTENDERS = ("duckdb", "pandas", "flywheel", "flywheel, redacting")


def duckdb_peer(log: Path, folder: Path) -> None:
    """Types inferred from a sample, lines it cannot read dropped in silence."""
    import duckdb

    to = folder / "duckdb.parquet"
    duckdb.sql(
        f"""COPY (SELECT * FROM read_json('{log}', format='newline_delimited', ignore_errors=true, union_by_name=true,
                                          maximum_object_size=67108864))
            TO '{to}' (FORMAT parquet, COMPRESSION zstd)"""
    )


def pandas_peer(log: Path, folder: Path) -> None:
    """In chunks, because the whole does not fit; on a copy without the bad lines, because it stops at the first."""
    import pandas as pd

    for n, chunk in enumerate(pd.read_json(log, lines=True, chunksize=50_000, dtype=False, convert_dates=False)):
        for name in chunk.columns:  # Arrow takes no column of mixed types
            if chunk[name].map(type).nunique() > 1:
                chunk[name] = chunk[name].map(lambda v: json.dumps(v, default=str))
        chunk.to_parquet(folder / f"pandas-{n}.parquet", compression="zstd")


def flywheel(log: Path, folder: Path, redact: bool) -> dict:
    import yaml

    from tasks.live.capture import capture
    from tests.handmade import workspace

    place = workspace(folder / "work")
    params = yaml.safe_load((place.root / "params.yaml").read_text())
    params["capture"]["redact"] = redact
    (place.root / "params.yaml").write_text(yaml.safe_dump(params))
    return capture(place, [log]).as_dict()


def contend(name: str, log: Path, folder: Path) -> None:
    """In a process of its own: what it cost, as JSON."""
    began = time.perf_counter()
    account = {}
    if name == "duckdb":
        duckdb_peer(log, folder)
    elif name == "pandas":
        pandas_peer(log, folder)
    else:
        account = flywheel(log, folder, redact=name.endswith("redacting"))
    used = resource.getrusage(resource.RUSAGE_SELF)
    wrote = sum(p.stat().st_size for p in folder.rglob("*.parquet"))
    print(json.dumps({
        "wall_s": time.perf_counter() - began, "cpu_s": used.ru_utime + used.ru_stime, "peak_mb": used.ru_maxrss / 1024,
        "parquet_mb": wrote / 1e6, "account": account,
    }))  # fmt: skip


def measured(name: str, log: Path, scratch: Path) -> dict:
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        command = [sys.executable, "-m", "benchmarks.capture", "--contend", name, "--log", str(log), "--folder", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{name}: {done.stderr[-2000:]}")
        return json.loads(done.stdout.splitlines()[-1])


def without_bad_lines(log: Path, to: Path) -> Path:
    import orjson

    with log.open("rb") as lines, to.open("wb") as out:
        for line in lines:
            try:
                orjson.loads(line)
            except orjson.JSONDecodeError:
                continue
            out.write(line)
    return to


def check(account: dict, planted: Planted) -> None:
    """The account is right to the record."""
    assert account["seen"] == planted.lines, (account, planted)
    assert account["stored"] == planted.interactions + planted.feedback, (account, planted)
    assert account["duplicate"] == planted.duplicates and account["rejected"] == planted.bad, (account, planted)
    assert account["reasons"] == planted.reasons, (account, planted)


def receiver(scratch: Path, posts: int = 2000, exporters: int = 8) -> dict:
    """Acknowledgements a second of a real `flywheel listen`, each after its fsync, and how long the slowest hundredth takes."""
    import http.client

    from tests.handmade import chat_span, traces, workspace

    place = workspace(scratch / "receiver")
    port = 24318
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "listen", "--port", str(port), "--workspace", str(place.root)],
        stdout=subprocess.DEVNULL,
    )
    took: list[float] = []

    def export(k: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for n in range(posts // exporters):
            spans = [chat_span(f"{k:04x}{n:08x}{m:04x}") for m in range(10)]
            body = json.dumps(traces(*spans)).encode()
            began = time.perf_counter()
            connection.request("POST", "/v1/traces", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200
            took.append(time.perf_counter() - began)

    try:
        for _ in range(100):
            try:
                http.client.HTTPConnection("127.0.0.1", port).request("GET", "/health")
                break
            except OSError:
                time.sleep(0.2)
        began = time.perf_counter()
        threads = [threading.Thread(target=export, args=(k,)) for k in range(exporters)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        whole = time.perf_counter() - began
    finally:
        process.terminate()
        process.wait(30)
    took.sort()
    return {"requests_s": len(took) / whole, "spans_s": 10 * len(took) / whole, "p50_ms": took[len(took) // 2] * 1e3,
            "p99_ms": took[len(took) * 99 // 100] * 1e3}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interactions", type=int, default=1_000_000)
    parser.add_argument("--personal", type=float, default=0.01, help="share of texts that hold personal data")
    parser.add_argument("--scratch", type=Path, default=None, help="a folder with room for four times the log")
    parser.add_argument("--only", nargs="*", default=CONTENDERS, choices=CONTENDERS)
    parser.add_argument("--rounds", type=int, default=1, help="the best of so many is reported: other work only adds time")
    parser.add_argument("--receiver", action="store_true")
    for internal in ("--contend", "--log", "--folder"):
        parser.add_argument(internal, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contend:
        contend(options.contend, Path(options.log), Path(options.folder))
        return
    scratch = Path(tempfile.mkdtemp(dir=options.scratch, prefix="capture-"))
    try:
        log = scratch / "log.jsonl"
        planted = write_log(log, options.interactions, personal=options.personal)
        share = planted.with_personal_data / planted.interactions
        print(f"{planted.interactions:,} interactions and {planted.feedback:,} feedback events, {planted.bytes / 1e6:,.0f} MB; "
              f"{share:.1%} of the interactions hold personal data, {planted.bad:,} bad lines, "
              f"{planted.duplicates:,} duplicates")  # fmt: skip
        print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}\n")
        clean = without_bad_lines(log, scratch / "clean.jsonl") if "pandas" in options.only else log
        rows: dict[str, dict] = {}
        for name in options.only:
            rounds = [measured(name, clean if name == "pandas" else log, scratch) for _ in range(options.rounds)]
            rows[name] = min(rounds, key=lambda r: r["cpu_s"])
            if rows[name]["account"]:
                check(rows[name]["account"], planted)
        base = rows.get("duckdb", {}).get("cpu_s")
        print("| | CPU s | to DuckDB | wall s | MB a CPU second | records a CPU second | peak MB | Parquet MB |")
        print("|---|---|---|---|---|---|---|---|")
        for name, r in rows.items():
            ratio = f"{r['cpu_s'] / base:.2f}×" if base else ""
            print(f"| {name} | {r['cpu_s']:.1f} | {ratio} | {r['wall_s']:.1f} | {planted.bytes / 1e6 / r['cpu_s']:.0f} "
                  f"| {planted.lines / r['cpu_s']:,.0f} | {r['peak_mb']:,.0f} | {r['parquet_mb']:,.0f} |")  # fmt: skip
        if options.receiver:
            r = receiver(scratch)
            print(f"\nReceiver: {r['requests_s']:.0f} requests ({r['spans_s']:,.0f} spans) a second acknowledged after fsync, "
                  f"half within {r['p50_ms']:.0f} ms, 99% within {r['p99_ms']:.0f} ms")  # fmt: skip
    finally:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
