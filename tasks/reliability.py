"""How far people agree about the same items, for every type of answer, with an interval over items.

    Answer("q1", "ana", "yes"), Answer("q1", "ben", "no"), Answer("q2", "ana", "yes"), Answer("q2", "ben", "yes"), …
    =>  Reliability(measure="alpha nominal", value=0.61, low=0.44, high=0.76, raw=0.82, items=120, answers=240)

Choices and ratings have Krippendorff's alpha (library `krippendorff`), spans too, character by character. Alpha says how far
agreement is above chance; it is NaN where only one answer was ever given, and low where one is very common, so `raw`, the share
of pairs that agree exactly, always stands beside it. Sets, rankings and texts have the mean likeness of two people's answers.

Intervals are percentiles of a bootstrap that draws whole items with replacement (seeded: equal answers, equal interval). Items
with the same counts are drawn together by one multinomial, so that its cost depends on how many differ.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import combinations, pairwise
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

RESAMPLES, INTERVAL, SEED = 500, 0.95, 1
AT_ONCE = 2_000_000  # drawn counts held in memory at a time


class Answer(NamedTuple):
    """One person's answer. `value` is a label, a number, spans, a set, a ranking or a text, as the measure wants it."""

    item: str
    annotator: str
    value: Any


Span = tuple[int, int, str]  # start and end (half-open) in characters, and the label
Ranking = Sequence[Sequence[str]]  # best first; names in one group tie


@dataclass(frozen=True, slots=True)
class Reliability:
    """`value` in its interval; `raw` the share of pairs that agree exactly; NaN is unknown. `items` have two answers or more,
    and `answers` counts those."""

    measure: str
    value: float
    low: float
    high: float
    raw: float
    items: int
    answers: int


def choices(answers: Iterable[Answer]) -> Reliability:
    """Krippendorff's alpha of one label an answer."""
    return _alpha("alpha nominal", answers, "nominal")


def ratings(answers: Iterable[Answer], level: str = "ordinal") -> Reliability:
    """Krippendorff's alpha of numbers: `ordinal` for steps of a scale, `interval` for amounts."""
    if level not in ("ordinal", "interval"):
        raise ValueError(f"level {level!r}: ordinal or interval")
    return _alpha(f"alpha {level}", answers, level)


def spans(answers: Iterable[Answer], lengths: dict[str, int]) -> tuple[Reliability, Reliability, Reliability]:
    """Marked spans (`Answer.value`: spans) over texts of the given lengths: alpha by character, soft F1, strict F1.

    A character's value is the labels that cover it, or none. Source: Krippendorff (2004) on units of a continuum, simplified.
    """
    by_item = _by_item(answers)
    counts, weights, owner = [], [], []
    for number, (item, given) in enumerate(sorted(by_item.items())):
        for weight, values in _stretches(given, lengths[item]):
            counts.append(values)
            weights.append(weight)
            owner.append(number)
    names = {name: k for k, name in enumerate(sorted({v for row in counts for v in row}))}
    table = np.zeros((len(counts), len(names)))
    for row, values in zip(table, counts, strict=True):
        np.add.at(row, [names[v] for v in values], 1)
    alpha = _alpha_of(
        "alpha by character", table, np.array(weights), np.array(owner, dtype=int), len(by_item), "nominal"
    )
    total = sum(map(len, by_item.values()))
    return (
        Reliability(*alpha, items=len(by_item), answers=total),
        _pairwise("soft F1", by_item, soft_f1),
        _pairwise("strict F1", by_item, strict_f1),
    )


def sets(answers: Iterable[Answer]) -> tuple[Reliability, ...]:
    """Sets of labels (`Answer.value`: frozenset): mean Jaccard, mean MASI, then alpha of each label, by name."""
    answers = [Answer(a.item, a.annotator, frozenset(a.value)) for a in answers]
    by_item = _by_item(answers)
    labels = sorted({label for a in answers for label in a.value})
    each = [
        _alpha(f"alpha of {label}", (Answer(a.item, a.annotator, label in a.value) for a in answers), "nominal")
        for label in labels
    ]
    return _pairwise("Jaccard", by_item, jaccard), _pairwise("MASI", by_item, masi), *each


