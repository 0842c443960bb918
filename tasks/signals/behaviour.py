"""What users did instead of saying it: ask again, ask for a person, or repair the answer."""

from __future__ import annotations

import numpy as np
import orjson
import pandas as pd
from sklearn.feature_extraction.text import HashingVectorizer

from tasks.signals.rows import findings

SOON_S = 15 * 60
LIKE_BEFORE = 0.3  # below it a next question is a new question


def rephrased(exchanges: pd.DataFrame) -> pd.DataFrame:
    """The next question of the session came soon and is about the same thing.

    The same thing: similar wording (cosine of character n-grams), or the retriever found the same documents for it.
    """
    next_question = exchanges["next_question"].fillna("").astype(str)
    again = (next_question != "") & (exchanges["next_after_s"].fillna(np.inf).astype(float) <= SOON_S)
    if not again.any():
        return findings(exchanges, again.astype(float), next_question)
    grams = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 4), alternate_sign=False)
    wording = grams.transform(exchanges["question"].fillna("")).multiply(grams.transform(next_question)).sum(axis=1)
    documents = [_overlap(a, b) for a, b in zip(exchanges["contexts"], exchanges["next_contexts"], strict=True)]
    alike = pd.Series(np.maximum(np.asarray(wording).ravel(), documents), index=exchanges.index)
    return findings(exchanges, alike.where(again, 0.0), "asked again: " + next_question, LIKE_BEFORE)


def escalated_or_edited(exchanges: pd.DataFrame) -> pd.DataFrame:
    """The user asked for a person, or somebody replaced the answer."""
    edited = exchanges["edit"].notna()
    escalated = exchanges["escalation"].eq(True)
    evidence = pd.Series("asked for a person", index=exchanges.index)
    evidence = evidence.where(~edited, "replaced by: " + exchanges["edit"].fillna("").astype(str))
    return findings(exchanges, (edited | escalated).astype(float), evidence)


def _overlap(left: object, right: object) -> float:
    """Jaccard overlap of the ids of two JSON lists of retrieved documents."""
    a, b = (_ids(c) for c in (left, right))
    return len(a & b) / len(a | b) if a and b else 0.0


def _ids(contexts: object) -> set[str]:
    return {d["id"] for d in orjson.loads(contexts)} if isinstance(contexts, str) else set()
