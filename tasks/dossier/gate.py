"""What the gate compared, as rows of one table: right answers, guards, slices, whichever version of the gate wrote the verdict.

    {"primary": {"n": 180, "fixed": 41, …}, "guards": {"free of refusal": {"margin": 0.02, "state": "shown", "compared": {…}}}, …}
    ->  [Compared("right answers", "decides", 180, …), Compared("free of refusal", "guard", 180, …), …]
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

PRIMARY = "right answers"


@dataclass(frozen=True, slots=True)
class Compared:
    """One comparison, challenger minus champion; a number that the verdict lacks is NaN. `margin`: the loss that is tolerated."""

    name: str
    role: str
    n: float
    groups: float
    fixed: float
    broken: float
    difference: float
    low: float
    high: float
    p_value: float
    margin: float
    state: str


def compared(verdict: Mapping[str, Any]) -> list[Compared]:
    """The gate's table, the comparison that decides first."""
    return list(_compared(verdict))


def _compared(verdict: Mapping[str, Any]) -> Iterator[Compared]:
    if verdict.get("primary"):
        yield _row(PRIMARY, "decides", verdict["primary"], 0.0, "")
    for name, said in sorted(verdict.get("guards", {}).items()):
        # Verdicts before margins had the comparison itself here.
        margin, state = _number(said.get("margin", 0.0)), str(said.get("state", ""))
        yield _row(name, "guard", said.get("compared", said), margin, state)
    for name, said in sorted(verdict.get("slices", {}).items()):
        yield _row(name, "slice", said.get("compared", said), 0.0, "worse" if said.get("worse") else "")


def _row(name: str, role: str, said: Mapping[str, Any], margin: float, state: str) -> Compared:
    numbers = [_number(said.get(k)) for k in ("n", "groups", "fixed", "broken", "difference", "low", "high", "p_value")]
    return Compared(name, role, *numbers, margin, state)


def _number(value: Any) -> float:
    return float(value) if type(value) in (int, float) else math.nan
