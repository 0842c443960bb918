"""Weak signals become one probability that an answer is wrong, learned anew every turn from what people have said.

    thumb_down 1.0, ungrounded 0.6, hedges 2, prior 0.72, 340 labels   ->   p 0.81: thumb_down +1.9, ungrounded +0.6, …

The `prior` is what was believed before any label (`select.suspicion`). It is the first feature of every model, what a model
is drawn to while labels are few, and the answer while there are none. A logistic regression, boosted trees and their mean compete
by log loss out of fold; groups (conversations, near-duplicates) never stand on both sides of a fold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

PRIOR = "prior"
EDGE = 0.005  # no probability nearer to 0 or 1: a logit, and a log loss, must stay finite
HEAVIEST = 10.0  # a label's weight, in mean weights: beyond it one rare draw would be the whole model (trimming: Lee et al., 2011)
CLEARLY = 0.01  # nats a label by which something must be better before it takes the place of something simpler

Score = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class ErrorModelParams:
    """`folds` of the out-of-fold scores; `few`: fewer labels than this teach nothing; `strength`: the prior counts as much as so
    many labels; `pull` the logistic model's L2 (1/C); `trees_from`: labels from which trees may compete; `seed` deals the folds.
    """

    folds: int = 5
    few: int = 20
    strength: float = 20.0
    pull: float = 20.0
    trees_from: int = 100
    seed: int = 0


@dataclass(frozen=True, slots=True)
class ErrorModel:
    """`kind`: 'prior', 'logistic', 'trees' or 'both'; `calibration`: 'none', 'platt' or 'isotonic'. `out_of_fold` (n,) are the
    labelled rows' own probabilities, each from a model that saw nothing of its group; `losses` the log loss a label of each
    rival; `effective` Kish's effective number of labels.
    """

    columns: tuple[str, ...]
    kind: str
    calibration: str
    effective: float
    losses: Mapping[str, float]
    out_of_fold: np.ndarray
    params: ErrorModelParams
    score: Score | None = None
    calibrate: Score | None = None
    typical: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def probability(self, features: pd.DataFrame, prior: np.ndarray) -> np.ndarray:
        """(n,) P(wrong), strictly between 0 and 1 once there are labels; without any, the prior itself.

        Columns that the model knows and `features` lacks are taken as unknown; others are ignored.
        """
        prior = np.asarray(prior, float)
        if self.score is None or self.calibrate is None or not len(prior):
            return prior
        p = self.calibrate(self.score(_matrix(features, self.columns, prior)))
        return _drawn(p, prior, self.effective, self.params)

    def contributions(self, features: pd.DataFrame, prior: np.ndarray) -> pd.DataFrame:
        """(n, columns): by how much each feature moves the log odds from where its typical (median) value would leave them.

        One feature at a time (occlusion), so that they need not add up where features act together.
        """
        names = [PRIOR, *self.columns]
        prior = np.asarray(prior, float)
        moved = np.zeros((len(prior), len(names)))
        if self.score is not None and len(prior):
            x = _matrix(features, self.columns, prior)
            here = logit(_inside(self.score(x)))
            for k in range(x.shape[1]):
                without = x.copy()
                without[:, k] = self.typical[k]
                moved[:, k] = here - logit(_inside(self.score(without)))
        return pd.DataFrame(moved, columns=names, index=features.index)


def error_model(
    features: pd.DataFrame,
    prior: np.ndarray,
    p_wrong: np.ndarray,
    groups: Sequence[object],
    weights: np.ndarray | None = None,
    params: ErrorModelParams | None = None,
) -> ErrorModel:
    """Fit to n labelled rows. `features` (n, any columns; NaN is unknown), `prior` and `p_wrong` (n,) in [0, 1], `weights` (n,)
    positive: the inverse of the chance with which a row came to be labelled, None where all are alike.

    Fewer than `few` labels, a single verdict or fewer than two groups give the prior back: there is nothing to learn from.
    Equal input gives an equal model. Raises ValueError for weights that are not positive numbers.
    """
    params = params or ErrorModelParams()
    columns = tuple(str(c) for c in features.columns)
    prior, p_wrong = np.asarray(prior, float), np.asarray(p_wrong, float)
    weight = np.ones(len(prior)) if weights is None else np.asarray(weights, float)
    if len(weight) and not (np.isfinite(weight).all() and (weight > 0).all()):
        raise ValueError("weights must be positive: a label that could not have been drawn says nothing of the rest")
    weight = np.minimum(weight / max(weight.mean(), 1e-12), HEAVIEST) if len(weight) else weight
    effective = float(weight.sum() ** 2 / (weight**2).sum()) if len(weight) else 0.0
    wrong = float(p_wrong.sum())
    names = list(dict.fromkeys(groups))
    if len(prior) < params.few or min(wrong, len(prior) - wrong) < 2 or len(names) < 2:
        return ErrorModel(columns, "prior", "none", effective, {}, prior, params)

    x = _matrix(features, columns, prior)
    fold = _folds(groups, params)
    rivals = {"logistic": _logistic} | ({"trees": _trees} if len(prior) >= params.trees_from else {})
    scores = {name: _cross(fit, x, p_wrong, weight, fold, params) for name, fit in rivals.items()}
    if len(scores) == 2:
        scores["both"] = _mean(list(scores.values()))
    losses = {"prior": _loss(prior, p_wrong, weight)} | {k: _loss(s, p_wrong, weight) for k, s in scores.items()}
    kind = min(scores, key=lambda k: losses[k] + (CLEARLY / 2 if k != "logistic" else 0))
    calibration, calibrated = _calibration(scores[kind], p_wrong, weight, fold)

    fitted = [fit(x, p_wrong, weight, params) for name, fit in rivals.items() if kind in (name, "both")]
    return ErrorModel(
        columns,
        kind,
        calibration,
        effective,
        losses,
        # What a model says of rows that it has learned from would flatter it: these are the scores to measure anything by.
        _drawn(calibrated, prior, effective, params),
        params,
        score=lambda rows: _mean([f(rows) for f in fitted]),
        calibrate=_CALIBRATIONS[calibration](scores[kind], p_wrong, weight),
        typical=np.nan_to_num(_median(x)),
    )


def _matrix(features: pd.DataFrame, columns: Sequence[str], prior: np.ndarray) -> np.ndarray:
    known = features.reindex(columns=list(columns)).to_numpy(float, na_value=np.nan)
    return np.column_stack([logit(_inside(prior)), np.where(np.isfinite(known), known, np.nan)])


def _drawn(p: np.ndarray, prior: np.ndarray, effective: float, params: ErrorModelParams) -> np.ndarray:
    """Drawn towards the prior, in log odds, as if it rested on `strength` labels."""
    share = effective / (effective + params.strength)
    return expit(share * logit(_inside(p)) + (1 - share) * logit(_inside(prior)))


def _median(x: np.ndarray) -> np.ndarray:
    return np.array([np.median(c[~np.isnan(c)]) if (~np.isnan(c)).any() else 0.0 for c in x.T])


def _inside(p: np.ndarray) -> np.ndarray:
    return np.clip(p, EDGE, 1 - EDGE)


def _folds(groups: Sequence[object], params: ErrorModelParams) -> np.ndarray:
    """(n,) the fold of each row: whole groups are dealt out in a random order."""
    names, group = np.unique([str(g) for g in groups], return_inverse=True)
    dealt = np.random.default_rng(params.seed).permutation(len(names)) % min(params.folds, len(names))
    return dealt[group]


def _doubled(x: np.ndarray, p_wrong: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A soft label is two hard ones that share its weight."""
    weights = np.concatenate([weight * p_wrong, weight * (1 - p_wrong)])
    verdicts = np.repeat([1, 0], len(x))
    real = weights > 1e-6
    return np.vstack([x, x])[real], verdicts[real], weights[real]


