"""Send: choose a batch from the open window, decide what is asked about each candidate, and give it to the tool.

    300 chosen  ->  300 × answer (2 people each) + 30 × action + 21 gold questions that look like all others
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.kinds import KINDS, askable
from tasks.live.handoff.desk import (
    AnnotateParams,
    Seen,
    audited,
    drawn,
    event,
    hand_out,
    hand_out_left,
    in_force,
    rankable,
    route,
    seen,
)
from tasks.live.labels import agreement, precisions
from tasks.live.lake import Lake, writing
from tasks.live.people import ANNOTATOR
from tasks.live.pool import pool
from tasks.live.suspicion import error_probabilities
from tasks.live.taxonomy import classify
from tasks.live.workspace import Workspace
from tasks.records import Asked, Candidate, canonical, content_id
from tasks.redact import personal
from tasks.select import NOT_SENT, SelectParams, select

DAY_US = 86_400_000_000
# What experts answered is what people are measured by.
DECIDED = """
    SELECT DISTINCT candidate_id, interaction_id, kind, md5($batch || interaction_id) AS lot FROM annotations
    WHERE role = 'expert' AND status = 'submitted' AND candidate_id NOT IN (SELECT candidate_id FROM asks WHERE gold)
    ORDER BY lot, kind, candidate_id
"""


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as sent: where people find it, its size by part, the window it was chosen from, and what was asked."""

    batch_id: str
    folder: Path
    window: int
    parts: dict[str, int]
    asks: dict[str, int]
    gold: int
    withheld: int


def send(workspace: Workspace) -> Batch | None:
    """Choose from the open window and hand the batch out; None while the window is smaller than `select.min_window`."""
    with writing(workspace):
        lake = Lake(workspace.lake)
        _finish_interrupted(workspace, lake)
        params = workspace.params("select", SelectParams)
        waiting = pool(lake, params, workspace.params("annotate", AnnotateParams).first)
        if sum(p.in_window for p in waiting) < params.min_window:
            return None
        labels = agreement(workspace).labels
        p_wrong = error_probabilities(workspace, waiting, labels)
        waiting = [replace(w, p_wrong=p_wrong[w.interaction_id]) for w in waiting]
        rows = select(waiting, precisions(workspace, labels), params)
        lake.append("candidates", rows)
        classify(workspace, lake)
        return _ask(workspace, lake, [r for r in rows if r.part != NOT_SENT], len(rows))


def _ask(workspace: Workspace, lake: Lake, rows: Sequence[Candidate], window: int) -> Batch:
    """Write what is asked into the ledger, then give it to the tool."""
    params = workspace.params("annotate", AnnotateParams)
    batch_id = rows[0].batch_id
    gold = _gold(lake, batch_id, round(params.gold_share * len(rows)), params)
    ids = sorted({r.interaction_id for r in rows} | {i for i, _ in gold})
    shown = seen(lake, ids)
    answers = rankable(lake, ids) if any(KINDS[k].needs == "answers" for k in params.shares) else {}
    versions = {kind: g.version for kind, g in in_force(workspace, list(params.shares)).items()}
    now = time.time_ns() // 1000
    asked, withheld = [], []
    for row in rows:
        here, others = shown[row.interaction_id], answers.get(row.interaction_id, [])
        found = personal_data(here, others)
        if found:
            withheld.append(event("withheld", batch_id=batch_id, candidate_id=row.candidate_id, detail=", ".join(found)))
            continue
        for kind, share in params.shares.items():
            if drawn(row.candidate_id, kind) < share and askable(KINDS[kind], here.contexts, others):
                asked.append(_asked(row.candidate_id, batch_id, here, others, kind, versions[kind], params, now))
    for interaction_id, kind in gold:
        candidate_id = content_id("cd", batch_id, interaction_id, "again")
        here, others = shown[interaction_id], answers.get(interaction_id, [])
        asked.append(_asked(candidate_id, batch_id, here, others, kind, versions[kind], params, now, gold=True))
    lake.append("events", withheld)
    lake.append("asks", asked)
    lake.append("events", [event("asked", batch_id=batch_id)])  # where everything was withheld, nothing else says so
    folder = hand_out(workspace, lake, asked) if asked else str(workspace.outbox)
    parts: dict[str, int] = {}
    asks: dict[str, int] = {}
    for row in rows:
        parts[row.part] = parts.get(row.part, 0) + 1
    for a in asked:
        asks[a.kind] = asks.get(a.kind, 0) + 1
    return Batch(batch_id, Path(folder), window, dict(sorted(parts.items())), dict(sorted(asks.items())), len(gold), len(withheld))


def personal_data(shown: Seen, answers: Sequence[dict[str, str]]) -> tuple[str, ...]:
    """The types of personal data in what people would see: texts that were captured unredacted do not leave."""
    texts = [shown.question, shown.response, *(str(m.get("content", "")) for m in shown.history)]
    texts += [str(c.get("text", "")) for c in shown.contexts] + [a["text"] for a in answers]
    return personal(*texts)


def _asked(candidate_id: str, batch_id: str, shown: Seen, answers: list[dict[str, str]], kind: str, guideline: str,
           params: AnnotateParams, now: int, gold: bool = False) -> Asked:  # fmt: skip
    ranked = answers if KINDS[kind].needs == "answers" else []
    return Asked(
        ask_id=content_id("ak", candidate_id, kind, guideline, ANNOTATOR, 1),
        batch_id=batch_id,
        candidate_id=candidate_id,
        interaction_id=shown.interaction_id,
        kind=kind,
        # It covers everything that a person sees: a changed text on the way is found out by it.
        content_hash=content_id("ch", shown.content_hash, ranked) if ranked else shown.content_hash,
        round=1,
        role=ANNOTATOR,
        wanted=params.people(kind),
        guideline=guideline,
        answers=canonical(ranked).decode(),
        gold=gold,
        tool=route(params.tool, KINDS[kind], shown),
        due=now + round(params.due_days * DAY_US),
        ts=now,
    )


def _gold(lake: Lake, batch_id: str, wanted: int, params: AnnotateParams) -> list[tuple[str, str]]:
    """Questions with a known answer, in another order for every batch: only those that were audited, as what people dispute is
    harder than the rest, and nobody should be measured by that alone.
    """
    found = lake.query(DECIDED, {"batch": batch_id}).to_pylist()
    fair = [r for r in found if r["kind"] in params.shares and audited(r["candidate_id"], r["kind"], params)]
    return [(r["interaction_id"], r["kind"]) for r in fair][:wanted]


def _finish_interrupted(workspace: Workspace, lake: Lake) -> None:
    """A batch that was chosen but not asked, or asked but not given to the tool (the process died in between), is so now."""
    classify(workspace, lake)
    unsaid = lake.query(
        "SELECT DISTINCT batch_id FROM asks WHERE batch_id NOT IN (SELECT batch_id FROM events WHERE what = 'asked') ORDER BY ALL"
    )["batch_id"].to_pylist()
    lake.append("events", [event("asked", batch_id=batch_id) for batch_id in unsaid])
    unasked = lake.rows(
        Candidate,
        """SELECT * FROM candidates WHERE batch_id NOT IN (SELECT batch_id FROM asks) AND batch_id NOT IN (
           SELECT batch_id FROM events WHERE what = 'asked') AND part <> '' ORDER BY batch_id, candidate_id""",
    )
    for batch_id in dict.fromkeys(c.batch_id for c in unasked):
        _ask(workspace, lake, [c for c in unasked if c.batch_id == batch_id], 0)
    hand_out_left(workspace, lake)
