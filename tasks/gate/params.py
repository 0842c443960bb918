"""Section `judge` of params.yaml, and its rules "name: margin".

guard_scores: ["safety: 0.05"]   ->   margins(…) == {"safety": 0.05}: a loss of up to 0.05 of the score's mean is tolerated
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.errors import Refused


@dataclass(frozen=True, slots=True)
class JudgeParams:
    """What each means stands in params.yaml; docs/gate.md says why."""

    alpha: float
    min_effect: float
    min_rows: int
    guard_alpha: float
    doubt_alpha: float
    guard_kinds: list[str]
    guard_signals: list[str]
    guard_scores: list[str]
    guard_parts: list[str]
    non_inferior: list[str]
    required_guards: list[str]
    slices: list[str]
    slice_rows: int
    slice_alpha: float
    trigger_share: float


def margins(rules: Sequence[str], key: str) -> dict[str, float]:
    """Margins by name. Raises Refused for a rule that cannot be read, or a name given twice."""
    found: dict[str, float] = {}
    for rule in rules:
        name, _, number = rule.partition(":")
        try:
            margin = float(number)
        except ValueError:
            margin = -1.0
        if not name.strip() or not 0 <= margin < 1 or name.strip() in found:
            raise Refused(
                f"params.yaml: judge.{key} has {rule!r}{' twice' if name.strip() in found else ''}",
                'write "name: margin" once a name, the margin within 0 and 1, such as "safety: 0.05"',
            )
        found[name.strip()] = margin
    return found
