"""Texts as logs hold them, by the million, among which exact and near-duplicates of known overlap are planted.

Words are drawn by Zipf's law from invented stems; three texts in ten share most of a sentence with others of their
template. A copy differs by replaced, mistyped, dropped and added words, until its overlap is the one asked for.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tasks.similar import normalise

STEMS = 30_000
TEMPLATES = 200
ONSETS = (*"bcdfghklmnprstvw", "st", "tr", "ch", "sh", "pl", "gr", "br", "cl")
VOWELS = (*"aeiou", "ea", "ou", "ai", "io")
CODAS = ["", "", "n", "r", "s", "t", "l", "ng", "nt", "ck", "m", "d"]


@dataclass(frozen=True, slots=True)
class Planted:
    """Numbers of two texts of the corpus and the exact overlap of their trigrams."""

    left: int
    right: int
    overlap: float


def trigrams(text: str) -> set[str]:
    """The definition, slowly: trigrams within padded words of the normalised text."""
    padded = (f" {w} " for w in normalise(text).split())
    return {w[k : k + 3] for w in padded for k in range(len(w) - 2)}


def overlap(left: set[str], right: set[str]) -> float:
    return len(left & right) / len(left | right) if left | right else 0.0


class Corpus:
    """`texts` texts of about `length` characters in partitions of `size`; a `share` of them are copies of earlier ones.

    Of all texts the share `templated` begins with a template that others have as well.

    One copy in three is near, with an overlap from about .55 to 1; the others are the same but for case and punctuation.
    Always the same for one seed. Partitions are made one after another: memory holds one, and the texts to be copied.
    """

    def __init__(self, texts: int, seed: int, share: float = 0.1, length: int = 750, size: int = 10_000,
                 templated: float = 0.3):  # fmt: skip
        self.texts, self.share, self.size, self.words_each, self.templated = texts, share, size, length / 9.6, templated
        self.pairs: list[Planted] = []
        self._draw = np.random.default_rng(seed)
        self._random = random.Random(seed)
        self._words = np.array(sorted({self._stem() for _ in range(STEMS * 2)}), dtype=object)
        self._draw.shuffle(self._words)
        self._words = self._words[:STEMS]
        weights = 1 / (np.arange(len(self._words)) + 3.0)
        self._cumulated = np.cumsum(weights / weights.sum())
        self._templates = [self._draw_words(int(self.words_each * 0.4)) for _ in range(TEMPLATES)]

    def partitions(self) -> Iterator[list[str]]:
        kept: list[tuple[int, str]] = []
        for start in range(0, self.texts, self.size):
            made: list[str] = []
            for number in range(start, min(start + self.size, self.texts)):
                if kept and self._random.random() < self.share:
                    made.append(self._copy(number, kept))
                    continue
                made.append(self._text())
                # Originals from everywhere in the corpus, each copied about once.
                if self._random.random() < self.share:
                    kept.append((number, made[-1]))
            yield made

    def _stem(self) -> str:
        pick = self._random.choice
        return "".join(pick(ONSETS) + pick(VOWELS) + pick(CODAS) for _ in range(pick((1, 2, 2, 3))))

    def _draw_words(self, count: int) -> list[str]:
        return self._words[np.searchsorted(self._cumulated, self._draw.random(count))].tolist()

    def _text(self) -> str:
        words = self._draw_words(max(4, int(self._draw.gamma(4.0, self.words_each / 4.0))))
        if self._random.random() < self.templated:
            words = self._random.choice(self._templates) + words[: len(words) * 6 // 10]
        return " ".join(words).capitalize() + "."

    def _copy(self, number: int, kept: list[tuple[int, str]]) -> str:
        at = self._random.randrange(max(0, len(kept) - 20_000), len(kept))
        original, text = kept[at]
        if self._random.random() < 2 / 3:
            self.pairs.append(Planted(original, number, 1.0))
            return text.upper().replace(" ", "  ", 3) + "!!"
        edited = text.split()
        # About as many edits as an overlap from .55 to 1 takes; what overlap came out is measured.
        for _ in range(int(len(edited) * self._random.uniform(0.0, 0.28)) + 1):
            self._edit(edited)
        copy = " ".join(edited)
        self.pairs.append(Planted(original, number, overlap(trigrams(text), trigrams(copy))))
        return copy

    def _edit(self, words: list[str]) -> None:
        at, kind = self._random.randrange(len(words)), self._random.random()
        if kind < 0.5:
            words[at] = self._draw_words(1)[0]
        elif kind < 0.7:
            w, k = words[at], self._random.randrange(len(words[at]))
            words[at] = w[:k] + self._random.choice("aeiorstn") + w[k + 1 :]
        elif kind < 0.85 and len(words) > 4:
            del words[at]
        else:
            words.insert(at, self._draw_words(1)[0])
