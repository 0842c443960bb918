"""Texts -> dense vectors: hashed n-grams, weighted by rarity, reduced by truncated SVD.

Learned without labels from the questions people really ask, so that words which occur together come to lie together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy import sparse
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.utils.extmath import randomized_svd

from tasks.policy import Messages

WORDS = HashingVectorizer(n_features=2**14, ngram_range=(1, 2), alternate_sign=False, norm=None, dtype=np.float32)
PIECES = HashingVectorizer(
    n_features=2**15, analyzer="char_wb", ngram_range=(3, 5), alternate_sign=False, norm=None, dtype=np.float32
)
EARLIER_TURN = 0.35  # what was asked before helps to understand "and how much is that?", but weighs less


@dataclass(frozen=True, slots=True)
class EncoderParams:
    dimensions: int


@dataclass(frozen=True, slots=True)
class Encoder:
    """`columns` (features,) of the hashed n-grams that are kept, their `rarity`, `components` (dimensions, features)."""

    columns: np.ndarray
    rarity: np.ndarray
    components: np.ndarray

    @classmethod
    def fit(cls, texts: Sequence[str], dimensions: int) -> Encoder:
        """Learn from unlabelled texts. An n-gram of one text only relates it to nothing and is left out."""
        counts = _counts(texts)
        present = counts.getnnz(axis=0)
        columns = np.flatnonzero(present >= min(2, len(texts)))
        rarity = (np.log((1 + len(texts)) / (1 + present[columns])) + 1).astype(np.float32)
        weights = _weighted(counts[:, columns], rarity)
        dimensions = min(dimensions, min(weights.shape) - 1)
        if dimensions < 1:  # texts that share nothing: zero vectors, like nothing and no two alike
            return cls(columns.astype(np.int32), rarity, np.zeros((1, len(columns)), np.float16))
        _, _, components = randomized_svd(weights, dimensions, n_iter=2, random_state=0)
        return cls(columns.astype(np.int32), rarity, np.ascontiguousarray(components, dtype=np.float16))

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """(n, dimensions) unit vectors; a text without any known feature is a zero vector."""
        distinct = {text: row for row, text in enumerate(dict.fromkeys(texts))}  # answers repeat, and so do questions
        weights = _weighted(_counts(list(distinct))[:, self.columns], self.rarity)
        # Only the features that occur: of a single question some dozens of thousands. The sums are the same, bit for bit.
        used = np.unique(weights.indices)
        dense = weights[:, used] @ np.ascontiguousarray(self.components[:, used].T, np.float32)
        return _unit(np.asarray(dense, np.float32))[[distinct[t] for t in texts]]

    def conversations(self, conversations: Sequence[Messages]) -> np.ndarray:
        """(n, dimensions): the last user message, with the one before it at a lower weight."""
        asked = [[m["content"] for m in c if m["role"] == "user"] for c in conversations]
        last = self.texts([a[-1] if a else "" for a in asked])
        before = self.texts([a[-2] if len(a) > 1 else "" for a in asked])
        return _unit(last + EARLIER_TURN * before)

    def save(self, folder: Path) -> None:
        stored = {"columns": self.columns, "rarity": self.rarity, "components": self.components}
        save_file(stored, folder / "encoder.safetensors")

    @classmethod
    def load(cls, folder: Path) -> Encoder:
        return cls(**load_file(folder / "encoder.safetensors"))


def _counts(texts: Sequence[str]) -> sparse.csr_matrix:
    lowered = [t.casefold() for t in texts]
    return sparse.hstack([WORDS.transform(lowered), PIECES.transform(lowered)], format="csr")


def _weighted(counts: sparse.csr_matrix, rarity: np.ndarray) -> sparse.csr_matrix:
    weights = counts.copy()
    weights.data = 1 + np.log(weights.data)
    weights = weights.multiply(rarity[None, :]).tocsr()
    length = np.sqrt(np.asarray(weights.multiply(weights).sum(axis=1)).ravel())
    return sparse.diags(1 / np.maximum(length, 1e-9)).astype(np.float32) @ weights


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
