"""Detectors: evidence that an interaction may be wrong. One file a family; the same ones run in production and on the holdout.

A detector takes `exchanges` (a DataFrame, one row an interaction, columns in COLUMNS) and gives rows
    interaction_id   detector        score   evidence
    ix_5c0…          ungrounded      0.83    "5 of 6 content words are in no retrieved text: refund, …"
with a score in (0, 1]; where it sees nothing, it gives no row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pandas as pd

from tasks.records import Signal, content_id
from tasks.signals.answer import broken_answer
from tasks.signals.behaviour import escalated_or_edited, rephrased
from tasks.signals.feedback import negative_feedback
from tasks.signals.grounding import ungrounded
from tasks.signals.model import low_confidence, low_reward

# What a detector may look at. The columns after `confidence` are what users did; a holdout replay has none of them.
COLUMNS = ("interaction_id", "question", "response", "contexts", "finish_reason", "confidence", "reward",
           "thumb", "comment", "edit", "escalation", "next_question", "next_contexts", "next_after_s")  # fmt: skip

Detector = Callable[[pd.DataFrame], pd.DataFrame]
USER_SIDE: dict[str, Detector] = {
    "negative_feedback": negative_feedback,
    "rephrased": rephrased,
    "escalated_or_edited": escalated_or_edited,
}
ANSWER_SIDE: dict[str, Detector] = {
    "broken_answer": broken_answer,
    "ungrounded": ungrounded,
    "low_confidence": low_confidence,
    "low_reward": low_reward,
}
DETECTORS = USER_SIDE | ANSWER_SIDE


def detect(exchanges: pd.DataFrame, detectors: Iterable[str] = DETECTORS) -> list[Signal]:
    """Run detectors over the exchanges; missing columns are taken as unknown, never as good."""
    full = exchanges.reindex(columns=list(COLUMNS))
    found = []
    for name in detectors:
        for row in DETECTORS[name](full).itertuples(index=False):
            signal_id = content_id("sg", row.interaction_id, name, round(row.score, 6), row.evidence)
            found.append(Signal(signal_id, row.interaction_id, name, round(float(row.score), 6), row.evidence))
    return found
