"""Capture: log files -> redacted, fsynced raw segments -> interactions, feedback, parts and rejects in the lake.

    turn-01-spans.jsonl (1,204 lines)  ->  2,409 = 1,201 stored + 2 duplicate + 2 rejected + 1,204 attached + 0 waiting

Raw lands first, and the tables derive from it: dying anywhere in between, reading a file twice, or rebuilding the lake ends in
the same tables. Capture holds a lock of its own, so that mining and reading go on meanwhile.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import Refused
from tasks.formats.mapping import Mappings
from tasks.live.erasure.theirs import Tombstones
from tasks.live.intake import Account, Intake
from tasks.live.lake import Lake, sweep
from tasks.live.segments import Segments
from tasks.live.sources import Chunk, Offsets, chunks, files, unfinished
from tasks.live.workspace import Workspace
from tasks.records import Reject
from tasks.redact import Edge

CHUNK_BYTES = 8 * 1024 * 1024  # one raw segment, one fsync
COMMIT_BYTES = 256 * 1024 * 1024  # a commit takes about as long as a megabyte of records
DAY_US = 86_400_000_000
MAPPINGS = "dialects.toml"  # in the workspace: how to read log lines of the team's own shapes
# The tables that derive from the raw segments alone; rejects are also written where answers are received.
OWN = ("interactions", "feedback", "parts", "waiting")
CAPTURED = (*OWN, "rejects")


@dataclass(frozen=True, slots=True)
class CaptureParams:
    max_reject_share: float
    redact: bool
    names_model: str
    wait_days: float


def capture(workspace: Workspace, paths: list[Path] | None = None) -> Account:
    """Read what is new in the inbox and the receiver's spool (or in the files and folders named).

    Raises Refused for a file that is not there, a missing key, a busy lake, and a full disk (with the bytes needed).
    """
    given = files(paths) if paths else [*files([workspace.inbox]), *files([workspace.spool])]
    with workspace.lock("capture"):
        run = _Run(workspace)
        offsets = Offsets(workspace)
        for path in given:
            start = offsets.start(path)
            if start is not None:
                run.account.files += 1
                origin = _origin(workspace, path)
                for chunk in chunks(path, start, CHUNK_BYTES):
                    run.take(chunk, run.edge.text(path.name, ""), origin, clean=path.parent == workspace.spool)
                    offsets.read(path, chunk.position)
                    if run.commit(COMMIT_BYTES):
                        _save(offsets)
            waits = unfinished(path, offsets.position(path))
            if waits:
                run.account.unfinished.append(waits)
        run.commit(0)
        _save(offsets)
        for path in given:
            if path.parent == workspace.spool and offsets.start(path) is None:
                path.unlink()  # the receiver's copy: it is in the raw segments now
        return run.ended()


def capture_chunks(workspace: Workspace, found: Iterable[Chunk], source: str) -> Account:
    """Take chunks that come from no file (a server's traces). A chunk is stored before the next one is asked for."""
    with workspace.lock("capture"):
        run = _Run(workspace)
        for chunk in found:
            run.take(chunk, source, source)
            run.commit(COMMIT_BYTES)
        return run.ended()


def rebuild(workspace: Workspace) -> Account:
    """Make the captured tables anew from the raw segments, in their order, and put them in the place of the old ones.

    What later steps derived (members, signals, candidates) refers to rows by id and stays. May be killed and run again.
    """
    # The tables are made beside the old ones.
    needed = sum(map(Lake(workspace.lake).size, CAPTURED))
    with workspace.lock("capture"), workspace.lock("lake"), _full_disk_refused("the lake made anew", needed):
        fresh = workspace.data / "lake.rebuilt"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        account = Account()
        segments = Segments(workspace.raw)
        erased = Tombstones.of(workspace)
        intake = Intake(Lake(fresh), segments, wait_us(workspace), account, rereading(workspace), erased)
        for segment, body in segments.all():
            intake.replay(segment, body)
            if intake.uncommitted >= COMMIT_BYTES:
                intake.commit()
        intake.commit()
        # Answers that could not be read are rejects too, and come from no raw segment.
        others = Lake(workspace.lake).rows(
            Reject, "SELECT * FROM rejects WHERE NOT list_contains($raw, raw_segment)", {"raw": segments.names}
        )
        Lake(fresh).append("rejects", others)
        for table in CAPTURED:
            Lake(workspace.lake).replace(table, Lake(fresh))
        shutil.rmtree(fresh)
        return account


def edge_of(workspace: Workspace) -> Edge:
    """The edge of this workspace. A missing key refuses; it never falls back to a known one."""
    params = workspace.params("capture", CaptureParams)
    key = workspace.pseudonym_key()
    names = None
    if params.redact and params.names_model:
        from tasks.redact.names import load

        names = load(params.names_model)
    return Edge(key, params.redact, names, Mappings(workspace.root / MAPPINGS).line)


def rereading(workspace: Workspace) -> Edge | None:
    """What kept lines go through when they are read again: nothing, where there are no mappings."""
    return edge_of(workspace) if (workspace.root / MAPPINGS).is_file() else None


class _Run:
    """One run of capture: what its chunks go through, and its account. Only under the lock "capture"."""

    def __init__(self, workspace: Workspace):
        sweep(workspace.lake, (*OWN, "releases"))
        sweep(workspace.lake, ("rejects",), dead_only=True)  # receiving answers writes them too
        self.account = Account()
        self.edge = edge_of(workspace)
        lake, segments = Lake(workspace.lake), Segments(workspace.raw)
        self._intake = Intake(lake, segments, wait_us(workspace), self.account, self.edge, Tombstones.of(workspace))

    def take(self, chunk: Chunk, source: str, origin: str, clean: bool = False) -> None:
        """`clean`: the receiver redacted it already."""
        edge = None if clean else self.edge
        with _full_disk_refused(source, len(chunk.data) * 2):
            self._intake.take(chunk.data, edge, source, origin, time.time_ns() // 1000, chunk.flaws)

    def commit(self, at_least: int) -> bool:
        """Commit, where at least so many bytes wait for it."""
        if self._intake.uncommitted < at_least:
            return False
        with _full_disk_refused("the lake", self._intake.uncommitted):
            self._intake.commit()
        return True

    def ended(self) -> Account:
        with _full_disk_refused("the lake", self._intake.uncommitted):
            self._intake.settle(time.time_ns() // 1000, mark=True)
        self.account.redacted = dict(sorted(self.edge.counts.items()))
        return self.account


def _save(offsets: Offsets) -> None:
    with _full_disk_refused("how far the logs are read", 1024 * 1024):
        offsets.save()


@contextmanager
def _full_disk_refused(what: str, needed: int) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise Refused(
            f"{what} could not be stored: {e}; what was stored so far is kept",
            f"free at least {needed:,} bytes (or mend the disk or the store), then run the same command; it goes on from there",
            exit_code=1,
        ) from e


def wait_us(workspace: Workspace) -> int:
    return int(workspace.params("capture", CaptureParams).wait_days * DAY_US)


def _origin(workspace: Workspace, path: Path) -> str:
    """The folder of a file, as a name that is the same on every machine where it lies in the workspace."""
    folder = path.resolve().parent
    return folder.relative_to(workspace.data).as_posix() if folder.is_relative_to(workspace.data) else folder.name
