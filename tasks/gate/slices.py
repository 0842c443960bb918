"""Is any slice of the traffic worse, though the whole is better? Each slice is tested; Holm corrects for their number.

    topic billing   1 fixed, 19 broken of 60, p = .00004, of 14 slices  ->  adjusted .0006: worse

A slice in which so few answers changed that even losing them all would prove nothing is not tested, and costs the others nothing.

Sources: Holm (1979), A simple sequentially rejective multiple test procedure, which holds however the slices overlap; Tarone
(1990), A modified Bonferroni method for discrete data, for what is not tested: the exact test is conditional on how many changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.compare import Paired, paired
from tasks.gate.params import JudgeParams
from tasks.gate.rows import HOLDOUT, Compared
from tasks.gate.told import told


@dataclass(frozen=True, slots=True)
class Slice:
    """`adjusted` is the p-value corrected for all slices that were `tested`, 1 where it was not."""

    compared: Paired
    tested: bool
    adjusted: float
    worse: bool


def slices(rows: Sequence[Compared], params: JudgeParams) -> dict[str, Slice]:
    """Every slice of the holdout of `judge.slice_rows` groups or more, 'topic billing' for instance. A value that all rows have
    is no slice; of two slices of the same rows the first counts."""
    holdout = [r for r in rows if r.part == HOLDOUT]
    found: dict[str, Paired] = {}
    seen: set[tuple[int, ...]] = {tuple(range(len(holdout)))}
    for column in params.slices:
        values: dict[str, list[int]] = {}
        for place, r in enumerate(holdout):
            values.setdefault(getattr(r, column), []).append(place)
        for value, places in sorted(values.items()):
            inside = [holdout[k] for k in places]
            if not value or tuple(places) in seen or len({r.group_id for r in inside}) < params.slice_rows:
                continue
            seen.add(tuple(places))
            new, old = [r.challenger_right for r in inside], [r.champion_right for r in inside]
            found[f"{column} {value}"] = paired(new, old, [r.group_id for r in inside], 1 - params.alpha)
    testable = _testable(found, params.slice_alpha)
    adjusted = dict(zip(testable, holm([found[name].p_value for name in testable]), strict=True))
    return {
        name: Slice(c, name in adjusted, p := adjusted.get(name, 1.0), c.broken > c.fixed and p < params.slice_alpha)
        for name, c in found.items()
    }


def worse(found: dict[str, Slice], params: JudgeParams) -> list[str]:
    """Why these slices refuse."""
    tested = sum(s.tested for s in found.values())
    return [
        f"{name}: worse, {told(s.compared, 1 - params.alpha)}, {s.adjusted:.2g} after correction for {tested} slices"
        for name, s in found.items()
        if s.worse
    ]


def _testable(found: dict[str, Paired], alpha: float) -> list[str]:
    """Those whose smallest possible p-value, all changes being losses, survives the correction for their own number."""
    least = {name: 2.0 ** (1 - c.fixed - c.broken) for name, c in found.items()}
    number = 1
    while sum(p <= alpha / number for p in least.values()) > number:
        number += 1
    return [name for name, p in least.items() if p <= alpha / number]


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the same order."""
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(np.minimum(p[order] * np.arange(len(p), 0, -1), 1.0)) if len(p) else p
    adjusted = np.empty_like(p)
    adjusted[order] = steps
    return [float(f"{x:.6g}") for x in adjusted]
