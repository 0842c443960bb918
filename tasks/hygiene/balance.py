"""Balance: large slices give way to small ones by a recorded policy, and nothing small is touched.

    topic billing 20,000, bikes 3,000, bells 90; floor 200, temperature 2   ->   billing 2,000, bikes 774, bells 90

Up to the floor a slice keeps all; one that is n times as large keeps n^(1/temperature) times the floor, as in the sampling of
languages for multilingual models (Devlin et al., 2018; Conneau et al., 2020), and `slice_rows` at most. Rows are only left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tasks.examples import MODEL
from tasks.hygiene.lots import coded, lot, place
from tasks.hygiene.params import HygieneParams


@dataclass(frozen=True, slots=True)
class Slice:
    """One line of the report: how many rows the slice had, what the policy allows, how many it kept."""

    column: str
    value: str
    had: int
    allowed: int
    kept: int


@dataclass(frozen=True, slots=True)
class Balanced:
    """Which rows stay, the slices in the order of column and size, and the policy in words."""

    kept: np.ndarray
    slices: tuple[Slice, ...]
    policy: str


def balance(columns: Mapping[str, pa.Array], ids: Sequence[str], params: HygieneParams) -> Balanced:
    """Columns by which rows are sliced (such as topic, language, kind), and the rows' ids -> the rows that stay.

    Columns are balanced one after the other, in the order given. Of each slice of each column the first `slice_floor` rows by lot
    stay whatever the other columns say, so a slice may keep more than it is allowed, never fewer than the floor (if it has them).
    """
    drawn = lot(ids, params.key)
    tie = coded(pa.array(ids, pa.string()))
    names = {column: coded(values) for column, values in columns.items()}
    safe = np.zeros(len(ids), bool)
    for code in names.values():
        order = np.lexsort((tie, drawn, code))
        safe[order[place(code[order]) < params.slice_floor]] = True
    kept = np.ones(len(ids), bool)
    allowed: dict[str, np.ndarray] = {}
    for column, code in names.items():
        sizes = np.bincount(code[kept], minlength=int(code.max(initial=-1)) + 1)
        allowed[column] = _allowed(sizes, params)
        left = np.flatnonzero(kept)
        order = left[np.lexsort((tie[left], drawn[left], ~safe[left], code[left]))]
        over = place(code[order]) >= allowed[column][code[order]]
        kept[order[over & ~safe[order]]] = False
    return Balanced(kept, tuple(_report(columns, names, allowed, kept)), _policy(params))


def self_generated(authors: Sequence[str]) -> dict[str, float]:
    """Who wrote what the rows teach, as shares: {"model": 0.62, …}. A model that learns from itself alone forgets the rest."""
    counts = Counter(authors)
    counts[MODEL] += 0
    return {author or "nobody": count / max(len(authors), 1) for author, count in sorted(counts.items())}


def _allowed(sizes: np.ndarray, params: HygieneParams) -> np.ndarray:
    floor = max(params.slice_floor, 1)
    most = np.floor(floor * (np.maximum(sizes, floor) / floor) ** (1 / params.temperature) + 1e-9).astype(np.int64)
    most = np.minimum(most, params.slice_rows) if params.slice_rows else most
    return np.minimum(sizes, np.maximum(most, np.minimum(sizes, floor)))


def _report(
    columns: Mapping[str, pa.Array], names: Mapping[str, np.ndarray], allowed: Mapping[str, np.ndarray], kept: np.ndarray
) -> list[Slice]:
    made = []
    for column, code in names.items():
        had, stay = np.bincount(code), np.bincount(code[kept], minlength=int(code.max(initial=-1)) + 1)
        values = sorted(set(columns[column].to_pylist()))
        lines = [
            Slice(column, value, int(had[k]), int(allowed[column][k]), int(stay[k])) for k, value in enumerate(values)
        ]
        made += sorted(lines, key=lambda x: (-x.had, x.value))
    return made


def _policy(params: HygieneParams) -> str:
    cap = f", {params.slice_rows:,} at most" if params.slice_rows else ""
    return (
        f"every slice keeps {params.slice_floor:,} rows if it has them; beyond, size^(1/{params.temperature:g}){cap}; "
        "rows are left out by keyed lot, none is repeated"
    )
