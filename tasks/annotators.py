"""What is known about each annotator: agreement, gold, bias, speed, and a verdict with its reasons.

    votes of six people, 50 gold items, seconds   =>   Card("fritz", answers=248, gold_seen=21, gold_right=12, skill=0.55, …,
                                                             verdict="careless", why=("skill .55 (.46 to .64), the others' …",))

`skill` is what of a person's answers comes from the item: each answer is taken for the item's true label with probability `skill`,
and otherwise drawn from what this person is used to say, so that always saying the most common answer is no skill. The true label
is what the others say (each by their quality, this person left out), or gold where there is any. A flat prior and that likelihood
give a posterior. Named are those whose skill lies, with Benjamini and Hochberg's control over all people, below a share of what is
typical in the pool (`careless`), or near none (`spam`); and those below .7 on gold with 95% certainty. Hard questions lower
everybody's skill and so what is typical; naming is a reason to look and to talk, not a proof of bad faith.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from tasks.aggregate import Consensus, Vote, consensus

COMPARED_AT_LEAST, GOLD_AT_LEAST = 20, 10  # fewer and the verdict is unknown
TYPICAL_SHARE = 0.92  # of the median skill of those who are no spam; below it is careless
NO_SKILL = 0.35  # a share of the median
GOLD_RATE, SURE, NAMED = 0.7, 0.95, 0.05
WATCHED = 0.2  # this probability of being good is reason to look again
FAST, FAST_MOST, CHANCE = 0.05, 0.2, 0.01
GRID = np.linspace(0.0, 1.0, 201)

Key = tuple[str, str]  # (item, annotator)


@dataclass(frozen=True, slots=True)
class Card:
    """One annotator. Shares are in [0, 1]; NaN is unknown.

    `gold_low` and `gold_high` are Wilson's 95% interval; `agreement` the mean share of the others who gave the same answer;
    `quality` the consensus' expected accuracy; `skill` with its 95% interval as above; `bias` the answer they over-use
    most against the others on the same items, `log_odds` by how much; `first_share` how often they chose what was shown first;
    `fast_share` the share of answers faster than the others' 5th percentile; `straight_line` that of their most frequent answer.
    """

    annotator: str
    answers: int
    gold_seen: int
    gold_right: int
    gold_low: float
    gold_high: float
    agreement: float
    quality: float
    skill: float
    skill_low: float
    skill_high: float
    bias: str
    log_odds: float
    first_share: float
    median_seconds: float
    fast_share: float
    straight_line: float
    verdict: str
    why: tuple[str, ...]


def cards(
    votes: Sequence[Vote],
    gold: Mapping[str, str] | None = None,
    seconds: Mapping[Key, float] | None = None,
    shown: Mapping[Key, Sequence[str]] | None = None,
    agreed: Consensus | None = None,
) -> tuple[Card, ...]:
    """A card for everybody who voted, by name. `seconds` and `shown` (answers in the order shown) are by (item, annotator).

    Sources: Benjamini and Hochberg (1995) for the naming; Wilson (1927) for gold; a Beta(1, 1) prior for P(accuracy < .7).
    """
    gold, seconds, shown = gold or {}, seconds or {}, shown or {}
    votes = sorted(set(votes))
    agreed = agreed or consensus(votes, method="one-coin")
    of_item, of_person = defaultdict(list), defaultdict(list)
    for vote in votes:
        of_item[vote.item].append(vote)
        of_person[vote.annotator].append(vote)
    classes = len({v.label for v in votes} | set(gold.values()))
    posteriors = {
        who: _skill([(_by_others(v, of_item[v.item], gold, agreed.quality, classes)) for v in own], own)
        for who, own in of_person.items()
    }
    means = {who: float(p @ GRID) for who, (p, n) in posteriors.items() if n >= COMPARED_AT_LEAST}
    typical = median(means.values()) if means else 0.0
    spam = _named({who: _above(posteriors[who][0], NO_SKILL * typical) for who in means})
    typical = median(m for who, m in means.items() if who not in spam) if means.keys() - spam else typical
    careless = {who: _above(posteriors[who][0], TYPICAL_SHARE * typical) for who in means}
    judged = (_named(careless), spam, careless)
    return tuple(
        _card(who, own, of_item, gold, seconds, shown, agreed, posteriors[who], typical, judged)
        for who, own in sorted(of_person.items())
    )


def _by_others(
    vote: Vote, item: list[Vote], gold: Mapping[str, str], quality: Mapping[str, float], classes: int
) -> float:
    """Probability, by gold or the other people alone, that this vote names the true label; NaN where there is neither."""
    if vote.item in gold:
        return float(gold[vote.item] == vote.label)
    others = [v for v in item if v.annotator != vote.annotator]
    if not others:
        return math.nan
    wrong = max(1, classes - 1)
    right = {v.annotator: min(max(quality.get(v.annotator, 0.5), 0.05), 0.99) for v in others}
    named = {v.label for v in others} | {vote.label}
    score = {
        label: math.prod(right[v.annotator] if v.label == label else (1 - right[v.annotator]) / wrong for v in others)
        for label in named
    }
    rest = math.prod((1 - right[v.annotator]) / wrong for v in others) * max(0, classes - len(named))
    return score[vote.label] / (sum(score.values()) + rest)


def _skill(true: list[float], own: list[Vote]) -> tuple[np.ndarray, int]:
    """(posterior of the skill on GRID, number of answers that could be compared)."""
    counts = Counter(v.label for v in own)
    pairs = [(p, counts[v.label] / len(own)) for p, v in zip(true, own, strict=True) if not math.isnan(p)]
    if not pairs:
        return np.full(len(GRID), 1 / len(GRID)), 0
    p, habit = np.array(pairs).T
    log = np.log(np.maximum(np.outer(GRID, p) + np.outer(1 - GRID, habit), 1e-12)).sum(axis=1)
    weight = np.exp(log - log.max())
    return weight / weight.sum(), len(pairs)


def _above(posterior: np.ndarray, bar: float) -> float:
    return float(posterior[bar <= GRID].sum())


def _named(chance: Mapping[str, float]) -> set[str]:
    """Benjamini and Hochberg: the people with the smallest chances, so that few of the named are named wrongly."""
    ranked = sorted(chance, key=lambda who: (chance[who], who))
    passed = [k for k, who in enumerate(ranked, 1) if chance[who] <= NAMED * k / len(ranked)]
    return set(ranked[: max(passed, default=0)])


def _card(
    who: str, own: list[Vote], of_item: Mapping[str, list[Vote]], gold: Mapping[str, str], seconds: Mapping[Key, float],
    shown: Mapping[Key, Sequence[str]], agreed: Consensus, found: tuple[np.ndarray, int], typical: float,
    judged: tuple[set[str], set[str], dict[str, float]],
) -> Card:  # fmt: skip
    posterior, compared = found
    on_gold = [v.label == gold[v.item] for v in own if v.item in gold]
    right, low, high = sum(on_gold), *_wilson(sum(on_gold), len(on_gold))
    others = [[o.label for o in of_item[v.item] if o.annotator != who] for v in own]
    same = [labels.count(v.label) / len(labels) for v, labels in zip(own, others, strict=True) if labels]
    bias, log_odds = _bias([v for v, labels in zip(own, others, strict=True) if labels], [x for x in others if x])
    orders = [(v.label, shown[v.item, who]) for v in own if (v.item, who) in shown]
    first = [order[0] == label for label, order in orders]
    times = [seconds[v.item, who] for v in own if (v.item, who) in seconds]
    pool = [t for (_, other), t in seconds.items() if other != who]
    fast = float(np.quantile(pool, FAST)) if pool else 0.0
    hasty = sum(t < fast for t in times)
    middle, skill_low, skill_high = (float(GRID[int(np.searchsorted(posterior.cumsum(), q))]) for q in (0.5, 0.025, 0.975))
    verdict, why = _verdict(who, judged, compared, right, len(on_gold))
    if verdict in ("careless", "spam") and compared >= COMPARED_AT_LEAST:
        why.append(f"skill {middle:.2f} ({skill_low:.2f} to {skill_high:.2f}) in {compared} answers, typical {typical:.2f}")
    if times and hasty / len(times) > FAST_MOST and _more_than(hasty, len(times), FAST):
        why.append(f"{hasty} of {len(times)} answers in less than {fast:.1f} s")
    choices = [len(order) for _, order in orders]
    if first and _more_than(sum(first), len(first), sum(1 / n for n in choices) / len(choices)):
        why.append(f"chose what was shown first {sum(first)} of {len(first)} times")
    return Card(
        annotator=who, answers=len(own), gold_seen=len(on_gold), gold_right=right, gold_low=low, gold_high=high,
        agreement=sum(same) / len(same) if same else math.nan, quality=agreed.quality.get(who, math.nan),
        skill=middle, skill_low=skill_low, skill_high=skill_high, bias=bias, log_odds=log_odds,
        first_share=sum(first) / len(first) if first else math.nan,
        median_seconds=median(times) if times else math.nan, fast_share=hasty / len(times) if times else math.nan,
        straight_line=max(Counter(v.label for v in own).values()) / len(own),
        verdict="watch" if why and verdict == "good" else verdict, why=tuple(why),
    )  # fmt: skip


def _verdict(
    who: str, judged: tuple[set[str], set[str], dict[str, float]], compared: int, right: int, seen: int
) -> tuple[str, list[str]]:
    from scipy.stats import beta

    careless, spam, chance = judged
    why = []
    below = float(beta.cdf(GOLD_RATE, 1 + right, 1 + seen - right)) if seen else 0.0
    if below > SURE:
        why.append(f"{right} of {seen} gold items right: below {GOLD_RATE} with probability {below:.3f}")
    if who in spam:
        return "spam", why
    if who in careless or why:
        return "careless", why
    if compared < COMPARED_AT_LEAST and seen < GOLD_AT_LEAST:
        return "unknown", [f"{compared} answers to compare with others, {seen} gold items: too few"]
    if chance.get(who, 1.0) < WATCHED:
        return "good", [f"careless with probability {1 - chance[who]:.2f}"]
    return "good", []


def _bias(own: list[Vote], others: list[list[str]]) -> tuple[str, float]:
    """The answer with the largest log odds against the others' answers to the same items (each item's others weigh one)."""
    mine: Counter[str] = Counter(v.label for v in own)
    theirs: dict[str, float] = defaultdict(float)
    for labels in others:
        for label in labels:
            theirs[label] += 1 / len(labels)
    n = len(own)
    odds = {
        label: math.log((k + 0.5) / (n - k + 0.5)) - math.log((theirs[label] + 0.5) / (n - theirs[label] + 0.5))
        for label, k in sorted(mine.items())
    }
    top = max(odds, key=odds.__getitem__, default="")
    return top, odds.get(top, math.nan)


def _wilson(right: int, seen: int) -> tuple[float, float]:
    if not seen:
        return math.nan, math.nan
    from scipy.stats import binomtest

    interval = binomtest(right, seen).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def _more_than(count: int, n: int, share: float) -> bool:
    from scipy.stats import binom

    return bool(binom.sf(count - 1, n, share) < CHANCE)