def _logistic(x: np.ndarray, p_wrong: np.ndarray, weight: np.ndarray, params: ErrorModelParams) -> Score:
    """Standardised, an unknown value is the mean one; whether it was unknown is a feature where it sometimes was."""
    sometimes = np.isnan(x).any(axis=0) & ~np.isnan(x).all(axis=0)
    mean = np.nan_to_num(np.nanmean(np.where(np.isnan(x).all(axis=0), 0.0, x), axis=0))
    spread = np.nanstd(np.where(np.isnan(x).all(axis=0), 0.0, x), axis=0)
    spread[spread < 1e-9] = 1.0

    def prepared(rows: np.ndarray) -> np.ndarray:
        # A value far outside what was seen must not decide alone.
        z = np.clip(np.nan_to_num((rows - mean) / spread), -5, 5)
        return np.hstack([z, np.isnan(rows[:, sometimes])])

    fitted = LogisticRegression(C=1 / params.pull, max_iter=500).fit(*_doubled(prepared(x), p_wrong, weight))
    return lambda rows: fitted.predict_proba(prepared(rows))[:, 1]


def _trees(x: np.ndarray, p_wrong: np.ndarray, weight: np.ndarray, params: ErrorModelParams) -> Score:
    trees = HistGradientBoostingClassifier(
        max_iter=150,
        learning_rate=0.05,
        max_leaf_nodes=8,
        min_samples_leaf=20,
        l2_regularization=5.0,
        early_stopping=False,
        random_state=params.seed,
    )
    fitted = trees.fit(*_doubled(x, p_wrong, weight))
    return lambda rows: fitted.predict_proba(rows)[:, 1]


