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
BLOCK_CELLS = 2**24  # pairs that one product of matrices may meet
BLOCK_PAIRS = 4096
# More shared rare trigrams let fewer pairs pass and cost more to count; with bitmaps, 1 to 3 are alike on 10,000 questions.
SHARED = 3
BITS_EACH = 3  # bits of a bitmap a trigram, on average
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
    """Indices (i, j) of all pairs with Jaccard(left[i], right[j]) >= threshold > 0, ordered by i, then j. Exact."""
    return Near(right, threshold).pairs(left)


class Near:
    """Sets among which those near to others are looked up, many times.

    A near pair shares at least ceil(threshold |x|) trigrams, and so at least SHARED of the rarest
    |x| - ceil(threshold |x|) + SHARED on either side, whatever order tells what is rare (prefix filter: Chaudhuri et al.,
    2006; longer prefixes: Wang et al., 2012). Pairs that pass are held against each other as bitmaps, in which two sets
    differ by no more bits than they have trigrams of their own (Sandes, Teodoro and Melo, 2020). So the frequent trigrams,
    which cost nearly everything, are left to the few pairs that pass both.
    """

    def __init__(self, sets: sparse.csr_matrix, threshold: float):
        self._threshold = threshold
        sizes = np.diff(sets.indptr)
        self._order = np.argsort(sizes, kind="stable")  # near sets are of like size
        self._sets, self._sizes = sets[self._order], sizes[self._order]
        counts = np.bincount(sets.indices, minlength=COLUMNS)
        self._rank = np.empty(COLUMNS, np.int64)
        self._rank[np.argsort(counts, kind="stable")] = np.arange(COLUMNS)
        self._prefix = _prefix(self._sets, self._rank, threshold)
        wide = sets.nnz / max(1, len(sizes)) * BITS_EACH / 64
        self._bitmaps = _bitmaps(self._sets, int(np.clip(2 ** np.ceil(np.log2(max(wide, 1))), 2, 16)))

    def pairs(self, left: sparse.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
        """Indices (i, j) of left and of these sets, ordered by i, then j."""
        sizes = np.diff(left.indptr)
        order = np.argsort(sizes, kind="stable")
        left, sizes = left[order], sizes[order]
        prefix, bitmaps = _prefix(left, self._rank, self._threshold), _bitmaps(left, self._bitmaps.shape[1])
        # The smaller of two near sets may have fewer trigrams than are asked for.
        enough = np.minimum(SHARED, _least(sizes, self._threshold)).astype(np.float32)
        step = int(np.clip(BLOCK_CELLS // max(1, len(self._order)), 16, BLOCK_ROWS))
        found_i, found_j = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for start in range(0, len(sizes), step):
            stop = min(start + step, len(sizes))
            first = np.searchsorted(self._sizes, max(1, _least(sizes[start], self._threshold)))
            last = np.searchsorted(self._sizes, sizes[stop - 1] / self._threshold + 1e-6, side="right")
            if not sizes[stop - 1] or first >= last:
                continue
            met = prefix[start:stop] @ self._prefix[first:last].T.tocsr()
            each = np.diff(met.indptr)
            passing = met.data >= np.repeat(enough[start:stop], each)
            i = np.repeat(np.arange(start, stop), each)[passing]
            j = first + met.indices[passing].astype(np.int64)
            i, j = _alike(bitmaps, self._bitmaps, i, j, sizes[i] + self._sizes[j], self._threshold)
            near = jaccard(left, self._sets, i, j) >= self._threshold
            found_i.append(i[near])
            found_j.append(j[near])
        i, j = order[np.concatenate(found_i)], self._order[np.concatenate(found_j)]
        sort = np.lexsort((j, i))
        return i[sort], j[sort]


def _bitmaps(sets: sparse.csr_matrix, words: int) -> np.ndarray:
    """Each set as 64 * words bits (n, words): a trigram sets one of them."""
    bit = sets.indices.astype(np.uint64) * _MIX >> np.uint64(64 - 6 - (words.bit_length() - 1))
    row = np.repeat(np.arange(sets.shape[0]), np.diff(sets.indptr))
    maps = np.zeros(sets.shape[0] * words, np.uint64)
    np.bitwise_or.at(maps, row * words + (bit >> np.uint64(6)).astype(np.int64), np.uint64(1) << (bit & np.uint64(63)))
    return maps.reshape(-1, words)


def _alike(
    left: np.ndarray, right: np.ndarray, i: np.ndarray, j: np.ndarray, sizes: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """The pairs whose bitmaps differ by no more bits than sets of these sizes (the sum of both) may differ by trigrams."""
    most = sizes * ((1 - threshold) / (1 + threshold)) + 1e-6
    differ = np.zeros(len(i))
    for word in range(left.shape[1]):
        differ += np.bitwise_count(left[i, word] ^ right[j, word])
        keep = differ <= most
        i, j, differ, most = i[keep], j[keep], differ[keep], most[keep]
    return i, j


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
