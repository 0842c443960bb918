"""Noise: labels that contradict what alike texts are labelled, by confident learning (Northcutt, Jiang and Chuang, 2021).

    "where is my money" labelled `battery`, where such texts are labelled `refund`  ->  flagged, suggested `refund`, confidence 0.93

A classifier of words sees each row only from outside (out of fold, near-duplicates together). A row is flagged where it is at
least as sure of another label as it is on average of rows that bear that label, and surer than `noise_confidence`. A flag is a
reason to look again, never a new label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy import sparse

from tasks.hygiene.folding import fold_column
from tasks.hygiene.grams import blocks, grams, words
from tasks.hygiene.lots import coded, lot
from tasks.hygiene.params import HygieneParams

FOLDS = 5
LEAST_ROWS, LEAST_OF_LABEL = 100, 8  # fewer say nothing about what is usual
BITS = 17  # columns of words and pairs of words
EPOCHS, PULL = 5, 1e-5
CELLS = 4_000_000  # rows times labels, up to which a linear model takes a quarter of a minute; naive Bayes is faster and sees less
SHARPNESS, SMOOTHING = 5.0, 0.3  # of naive Bayes, whose own probabilities hardly differ
BLOCK = 4096


@dataclass(frozen=True, slots=True)
class Noise:
    """Per row whether its label looks wrong, the label that alike rows have, and how sure the classifier is of that (both '' and
    0.0 where too little is known). `judged`: of how many rows something could be said; `share`: of those that are flagged."""

    flagged: np.ndarray
    suggested: np.ndarray
    confidence: np.ndarray
    judged: int
    share: float


def noise(
    texts: pa.Array | Sequence[str], labels: Sequence[str], groups: Sequence[str], params: HygieneParams, cells: int = CELLS
) -> Noise:
    """Texts with one label each, and their groups of near-duplicates, in any order -> which labels look wrong."""
    n = len(labels)
    nothing = Noise(np.zeros(n, bool), np.full(n, "", object), np.zeros(n), 0, 0.0)
    column = fold_column(texts if isinstance(texts, pa.Array | pa.ChunkedArray) else pa.array(texts, pa.string()))
    names = pa.array(labels, pa.string())
    code = coded(names)
    usual = np.bincount(code, minlength=1)[code] >= LEAST_OF_LABEL if n else np.zeros(0, bool)
    rows = np.flatnonzero(usual)
    if len(rows) < LEAST_ROWS or len(np.unique(code[rows])) < 2:
        return nothing
    # Training goes through the rows in an order of their own, whatever order they came in.
    rows = rows[np.lexsort((code[rows], coded(column)[rows]))]
    kinds, label = np.unique(code[rows], return_inverse=True)
    fold = (lot([groups[k] for k in rows], params.key) % np.uint64(FOLDS)).astype(np.int64)
    own, best, sure = _out_of_fold(_bags(column.take(pa.array(rows))), label, fold, len(kinds), cells)
    usually = np.bincount(label, own, minlength=len(kinds)) / np.bincount(label, minlength=len(kinds))
    wrong = (best != label) & (sure >= usually[best]) & (sure >= params.noise_confidence)
    distinct = np.asarray(sorted(set(labels)), object)
    flagged, suggested, confidence = nothing.flagged, nothing.suggested, nothing.confidence
    flagged[rows], suggested[rows], confidence[rows] = wrong, distinct[kinds[best]], sure
    return Noise(flagged, suggested, confidence, len(rows), float(wrong.mean()))


def _bags(folded: pa.Array) -> sparse.csr_matrix:
    """Words and pairs of words by how rare they are, each row of length 1."""
    columns, starts, before = [np.empty(0, np.int64)], [np.zeros(1, np.int64)], 0
    for _, block in blocks(folded):
        found = grams(words(block), 2)
        order = np.argsort(found.row, kind="stable")
        columns.append((found.number[order] >> np.uint64(64 - BITS)).astype(np.int64))
        starts.append(before + np.cumsum(np.bincount(found.row, minlength=len(block))))
        before = int(starts[-1][-1])
    indices = np.concatenate(columns)
    bags = sparse.csr_matrix((np.ones(len(indices)), indices, np.concatenate(starts)), shape=(len(folded), 1 << BITS))
    bags.sum_duplicates()
    rare = np.log((1 + len(folded)) / (1 + np.bincount(bags.indices, minlength=1 << BITS))) + 1
    bags.data = rare[bags.indices]
    row = np.repeat(np.arange(len(folded)), np.diff(bags.indptr))
    bags.data /= np.sqrt(np.bincount(row, bags.data**2, minlength=len(folded)))[row]
    return bags


def _out_of_fold(
    bags: sparse.csr_matrix, label: np.ndarray, fold: np.ndarray, kinds: int, cells: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each row the probability of its own label, the likeliest label and its probability, by those of other folds."""
    # Only here, because the classifiers take a second to import.
    from sklearn.linear_model import SGDClassifier
    from sklearn.naive_bayes import ComplementNB

    linear = len(label) * kinds <= cells
    own, best, sure = np.zeros(len(label)), label.copy(), np.zeros(len(label))
    for k in range(FOLDS):
        train, out = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        if not len(out) or len(np.unique(label[train])) < 2:
            continue
        if linear:
            model = SGDClassifier(loss="log_loss", alpha=PULL, max_iter=EPOCHS, tol=None, random_state=0)
        else:
            model = ComplementNB(alpha=SMOOTHING)
        model.fit(bags[train], label[train])
        for start in range(0, len(out), BLOCK):
            some = out[start : start + BLOCK]
            chance = np.zeros((len(some), kinds))
            chance[:, model.classes_] = model.predict_proba(bags[some]) if linear else _naive(model, bags[some])
            own[some] = chance[np.arange(len(some)), label[some]]
            best[some] = chance.argmax(axis=1)
            sure[some] = chance.max(axis=1)
    return own, best, sure


def _naive(model, bags: sparse.csr_matrix) -> np.ndarray:
    score = SHARPNESS * model.predict_joint_log_proba(bags)
    score = np.exp(score - score.max(axis=1, keepdims=True))
    return score / score.sum(axis=1, keepdims=True)