def _cross(fit, x, p_wrong, weight, fold, params) -> np.ndarray:
    scores = np.zeros(len(x))
    for k in np.unique(fold):
        inside = fold != k
        hard = p_wrong[inside].round()
        if hard.min() == hard.max():  # one verdict only: nothing but its share is known
            scores[~inside] = np.average(p_wrong[inside], weights=weight[inside])
            continue
        scores[~inside] = fit(x[inside], p_wrong[inside], weight[inside], params)(x[~inside])
    return scores


def _mean(scores: Sequence[np.ndarray]) -> np.ndarray:
    """The mean in log odds."""
    return expit(np.mean([logit(_inside(s)) for s in scores], axis=0))


def _loss(p: np.ndarray, p_wrong: np.ndarray, weight: np.ndarray) -> float:
    p = _inside(p)
    return float(np.average(-(p_wrong * np.log(p) + (1 - p_wrong) * np.log(1 - p)), weights=weight))


def _platt(scores: np.ndarray, p_wrong: np.ndarray, weight: np.ndarray) -> Score:
    """Two parameters over the log odds (Platt, 1999)."""
    rows = logit(_inside(scores))[:, None]
    fitted = LogisticRegression(C=10.0).fit(*_doubled(rows, p_wrong, weight))
    return lambda s: fitted.predict_proba(logit(_inside(s))[:, None])[:, 1]


def _isotonic(scores: np.ndarray, p_wrong: np.ndarray, weight: np.ndarray) -> Score:
    """Any rising curve (Zadrozny and Elkan, 2002). A hundredth of the score is kept, for steps would tie whole ranks."""
    fitted = IsotonicRegression(y_min=EDGE, y_max=1 - EDGE, out_of_bounds="clip").fit(scores, p_wrong, weight)
    return lambda s: 0.99 * fitted.predict(s) + 0.01 * s


_CALIBRATIONS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], Score]] = {
    "none": lambda scores, p_wrong, weight: lambda s: s,
    "platt": _platt,
    "isotonic": _isotonic,
}


def _calibration(scores, p_wrong, weight, fold) -> tuple[str, np.ndarray]:
    """The simplest calibration that no other clearly beats out of fold, and its out-of-fold probabilities."""
    tried = {}
    for name, fit in _CALIBRATIONS.items():
        tried[name] = np.zeros(len(scores))
        for k in np.unique(fold):
            inside = fold != k
            if p_wrong[inside].round().min() == p_wrong[inside].round().max():
                tried[name][~inside] = scores[~inside]
                continue
            tried[name][~inside] = fit(scores[inside], p_wrong[inside], weight[inside])(scores[~inside])
    losses = {name: _loss(p, p_wrong, weight) for name, p in tried.items()}
    best = "none"
    for name in ("platt", "isotonic"):
        if losses[name] < losses[best] - CLEARLY:
            best = name
    return best, tried[best]
