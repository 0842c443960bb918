"""How strict this look must be, so that looking every turn keeps the promise: LORD++, an error budget that promotions refill.

    no look before                       ->  p < 0.0219
    four looks, none promoted            ->  p < 0.0017
    four looks, the last one promoted    ->  p < 0.0235

Each turn brings another challenger, so there is no end to the tests. LORD++ spends the budget `alpha` on them without end: of all
promotions ever made, at most that share is false in expectation; and as long as no challenger is better, the chance that any is
promoted at all is at most half of it, however the looks depend on each other (they share a holdout): it is a sum of levels.

Source: Ramdas, Yang, Wainwright, Jordan (2017), Online control of the false discovery rate with decaying memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import zeta

DECAY = 1.6  # of what the j-th look after a promotion gets, j^-1.6; Ramdas et al. (2018), SAFFRON, use the same
AT_FIRST = 0.5  # of alpha is there at first, the rest when the first promotion was earned


@dataclass(frozen=True, slots=True)
class Look:
    """One earlier verdict that had enough prompts to decide: what it said, by which p-value, at which level."""

    snapshot: str
    decision: str
    p_value: float
    level: float


def level(promoted: Sequence[bool], alpha: float) -> float:
    """The level of the next look, for a two-sided p-value; `promoted` says of each earlier look whether it promoted.

    LORD++ is about one-sided claims (is it better?), and a two-sided p is twice the one-sided one: hence the factor 2.
    """
    at = len(promoted) + 1
    found = [n for n, yes in enumerate(promoted, 1) if yes]
    spent = AT_FIRST * alpha * _share(at)
    if found:
        spent += (1 - AT_FIRST) * alpha * _share(at - found[0])
    spent += sum(alpha * _share(at - n) for n in found[1:])
    return min(2 * spent, alpha)


def _share(look: int) -> float:
    """Shares of all looks to come: they sum to one."""
    return look**-DECAY / float(zeta(DECAY))
