"""The firewall: which training texts give a sealed text away, whatever side of the wall their rows came from.

    firewall([partition], ["Where is my refund for order 7?"], params)
      -> [Met(row=3, sealed=0, how="exact", score=1.0, evidence="where is my refund for order 7"), …]

A training text is refused for the strongest of three reasons: it is the same text as a sealed one but for case, punctuation,
invisible characters and look-alike letters (exact); their trigrams overlap (near); or it repeats a passage of it (ngram), as
an eight-word paraphrase or a question quoted in a longer text does. Every row is decided by itself: what else is trained on,
in which order and in how many partitions, changes nothing, and rows that arrive months later meet the same wall.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tasks.lookalikes import unmasked
from tasks.passages import Passages, Shared
from tasks.similar import Near, jaccard, normalise, shingles
from tasks.sketch import agreeing, sketch

EXACT, NEAR, NGRAM = "exact", "near", "ngram"
BLOCK = 10_000  # texts looked at at a time, however large a partition is
# Of short texts every near pair is found, by trigrams; of longer ones, which trigrams hardly tell apart, by a sketch.
SHORT = 80  # characters
ROWS = 4  # of a band: windows of five bytes overlap by .4 to .5 where trigrams do by .65
LIKELY = 0.45  # of the threshold: the least overlap of windows, by estimate, of what is compared at all
BUCKET = 32  # sealed texts with the same band that a text is compared with
MOST_PAIRS = 2_000_000  # met again and again by band after band, before the repeats are taken out
QUOTED = 200  # characters of evidence

Partition = Callable[[], Sequence[str]]


@dataclass(frozen=True, slots=True)
class FirewallParams:
    near: float
    ngram: int
    surprise: float
    share: float
    passage: int


@dataclass(frozen=True, slots=True)
class Met:
    """Training text `row` gives sealed text `sealed` away. `score`: 1 (exact), the overlap of trigrams (near), or the share of the
    words of the shorter text that both have in common passages (ngram); `evidence` what they share."""

    row: int
    sealed: int
    how: str
    score: float
    evidence: str


def firewall(
    training: Sequence[Partition],
    sealed: Sequence[str],
    params: FirewallParams,
    common: Sequence[str] = (),
    groups: Sequence[str] = (),
) -> list[Met]:
    """What each training text meets, one (the strongest) a text, in the order of texts over all partitions.

    `sealed`: messages rather than whole conversations, so that one that stands in ten rows counts once; `groups[k]` is the group
    of sealed text k (without, each distinct text is its own): how the others speak tells what is a commonplace. `common`: texts
    that may be on both sides by design, such as approved answers and system prompts. Memory is bounded by the sealed texts.
    """
    wall = _Wall(sealed, params, common, groups)
    found, start = [], 0
    for partition in training:
        texts = partition()
        for first in range(0, len(texts), BLOCK):
            found += wall.meet(start + first, texts[first : first + BLOCK])
        start += len(texts)
    return found


class _Wall:
    """Sealed texts, ready to be met."""

    def __init__(self, sealed: Sequence[str], params: FirewallParams, common: Sequence[str], groups: Sequence[str]):
        self._params = params
        free = list(dict.fromkeys(map(_plain, common)))
        plain = list(map(_plain, sealed))
        # The first of the same texts stands for all; one that may be on both sides gives nothing away.
        first = {t: k for k, t in reversed(list(enumerate(plain))) if t and t not in set(free)}
        self._numbers = np.array(sorted(first.values()), np.int64)
        self._texts = [plain[k] for k in self._numbers.tolist()]
        self._place = {t: k for k, t in enumerate(self._texts)}
        self._sets = shingles(self._texts)
        self._near = Near(self._sets, params.near)
        self._sketch = sketch(self._texts, ROWS)
        self._bands = [_Band(keys) for keys in self._sketch.bands.T]
        own = [groups[k] for k in self._numbers.tolist()] if groups else self._texts
        self._passages = Passages(self._texts, own, free, params.ngram, params.surprise)

    def meet(self, start: int, texts: Sequence[str]) -> list[Met]:
        """What these texts meet; the first is row number `start`."""
        if not self._texts:
            return []
        plain = list(map(_plain, texts))
        best = {row: (self._place[t], EXACT, 1.0, t) for row, t in enumerate(plain) if t in self._place}
        left = [row for row, t in enumerate(plain) if t and row not in best]
        shared: dict[int, Shared] = {}
        alike = []
        for k, s in self._passages.find([plain[row] for row in left]):
            if s.share >= self._params.share:
                alike.append((left[k], s.text))
            if self._gives_away(s):
                shared[left[k]] = max(s, shared.get(left[k], s), key=lambda x: (x.share, x.bits, -x.text))
        for row, place, overlap in self._nearest(plain, left, alike):
            best[row] = (place, NEAR, overlap, plain[row])
        for row, s in shared.items():
            best.setdefault(row, (s.text, NGRAM, s.share, s.run))
        return [
            Met(start + row, int(self._numbers[place]), how, round(score, 6), evidence[:QUOTED])
            for row, (place, how, score, evidence) in sorted(best.items())
        ]

    def _gives_away(self, s: Shared) -> bool:
        """A whole sealed text does; a passage does that is no commonplace and a good part of either text, or long."""
        p = self._params
        return s.whole or (s.bits >= p.surprise and (s.share >= p.share or s.words >= p.passage))

    def _nearest(self, plain: list[str], left: list[int], alike: list[tuple[int, int]]) -> list[tuple[int, int, float]]:
        """(row, place of the nearest sealed text, overlap) for every row that is near to one. `alike`: pairs to look at as well."""
        short = [row for row in left if len(plain[row]) <= SHORT]
        long = [row for row in left if len(plain[row]) > SHORT]
        i, j = self._near.pairs(shingles([plain[row] for row in short]))
        rows, places = [np.array(short, np.int64)[i]], [j]
        if long:
            sketched = sketch([plain[row] for row in long], ROWS)
            i, j = self._candidates(sketched.bands)
            likely = agreeing(sketched.bins, self._sketch.bins, i, j, LIKELY * self._params.near)
            rows.append(np.array(long, np.int64)[i[likely]])
            places.append(j[likely])
        if alike:
            more = np.array(alike, np.int64)
            rows.append(more[:, 0])
            places.append(more[:, 1])
        pairs = _distinct([r << 32 | p for r, p in zip(rows, places, strict=True)])
        row, place = pairs >> 32, pairs & (2**32 - 1)
        wanted, at = np.unique(row, return_inverse=True)
        overlap = jaccard(shingles([plain[r] for r in wanted.tolist()]), self._sets, at, place)
        order = np.lexsort((place, -overlap, row))
        order = order[overlap[order] >= self._params.near]
        first = np.ones(len(order), bool)
        first[1:] = row[order][1:] != row[order][:-1]
        order = order[first]
        return list(zip(row[order].tolist(), place[order].tolist(), overlap[order].tolist(), strict=True))

    def _candidates(self, bands: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pairs (text, sealed text) that share a band, each once."""
        met, total = [np.empty(0, np.int64)], 0
        for held, keys in zip(self._bands, bands.T, strict=True):
            met.append(held.met(np.ascontiguousarray(keys)))
            total += len(met[-1])
            if total > MOST_PAIRS:
                met = [_distinct(met)]
                total = len(met[0])
        pairs = _distinct(met)
        return pairs >> 32, pairs & (2**32 - 1)


class _Band:
    """One band of the sealed texts' sketches, by its keys."""

    def __init__(self, keys: np.ndarray):
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]
        self._seen = np.zeros(2**20, bool)
        self._seen[self._keys >> np.uint32(12)] = True

    def met(self, keys: np.ndarray) -> np.ndarray:
        """text << 32 | sealed text, for the first BUCKET sealed texts that have the key of a text."""
        maybe = np.flatnonzero(self._seen[keys >> np.uint32(12)])
        first = np.searchsorted(self._keys, keys[maybe], side="left")
        counts = np.minimum(np.searchsorted(self._keys, keys[maybe], side="right") - first, BUCKET)
        place = np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        return np.repeat(maybe, counts) << 32 | self._order[place]


def _distinct(parts: list[np.ndarray]) -> np.ndarray:
    """What `np.unique` gives, which hashes and takes many times as long."""
    found = np.sort(np.concatenate(parts))
    return found[np.diff(found, prepend=-1) != 0]


def _plain(text: str) -> str:
    return normalise(unmasked(text))
