"""The flows that schedules, events and workers start (flows/deploy.py says when): each does whatever is ready and ends.

Where another process holds what a flow needs, the flow run waits some minutes, and then ends as Skipped: the next one finds what
was left. Where a server of the outside world does not answer, the task tries again, at growing intervals that differ, so that all
don't come back at once.
"""

# No `from __future__ import annotations` here: Prefect checks the parameters of a deployed flow by its annotations, as types.
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.states import Completed, State
from prefect.tasks import exponential_backoff

from flows import annotate, collect, promote, report, retrain, turn, upkeep
from tasks.errors import BUSY, UNEXPECTED, Refused
from tasks.live.freeze import new_labels
from tasks.live.workspace import LOCK_WAIT, find, quiet_environment

WAIT_S = "600"  # for who holds what this needs: a daily flow must not lose its day to one that takes a minute


def scheduled(name: str, says: str) -> Callable[[Callable[..., Any]], Any]:
    """A flow whose run waits while another process is at it, and is Skipped where that takes too long."""

    def made(work: Callable[..., Any]) -> Any:
        @functools.wraps(work)
        def run(*arguments: Any, **named: Any) -> Any:
            quiet_environment()  # a worker's process was not started by our command
            os.environ.setdefault(LOCK_WAIT, WAIT_S)
            try:
                return work(*arguments, **named)
            except Refused as e:
                if e.exit_code != BUSY:
                    raise
                return Completed(name="Skipped", message=e.why)

        return flow(run, name=name, flow_run_name=says)

    return made


def _the_worlds_fault(task: Any, run: Any, state: State) -> bool:
    """Whether trying again may help: a server that did not answer, a disk that was full. Bad input stays bad."""
    try:
        state.result()
    except Refused as e:
        return e.exit_code == UNEXPECTED
    except OSError:
        return True
    except Exception:
        return False
    return False


PATIENT = {
    "retries": 3, "retry_delay_seconds": exponential_backoff(10), "retry_jitter_factor": 0.5,
    "retry_condition_fn": _the_worlds_fault,
}  # fmt: skip


@scheduled("capture", "capture what the application logged")
def capture(workspace: Path) -> None:
    collect.capture_logs(workspace)


@scheduled("mine", "mine new interactions for errors")
def mine(workspace: Path) -> None:
    collect.mine_errors(workspace)


@scheduled("send", "send the next questions to people")
def send(workspace: Path) -> None:
    annotate.send_batch.with_options(**PATIENT)(workspace)


@scheduled("receive", "receive answers and ask again where people are not sure")
def receive(workspace: Path) -> None:
    annotate.receive_answers.with_options(**PATIENT)(workspace)
    annotate.ask_again.with_options(**PATIENT)(workspace)


@scheduled("retrain", "retrain where enough labels are new, then promote or ask")
def retrain_and_promote(workspace: Path, anyway: bool = False) -> None:
    """`anyway`: already where a single label is new, so that what trickles in is not left for ever."""
    # Not as flow runs of their own: each would wait for its last heartbeat, and one line less says more.
    retrain.retrain.fn(workspace, anyway and new_labels(find(workspace), 1) > 0)
    promote.promote.fn(workspace)
    report.tell(workspace)


@scheduled("turn", "one turn of the loop: capture to promote")
def whole_turn(workspace: Path) -> None:
    turn.turn.fn(workspace)


@scheduled("watch", "watch what users meet from the champion")
def watch(workspace: Path) -> None:
    upkeep.watch_champion(workspace)


@scheduled("maintain", "maintain the lake and what lies around")
def maintain(workspace: Path) -> None:
    upkeep.maintain_workspace(workspace)


@scheduled("alarm", "alarm: {about} {state}")
def alarm(workspace: Path, about: str, state: str, message: str = "", run: str = "") -> None:
    """Tell the people who look after the loop that a flow run failed or died. `run`: its id."""
    pages = os.environ.get("PREFECT_API_URL", "").removesuffix("/api")
    link = f"{pages}/runs/flow-run/{run}" if pages and run else ""
    upkeep.tell_people(workspace, f"{about} {state.lower()}", f"{message}\n{link}".strip())
