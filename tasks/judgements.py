"""Answers of several people to one kind of question -> one judgement per interaction, with how sure we may be of it.

    spans      ana [28,35) contradicted · ben [28,35) contradicted, [40,44) unsupported  ->  [28,35) contradicted, confidence 0.67
    ranking    ana b > a = c · ben b > c > a                                           ->  [["b"], ["a", "c"]], confidence 0.83
    relevance  ana {"0": 3, "1": 0} · ben {"0": 2, "1": 0}                             ->  {"0": 2, "1": 0}, confidence 1.0

How a field is aggregated follows from its type: choices by the consensus of tasks/aggregate.py, each option of a multi-label
field by a consensus of its own, ratings by the lower median, spans by the characters that more than half have marked, rankings
by mean rank, texts by the one that is most like the others. What an expert answered stands.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import orjson

from tasks import overlap
from tasks.aggregate import Vote, consensus
from tasks.kinds import CHOICE, CHOICES, EXPERT, RANKING, RATING, SPANS, TEXT, Field, Kind
from tasks.overlap import Decision, Limits
from tasks.records import Annotation, canonical
from tasks.reliability import likeness, soft_f1, tau

AGREED, OPEN = "agreed", "open"


@dataclass(frozen=True, slots=True)
class Judgement:
    """`value` is canonical JSON of the kind's shape; `confidence` in [0, 1] is the posterior of a choice, and the agreement of
    the answers for all else; `state` is 'agreed' or 'open', and `decision` what the question needs next.
    """

    interaction_id: str
    kind: str
    value: str
    confidence: float
    votes: int
    state: str
    decision: Decision
    guideline: str

    @property
    def parsed(self) -> dict[str, Any]:
        return orjson.loads(self.value)


def judgements(kind: Kind, annotations: Sequence[Annotation], limits: Limits) -> list[Judgement]:
    """One judgement per interaction, by interaction id. `annotations` are all of this kind, one per person and interaction."""
    together: dict[str, list[Annotation]] = {}
    for a in sorted(annotations, key=lambda a: a.annotation_id):
        together.setdefault(a.interaction_id, []).append(a)
    values = {i: [a.parsed for a in answers] for i, answers in together.items()}
    found = [_AGGREGATES[f.type](f, values, together) for f in kind.fields]
    rows = []
    for interaction_id in sorted(together):
        answers = together[interaction_id]
        experts = [a for a in answers if a.role == EXPERT]
        if experts:
            value, confidence = max(experts, key=lambda a: a.ts).parsed, 1.0
        else:
            parts = {f.name: part[interaction_id] for f, part in zip(kind.fields, found, strict=True) if interaction_id in part}
            value = {name: v for name, (v, _) in parts.items()}
            value = {f.name: value[f.name] for f in kind.fields if f.name in value and _asked(f, value)}
            if kind.main.type == RANKING:
                value["unacceptable"] = _majority_set([v.get("unacceptable", []) for v in values[interaction_id]])
            confidence = _confidence(kind, {name: c for name, (_, c) in parts.items()})
        decision = Decision.ENOUGH if experts else _decision(kind, value, confidence, values[interaction_id], limits)
        rows.append(
            Judgement(
                interaction_id,
                kind.name,
                canonical(value).decode(),
                round(confidence, 6),
                len(answers),
                AGREED if decision is Decision.ENOUGH else OPEN,
                decision,
                max(a.guideline for a in answers),
            )
        )
    return rows


def _decision(
    kind: Kind, value: Mapping[str, Any], confidence: float, given: Sequence[Mapping[str, Any]], limits: Limits
) -> Decision:
    """What the answers of one question say about how many more it needs, by the rule of its type (tasks/overlap.py)."""
    field = kind.main
    said = [v[field.name] for v in given if field.name in v]
    few = replace(limits, most=min(limits.most, overlap.FEW.most))
    if field.type == CHOICE:
        # Somebody good beside somebody bad makes a posterior, and no second opinion.
        backed = said.count(value.get(field.name)) >= min(limits.first, limits.most)
        return overlap.choice({"": confidence if backed else 0.0}, len(said), limits)
    if field.type == RATING:
        grades = [[v[f.name] for v in given if f.name in v] for f in kind.fields]
        if field.each:
            grades = [[g[place] for g in said if place in g] for place in said[0]] if said else [[]]
        return max((overlap.rating(g, few) for g in grades), key=_WORSE.index)
    if field.type == SPANS:
        return overlap.spans([_plain(s) for s in said], limits=few)
    if field.type == CHOICES:
        return overlap.labels(said, limits=few)
    if field.type == RANKING:
        return overlap.ranking(said, limits=few)
    return Decision.ENOUGH if kind.name == "note" and said else overlap.text([], len(said))


_WORSE = (Decision.ENOUGH, Decision.ASK_AGAIN, Decision.ADJUDICATE)


def _confidence(kind: Kind, of: Mapping[str, float]) -> float:
    """That of the first field; of a rubric, whose fields are all alike, that of the worst."""
    if all(f.type == RATING for f in kind.fields):
        return min(of.values(), default=0.0)
    return of.get(kind.main.name, 0.0)


def _asked(field: Field, value: Mapping[str, Any]) -> bool:
    return field.when is None or value.get(field.when[0]) == field.when[1]


Values = Mapping[str, Sequence[Mapping[str, Any]]]
Together = Mapping[str, Sequence[Annotation]]
Aggregated = dict[str, tuple[Any, float]]


def _choice(field: Field, values: Values, together: Together) -> Aggregated:
    votes, decided = [], {}
    for interaction_id, answers in together.items():
        for a, value in zip(answers, values[interaction_id], strict=True):
            if field.name in value:
                votes.append(Vote(interaction_id, a.annotator, value[field.name]))
                if a.role == EXPERT:
                    decided[interaction_id] = value[field.name]
    if not votes:
        return {}
    posterior = consensus(votes, gold=decided).posterior
    best = {i: max(sorted(shares), key=shares.__getitem__) for i, shares in posterior.items()}
    return {i: (label, posterior[i][label]) for i, label in best.items()}


def _choices(field: Field, values: Values, together: Together) -> Aggregated:
    """The options are questions of their own, each answered yes or no; the least sure one is how sure the set is."""
    chosen: dict[str, list[str]] = {i: [] for i in together}
    sure = dict.fromkeys(together, 1.0)
    used = sorted({o for vs in values.values() for v in vs for o in v.get(field.name, [])})
    for option in used:
        votes = [
            Vote(i, a.annotator, "yes" if option in v.get(field.name, []) else "no")
            for i, answers in together.items()
            for a, v in zip(answers, values[i], strict=True)
        ]
        for i, shares in consensus(votes).posterior.items():
            yes = shares.get("yes", 0.0)
            sure[i] = min(sure[i], max(yes, 1 - yes))
            if yes > 0.5:
                chosen[i].append(option)
    return {i: (chosen[i], sure[i]) for i in together}


def _rating(field: Field, values: Values, together: Together) -> Aggregated:
    """The lower median; the confidence is the share of pairs of people not more than one step apart."""
    found: Aggregated = {}
    for i, answers in values.items():
        given = [v[field.name] for v in answers if field.name in v]
        if not given:
            continue
        if field.each:
            parts = {place: [g[place] for g in given if place in g] for place in sorted(given[0], key=int)}
            found[i] = (
                {place: statistics.median_low(grades) for place, grades in parts.items()},
                min((_near(grades) for grades in parts.values()), default=0.0),
            )
        else:
            found[i] = (statistics.median_low(given), _near(given))
    return found


def _near(grades: Sequence[int]) -> float:
    pairs = [abs(a - b) <= 1 for a, b in combinations(grades, 2)]
    return sum(pairs) / len(pairs) if pairs else 0.5


def _text(field: Field, values: Values, together: Together) -> Aggregated:
    """The text most like all others, by words; alone it is as sure as one person is."""
    found: Aggregated = {}
    for i, answers in values.items():
        texts = [v[field.name] for v in answers if field.name in v]
        if not texts:
            continue
        alike = [statistics.fmean([likeness(t, o) for k, o in enumerate(texts) if k != n] or [0.5]) for n, t in enumerate(texts)]
        best = max(range(len(texts)), key=lambda n: (alike[n], texts[n]))
        found[i] = (texts[best], alike[best])
    return found


def _spans(field: Field, values: Values, together: Together) -> Aggregated:
    """Characters that more than half of the people gave the same label; the confidence is their mean pairwise soft F1."""
    found: Aggregated = {}
    for i, answers in values.items():
        marked = [v.get(field.name, []) for v in answers]
        f1 = [soft_f1(_plain(a), _plain(b)) for a, b in combinations(marked, 2)]
        found[i] = (_majority_spans(marked), statistics.fmean(f1) if f1 else 0.5)
    return found


def _plain(spans: Sequence[Mapping[str, Any]]) -> list[tuple[int, int, str]]:
    return [(s["start"], s["end"], s["label"]) for s in spans]


def _majority_spans(marked: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Spans of characters with a majority, with the text and the evidence of the longest answer that they came from."""
    counts: dict[tuple[int, str], int] = {}
    letters: dict[int, str] = {}
    for spans in marked:
        for place, label in {(p, s["label"]) for s in spans for p in range(s["start"], s["end"])}:
            counts[place, label] = counts.get((place, label), 0) + 1
        letters |= {s["start"] + k: c for s in spans for k, c in enumerate(s["text"])}
    kept = sorted((label, place) for (place, label), n in counts.items() if n * 2 > len(marked))
    runs: list[tuple[str, int, int]] = []
    for label, place in kept:
        if runs and runs[-1][0] == label and runs[-1][2] == place:
            runs[-1] = (label, runs[-1][1], place + 1)
        else:
            runs.append((label, place, place + 1))
    spans = []
    for label, start, end in runs:
        from_ = [s for spans in marked for s in spans if s["label"] == label and s["start"] < end and start < s["end"]]
        span = {"start": start, "end": end, "text": "".join(letters[p] for p in range(start, end)), "label": label}
        with_evidence = sorted((s for s in from_ if "evidence" in s), key=lambda s: (s["start"] - s["end"], s["start"]))
        spans.append(span | ({"evidence": with_evidence[0]["evidence"]} if with_evidence else {}))
    return sorted(spans, key=lambda s: (s["start"], s["end"], s["label"]))


