"""Erase in many lives, each of which dies by SIGKILL at a point, and the last of which lives on.

    python -m tests.erasing WORKSPACE USER POINT [POINT …]     -> the points at which it really died, as JSON

POINT is `module.function` below tasks.live (its n-th call: `…:n`): the process dies right after it. Or `N:HOW`, with faulty.so
preloaded: the N-th write, fsync or rename below the workspace fails (HOW an errno) or kills (0). Only the fault is staged.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import json
import os
import signal
import sys
from pathlib import Path

from tasks.live.workspace import Workspace, quiet_environment

FAILED = 9
# Every door through which something is changed, and every step of the whole.
POINTS = (
    "erasure.theirs.Tombstones.add", "erasure.erase.Journal.save", "segments.Segments.rewrite:1", "segments.Segments.rewrite:2",
    "erasure.raw.rewrite", "erasure.raw.answer_segments", "erasure.raw._blank:1", "erasure.raw._blank:2", "erasure.raw.inbox",
    "lake.Lake.rewrite:1", "lake.Lake.rewrite:3", "lake.Lake.rewrite:8", "lake.Lake.vacuum:1", "lake.Lake.vacuum:6",
    "erasure.tables.erase",
    "erasure.mail._lines:1", "erasure.mail.outbox", "erasure.mail.answers", "erasure.objects.work_tree", "erasure.objects.delete",
    "erasure.exports.erase", "erasure.databases.erase", "erasure.told._note:1", "erasure.told.tell", "registry.mark",
    "erasure.proof.prove",
)  # fmt: skip


def die_after(point: str) -> None:
    name, _, n = point.partition(":")
    *path, last = name.split(".")
    holder, at = importlib.import_module("tasks.live"), 0
    for part in path:
        try:
            holder = importlib.import_module(f"{holder.__name__}.{part}") if hasattr(holder, "__path__") else getattr(holder, part)
        except ModuleNotFoundError:
            holder = getattr(holder, part)
    real = getattr(holder, last)

    @functools.wraps(real)
    def fatal(*arguments, **named):
        nonlocal at
        result = real(*arguments, **named)
        at += 1
        if at == int(n or 1):
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(holder, last, fatal)


def life(root: Path, user: str, point: str) -> None:
    from tasks.live.erasure import erase, subject

    if point[0].isdigit():
        n, _, how = point.partition(":")
        ctypes.CDLL(None).fault_arm(ctypes.c_long(int(n)), int(how), 0, str(root).encode())
    else:
        die_after(point)
    erase.erase(Workspace(root), subject.Wish(user=user))


def main(root: Path, user: str, points: list[str]) -> None:
    quiet_environment()
    import mlflow  # noqa: F401

    import tasks.live.erasure.erase  # noqa: F401

    died = []
    for point in points:
        child = os.fork()
        if child == 0:
            try:
                life(root, user, point)
            except Exception:
                os._exit(FAILED)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            died.append(point)
        elif status and not (point[0].isdigit() and os.waitstatus_to_exitcode(status) == FAILED):
            raise SystemExit(f"{point}: ended with {status}")
    print(json.dumps(died))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
