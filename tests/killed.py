"""Retrain and promote again and again, dying by SIGKILL right after one step each time.

    python -m tests.killed WORKSPACE STEP [STEP …]      -> prints the steps after which it really died, as JSON

STEP is a stage's name, or freeze, publish, record, promote. The step itself is the real one; only the death is staged. Each
life is a fork of this process, which has imported everything and started nothing.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from tasks.live.workspace import Workspace, quiet_environment


def die_after(module: object, name: str, only: str | None) -> None:
    real = getattr(module, name)

    def fatal(*arguments, **named):
        result = real(*arguments, **named)
        if only is None or only in arguments:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(module, name, fatal)


def live(root: Path, step: str) -> None:
    from flows import promote, retrain
    from flows.server import prefect_for

    whole = {
        "freeze": (retrain, "freeze", None),
        "publish": (retrain.snapshot, "publish", None),
        "record": (retrain.registry, "record", None),
        "promote": (promote.registry, "promote", None),
    }
    die_after(*whole.get(step, (retrain.snapshot, "run_stage", step)))
    with prefect_for(Workspace(root), heartbeats=False):
        retrain.retrain(root)
        promote.promote(root)


def main(root: Path, steps: list[str]) -> None:
    quiet_environment()
    import mlflow  # noqa: F401
    from dvc.repo import Repo  # noqa: F401

    import flows.promote
    import flows.retrain  # noqa: F401

    died = []
    for step in steps:
        child = os.fork()
        if child == 0:
            live(root, step)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            died.append(step)
    print(json.dumps(died))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
