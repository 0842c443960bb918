"""A judge that errs gives an honest rate once its errors are measured, and none before."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tasks.judged import MIN_LABELS, Calibration, corrected_rate


@pytest.mark.parametrize(
    ("rate", "judged", "sensitivity", "specificity", "labels"),
    [
        (0.2, 500, 0.85, 0.95, (60, 150)),
        (0.01, 2000, 0.8, 0.98, (40, 200)),
        (0.05, 300, 0.9, 0.9, (30, 30)),
        (0.5, 100, 0.8, 0.85, (25, 40)),
        (0.0, 500, 0.8, 0.97, (40, 200)),
    ],
)
def test_the_corrected_interval_covers_the_truth_where_the_judges_own_count_does_not(
    rate: float, judged: int, sensitivity: float, specificity: float, labels: tuple[int, int]
):
    random = np.random.default_rng(3)
    covered = []
    for _ in range(500):
        wrong = random.random(judged) < rate
        called = np.where(wrong, random.random(judged) < sensitivity, random.random(judged) >= specificity)
        caught, passed = random.binomial(labels, (sensitivity, specificity))
        found = corrected_rate(int(called.sum()), judged, Calibration(caught, labels[0], passed, labels[1]))
        if not math.isnan(found.value):
            covered.append(found.low <= rate <= found.high)
    assert len(covered) > 400
    assert np.mean(covered) >= 0.93


def test_the_correction_undoes_the_judges_bias():
    # Of 1,000 with 100 wrong, it calls 80 of those and 90 of the others.
    found = corrected_rate(170, 1000, Calibration(800, 1000, 900, 1000))
    assert found.value == pytest.approx(0.1, abs=1e-6)
    assert found.low < 0.1 < found.high < 0.17


def test_less_calibration_makes_the_interval_wider():
    few, many = (corrected_rate(170, 1000, Calibration(8 * k, 10 * k, 9 * k, 10 * k)) for k in (4, 40))
    assert few.high - few.low > 1.5 * (many.high - many.low)


@pytest.mark.parametrize(
    "calibration",
    [
        Calibration(0, 0, 0, 0),
        Calibration(MIN_LABELS - 1, MIN_LABELS - 1, 500, 500),
        Calibration(50, 50, MIN_LABELS - 1, MIN_LABELS - 1),
        Calibration(50, 100, 50, 100),  # a coin
        Calibration(14, 25, 16, 25),  # perhaps better than a coin
        Calibration(10, 100, 20, 100),  # the wrong way round
    ],
    ids=str,
)
def test_an_uncalibrated_judge_gives_no_rate(calibration: Calibration):
    assert math.isnan(corrected_rate(100, 1000, calibration).value)


def test_nothing_judged_is_unknown():
    assert math.isnan(corrected_rate(0, 0, Calibration(80, 100, 90, 100)).value)
