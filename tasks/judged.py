"""A judge that errs: what its verdicts say about the true error rate, once people have measured how often it errs.

    400 of 2,000 called wrong, sensitivity 70 of 80, specificity 190 of 200   ->   0.18, 95% interval 0.14 to 0.23

Corrected is the rate, never the single verdict. Without enough human labels beside the judge's there is no estimate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import stats

from tasks.estimate import LEVEL, Estimate

MIN_LABELS = 20  # human labels of either kind below which a judge counts as uncalibrated
# SQL: whether a judge sees an interaction at random, whatever anybody thinks of it. Its id alone decides, so that the sample is
# known for ever; `{share}` of all traffic.
DRAWN = "('0x' || left(sha256(interaction_id), 8))::UBIGINT < {share} * 4294967296"


@dataclass(frozen=True, slots=True)
class LLMJudgeParams:
    """`model` '' is no judge. Prices are USD per million tokens; `max_usd` bounds a run. `min_labels` of right and of wrong
    answers each, from people, beside its opinions make a judge calibrated; `random_share` of all traffic it sees at random.
    """

    model: str
    max_items: int
    max_usd: float
    usd_in: float
    usd_out: float
    timeout_s: float
    retries: int
    min_labels: int
    random_share: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """A judge beside people, on randomly drawn interactions: it `caught` some of the `wrong`, it `passed` some of the `right`."""

    caught: int
    wrong: int
    passed: int
    right: int


def corrected_rate(
    called_wrong: int, judged: int, calibration: Calibration, min_labels: int = MIN_LABELS, level: float = LEVEL
) -> Estimate:
    """Rogan and Gladen's estimate (1978) with Lang and Reiczigel's interval (2014).

    The interval holds the uncertainty of sensitivity and specificity besides that of the verdicts. NaN where the judge is
    uncalibrated: fewer than `min_labels` labels of either kind, or not shown to tell wrong from right at all.
    """
    c = calibration
    unknown = Estimate(math.nan, math.nan, math.nan, c.wrong + c.right)
    if judged <= 0 or min(c.wrong, c.right) < min_labels:
        return unknown
    z = float(stats.norm.ppf((1 + level) / 2))
    # A little is added to every count, as Agresti and Coull do, so that 0 and 1 have a spread too.
    n, n_caught, n_passed = judged + z**2, c.wrong + 2, c.right + 2
    called = (called_wrong + z**2 / 2) / n
    sensitivity, specificity = (c.caught + 1) / n_caught, (c.passed + 1) / n_passed
    of_caught = sensitivity * (1 - sensitivity) / n_caught
    of_passed = specificity * (1 - specificity) / n_passed
    told_apart = sensitivity + specificity - 1
    if told_apart - z * math.sqrt(of_caught + of_passed) <= 0:
        return unknown
    rate = (called + specificity - 1) / told_apart
    spread = math.sqrt(called * (1 - called) / n + rate**2 * of_caught + (1 - rate) ** 2 * of_passed) / told_apart
    shift = 2 * z**2 * (rate * of_caught - (1 - rate) * of_passed)
    plain = (called_wrong / judged + c.passed / c.right - 1) / (c.caught / c.wrong + c.passed / c.right - 1)
    value, low, high = (min(1.0, max(0.0, x)) for x in (plain, rate + shift - z * spread, rate + shift + z * spread))
    return Estimate(round(value, 6), round(min(low, value), 6), round(max(high, value), 6), c.wrong + c.right)
