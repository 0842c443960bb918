"""What a comparison could have seen, and how many prompts it takes to see more.

    180 prompts, 37 of them changed, level 0.05  ->  a gain of 9.3 points is found with 80% probability
    a true gain of 3 points                      ->  1,780 prompts

Source: Connor (1987), Sample size for testing differences in proportions for the paired-sample design, Biometrics 43.
"""

from __future__ import annotations

import math

from scipy import stats
from scipy.optimize import brentq

POWER = 0.8


def needed(difference: float, changed: float, level: float, power: float = POWER) -> int:
    """Groups from which a true `difference` > 0 is found at two-sided `level` with probability `power`, where `changed` is the
    share of groups in which the two models differ (at least the difference itself)."""
    return math.ceil(_groups(difference, changed, level, power))


def detectable(groups: int, changed: float, level: float, power: float = POWER) -> float:
    """The least true difference that so many groups find with probability `power`. More changes than `changed` are assumed where
    no smaller number could make a difference that is found."""
    if needed(1.0, 1.0, level, power) > groups:
        return 1.0
    return brentq(lambda d: _groups(d, changed, level, power) - groups, 1e-6, 1.0)


def to_show(margin: float, changed: float, level: float, power: float = POWER) -> int:
    """Groups from which two equal models are shown to differ by less than `margin` with probability `power`: the usual formula,
    and what the exact interval takes even of no change (measured: 73% to 83% for margins of .02 to .1, 2% to 20% changed)."""
    z = stats.norm.isf(level / 2)
    return could_show(margin, level) + math.ceil(changed * ((z + stats.norm.ppf(power)) / margin) ** 2)


def could_show(margin: float, level: float) -> int:
    """Groups from which a `margin` > 0 can be shown at all, even if nothing changed in any of them: Wilson's upper bound of no
    changes is below the margin."""
    return math.floor(stats.norm.isf(level / 2) ** 2 * (1 - margin) / margin) + 1


def _groups(difference: float, changed: float, level: float, power: float) -> float:
    changed = max(changed, difference)
    z, z_power = stats.norm.isf(level / 2), stats.norm.ppf(power)
    return ((z * math.sqrt(changed) + z_power * math.sqrt(changed - difference**2)) / difference) ** 2
