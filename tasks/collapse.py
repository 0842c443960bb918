"""Exact and near-duplicates among millions of texts: which text each of them repeats.

    ["Cancel my plan!", "refund?", "cancel my plan", "cancel my plans"]  ->  [0, 1, 0, 0]

Sketch per partition -> merge of bands -> candidates -> exact overlap of the candidates. The sketch is a pure function of
a partition, so that any engine may compute it; what is merged are some hundred bytes a text. A text that is dropped always
has a kept one whose overlap was computed and reaches the threshold: a sketch can miss a pair, never make one up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tasks.similar import jaccard, normalise, shingles

# A pair whose trigrams overlap by .8 shares about two thirds of its windows of five bytes, and two texts that have
# nothing to do with each other 3 to 7%; trigrams themselves do not tell (20 to 35%).
WINDOW = 5
ROWS, BANDS = 6, 64
BINS = ROWS * BANDS
BLOCK_BYTES = 65_536  # windows hashed at a time: they stay in the processor's cache (5 times as fast as all at once)
NEIGHBOURS = 3
LIKELY = 0.6  # of the threshold: what the windows of a pair must overlap at least, by estimate, to be compared at all
FIRST_LOOK = 64
BLOCK_AGREE = 8192
MOST_PAIRS = 20_000_000  # met again and again by band after band, before the repeats are taken out
BLOCK_PAIRS = 50_000  # pairs whose texts are in memory at a time
GAP = "\n" * (WINDOW - 1)  # between texts: no window holds bytes of two
_EMPTY = np.uint32(2**32 - 1)
_MIX, _MIX2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)  # odd constants of splitmix-like hashes

Partition = Callable[[], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Sketch:
    """Of n texts: `same` (n, uint64), equal for texts that normalise alike; `bands` (n, BINS // rows, uint32), by which candidates
    are found; `bins` (n, BINS, uint8), the share of which that two texts have in common estimates their overlap of windows.
    """

    same: np.ndarray
    bands: np.ndarray
    bins: np.ndarray


def collapse(partitions: Sequence[Partition], threshold: float) -> np.ndarray:
    """For every text of the partitions, in order, the number of the text that stands for it: its own, or an earlier one's.

    `threshold`: overlap of trigrams (similar.py) from which a text is dropped, best .75 or more. A partition is called
    twice or more and must give the same texts each time. Empty texts are the same text.
    """
    sketches = [sketch(partition()) for partition in partitions]
    starts = np.cumsum([0, *(len(s.same) for s in sketches)])
    if not starts[-1]:
        return np.empty(0, np.int64)
    _, first, which = np.unique(np.concatenate([s.same for s in sketches]), return_index=True, return_inverse=True)
    originals = np.sort(first)
    part = np.searchsorted(starts, originals, side="right") - 1
    cuts = np.searchsorted(part, np.arange(len(sketches) + 1))
    inside = [originals[a:b] - s for a, b, s in zip(cuts[:-1], cuts[1:], starts[:-1], strict=True)]
    i, j = candidates(np.concatenate([s.bands[k] for s, k in zip(sketches, inside, strict=True)]))
    bins = np.concatenate([s.bins[k] for s, k in zip(sketches, inside, strict=True)])
    del sketches
    likely = agreeing(bins, bins, i, j, LIKELY * threshold)
    i, j = originals[i[likely]], originals[j[likely]]
    near = _overlaps(partitions, starts, i, j) >= threshold
    keeper = np.arange(starts[-1])
    for earlier, later in sorted(zip(i[near].tolist(), j[near].tolist(), strict=True), key=lambda p: (p[1], p[0])):
        # Only what is kept itself may stand for others, or chains would join texts that are not alike.
        if keeper[earlier] == earlier and keeper[later] == later:
            keeper[later] = earlier
    return keeper[first[which]]


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
            found = [_distinct(found)]
    pairs = _distinct(found)
    return (pairs >> np.uint64(32)).astype(np.int64), (pairs & np.uint64(2**32 - 1)).astype(np.int64)


def _distinct(parts: list[np.ndarray]) -> np.ndarray:
    """What `np.unique` gives, which hashes and takes many times as long."""
    found = np.sort(np.concatenate(parts))
    return found[np.diff(found, prepend=np.uint64(2**64 - 1)) != 0]


def agreeing(left: np.ndarray, right: np.ndarray, i: np.ndarray, j: np.ndarray, least: float) -> np.ndarray:
    """Whether the texts left[i] and right[j] of each pair agree in that share of their bins.

    Nearly all pairs are chance meetings, and a look at the first bins tells: true ones lie five standard errors above.
    """
    found = np.ones(len(i), bool)
    for bins_seen, least_seen in ((FIRST_LOOK, least * 0.6), (left.shape[1], least)):
        ours = np.ascontiguousarray(left[:, :bins_seen])
        theirs = ours if left is right else np.ascontiguousarray(right[:, :bins_seen])
        open_pairs = np.flatnonzero(found)
        for start in range(0, len(open_pairs), BLOCK_AGREE):
            block = open_pairs[start : start + BLOCK_AGREE]
            agree = np.count_nonzero(ours[i[block]] == theirs[j[block]], axis=1)
            found[block] = agree >= least_seen * bins_seen
    return found


def _overlaps(partitions: Sequence[Partition], starts: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """The exact overlap of each pair. Texts are read anew, as many at a time as fit."""
    found = np.empty(len(i))
    order = np.argsort(j, kind="stable")
    begin = 0
    while begin < len(order):
        some = order[begin : begin + BLOCK_PAIRS]
        wanted = np.unique(np.concatenate([i[some], j[some]]))
        texts: list[str] = []
        for number, partition in enumerate(partitions):
            inside = wanted[slice(*np.searchsorted(wanted, starts[number : number + 2]))] - starts[number]
            if len(inside):
                there = partition()
                texts += [there[k] for k in inside.tolist()]
        sets = shingles(texts)
        found[some] = jaccard(sets, sets, np.searchsorted(wanted, i[some]), np.searchsorted(wanted, j[some]))
        begin += len(some)
    return found
