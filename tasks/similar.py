"""Near-duplicate texts: normalise, cut into character shingles, compare by exact Jaccard overlap.

    "Hi, how do I CANCEL?" ~ "how do i cancel"      ("cancl" is near, "pause" is not)

Sparse matrix products give the exact overlap of every pair; nothing is sampled or hashed away at this size.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import HashingVectorizer

BLOCK_ROWS = 1024
_SPACE = re.compile(r"\s+")
_NOISE = re.compile(r"[^\w\s]|_")


def normalise(text: str) -> str:
    """Case, width, invisible characters, punctuation and spacing do not make a text another text."""
    visible = "".join(
        c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) not in ("Cf", "Cc") or c in "\n\t "
    )
    return _SPACE.sub(" ", _NOISE.sub(" ", visible.casefold())).strip()


def shingles(texts: Sequence[str]) -> sparse.csr_matrix:
    """Texts -> binary matrix (n, 2**20) of character trigrams within words; rows of empty texts are empty."""
    vectorizer = HashingVectorizer(
        analyzer="char_wb",
        ngram_range=(3, 3),
        binary=True,
        norm=None,
        alternate_sign=False,
        dtype=np.float32,
        lowercase=False,
    )
    return vectorizer.transform(normalise(t) for t in texts)


def near_pairs(left: sparse.csr_matrix, right: sparse.csr_matrix, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices (i, j) of all pairs with Jaccard(left[i], right[j]) >= threshold, ordered by i, then j."""
    left_sizes, right_sizes = left.getnnz(axis=1), right.getnnz(axis=1)
    rows, columns = [], []
    transposed = right.T.tocsc()
    for start in range(0, left.shape[0], BLOCK_ROWS):
        overlap = (left[start : start + BLOCK_ROWS] @ transposed).tocoo()
        union = left_sizes[start + overlap.row] + right_sizes[overlap.col] - overlap.data
        near = overlap.data >= threshold * union
        rows.append(start + overlap.row[near])
        columns.append(overlap.col[near])
    i, j = (np.concatenate(p) if p else np.empty(0, int) for p in (rows, columns))
    order = np.lexsort((j, i))
    return i[order], j[order]
