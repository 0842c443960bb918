"""Which detectors earn their place: precision, recall and lift with intervals, and a verdict that statistics support.

    rephrased   fired 212   precision .61 (.47 to .74)   recall .33 (.24 to .43)   lift 1.9 (1.5 to 2.5)   earns

A detector earns its place when what it fires on is wrong more often than what it does not fire on; many detectors are
looked at, so the claim is adjusted for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from tasks.estimate import LEVEL, Audited, Change, Estimate, change, error_rate_in, holm, share_of_errors

EARNS, STOPPED, WORTHLESS, UNPROVEN = "earns", "stopped", "worthless", "unproven"


@dataclass(frozen=True, slots=True)
class EarningParams:
    alpha: float
    min_lift: float
    recent_turns: int


@dataclass(frozen=True, slots=True)
class Earning:
    """A detector on the audits of the recent turns. `fired` counts what it fired on in their windows, labelled or not.

    `lift` is precision over the error rate of all traffic. `verdict`: 'earns' (beats the rest, proved), 'stopped' (did so
    before, is proved worse since, and no longer does), 'worthless' (its lift is proved below `min_lift`), or 'unproven'.
    """

    detector: str
    fired: int
    precision: Estimate
    recall: Estimate
    lift: Estimate
    p_value: float
    verdict: str


@dataclass(frozen=True, slots=True)
class Turn:
    """One audited turn: its labels, the size of its window, and what each detector fired on in that window."""

    audited: Sequence[Audited]
    window: int
    fired: Mapping[str, Set[str]]


def earning(turns: Sequence[Turn], params: EarningParams) -> list[Earning]:
    """Judge each detector on the last `recent_turns` audited turns (oldest first); earlier ones tell what it did before."""
    answered = [t for t in turns if t.audited]
    recent, before = answered[-params.recent_turns :], answered[: -params.recent_turns]
    names = sorted({d for t in answered for d in t.fired})
    p_values, past = (holm([_one_sided(_gain(part, d)) for d in names]) for part in (recent, before))
    found = []
    for d, p, earned in zip(names, p_values, past, strict=True):
        ids = _fired(recent, d)
        precision = error_rate_in(_audited(recent), ids)
        fell = change(error_rate_in(_audited(before), _fired(before, d)), precision)
        # Worthless is a claim too: its limit is adjusted for the number of detectors (Bonferroni).
        ceiling = _lift(recent, d, 1 - 2 * params.alpha / len(names)).high
        if p < params.alpha:
            verdict = EARNS
        elif earned < params.alpha and fell.high < 0:
            verdict = STOPPED
        elif ceiling < params.min_lift:
            verdict = WORTHLESS
        else:
            verdict = UNPROVEN
        recall = share_of_errors(_audited(recent), ids)
        found.append(Earning(d, len(ids), precision, recall, _lift(recent, d), round(p, 6), verdict))
    return found


def _audited(turns: Sequence[Turn]) -> list[Audited]:
    return [a for t in turns for a in t.audited]


def _fired(turns: Sequence[Turn], detector: str) -> set[str]:
    return {i for t in turns for i in t.fired.get(detector, ())}


def _gain(turns: Sequence[Turn], detector: str) -> Change:
    """How much more often wrong: what the detector fired on, against what it did not."""
    audited, ids = _audited(turns), _fired(turns, detector)
    rest = {a.interaction_id for a in audited} - ids
    return change(error_rate_in(audited, rest), error_rate_in(audited, ids))


def _one_sided(gain: Change) -> float:
    return gain.p_value / 2 if gain.difference > 0 else 1 - gain.p_value / 2


def _lift(turns: Sequence[Turn], detector: str, level: float = LEVEL) -> Estimate:
    """Precision over the error rate of all traffic. That is recall over the share of traffic fired on, and the latter is
    counted, not estimated: so the interval is that of recall, divided.
    """
    ids = _fired(turns, detector)
    recall = share_of_errors(_audited(turns), ids, level)
    if not ids:
        return Estimate(math.nan, math.nan, math.nan, recall.n)
    share = len(ids) / sum(t.window for t in turns)
    return Estimate(*(round(x / share, 6) for x in (recall.value, recall.low, recall.high)), recall.n)
