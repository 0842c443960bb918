"""Lives of one workspace: each is a fork of this process, which has imported everything and started nothing, and runs one flow.

LD_PRELOAD=faulty.so PREFECT_API_URL=… python -m benchmarks.soak_lives      one JSON line in: one life; one out: how it ended

{"flow": "retrain", "workspace": "/tmp/w", "kill_after": 1.3}               SIGKILL from outside, to it or (group) to its stages too
{… "at": 17, "how": 28}                                                     the 17th write below the workspace finds a full disk
{… "child_at": 5, "how": 0}                                                 each program that it starts dies at its 5th write
{… "jump": -86400, "jump_at": 100}                                          the clock goes back a day at the 100th look
{… "environment": {"PREFECT_API_URL": …}}                                   another server, or none
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tasks.errors import Refused
from tasks.live.workspace import Workspace, find, quiet_environment

REST_OF_A_ROLLBACK = "the rest of a rollback"
MESSAGE = 600  # characters


def flow(name: str, root: Path) -> Any:
    """What a flow's name runs. Imported already; looked up here, so that a life is the same as the command."""
    from flows import annotate, collect, promote, retrain, turn
    from flows.server import prefect_for
    from tasks.live import capture, maintenance, registry
    from tasks.live.registry import journal

    place = find(root)
    if name in ("look", "look at the lake"):
        return look(place, name == "look")
    if name == "approve":
        asked = registry.open_question(place)
        given = registry.Approval("robin", "read 20 of its answers", asked)
        return registry.promote(place, given) if asked else registry.settle(place)  # as the next turn would
    if name == REST_OF_A_ROLLBACK and any(e.action == journal.ROLLED_BACK for e in journal.read(place).entries):
        return registry.settle(place)  # a second one would bring back whom the first one's champion had replaced
    if name in ("rollback", REST_OF_A_ROLLBACK):
        return registry.rollback(place, "robin", "answers in the wrong language")
    if name in ("capture", "rebuild"):  # without Prefect
        return getattr(capture, name)(place)
    if name == "maintain":
        return maintenance.maintain(place)
    flows = {"collect": collect.collect, "annotate": annotate.annotate, "retrain": retrain.retrain, "promote": promote.promote,
             "turn": turn.turn}  # fmt: skip
    with prefect_for(Workspace(root), heartbeats=False):
        return flows[name](root)


def look(place: Workspace, whole: bool) -> dict[str, Any]:
    """What the checker says of a workspace at rest, and its content: what must be as in one that nothing befell."""
    from tasks.live import kept
    from tasks.live.invariants import LOOKS, OF_THE_LAKE, invariants
    from tasks.live.lake import TABLES, Lake, key_of
    from tasks.live.registry import journal

    lake, content = Lake(place.lake), {}
    for table in TABLES:
        # Where a chunk ended when a life did names its segment, and with it a reject's id.
        what = "source, code, message" if table == "rejects" else key_of(table)
        rows = lake.query(f"SELECT {what} FROM {table} ORDER BY ALL").to_pylist()
        content[table] = hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:12]
    content["snapshots"] = [s.tag for s in kept.snapshots(place)] if (place.root / ".git").exists() else []
    content["registry"] = [
        [e.action, e.digest[:8], e.snapshot] for e in journal.read(place).entries if e.action in journal.CHANGES
    ]
    return {
        "content": content,
        "findings": [asdict(f) for f in invariants(place, LOOKS if whole else OF_THE_LAKE) if f.level != "ok"],
    }


def life(order: dict[str, Any], answer: int) -> None:
    os.setsid()  # its stages are of its group, and a kill may take all of them
    faults, root = ctypes.CDLL(None), order["workspace"]
    os.environ.update(order.get("environment", {}))
    sys.argv = ["flywheel", order["flow"]]
    if "child_at" in order:
        os.environ.update(FAULT_AT=str(order["child_at"]), FAULT_HOW=str(order["how"]), FAULT_UNDER=root)
    elif order.get("count") or "at" in order:
        faults.fault_arm(ctypes.c_long(order.get("at", 0)), order.get("how", 1), 0, root.encode())
    if "jump" in order:
        faults.clock_jump(ctypes.c_long(order["jump_at"]), ctypes.c_long(order["jump"]))
    ended: dict[str, Any] = {}
    try:
        made = flow(order["flow"], Path(root))
        ended = {"ended": "done"} | ({"look": made} if order["flow"].startswith("look") else {})
    except Refused as e:
        ended = {"ended": "refused", "code": e.exit_code, "why": str(e)[:MESSAGE]}
    except BaseException as e:
        ended = {"ended": "raised", "why": repr(e)[:MESSAGE], "where": traceback.format_exc()[-2 * MESSAGE :]}
    ended |= {"writes": faults.fault_count(), "looks": faults.clock_looks()}
    faults.fault_arm(ctypes.c_long(0), 0, 0, b"")
    os.write(answer, json.dumps(ended).encode())
    os._exit(0)


def live(order: dict[str, Any]) -> dict[str, Any]:
    """One life from its birth to its death, and what of it was there to be seen."""
    mine, theirs = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(mine)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        if not order.get("loud"):
            os.dup2(null, 2)
        life(order, theirs)
    os.close(theirs)
    timer = None
    if "kill_after" in order:
        timer = threading.Timer(order["kill_after"], _kill, (child, order.get("group", False)))
        timer.start()
    with os.fdopen(mine, "rb") as answer:
        said = answer.read()
    _, status = os.waitpid(child, 0)
    if timer:
        timer.cancel()
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    ended = json.loads(said) if said else {"ended": "killed" if killed else f"status {status}"}
    return ended | {"killed": killed, "seconds": round(time.monotonic() - began, 2)}


def _kill(pid: int, group: bool) -> None:
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if group else os.kill)(pid, signal.SIGKILL)


def together(orders: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Several lives at once, as of operators who don't know of each other."""
    ended: list[dict[str, Any]] = [{} for _ in orders]

    def one(n: int) -> None:
        ended[n] = live(orders[n])

    threads = [threading.Thread(target=one, args=(n,)) for n in range(len(orders))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return ended


def main() -> None:
    quiet_environment()
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    import mlflow  # noqa: F401
    import pandas  # noqa: F401
    from dvc.repo import Repo  # noqa: F401

    import tasks.formats.native
    import tasks.live.invariants
    import tasks.redact.text  # noqa: F401

    out = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(together(order) if isinstance(order, list) else live(order)), file=out, flush=True)


if __name__ == "__main__":
    main()
