"""How far to trust what people answer: agreement per kind, each annotator's card, disputed clauses, cost; and the audit trail.

    answer   out 303  back 671  settled 297  disputed 4   alpha .81 (.77 to .85)   2.2 answers each, 0.97 a label
    fritz    careless: gold 9 of 14 right
    clause   answer/1 escalate: people disagree about 12 of 31 (23% to 56%)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tasks.agreement import ANSWER, said
from tasks.annotators import Answered, Card, cards
from tasks.estimate import wilson
from tasks.examples import served_action
from tasks.guidelines import newest
from tasks.judgements import AGREED
from tasks.kinds import Kind
from tasks.live.handoff.desk import EXPERT, AnnotateParams
from tasks.live.labels import LATEST, agreement, catalogue, guidelines, judged, latest_annotations
from tasks.live.lake import Lake
from tasks.live.workspace import Workspace
from tasks.records import Annotation
from tasks.reliability import Reliability, reliability

GOOD, WATCH, UNKNOWN = "good", "watch", "unknown"
OPEN = """
    SELECT kind, count(DISTINCT (candidate_id, kind)) AS out, count(DISTINCT (candidate_id, kind)) FILTER (role = 'expert') AS experts
    FROM asks WHERE NOT gold GROUP BY kind ORDER BY kind
"""
GOLD = """
    SELECT a.interaction_id, a.annotator, a.value, a.annotation_id, i.response FROM (
        SELECT * FROM annotations WHERE kind = 'answer' AND status = 'submitted'
        QUALIFY row_number() OVER (PARTITION BY candidate_id, annotator ORDER BY ts DESC, annotation_id DESC) = 1) a
    JOIN interactions i USING (interaction_id)
    WHERE candidate_id IN (SELECT candidate_id FROM asks WHERE gold) ORDER BY a.annotation_id
"""
TRAIL = """
    SELECT * FROM (
        SELECT ts, ts AS sort, 'asked' AS what, tool AS who, batch_id, candidate_id, kind, guideline,
               'round ' || "round" || ': ' || wanted || ' ' || role || CASE WHEN gold THEN ', gold' ELSE '' END AS detail
        FROM asks WHERE candidate_id = $id OR interaction_id = $id
        UNION ALL
        SELECT ts, received, status, annotator, batch_id, candidate_id, kind, guideline,
               role || CASE WHEN status = 'submitted' THEN ': ' || value ELSE '' END || CASE WHEN note = '' THEN '' ELSE ' — ' || note END
        FROM annotations WHERE candidate_id = $id OR interaction_id = $id
        UNION ALL
        SELECT ts, ts, what, who, batch_id, candidate_id, kind, guideline, detail FROM events
        WHERE candidate_id = $id OR candidate_id IN (SELECT candidate_id FROM asks WHERE interaction_id = $id)
    ) ORDER BY sort, ts, what, who
"""


@dataclass(frozen=True, slots=True)
class KindQuality:
    """`out` questions were asked, `back` answers came, `settled` questions are agreed on, `disputed` have two answers and more and
    are not. Costs are of an answer's price in params.yaml.
    """

    kind: str
    out: int
    back: int
    settled: int
    disputed: int
    to_experts: int
    answers_each: float
    cost: float
    cost_per_label: float
    reliability: Reliability


@dataclass(frozen=True, slots=True)
class ClauseQuality:
    """Of the questions with several answers of which one says what the clause is about: those where not all say it."""

    guideline: str
    clause: str
    questions: int
    disagreed: int
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Quality:
    """`cost_per_error` is the cost of all answers about right and wrong for each error that was found and corrected; NaN: none."""

    kinds: list[KindQuality]
    annotators: list[Card]
    clauses: list[ClauseQuality]
    cost: float
    cost_per_error: float


def quality(workspace: Workspace) -> Quality:
    """Everything that the answers so far say about themselves and about those who gave them."""
    lake = Lake(workspace.lake)
    answers = latest_annotations(workspace)
    by_kind: dict[str, list[Annotation]] = {}
    for a in answers:
        by_kind.setdefault(a.kind, []).append(a)
    params = workspace.params("annotate", AnnotateParams)
    labels = agreement(workspace)
    settled = {ANSWER: {x.interaction_id for x in labels.labels if x.state == AGREED}}
    settled |= {kind: {j.interaction_id for j in rows if j.state == AGREED} for kind, rows in judged(workspace).items()}
    versions = newest(guidelines(workspace).values())
    kinds = [
        _kind(row, versions[row["kind"]].kind, by_kind.get(row["kind"], []), settled.get(row["kind"], set()), params)
        for row in lake.query(OPEN).to_pylist()
    ]
    cost = sum(k.cost for k in kinds)
    errors = sum(x.verdict == "wrong" and x.state == AGREED for x in labels.labels)
    of_answer = sum(k.cost for k in kinds if k.kind == ANSWER)
    return Quality(kinds, _cards(workspace, lake, by_kind.get(ANSWER, []), labels.labels), _clauses(workspace, by_kind),
                   round(cost, 2), of_answer / errors if errors else math.nan)  # fmt: skip
