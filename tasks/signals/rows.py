"""How a detector hands over its findings."""

from __future__ import annotations

import pandas as pd


def findings(exchanges: pd.DataFrame, score: pd.Series, evidence: pd.Series, at_least: float = 0.0) -> pd.DataFrame:
    """The rows of `exchanges` whose score is above `at_least` (NaN never is), as interaction_id, score, evidence."""
    score = pd.to_numeric(score)
    seen = score > at_least
    return pd.DataFrame(
        {
            "interaction_id": exchanges["interaction_id"][seen],
            "score": score[seen].clip(0, 1),
            "evidence": evidence[seen].astype("object"),
        }
    )
