"""Exact and near-duplicates among millions of texts: which text each of them repeats.

    ["Cancel my plan!", "refund?", "cancel my plan", "cancel my plans"]  ->  [0, 1, 0, 0]

    texts ──sketched──▶ sketches ──meet──▶ likely pairs ──lend──▶ their texts ──compare──▶ near pairs ──here──▶ who stands for whom
          a partition at a time    some bands at a time   a partition at a time     some pairs at a time

Every arrow is a pure function of its part, for any engine; what is held here is 8 bytes a text, and the likely pairs. A text that
is dropped always has a kept one whose overlap was computed and reaches the threshold: a sketch can miss a pair, never make one up.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks import addressed
from tasks.engine import Engine, opened, whole
from tasks.similar import jaccard, shingles
from tasks.sketch import BINS, FIRST_LEAST, FIRST_LOOK, ROWS, agree, candidates, distinct, sketch

LIKELY = 0.6  # of the threshold: what the windows of a pair must overlap at least, by estimate, to be compared at all
BANDS_EACH = 4  # bands that are looked at together
BLOCK_PAIRS = 20_000  # pairs whose texts are in memory at a time
LENT = pa.schema([("number", pa.int64()), ("text", pa.binary())])

Partition = Callable[[], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Sketching:
    """`out` becomes a folder: bands.npy (band by band), look.npy (the first bins of each text), bins.npy (all of them)."""

    name: str
    texts: Partition
    out: Path


@dataclass(frozen=True, slots=True)
class Meeting:
    """Some of the bands of all sketches. In each of the folders inside.npy names the texts that no earlier one is the same as."""

    name: str
    bands: slice
    sketches: tuple[Path, ...]
    least: float


@dataclass(frozen=True, slots=True)
class Lending:
    """The rows of a partition that blocks of pairs need: `row` for `block`, sorted by block. `start` is the number of its first
    text."""

    name: str
    texts: Partition
    start: int
    row: np.ndarray
    block: np.ndarray
    out: Path


@dataclass(frozen=True, slots=True)
class Comparing:
    """A block of pairs, by the numbers of their texts, which lie in the addressed files `lent`."""

    name: str
    block: int
    i: np.ndarray
    j: np.ndarray
    lent: tuple[str, ...]
    threshold: float


def collapse(partitions: Sequence[Partition], threshold: float, engine: Engine | None = None) -> np.ndarray:
    """For every text of the partitions, in order, the number of the text that stands for it: its own, or an earlier one's.

    `threshold`: overlap of trigrams (similar.py) from which a text is dropped, best .75 or more. A partition is called
    twice and must give the same texts each time. Empty texts are the same text. Without an `engine`, the environment's is opened.
    """
    if not partitions:
        return np.empty(0, np.int64)
    with contextlib.nullcontext(engine) if engine else opened() as opened_engine:
        return _collapsed(opened_engine, partitions, threshold)


def _collapsed(engine: Engine, partitions: Sequence[Partition], threshold: float) -> np.ndarray:
    folders = tuple(engine.folder / f"sketch-{k:06d}" for k in range(len(partitions)))
    of = [f"{k + 1} of {len(partitions)} of texts" for k in range(len(partitions))]
    asked = [Sketching(n, p, f) for n, p, f in zip(of, partitions, folders, strict=True)]
    same = list(engine.run(sketched, asked))
    starts = np.cumsum([0, *map(len, same)])
    _, first, which = np.unique(np.concatenate(same), return_index=True, return_inverse=True)
    originals = np.sort(first)
    cuts = np.searchsorted(originals, starts)
    for folder, a, b, start in zip(folders, cuts[:-1], cuts[1:], starts[:-1], strict=True):
        _save(folder / "inside.npy", originals[a:b] - start)
    bands = [slice(b, b + BANDS_EACH) for b in range(0, BINS // ROWS, BANDS_EACH)]
    meetings = [Meeting(f"bands from {b.start} of all sketches", b, folders, LIKELY * threshold) for b in bands]
    pairs = distinct([np.empty(0, np.uint64), *engine.run(meet, meetings)])
    i, j = originals[(pairs >> np.uint64(32)).astype(np.int64)], originals[(pairs & np.uint64(2**32 - 1)).astype(np.int64)]
    near = _near(engine, partitions, of, starts, i, j, threshold)
    keeper = np.arange(starts[-1])
    for earlier, later in sorted(zip(i[near].tolist(), j[near].tolist(), strict=True), key=lambda p: (p[1], p[0])):
        # Only what is kept itself may stand for others, or chains would join texts that are not alike.
        if keeper[earlier] == earlier and keeper[later] == later:
            keeper[later] = earlier
    return keeper[first[which]]


def _near(
    engine: Engine,
    partitions: Sequence[Partition],
    of: Sequence[str],
    starts: np.ndarray,
    i: np.ndarray,
    j: np.ndarray,
    threshold: float,
) -> np.ndarray:
    """Whether the texts of each pair overlap enough, exactly. Each partition is read once more, if anything of it is needed."""
    order = np.argsort(j, kind="stable")
    blocks = [order[b : b + BLOCK_PAIRS] for b in range(0, len(order), BLOCK_PAIRS)]
    wanted = [np.unique(np.concatenate([i[b], j[b]])) for b in blocks]
    number = np.concatenate([np.empty(0, np.int64), *wanted])
    block = np.repeat(np.arange(len(blocks)), [len(w) for w in wanted])
    lending = []
    for k, partition in enumerate(partitions):
        inside = (number >= starts[k]) & (number < starts[k + 1])
        if inside.any():
            out = engine.folder / f"lent-{k:06d}.parquet"
            lending.append(Lending(of[k], partition, int(starts[k]), number[inside] - starts[k], block[inside], out))
    lent = tuple(engine.run(lend, lending))
    comparing = [Comparing(f"pairs from {k * BLOCK_PAIRS}", k, i[b], j[b], lent, threshold) for k, b in enumerate(blocks)]
    near = np.zeros(len(i), bool)
    for some, found in zip(blocks, engine.run(compare, comparing), strict=True):
        near[some] = found
    return near


def sketched(part: Sketching) -> np.ndarray:
    """Writes the sketches of a partition; gives for each text a number that is equal for texts that normalise alike."""
    made = sketch(part.texts())
    part.out.mkdir(exist_ok=True)
    # A band at a time is read, and of nearly all pairs the first bins only.
    _save(part.out / "bands.npy", np.ascontiguousarray(made.bands.T))
    _save(part.out / "look.npy", np.ascontiguousarray(made.bins[:, :FIRST_LOOK]))
    _save(part.out / "bins.npy", made.bins)
    return made.same


def meet(part: Meeting) -> np.ndarray:
    """Pairs of originals that share one of these bands and agree in enough bins; each as one number, the earlier's in its upper
    half."""
    inside = [np.load(f / "inside.npy") for f in part.sketches]
    starts = np.cumsum([0, *map(len, inside)])
    bands = [np.load(f / "bands.npy", mmap_mode="r")[part.bands][:, k] for f, k in zip(part.sketches, inside, strict=True)]
    i, j = candidates(np.concatenate(bands, axis=1).T)
    look = np.concatenate([np.load(f / "look.npy", mmap_mode="r")[k] for f, k in zip(part.sketches, inside, strict=True)])
    likely = agree(look, look, i, j, part.least * FIRST_LEAST)
    i, j = i[likely], j[likely]
    bins = [np.load(f / "bins.npy", mmap_mode="r") for f in part.sketches]

    def whole_bins(some: np.ndarray) -> np.ndarray:
        found = np.empty((len(some), BINS), np.uint8)
        of = np.searchsorted(starts, some, side="right") - 1
        for k in np.unique(of).tolist():
            found[of == k] = bins[k][inside[k][some[of == k] - starts[k]]]
        return found

    kept = [np.empty(0, np.uint64)]
    for b in range(0, len(i), BLOCK_PAIRS):
        some, other = i[b : b + BLOCK_PAIRS], j[b : b + BLOCK_PAIRS]
        near = np.arange(len(some))
        good = agree(whole_bins(some), whole_bins(other), near, near, part.least)
        kept.append(some[good].astype(np.uint64) << np.uint64(32) | other[good].astype(np.uint64))
    return np.concatenate(kept)


def lend(part: Lending) -> str:
    texts = part.texts()
    # As bytes: a text may hold half a surrogate pair, which is no string of Arrow's.
    found = [texts[k].encode(errors="surrogatepass") for k in part.row.tolist()]
    rows = pa.table({addressed.PART: part.block, "number": part.row + part.start, "text": pa.array(found, pa.binary())})
    return addressed.write(part.out, [rows])[0]


def compare(part: Comparing) -> np.ndarray:
    """Whether each pair of the block is near, by the exact overlap."""
    lent = addressed.read(part.lent, part.block, LENT).sort_by("number")
    numbers = lent["number"].to_numpy()
    sets = shingles([t.decode(errors="surrogatepass") for t in lent["text"].to_pylist()])
    return jaccard(sets, sets, np.searchsorted(numbers, part.i), np.searchsorted(numbers, part.j)) >= part.threshold


def _save(path: Path, array: np.ndarray) -> None:
    with whole(path) as temporary, temporary.open("wb") as out:
        np.save(out, array, allow_pickle=False)
