"""Holdout-side labels -> the sealed evaluation set; fixed clusters of failures -> the regression suite.

    label {"target": "refund-time", …}              ->  evaluation {"messages": […], "target": "refund-time", "target_text": …}
    two answers to one prompt, one right, one wrong  ->  evaluation {"messages": […], "offered": [{"text", "right"}, …]}
    cluster "pause · over · winter", fixed in turn 3 ->  regression, a row for each of its prompts whose right answer is known
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tasks.examples import APPROVED, NOBODY, TRAIN, Evaluation, Regression, example_id
from tasks.frozen import Curated
from tasks.records import canonical


def evaluation(rows: Sequence[Curated], rubric: str) -> list[Evaluation]:
    """One row each where the right answer is known; one row a prompt where only verdicts are. `rubric`: what the answers were
    judged by, in words."""
    examples, rated = [], {}
    for row in rows:
        if row.target:
            examples.append(_evaluation(row, [], rubric))
        else:
            rated.setdefault(row.messages + row.contexts, []).append(row)
    for same in rated.values():
        offered = [{"text": r.response, "right": r.verdict == "right"} for r in same]
        # Where all answers are right, or all wrong, no choice can show anything.
        if len({o["right"] for o in offered}) == 2:
            examples.append(_evaluation(same[0], offered, rubric))
    return examples


def regression(clusters: Iterable[Mapping[str, Any]], rows: Mapping[str, Curated], trained: set[str]) -> list[Regression]:
    """The prompts of clusters {"cluster_id", "cluster", "interactions"} whose right answer is known; `trained` are the
    interactions that a row of the training side came from."""
    return [
        Regression(
            **_common(row, "regression", c["cluster_id"]), messages=row.messages, contexts=row.contexts, target=row.target,
            target_text=row.target_text, cluster_id=c["cluster_id"], cluster=c["cluster"], seen=i in trained,
        )
        for c in clusters
        for i in c["interactions"]
        if (row := rows.get(i)) is not None and row.target
    ]  # fmt: skip


def _evaluation(row: Curated, offered: list, rubric: str) -> Evaluation:
    return Evaluation(
        **_common(row, "evaluation"), messages=row.messages, contexts=row.contexts, target=row.target,
        target_text=row.target_text if row.target else "", kind=row.kind, offered=canonical(offered).decode(), rubric=rubric,
    )  # fmt: skip


def _common(row: Curated, table: str, of: str = "") -> dict[str, Any]:
    return {
        "example_id": example_id(table, row.interaction_id, *([of] if of else [])),
        "interaction_id": row.interaction_id,
        "beside": "",
        "group_id": row.group_id,
        "arrived": row.arrived,
        "origin": "label" if row.side != TRAIN else "fixed",
        "author": APPROVED if row.target else NOBODY,
        "weight": round(row.p_target, 2),
        "copies": 1,
        "topic": row.topic,
        "language": row.language,
        "guideline": row.guideline,
    }
