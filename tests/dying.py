"""Captures in many short lives, each of which dies or is refused by its disk at another point.

    LD_PRELOAD=faulty.so python -m tests.dying WORKSPACE=SPEC [WORKSPACE=SPEC …]

SPEC is `N:HOW` (faulty.c: at the N-th write, fsync or rename below the workspace), `sN:HOW` (only fsync and rename count) or
`tSECONDS` (killed from outside after a time). Each life is a fork of this process, which has imported everything. Prints one
JSON line a life: how it ended, and how many writes there were.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from pathlib import Path

import pandas  # noqa: F401

import tasks.formats.native
import tasks.redact.text  # noqa: F401
from tasks.errors import Refused
from tasks.live import capture
from tasks.live.workspace import Workspace

# Small, so that a short log takes many segments and commits.
capture.CHUNK_BYTES = 8000
capture.COMMIT_BYTES = 16_000


def life(root: Path, spec: str, answer: int) -> None:
    n, _, how = spec.partition(":")
    faults = ctypes.CDLL(None)
    if how:
        steps = int(n.startswith("s"))
        faults.fault_arm(ctypes.c_long(int(n.removeprefix("s"))), int(how), steps, str(root).encode())
    try:
        account = capture.capture(Workspace(root))
        ended = {"account": account.as_dict()}
    except Refused as e:
        ended = {"refused": str(e), "code": e.exit_code}
    except BaseException as e:
        ended = {"raised": repr(e)}
    ended["writes"] = faults.fault_count() if how else None
    faults.fault_arm(ctypes.c_long(0), 0, 0, b"")
    os.write(answer, json.dumps(ended).encode())
    os._exit(0)


def main(roots: list[tuple[Path, str]]) -> None:
    for root, spec in roots:
        mine, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(mine)
            life(root, spec, theirs)
        os.close(theirs)
        if spec.startswith("t"):
            time.sleep(float(spec[1:]))
            os.kill(child, signal.SIGKILL)
        with os.fdopen(mine, "rb") as answer:
            said = answer.read()
        _, status = os.waitpid(child, 0)
        ended = json.loads(said) if said else {}
        ended["killed"] = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        print(json.dumps(ended), flush=True)


if __name__ == "__main__":
    main([(Path(root), spec) for root, _, spec in (a.rpartition("=") for a in sys.argv[1:])])
