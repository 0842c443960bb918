"""Which labels train: not what straddles the wall or gives a sealed question away, and the same thing only so often.

    labels   question, side, same, says …        sealed questions
    ->  copies [1, 0, 3, …]   how many labels each row stands for, 0: it does not train
        reason ["", "near_a_holdout_row", "", "near_duplicate", …]     met ["", "ix_9…", "", "ix_2…", …]

Rows that stand for others are the surest of them; nothing depends on the order in which labels come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.examples import HOLDOUT, TRAIN
from tasks.firewall import EXACT, NEAR, NGRAM, FirewallParams, Met, firewall
from tasks.hygiene.balance import Balanced, balance
from tasks.hygiene.caps import Limit, cap
from tasks.hygiene.dedup import dedup
from tasks.hygiene.lots import lot
from tasks.hygiene.noise import noise
from tasks.hygiene.params import HygieneParams

STRADDLES, DOUBLE, FULL, SLICE, NOISY = (
    "straddles_the_wall", "near_duplicate", "group_is_full", "slice_is_full", "label_looks_wrong",
)  # fmt: skip
BALANCED = ("topic", "language")
REFUSED = {EXACT: "is_a_holdout_row", NEAR: "near_a_holdout_row", NGRAM: "quotes_a_holdout_row"}
PART = 20_000  # texts as Python objects at a time


@dataclass(frozen=True, slots=True)
class Sealed:
    """The questions of the holdout side, with the interaction and the group of each; `common` may be said on both sides."""

    questions: list[str]
    interactions: list[str]
    groups: list[str]
    common: list[str]


@dataclass(frozen=True, slots=True)
class Admitted:
    """By row of labels; `reason` is '' also of what is sealed, which never trains. `balance` says what each slice had and kept;
    `suspected` are the interactions whose label looks wrong, `noise` their share of those that could be judged."""

    copies: np.ndarray
    reason: np.ndarray
    met: np.ndarray
    balance: Balanced
    suspected: list[str]
    noise: float


def refused(texts: Sequence[pa.ChunkedArray], sealed: Sealed, params: FirewallParams) -> list[dict[int, Met]]:
    """Of each column of texts, the rows that give a sealed question away."""
    parts, starts = [], [0]
    for column in texts:
        parts += [_part(column, start) for start in range(0, len(column), PART)]
        starts.append(starts[-1] + len(column))
    found: list[dict[int, Met]] = [{} for _ in texts]
    for met in firewall(parts, sealed.questions, params, sealed.common, sealed.groups):
        which = int(np.searchsorted(starts, met.row, side="right")) - 1
        found[which][met.row - starts[which]] = met
    return found


def admitted(labels: pa.Table, met: dict[int, Met], sealed: Sealed, params: HygieneParams) -> Admitted:
    """`labels`: interaction_id, side, question, p_target, target, group_id, the columns of BALANCED, `says` (one number for what a
    row teaches) and `same` (the same with the group); `met`: what the firewall found among them."""
    n = labels.num_rows
    side = np.asarray(labels["side"].to_pylist(), object)
    reason, by = np.full(n, "", object), np.full(n, "", object)
    reason[(side != TRAIN) & (side != HOLDOUT)] = STRADDLES
    for row, m in met.items():
        if side[row] == TRAIN:
            reason[row], by[row] = REFUSED[m.how], sealed.interactions[m.sealed]
    copies = np.zeros(n, np.int64)
    left = np.flatnonzero((side == TRAIN) & (reason == ""))
    sure = labels["p_target"].to_numpy()[left]
    ids = np.asarray(labels["interaction_id"].take(pa.array(left)).to_pylist(), object).astype(str)
    order = np.lexsort((ids, -sure))
    doubled = dedup(labels["question"].take(pa.array(left)), params.near_duplicate, order, labels["says"].to_numpy()[left])
    gone = ~doubled.kept
    reason[left[gone]], by[left[gone]] = DOUBLE, ids[doubled.keeper[gone]]
    copies[left] = doubled.copies
    left, sure, ids = left[~gone], sure[~gone], ids[~gone]
    full = cap((Limit(FULL, labels["same"].take(pa.array(left)), params.group_rows),), ids.tolist(), params.key, sure).reason != ""
    reason[left[full]] = FULL
    left, ids = left[~full], ids[~full]
    even = balance({c: labels[c].take(pa.array(left)).combine_chunks() for c in BALANCED}, ids.tolist(), params)
    reason[left[~even.kept]] = SLICE
    left, ids = left[even.kept], ids[even.kept]
    named = np.flatnonzero(pc.not_equal(labels["target"].take(pa.array(left)), "").to_numpy())
    if not params.noise_drop:
        named = np.sort(named[np.argsort(lot(ids[named].tolist(), params.key), kind="stable")[: params.noise_rows]])
    rows = labels.take(pa.array(left[named]))
    doubt = noise(rows["question"].combine_chunks(), rows["target"].to_pylist(), rows["group_id"].to_pylist(), params)
    if params.noise_drop:
        reason[left[named[doubt.flagged]]] = NOISY
    copies[reason != ""] = 0
    return Admitted(copies, reason, by, even, sorted(ids[named[doubt.flagged]].tolist()), doubt.share)


def _part(column: pa.ChunkedArray, start: int):
    return lambda: column.slice(start, PART).to_pylist()
