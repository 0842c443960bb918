"""What can be seen in the answer alone."""

from __future__ import annotations

import re

import pandas as pd

from tasks.signals.rows import findings

CUT_OFF = ("length", "max_tokens", "error", "content_filter")
# How assistants decline, in their own words. A rightful refusal fires too: precision is measured, not assumed.
REFUSAL = re.compile(
    r"\b(?:i (?:can ?not|can't|am unable to|'m unable to|am not able to|'m not able to)|i'?m sorry,? but|as an ai"
    r"|(?:is|are) (?:outside|beyond) (?:of )?(?:what|my|our))\b",
    re.IGNORECASE,
)


def broken_answer(exchanges: pd.DataFrame) -> pd.DataFrame:
    """Empty (1.0), cut off (0.9), or a refusal (0.4)."""
    response = exchanges["response"].fillna("").astype(str)
    empty = response.str.strip() == ""
    cut = exchanges["finish_reason"].isin(CUT_OFF)
    refused = response.str.contains(REFUSAL)
    score = (refused * 0.4).where(~cut, 0.9).where(~empty, 1.0)
    evidence = pd.Series("refusal", index=exchanges.index).where(~cut, "cut off").where(~empty, "empty answer")
    return findings(exchanges, score, evidence)
