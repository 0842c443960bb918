"""Rates from the audit: the interval covers the truth as often as it says, and ignorance is never a good rate."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tasks.estimate import Stratum, detector_precision, error_rate

DRAWS = 400


@pytest.mark.parametrize("rates", [(0.02, 0.02), (0.1, 0.05), (0.4, 0.2), (0.3, 0.6), (0.97, 0.9)])
def test_the_interval_covers_the_truth_as_often_as_it_says(rates: tuple[float, float]):
    random = np.random.default_rng(11)
    covered = 0
    for _ in range(DRAWS):
        windows = [random.random(400) < rates[0], random.random(1200) < rates[1]]
        truth = sum(w.sum() for w in windows) / sum(len(w) for w in windows)
        strata = [Stratum(random.choice(w, n, replace=False).astype(float).tolist(), len(w))
                  for w, n in zip(windows, (90, 60), strict=True)]  # fmt: skip
        found = error_rate(strata)
        covered += found.low <= truth <= found.high
    assert covered / DRAWS >= 0.93


def test_the_estimate_has_no_bias_though_one_side_is_drawn_more_often():
    random = np.random.default_rng(5)
    holdout, rest = random.random(300) < 0.6, random.random(1500) < 0.1
    truth = (holdout.sum() + rest.sum()) / 1800
    found = [
        error_rate([
            Stratum(random.choice(holdout, 60, replace=False).astype(float).tolist(), 300),
            Stratum(random.choice(rest, 60, replace=False).astype(float).tolist(), 1500),
        ]).value
        for _ in range(DRAWS)
    ]  # fmt: skip
    assert abs(np.mean(found) - truth) < 4 * np.std(found) / DRAWS**0.5
    unweighted = (60 * 0.6 + 60 * 0.1) / 120
    assert abs(unweighted - truth) > 0.1


def test_a_stratum_without_labels_makes_the_rate_unknown_not_smaller():
    for unlabelled in ([], [1.0]):
        found = error_rate([Stratum([0.0] * 50, 200), Stratum(unlabelled, 300)])
        assert math.isnan(found.value) and math.isnan(found.low) and math.isnan(found.high)
        assert found.n == 50 + len(unlabelled)


def test_nothing_seen_is_unknown():
    assert math.isnan(error_rate([]).value)
    assert math.isnan(error_rate([Stratum([], 0)]).value)


def test_a_stratum_without_traffic_does_not_matter():
    assert error_rate([Stratum([0, 1, 1, 0], 9), Stratum([], 0)]) == error_rate([Stratum([0, 1, 1, 0], 9)])


def test_a_window_that_was_looked_at_whole_has_its_own_rate():
    assert error_rate([Stratum([1.0, 0.0, 0.0, 0.0], 4)]).value == 0.25


def test_no_error_among_few_is_not_proof_of_none():
    few, many = error_rate([Stratum([0.0] * 10, 1000)]), error_rate([Stratum([0.0] * 200, 1000)])
    assert few.value == many.value == few.low == 0
    assert few.high == pytest.approx(0.3085, abs=1e-3)  # Clopper and Pearson, 0 of 10
    assert 0 < many.high < few.high


def test_more_labels_never_widen_the_interval():
    random = np.random.default_rng(2)
    labels = (random.random(320) < 0.3).astype(float).tolist()
    widths = [(e.high - e.low) for e in (error_rate([Stratum(labels[:n], 5000)]) for n in (20, 80, 320))]
    assert widths == sorted(widths, reverse=True)


def test_the_interval_always_holds_the_estimate():
    random = np.random.default_rng(3)
    for _ in range(300):
        strata = []
        for _ in range(2):
            n = int(random.integers(2, 30))
            strata.append(Stratum(random.choice([0, 1, random.random()], n).tolist(), n + int(random.integers(0, 99))))
        found = error_rate(strata)
        assert 0 <= found.low <= found.value <= found.high <= 1


def test_a_detector_that_fired_once_is_not_thereby_right_for_ever():
    one = detector_precision({"rephrased": {"a"}}, {"a": 1.0, "b": 0.0}, 0.4, 10)["rephrased"]
    many = detector_precision({"rephrased": {str(k) for k in range(200)}}, {str(k): 1.0 for k in range(200)}, 0.4, 10)[
        "rephrased"
    ]
    assert one.precision == pytest.approx((1 + 4) / 11, abs=1e-6)
    assert 0.4 < one.precision < 0.5 < 0.95 < many.precision < 1
    assert (one.fired, many.fired) == (1, 200)


def test_a_detector_that_was_never_audited_keeps_the_prior():
    assert detector_precision({"low_reward": {"z"}}, {"a": 1.0}, 0.4, 10)["low_reward"].precision == 0.4


def test_recall_is_the_share_of_errors_that_a_detector_fired_on():
    found = detector_precision({"x": {"a", "c", "not audited"}}, {"a": 1.0, "b": 1.0, "c": 0.0, "d": 0.5}, 0.4, 10)["x"]
    assert found.recall == pytest.approx(1 / 2.5, abs=1e-6)
    assert found.fired == 2
    assert detector_precision({"x": {"a"}}, {"a": 0.0}, 0.4, 10)["x"].recall == 0.0
