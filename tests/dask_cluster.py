"""A real Dask cluster on loopback, in processes of their own, whose workers may be killed; and work that kills them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.engine import Engine, Part
from tests.imports import ROOT


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@dataclass
class Cluster:
    folder: Path
    port: int = field(default_factory=free_port)
    processes: list[subprocess.Popen] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    @property
    def engine(self) -> str:
        return f"dask://127.0.0.1:{self.port}"

    def worker(self, code: Path = ROOT, nanny: bool = False) -> subprocess.Popen:
        """One more worker, with the code in that folder; with a nanny, it comes back when it dies."""
        return self._start(
            "dask_worker", self.address, "--host", "127.0.0.1", "--nthreads", "1", "--nanny" if nanny else "--no-nanny",
            "--no-dashboard", "--memory-limit", "0", "--local-directory", str(self.folder), code=code,
        )  # fmt: skip

    def scheduler(self) -> None:
        self._start("dask_scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard", "--no-show")

    def wait_for(self, workers: int) -> None:
        from distributed import Client

        with Client(self.address, timeout=120, set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=120)

    def stop(self) -> None:
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _start(self, module: str, *arguments: str, code: Path = ROOT) -> subprocess.Popen:
        environment = os.environ | {"PYTHONPATH": f"{code}{os.pathsep}{ROOT}", "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"}
        environment.pop("FLYWHEEL_ENGINE", None)
        with (self.folder / f"{module}-{len(self.processes)}.log").open("wb") as log:
            started = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{module}", *arguments], cwd=code, env=environment, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self.processes.append(started)
        return started


@contextlib.contextmanager
def running(folder: Path, workers: int, nanny: bool = False) -> Iterator[Cluster]:
    folder.mkdir(parents=True, exist_ok=True)
    cluster = Cluster(folder)
    try:
        cluster.scheduler()
        for _ in range(workers):
            cluster.worker(nanny=nanny)
        cluster.wait_for(workers)
        yield cluster
    finally:
        cluster.stop()


@dataclass(frozen=True, slots=True)
class Squaring:
    """A small part: its number squared. Names a file whose absence makes the worker die, once or (`always`) each time."""

    number: int
    dies: Path | None = None
    always: bool = False

    @property
    def name(self) -> str:
        return f"number {self.number}"


def square(part: Squaring) -> int:
    dying(part.dies, part.always)
    return part.number**2


def dying(mark: Path | None, always: bool = False) -> None:
    """End this process as the kernel ends one that takes too much memory."""
    if mark is not None and (always or not mark.exists()):
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Mortal:
    """A part, and the work on it, that kills whoever takes it first."""

    part: Part
    work: Callable[[Any], Any]
    mark: Path

    @property
    def name(self) -> str:
        return self.part.name


def mortal(part: Mortal) -> Any:
    dying(part.mark)
    return part.work(part.part)


class Deadly:
    """An engine of which, in each step, the worker that takes the first part dies over it."""

    def __init__(self, engine: Engine, folder: Path):
        self.folder, self.part_bytes, self._engine, self._marks = engine.folder, engine.part_bytes, engine, folder

    def run(self, work, parts):
        marks = [self._marks / f"{work.__name__}-{k}" for k in range(len(parts))]
        for mark in marks[1:]:
            mark.touch()
        return self._engine.run(mortal, [Mortal(p, work, m) for p, m in zip(parts, marks, strict=True)])


def texts_or_death(texts: list[str], mark: Path) -> list[str]:
    """A partition of texts; whoever reads it first dies."""
    dying(mark)
    return texts


def until(true, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.1)
