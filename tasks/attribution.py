"""Which data helped? The model without a group of rows, against the model with them, on the same sealed prompts.

    rows that annotator g answered (61): right +0.011 (-0.004 to +0.026), probability of the right answer -0.008, p = .002 of 18
    ->  Attributed(by="annotator", group="g", rows=61, probability=-0.008, band=(-0.001, +0.006), verdict="hurt")

A positive effect: with the group the model is better. Whether an answer is right changes in few prompts, so what is tested is the
probability that the model gives the right answer, which changes in all. Any rows help a little: "helped" is more than random rows
of that number would. How the model is fitted again is the caller's (`Refit`): exactly for the light policies
(tasks/attribution_light.py), about for language models (tasks/attribution_llm.py); a policy that has no such way is told with
`method` "none".
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from tasks.compare import paired
from tasks.hygiene.lots import lot

HELPED, HURT, ORDINARY = "helped", "hurt", "ordinary"
FLIPS = 9_999
MOST_SHARE = 0.9  # of all rows: to leave out more asks what training is worth, not which data
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class AttributeParams:
    """`groups`: the largest of each dimension, of `least_rows` or more; `controls`: random groups beside them; `alpha`: false
    discovery rate over all groups; `key` draws the controls."""

    groups: int
    least_rows: int
    controls: int
    alpha: float
    key: str


@dataclass(frozen=True, slots=True)
class Answers:
    """A model's answers to the sealed prompts: whether each is right (None: nobody asked it), and the probability that it gave the
    right one, or what stands for it."""

    right: np.ndarray | None
    probability: np.ndarray


Refit = Callable[[Collection[str]], Answers]  # ids of rows to leave out -> what the model without them answers


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that have something in common: `value` of the dimension `by`."""

    by: str
    value: str
    rows: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributed:
    """What a group did. `effect` is on right answers (in [-1, 1], with a 95% interval `low` to `high`; None where no model was
    asked), `probability` on the mean probability of the right one; `p` the sign-flip test of the latter, `p_adjusted` for all
    groups (Benjamini and Hochberg). `band_low` to `band_high` is what random rows of that number would do, `excess` how many of
    its standard deviations the group lies above its middle."""

    by: str
    group: str
    rows: int
    effect: float | None
    low: float | None
    high: float | None
    probability: float
    p: float
    p_adjusted: float
    band_low: float
    band_high: float
    excess: float
    verdict: str


def groups(
    dimensions: Mapping[str, Mapping[str, Collection[str]]], every: Collection[str], params: AttributeParams
) -> list[Group]:
    """The largest groups of each dimension {by: {value: ids of rows}}, none that is nearly all rows; the same rows once."""
    found: dict[frozenset[str], Group] = {}
    for by, values in dimensions.items():
        of = [Group(by, value, frozenset(rows)) for value, rows in values.items() if value]
        fit = [g for g in of if params.least_rows <= len(g.rows) <= MOST_SHARE * len(every)]
        for group in sorted(fit, key=lambda g: (-len(g.rows), g.value))[: params.groups]:
            found.setdefault(group.rows, group)
    return list(found.values())


def attribute(
    refit: Refit, chosen: Sequence[Group], every: Collection[str], prompts: Sequence[str], params: AttributeParams
) -> list[Attributed]:
    """The effect of each group, the most helpful beyond chance first. `every`: the ids of all rows; `prompts`: the group of
    near-duplicates of each sealed prompt, which counts once. Fits `len(chosen) + params.controls` models and the whole one."""
    if not chosen or not prompts:
        return []
    whole = refit(frozenset())
    without = [refit(g.rows) for g in chosen]
    controls = _controls(every, int(np.median([len(g.rows) for g in chosen])), params)
    usual = _Usual(
        len(every), [len(c) for c in controls], [_gain(whole, refit(c)) for c in controls]
    )  # what random rows do: once, for all groups
    p = [_sign_flips(whole.probability - w.probability, prompts) for w in without]
    adjusted = stats.false_discovery_control(p)
    made = [
        _attributed(g, whole, w, prompts, p_value, float(q), usual, params)
        for g, w, p_value, q in zip(chosen, without, p, adjusted, strict=True)
    ]
    return sorted(made, key=lambda a: (-a.excess, a.by, a.group))


