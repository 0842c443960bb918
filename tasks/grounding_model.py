"""Learns from people's marks which sentences are made up, and sums up what that means for the answer that they stand in.

    854 answers with marked spans, 4,290 with a judge's verdict  ->  sentence "Free parking is available."   0.61
                                                                     its answer: some_wrong 0.74, worst 0.61, wording 0.35, …

Sentences: boosted trees and a logistic regression on `signals.grounding_features`. Where spans were marked they tell which
sentences are wrong; where only the verdict on the whole answer is known, its sentences share it: all are right in a right
answer; in a wrong one at least one is wrong, and the likeliest most probably (one step of expectation-maximisation over the
noisy-or, as in multiple-instance learning; Zhang and Goldman, 2001). What feeds a later step is out of fold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import logit
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

EDGE = 1e-3
WHERE = ("row", "start", "end")
WAYS = ("marked", "trees", "line", "both")
SHAPES = ("some_wrong", "surely_right", "worst", "second", "mean", "squares")


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What is known of n answers. `p_wrong` (n,) in [0, 1]; `weight` (n,); `groups` (n,) that never stand on both sides of a fold;
    `marked` (n,) whether people marked the wrong sentences; `wrong_sentence` (sentences,) those marks, unread elsewhere.
    """

    p_wrong: np.ndarray
    weight: np.ndarray
    groups: Sequence[str]
    marked: np.ndarray
    wrong_sentence: np.ndarray


@dataclass(frozen=True, slots=True)
class GroundingModel:
    """`columns` of the sentences that it reads. `marked` learned from marked sentences, `trees` and `line` from all;
    `wording` reads the whole answer. `out_of_fold` (n, features) are the training answers, seen by models without their group.
    """

    columns: tuple[str, ...]
    marked: HistGradientBoostingClassifier
    trees: HistGradientBoostingClassifier
    line: Pipeline
    wording: Pipeline
    out_of_fold: pd.DataFrame

    def sentence_probability(self, sentences: pd.DataFrame) -> np.ndarray:
        """(sentences,) P(wrong) of each row of `sentence_features`."""
        return _by_sentence(self, sentences)["both"].to_numpy()

    def answer_features(self, sentences: pd.DataFrame, responses: Sequence[str]) -> pd.DataFrame:
        """(n, features) for `error_model`; `sentences` are those of the n `responses`, by `row`."""
        return _by_answer(_by_sentence(self, sentences), sentences["row"].to_numpy(), self._wording(responses))

    def _wording(self, responses: Sequence[str]) -> np.ndarray:
        return self.wording.predict_proba(list(responses))[:, 1] if len(responses) else np.zeros(0)


def grounding_model(
    sentences: pd.DataFrame, responses: Sequence[str], verdicts: Verdicts, folds: int = 3, seed: int = 0
) -> GroundingModel:
    """Fit on n answers and their sentences (`row` says whose they are; all columns but WHERE are features).

    Raises ValueError where nobody marked a sentence.
    """
    row, texts = sentences["row"].to_numpy(), np.array(list(responses), object)
    if not verdicts.wrong_sentence[verdicts.marked[row]].any():
        raise ValueError("no marked sentence to learn from")
    names, group = np.unique([str(g) for g in verdicts.groups], return_inverse=True)
    fold = (np.random.default_rng(seed).permutation(len(names)) % folds)[group]
    by_sentence = pd.DataFrame(np.zeros((len(row), len(WAYS))), columns=list(WAYS))
    wording = np.zeros(len(texts))
    for k in range(folds):
        out = fold == k
        model = _fitted(sentences, texts, verdicts, ~out, seed)
        by_sentence.loc[out[row]] = _by_sentence(model, sentences[out[row]]).to_numpy()
        wording[out] = model._wording(texts[out])
    return _fitted(sentences, texts, verdicts, np.ones(len(texts), bool), seed, _by_answer(by_sentence, row, wording))


