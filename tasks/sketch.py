"""Sketches of texts: some hundred bytes, by which texts that share most of their windows of five bytes meet, and few others.

    "Cancel my plan!", "cancel my plans"   ->   64 bands of which they share many, 384 bins of which most are the same

A sketch is a pure function of its text, so that any engine may compute it, a partition at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.similar import normalise

# A pair whose trigrams overlap by .8 shares about two thirds of its windows of five bytes, and two texts that have
# nothing to do with each other 3 to 7%; trigrams themselves do not tell (20 to 35%).
WINDOW = 5
ROWS, BANDS = 6, 64
BINS = ROWS * BANDS
BLOCK_BYTES = 65_536  # windows hashed at a time: they stay in the processor's cache (5 times as fast as all at once)
NEIGHBOURS = 3
FIRST_LOOK, FIRST_LEAST = 64, 0.6  # bins that are looked at first, and the share of what is asked for that is enough there
BLOCK_AGREE = 8192
MOST_PAIRS = 20_000_000  # met again and again by band after band, before the repeats are taken out
GAP = "\n" * (WINDOW - 1)  # between texts: no window holds bytes of two
_EMPTY = np.uint32(2**32 - 1)
_MIX, _MIX2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)  # odd constants of splitmix-like hashes



@dataclass(frozen=True, slots=True)
class Sketch:
    """Of n texts: `same` (n, uint64), equal for texts that normalise alike; `bands` (n, BINS // rows, uint32), by which candidates
    are found; `bins` (n, BINS, uint8), the share of which that two texts have in common estimates their overlap of windows.
    """

    same: np.ndarray
    bands: np.ndarray
    bins: np.ndarray


def sketch(texts: Sequence[str], rows: int = ROWS) -> Sketch:
    """One-permutation MinHash (Li, Owen and Zhang, 2012) of the texts' windows, in bands for locality-sensitive hashing.

    Bands of fewer `rows` are more, and let less similar texts meet.

    Every window falls into one of BINS bins by its hash; a bin keeps its least value. An empty bin borrows from the next
    one on its left, marked with the distance (Shrivastava and Li, 2014).
    """
    plain = [normalise(t) for t in texts]
    same = b"".join(hashlib.blake2b(t.encode(errors="surrogatepass"), digest_size=8).digest() for t in plain)
    encoded = [f" {t} {GAP}".encode(errors="surrogatepass") for t in plain]
    lengths = np.array([len(e) for e in encoded], np.int64)
    ends = np.cumsum(lengths)
    data = GAP.encode() + b"".join(encoded) + bytes(8)
    bins = np.full((len(plain), BINS), _EMPTY)
    start = 0
    while start < len(plain):
        before = ends[start] - lengths[start]
        stop = max(start + 1, int(np.searchsorted(ends, before + BLOCK_BYTES, side="right")))
        hashes = _windows(data, int(before), int(ends[stop - 1]))
        cell = np.repeat(np.arange(start, stop, dtype=np.uint64) * np.uint64(BINS), lengths[start:stop])
        cell += (hashes >> np.uint64(32)) * np.uint64(BINS) >> np.uint64(32)
        np.minimum.at(bins.reshape(-1), cell.view(np.int64), hashes.astype(np.uint32))
        start = stop
    bands, lowest = _bands(bins, np.array([not t for t in plain], bool), rows)
    return Sketch(np.frombuffer(same, "<u8"), bands, lowest)


def _windows(data: bytes, start: int, end: int) -> np.ndarray:
    """A 64-bit hash of every WINDOW bytes that begin in [start, end)."""
    found = np.empty(end - start, np.uint64)
    for offset in range(8):  # eight bytes from every place, by eight aligned readings
        count = len(range(offset, len(found), 8))
        found[offset::8] = np.frombuffer(data, "<u8", count, start + offset)
    found &= np.uint64(2 ** (8 * WINDOW) - 1)
    found *= _MIX
    found ^= found >> np.uint64(32)
    found *= _MIX2
    return found


def _bands(bins: np.ndarray, empty: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """The bins' values, `rows` at a time, as one number a band (of an empty text, one that no other has); and their low bytes."""
    low = np.empty(bins.shape, np.uint8)
    keys = np.empty((len(bins), BINS // rows), np.uint32)
    places = np.arange(2 * BINS, dtype=np.int16)
    for start in range(0, len(bins), 512):
        block = bins[start : start + 512]
        filled = np.where(np.hstack([block, block]) != _EMPTY, places, np.int16(0))
        source = np.maximum.accumulate(filled, axis=1)[:, BINS:]
        distance = (places[BINS:] - source).astype(np.uint32)
        values = np.take_along_axis(block, (source % BINS).astype(np.int64), axis=1) + distance * np.uint32(0x9E3779B1)
        low[start : start + 512] = values & np.uint32(255)
        # Rows of a band lie far apart, so that one borrowed value seldom fills several.
        apart = values.reshape(len(block), rows, BINS // rows).astype(np.uint64)
        key = apart[:, 0] * _MIX
        for k in range(1, rows):
            key = (key ^ apart[:, k]) * _MIX
            key ^= key >> np.uint64(29)
        keys[start : start + 512] = key >> np.uint64(32)
    keys[empty] = np.flatnonzero(empty).astype(np.uint32)[:, None]
    return keys, low


def candidates(bands: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (i < j) that share a band, each once: of a bucket, every text with its first and with its NEIGHBOURS before.

    So a bucket of n gives at most 4 n pairs and not n squared: what is common to many texts (a template) costs little,
    and among 64 bands a near pair has others in which it stands side by side.
    """
    n = len(bands)
    number = np.arange(n, dtype=np.uint64)
    found = [np.empty(0, np.uint64)]
    for band in range(bands.shape[1]):
        keyed = np.sort(bands[:, band].astype(np.uint64) << np.uint64(32) | number)
        key, text = keyed >> np.uint64(32), keyed & np.uint64(2**32 - 1)
        again = np.flatnonzero(key[1:] == key[:-1]) + 1
        new = np.ones(n, bool)
        new[again] = False
        first = np.maximum.accumulate(np.where(new, np.arange(n), 0))
        found.append(text[first[again]] << np.uint64(32) | text[again])
        for back in range(1, NEIGHBOURS + 1):
            there = again[again - back > first[again]]
            found.append(text[there - back] << np.uint64(32) | text[there])
        if sum(map(len, found)) > MOST_PAIRS:
            found = [distinct(found)]
    pairs = distinct(found)
    return (pairs >> np.uint64(32)).astype(np.int64), (pairs & np.uint64(2**32 - 1)).astype(np.int64)


def distinct(parts: list[np.ndarray]) -> np.ndarray:
    """What `np.unique` gives, which hashes and takes many times as long."""
    found = np.sort(np.concatenate(parts))
    return found[np.diff(found, prepend=np.uint64(2**64 - 1)) != 0]


def agreeing(left: np.ndarray, right: np.ndarray, i: np.ndarray, j: np.ndarray, least: float) -> np.ndarray:
    """Whether the texts left[i] and right[j] of each pair agree in that share of their bins.

    Nearly all pairs are chance meetings, and a look at the first bins tells: true ones lie five standard errors above.
    """
    ours = np.ascontiguousarray(left[:, :FIRST_LOOK])
    theirs = ours if left is right else np.ascontiguousarray(right[:, :FIRST_LOOK])
    found = agree(ours, theirs, i, j, least * FIRST_LEAST)
    found[found] = agree(left, right, i[found], j[found], least)
    return found


def agree(left: np.ndarray, right: np.ndarray, i: np.ndarray, j: np.ndarray, least: float) -> np.ndarray:
    """Whether left[i] and right[j] are the same in that share of their columns."""
    found = np.empty(len(i), bool)
    for start in range(0, len(i), BLOCK_AGREE):
        block = slice(start, start + BLOCK_AGREE)
        same = np.count_nonzero(left[i[block]] == right[j[block]], axis=1)
        found[block] = same >= least * left.shape[1]
    return found
