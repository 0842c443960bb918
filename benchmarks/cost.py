"""What steps cost: their seconds as Prefect recorded them, and the memory of this process with its children meanwhile."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path

EVERY_S = 0.05
KIB = 1024


@dataclass(frozen=True, slots=True)
class Step:
    """`peak_mib`: the most that this process and its children held together; None where the system does not tell."""

    name: str
    seconds: float
    peak_mib: float | None


class Memory:
    """Samples the resident memory of this process and all below it (shared pages count for each). Linux only (/proc)."""

    def __init__(self):
        self.samples: list[tuple[float, int]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Memory:
        if Path("/proc/self/task").is_dir():
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def peak_mib(self, start: float, end: float) -> float | None:
        """The largest sample between two times (time.time()), with one sample of slack on both sides."""
        inside = [kib for at, kib in self.samples if start - EVERY_S <= at <= end + EVERY_S]
        return round(max(inside) / KIB, 1) if inside else None

    def _watch(self) -> None:
        while not self._stop.wait(EVERY_S):
            self.samples.append((time.time(), _tree_kib("self")))


def _tree_kib(process: str) -> int:
    """Resident KiB of a process and its descendants; one that ends meanwhile counts nothing."""
    folder = Path("/proc") / process
    try:
        status = (folder / "status").read_text()
        children = [c for task in (folder / "task").iterdir() for c in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return 0
    resident = next((int(x.split()[1]) for x in status.splitlines() if x.startswith("VmRSS")), 0)
    return resident + sum(_tree_kib(c) for c in children)


def steps(memory: Memory, since: float) -> list[Step]:
    """Every task run that started after `since`, in order, from Prefect's own record."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.sorting import TaskRunSort

    with get_client(sync_client=True) as client:
        runs = client.read_task_runs(sort=TaskRunSort.EXPECTED_START_TIME_ASC, limit=200)
    found = []
    for run in runs:
        # A flow inside a flow also counts as a task of the outer one; its own tasks are here already.
        inner = run.state is not None and run.state.state_details.child_flow_run_id is not None
        if inner or run.start_time is None or run.end_time is None or run.start_time.timestamp() < since:
            continue
        start, end = run.start_time.timestamp(), run.end_time.timestamp()
        name = run.name if run.name in STAGES else run.name.rsplit("-", 1)[0]
        found.append((start, Step(name, round(end - start, 2), memory.peak_mib(start, end))))
    return [step for _, step in sorted(found, key=lambda f: f[0])]


STAGES = ("curate", "build", "validate", "train", "evaluate", "judge")