def _fitted(sentences, texts, verdicts: Verdicts, use: np.ndarray, seed: int, out_of_fold=None) -> GroundingModel:
    """The models of the answers in `use`: first from marked sentences, then with the other verdicts shared out."""
    columns = tuple(c for c in sentences.columns if c not in WHERE)
    x, row = _x(sentences, columns), sentences["row"].to_numpy()
    marked, rest = use[row] & verdicts.marked[row], use[row] & ~verdicts.marked[row]
    wrong, weight = verdicts.wrong_sentence[marked].astype(float), verdicts.weight[row]
    first, first_line = (_fit(m, x[marked], wrong, weight[marked]) for m in (_trees(seed), _line()))
    trees, line = first, first_line
    if rest.any():
        p = (first.predict_proba(x[rest])[:, 1] + first_line.predict_proba(x[rest])[:, 1]) / 2
        none = np.exp(np.bincount(row[rest], weights=np.log1p(-np.clip(p, 0, 1 - EDGE)), minlength=len(texts)))
        share = verdicts.p_wrong[row[rest]] * np.clip(p / np.maximum(1 - none[row[rest]], EDGE), 0, 1)
        order = np.concatenate([np.flatnonzero(marked), np.flatnonzero(rest)])
        both = x[order], np.concatenate([wrong, share]), weight[order]
        trees, line = _fit(_trees(seed), *both), _fit(_line(), *both)
    wording = make_pipeline(
        # Hashed, because the answers of a small log may share no word at all.
        HashingVectorizer(n_features=2**16, alternate_sign=False, norm=None, dtype=np.float32),
        TfidfTransformer(sublinear_tf=True),
        LogisticRegression(C=2.0, max_iter=100, tol=1e-3),
    )
    hard = verdicts.p_wrong[use] >= 0.5
    wording.fit(texts[use], hard, logisticregression__sample_weight=verdicts.weight[use])
    return GroundingModel(columns, first, trees, line, wording, pd.DataFrame() if out_of_fold is None else out_of_fold)


def _trees(seed: int) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(
        max_iter=120, learning_rate=0.06, max_leaf_nodes=8, min_samples_leaf=20, l2_regularization=5.0,
        early_stopping=False, random_state=seed,
    )  # fmt: skip


def _line() -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=200))


def _fit(model, x: np.ndarray, wrong: np.ndarray, weight: np.ndarray):
    """Soft labels are two hard ones that share the weight."""
    weights = np.concatenate([weight * wrong, weight * (1 - wrong)])
    real = weights > 0.01 * weight.mean()
    key = f"{model.steps[-1][0]}__sample_weight" if isinstance(model, Pipeline) else "sample_weight"
    return model.fit(np.vstack([x, x])[real], np.repeat([1, 0], len(x))[real], **{key: weights[real]})


def _x(sentences: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    return sentences[list(columns)].to_numpy(np.float32)


def _by_sentence(model: GroundingModel, sentences: pd.DataFrame) -> pd.DataFrame:
    """(sentences, WAYS) P(wrong); 'both' is the mean of trees and line."""
    if not len(sentences):
        return pd.DataFrame(np.zeros((0, len(WAYS))), columns=list(WAYS))
    x = _x(sentences, model.columns)
    p = {way: getattr(model, way).predict_proba(x)[:, 1] for way in WAYS[:-1]}
    return pd.DataFrame(p | {"both": (p["trees"] + p["line"]) / 2})


def _by_answer(by_sentence: pd.DataFrame, row: np.ndarray, wording: np.ndarray) -> pd.DataFrame:
    """(n, features): SHAPES of each way's probabilities over an answer's sentences, their count, and the wording's log odds."""
    n = len(wording)
    count = np.bincount(row, minlength=n)
    columns = {}
    for way in WAYS:
        p = np.clip(by_sentence[way].to_numpy(), 0, 1 - EDGE)
        right = np.bincount(row, weights=np.log1p(-p), minlength=n)
        worst, second = np.zeros(n), np.zeros(n)
        np.maximum.at(worst, row, p)
        np.maximum.at(second, row, np.where(p >= worst[row], 0.0, p))
        mean = np.bincount(row, weights=p, minlength=n) / np.maximum(count, 1)
        squares = np.bincount(row, weights=p * p, minlength=n)
        shapes = (1 - np.exp(right), right, worst, second, mean, squares)
        columns |= {f"{way}_{shape}": values for shape, values in zip(SHAPES, shapes, strict=True)}
    columns["sentences"] = np.log1p(count)
    columns["wording"] = logit(np.clip(wording, EDGE, 1 - EDGE))
    return pd.DataFrame(columns)
