"""What makes an evaluation unusable: anything missing, not a number, or twice. The gate then refuses, and says which row.

    [row with confidence NaN]  ->  ["ex_17: challenger_confidence is nan, not a number in 0 to 1"]
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from tasks.gate.rows import PARTS, Compared

SHOWN = 5  # faults that are named; the rest are counted
NAMES = {f.name for f in fields(Compared)}
TEXTS = ("example_id", "group_id", "part", "kind", "topic", "language", "cluster", "target", "champion", "challenger")


def read(rows: Sequence[Mapping[str, Any]]) -> tuple[list[Compared], list[str]]:
    """Raw rows as Compared, and the faults of those that are none."""
    found: list[Compared] = []
    faults: list[str] = []
    for number, row in enumerate(rows, 1):
        lacks, strange = sorted(NAMES - row.keys()), sorted(row.keys() - NAMES)
        if lacks or strange:
            what = [*(f"lacks {name}" for name in lacks), *(f"has an unknown {name}" for name in strange)]
            faults.append(f"row {number} of the evaluation {', '.join(what)}")
        else:
            found.append(Compared(**row))
    return found, _few(faults)


def unsound(rows: Sequence[Compared]) -> list[str]:
    """Why nothing can be decided on these rows; [] where it can."""
    if not any(r.part == PARTS[0] for r in rows):
        return ["the evaluation has no row of the holdout"]
    faults: list[str] = []
    seen: set[tuple[str, str]] = set()
    for r in rows:
        faults += [f"{r.example_id}: {fault}" for fault in _faults(r)]
        if (r.part, r.example_id) in seen:
            faults.append(f"{r.example_id}: it is there twice")
        seen.add((r.part, r.example_id))
    return _few(faults)


def _faults(r: Compared) -> list[str]:
    texts = [name for name in TEXTS if not isinstance(getattr(r, name), str)]
    if texts:
        return [f"{name} is {getattr(r, name)!r}, not a text" for name in texts]
    faults = [] if r.part in PARTS else [f"part is {r.part!r}, not one of {', '.join(PARTS)}"]
    faults += [] if r.group_id else ["group_id is empty"]
    for who in ("champion", "challenger"):
        right, confidence = getattr(r, f"{who}_right"), getattr(r, f"{who}_confidence")
        signals, scores = getattr(r, f"{who}_signals"), getattr(r, f"{who}_scores")
        if not isinstance(right, bool):
            faults.append(f"{who}_right is {right!r}, neither true nor false")
        if not _share(confidence):
            faults.append(f"{who}_confidence is {confidence!r}, not a number in 0 to 1")
        if not isinstance(signals, list) or not all(isinstance(s, str) for s in signals):
            faults.append(f"{who}_signals is {signals!r}, not a list of names")
        if not isinstance(scores, dict):
            faults.append(f"{who}_scores is {scores!r}, not scores by name")
        else:
            faults += [f"{who}'s {name} is {s!r}, not a number in 0 to 1" for name, s in scores.items() if not _share(s)]
    if isinstance(r.champion_scores, dict) and isinstance(r.challenger_scores, dict):
        one_sided = sorted(r.champion_scores.keys() ^ r.challenger_scores.keys())
        faults += [f"{name} was scored for one of the two models only" for name in one_sided]
    return faults


def _share(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and 0 <= value <= 1


def _few(faults: list[str]) -> list[str]:
    more = [f"and {len(faults) - SHOWN:,} faults more"] if len(faults) > SHOWN else []
    return faults[:SHOWN] + more
