"""Which way a metric points: configuration, because no log says whether a high score is good.

good: [thumb, csat >= 3.5]   bad: [toxicity >= 0.5]   ->   csat 2.0 is -1, thumb true is +1, toxicity 0.1 is +1
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tasks.errors import Refused

MIDDLE = 0.5  # of a score whose threshold is not given: most are 0 or 1
RULE = re.compile(r"\s*(?P<name>[^<>=]+?)\s*(?:>=\s*(?P<threshold>-?\d+(?:\.\d+)?)\s*)?")


@dataclass(frozen=True, slots=True)
class FeedbackParams:
    good: list[str]
    bad: list[str]
    unresolved_days: float


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric (lower case, `-` as `_`): direction +1 where true, or a number from `threshold` on, is good; -1 where bad."""

    name: str
    direction: int
    threshold: float


def metrics(params: FeedbackParams) -> list[Metric]:
    """The metrics that params.yaml gives a direction. Raises Refused for a rule that cannot be read, or one given twice."""
    found: dict[str, Metric] = {}
    for direction, rules in ((1, params.good), (-1, params.bad)):
        for rule in rules:
            match = RULE.fullmatch(rule)
            name = match["name"].lower().replace("-", "_") if match else ""
            if not match or name in found:
                raise Refused(
                    f"params.yaml: '{rule}' under 'feedback' is {'given twice' if match else 'no rule'}",
                    "write a metric's name, or name >= threshold, once, under good or bad",
                )
            threshold = float(match["threshold"]) if match["threshold"] else MIDDLE
            found[name] = Metric(name, direction, threshold)
    return list(found.values())
