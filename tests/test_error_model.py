"""Weak signals become one probability: no leak over groups, the prior where nothing is known, honest numbers where much is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from tasks.error_model import ErrorModel, ErrorModelParams, error_model

pytestmark = pytest.mark.slow

NOT_TRUSTED = 0.5


def traffic(n: int, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """n interactions: one signal that tells, one that does not, and the true P(wrong); a verdict is drawn from it."""
    random = np.random.default_rng(seed)
    features = pd.DataFrame({"tells": random.normal(size=n), "noise": random.normal(size=n)})
    truth = expit(2 * features["tells"].to_numpy() - 1)
    return features, truth, (random.random(n) < truth).astype(float)


def fitted(n: int, **params: float) -> ErrorModel:
    features, _, wrong = traffic(n)
    return error_model(features, np.full(n, NOT_TRUSTED), wrong, range(n), params=ErrorModelParams(**params))


def log_loss(p: np.ndarray, wrong: np.ndarray) -> float:
    return float(-np.mean(wrong * np.log(p) + (1 - wrong) * np.log(1 - p)))


@pytest.mark.parametrize("n", [0, 1, 10])
def test_without_labels_enough_the_prior_is_the_answer(n: int):
    features, _, _ = traffic(50, seed=1)
    prior = np.linspace(0, 1, 50)
    assert fitted(n).probability(features, prior) == pytest.approx(prior)


def test_labels_that_all_say_the_same_teach_nothing():
    features, _, _ = traffic(60)
    model = error_model(features, np.full(60, 0.3), np.zeros(60), range(60))
    assert model.kind == "prior"
    assert model.probability(features, np.full(60, 0.3)) == pytest.approx(np.full(60, 0.3))


def test_more_labels_give_better_probabilities():
    features, truth, _ = traffic(2000, seed=2)
    flat = np.full(2000, NOT_TRUSTED)
    off = [np.abs(fitted(n).probability(features, flat) - truth).mean() for n in (0, 30, 300)]
    assert off[0] > 1.1 * off[1] > 1.5 * off[2]
    assert off[2] < 0.12


def test_a_few_labels_do_not_throw_a_good_prior_away():
    """Thirty labels with forty features of noise: what was believed before must still lead."""
    _, truth, wrong = traffic(400, seed=3)
    random = np.random.default_rng(4)
    noise = pd.DataFrame(random.normal(size=(400, 40)))
    model = error_model(noise[:30], truth[:30], wrong[:30], range(30))
    after = model.probability(noise[30:], truth[30:])
    assert log_loss(after, wrong[30:]) < log_loss(truth[30:], wrong[30:]) + 0.1
    assert np.corrcoef(after, truth[30:])[0, 1] > 0.8


def test_probabilities_mean_what_they_say():
    features, truth, wrong = traffic(1500, seed=5)
    model = error_model(features[:700], np.full(700, 0.9), wrong[:700], range(700))  # a prior far too dark
    p = model.probability(features[700:], np.full(800, 0.9))
    for low, high in ((0.0, 0.2), (0.2, 0.5), (0.5, 1.0)):
        inside = (p >= low) & (p < high)
        assert p[inside].mean() == pytest.approx(truth[700:][inside].mean(), abs=0.08)


def test_a_group_is_never_on_both_sides_of_a_fold():
    """Every group has a random verdict and a feature that gives the group away: scores that knew it would be perfect."""
    random = np.random.default_rng(6)
    group = np.repeat(np.arange(40), 8)
    verdict = random.integers(0, 2, 40)[group].astype(float)
    features = pd.get_dummies(pd.Series(group), prefix="is").astype(float)
    features["number"] = group
    grouped = error_model(features, np.full(320, 0.5), verdict, group)
    leaking = error_model(features, np.full(320, 0.5), verdict, range(320))
    assert np.corrcoef(leaking.out_of_fold, verdict)[0, 1] > 0.8
    assert np.corrcoef(grouped.out_of_fold, verdict)[0, 1] < 0.3


def test_rare_draws_count_for_those_that_were_not_drawn():
    """Half of the wrong ones were never sent: each of those that were stands for two."""
    features, truth, wrong = traffic(3000, seed=7)
    sent = (wrong == 0) | (np.arange(3000) % 2 == 0)
    args = features[sent], np.full(sent.sum(), 0.5), wrong[sent], range(sent.sum())
    few = ErrorModelParams(trees_from=10_000)
    naive = error_model(*args, params=few).probability(features, np.full(3000, 0.5))
    weighted = error_model(*args, weights=np.where(wrong[sent] == 1, 2.0, 1.0), params=few)
    corrected = weighted.probability(features, np.full(3000, 0.5))
    assert abs(corrected.mean() - truth.mean()) < 0.02 < truth.mean() - naive.mean()


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan")])
def test_a_label_that_could_not_have_been_drawn_is_refused(weight: float):
    features, _, wrong = traffic(30)
    with pytest.raises(ValueError, match="positive"):
        error_model(features, np.full(30, 0.5), wrong, range(30), np.full(30, weight))


def test_doubtful_labels_teach_less_than_sure_ones():
    features, _, wrong = traffic(400, seed=8)
    flat = np.full(400, 0.5)
    line = ErrorModelParams(trees_from=10_000)
    sure = error_model(features, flat, wrong, range(400), params=line).probability(features, flat)
    doubtful = error_model(features, flat, 0.5 + 0.2 * (wrong - 0.5), range(400), params=line).probability(
        features, flat
    )
    assert doubtful.std() < 0.5 * sure.std()


def test_unknown_features_are_taken_as_unknown():
    features, truth, wrong = traffic(400, seed=9)
    holes = features.mask(np.random.default_rng(1).random(features.shape) < 0.3)
    model = error_model(holes, np.full(400, 0.5), wrong, range(400))
    nothing = model.probability(pd.DataFrame(index=range(3)), np.full(3, 0.5))
    assert np.isfinite(nothing).all()
    assert nothing == pytest.approx(np.full(3, truth.mean()), abs=0.2)
    assert np.corrcoef(model.probability(features, np.full(400, 0.5)), truth)[0, 1] > 0.85


def test_a_person_can_read_why():
    features, _, _ = traffic(5, seed=10)
    features.loc[0] = [2.5, 0.0]
    why = fitted(200).contributions(features, np.full(5, NOT_TRUSTED))
    assert list(why.columns) == ["prior", "tells", "noise"]
    assert why.loc[0, "tells"] > max(1.0, 4 * abs(why.loc[0, "noise"]))


def test_equal_labels_give_an_equal_model():
    features, _, _ = traffic(50, seed=11)
    first, second = (fitted(120).probability(features, np.full(50, 0.5)) for _ in range(2))
    assert first.tolist() == second.tolist()
