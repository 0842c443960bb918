"""What the evaluation dialects share: a sealed prompt, its right answer or the answers to choose from, and where it came from.

    Regression(target_text="Refunds take five days.", cluster="guarantee · pay", …)
    ->  {"table": "regression", "interaction": "ix_1", "language": "en", "cluster": "guarantee · pay", …}
"""

from __future__ import annotations

from typing import Any

import orjson

from tasks.examples import HOLDOUT, Evaluation, Regression
from tasks.exports.said import CannotSay

READS = {HOLDOUT: ("evaluation", "regression")}
Sealed = Evaluation | Regression


def about(table: str, row: Sealed) -> dict[str, str]:
    """Where a row comes from and which slices it is of, values as text."""
    said = {"table": table, "interaction": row.interaction_id, "topic": row.topic, "language": row.language}
    if isinstance(row, Regression):
        said |= {"cluster": row.cluster, "cluster_id": row.cluster_id, "seen": str(row.seen).lower()}
    else:
        said |= {"kind": row.kind}
    return {k: v for k, v in said.items() if v}


def reference(row: Sealed) -> str:
    """The right answer's text. Raises CannotSay where people rated answers only."""
    if not row.target_text:
        raise CannotSay("no_reference_answer")
    return row.target_text


def choices(row: Sealed) -> tuple[list[str], list[int]]:
    """The answers that were rated, and the places of the right ones; ([], []) where there are none."""
    offered: list[dict[str, Any]] = orjson.loads(row.offered) if isinstance(row, Evaluation) else []
    return [o["text"] for o in offered], [k for k, o in enumerate(offered) if o["right"]]
