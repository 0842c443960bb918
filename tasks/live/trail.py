"""The audit trail of one candidate: who asked, answered, changed and decided what, when, under which guideline.

    2026-11-24T16:02:11Z  asked      files   answer  answer/1  round 1: 2 annotator
    2026-11-25T09:14:40Z  submitted  ana     answer  answer/1  annotator: {"verdict":"right"}
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from tasks.errors import Refused
from tasks.live.lake import Lake
from tasks.live.workspace import Workspace

TRAIL = """
    SELECT * FROM (
        SELECT ts, ts AS sort, 'asked' AS what, tool AS who, batch_id, candidate_id, kind, guideline,
               'round ' || "round" || ': ' || wanted || ' ' || role || CASE WHEN gold THEN ', gold' ELSE '' END AS detail
        FROM asks WHERE candidate_id = $id OR interaction_id = $id
        UNION ALL
        SELECT ts, received, status, annotator, batch_id, candidate_id, kind, guideline,
               role || CASE WHEN status = 'submitted' THEN ': ' || value ELSE '' END
                    || CASE WHEN note = '' THEN '' ELSE ' (' || note || ')' END
        FROM annotations WHERE candidate_id = $id OR interaction_id = $id
        UNION ALL
        SELECT ts, ts, what, who, batch_id, candidate_id, kind, guideline, detail FROM events
        WHERE candidate_id = $id OR candidate_id IN (SELECT candidate_id FROM asks WHERE interaction_id = $id)
    ) ORDER BY sort, ts, what, who
"""



@dataclass(frozen=True, slots=True)
class Step:
    """`ts` is RFC 3339, as whoever did it says; steps are in the order in which the loop learned of them."""

    ts: str
    what: str
    who: str
    batch_id: str
    candidate_id: str
    kind: str
    guideline: str
    detail: str


def trail(workspace: Workspace, id: str) -> list[Step]:
    """Everything that happened to a candidate, or to an interaction, on its way to people and back."""
    rows = Lake(workspace.lake).query(TRAIL, {"id": id}).to_pylist()
    if not rows:
        raise Refused(f"{id} was never handed to people", "give the id of a candidate (cd_...) or interaction (ix_...)")
    return [Step(_moment(r["ts"]), **{k: v for k, v in r.items() if k not in ("ts", "sort")}) for r in rows]


def _moment(us: int) -> str:
    return datetime.fromtimestamp(us // 1_000_000, UTC).isoformat().replace("+00:00", "Z")
