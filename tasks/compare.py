"""Is the challenger better on the same prompts, by how much, and how sure is that?

    fixed 41, broken 12 of 180  ->  difference +0.161, 95% interval +0.080 to +0.239, p = 0.00008

Prompts of one near-duplicate group stand and fall together, so a group counts once: its net result is what is tested. Interval
and test are one thing: the interval of level 1 - a excludes zero exactly where p < a.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

ANGLES = 91  # ways to divide the uncertainty between the two parts of the interval; more change its fourth digit
SAME = 1e-12  # differences of scores below this are rounding


@dataclass(frozen=True, slots=True)
class Paired:
    """Challenger minus champion over groups: `fixed` and `broken` count those that gained and lost, `difference` in [-1, 1] is
    their mean gain, `low` to `high` its interval. `n` counts rows."""

    n: int
    groups: int
    fixed: int
    broken: int
    difference: float
    low: float
    high: float
    p_value: float


# Nothing was compared, and anything may be true.
NOTHING = Paired(0, 0, 0, 0, 0.0, -1.0, 1.0, 1.0)


def paired(challenger: Sequence[bool], champion: Sequence[bool], groups: Sequence[str], level: float) -> Paired:
    """Right and wrong answers: the exact two-sided McNemar (sign) test over groups, and the interval of their difference.

    Raises ValueError where the three sequences differ in length or are empty: nothing was compared.
    Source: McNemar (1947), exact form.
    """
    return _signs(len(groups), np.sign(_by_group(challenger, champion, groups)), level)


def scored(challenger: Sequence[float], champion: Sequence[float], groups: Sequence[str], level: float) -> Paired:
    """Scores in [0, 1]: Student's paired t over the groups' mean differences, with its own interval.

    Where each group gained all, lost all or stayed, that is right and wrong again, and the test is the exact one.
    """
    mean = _by_group(challenger, champion, groups)
    mean[np.abs(mean) < SAME] = 0
    size = float(np.abs(mean).max())
    if size == 0 or (np.isin(np.abs(mean), (0, size)).all() and (size == 1 or np.ptp(mean) == 0)):
        # All that changed changed by as much: there is no spread to estimate, and the signs are all there is.
        found = _signs(len(groups), np.sign(mean), level)
        return replace(found, **{k: _short(getattr(found, k) * (size or 1.0)) for k in ("difference", "low", "high")})
    test = stats.ttest_1samp(mean, 0.0)
    low, high = test.confidence_interval(level)
    return Paired(
        len(groups), len(mean), int((mean > 0).sum()), int((mean < 0).sum()), _short(mean.mean()),
        _short(max(low, -1.0)), _short(min(high, 1.0)), _short(test.pvalue),
    )  # fmt: skip


def _by_group(challenger: Sequence[float], champion: Sequence[float], groups: Sequence[str]) -> np.ndarray:
    """The mean difference of each group."""
    if not len(challenger) == len(champion) == len(groups) or not groups:
        raise ValueError("compare needs the same rows, and at least one, from both models")
    delta = np.asarray(challenger, float) - np.asarray(champion, float)
    _, member = np.unique(np.asarray(groups), return_inverse=True)
    # In order of size, so that the last digit of a sum does not hang on the order of rows.
    order = np.lexsort((delta, member))
    return np.bincount(member[order], weights=delta[order]) / np.bincount(member)


def _signs(n: int, net: np.ndarray, level: float) -> Paired:
    fixed, broken = int((net > 0).sum()), int((net < 0).sum())
    p_value = stats.binomtest(fixed, fixed + broken, 0.5).pvalue if fixed + broken else 1.0
    low, high = _interval(fixed, broken, len(net), level)
    return Paired(n, len(net), fixed, broken, _short((fixed - broken) / len(net)), _short(low), _short(high), _short(p_value))


def _interval(fixed: int, broken: int, groups: int, level: float) -> tuple[float, float]:
    """The difference is (share of groups that changed) x (how much more of these were fixed than broken). The first has Wilson's
    interval; the second Clopper and Pearson's, which inverts the exact test; their product is bounded by the worst way to divide
    the uncertainty between the two. Where all of it goes to the second, zero is excluded exactly where the test says so.

    Source: Newcombe (2011), Propagating imprecision (PropImp).
    """
    z = stats.norm.ppf((1 + level) / 2)
    angle = np.linspace(0, np.pi / 2, ANGLES)
    changed = fixed + broken
    share_low, share_high = _wilson(changed, groups, z * np.cos(angle))
    tail = stats.norm.sf(z * np.sin(angle))
    low = 2 * stats.beta.ppf(tail, fixed, broken + 1) - 1 if fixed else np.full(ANGLES, -1.0)
    high = 2 * stats.beta.isf(tail, fixed + 1, broken) - 1 if broken else np.full(ANGLES, 1.0)
    return (
        float(np.where(low > 0, share_low * low, share_high * low).min()),
        float(np.where(high > 0, share_high * high, share_low * high).max()),
    )


def _wilson(k: int, n: int, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    share, square = k / n, z**2
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = z * np.sqrt(share * (1 - share) / n + square / (4 * n**2)) / (1 + square / n)
    return np.maximum(middle - half, 0), np.minimum(middle + half, 1)


def _short(value: float) -> float:
    return float(f"{value:.6g}")
