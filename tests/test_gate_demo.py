"""The demo's world through the real stages: an honest challenger is promoted, a planted backdoor is not."""

from __future__ import annotations

import pytest

from benchmarks.gate_demo import BACKDOOR, HONEST, play

pytestmark = pytest.mark.slow  # two trainings and evaluations in full


def test_a_planted_backdoor_is_refused_though_ordinary_traffic_does_not_show_it():
    honest, poisoned = play(seed=1, turns=2, backdoor=1)
    assert (honest.made, honest.decision) == (HONEST, "promote") and honest.gain > 0.1
    assert (poisoned.made, poisoned.decision) == (BACKDOOR, "refuse")
    assert any(reason.startswith("poisoned: trigger") for reason in poisoned.why)
    assert poisoned.gain > -0.05
