"""What people said so far decides how much each signal counts for what is still open."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.live.labels import agreement
from tasks.live.lake import Lake
from tasks.live.suspicion import error_probabilities, learned
from tasks.live.workspace import Workspace
from tasks.records import Label, Signal
from tasks.select import Pooled, SelectParams, suspicion
from tests.handmade import NOON, annotation, candidate, interaction, member, workspace

LABELLED = 60
SIGNALS = {"right_often": 0.9, "wrong_always": 0.9}


def signal(name: str, detector: str) -> Signal:
    return Signal(f"sg_{name}_{detector}", f"ix_{name}", detector, SIGNALS[detector], "evidence")


def pooled(name: str, *detectors: str) -> Pooled:
    return Pooled(
        f"ix_{name}", f"gr_{name}", "train", f"question {name}", True, tuple(signal(name, d) for d in detectors)
    )


POOL = [pooled("open1", "right_often"), pooled("open2", "wrong_always"), pooled("open3")]


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    """Sixty audited: where `right_often` fired they are wrong, where `wrong_always` did they are right; a third each."""
    made = workspace(tmp_path / "work")
    lake = Lake(made.lake)
    names = [f"{k:03d}" for k in range(LABELLED)]
    everyone = [*names, *(p.interaction_id[3:] for p in POOL)]
    lake.append("interactions", [interaction(n, f"question {n}", ts=NOON + k) for k, n in enumerate(everyone)])
    lake.append("members", [member(n) for n in everyone])
    lake.append("candidates", [candidate(n, "audit_open", window=LABELLED) for n in names])
    lake.append("signals", [signal(n, list(SIGNALS)[k % 3]) for k, n in enumerate(names) if k % 3 < 2])
    lake.append("signals", [s for p in POOL for s in p.signals])
    return made


def answered(place: Workspace, n: int) -> None:
    Lake(place.lake).append(
        "annotations",
        [annotation(f"{k:03d}", who, "wrong" if k % 3 == 0 else "right") for k in range(n) for who in ("ana", "ben")],
    )


def said(place: Workspace) -> list[Label]:
    return agreement(place).labels


def test_before_anybody_answered_it_is_the_noisy_or(place: Workspace):
    params = place.params("select", SelectParams)
    expected = {p.interaction_id: suspicion(p.signals, {}, params) for p in POOL}
    assert error_probabilities(place, POOL, said(place)) == pytest.approx(expected, abs=1e-6)


def test_a_signal_that_was_right_counts_and_one_that_was_not_does_not(place: Workspace):
    before = error_probabilities(place, POOL, said(place))
    answered(place, LABELLED)
    after = error_probabilities(place, POOL, said(place))
    assert after["ix_open1"] > before["ix_open1"]
    assert after["ix_open2"] < before["ix_open2"]
    assert after["ix_open1"] > 0.6 > 0.3 > after["ix_open2"]


def test_the_reason_is_readable(place: Workspace):
    answered(place, LABELLED)
    model, features, prior = learned(place, POOL, said(place))
    why = model.contributions(features, prior)
    assert why.loc["ix_open1", "right_often"] > 0
    assert why.loc["ix_open1", "right_often"] > why.loc["ix_open2", "wrong_always"]


def test_the_same_lake_gives_the_same_probabilities_whatever_the_order_of_the_pool(place: Workspace):
    answered(place, LABELLED)
    assert error_probabilities(place, POOL, said(place)) == error_probabilities(place, POOL[::-1], said(place))


def test_nothing_open_is_nothing_to_say(place: Workspace):
    answered(place, LABELLED)
    assert error_probabilities(place, [], said(place)) == {}
