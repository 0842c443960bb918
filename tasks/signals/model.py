"""What the models themselves think of the answer: the policy's confidence, and the reward model's opinion."""

from __future__ import annotations

import pandas as pd

from tasks.signals.rows import findings

DOUBT = 0.3


def low_confidence(exchanges: pd.DataFrame) -> pd.DataFrame:
    """One minus the policy's calibrated probability of its own answer."""
    doubt = 1.0 - pd.to_numeric(exchanges["confidence"])
    return findings(exchanges, doubt, "confidence " + (1.0 - doubt).map("{:.2f}".format).astype(str), DOUBT)


def low_reward(exchanges: pd.DataFrame) -> pd.DataFrame:
    """The reward model's probability that a typical rejected answer would have been as good (column `reward`, 0 to 1)."""
    doubt = 1.0 - pd.to_numeric(exchanges["reward"])
    return findings(exchanges, doubt, "reward " + (1.0 - doubt).map("{:.2f}".format).astype(str), DOUBT)
