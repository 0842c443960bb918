"""Maintenance: small files of the lake become large ones, and what nobody needs any more goes. No row and no snapshot changes.

    maintain(workspace)  ->  joined {"signals": 41}, deleted {"signals": 42}, swept 1, dropped {"checkpoints": 2}, left []

For every night, while everything else runs: what another process holds is left for the next time, and named.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tasks.errors import BUSY, Refused
from tasks.live.lake import TABLES, Lake, sweep
from tasks.live.sources import Offsets
from tasks.live.workspace import Workspace

DAY_S = 86_400.0
# Paid orders lie beside them, in `provider`: a note lost there is a training paid twice.
CHECKPOINTS = ("llm-*", "command")
SERVED = ("shadow.jsonl", "trial-*.jsonl")


@dataclass(frozen=True, slots=True)
class MaintenanceParams:
    small_files: int
    keep_days: float
    litter_days: float
    checkpoint_days: float
    log_days: float


@dataclass(slots=True)
class Maintained:
    """`joined`: table -> how many files fewer a reader opens. `deleted`: table -> files that no version needs. `swept`: files that
    processes left half written. `dropped`: place -> files and folders. `left`: what was busy, and by whom."""

    joined: dict[str, int] = field(default_factory=dict)
    deleted: dict[str, int] = field(default_factory=dict)
    swept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)


def maintain(workspace: Workspace) -> Maintained:
    """May be killed anywhere and run again. Raises Refused where the lake does not answer."""
    params, done = workspace.params("maintenance", MaintenanceParams), Maintained()
    # Who rewrites tables (an erasure, a rebuild) holds this lock; who appends needs none of ours.
    _under(workspace, "lake", lambda: _tables(workspace, params, done), done)
    done.swept = sweep(workspace.lake, TABLES, older_than_s=params.litter_days * DAY_S) + _half_written(
        workspace, params.litter_days
    )
    _under(workspace, "capture", lambda: _drop(done, "spool", _captured(workspace, params.litter_days)), done)
    checkpoints = (p for pattern in CHECKPOINTS for p in (workspace.data / "checkpoints").glob(pattern))
    _under(workspace, "snapshot", lambda: _drop(done, "checkpoints", _old(checkpoints, params.checkpoint_days)), done)
    served = (p for pattern in SERVED for p in (workspace.state / "serve").glob(pattern))
    _drop(done, "serve", _old(served, params.log_days))
    return done


def _tables(workspace: Workspace, params: MaintenanceParams, done: Maintained) -> None:
    lake = Lake(workspace.lake)
    for table in TABLES:
        if lake.number_of_files(table) >= params.small_files and (joined := lake.compact(table)):
            done.joined[table] = joined
        if deleted := lake.vacuum(table, older_than_s=max(params.keep_days * DAY_S, 3600)):
            done.deleted[table] = deleted


def _under(workspace: Workspace, name: str, work: Callable[[], None], done: Maintained) -> None:
    try:
        with workspace.lock(name):
            work()
    except Refused as e:
        if e.exit_code != BUSY:
            raise
        done.left.append(e.why)


def _captured(workspace: Workspace, days: float) -> list[Path]:
    """Files of the spool that capture has read to their end and died before it could remove them."""
    offsets = Offsets(workspace)
    return [p for p in _old(workspace.spool.glob("*.jsonl"), days) if offsets.start(p) is None]


def _half_written(workspace: Workspace, days: float) -> int:
    """Temporary files (write_durably) of processes that died. By their age: whether process 4711 of another host runs, nobody
    can see from here."""
    found = [p for folder in (workspace.data, workspace.state) for p in folder.rglob(".*.tmp") if p.is_file()]
    return sum(_remove(p) for p in _old(found, days))


def _old(paths: Iterable[Path], days: float) -> list[Path]:
    """Those in which nothing was written for so long."""
    before = time.time() - days * DAY_S
    return [p for p in sorted(paths) if max(_touched(p), default=0.0) < before]


def _touched(path: Path) -> list[float]:
    try:
        return [p.stat().st_mtime for p in (path, *path.rglob("*"))]
    except FileNotFoundError:  # it went meanwhile
        return []


def _drop(done: Maintained, place: str, paths: list[Path]) -> None:
    if gone := sum(_remove(p) for p in paths):
        done.dropped[place] = gone


def _remove(path: Path) -> bool:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
    return not path.exists()
