"""Votes of several people on the same items become one consensus, by the method that the votes themselves speak for.

    Vote("q1", "ana", "yes"), Vote("q1", "ben", "yes"), Vote("q1", "cas", "no"), …
    =>  Consensus(method="dawid-skene", posterior={"q1": {"yes": 0.94, "no": 0.06}}, quality={"ana": 0.91, …}, why="…")

Four methods, from the simplest to the freest:

    majority            everybody weighs the same; a tie stays a tie, with equal shares
    one-coin            one skill a person, wrong answers alike (Zhang et al., 2014)
    dawid-skene         a confusion matrix a person, and how common each class is (Dawid and Skene, 1979)
    dawid-skene-kinds   the same, with clear and contested items in every class (Li et al., 2019)

`auto` starts from one-coin, which breaks the majority's ties and differs little from it otherwise. Another method has to foretell
unseen votes better than the best so far, by three standard errors (of the mean log-likelihood over items), the majority first
and then up the ladder. For kinds any gain will do, since that people err independently on the same item is what one would not
believe beforehand; but a kind wants 250 items, or there is nothing to tell it by. What decides is no truth, so a method that
then loses to the majority on gold items (one-sided sign test) is put aside. Without two votes on some item there is nothing to
compare, and the majority stays. A prior that draws everybody to the pooled confusions was tried and gained nothing on public sets.

The posterior of a real crowd is overconfident: people err together, models say that they do not (labels with .9 and more were right
63 to 85% of the time on hard public sets). It orders items and tells where to ask again; it proves no quality. Gold and audit do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from tasks.dawid_skene import dawid_skene

METHODS = ("majority", "one-coin", "dawid-skene", "dawid-skene-kinds")
ITERATIONS, CONVERGED = 200, 1e-9
PRIOR_RIGHT, PRIOR_WRONG = 4.0, 1.0  # as if everybody had given four right answers and a wrong one before
FOLDS, STANDARD_ERRORS = 5, 3.0
ITEMS_A_KIND = 250
COMPARED = 100_000  # votes to choose by: more change no choice and cost seconds
GOLD_AT_LEAST, GOLD_LEVEL = 20, 0.05
CELLS = 20_000_000  # tables beyond this are for the methods that need none: open classes, a thousand people
SHOWN = 1e-4  # of a whole table, posteriors below this are left out


class Vote(NamedTuple):
    """One person's answer to one item. A tuple, because a million of them are nothing special."""

    item: str
    annotator: str
    label: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """How well a method foretells unseen votes: mean log-likelihood (nats a vote) and its gain over the best simpler method,
    with its standard error; accuracy on the gold items when they are not told. NaN where it was not or cannot be measured."""

    method: str
    log_likelihood: float
    gain: float
    error: float
    gold_accuracy: float


@dataclass(frozen=True, slots=True)
class Consensus:
    """`posterior` is {item: {label: probability}}, where what is missing from 1 is with labels that nobody gave; `quality` each
    annotator's expected accuracy in [0, 1]."""

    method: str
    why: str
    evidence: tuple[Evidence, ...]
    posterior: dict[str, dict[str, float]]
    quality: dict[str, float]

    def label(self, item: str) -> str:
        """The most probable label; of labels that tie, the first in order of their names."""
        shares = self.posterior[item]
        return min(shares, key=lambda label: (-round(shares[label], 9), label))


@dataclass(frozen=True, slots=True)
class Coded:
    """Votes as indices into sorted names, each (item, person, answer) once; gold classes by item, -1 where unknown."""

    items: list[str]
    people: list[str]
    classes: list[str]
    item: np.ndarray
    person: np.ndarray
    answer: np.ndarray
    gold: np.ndarray

    def only(self, votes: np.ndarray) -> Coded:
        """The same items, people and classes with some of the votes."""
        return Coded(
            self.items, self.people, self.classes, self.item[votes], self.person[votes], self.answer[votes], self.gold
        )

    def untold(self) -> Coded:
        return Coded(
            self.items, self.people, self.classes, self.item, self.person, self.answer, np.full_like(self.gold, -1)
        )


