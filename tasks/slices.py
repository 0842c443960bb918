"""Rules about slices of the traffic, as params.yaml writes them: "column=value: number", the value with * for anything.

"language=de: 0.1"     -> at least a tenth of the mined part (a quota)      "detector=leak*: 3" -> counts three times (a risk)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from tasks.errors import Refused


@dataclass(frozen=True, slots=True)
class Rule:
    """`pattern` of a slice ("column=value") and the number that goes with it."""

    pattern: str
    number: float

    def holds(self, slices: Sequence[str]) -> bool:
        return any(fnmatchcase(s, self.pattern) for s in slices)


def quotas(texts: Sequence[str]) -> list[Rule]:
    """Shares of the mined part. Raises Refused unless each is within 0 and 1, and all together too."""
    rules = [_rule(t, "select.quotas") for t in texts]
    if any(r.number > 1 for r in rules) or sum(r.number for r in rules) > 1:
        raise Refused(
            f"params.yaml: select.quotas ask for more than the whole: {texts}", "write shares that sum to 1 at most"
        )
    return rules


def risks(texts: Sequence[str]) -> list[Rule]:
    """Weights of an error in a slice; of several that hold the largest counts."""
    return [_rule(t, "select.risks") for t in texts]


def _rule(text: str, key: str) -> Rule:
    pattern, _, number = text.rpartition(":")
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    column, equals, _ = pattern.partition("=")
    if not column.strip() or not equals or not 0 <= value < float("inf"):
        raise Refused(f"params.yaml: {key} has {text!r}", 'write "column=value: number", such as "language=de: 0.1"')
    return Rule(pattern.strip(), value)
