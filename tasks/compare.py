"""Is the challenger better on the same prompts, and is anything that matters worse?

    fixed 41, broken 12 of 180  ->  difference +0.161, 95% interval +0.083 to +0.239, p = 0.00008

Prompts of one near-duplicate group stand and fall together, so a group counts once: its net result is what is tested.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

RESAMPLES = 4000


@dataclass(frozen=True, slots=True)
class Paired:
    """Challenger minus champion. `fixed` and `broken` count groups; `difference` is over rows, in [-1, 1]."""

    n: int
    groups: int
    fixed: int
    broken: int
    difference: float
    low: float
    high: float
    p_value: float


def paired(challenger: Sequence[bool], champion: Sequence[bool], groups: Sequence[str], level: float) -> Paired:
    """Exact two-sided McNemar (sign) test over groups, and a bootstrap interval of the mean difference over groups.

    Raises ValueError where the three sequences differ in length or are empty: nothing was compared.
    Source: McNemar (1947), exact form; percentile bootstrap over clusters, Davison and Hinkley (1997).
    """
    if not len(challenger) == len(champion) == len(groups) or not groups:
        raise ValueError("compare needs the same rows, and at least one, from both models")
    delta = np.asarray(challenger, int) - np.asarray(champion, int)
    _, member = np.unique(np.asarray(groups), return_inverse=True)
    net = np.bincount(member, weights=delta)
    size = np.bincount(member)
    fixed, broken = int((net > 0).sum()), int((net < 0).sum())
    p_value = stats.binomtest(fixed, fixed + broken, 0.5).pvalue if fixed + broken else 1.0
    if len(net) > 1 and net.any():
        interval = stats.bootstrap(
            (net, size),
            lambda d, s, axis: d.sum(axis=axis) / s.sum(axis=axis),
            paired=True,
            n_resamples=RESAMPLES,
            confidence_level=level,
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
        low, high = float(interval.low), float(interval.high)
    else:
        low = high = float(delta.mean())
    return Paired(
        len(delta),
        len(net),
        fixed,
        broken,
        round(float(delta.mean()), 6),
        round(low, 6),
        round(high, 6),
        float(f"{p_value:.6g}"),
    )
