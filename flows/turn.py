"""One turn: collect → annotate → (enough new labels?) retrain → (the gate says yes?) promote, then a report of it.

A turn never waits for people: it does whatever is ready. Nothing ready, nothing done.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prefect import flow

from flows.annotate import annotate
from flows.collect import collect
from flows.promote import promote
from flows.report import tell
from flows.retrain import Retrained, retrain
from tasks.live.handoff.follow_up import FollowUp
from tasks.live.handoff.send import Batch
from tasks.live.intake import Account
from tasks.live.mining import Mined
from tasks.live.registry import Asked, Promoted


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn did; None for what was not due."""

    captured: Account
    mined: Mined
    received: Account
    followed: FollowUp
    sent: Batch | None
    retrained: Retrained | None
    promoted: Promoted | None
    asked: Asked | None  # a promotion that waits for a person
    report: Path | None  # the index of the turns' pages
    untold: str = ""  # why there is no report


@flow(name="turn", flow_run_name="one turn of the loop")
def turn(workspace: Path) -> Turn:
    captured, mined = collect(workspace)
    received, followed, sent = annotate(workspace)
    retrained, done = retrain(workspace), promote(workspace)
    promoted, asked = (None, done) if isinstance(done, Asked) else (done, None)
    return Turn(captured, mined, received, followed, sent, retrained, promoted, asked, *tell(workspace))