def rankings(answers: Iterable[Answer]) -> Reliability:
    """Rankings of the same names with ties (`Answer.value`: groups, best first): mean Kendall tau-b of two people."""
    return _pairwise("Kendall tau-b", _by_item(answers), tau)


def texts(answers: Iterable[Answer]) -> Reliability:
    """Free texts: mean likeness of two people's words."""
    return _pairwise("likeness of words", _by_item(answers), likeness)


def soft_f1(one: Iterable[Span], other: Iterable[Span]) -> float:
    """Twice the characters that both marked with the same label over all that either marked; 1 where nobody marked any."""
    a, b = ({(at, label) for start, end, label in marks for at in range(start, end)} for marks in (one, other))
    return 2 * len(a & b) / (len(a) + len(b)) if a or b else 1.0


def strict_f1(one: Iterable[Span], other: Iterable[Span]) -> float:
    """The same over whole spans: both ends and the label have to be equal."""
    a, b = ({(start, end, label) for start, end, label in marks} for marks in (one, other))
    return 2 * len(a & b) / (len(a) + len(b)) if a or b else 1.0


def jaccard(one: Iterable[str], other: Iterable[str]) -> float:
    a, b = set(one), set(other)
    return len(a & b) / len(a | b) if a or b else 1.0


def masi(one: Iterable[str], other: Iterable[str]) -> float:
    """Jaccard times 1 for equal sets, 2/3 where one holds the other, 1/3 where they overlap, 0 else (Passonneau, 2006)."""
    a, b = set(one), set(other)
    return jaccard(a, b) * (1 if a == b else 2 / 3 if a <= b or b <= a else 1 / 3 if a & b else 0)


def tau(one: Ranking, other: Ranking) -> float:
    """Kendall's tau-b of the names that both ranked; of one that ties all, 1 with another such and 0 with any else."""
    from scipy.stats import kendalltau

    places = [{name: k for k, group in enumerate(ranking) for name in group} for ranking in (one, other)]
    names = sorted(places[0].keys() & places[1].keys())
    if len(names) < 2:
        return math.nan
    a, b = ([place[name] for name in names] for place in places)
    if len(set(a)) == 1 or len(set(b)) == 1:
        return float(len(set(a)) == len(set(b)))
    return float(kendalltau(a, b).statistic)


def likeness(one: str, other: str) -> float:
    """Ratcliff and Obershelp's ratio over words, in whichever order the two come."""
    a, b = sorted((one.split(), other.split()))
    return SequenceMatcher(None, a, b, autojunk=False).ratio()


def _by_item(answers: Iterable[Answer]) -> dict[str, list[Any]]:
    """The values of each item that has two or more, in order of the annotators' names."""
    found: dict[str, list[Any]] = defaultdict(list)
    for answer in sorted(answers, key=lambda a: (a.item, a.annotator)):
        found[answer.item].append(answer.value)
    return {item: values for item, values in found.items() if len(values) > 1}


def _alpha(measure: str, answers: Iterable[Answer], level: str) -> Reliability:
    by_item = _by_item(answers)
    names = {value: k for k, value in enumerate(sorted({v for values in by_item.values() for v in values}))}
    table = np.zeros((len(by_item), len(names)))
    rows = [number for number, values in enumerate(by_item.values()) for _ in values]
    np.add.at(table, (rows, [names[v] for values in by_item.values() for v in values]), 1)
    domain = np.array(list(names), dtype=float) if level != "nominal" else None
    found = _alpha_of(measure, table, np.ones(len(table), dtype=int), np.arange(len(table)), len(table), level, domain)
    return Reliability(*found, items=len(by_item), answers=int(table.sum()))