def _controls(every: Collection[str], size: int, params: AttributeParams) -> list[frozenset[str]]:
    """Random groups, half of them smaller and half larger than the groups usually are."""
    ids = sorted(every)
    made = []
    for k in range(params.controls):
        n = int(np.clip(size * (0.5 + (k + 0.5) / max(params.controls, 1)), 1, MOST_SHARE * len(ids)))
        made.append(frozenset(ids[i] for i in np.argsort(lot(ids, f"{params.key}/{k}"), kind="stable")[:n]))
    return made


class _Usual:
    """What random groups do: an effect that grows with their rows, and scatters with the root of them.

    Rows add up, nearly; so of m among n rows the mean is m times that of a row, and the variance m (1 - m / n) times.
    """

    def __init__(self, rows: int, sizes: Sequence[int], gains: Sequence[float]):
        self._rows, self._degrees = rows, len(gains) - 1
        m, gain = np.array(sizes, float), np.array(gains)
        self._mean = float(gain.sum() / m.sum()) if len(m) else 0.0
        parted = (gain - self._mean * m) / np.sqrt(self._scatter(m)) if len(m) else gain
        self._deviation = float(np.sqrt((parted**2).sum() / self._degrees)) if self._degrees > 0 else float("nan")

    def middle(self, rows: int) -> float:
        return self._mean * rows

    def deviation(self, rows: int) -> float:
        return float(self._deviation * np.sqrt(self._scatter(np.array(float(rows)))))

    def band(self, rows: int) -> tuple[float, float]:
        """Where 95% of random groups of so many rows lie: of one more, so a t distribution."""
        wide = stats.t.ppf(0.5 + LEVEL / 2, self._degrees) * self.deviation(rows) * np.sqrt(1 + 1 / (self._degrees + 1))
        return self.middle(rows) - float(wide), self.middle(rows) + float(wide)

    def _scatter(self, m: np.ndarray) -> np.ndarray:
        return m * (1 - m / self._rows)


def _attributed(
    group: Group, whole: Answers, without: Answers, prompts: Sequence[str], p: float, adjusted: float, usual: _Usual,
    params: AttributeParams,
) -> Attributed:  # fmt: skip
    right = None
    if whole.right is not None and without.right is not None:
        right = paired(whole.right.tolist(), without.right.tolist(), prompts, LEVEL)
    gain, rows = _gain(whole, without), len(group.rows)
    low, high = usual.band(rows)
    sure = adjusted < params.alpha
    verdict = HELPED if sure and gain > max(0.0, high) else HURT if sure and gain < min(0.0, low) else ORDINARY
    return Attributed(
        by=group.by, group=group.value, rows=rows, effect=right and right.difference, low=right and right.low,
        high=right and right.high, probability=round(gain, 6), p=round(p, 6), p_adjusted=round(adjusted, 6),
        band_low=round(low, 6), band_high=round(high, 6),
        excess=round((gain - usual.middle(rows)) / max(usual.deviation(rows), 1e-9), 3), verdict=verdict,
    )  # fmt: skip


def _gain(whole: Answers, without: Answers) -> float:
    return float((whole.probability - without.probability).mean())


def _sign_flips(difference: np.ndarray, prompts: Sequence[str]) -> float:
    """Two-sided test that a mean is 0, by flipping signs of whole groups of prompts (Fisher's randomisation test)."""
    _, member = np.unique(np.asarray(prompts), return_inverse=True)
    net = np.bincount(member, weights=difference)
    flips = np.random.default_rng(0).choice(np.array([-1.0, 1.0]), (FLIPS, len(net)))
    return float((1 + (np.abs(flips @ net) >= abs(net.sum()) - 1e-12).sum()) / (1 + FLIPS))
