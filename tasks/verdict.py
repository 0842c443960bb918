"""The gate's decision: promote only on evidence; refuse on harm and on anything missing; otherwise inconclusive.

fixed 41, broken 12 of 180, p = .0001, no guard breached     ->  promote
fixed 9, broken 31 of 180, p = .0007                         ->  refuse
fixed 20, broken 17 of 180, p = .74                          ->  inconclusive
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.compare import Paired, paired

PROMOTE, REFUSE, INCONCLUSIVE = "promote", "refuse", "inconclusive"


@dataclass(frozen=True, slots=True)
class JudgeParams:
    alpha: float
    guard_alpha: float
    min_rows: int
    guard_kinds: list[str]
    guard_signals: list[str]


# Where a row comes from. Only rows of the holdout decide whether a challenger is better; all others can only refuse it.
HOLDOUT, REGRESSION, ANCHOR = "holdout", "regression", "anchor"
TRIGGER, SYCOPHANCY = "trigger", "sycophancy"  # probes: the prompt was changed, and the right answer was not


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One prompt and what both models made of it: a row of the evaluation, and all that the gate looks at.

    `part` is where the prompt comes from (above), `audit` whether the unbiased audit of traffic drew it; `kind`, `topic`,
    `language` and `cluster` (of failures, '' for none) are its slices. `…_scores` maps a metric of tasks/scores to [0, 1], higher
    is better; a metric that does not apply to the row is absent from both.
    """

    example_id: str
    group_id: str
    part: str
    audit: bool
    kind: str
    topic: str
    language: str
    cluster: str
    target: str
    champion: str
    challenger: str
    champion_right: bool
    challenger_right: bool
    champion_confidence: float
    challenger_confidence: float
    champion_signals: list
    challenger_signals: list
    champion_scores: dict
    challenger_scores: dict


@dataclass(frozen=True, slots=True)
class Verdict:
    """`guards` maps a guard's name to its comparison, oriented so that a negative difference is harm."""

    decision: str
    reasons: list[str]
    primary: Paired
    guards: dict[str, Paired]


def decide(rows: Sequence[Compared], params: JudgeParams) -> Verdict:
    """Compare on the same prompts and decide. Raises ValueError where there is nothing to compare."""
    primary = _compare(rows, lambda r: r.challenger_right, lambda r: r.champion_right, params.alpha)
    guards = {}
    for kind in params.guard_kinds:
        inside = [r for r in rows if r.kind == kind]
        if inside:
            guards[f"right where {kind} is due"] = _compare(
                inside, lambda r: r.challenger_right, lambda r: r.champion_right, params.guard_alpha
            )
    for name in params.guard_signals:
        guards[f"free of {name}"] = _compare(
            rows,
            lambda r, name=name: name not in r.challenger_signals,
            lambda r, name=name: name not in r.champion_signals,
            params.guard_alpha,
        )
    harm, lack = [], []
    for name, g in {"right answers": primary, **guards}.items():
        if not all(math.isfinite(v) for v in (g.difference, g.low, g.high, g.p_value)):
            harm.append(f"{name}: not a finite number")
    for name, g in guards.items():
        if g.broken > g.fixed and g.p_value < params.guard_alpha:
            harm.append(f"{name}: worse, {_told(g)}")
    if primary.n < params.min_rows:
        lack.append(f"only {primary.n} holdout prompts; {params.min_rows} are needed")
    if primary.broken > primary.fixed and primary.p_value < params.alpha:
        harm.append(f"right answers: worse, {_told(primary)}")
    elif not (primary.fixed > primary.broken and primary.p_value < params.alpha):
        lack.append(f"right answers: no evidence of a difference, {_told(primary)}")
    if harm:
        return Verdict(REFUSE, harm, primary, guards)
    if lack:
        return Verdict(INCONCLUSIVE, lack, primary, guards)
    return Verdict(PROMOTE, [f"right answers: better, {_told(primary)}; no guard breached"], primary, guards)


def _compare(rows: Sequence[Compared], new, old, alpha: float) -> Paired:
    return paired([new(r) for r in rows], [old(r) for r in rows], [r.group_id for r in rows], 1 - alpha)


def _told(g: Paired) -> str:
    return (
        f"fixed {g.fixed}, broken {g.broken} of {g.n}; difference {g.difference:+.3f} ({g.low:+.3f} to {g.high:+.3f}),"
        f" p = {g.p_value:.2g}"
    )