def _alpha_of(
    measure: str, counts: np.ndarray, weights: np.ndarray, owner: np.ndarray, items: int, level: str,
    domain: np.ndarray | None = None,
) -> tuple[str, float, float, float, float]:  # fmt: skip
    """(measure, alpha, low, high, raw) of units × values counts, each unit `weights` times, of the item `owner`."""
    import krippendorff

    kept = weights > 0
    counts, weights, owner = counts[kept], weights[kept], owner[kept]
    if not len(counts):
        return measure, math.nan, math.nan, math.nan, math.nan
    size = counts.sum(axis=1)
    raw = float((weights * (counts * (counts - 1)).sum(axis=1)).sum() / (weights * size * (size - 1)).sum())
    if counts.shape[1] < 2:
        return measure, math.nan, math.nan, math.nan, raw
    units, which = np.unique(counts, axis=0, return_inverse=True)
    which = which.ravel()
    value = krippendorff.alpha(
        value_counts=np.repeat(units, np.bincount(which, weights=weights).astype(int), axis=0).astype(int),
        value_domain=range(counts.shape[1]) if domain is None else domain, level_of_measurement=level,
    )  # fmt: skip
    if len(owner) == items:  # a unit an item: equal ones are drawn together
        alike, chances = None, np.bincount(which) / items
    else:
        alike, chances = sparse.csr_matrix((weights, (owner, which)), shape=(items, len(units))), np.full(items, 1 / items)
    random = np.random.default_rng(SEED)
    step = max(1, AT_ONCE // len(chances))
    sampled = []
    for start in range(0, RESAMPLES, step):
        draws = random.multinomial(items, chances, size=min(step, RESAMPLES - start))
        sampled.append(_alphas(draws if alike is None else draws @ alike, units, level, domain))
    return measure, float(value), *_percentiles(np.concatenate(sampled)), raw


def _alphas(draws: np.ndarray, units: np.ndarray, level: str, domain: np.ndarray | None) -> np.ndarray:
    """Alpha of each draw (draws × units, how often); NaN where it holds one value only. Krippendorff (2011)."""
    size = units.sum(axis=1)
    values = draws @ units  # how often each value was given
    total = values.sum(axis=1)
    if level == "ordinal":
        found = []
        for drawn, given in zip(draws, values, strict=True):
            upto = np.cumsum(given) - given / 2
            apart = (upto[:, None] - upto[None, :]) ** 2
            found.append((drawn @ (((units @ apart) * units).sum(axis=1) / (size - 1)), given @ apart @ given))
        observed, expected = np.array(found).T
    else:
        apart = 1 - np.eye(units.shape[1]) if domain is None else (domain[:, None] - domain[None, :]) ** 2
        observed = draws @ (((units @ apart) * units).sum(axis=1) / (size - 1))
        expected = ((values @ apart) * values).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(expected > 0, 1 - (total - 1) * observed / expected, np.nan)


def _pairwise(measure: str, by_item: dict[str, list[Any]], like: Callable[[Any, Any], float]) -> Reliability:
    """The mean over items of the mean likeness of two people's answers; pairs that cannot be compared do not count."""
    means, equal = [], []
    for values in by_item.values():
        pairs = [like(a, b) for a, b in combinations(values, 2)]
        pairs = [p for p in pairs if not math.isnan(p)]
        if pairs:
            means.append(sum(pairs) / len(pairs))
            equal.append(sum(p == 1.0 for p in pairs) / len(pairs))
    answers = sum(map(len, by_item.values()))
    if not means:
        return Reliability(measure, math.nan, math.nan, math.nan, math.nan, 0, answers)
    values, times = np.unique(means, return_counts=True)
    draws = np.random.default_rng(SEED).multinomial(len(means), times / len(means), size=RESAMPLES)
    low, high = _percentiles(draws @ values / len(means))
    return Reliability(measure, float(np.mean(means)), low, high, float(np.mean(equal)), len(means), answers)


def _percentiles(sampled: np.ndarray) -> tuple[float, float]:
    sampled = sampled[~np.isnan(sampled)]
    if not len(sampled):
        return math.nan, math.nan
    low, high = np.quantile(sampled, [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2])
    return float(low), float(high)


def _stretches(given: list[Iterable[Span]], length: int) -> Iterable[tuple[int, list[str]]]:
    """(characters, what each person says about them) of the stretches between two ends of anybody's spans."""
    ends = sorted({0, length} | {at for marks in given for start, end, _ in marks for at in (start, end)})
    for start, end in pairwise(ends):
        if start >= length:
            break
        yield (
            min(end, length) - start,
            [" ".join(sorted({label for a, b, label in marks if a <= start and end <= b})) for marks in given],
        )