@dataclass(frozen=True, slots=True)
class Fitted:
    """A method's answer: probability p of class `answer` at `item`, as triples sorted by item and class; each person's quality;
    and the probability with which a person says an answer, for index arrays (item, person, answer)."""

    item: np.ndarray
    answer: np.ndarray
    p: np.ndarray
    quality: np.ndarray
    says: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def consensus(votes: Iterable[Vote], gold: Mapping[str, str] | None = None, method: str = "auto") -> Consensus:
    """Aggregate votes; `gold` tells the true label of some items, which is then theirs for certain.

    The order of votes does not matter; the same answer of a person to an item counts once. Raises ValueError for a method
    that is not known. Source of the choice: held-out likelihood with a rule of standard errors (Breiman et al., 1984).
    """
    if method != "auto" and method not in METHODS:
        raise ValueError(f"no method {method!r}: one of auto, {', '.join(METHODS)}")
    votes = list(votes)
    if not votes:
        return Consensus("majority" if method == "auto" else method, "no votes", (), {}, {})
    coded = code(*([v[k] for v in votes] for k in range(3)), gold or {})
    evidence: tuple[Evidence, ...] = ()
    why = "asked for"
    if method == "auto":
        method, why, evidence = _chosen(coded)
    fitted = fit(method, coded)
    posterior: dict[str, dict[str, float]] = {}
    for i, k, p in zip(fitted.item.tolist(), fitted.answer.tolist(), fitted.p.tolist(), strict=True):
        posterior.setdefault(coded.items[i], {})[coded.classes[k]] = p
    quality = {name: round(float(q), 4) for name, q in zip(coded.people, fitted.quality, strict=True)}
    return Consensus(method, why, evidence, posterior, quality)


def code(item: Sequence[str], person: Sequence[str], answer: Sequence[str], gold: Mapping[str, str]) -> Coded:
    """Votes as three columns -> indices. Arrow columns (strings, best as dictionaries) cost no Python object a vote."""
    items, of_item = _numbered(item)
    people, of_person = _numbered(person)
    classes, of_class = _numbered(answer, {gold[i] for i in items if i in gold} if gold else ())
    key = np.sort((of_item * len(people) + of_person) * len(classes) + of_class)
    key = key[np.concatenate([[True], key[1:] > key[:-1]])]
    rest, answers = np.divmod(key, len(classes))
    numbers, persons = np.divmod(rest, len(people))
    place = {label: k for k, label in enumerate(classes)}
    known = np.full(len(items), -1)
    if gold:
        known = np.array([place[gold[i]] if i in gold else -1 for i in items])
    return Coded(items, people, classes, numbers, persons, answers, known)


def _numbered(names: Sequence[str], more: Iterable[str] = ()) -> tuple[list[str], np.ndarray]:
    """The sorted names, `more` among them, and the place of each of the given ones."""
    column = names if isinstance(names, pa.ChunkedArray) else pa.chunked_array([pa.array(names, pa.string())])
    encoded = column.combine_chunks()
    if not pa.types.is_dictionary(encoded.type):
        encoded = encoded.dictionary_encode()
    distinct = encoded.dictionary.to_pylist()
    ordered = sorted({*distinct, *more})
    place = {name: k for k, name in enumerate(ordered)}
    return ordered, np.array([place[name] for name in distinct], np.int64)[encoded.indices.to_numpy(zero_copy_only=False)]


def fit(method: str, coded: Coded) -> Fitted:
    if method in ("majority", "one-coin"):
        return _coins(coded, alike=method == "majority")
    return _confusions(coded, kinds=2 if method == "dawid-skene-kinds" else 1)


