"""Unbiased rates from the random part of the batches.

    holdout side: 60 of 402 drawn, 21.0 wrong · other: 60 of 1,214 drawn, 24.3 wrong   ->   0.39, 95% interval 0.31 to 0.48

Only the audit slice enters: its inclusion probabilities were recorded when it was drawn, so that weighting by their
inverse is unbiased for all traffic of the window, whatever the detectors think. `wrong` are posterior probabilities, not
hard labels. Every rate here is one share, "of those, how many are": of all traffic, the wrong (error rate); of a slice, the
wrong; of what a detector fired on, the wrong (precision); of the wrong, what it fired on (recall).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import stats

LEVEL = 0.95


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


UNKNOWN = Estimate(math.nan, math.nan, math.nan, 0)


@dataclass(frozen=True, slots=True)
class Audited:
    """An interaction of the audit slice with its label. `stratum` names what it was drawn from, `window` that one's size."""

    interaction_id: str
    stratum: str
    window: int
    wrong: float


@dataclass(frozen=True, slots=True)
class _Counted:
    """One stratum's labels: what is counted (`top`) among what (`bottom`, never less), and the size of the stratum."""

    top: np.ndarray
    bottom: np.ndarray
    window: int


def error_rate(strata: Sequence[Stratum], level: float = LEVEL) -> Estimate:
    """Stratified mean of P(wrong) with an interval that covers also where errors are rare or labels few.

    A stratum with traffic but fewer than two labels makes the rate unknown (NaN), not smaller.
    """
    return _share([_Counted(np.asarray(s.wrong, float), np.ones(len(s.wrong)), s.window) for s in strata], level)


def error_rate_in(audited: Sequence[Audited], members: Set[str], level: float = LEVEL) -> Estimate:
    """The error rate of a slice of the traffic, or a detector's precision: among `members`, the share that is wrong."""
    return _among(audited, lambda a: float(a.interaction_id in members), lambda a: a.wrong, level)


def share_of_errors(audited: Sequence[Audited], members: Set[str], level: float = LEVEL) -> Estimate:
    """A detector's recall: of the errors, the share that is in `members`."""
    return _among(audited, lambda a: a.wrong, lambda a: float(a.interaction_id in members), level)


def _among(audited: Sequence[Audited], bottom, top, level: float) -> Estimate:
    strata: dict[str, list[Audited]] = {}
    for a in audited:
        strata.setdefault(a.stratum, []).append(a)
    counted = []
    for _, drawn in sorted(strata.items()):
        below = np.array([bottom(a) for a in drawn])
        counted.append(_Counted(below * np.array([top(a) for a in drawn]), below, drawn[0].window))
    return _share(counted, level)


def _share(strata: Sequence[_Counted], level: float) -> Estimate:
    """Weighted share sum(top) / sum(bottom) over strata drawn at different rates, with Korn and Graubard's interval.

    The interval is Clopper and Pearson's for the effective number of labels, p (1 - p) / variance (Korn and Graubard, 1998);
    the variance is that of a ratio, linearised (Särndal, Swensson and Wretman, 1992, section 5.6). Two things keep its
    coverage where no variance can be seen yet: a stratum without variation gets that of the overall share, and the
    effective number is never above Kish's, which counts the unequal weights alone. Without that cap a well drawn
    stratum without errors vouches for a poorly drawn one (benchmarks/coverage.py).
    """
    strata = [s for s in strata if s.window > 0]
    n = int(sum((s.bottom > 0).sum() for s in strata))
    if not n or any(len(s.top) < min(2, s.window) for s in strata):
        return Estimate(math.nan, math.nan, math.nan, n)
    weights = [s.window / len(s.top) for s in strata]
    total = sum(w * s.bottom.sum() for w, s in zip(weights, strata, strict=True))
    value = float(sum(w * s.top.sum() for w, s in zip(weights, strata, strict=True)) / total)
    variance = sum(_variance(s, value) for s in strata) / total**2
    effective = float(total**2 / sum(w**2 * (s.bottom**2).sum() for w, s in zip(weights, strata, strict=True)))
    if variance > 0 and 0 < value < 1:
        effective = min(effective, value * (1 - value) / variance)
    low, high = _clopper_pearson(value, effective, level)
    return Estimate(round(value, 6), round(min(low, value), 6), round(max(high, value), 6), n)


def _variance(s: _Counted, value: float) -> float:
    """Variance of a stratum's estimated sum of top - value * bottom, drawn without replacement."""
    n = len(s.top)
    if n >= s.window:
        return 0.0
    spread = float(np.var(s.top - value * s.bottom, ddof=1))
    if spread < 1e-12:
        spread = float(s.bottom.mean()) * value * (1 - value)
    return s.window**2 * spread / n * (1 - n / s.window)


