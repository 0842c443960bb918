"""Near-duplicate texts: normalise, cut into character trigrams, compare by exact Jaccard overlap.

    "Hi, how do I CANCEL?" ~ "how do i cancel"      ("cancl" is near, "pause" is not)

`near_pairs` finds every pair, for the wall. `collapse` (tasks/collapse.py) does with a sketch what no exact join can do for
a million long texts.
"""

from __future__ import annotations

import functools
import re
import sys
import unicodedata
from collections.abc import Sequence

import numpy as np
from scipy import sparse

COLUMNS = 2**20
BLOCK_ROWS = 1024
BLOCK_PAIRS = 4096
# More shared rare trigrams let fewer pairs pass and cost more to count; 4 to 9 are alike on 10,000 questions of clinc150.
SHARED = 6
_SPACE = re.compile(r"\s+")
_NOISE = re.compile(r"[^\w\s]|_")
_MIX = np.uint64(0x9E3779B97F4A7C15)  # Knuth's multiplicative hashing, by the golden ratio


def normalise(text: str) -> str:
    """Case, width, invisible characters, punctuation and spacing do not make a text another text."""
    if text.isascii():  # the same, twenty times as fast
        return " ".join(text.translate(_ascii()).split())
    visible = _invisible().sub("", unicodedata.normalize("NFKC", text))
    return _SPACE.sub(" ", _NOISE.sub(" ", visible.casefold())).strip()


@functools.cache
def _invisible() -> re.Pattern[str]:
    """Controls and format characters, but for line ends and tabs, which are space."""
    codes = [c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c) in ("Cf", "Cc")]
    return re.compile("[" + "".join(re.escape(c) for c in codes if c not in "\n\t") + "]")


@functools.cache
def _ascii() -> dict[int, str | None]:
    def to(c: str) -> str | None:
        if c.isalnum():
            return c.lower()
        return None if unicodedata.category(c) == "Cc" and c not in "\n\t" else " "

    return {code: to(chr(code)) for code in range(128)}


def shingles(texts: Sequence[str]) -> sparse.csr_matrix:
    """Texts -> binary matrix (n, 2**20) of character trigrams within words; rows of empty texts are empty."""
    parts, sizes = [np.empty(0, np.int32)], [np.empty(0, np.int64)]
    for start in range(0, len(texts), BLOCK_ROWS):
        columns, counts = _columns(texts[start : start + BLOCK_ROWS])
        parts.append(columns)
        sizes.append(counts)
    columns = np.concatenate(parts)
    starts = np.concatenate([[0], np.cumsum(np.concatenate(sizes))])
    return sparse.csr_matrix((np.ones(len(columns), np.float32), columns, starts), shape=(len(texts), COLUMNS))


def _columns(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The columns of each text's trigrams, in order, text after text; and how many each text has."""
    padded = [f" {normalise(t)} " for t in texts]
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint64)
    # 21 bits hold a code point, so that 63 hold a trigram; the middle of a trigram within a word is never a space.
    trigrams = codes[:-2] | codes[1:-1] << np.uint64(21) | codes[2:] << np.uint64(42)
    row = np.repeat(np.arange(len(padded), dtype=np.uint32), [len(t) for t in padded])[1:-1]
    inside = codes[1:-1] != ord(" ")
    # A thousand rows and a million columns fit 30 bits, and short numbers sort in half the time.
    cells = np.sort(row[inside] << np.uint32(20) | (trigrams[inside] * _MIX >> np.uint64(44)).astype(np.uint32))
    cells = cells[np.diff(cells, prepend=np.uint32(2**32 - 1)) != 0]
    counts = np.bincount((cells >> np.uint32(20)).astype(np.int64), minlength=len(padded))
    return (cells & np.uint32(COLUMNS - 1)).astype(np.int32), counts


def jaccard(left: sparse.csr_matrix, right: sparse.csr_matrix, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Jaccard(left[i[k]], right[j[k]]) for every k, in [0, 1]; two empty texts have nothing in common: 0."""
    left_sizes, right_sizes = left.getnnz(axis=1), right.getnnz(axis=1)
    found = np.zeros(len(i))
    for start in range(0, len(i), BLOCK_PAIRS):
        block = slice(start, start + BLOCK_PAIRS)
        shared = np.asarray(left[i[block]].multiply(right[j[block]]).sum(axis=1)).ravel()
        found[block] = shared / np.maximum(left_sizes[i[block]] + right_sizes[j[block]] - shared, 1)
    return found


def near_pairs(left: sparse.csr_matrix, right: sparse.csr_matrix, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices (i, j) of all pairs with Jaccard(left[i], right[j]) >= threshold > 0, ordered by i, then j.

    Exact. A near pair shares at least ceil(threshold |x|) trigrams, and so at least SHARED of the rarest
    |x| - ceil(threshold |x|) + SHARED on either side, whatever order tells what is rare (prefix filter: Chaudhuri et al.,
    2006; longer prefixes: Wang et al., 2012). The frequent trigrams, which cost nearly everything, are left to the few
    pairs that pass.
    """
    # Rare in both: a trigram costs the product of how often either side has it.
    counts = np.bincount(left.indices, minlength=COLUMNS) * np.bincount(right.indices, minlength=COLUMNS)
    rank = np.empty(COLUMNS, np.int64)
    rank[np.argsort(counts, kind="stable")] = np.arange(COLUMNS)
    first, second = _prefix(left, rank, threshold), _prefix(right, rank, threshold).T.tocsr()
    left_sizes, right_sizes = left.getnnz(axis=1), right.getnnz(axis=1)
    rows, columns = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for start in range(0, left.shape[0], BLOCK_ROWS):
        met = (first[start : start + BLOCK_ROWS] @ second).tocoo()
        i, j = start + met.row.astype(np.int64), met.col.astype(np.int64)
        small, large = np.minimum(left_sizes[i], right_sizes[j]), np.maximum(left_sizes[i], right_sizes[j])
        likely = (small >= threshold * large) & (met.data >= np.minimum(SHARED, _least(large, threshold)))
        i, j = i[likely], j[likely]
        near = jaccard(left, right, i, j) >= threshold
        rows.append(i[near])
        columns.append(j[near])
    i, j = np.concatenate(rows), np.concatenate(columns)
    order = np.lexsort((j, i))
    return i[order], j[order]


def _least(sizes: np.ndarray, threshold: float) -> np.ndarray:
    """How many trigrams a near set must share. A hair less: rounding must never lose a pair that lies on the threshold."""
    return np.ceil(threshold * sizes - 1e-6).astype(np.int64)


def _prefix(sets: sparse.csr_matrix, rank: np.ndarray, threshold: float) -> sparse.csr_matrix:
    """The rarest trigrams of each set: as many as it takes that no near set can miss more than all but SHARED of them."""
    sizes = np.diff(sets.indptr).astype(np.int64)
    row = np.repeat(np.arange(len(sizes)), sizes)
    order = np.argsort(row << 20 | rank[sets.indices])
    place = np.arange(len(order)) - np.repeat(sets.indptr[:-1], sizes)
    keep = place < np.repeat(sizes - _least(sizes, threshold) + SHARED, sizes)
    kept = np.bincount(row[keep], minlength=len(sizes))
    indptr = np.concatenate([[0], np.cumsum(kept)])
    return sparse.csr_matrix((np.ones(keep.sum(), np.float32), sets.indices[order][keep], indptr), shape=sets.shape)
