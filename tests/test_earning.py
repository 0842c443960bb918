"""A detector keeps its place by evidence, loses it by evidence, and is neither praised nor blamed by chance."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tasks.earning import EARNS, STOPPED, UNPROVEN, WORTHLESS, EarningParams, Turn, earning
from tasks.estimate import Audited

PARAMS = EarningParams(alpha=0.05, min_lift=1.25, recent_turns=2)
WINDOW, LABELS = 1600, 150


def turn(number: int, random: np.random.Generator, *, labels: int = LABELS, **fires: tuple[float, float]) -> Turn:
    """One audited turn at an error rate of a fifth; a detector is how often it fires on what is wrong, and on what is right."""
    wrong = random.random(WINDOW) < 0.2
    fired = {
        name: {f"{number}-{k}" for k in np.flatnonzero(random.random(WINDOW) < np.where(wrong, on, off))}
        for name, (on, off) in fires.items()
    }
    drawn = random.choice(WINDOW, labels, replace=False)
    return Turn([Audited(f"{number}-{k}", str(number), WINDOW, float(wrong[k])) for k in drawn], WINDOW, fired)


def verdicts(turns: list[Turn]) -> dict[str, str]:
    return {e.detector: e.verdict for e in earning(turns, PARAMS)}


def test_a_good_detector_earns_its_place_and_one_that_fires_by_lot_does_not():
    found = Counter()
    for seed in range(12):
        random = np.random.default_rng(seed)
        turns = [turn(n, random, good=(0.5, 0.05), lot=(0.3, 0.3), never=(0.0, 0.0)) for n in range(2)]
        found.update(verdicts(turns).items())
    assert found["good", EARNS] == 12
    assert found["lot", EARNS] <= 1
    assert found["never", UNPROVEN] == 12


def test_chance_alone_makes_few_detectors_earn_though_many_are_looked_at():
    random = np.random.default_rng(1)
    any_earned = 0
    for n in range(60):
        lots = {f"d{k}": (0.2, 0.2) for k in range(8)}
        any_earned += EARNS in verdicts([turn(n, random, labels=100, **lots)]).values()
    assert any_earned / 60 <= 0.1


def test_a_detector_that_worked_and_no_longer_does_is_reported_as_stopped():
    random = np.random.default_rng(3)
    before = [turn(n, random, d=(0.6, 0.05)) for n in range(3)]
    after = [turn(n, random, d=(0.2, 0.2)) for n in range(3, 5)]
    assert verdicts(before) == {"d": EARNS}
    assert verdicts(before + after) == {"d": STOPPED}


def test_a_detector_that_fires_on_what_is_right_is_worthless_once_enough_was_seen():
    random = np.random.default_rng(5)
    assert verdicts([turn(n, random, labels=600, d=(0.2, 0.5)) for n in range(2)]) == {"d": WORTHLESS}
    assert verdicts([turn(9, random, labels=10, d=(0.2, 0.5))]) == {"d": UNPROVEN}


def test_the_lift_is_precision_over_the_error_rate_and_its_interval_covers_it():
    random = np.random.default_rng(7)
    covered = []
    for n in range(200):
        # Everything is labelled for the truth, and a tenth of it for the estimate.
        whole = turn(n, random, labels=WINDOW, d=(0.4, 0.1))
        wrong = {a.interaction_id: a.wrong for a in whole.audited}
        truth = np.mean([wrong[i] for i in whole.fired["d"]]) / np.mean(list(wrong.values()))
        (found,) = earning([Turn(whole.audited[:LABELS], WINDOW, whole.fired)], PARAMS)
        assert found.fired == len(whole.fired["d"])
        covered.append(found.lift.low <= truth <= found.lift.high)
    assert np.mean(covered) >= 0.93
    (exact,) = earning([whole], PARAMS)
    assert exact.lift.value == pytest.approx(truth, rel=1e-4)


def test_unanswered_turns_say_nothing():
    random = np.random.default_rng(2)
    answered = [turn(n, random, d=(0.6, 0.05)) for n in range(2)]
    assert earning([*answered, Turn([], WINDOW, {"d": {"x"}})], PARAMS) == earning(answered, PARAMS)
    assert earning([], PARAMS) == []
