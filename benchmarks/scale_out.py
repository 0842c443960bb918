"""The heavy steps on two workers of one core each, in two network namespaces, against one such worker and against the plain loop.

    python -m benchmarks.scale_out [--interactions 250000] [--texts 250000] [--answered 50000] [--json]    (root, for ip netns)

The job: detectors over a lake of made traffic, near-duplicates among made texts, then curation of what people answered. Each way
gives the same rows, keepers and files, or the program fails; also where a worker is killed in the middle. Wall seconds depend on
what else the machine does (its load is printed); CPU seconds tell what each process had to do, and so how fast it would be on cores
of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.datasets import frozen
from benchmarks.made_lake import write_lake
from benchmarks.near_duplicates import THRESHOLD, read, write
from benchmarks.planted_texts import Corpus

ROOT = Path(__file__).resolve().parents[1]
PORT, NET = 8786, "10.213.7"
FILES, PART_MB = 8, 24
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")}


# --- the job, in a process of its own -------------------------------------------------------------------------------------------


def job(place: Path) -> dict:
    """The three steps on the engine of the environment; what they found as digests, and what they took."""
    from tasks.collapse import collapse
    from tasks.engine import opened
    from tasks.live.detection import detected
    from tasks.live.lake import Lake
    from tasks.live.workspace import Workspace
    from tasks.policy import folder_digest
    from tasks.stages.curate import curate

    workspace = Workspace(place / "work")
    shutil.rmtree(workspace.lake / "signals", ignore_errors=True)
    begun, cpu = time.perf_counter(), time.process_time()
    with opened(workspace.state) as engine:
        detected(workspace, Lake(workspace.lake).pin("interactions", "feedback"), engine)
        detecting = time.perf_counter() - begun
        keeper = collapse([partial(read, p) for p in sorted((place / "texts").glob("*.parquet"))], THRESHOLD, engine)
    collapsing = time.perf_counter() - begun - detecting
    os.environ["FLYWHEEL_SCRATCH"] = str(workspace.state)
    curate(place / "frozen", place / "curated", place / "curated.json")
    took, cpu = time.perf_counter() - begun, time.process_time() - cpu
    ids = Lake(workspace.lake).query("SELECT * FROM signals ORDER BY signal_id")
    return {
        "wall_s": took, "detectors_s": detecting, "near_duplicates_s": collapsing, "curation_s": took - detecting - collapsing,
        "client_cpu_s": cpu, "curated_digest": folder_digest(place / "curated"),
        "signals": ids.num_rows, "signals_digest": _digest(str(ids.to_pylist()).encode()),
        "dropped": int((keeper != np.arange(len(keeper))).sum()), "keepers_digest": _digest(keeper.tobytes()),
    }  # fmt: skip


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


# --- hosts: a namespace with the scheduler and the client, and one a worker ------------------------------------------------------


@contextlib.contextmanager
def hosts(count: int) -> Iterator[list[str]]:
    """Namespaces, the first for scheduler and client, joined by a bridge in it. Only these are touched."""
    mark = f"fw{os.getpid() % 10_000}"
    names = [f"{mark}-{k}" for k in range(count + 1)]
    try:
        for name in names:
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", names[0], "link", "add", "bridge", "type", "bridge")
        _ip("-n", names[0], "addr", "add", f"{NET}.1/24", "dev", "bridge")
        _ip("-n", names[0], "link", "set", "bridge", "up")
        for k, name in enumerate(names[1:], 2):
            _ip("-n", names[0], "link", "add", f"v{k}", "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("-n", names[0], "link", "set", f"v{k}", "master", "bridge", "up")
            _ip("-n", name, "addr", "add", f"{NET}.{k}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        why = f"ip {' '.join(arguments)}: {done.stderr.strip()}"
        sys.exit(f"{why}\n  fix: run as root on Linux, where network namespaces are allowed")


@contextlib.contextmanager
def cluster(names: list[str], workers: int, log: Path) -> Iterator[list[subprocess.Popen]]:
    """A scheduler, and one worker a namespace, each with one thread on one core of its own."""
    address = f"tcp://{NET}.1:{PORT}"
    started = [_start(names[0], None, log / "scheduler.log", "-m", "distributed.cli.dask_scheduler", "--host", f"{NET}.1",
                      "--port", str(PORT), "--no-dashboard", "--no-show")]  # fmt: skip
    try:
        for k in range(workers):
            started.append(_start(
                names[k + 1], k, log / f"worker-{k}.log", "-m", "distributed.cli.dask_worker", address, "--host", f"{NET}.{k + 2}",
                "--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0", "--local-directory", str(log),
            ))  # fmt: skip
        yield started[1:]
    finally:
        for process in started:
            process.send_signal(signal.SIGKILL)
            process.wait()


def _start(name: str, core: int | None, log: Path, *arguments: str) -> subprocess.Popen:
    pinned = ["taskset", "-c", str(core)] if core is not None else []
    command = ["ip", "netns", "exec", name, *pinned, sys.executable, *arguments]
    with log.open("ab") as out:
        # A session of its own: Linux shares processors out by sessions, and each worker is to have the share of a host.
        return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **ONE_THREAD}, stdout=out, stderr=out, start_new_session=True)


# --- measuring -------------------------------------------------------------------------------------------------------------------


def measured(place: Path, names: list[str], workers: int, kill_after_s: float | None = None) -> dict:
    """The job in the first namespace, on so many workers (none: the plain loop on one core)."""
    log = place / f"log-{workers}-{'killed' if kill_after_s else 'whole'}"
    log.mkdir()
    load = os.getloadavg()[0]
    if not workers:
        return _job(place, names[0], {}, core=0) | {"workers": 0, "worker_cpu_s": [], "load": load}
    with cluster(names, workers, log) as running:
        environment = {"FLYWHEEL_ENGINE": f"dask://{NET}.1:{PORT}"}
        _wait_for(names[0], workers)
        before = [_cpu(p.pid) for p in running]
        if kill_after_s:
            timer = threading.Timer(kill_after_s, running[0].send_signal, [signal.SIGKILL])
            timer.start()
        found = _job(place, names[0], environment)
        if kill_after_s:
            timer.cancel()
            assert running[0].poll() is not None, "the worker was to be killed before the end"
            return found | {"workers": workers, "worker_cpu_s": [], "load": load, "killed_after_s": kill_after_s}
        spent = [_cpu(p.pid) - b for p, b in zip(running, before, strict=True)]
        return found | {"workers": workers, "worker_cpu_s": spent, "load": load}


def _job(place: Path, name: str, environment: dict[str, str], core: int | None = None) -> dict:
    pinned = ["taskset", "-c", str(core)] if core is not None else []
    command = ["ip", "netns", "exec", name, *pinned, sys.executable, "-m", "benchmarks.scale_out", "--job", str(place)]
    settings = {k: v for k, v in os.environ.items() if not k.startswith("FLYWHEEL_")}
    settings |= ONE_THREAD | {"FLYWHEEL_PART_MB": str(PART_MB)} | environment
    done = subprocess.run(
        command, cwd=ROOT, env=settings, capture_output=True, text=True, check=False, start_new_session=True
    )
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def _wait_for(name: str, workers: int) -> None:
    """Until they are there, with what they import once and for all: a cluster stands."""
    code = f"""
