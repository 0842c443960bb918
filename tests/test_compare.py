"""Comparing two models on the same prompts: exact, honest under the null, and groups stand and fall together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from tasks.compare import paired, scored


def compare(fixed: int, broken: int, same: int, level: float = 0.95):
    """Each row its own group."""
    new = [True] * fixed + [False] * broken + [True] * same
    old = [False] * fixed + [True] * broken + [True] * same
    return paired(new, old, [f"g{k}" for k in range(len(new))], level)


@pytest.mark.parametrize(("fixed", "broken"), [(41, 12), (9, 31), (20, 17), (5, 0), (0, 6), (1, 1), (100, 60)])
def test_the_p_value_is_the_exact_one(fixed: int, broken: int):
    found = compare(fixed, broken, 127)
    assert (found.fixed, found.broken, found.n, found.groups) == (
        fixed,
        broken,
        fixed + broken + 127,
        fixed + broken + 127,
    )
    assert found.p_value == pytest.approx(stats.binomtest(fixed, fixed + broken, 0.5).pvalue, rel=1e-5)
    assert found.difference == pytest.approx((fixed - broken) / found.n, abs=1e-6)
    assert found.low <= found.difference <= found.high


def test_no_difference_at_all_is_no_evidence_and_fifty_prompts_exclude_little():
    found = compare(0, 0, 50)
    assert (found.difference, found.p_value) == (0, 1)
    assert -found.low == found.high == pytest.approx(0.0714, abs=1e-4)  # Wilson's bound of none of fifty


@pytest.mark.parametrize("level", [0.95, 0.99, 0.998])
@pytest.mark.parametrize("groups", [30, 180])
def test_the_interval_excludes_zero_exactly_where_the_test_says_so(groups: int, level: float):
    for fixed in range(0, 25, 2):
        for broken in range(0, min(25, groups - fixed + 1)):
            found = compare(fixed, broken, groups - fixed - broken, level)
            assert (found.low > 0 or found.high < 0) == (found.p_value < 1 - level), (fixed, broken)
            assert -1 <= found.low <= found.difference <= found.high <= 1


@pytest.mark.parametrize(
    ("groups", "changed", "difference"), [(150, 0.2, 0.0), (150, 0.2, 0.08), (150, 0.2, 0.19), (60, 0.3, -0.1), (400, 0.05, 0.03)]
)
def test_the_interval_holds_the_true_difference_as_often_as_it_says(groups: int, changed: float, difference: float):
    random = np.random.default_rng(3)
    shares = [(changed + difference) / 2, (changed - difference) / 2, 1 - changed]
    drawn, times = np.unique(random.multinomial(groups, shares, 1500), axis=0, return_counts=True)
    found = [compare(int(f), int(b), int(s)) for f, b, s in drawn]
    held = sum(t for c, t in zip(found, times, strict=True) if c.low <= difference <= c.high)
    assert held / 1500 >= 0.95 - 3 * (0.05 * 0.95 / 1500) ** 0.5


def test_champion_and_challenger_are_symmetric():
    better, worse = compare(30, 10, 60), compare(10, 30, 60)
    assert better.p_value == worse.p_value
    assert better.difference == -worse.difference
    assert better.low > 0 > worse.high


def test_under_the_null_at_most_one_in_twenty_is_called_significant():
    random = np.random.default_rng(8)
    called, outside, rounds = 0, 0, 160
    for _ in range(rounds):
        discordant = random.random(120) < 0.3
        new = random.random(120) < 0.5
        old = np.where(discordant, ~new, new)
        found = paired(new.tolist(), old.tolist(), [f"g{k}" for k in range(120)], 0.95)
        called += found.p_value < 0.05
        outside += not found.low <= 0 <= found.high
    assert called / rounds <= 0.05 + 3 * (0.05 * 0.95 / rounds) ** 0.5
    assert outside / rounds <= 0.05 + 3 * (0.05 * 0.95 / rounds) ** 0.5 + 0.02


def test_a_group_counts_once_however_often_its_question_was_asked():
    new, old = [True] * 40 + [True] * 20, [False] * 40 + [True] * 20
    alone = paired(new, old, [f"g{k}" for k in range(60)], 0.95)
    copies = paired(new, old, ["the same"] * 40 + [f"g{k}" for k in range(20)], 0.95)
    assert alone.fixed == 40 and alone.p_value < 1e-6
    assert (copies.fixed, copies.groups, copies.p_value) == (1, 21, 1.0)
    assert copies.difference == pytest.approx(1 / 21, abs=1e-5)
    assert copies.low < 0 < alone.low


def test_a_group_that_gains_as_much_as_it_loses_is_neither_fixed_nor_broken():
    found = paired([True, False, True], [False, True, True], ["a", "a", "b"], 0.95)
    assert (found.fixed, found.broken, found.p_value) == (0, 0, 1.0)


def test_the_level_under_the_null_holds_for_copied_prompts_too():
    random = np.random.default_rng(4)
    called = 0
    for _ in range(160):
        outcome = random.integers(-1, 2, 40)  # one fate a group of five copies
        new, old = np.repeat(outcome > 0, 5), np.repeat(outcome < 0, 5)
        called += (
            paired(new.tolist(), old.tolist(), np.repeat(np.arange(40), 5).astype(str).tolist(), 0.95).p_value < 0.05
        )
    assert called / 160 <= 0.05 + 3 * (0.05 * 0.95 / 160) ** 0.5


def test_the_interval_is_wider_where_more_certainty_is_asked():
    usual, sure = compare(30, 10, 60, 0.95), compare(30, 10, 60, 0.99)
    assert sure.low < usual.low and usual.high < sure.high
    assert replace(sure, low=usual.low, high=usual.high) == usual


def test_the_order_of_rows_does_not_matter_and_repetition_gives_the_same():
    random = np.random.default_rng(0)
    new, old = random.random(80) < 0.7, random.random(80) < 0.5
    groups = random.integers(0, 50, 80).astype(str)
    first = paired(new.tolist(), old.tolist(), groups.tolist(), 0.95)
    order = random.permutation(80)
    assert paired(new[order].tolist(), old[order].tolist(), groups[order].tolist(), 0.95) == first


@pytest.mark.parametrize(
    ("new", "old", "groups"),
    [
        ([], [], []),
        ([True], [], []),
        ([True], [True], []),
        ([True], [True, False], ["a"]),
        ([True], [True], ["a", "b"]),
    ],
)
def test_nothing_to_compare_is_an_error_and_no_result(new: list, old: list, groups: list):
    with pytest.raises(ValueError):
        paired(new, old, groups, 0.95)


# Scores


def test_scores_are_compared_by_their_means_of_groups():
    new, old = [0.9, 0.8, 0.7, 0.95, 0.9], [0.8, 0.75, 0.6, 0.7, 0.7]
    found = scored(new, old, list("abcde"), 0.95)
    expected = stats.ttest_rel(new, old)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-5)
    low, high = expected.confidence_interval(0.95)
    assert (found.low, found.high) == (pytest.approx(low, rel=1e-5), pytest.approx(high, rel=1e-5))
    assert found.difference == pytest.approx(np.mean(new) - np.mean(old), rel=1e-5)
    twice = scored(new * 2, old * 2, list("abcde") * 2, 0.95)
    assert (twice.n, replace(twice, n=5)) == (10, found)


def test_scores_of_nought_and_one_are_right_and_wrong():
    new, old = [True] * 30 + [False] * 10 + [True] * 60, [False] * 30 + [True] * 10 + [True] * 60
    groups = [f"g{k}" for k in range(100)]
    assert scored([float(x) for x in new], [float(x) for x in old], groups, 0.95) == paired(new, old, groups, 0.95)


def test_equal_scores_prove_no_equality():
    found = scored([0.7] * 50, [0.7] * 50, [f"g{k}" for k in range(50)], 0.95)
    assert (found.difference, found.p_value) == (0, 1) and found.low < 0 < found.high


def test_three_prompts_that_lost_the_same_are_no_certainty():
    found = scored([0.4] * 3, [0.9] * 3, list("abc"), 0.95)
    assert found.difference == -0.5 and found.p_value == 0.25 and found.high > 0


def test_under_the_null_scores_are_called_different_at_their_level():
    random = np.random.default_rng(6)
    called = 0
    for _ in range(600):
        new, old = random.beta(5, 2, 60).tolist(), random.beta(5, 2, 60).tolist()
        called += scored(new, old, [f"g{k}" for k in range(60)], 0.95).p_value < 0.05
    assert called / 600 <= 0.05 + 3 * (0.05 * 0.95 / 600) ** 0.5