def _coins(coded: Coded, alike: bool) -> Fitted:
    """Majority (`alike`), or expectation-maximisation of one skill a person, with a Beta prior.

    An annotator is right with their skill and otherwise picks any other answer alike; without the prior EM runs to 0 and 1.
    Answers that nobody gave to an item share what is left alike, and are not listed, so that open classes cost nothing: two
    careless people who agree are not certain.
    """
    item, person, answer, classes = coded.item, coded.person, coded.answer, len(coded.classes)
    known = np.flatnonzero(coded.gold >= 0)
    pairs = np.unique(np.concatenate([item * classes + answer, known * classes + coded.gold[known]]))
    pair = np.searchsorted(pairs, item * classes + answer)
    of_item, of_answer = np.divmod(pairs, classes)
    told = coded.gold[of_item]
    wrong_choices = max(1, classes - 1)
    unsaid = classes - np.bincount(of_item, minlength=len(coded.items))
    answered = np.bincount(person, minlength=len(coded.people))
    counts = np.bincount(pair, minlength=len(pairs)).astype(float)
    shares = _told(_normalised(counts, of_item), of_answer, told)
    skill = _skills(shares[pair], person, answered)
    for _ in range(0 if alike else ITERATIONS):
        # log P(votes | answer): everybody who voted missed it, but for those who said it.
        hit, miss = np.log(skill), np.log((1 - skill) / wrong_choices)
        all_miss = np.bincount(item, weights=miss[person], minlength=len(coded.items))
        score = all_miss[of_item] + np.bincount(pair, weights=(hit - miss)[person], minlength=len(pairs))
        best = np.full(len(coded.items), -np.inf)
        np.maximum.at(best, of_item, score)
        weight = np.exp(score - best[of_item])
        whole = np.bincount(of_item, weights=weight, minlength=len(best)) + unsaid * np.exp(np.minimum(all_miss - best, 0))
        shares = _told(weight / whole[of_item], of_answer, told)
        before, skill = skill, _skills(shares[pair], person, answered)
        if np.abs(skill - before).max() < CONVERGED:
            break

    trusted = np.full(len(skill), np.average(skill, weights=np.maximum(answered, 1e-9))) if alike else skill

    rest = 1 - np.bincount(of_item, weights=shares, minlength=len(coded.items))
    rest = np.maximum(rest, 0) / np.maximum(unsaid, 1)

    def says(i: np.ndarray, w: np.ndarray, a: np.ndarray) -> np.ndarray:
        at = np.minimum(np.searchsorted(pairs, i * classes + a), len(pairs) - 1)
        p = np.where(pairs[at] == i * classes + a, shares[at], rest[i])
        return p * trusted[w] + (1 - p) * (1 - trusted[w]) / wrong_choices

    return Fitted(of_item, of_answer, shares, skill, says)


def _skills(right: np.ndarray, person: np.ndarray, answered: np.ndarray) -> np.ndarray:
    sums = np.bincount(person, weights=right, minlength=len(answered))
    return (sums + PRIOR_RIGHT) / (answered + PRIOR_RIGHT + PRIOR_WRONG)


def _normalised(weights: np.ndarray, group: np.ndarray) -> np.ndarray:
    return weights / np.bincount(group, weights=weights)[group]


def _told(shares: np.ndarray, answer: np.ndarray, told: np.ndarray) -> np.ndarray:
    """Gold items are what they are."""
    return np.where(told < 0, shares, (answer == told).astype(float))


def _confusions(coded: Coded, kinds: int) -> Fitted:
    shape = (len(coded.items), len(coded.people), len(coded.classes))
    found = dawid_skene(coded.item, coded.person, coded.answer, shape, coded.gold, kinds)
    table = found.classes()
    answered = np.bincount(coded.person, minlength=shape[1])
    quality = _skills(table[coded.item, coded.answer], coded.person, answered)

    def says(i: np.ndarray, w: np.ndarray, a: np.ndarray) -> np.ndarray:
        return (found.posterior[i] * found.confusion[w, :, a]).sum(axis=1)

    item, answer = np.nonzero(table >= SHOWN)
    return Fitted(item, answer, table[item, answer], quality, says)


