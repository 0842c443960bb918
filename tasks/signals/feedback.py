"""What users said outright."""

from __future__ import annotations

import pandas as pd

from tasks.signals.rows import findings


def negative_feedback(exchanges: pd.DataFrame) -> pd.DataFrame:
    """A thumb down (1.0); a comment without a thumb (0.5: people who write are more often unhappy than not)."""
    down = exchanges["thumb"].eq(False)
    commented = exchanges["comment"].notna() & exchanges["thumb"].isna()
    score = down.astype(float).where(down, commented * 0.5)
    evidence = pd.Series("thumb down", index=exchanges.index).where(down, "comment")
    comment = exchanges["comment"].fillna("").astype(str)
    return findings(exchanges, score, evidence.where(comment == "", evidence + ": " + comment))
