"""The engine: one pure function over many partitions, in this process one after another or on a Dask cluster. The door to both.

    with opened(workspace.state) as engine:
        parts = [Glancing("1 of 7: 0c4f….parquet, row groups 0 to 11", …), …]
        for path in engine.run(glance, parts):      # in the order of the parts, whatever order they end in

FLYWHEEL_ENGINE says which: nothing, or dask://HOST:PORT (dask+tls://HOST:PORT). It is environment and no setting, because it
changes no byte: a function gets names of files and gives small values or names of files, which workers read and write themselves.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from tasks.errors import Refused

VARIABLE, PART_VARIABLE, SCRATCH_VARIABLE = "FLYWHEEL_ENGINE", "FLYWHEEL_PART_MB", "FLYWHEEL_SCRATCH"
SCHEMES = {"dask": "tcp", "dask+tls": "tls"}
MEGABYTE = 2**20
PART_MB = 256  # what a worker holds at a time, several times over; what is repeated where one is lost


class Part(Protocol):
    """A partition and what to do with it. The name is for people: it stands in errors."""

    @property
    def name(self) -> str: ...


class OfPartition:
    """A part that says what to do with a `partition`, and bears its name."""

    __slots__ = ()
    partition: Part

    @property
    def name(self) -> str:
        return self.partition.name


P = TypeVar("P", bound=Part)
R = TypeVar("R")


class Engine(Protocol):
    """`folder` is scratch, seen by whoever does the work and gone when the engine is closed; `part_bytes` is how large a part
    should be."""

    folder: Path
    part_bytes: int

    def run(self, work: Callable[[P], R], parts: Sequence[P]) -> Iterator[R]:
        """work(part) of each part, in the order of the parts. A part may be worked on twice (and at once), so `work` must be a
        function of its part alone, must be importable by its name, and must write files by `whole`."""
        ...


class InProcess:
    """One partition after another, here."""

    def __init__(self, folder: Path, part_bytes: int):
        self.folder, self.part_bytes = folder, part_bytes

    def run(self, work: Callable[[P], R], parts: Sequence[P]) -> Iterator[R]:
        return map(work, parts)


@contextlib.contextmanager
def opened(beside: Path | None = None) -> Iterator[Engine]:
    """The engine that the environment names, with scratch in the folder `beside`. Raises Refused where it can't be had."""
    address, part_bytes = _address(), _part_bytes()
    with _scratch(beside, shared=bool(address)) as folder:
        if not address:
            yield InProcess(folder, part_bytes)
            return
        from tasks.engine.cluster import cluster

        with cluster(address, folder, part_bytes) as engine:
            yield engine


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A place to write what `path` will be: whole or not at all, also where two workers write the same at once."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _address() -> str:
    """The scheduler's, as Dask writes it; '' for this process."""
    named = os.environ.get(VARIABLE, "").strip()
    if not named:
        return ""
    found = re.fullmatch(r"([a-z+]+)://([^/\s]+:\d+)/?", named)
    if not found or found[1] not in SCHEMES:
        fix = f"export {VARIABLE}=dask://HOST:8786, or unset {VARIABLE} to work in this process"
        raise Refused(f"{VARIABLE}={named} names no engine", fix)
    return f"{SCHEMES[found[1]]}://{found[2]}"


def _part_bytes() -> int:
    said = os.environ.get(PART_VARIABLE, "").strip() or str(PART_MB)
    try:
        megabytes = float(said)
        assert 0 < megabytes < float("inf")
    except (ValueError, AssertionError):
        raise Refused(f"{PART_VARIABLE}={said} is no size", f"export {PART_VARIABLE}={PART_MB}, in megabytes") from None
    return max(1, int(megabytes * MEGABYTE))


@contextlib.contextmanager
def _scratch(beside: Path | None, shared: bool) -> Iterator[Path]:
    """A private folder of this process, named so that where it died, who takes its lock next and an erasure know it
    (live/workspace.py, TEMPORARY)."""
    here = Path.cwd() / ".flywheel"  # a stage's: DVC starts it in the workspace
    named = os.environ.get(SCRATCH_VARIABLE)
    root = Path(named) if named else beside if beside else here if here.is_dir() else None
    if root is None:
        if shared:
            raise Refused(
                "there is no workspace in the current folder, and workers need a folder that they see too",
                f"export {SCRATCH_VARIABLE}=DIR, a folder that is mounted on every worker under the same path",
            )
        root = Path(tempfile.gettempdir())
    host = re.sub(r"\W", "_", platform.node())
    folder = (root / f".scratch-{uuid.uuid4().hex[:12]}.{host}-{os.getpid()}.tmp").absolute()
    folder.mkdir(mode=0o700, parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
