"""Diverse and random at once: the mined part is one draw from each of many small cells of alike interactions.

    value [.9, .8, .1, .7]   questions a, a', a'', b   ->   cells [0, 0, 0, 1], chances [.58, .41, .01, 1]

Cells are grown greedily around the most valuable interaction that is unlike what people have seen and what was picked
before; then every interaction joins the cell it is most like. All that is settled before the draw, and one of each cell is drawn
with a chance that grows with its value. So the inclusion probabilities are exact, add up to one a cell, and no kind of
failure takes the place of another. (Zhdanov, 2019, clusters weighted points for diverse batches; one unit a stratum
with probability proportional to size is Brewer and Hanif, 1983.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

KERNEL = 8  # the power of the cosine from which two questions count as alike: .9 -> .43, .7 -> .06
BLOCK = 1024
NEIGHBOURS, OTHERS = 5, 5000


@dataclass(frozen=True, slots=True)
class Cells:
    """Per interaction its `cell` (-1: in none, it cannot be drawn) and its `chance` to be the one that is drawn from it."""

    cell: np.ndarray
    chance: np.ndarray

    @classmethod
    def none(cls) -> Cells:
        return cls(np.empty(0, int), np.empty(0))

    def draw(self, random: np.random.Generator) -> list[int]:
        """One of each cell, by its chances."""
        drawn = []
        for number in range(int(self.cell.max(initial=-1)) + 1):
            members = np.flatnonzero(self.cell == number)
            chance = self.chance[members]
            drawn.append(int(random.choice(members, p=chance / chance.sum())))
        return drawn


def crowding(vectors: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How many of `others` (m, d) each of `vectors` (n, d) is like, unit rows both: the sum of cosine ** KERNEL, (n,)."""
    total = np.zeros(len(vectors))
    for start in range(0, len(others), BLOCK):
        total += (np.clip(vectors @ others[start : start + BLOCK].T, 0, 1) ** KERNEL).sum(axis=1)
    return total


def novelty(vectors: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """1 where nothing like it was labelled, 1/2 where one such was, and so on: what one more label can still teach."""
    return 1.0 / (1.0 + crowding(vectors, labelled))


def typicality(vectors: np.ndarray, texts: Sequence[str]) -> np.ndarray:
    """The mean cosine of each of `vectors` (n, d) to its NEIGHBOURS nearest other texts, in [0, 1]: what is learned from an
    answer helps those like it, and an outlier has none. Copies count once; of many, OTHERS are looked at, evenly taken.
    """
    distinct = np.array(sorted(dict(zip(texts, range(len(texts)), strict=True)).values()))
    others = distinct[:: max(1, -(-len(distinct) // OTHERS))]
    if len(others) <= NEIGHBOURS:
        return np.ones(len(vectors))
    texts_of_others = np.array([texts[j] for j in others], dtype=object)
    mean = np.empty(len(vectors))
    for start in range(0, len(vectors), BLOCK):
        block = np.clip(vectors[start : start + BLOCK] @ vectors[others].T, 0, 1)
        block[np.array(texts[start : start + BLOCK], dtype=object)[:, None] == texts_of_others[None, :]] = 0.0
        mean[start : start + BLOCK] = np.partition(block, -NEIGHBOURS, axis=1)[:, -NEIGHBOURS:].mean(axis=1)
    return mean


def cells(
    value: np.ndarray,
    novelty: np.ndarray,
    vectors: np.ndarray,
    count: int,
    quotas: Sequence[tuple[np.ndarray, int]],
    minutes: np.ndarray,
    minutes_left: float,
    sharpness: float,
) -> Cells:
    """At most `count` cells, whose draws take `minutes_left` at most (all minutes 0: no such limit).

    `value` (n,) without novelty, `novelty` (n,), unit `vectors` (n, d). `quotas`: (who belongs to the slice, how many cells it
    gets at least); its cells hold nobody else, so that the quota is kept by every draw. Chances within a cell go with the
    value to the power of `sharpness`.
    """
    seeds, slice_of = _grow(value, novelty, vectors, count, quotas, minutes, minutes_left)
    if not seeds:
        return Cells(np.full(len(value), -1), np.zeros(len(value)))
    likeness = vectors @ vectors[seeds].T
    for number, seed in enumerate(seeds):
        # A cell pays for its seed: who costs more joins a dearer cell. And the cells of a quota are for its slice.
        likeness[minutes > minutes[seed], number] = -np.inf
        if slice_of[number] >= 0:
            likeness[~quotas[slice_of[number]][0], number] = -np.inf
    cell = np.where(np.isfinite(likeness.max(axis=1)), likeness.argmax(axis=1), -1)
    cell[seeds] = np.arange(len(seeds))
    weight = np.where(cell >= 0, (value * novelty / (value * novelty).max()) ** sharpness, 0.0)
    weight = np.where(cell >= 0, np.maximum(weight, 1e-12), 0.0)
    total = np.bincount(cell[cell >= 0], weights=weight[cell >= 0], minlength=len(seeds))
    return Cells(cell, np.where(cell >= 0, weight / total[cell], 0.0))


def _grow(
    value: np.ndarray,
    novelty: np.ndarray,
    vectors: np.ndarray,
    count: int,
    quotas: Sequence[tuple[np.ndarray, int]],
    minutes: np.ndarray,
    minutes_left: float,
) -> tuple[list[int], list[int]]:
    """Seeds in order of choice, and the quota that each fills (-1: none). Quotas first; in minutes, most value a minute."""
    crowd = 1.0 / novelty - 1.0
    open_ = np.ones(len(value), bool)
    worth = value / minutes if minutes.any() else value
    seeds: list[int] = []
    slice_of: list[int] = []
    for number, (members, wanted) in enumerate([*quotas, (np.ones(len(value), bool), count)]):
        general = number == len(quotas)
        have = len(seeds) if general else 0
        while have < wanted and len(seeds) < count:
            possible = open_ & members & (minutes <= minutes_left if minutes.any() else True)
            if not possible.any():
                break
            best = int(np.argmax(np.where(possible, worth / (1.0 + crowd), -np.inf)))
            seeds.append(best)
            slice_of.append(-1 if general else number)
            open_[best] = False
            minutes_left -= float(minutes[best])
            crowd += np.clip(vectors @ vectors[best], 0, 1) ** KERNEL
            have += 1
    return seeds, slice_of
