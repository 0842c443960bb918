"""The sequential test: it may be looked at after every user, and errs no more often for it."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.sequential import BREACH, CONTINUE, SUCCESS, Outcome, _wealth, blocks, evidence

ALPHA, MARGIN = 0.05, 0.05


def users(seed: int, n: int, share: float, older: float, newer: float) -> list[Outcome]:
    draw = np.random.default_rng(seed)
    arm = draw.random(n) < share
    return [Outcome(bool(a), bool(b)) for a, b in zip(arm, draw.random(n) < np.where(arm, newer, older), strict=True)]


def share_that_ever(share: float, older: float, newer: float, n: int = 2000, worlds: int = 200) -> float:
    """Of many worlds, the share in which "the newer is no worse" was refuted at any of n looks (the bets remember their best)."""
    seen = [_wealth((1 + blocks(users(s, n, share, older, newer), share)) / 2, 0.5) >= np.log(1 / ALPHA) for s in range(worlds)]
    return float(np.mean(seen))


@pytest.mark.parametrize("share", [0.5, 0.1])
@pytest.mark.parametrize("rate", [0.02, 0.1, 0.4])
def test_two_equal_models_are_told_apart_no_more_often_than_alpha_over_thousands_of_looks(share: float, rate: float):
    assert share_that_ever(share, rate, rate) <= ALPHA + 2 * np.sqrt(ALPHA * (1 - ALPHA) / 200)


def test_a_better_one_is_hardly_ever_called_worse():
    assert share_that_ever(0.5, 0.2, 0.15) <= 0.01


@pytest.mark.parametrize(("share", "older", "newer"), [(0.5, 0.05, 0.15), (0.5, 0.2, 0.3), (0.1, 0.05, 0.15)])
def test_ten_points_more_bad_outcomes_are_found(share: float, older: float, newer: float):
    assert share_that_ever(share, older, newer) >= 0.9


def test_rates_that_rise_and_fall_together_are_no_difference():
    """At night everything is worse, for both: what is compared came at the same time."""
    worlds = 200
    found = 0
    for seed in range(worlds):
        draw = np.random.default_rng(seed)
        rate = 0.2 + 0.18 * np.sin(np.arange(2000) / 150)
        arm, bad = draw.random(2000) < 0.5, draw.random(2000) < rate
        z = (1 + blocks([Outcome(bool(a), bool(b)) for a, b in zip(arm, bad, strict=True)], 0.5)) / 2
        found += _wealth(z, 0.5) >= np.log(1 / ALPHA)
    assert found / worlds <= ALPHA + 2 * np.sqrt(ALPHA * (1 - ALPHA) / worlds)


def test_the_bounds_hold_at_every_look_at_once():
    """Of worlds whose true difference is known: the lower bound is above it at any look in alpha of them at most."""
    true = 0.1
    wrong = [
        _wealth((1 + blocks(users(s, 2000, 0.5, 0.1, 0.2), 0.5)) / 2, (1 + true) / 2) >= np.log(1 / ALPHA) for s in range(200)
    ]
    assert np.mean(wrong) <= ALPHA + 2 * np.sqrt(ALPHA * (1 - ALPHA) / 200)


def test_what_it_says_of_worse_equal_and_few():
    worse = evidence(users(1, 2000, 0.5, 0.05, 0.2), 0.5, ALPHA, MARGIN)
    assert worse.decision == BREACH and worse.low > 0 and worse.e_worse > 1 / ALPHA
    assert worse.low < worse.newer_bad / worse.newer - worse.older_bad / worse.older < worse.high
    equal = evidence(users(1, 8000, 0.5, 0.1, 0.1), 0.5, ALPHA, MARGIN)
    assert equal.decision == SUCCESS and equal.low < 0 < equal.high < MARGIN
    few = evidence(users(1, 10, 0.5, 0.0, 1.0), 0.5, ALPHA, MARGIN)
    assert few.decision == CONTINUE
    nobody = evidence([], 0.5, ALPHA, MARGIN)
    assert (nobody.decision, nobody.older, nobody.newer, nobody.e_worse) == (CONTINUE, 0, 0, 1.0)
    assert nobody.low < -0.99 and nobody.high > 0.99, "nothing is known of nobody"


def test_one_user_cannot_tip_it():
    """The worst that one more user can do is one block among many."""
    calm = users(3, 1000, 0.5, 0.1, 0.1)
    before, after = evidence(calm, 0.5, ALPHA, MARGIN), evidence([*calm, Outcome(True, True)], 0.5, ALPHA, MARGIN)
    assert before.decision == after.decision and abs(after.low - before.low) < 0.01


def test_a_block_is_as_large_as_the_share_makes_it():
    one_in_ten = [Outcome(newer=(k % 10 == 9), bad=(k % 10 == 9)) for k in range(35)]
    assert blocks(one_in_ten, 0.1).tolist() == [1.0, 1.0, 1.0], "what is no whole block yet waits"
    assert blocks([Outcome(False, True), Outcome(True, False)], 0.5).tolist() == [-1.0]
