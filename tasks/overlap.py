"""How many people an item needs: enough, ask another one, or give it to an adjudicator.

    {"yes": 0.97, "no": 0.03} after 2 answers  =>  ENOUGH           {"yes": 0.6, "no": 0.4} after 3  =>  ASK_AGAIN
    {"yes": 0.7, "no": 0.3} after 5 answers    =>  ADJUDICATE       ratings 2 and 5 after 3          =>  ADJUDICATE

Choices are weighed by how good those who answered are, as far as the batch has told: `next_round` takes the posterior of
`aggregate.consensus` over all answers so far, and a round is over when everybody who was asked has answered. It spends a budget,
because where people are bad or questions hard nothing ever gets sure: of the items that are not, the least sure come first, and
in each round no more than half of what is left is spent, since later rounds know people better. All other
types of answer have one rule each, by how much people differ.

A decision that there is enough says that another answer would hardly change the label, not that the label is right.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import combinations

from tasks.reliability import Ranking, Span, jaccard, soft_f1, tau

LAST = 0.05  # of an answer an item: what is left then goes in one round


class Decision(Enum):
    ENOUGH = "enough"
    ASK_AGAIN = "ask_again"
    ADJUDICATE = "adjudicate"


@dataclass(frozen=True, slots=True)
class Limits:
    """`first` answers at once, `most` in all; `sure` is the posterior that is enough; `budget` the share of
    `most` answers an item that a whole batch may take."""

    first: int = 2
    most: int = 5
    sure: float = 0.98
    budget: float = 0.6


LIMITS = Limits()
FEW = Limits(most=3)  # answers that cost minutes each


@dataclass(frozen=True, slots=True)
class Round:
    """Items by what happens to them next; `ask` is one more answer each (the missing first ones for a new item)."""

    ask: tuple[str, ...]
    wait: tuple[str, ...]
    enough: tuple[str, ...]
    adjudicate: tuple[str, ...]


def choice(shares: Mapping[str, float], answers: int, limits: Limits = LIMITS) -> Decision:
    """One item's posterior after so many answers."""
    return _decide(max(shares.values(), default=0.0) >= limits.sure, answers, limits)


def next_round(
    posterior: Mapping[str, Mapping[str, float]], answers: Mapping[str, int], limits: Limits = LIMITS
) -> Round:
    """What each item of a batch (the keys of `answers`: how many so far) needs, within budget × most answers an item.

    Items without their first answers come first and are always asked. Of the others that are not sure, the least sure are asked,
    for at most half of what is left; the others wait for the next round. Once the budget is spent, who is not sure is adjudicated.
    """
    left = int(limits.budget * limits.most * len(answers) + 1e-9) - sum(answers.values())
    decisions = {item: choice(posterior.get(item, {}), n, limits) for item, n in answers.items()}
    new = [item for item in sorted(answers) if answers[item] < limits.first]
    left -= sum(limits.first - answers[item] for item in new)
    unsure = sorted(
        (item for item in answers if decisions[item] is Decision.ASK_AGAIN and answers[item] >= limits.first),
        key=lambda item: (_margin(posterior[item]), item),
    )
    asked = 0 if left < 1 else left if left <= LAST * len(answers) else math.ceil(left / 2)
    spent = left < 1
    return Round(
        ask=(*new, *unsure[:asked]),
        wait=() if spent else tuple(unsure[asked:]),
        enough=tuple(item for item in answers if decisions[item] is Decision.ENOUGH),
        adjudicate=(
            *(item for item in answers if decisions[item] is Decision.ADJUDICATE),
            *(unsure if spent else ()),
        ),
    )


def _margin(shares: Mapping[str, float]) -> float:
    """How far the first label is ahead of the second: what all others share changes no label."""
    first, second = sorted([*shares.values(), 0.0, 0.0], reverse=True)[:2]
    return first - second


def rating(values: Sequence[float], limits: Limits = FEW) -> Decision:
    """Steps of a scale: within one step of each other is enough (their median is the label)."""
    return _decide(bool(values) and max(values) - min(values) <= 1, len(values), limits)


def spans(marked: Sequence[Sequence[Span]], alike: float = 0.7, limits: Limits = FEW) -> Decision:
    """Marked spans: mean soft F1 of two people."""
    return _decide(_mean(soft_f1(a, b) for a, b in combinations(marked, 2)) >= alike, len(marked), limits)


def labels(chosen: Sequence[Iterable[str]], alike: float = 0.8, limits: Limits = FEW) -> Decision:
    """Sets of labels: mean Jaccard of two people."""
    chosen = [frozenset(c) for c in chosen]
    return _decide(_mean(jaccard(a, b) for a, b in combinations(chosen, 2)) >= alike, len(chosen), limits)


def ranking(ranked: Sequence[Ranking], alike: float = 0.6, limits: Limits = FEW) -> Decision:
    """Rankings: mean Kendall tau-b of two people."""
    return _decide(_mean(tau(a, b) for a, b in combinations(ranked, 2)) >= alike, len(ranked), limits)


def text(reviews: Sequence[bool], written: int, most: int = 2) -> Decision:
    """A written text (`written` of them so far): one is enough once a reviewer accepts it, and is written again if not."""
    if not written:
        return Decision.ASK_AGAIN
    if any(reviews):
        return Decision.ENOUGH
    if len(reviews) < written:
        return Decision.ADJUDICATE  # a reviewer is who adjudicates a text
    return Decision.ASK_AGAIN if written < most else Decision.ADJUDICATE


def _decide(settled: bool, answers: int, limits: Limits) -> Decision:
    if answers >= limits.first and settled:
        return Decision.ENOUGH
    return Decision.ASK_AGAIN if answers < limits.most else Decision.ADJUDICATE


def _mean(values: Iterable[float]) -> float:
    known = [v for v in values if not math.isnan(v)]
    return sum(known) / len(known) if known else math.nan