from distributed import Client
client = Client('tcp://{NET}.1:{PORT}', timeout=120)
client.wait_for_workers({workers}, timeout=120)
for module in ('pandas', 'sklearn.feature_extraction.text', 'tasks.detecting', 'tasks.collapse', 'tasks.curating'):
    client.run(__import__, module)
"""
    subprocess.run(["ip", "netns", "exec", name, sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)


def _cpu(pid: int) -> float:
    """CPU seconds of a process: `ip netns exec` and taskset become what they start."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def make(place: Path, interactions: int, texts: int, answered: int) -> None:
    """The lake, the texts and the answers, as files that every host sees."""
    (place / "work" / ".flywheel").mkdir(parents=True)
    shutil.copy(ROOT / "params.yaml", place / "work" / "params.yaml")
    write_lake(place / "work" / "data" / "lake", interactions, FILES)
    (place / "texts").mkdir()
    write(place / "texts", Corpus(texts, 1))
    frozen(place / "frozen", answered)


def compare(interactions: int, texts: int, answered: int) -> dict:
    with tempfile.TemporaryDirectory() as folder, hosts(2) as names:
        place = Path(folder)
        make(place, interactions, texts, answered)
        rows: dict[str, dict] = {}
        for name, workers in (("the plain loop", 0), ("one worker", 1), ("two workers", 2)):
            rows[name] = measured(place, names, workers)
            print(f"{name}: {rows[name]['wall_s']:.1f} s", file=sys.stderr, flush=True)
        # Some seconds pass before the job begins; half of its time later a worker is in the middle of it.
        rows["two workers, one killed"] = measured(place, names, 2, kill_after_s=3 + rows["two workers"]["wall_s"] / 2)
    results = {(r["signals_digest"], r["keepers_digest"], r["curated_digest"]) for r in rows.values()}
    one, two = rows["one worker"], rows["two workers"]
    return {
        "interactions": interactions, "texts": texts, "answered": answered, "identical": len(results) == 1, "rows": rows,
        "times_as_fast": one["wall_s"] / two["wall_s"],
        # Had each process a core of its own: client and workers take turns but for detection, whose results are read as they come.
        "times_as_fast_by_cpu": (one["client_cpu_s"] + one["worker_cpu_s"][0]) / (two["client_cpu_s"] + max(two["worker_cpu_s"])),
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interactions", type=int, default=250_000)
    parser.add_argument("--texts", type=int, default=250_000)
    parser.add_argument("--answered", type=int, default=50_000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        print(json.dumps(job(options.job)))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that namespaces and files go
    found = compare(options.interactions, options.texts, options.answered)
    print(json.dumps(found, indent=2) if options.json else table(found))
    return 0 if found["identical"] else 1


def table(found: dict) -> str:
    lines = [
        f"{found['interactions']:,} interactions, {found['texts']:,} texts, {found['answered']:,} answered; {os.cpu_count()} cores",
        "",
        "| | wall s | detectors | near-duplicates | curation | CPU s: client | workers | load before |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, r in found["rows"].items():
        spent = " + ".join(f"{s:.1f}" for s in r["worker_cpu_s"]) or "–"
        lines.append(
            f"| {name} | {r['wall_s']:.1f} | {r['detectors_s']:.1f} | {r['near_duplicates_s']:.1f} | {r['curation_s']:.1f}"
            f" | {r['client_cpu_s']:.1f} | {spent} | {r['load']:.1f} |"
        )
    same = "the same signals, keepers and labels in all" if found["identical"] else "NOT THE SAME RESULTS"
    faster = f"{found['times_as_fast']:.2f} times as fast as one (by CPU seconds {found['times_as_fast_by_cpu']:.2f})"
    lines += ["", f"two workers are {faster}; {same}"]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