def _ranking(field: Field, values: Values, together: Together) -> Aggregated:
    """Answers by their mean rank, equal means being ties; the confidence is mean Kendall's tau-b, 0.5 being none."""
    found: Aggregated = {}
    for i, answers in values.items():
        given = [v[field.name] for v in answers if field.name in v]
        if not given:
            continue
        ranked = [_ranks(groups) for groups in given]
        means: dict[float, list[str]] = {}
        for answer in sorted(ranked[0]):
            means.setdefault(round(statistics.fmean(r[answer] for r in ranked), 9), []).append(answer)
        taus = [tau(a, b) for a, b in combinations(given, 2)]
        found[i] = ([means[m] for m in sorted(means)], (statistics.fmean(taus) + 1) / 2 if taus else 0.5)
    return found


def _ranks(groups: Sequence[Sequence[str]]) -> dict[str, float]:
    """Answer -> its rank, ties sharing the mean of their places."""
    ranks, before = {}, 0
    for group in groups:
        ranks |= dict.fromkeys(group, before + (len(group) + 1) / 2)
        before += len(group)
    return ranks


def _majority_set(sets: Sequence[Sequence[str]]) -> list[str]:
    return sorted(o for o in {o for s in sets for o in s} if sum(o in s for s in sets) * 2 > len(sets))


_AGGREGATES = {CHOICE: _choice, CHOICES: _choices, RATING: _rating, TEXT: _text, SPANS: _spans, RANKING: _ranking}
