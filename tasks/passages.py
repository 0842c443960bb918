"""Which texts repeat a passage of another: shared runs of words, and how much they say.

    "where is my lovely purple bicycle now that it rains" ~ "hello, my lovely purple bicycle now that it rains is gone"

A run of eight words that two texts share may be copied, or may be what everybody writes ("i would like to know how i can").
A shared passage counts by its *surprise*: the bits that it takes to write it down for somebody who knows how the other texts
speak, by a model of word pairs that is counted without the text in question (and without those of its group). Whatever is
decided of a row depends on the row and on these texts alone.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

SHORTEST = 5  # words of a text that can be found whole where it has fewer than an n-gram
COMMONPLACE = 10  # groups from which on an n-gram is nobody's in particular; also keeps a template from meeting every row
TEXTS_EACH = 16  # of those that hold an n-gram, in order: enough to name one
VOCABULARY = 10_000  # words that there are at least: beside few texts nearly everything is a surprise
UNSEEN, PULL = 0.1, 2.0  # what an unseen word counts; what a word's own frequency counts beside that of the pair
BLOCK_BYTES = 1 << 18
_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse among 64-bit numbers
_LETTERS = np.random.default_rng(1).integers(0, 2**63, 256, np.int64).astype(np.uint64) * np.uint64(2) + np.uint64(1)


@dataclass(frozen=True, slots=True)
class Shared:
    """What a row shares with text number `text`: the share of the words of the shorter of both, the surprise in bits, how many
    words, and the longest run of them. `whole`: all that the text has of its own."""

    text: int
    share: float
    bits: float
    words: int
    run: str
    whole: bool


class Passages:
    """Texts, of which passages are looked up in others. All are normalised, no two the same; `groups[k]` is the group of text k.

    What stands in a `common` text is nobody's: an n-gram of it is not looked for, and its words say nothing.
    """

    def __init__(self, texts: Sequence[str], groups: Sequence[str], common: Sequence[str], ngram: int, bits: float):
        self._n, self._bits = ngram, bits
        self._words = [t.split() for t in texts]
        lengths = sorted({min(ngram, len(w)) for w in self._words if len(w) >= min(SHORTEST, ngram)})
        told = list(grams(common, {*lengths, ngram}))
        self._common = {
            n: np.unique(np.concatenate([_NONE, *(h for m, _, _, h in told if m == n)])) for n in {*lengths, ngram}
        }
        self._own = [self._not_common(t, w) for t, w in zip(texts, self._words, strict=True)]
        self._alone, self._after = self._surprise(groups)
        self._places = functools.lru_cache(maxsize=2048)(self._places_of)
        self._held = {n: held for n in lengths if len((held := self._hold(texts, groups, n)).hashes)}

    def find(self, texts: Sequence[str]) -> Iterator[tuple[int, Shared]]:
        """(row, what it shares with one of these texts) for whatever may matter, in the order of rows; several a row."""
        rows, numbers = [_INTS], [_INTS]
        for n, row, _, hashes in grams(texts, self._held):
            hit, which = self._held[n].lookup(hashes)
            if len(hit):
                row, number = self._held[n].candidates(row[hit], which, self._bits)
                rows.append(row)
                numbers.append(number)
        both = np.sort(np.concatenate(rows) << 32 | np.concatenate(numbers))
        for row, number in zip((both >> 32).tolist(), (both & (2**32 - 1)).tolist(), strict=True):
            shared = self._shared(texts[row], number)
            if shared is not None:
                yield row, shared

    def _shared(self, text: str, number: int) -> Shared | None:
        """The definition, word by word, for the few that are candidates."""
        theirs, words, own = self._words[number], text.split(), self._own[number]
        n = min(self._n, len(theirs))
        places = self._places(number)
        covered = np.zeros(len(theirs), bool)
        for gram in places.keys() & {tuple(words[k : k + n]) for k in range(len(words) - n + 1)}:
            for k in places[gram]:
                covered[k : k + n] = True
        if not (covered & own).any():
            return None
        starts = np.flatnonzero(covered & ~np.concatenate([[False], covered[:-1]]))
        ends = np.flatnonzero(covered & ~np.concatenate([covered[1:], [False]])) + 1
        bits = self._after[number][covered].sum() + (self._alone[number] - self._after[number])[starts].sum()
        longest = int(np.argmax(ends - starts))
        count = int((covered & own).sum())
        mine = int(self._not_common(text, words).sum())
        return Shared(
            number,
            min(1.0, count / max(1, min(int(own.sum()), mine))),
            float(bits),
            count,
            " ".join(theirs[starts[longest] : ends[longest]]),
            count == int(own.sum()) and count >= self._n,
        )

    def _places_of(self, number: int) -> dict[tuple[str, ...], list[int]]:
        """Where each n-gram of a text begins, but for those that are common throughout."""
        words, own, found = self._words[number], self._own[number].tolist(), {}
        n = min(self._n, len(words))
        for k in range(len(words) - n + 1):
            if any(own[k : k + n]):
                found.setdefault(tuple(words[k : k + n]), []).append(k)
        return found

    def _not_common(self, text: str, words: list[str]) -> np.ndarray:
        """Which words of a text stand in no n-gram of a common text."""
        own = np.ones(len(words), bool)
        if len(self._common[self._n]):  # one text at a time: only the sealed ones and the few that share something are asked
            for _, _, at, hashes in grams([text], [self._n]):
                for k in at[np.isin(hashes, self._common[self._n])].tolist():
                    own[k : k + self._n] = False
        return own

    def _surprise(self, groups: Sequence[str]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Bits of every word of every text: standing alone, and after the word before it. Numerals and common words: none."""
        number = {"": 0}
        ids = [np.array([number.setdefault(w, len(number)) for w in words], np.int64) for words in self._words]
        group = {g: k for k, g in enumerate(dict.fromkeys(groups))}
        size = len(number)
        first = np.cumsum([0, *map(len, ids)])
        word = np.concatenate([_INTS, *ids])
        unit = np.repeat(np.array([group[g] for g in groups], np.int64), np.diff(first))
        before = np.concatenate([_INTS, *(np.concatenate([[0], i[:-1]]) for i in ids if len(i))])
        total = len(word) - np.bincount(unit, minlength=len(group))[unit]
        alone = (_elsewhere(word, unit) + UNSEEN) / (total + UNSEEN * max(size, VOCABULARY))
        paired = (_elsewhere(before * size + word, unit) + PULL * alone) / (_elsewhere(before, unit) + PULL)
        spoken = np.array([w != "" and not w.isnumeric() for w in number], bool)[word] & np.concatenate(
            [np.empty(0, bool), *self._own]
        )
        cut = first[1:-1]
        return (
            np.split(np.where(spoken, -np.log2(alone), 0.0), cut),
            np.split(np.where(spoken, -np.log2(paired), 0.0), cut),
        )

    def _hold(self, texts: Sequence[str], groups: Sequence[str], n: int) -> _Held:
        """The n-grams to look for; of a text with fewer than `ngram` words, the whole."""
        group = {g: k for k, g in enumerate(dict.fromkeys(groups))}
        of = np.array([group[g] for g in groups], np.int64)
        fits = [k for k, w in enumerate(self._words) if (len(w) >= n if n == self._n else len(w) == n)]
        found = list(grams([texts[k] for k in fits], [n]))
        row, at, hashes = (np.concatenate([x[k] for x in found] or [_NONE]) for k in (1, 2, 3))
        row, at = row.astype(np.int64), at.astype(np.int64)
        text = np.array(fits, np.int64)[row]
        weight = np.zeros(len(text))
        for k, (number, place) in enumerate(zip(text.tolist(), at.tolist(), strict=True)):
            weight[k] = self._alone[number][place] + self._after[number][place + 1 : place + n].sum()
        ours = ~np.isin(hashes, self._common[n])
        order = np.lexsort((text[ours], hashes[ours]))
        text, hashes, weight = text[ours][order], hashes[ours][order], weight[ours][order]
        again = np.ones(len(text), bool)  # an n-gram twice in one text is one posting
        again[1:] = (hashes[1:] != hashes[:-1]) | (text[1:] != text[:-1])
        text, hashes, weight = text[again], hashes[again], weight[again]
        unique, starts, counts = np.unique(hashes, return_index=True, return_counts=True)
        gram = np.repeat(np.arange(len(unique)), counts)
        pairs = np.unique(gram * max(1, len(group)) + of[text])
        rare = np.bincount(pairs // max(1, len(group)), minlength=len(unique)) <= COMMONPLACE
        keep = rare[gram] & (np.arange(len(gram)) - starts[gram] < TEXTS_EACH)
        gram, text, weight = gram[keep], text[keep], weight[keep]
        kept, gram = np.unique(gram, return_inverse=True)
        indptr = np.concatenate([[0], np.cumsum(np.bincount(gram, minlength=len(kept)))])
        grams_each = np.bincount(text, minlength=len(self._words))
        return _Held(unique[kept], indptr, text, weight, grams_each)


class _Held:
    """n-grams by their hash -> the texts that hold them, each with its surprise there."""

    def __init__(self, hashes: np.ndarray, indptr: np.ndarray, texts: np.ndarray, weights: np.ndarray, each: np.ndarray):
        self.hashes, self._indptr, self._texts, self._weights, self._each = hashes, indptr, texts, weights, each
        self._shift = np.uint64(64 - int(np.clip(np.ceil(np.log2(len(hashes) + 1)) + 4, 12, 26)))
        self._seen = np.zeros(2 ** (64 - int(self._shift)), bool)
        self._seen[hashes >> self._shift] = True

    def lookup(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which of the n-grams are among these, and the number of each. Nearly all are turned away by the first look."""
        maybe = np.flatnonzero(self._seen[hashes >> self._shift])
        at = np.minimum(np.searchsorted(self.hashes, hashes[maybe]), len(self.hashes) - 1)
        same = self.hashes[at] == hashes[maybe]
        return maybe[same], at[same]

    def candidates(self, rows: np.ndarray, at: np.ndarray, bits: float) -> tuple[np.ndarray, np.ndarray]:
        """Rows and texts that may share so much, or all that a text has. An n-gram's words are counted again in the next one, so
        nothing is missed."""
        met = np.unique(rows << 32 | at)
        rows, at = met >> 32, met & (2**32 - 1)
        counts = self._indptr[at + 1] - self._indptr[at]
        place = np.repeat(self._indptr[at] - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts) + np.arange(counts.sum())
        pairs, which = np.unique(np.repeat(rows, counts) << 32 | self._texts[place], return_inverse=True)
        weight = np.bincount(which, self._weights[place], len(pairs))
        text = pairs & (2**32 - 1)
        may = (weight >= bits) | (np.bincount(which, minlength=len(pairs)) >= self._each[text])
        return pairs[may] >> 32, text[may]


def grams(texts: Sequence[str], lengths: Iterable[int]) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """The n-grams of normalised texts, some texts at a time: n, number of the text, of its first word, and a 64-bit hash.

    An n-gram is a stretch of bytes, so that its hash is a difference of two sums, whatever n is (Karp and Rabin, 1987).
    """
    start, lengths = 0, sorted(lengths)
    encoded = [t.encode(errors="surrogatepass") for t in texts]
    while start < len(encoded):
        size, stop = 0, start
        while stop < len(encoded) and (size == 0 or size + len(encoded[stop]) < BLOCK_BYTES):
            size += len(encoded[stop]) + 1
            stop += 1
        data = np.frombuffer(b"\n".join(encoded[start:stop]) + b"\n", np.uint8)
        powers, inverse = _powers(len(data))
        sums = np.zeros(len(data) + 1, np.uint64)
        np.cumsum(_LETTERS[data] * powers[: len(data)], out=sums[1:])
        ends = np.flatnonzero(data <= ord(" "))
        starts = np.concatenate([[0], ends[:-1] + 1])
        closes = data[ends] == ord("\n")
        text = np.cumsum(closes) - closes
        place = np.arange(len(text)) - np.concatenate([[0], np.flatnonzero(closes)[:-1] + 1])[text]
        before, after, inverse = sums[starts], sums[ends], inverse[starts]
        for n in lengths:
            inside = np.flatnonzero(text[: len(text) - n + 1] == text[n - 1 :]) if len(text) >= n else _INTS
            if len(inside):
                yield n, text[inside] + start, place[inside], (after[inside + n - 1] - before[inside]) * inverse[inside]
        start = stop


_INTS = np.empty(0, np.int64)
_NONE = np.empty(0, np.uint64)


def _powers(length: int) -> tuple[np.ndarray, np.ndarray]:
    """Powers of the base and of its inverse, at least so many."""
    return _few_powers() if length <= 2 * BLOCK_BYTES else _powers_of(length)


@functools.cache
def _few_powers() -> tuple[np.ndarray, np.ndarray]:
    return _powers_of(2 * BLOCK_BYTES)


def _powers_of(length: int) -> tuple[np.ndarray, np.ndarray]:
    first = np.ones(1, np.uint64)
    base, inverse = (np.cumprod(np.full(length - 1, b, np.uint64)) for b in (_BASE, pow(_BASE, -1, 2**64)))
    return np.concatenate([first, base]), np.concatenate([first, inverse])


def _elsewhere(key: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """How often each place's key stands in other units than its own."""
    _, which, counts = np.unique(key, return_inverse=True, return_counts=True)
    _, own, own_counts = np.unique(which * (unit.max(initial=0) + 1) + unit, return_inverse=True, return_counts=True)
    return counts[which] - own_counts[own]
