"""How likely each open interaction is wrong, from its signals and from all that people have said so far.

    ix_5c0…: thumb down, ungrounded 0.6; 340 labels in the lake   ->   {"ix_5c0…": 0.81, …}

The model is refitted from the lake at every turn and kept nowhere: the labels are the truth, and fitting takes a second.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from tasks.error_model import ErrorModel, ErrorModelParams, error_model
from tasks.live.labels import precisions
from tasks.live.lake import Lake
from tasks.live.workspace import Workspace
from tasks.records import Label, Signal
from tasks.select import Pooled, SelectParams, suspicion
from tasks.signals import GOOD

# What is known of an interaction before anybody looked at it, beside its signals. Lengths in characters, on a log scale.
NUMBERS = """
    SELECT interaction_id, ln(1 + length(question)) AS question_length, ln(1 + length(response)) AS response_length,
           CAST(confidence AS DOUBLE) AS confidence, CAST(contexts NOT IN ('', '[]') AS DOUBLE) AS has_contexts
    FROM interactions SEMI JOIN wanted USING (interaction_id)
"""
# One row per labelled interaction: the chance with which the design sent it, in the part in which it was sent.
SENT = """
    SELECT c.interaction_id, m.group_id, max(c.propensity) AS propensity
    FROM candidates c JOIN members m USING (interaction_id) WHERE c.part <> '' AND c.propensity > 0
    GROUP BY ALL ORDER BY c.interaction_id
"""
# The strongest finding of a detector counts: a thumb that came later made an older finding stronger, not two of it. Evidence
# that an answer is right is a feature as well.
STRONGEST = """
    SELECT s.* FROM signals s SEMI JOIN wanted USING (interaction_id) QUALIFY row_number() OVER (
        PARTITION BY interaction_id, detector ORDER BY score DESC, signal_id) = 1 ORDER BY signal_id
"""


def error_probabilities(workspace: Workspace, pool: Sequence[Pooled], labels: list[Label]) -> dict[str, float]:
    """interaction_id -> P(wrong) for all of `pool`; without labels the noisy-or of the signals (`select.suspicion`)."""
    model, features, prior = learned(workspace, pool, labels)
    p = model.probability(features, prior)
    return {x.interaction_id: round(float(v), 6) for x, v in zip(pool, p, strict=True)}


def learned(
    workspace: Workspace, pool: Sequence[Pooled], labels: list[Label]
) -> tuple[ErrorModel, pd.DataFrame, np.ndarray]:
    """The model of this turn, with the features and the prior of `pool`: for `ErrorModel.contributions`, and for reports."""
    lake = Lake(workspace.lake)
    wrong = {x.interaction_id: x.p_wrong for x in labels}
    known = precisions(workspace, labels)
    params = workspace.params("select", SelectParams)
    sent = [r for r in lake.query(SENT).to_pylist() if r["interaction_id"] in wrong]
    ids = [r["interaction_id"] for r in sent]
    asked_for = pa.table({"interaction_id": pa.array([*ids, *(x.interaction_id for x in pool)], pa.string())})
    found: dict[str, list[Signal]] = {}
    for row in lake.query(STRONGEST, wanted=asked_for).to_pylist():
        found.setdefault(row["interaction_id"], []).append(Signal(**row))
    numbers = lake.query(NUMBERS, wanted=asked_for).to_pandas().set_index("interaction_id")

    def described(ids: list[str]) -> tuple[pd.DataFrame, np.ndarray]:
        scores = pd.DataFrame(
            [{s.detector: s.score for s in found.get(i, ())} for i in ids], index=ids, columns=detectors, dtype=float
        )
        against = [[s for s in found.get(i, ()) if s.detector not in GOOD] for i in ids]
        prior = np.array([suspicion(signals, known, params) for signals in against], float)
        # A detector that said nothing is a score of nothing; a number that was not logged is unknown.
        return scores.fillna(0.0).join(numbers), prior

    detectors = sorted({s.detector for signals in found.values() for s in signals})
    features, prior = described(ids)
    model = error_model(
        features,
        prior,
        np.array([wrong[i] for i in ids], float),
        [r["group_id"] for r in sent],
        1 / np.array([r["propensity"] for r in sent], float),
        ErrorModelParams(seed=params.seed),
    )
    return (model, *described([x.interaction_id for x in pool]))
