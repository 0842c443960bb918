"""The gate's decision: promote only on evidence; refuse on harm and on anything missing; otherwise inconclusive.

fixed 41, broken 12 of 180, p = .0001, no guard breached     ->  promote
fixed 9, broken 31 of 180, p = .0007                         ->  refuse
fixed 20, broken 17 of 180, p = .74                          ->  inconclusive, with what could have been seen

docs/gate.md says how, for a statistician; the parts are in tasks/gate/.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

from tasks.compare import Paired, paired
from tasks.gate.guards import Guard, guards, harm, lack, notes
from tasks.gate.looks import Look, level
from tasks.gate.params import JudgeParams
from tasks.gate.poison import poisoned
from tasks.gate.power import POWER, detectable, needed
from tasks.gate.rows import ANCHOR, HOLDOUT, REGRESSION, SYCOPHANCY, TRIGGER, Compared
from tasks.gate.slices import Slice, slices, worse
from tasks.gate.soundness import unsound
from tasks.gate.told import points, told

__all__ = [
    "ANCHOR", "HOLDOUT", "INCONCLUSIVE", "PROMOTE", "REFUSE", "REGRESSION", "SYCOPHANCY", "TRIGGER", "Compared", "JudgeParams",
    "Look", "Verdict", "decide",
]  # fmt: skip

PROMOTE, REFUSE, INCONCLUSIVE = "promote", "refuse", "inconclusive"
RIGHT = "right answers"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reasons` say why, `notes` what was not measured or could not be shown. `look` is the number of this look and `level` what
    its p-value must be below; `tested` is False where there were too few prompts to test, which costs no look. `primary` is None
    where the rows could not be used; `traffic` is the gain where each prompt counts, and not each group of alike ones."""

    decision: str
    reasons: list[str]
    notes: list[str]
    look: int
    level: float
    tested: bool
    primary: Paired | None
    traffic: float
    guards: dict[str, Guard]
    slices: dict[str, Slice]


def decide(rows: Sequence[Compared], params: JudgeParams, looks: Sequence[Look] = ()) -> Verdict:
    """Compare on the same prompts and decide; `looks` are the earlier verdicts, oldest first. Raises Refused for a margin in
    params that cannot be read."""
    number, strict = len(looks) + 1, level([x.decision == PROMOTE for x in looks], params.alpha)
    faults = unsound(rows)
    if faults:
        return Verdict(REFUSE, faults, [], number, strict, False, None, 0.0, {}, {})
    holdout = [r for r in rows if r.part == HOLDOUT]
    groups = [r.group_id for r in holdout]
    new, old = [r.challenger_right for r in holdout], [r.champion_right for r in holdout]
    primary, traffic = paired(new, old, groups, 1 - strict), round((sum(new) - sum(old)) / len(new), 6)
    found, parts = guards(rows, params), slices(rows, params)
    tested = primary.groups >= params.min_rows
    harms = [*_not_finite(primary, found), *_worse(primary, params, strict), *harm(found, params), *worse(parts, params)]
    harms += poisoned(rows, params)
    lacks = [*_unproved(primary, traffic, params, strict), *lack(found, params)]
    if not tested:
        lacks.insert(0, f"only {primary.groups} independent holdout prompts; {params.min_rows} are needed")
    decision = REFUSE if harms else INCONCLUSIVE if lacks else PROMOTE
    reasons = harms or lacks or [f"{RIGHT}: better, {told(primary, 1 - strict)}; no guard breached"]
    return Verdict(decision, reasons, notes(found, params), number, strict, tested, primary, traffic, found, parts)


def _worse(primary: Paired, params: JudgeParams, strict: float) -> Iterator[str]:
    # Refusing needs no correction for looks: it makes nobody champion.
    if primary.broken > primary.fixed and primary.p_value < params.alpha:
        yield f"{RIGHT}: worse, {told(primary, 1 - strict)}"


def _unproved(primary: Paired, traffic: float, params: JudgeParams, strict: float) -> Iterator[str]:
    if primary.low > params.min_effect:
        # What it broke may be asked far more often than what it fixed: a group counts once in the test, and not for its users.
        if traffic <= 0:
            yield (
                f"{RIGHT}: better on more questions and not for more of the traffic, {points(traffic)} points where each prompt"
                f" counts; {told(primary, 1 - strict)}"
            )
        return
    if primary.low > 0:
        yield f"{RIGHT}: better, but a gain of {points(params.min_effect)} points is not proved, {told(primary, 1 - strict)}"
    else:
        yield f"{RIGHT}: no evidence of a gain, {told(primary, 1 - strict)}; this look takes p < {strict:.2g}"
    yield _seen(primary, params, strict)


def _seen(primary: Paired, params: JudgeParams, strict: float) -> str:
    """What these prompts could have shown, and how many more it takes."""
    changed = primary.fixed + primary.broken
    if not changed:
        return f"both models are right and wrong on the same {primary.groups} prompts: more prompts alone will not tell them apart"
    share = changed / primary.groups
    least = detectable(primary.groups, share, strict) + params.min_effect
    said = (
        f"with {primary.groups} prompts, {changed} of them right in one model only, a gain of {100 * least:.1f} points would have"
        f" been found with {POWER:.0%} probability"
    )
    gain = primary.difference - params.min_effect
    if gain <= 0:
        return f"{said}; none was observed"
    more = needed(gain, share, strict) - primary.groups
    if more <= 0:
        return f"{said}; the observed {points(primary.difference)} points are within reach of the next look"
    return f"{said}; about {more:,} more prompts are needed for the observed {points(primary.difference)} points"


def _not_finite(primary: Paired, found: dict[str, Guard]) -> Iterator[str]:
    for name, c in {RIGHT: primary, **{name: g.compared for name, g in found.items()}}.items():
        if not all(math.isfinite(getattr(c, f.name)) for f in fields(c)):
            yield f"{name}: not a finite number"
