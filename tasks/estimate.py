"""Unbiased rates from the random part of the batches.

    holdout side: 60 of 402 drawn, 21.0 wrong · other: 60 of 1,214 drawn, 24.3 wrong   ->   0.39, 95% interval 0.31 to 0.48

Only the audit slice enters: its inclusion probabilities were recorded when it was drawn, so a stratified mean is
unbiased for all traffic of the window, whatever the detectors think. `wrong` are posterior probabilities, not hard labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True, slots=True)
class Stratum:
    """`wrong`: P(wrong) of the drawn ones; `window`: how many interactions they were drawn from."""

    wrong: Sequence[float]
    window: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """A share with its 95% interval; `n` counts the labels it rests on. NaN where there is nothing to rest on."""

    value: float
    low: float
    high: float
    n: int


def error_rate(strata: Sequence[Stratum], level: float = 0.95) -> Estimate:
    """Stratified mean with Korn and Graubard's interval.

    The interval is Clopper and Pearson's for the effective number of labels, p (1 - p) / variance, which keeps its
    coverage near 0 and 1 and for small samples, where the normal interval does not (Korn and Graubard, 1998).
    A stratum with traffic but fewer than two labels makes the rate unknown (NaN), not smaller.
    """
    strata = [s for s in strata if s.window > 0]
    n = sum(len(s.wrong) for s in strata)
    if not strata or any(len(s.wrong) < min(2, s.window) for s in strata):
        return Estimate(math.nan, math.nan, math.nan, n)
    total = sum(s.window for s in strata)
    value = sum(s.window / total * float(np.mean(s.wrong)) for s in strata)
    variance = sum((s.window / total) ** 2 * _variance_of_mean(s) for s in strata)
    effective = min(float(n), value * (1 - value) / variance) if variance > 0 and 0 < value < 1 else float(n)
    successes, tail = value * effective, (1 - level) / 2
    low = 0.0 if successes <= 0 else float(stats.beta.ppf(tail, successes, effective - successes + 1))
    high = 1.0 if successes >= effective else float(stats.beta.ppf(1 - tail, successes + 1, effective - successes))
    return Estimate(round(value, 6), round(low, 6), round(high, 6), n)


def _variance_of_mean(stratum: Stratum) -> float:
    """Variance of a mean drawn without replacement; a stratum without variation gets that of one more, opposite label."""
    wrong = np.asarray(stratum.wrong, float)
    n = len(wrong)
    if n >= stratum.window:
        return 0.0
    spread = float(np.var(wrong, ddof=1))
    if spread == 0.0:
        p = (float(wrong.sum()) + 0.5) / (n + 1)
        spread = p * (1 - p)
    return spread / n * (1 - n / stratum.window)


@dataclass(frozen=True, slots=True)
class Precision:
    """How often a detector is right when it fires, and what share of all errors it fires on; with the counts behind it."""

    detector: str
    fired: int
    precision: float
    recall: float


def detector_precision(
    fired: dict[str, set[str]], wrong: dict[str, float], prior: float, strength: float
) -> dict[str, Precision]:
    """Precision and recall of each detector on the audit slice.

    `fired`: detector -> interaction ids; `wrong`: audited interaction id -> P(wrong). Precision is shrunk towards `prior`
    with the weight of `strength` labels, because a detector that fired once is not thereby right for ever.
    """
    errors = sum(wrong.values())
    found = {}
    for detector, ids in sorted(fired.items()):
        hits = [wrong[i] for i in sorted(ids) if i in wrong]
        precision = (sum(hits) + prior * strength) / (len(hits) + strength)
        found[detector] = Precision(
            detector, len(hits), round(precision, 6), round(sum(hits) / errors, 6) if errors else 0.0
        )
    return found