def _chosen(coded: Coded) -> tuple[str, str, tuple[Evidence, ...]]:
    """The method, why, and the evidence of each. See the module's first lines for the rule."""
    cells = max(len(coded.items), len(coded.people) * len(coded.classes)) * len(coded.classes) * 2
    methods = METHODS if cells <= CELLS else METHODS[:2]
    if len(coded.items) < ITEMS_A_KIND * 2 * len(coded.classes):
        methods = methods[:3]
    sample = _sample(coded)
    if len(sample.item) < FOLDS or np.bincount(sample.item).max() < 2:
        return "majority", "no item has two votes: nothing to compare methods by", ()
    fold = np.random.default_rng(0).integers(FOLDS, size=len(sample.item))
    told = np.flatnonzero(coded.gold >= 0)
    right: dict[str, np.ndarray] = {}
    best, best_scores = "one-coin", np.empty(0)
    evidence, gold_accuracy = [], math.nan
    for method in ("one-coin", "majority", *methods[2:]):
        scores = _foretold(method, sample, fold)
        if len(told):
            right[method] = _right_on(method, coded, told)
            gold_accuracy = float(right[method].mean())
        mean = float(np.nanmean(scores))
        gain, error = _gain(scores, best_scores, sample) if len(best_scores) else (math.nan, math.nan)
        evidence.append(Evidence(method, mean, gain, error, gold_accuracy))
        if not len(best_scores) or gain > (0 if method == METHODS[3] else STANDARD_ERRORS) * error:
            best, best_scores = method, scores
    said = "; ".join(f"{e.method} {e.log_likelihood:.3f} nats a held-out vote" for e in evidence)
    if len(told) >= GOLD_AT_LEAST and best != "majority" and _loses(right[best], right["majority"]):
        return "majority", f"{best} loses to the majority on {len(told)} gold items; {said}", tuple(evidence)
    return best, f"it foretells best, beyond {STANDARD_ERRORS:.0f} standard errors of anything simpler: {said}", tuple(evidence)


def _sample(coded: Coded) -> Coded:
    """All votes of some of the items, at most about COMPARED votes; gold is not told."""
    coded = coded.untold()
    if len(coded.item) <= COMPARED:
        return coded
    lot = np.random.default_rng(0).random(len(coded.items)) < COMPARED / len(coded.item)
    keep = lot[coded.item]
    number = np.cumsum(lot) - 1
    items = [name for name, taken in zip(coded.items, lot, strict=True) if taken]
    return Coded(
        items, coded.people, coded.classes, number[coded.item[keep]], coded.person[keep], coded.answer[keep],
        np.full(len(items), -1),
    )  # fmt: skip


def _foretold(method: str, coded: Coded, fold: np.ndarray) -> np.ndarray:
    """Log-probability of each vote by a fit without its fold; NaN where nobody else voted on the item."""
    scores = np.full(len(coded.item), np.nan)
    for k in range(FOLDS):
        seen = fold != k
        item, person, answer = coded.item[~seen], coded.person[~seen], coded.answer[~seen]
        p = fit(method, coded.only(seen)).says(item, person, answer)
        others = np.bincount(coded.item[seen], minlength=len(coded.items))[item]
        scores[~seen] = np.where(others > 0, np.log(np.maximum(p, 1e-12)), np.nan)
    return scores


def _gain(scores: np.ndarray, than: np.ndarray, coded: Coded) -> tuple[float, float]:
    """Mean gain a vote, and its standard error: the votes of one item stand or fall together."""
    usable = ~np.isnan(scores)
    total = np.bincount(coded.item[usable], weights=(scores - than)[usable])
    count = np.bincount(coded.item[usable])
    mean = float(total.sum() / count.sum())
    return mean, float(np.sqrt(((total - mean * count) ** 2).sum()) / count.sum())


def _right_on(method: str, coded: Coded, told: np.ndarray) -> np.ndarray:
    """For each gold item, the share of the best labels that is right, when no gold is told."""
    fitted = fit(method, coded.untold())
    best = np.zeros(len(coded.items))
    np.maximum.at(best, fitted.item, fitted.p)
    top = fitted.p >= best[fitted.item] - 1e-9
    ties = np.bincount(fitted.item[top], minlength=len(coded.items))
    hit = np.bincount(fitted.item[top], weights=fitted.answer[top] == coded.gold[fitted.item[top]], minlength=len(ties))
    return (hit / np.maximum(ties, 1))[told]


def _loses(right: np.ndarray, than: np.ndarray) -> bool:
    """Exact one-sided sign test on the items where one of the two is better."""
    from scipy.stats import binom

    worse, better = int((right < than).sum()), int((right > than).sum())
    return worse + better > 0 and bool(binom.sf(worse - 1, worse + better, 0.5) < GOLD_LEVEL)
