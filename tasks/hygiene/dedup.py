"""Doubles: of rows that say the same, one stays and knows how many it stands for.

    ["Cancel my plan!", "refund?", "cаncel my plan" (with a Cyrillic а)], copies [1, 1, 3]  ->  keeper [0, 1, 0], copies [4, 1, 0]

On top of tasks/collapse.py, which finds exact and near-duplicates among millions; texts are folded first, so that what looks the
same is the same. Rows `within` different things (the same question, two right answers) are never doubles of each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import feather

from tasks.collapse import Partition, collapse
from tasks.engine import opened, whole
from tasks.hygiene.folding import fold_column
from tasks.similar import jaccard, shingles

PART = 50_000  # texts as Python objects at a time


@dataclass(frozen=True, slots=True)
class Deduplicated:
    """Per row the row that stands for it (itself, of one that stays), and how many it stands for (0 of one that goes)."""

    keeper: np.ndarray
    copies: np.ndarray

    @property
    def kept(self) -> np.ndarray:
        return self.keeper == np.arange(len(self.keeper))


def dedup(
    texts: pa.Array | pa.ChunkedArray | Sequence[str],
    threshold: float,
    order: np.ndarray | None = None,
    within: np.ndarray | None = None,
    copies: np.ndarray | None = None,
) -> Deduplicated:
    """Texts -> keepers, which are the first in `order` (row numbers; by default as they come) among their doubles.

    `threshold`: overlap of trigrams, .75 or more. `copies`: how many each row stands for already. For a result that does not depend
    on how rows come, hand an order that does not, such as by time and id.
    """
    column = texts if isinstance(texts, pa.Array | pa.ChunkedArray) else pa.array(texts, pa.string())
    order = np.arange(len(column)) if order is None else order
    folded = fold_column(column).take(pa.array(order))
    with opened() as engine:
        parts = [_part(folded.slice(start, PART), engine.folder / f"{start}.arrow") for start in range(0, len(folded), PART)]
        found = collapse(parts, threshold, engine)
    if within is not None:
        _, code = np.unique(np.asarray(within)[order], return_inverse=True)
        found = _split(folded, found, code, threshold)
    keeper = np.empty(len(found), np.int64)
    keeper[order] = order[found]
    held = np.ones(len(found), np.int64) if copies is None else np.asarray(copies, np.int64)
    return Deduplicated(keeper, np.bincount(keeper, held, minlength=len(found)).astype(np.int64))


def claims(responses: pa.ChunkedArray, polarity: np.ndarray, threshold: float) -> np.ndarray:
    """A number for each vote, the same for votes of one polarity on answers that are near-duplicates: what a cap counts.

    Which votes share a number does not depend on their order: texts come sorted.
    """
    order = pc.sort_indices(fold_column(responses)).to_numpy().astype(np.int64)
    return dedup(responses, threshold, order).keeper * 2 + (polarity > 0)


def _part(folded: pa.Array, path: Path) -> Partition:
    with whole(path) as temporary:
        feather.write_feather(pa.table({"text": folded}), temporary, "lz4")
    return partial(_texts, path)


def _texts(path: Path) -> list[str]:
    return feather.read_table(path)["text"].to_pylist()


def _split(folded: pa.Array, keeper: np.ndarray, code: np.ndarray, threshold: float) -> np.ndarray:
    """Keepers for rows that are near to one of another kind: the first of their own kind, if it is near as well.

    Two texts that are near to a third need not be near to each other, so they are compared.
    """
    found = keeper.copy()
    lost = np.flatnonzero(code != code[keeper])
    if not len(lost):
        return found
    order = lost[np.lexsort((lost, code[lost], keeper[lost]))]
    new = np.ones(len(order), bool)
    new[1:] = (keeper[order][1:] != keeper[order][:-1]) | (code[order][1:] != code[order][:-1])
    first = order[np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))]
    for start in range(0, len(order), PART):
        some, ahead = order[start : start + PART], first[start : start + PART]
        near = jaccard(
            shingles(folded.take(pa.array(ahead)).to_pylist()),
            shingles(folded.take(pa.array(some)).to_pylist()),
            np.arange(len(some)),
            np.arange(len(some)),
        )
        found[some] = np.where((near >= threshold) | (some == ahead), ahead, some)
    return found