def _clopper_pearson(value: float, n: float, level: float) -> tuple[float, float]:
    successes, tail = value * n, (1 - level) / 2
    low = 0.0 if successes <= 0 else float(stats.beta.ppf(tail, successes, n - successes + 1))
    high = 1.0 if successes >= n else float(stats.beta.ppf(1 - tail, successes + 1, n - successes))
    return low, high


@dataclass(frozen=True, slots=True)
class Precision:
    """How often a detector is right when it fires, and what share of all errors it fires on; with the counts behind it."""

    detector: str
    fired: int
    precision: float
    recall: float


def detector_precision(
    fired: Mapping[str, Set[str]], audited: Sequence[Audited], prior: float, strength: float
) -> dict[str, Precision]:
    """Each detector's precision and recall as the selection uses them: weighted, and shrunk while little is known.

    `fired`: detector -> interaction ids. Precision is shrunk towards `prior` with the weight of `strength` labels, because
    a detector that fired once is not thereby right for ever. What is reported to people, with intervals, is `earning`.
    """
    found = {}
    for detector, ids in sorted(fired.items()):
        seen = error_rate_in(audited, ids)
        right = 0.0 if math.isnan(seen.value) else seen.value * seen.n
        n = 0 if math.isnan(seen.value) else seen.n
        recall = share_of_errors(audited, ids).value
        found[detector] = Precision(
            detector,
            n,
            round((right + prior * strength) / (n + strength), 6),
            0.0 if math.isnan(recall) else recall,
        )
    return found


@dataclass(frozen=True, slots=True)
class Change:
    """The difference of two rates (later minus earlier) with its 95% interval and two-sided p-value."""

    difference: float
    low: float
    high: float
    p_value: float


def change(earlier: Estimate, later: Estimate) -> Change:
    """Zou and Donner's interval (MOVER, 2008) for a difference of independent rates, made of the rates' own intervals.

    The p-value is that of the normal deviate whose spread is the interval's side towards zero. NaN where a rate is unknown.
    """
    d = later.value - earlier.value
    down = math.hypot(later.value - later.low, earlier.high - earlier.value)
    up = math.hypot(later.high - later.value, earlier.value - earlier.low)
    towards_zero = down if d > 0 else up
    z = abs(d) * stats.norm.ppf((1 + LEVEL) / 2) / towards_zero if towards_zero > 0 else math.nan
    p = math.nan if math.isnan(d) else 2 * float(stats.norm.sf(z)) if towards_zero > 0 else float(d == 0)
    return Change(round(d, 6), round(d - down, 6), round(d + up, 6), p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values (1979): each claim may be made at alpha though all of them were looked at. NaN stays NaN."""
    known = [i for i, p in enumerate(p_values) if not math.isnan(p)]
    adjusted, running = [math.nan] * len(p_values), 0.0
    for rank, i in enumerate(sorted(known, key=lambda i: p_values[i])):
        running = max(running, min(1.0, p_values[i] * (len(known) - rank)))
        adjusted[i] = running
    return adjusted


@dataclass(frozen=True, slots=True)
class Trend:
    """Each turn against the one before, and the last against the first. `statement` says what all looks together allow."""

    steps: list[Change]
    overall: Change
    statement: str


def trend(estimates: Sequence[Estimate], alpha: float = 0.05) -> Trend | None:
    """What changed over turns, oldest first; unknown rates are passed over. None with fewer than two known ones.

    The statement holds for all comparisons at once (Holm over every step and the overall change).
    """
    known = [e for e in estimates if not math.isnan(e.value)]
    if len(known) < 2:
        return None
    steps = [change(a, b) for a, b in pairwise(known)]
    overall = change(known[0], known[-1]) if len(known) > 2 else steps[0]
    claims = [*steps, overall] if len(known) > 2 else steps
    adjusted = holm([c.p_value for c in claims])
    words = (
        f"{overall.difference:+.1%} since the first of {len(known)} turns ({overall.low:+.1%} to {overall.high:+.1%})"
    )
    way = "fell" if overall.difference < 0 else "rose"
    verdict = f"it {way}" if adjusted[-1] < alpha else "no change is proved"
    jumps = [f"{c.difference:+.1%} at turn {k + 2}" for k, c in enumerate(steps) if adjusted[k] < alpha]
    text = f"{words}: {verdict} (p = {adjusted[-1]:.2g}, adjusted for {len(claims)} comparisons)"
    return Trend(steps, overall, text + (f"; proved steps: {', '.join(jumps)}" if jumps and len(known) > 2 else ""))
