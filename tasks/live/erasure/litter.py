"""What processes that died left behind: half-written files and folders. They hold what was to be written, so they go.

    data/raw/.00000017-5c0f….jsonl.zst.4711.tmp     where no process 4711 runs any more          data/lake.rebuilt/
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from tasks.live.workspace import Workspace, is_left

UNFINISHED = ("lake.rebuilt", ".frozen.tmp")  # in data/; whoever makes one begins by deleting it


def erase(workspace: Workspace) -> int:
    done = 0
    for folder in UNFINISHED:
        if (workspace.data / folder).exists():
            shutil.rmtree(workspace.data / folder)
            done += 1
    for path in list(litter(workspace)):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        done += 1
    return done


def litter(workspace: Workspace) -> Iterator[Path]:
    """The half-written files of processes that do not run here: an erasure holds every lock, so nobody writes elsewhere."""
    for folder in (workspace.data, workspace.state):
        for path in sorted(folder.rglob(".*.tmp")):
            if is_left(path):
                yield path
