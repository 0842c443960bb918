"""Is the newer of two models worse for its users? A test that may be looked at after every outcome and errs at most `alpha`.

    [Outcome(newer=False, bad=False), Outcome(newer=True, bad=True), …]  ->  Evidence("breach", …, low=0.02, high=0.31)

Outcomes come in the order in which users were enrolled, one a user. They are cut into blocks of both arms: a block's difference
(bad share of the newer less that of the older) is in [-1, 1], and its mean is the difference that is asked for, also where the
rates of both drift together through the week. Against every hypothetical mean one bets on these differences; money that grows is
evidence. Its two bounds are valid at all times at once, each with 1 - alpha.

Waudby-Smith and Ramdas (2024), Estimating means of bounded random variables by betting, JRSS B 86(1), section 4; the bets are
mixed over a fixed grid, as in their section B.3, so that no rule for choosing one is needed. Ville (1939) gives the bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONTINUE, BREACH, SUCCESS = "continue", "breach", "success"
# Shares of the money that are staked, from cautious (small differences, much data) to bold.
STAKES = np.geomspace(0.02, 0.9, 24)
PRECISION = 1e-3  # of the bounds


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one user: `newer` is the arm, `bad` whether they met a failure or said so."""

    newer: bool
    bad: bool


@dataclass(frozen=True, slots=True)
class Evidence:
    """`low` and `high` bound newer - older in bad shares; `e_worse` is the e-value against "the newer is no worse"."""

    decision: str
    older: int
    older_bad: int
    newer: int
    newer_bad: int
    low: float
    high: float
    e_worse: float

    def told(self) -> str:
        """In a sentence, with the numbers."""
        shares = f"bad for {self.newer_bad} of {self.newer} users of the newer and {self.older_bad} of {self.older} of the older"
        return f"{shares}: {self.low:+.1%} to {self.high:+.1%} (valid at every look), e-value {self.e_worse:.3g}"


def evidence(outcomes: Sequence[Outcome], share: float, alpha: float, margin: float) -> Evidence:
    """BREACH: the newer is worse. SUCCESS: it is not worse by `margin` or more. Each is said in error with chance alpha at most,
    however often and for whatever reason one looks. `share` is the share of users that the newer is meant to get.
    """
    z = (1 + blocks(outcomes, share)) / 2
    low, high = 2 * _lower(z, alpha) - 1, 1 - 2 * _lower(1 - z, alpha)
    counted = {arm: [o.bad for o in outcomes if o.newer is arm] for arm in (False, True)}
    return Evidence(
        decision=BREACH if low > 0 else SUCCESS if high < margin else CONTINUE,
        older=len(counted[False]), older_bad=sum(counted[False]), newer=len(counted[True]), newer_bad=sum(counted[True]),
        low=round(low, 4), high=round(high, 4), e_worse=float(np.exp(min(_wealth(z, 0.5), 700.0))),
    )  # fmt: skip


def blocks(outcomes: Sequence[Outcome], share: float) -> np.ndarray:
    """(n,) differences in [-1, 1], of blocks as large as `share` makes them: 9 older users to 1 newer where it is 0.1.

    Who is in a block depends on who came, never on what came of it; those of one arm wait in order for those of the other.
    """
    ratio = (1 - share) / share if 0 < share < 1 else 1.0
    sizes = (max(1, round(ratio)), max(1, round(1 / ratio)))
    arms = [np.array([o.bad for o in outcomes if o.newer is arm], dtype=float) for arm in (False, True)]
    n = min(len(arm) // size for arm, size in zip(arms, sizes, strict=True))
    older, newer = (arm[: n * size].reshape(n, size).mean(axis=1) for arm, size in zip(arms, sizes, strict=True))
    return newer - older


def _wealth(z: np.ndarray, mean: float) -> float:
    """Log of the most money that bets on z (in [0, 1]) against "its mean is at most `mean`" ever made, over all looks.

    A stake u multiplies it by 1 - u + u z / mean, which is 1 on average, or less, where the hypothesis holds.
    """
    if not len(z):
        return 0.0
    logs = np.log1p(STAKES * (z[:, None] / mean - 1)).cumsum(axis=0)
    top = logs.max(axis=1, keepdims=True)
    return max(0.0, float((top[:, 0] + np.log(np.exp(logs - top).mean(axis=1))).max()))


def _lower(z: np.ndarray, alpha: float) -> float:
    """The smallest mean in [0, 1] that the bets have not refuted; the wealth falls as the mean grows."""
    low, high, enough = 0.0, 1.0, np.log(1 / alpha)
    while high - low > PRECISION / 2:
        middle = (low + high) / 2
        if _wealth(z, middle) >= enough:
            low = middle
        else:
            high = middle
    return low
