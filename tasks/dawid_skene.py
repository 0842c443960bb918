"""Dawid and Skene's model of a crowd: each annotator has a confusion matrix, learned together with the labels by EM.

    votes (item 0, ana, "yes") …  =>  table (items × answers) of posteriors, confusion (people × kinds × answers)

Both steps are one product with the sparse matrix items × (person, answer), so a million labels take seconds. Confusions have a
Dirichlet prior (MAP, not maximum likelihood): few labels a person would otherwise run to 0 and 1.

With `kinds=2` every class has clear items and contested ones, each kind with confusions of its own: people who err on the same
items are then no longer taken for independent witnesses (Li, Rubinstein and Cohn, 2019, "Exploiting worker correlation for label
aggregation in crowdsourcing", of which this is a small MAP version with a start that needs no draw).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

ITERATIONS, CONVERGED = 100, 1e-3  # of a posterior: no label hangs on less
RIGHT, WRONG = 2.0, 1.0  # as if everybody had been right twice in each class, and wrong once in all other answers together
KIND = 1.0  # pseudo-items of each kind and class


@dataclass(frozen=True, slots=True)
class Confusions:
    """Posterior (items × kinds of all classes), confusion[person, kind, answer], prior share and class of each kind."""

    posterior: np.ndarray
    confusion: np.ndarray
    share: np.ndarray
    of_class: np.ndarray

    def classes(self) -> np.ndarray:
        """Posterior of each class: items × classes."""
        kinds = len(self.of_class) // (int(self.of_class[-1]) + 1)
        return self.posterior.reshape(len(self.posterior), -1, kinds).sum(axis=2)


def dawid_skene(
    item: np.ndarray, person: np.ndarray, answer: np.ndarray, shape: tuple[int, int, int], gold: np.ndarray, kinds: int = 1
) -> Confusions:
    """EM on votes (three index arrays of equal length). `shape` is (items, people, classes).

    `gold` has the known class of each item, -1 where it is not known; known items stay what they are. Source: Dawid and
    Skene (1979); the prior as in Kim and Ghahramani (2012), its mode instead of its mean.
    """
    items, people, classes = shape
    votes = sparse.csr_matrix((np.ones(len(item)), (item, person * classes + answer)), shape=(items, people * classes))
    by_person = votes.T.tocsr()
    of_class = np.repeat(np.arange(classes), kinds)
    prior = np.full((len(of_class), classes), WRONG / max(1, classes - 1))
    prior[np.arange(len(of_class)), of_class] = RIGHT
    known = np.flatnonzero(gold >= 0)
    possible = (of_class[None, :] == gold[known, None]).astype(float)
    posterior = _start(item, answer, items, classes, kinds)
    for _ in range(ITERATIONS):
        posterior[known] = _rows(posterior[known] * possible + 1e-12 * possible)
        counts = np.asarray(by_person @ posterior).reshape(people, classes, -1).transpose(0, 2, 1)
        confusion = _rows(counts + prior)
        weight = posterior.sum(axis=0) + KIND
        score = votes @ np.log(confusion).transpose(0, 2, 1).reshape(people * classes, -1) + np.log(weight / weight.sum())
        before, posterior = posterior, _rows(np.exp(score - score.max(axis=1, keepdims=True)))
        posterior[known] = _rows(posterior[known] * possible + 1e-12 * possible)
        if np.abs(posterior - before).max() < CONVERGED:
            break
    return Confusions(posterior, confusion, weight / weight.sum(), of_class)


def _start(item: np.ndarray, answer: np.ndarray, items: int, classes: int, kinds: int) -> np.ndarray:
    """Shares of the votes; an item belongs the more to the first kind of its classes the more its voters agree."""
    shares = np.bincount(item * classes + answer, minlength=items * classes).reshape(items, classes).astype(float)
    shares[shares.sum(axis=1) == 0] = 1.0
    shares = _rows(shares)
    if kinds == 1:
        return shares
    clear = (shares.max(axis=1) - 1 / classes) / (1 - 1 / classes) if classes > 1 else np.ones(items)
    away = np.abs(clear[:, None] * (kinds - 1) - np.arange(kinds - 1, -1, -1)[None, :])
    belongs = _rows(np.maximum(1 - away, 0) + 0.1)  # nothing is quite excluded, or EM could never put it back
    return (shares[:, :, None] * belongs[:, None, :]).reshape(items, -1)


def _rows(weights: np.ndarray) -> np.ndarray:
    return weights / weights.sum(axis=-1, keepdims=True)
