"""Comparing two models on the same prompts: exact, honest under the null, and groups stand and fall together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from tasks.compare import paired


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


def test_no_difference_at_all_is_no_evidence():
    found = compare(0, 0, 50)
    assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)


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
    assert copies.difference == alone.difference
    assert copies.high - copies.low > alone.high - alone.low


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
