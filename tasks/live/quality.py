"""How far to trust what people answer: agreement per kind, each annotator's card, disputed clauses, cost.

    answer   out 303  back 671  settled 297  disputed 4   alpha .81 (.77 to .85)   2.2 answers each, 0.97 a label
    fritz    careless: gold 9 of 14 right
    clause   answer/1 escalate: people disagree about 12 of 31 (23% to 56%)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from tasks import reliability
from tasks.aggregate import Vote
from tasks.agreement import ANSWER, SERVED, AgreementParams, aggregate, meant
from tasks.annotators import Card, cards
from tasks.guidelines import Clause, Guideline, newest
from tasks.judgements import AGREED, judgements
from tasks.kinds import CHOICES, RANKING, RATING, SPANS, TEXT, Field, Kind
from tasks.live.handoff.desk import AnnotateParams, audited
from tasks.live.labels import guidelines, latest_annotations, served_answers
from tasks.live.lake import Lake
from tasks.live.people import EXPERT
from tasks.live.workspace import Workspace
from tasks.overlap import Limits
from tasks.records import Annotation
from tasks.reliability import Answer, Reliability

OPEN = """
    SELECT kind, count(DISTINCT candidate_id) AS out, count(DISTINCT candidate_id) FILTER (role = 'expert') AS experts
    FROM asks WHERE NOT gold AND ts <= $until GROUP BY kind ORDER BY kind
"""
GOLD = """
    SELECT * FROM (
        SELECT * FROM annotations WHERE kind = 'answer' AND candidate_id IN (SELECT candidate_id FROM asks WHERE gold)
          AND received <= $until
        QUALIFY row_number() OVER (PARTITION BY candidate_id, annotator ORDER BY ts DESC, annotation_id DESC) = 1
    ) WHERE status = 'submitted' ORDER BY annotation_id
"""
NOW = 2**62  # µs: no question and no answer is later


@dataclass(frozen=True, slots=True)
class KindQuality:
    """`out` questions were asked, `back` answers came, `settled` questions are agreed on, `disputed` have two answers and more and
    are not. `agreement` is that of each field; costs follow from the prices of answers in params.yaml.
    """

    kind: str
    out: int
    back: int
    settled: int
    disputed: int
    to_experts: int
    answers_each: float
    cost: float
    cost_per_label: float
    agreement: dict[str, Reliability]


@dataclass(frozen=True, slots=True)
class ClauseQuality:
    """Of the questions with several answers of which one says what the clause is about: those where not all say it."""

    guideline: str
    clause: str
    questions: int
    disagreed: int
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Audited:
    """Settled labels of the kind `answer` that an expert looked at by lot: how many were wrong, with a 95% interval."""

    labels: int
    wrong: int
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Quality:
    """`errors` are those that people agree on; `cost_per_error` is the cost of all answers about right and wrong for each of them,
    NaN: there are none."""

    kinds: list[KindQuality]
    annotators: list[Card]
    clauses: list[ClauseQuality]
    audited: Audited
    cost: float
    errors: int
    cost_per_error: float


@dataclass(frozen=True, slots=True)
class Heard:
    """What people had said by some time: the `answers` that count, those to `gold` questions, what was `served` of each interaction
    (as labels.served_answers), the `guidelines` in force by kind, and how many questions were `asked` of each kind."""

    answers: Sequence[Annotation]
    gold: Sequence[Annotation]
    served: Mapping[str, str]
    guidelines: Mapping[str, Guideline]
    asked: Sequence[Mapping[str, Any]]


def quality(workspace: Workspace) -> Quality:
    """Everything that the answers so far say about themselves and about those who gave them."""
    answers, served, versions = latest_annotations(workspace), served_answers(workspace), newest(guidelines(workspace).values())
    found = Heard(answers, gold(workspace), served, versions, asked(workspace))
    return of(found, workspace.params("annotate", AnnotateParams), workspace.params("curate", AgreementParams))


def gold(workspace: Workspace, until: int = NOW) -> list[Annotation]:
    """Answers to gold questions that had come by `until` (µs)."""
    return Lake(workspace.lake).rows(Annotation, GOLD, {"until": until})


def asked(workspace: Workspace, until: int = NOW) -> list[dict[str, Any]]:
    """How many questions of each kind were out by `until` (µs), and how many of them experts were asked."""
    return Lake(workspace.lake).query(OPEN, {"until": until}).to_pylist()


def of(heard: Heard, params: AnnotateParams, agreed: AgreementParams) -> Quality:
    """The same of what is handed in: of an earlier time too."""
    by_kind: dict[str, list[Annotation]] = {}
    for a in heard.answers:
        by_kind.setdefault(a.kind, []).append(a)
    labels = aggregate(heard.answers, heard.served, agreed).labels
    limits = Limits(first=agreed.min_votes, sure=agreed.min_confidence)
    settled = {ANSWER: {x.interaction_id for x in labels if x.state == AGREED}}
    for kind, answers in by_kind.items():
        if kind != ANSWER:
            rows = judgements(heard.guidelines[kind].kind, answers, limits)
            settled[kind] = {j.interaction_id for j in rows if j.state == AGREED}
    kinds = [
        _kind(row, heard.guidelines[row["kind"]].kind, by_kind.get(row["kind"], []), settled.get(row["kind"], set()), params)
        for row in heard.asked
    ]
    cost = sum(k.cost for k in kinds)
    errors = sum(x.verdict == "wrong" and x.state == AGREED for x in labels)
    of_answer = sum(k.cost for k in kinds if k.kind == ANSWER)
    found = _cards(heard, by_kind.get(ANSWER, []))
    unheard = {c.annotator for c in found if c.verdict in ("careless", "spam")}
    return Quality(
        kinds,
        found,
        _clauses(heard, by_kind, unheard),
        _audited(heard, by_kind.get(ANSWER, []), params, agreed),
        round(cost, 2),
        errors,
        round(of_answer / errors, 2) if errors else math.nan,
    )


def _kind(
    row: Mapping[str, Any], kind: Kind, answers: Sequence[Annotation], settled: set[str], params: AnnotateParams
) -> KindQuality:
    by_question = Counter(a.interaction_id for a in answers)
    experts = sum(a.role == EXPERT for a in answers)
    cost = (len(answers) - experts) * params.price.get(kind.name, 0.0) + experts * params.expert_price
    return KindQuality(
        kind=kind.name,
        out=row["out"],
        back=len(answers),
        settled=len(settled),
        disputed=sum(n > 1 and i not in settled for i, n in by_question.items()),
        to_experts=row["experts"],
        answers_each=round(len(answers) / len(by_question), 2) if by_question else 0.0,
        cost=round(cost, 2),
        cost_per_label=round(cost / len(settled), 2) if settled else math.nan,
        agreement={f.name: _agreement(f, answers) for f in kind.fields if f.required},
    )


def _agreement(field: Field, answers: Sequence[Annotation]) -> Reliability:
    """Agreement on one field, by the measure of its type; of a grade for each document, every document is an item."""
    given = [(a, a.parsed[field.name]) for a in answers if field.name in a.parsed and a.role != EXPERT]
    if field.type == RATING and field.each:
        return reliability.ratings(
            Answer(f"{a.interaction_id}/{place}", a.annotator, grade) for a, grades in given for place, grade in grades.items()
        )
    rows = [Answer(a.interaction_id, a.annotator, value) for a, value in given]
    if field.type == RATING:
        return reliability.ratings(rows)
    if field.type == CHOICES:
        return reliability.sets([Answer(r.item, r.annotator, frozenset(r.value)) for r in rows])[0]
    if field.type == SPANS:
        marked = [Answer(r.item, r.annotator, [(s["start"], s["end"], s["label"]) for s in r.value]) for r in rows]
        # Texts end where the last mark ends: of what nobody marked, nobody disagreed.
        lengths: dict[str, int] = {}
        for r in marked:
            lengths[r.item] = max([lengths.get(r.item, 1), *(end for _, end, _ in r.value)])
        return reliability.spans(marked, lengths)[1]
    return {RANKING: reliability.rankings, TEXT: reliability.texts}.get(field.type, reliability.choices)(rows)


def _clauses(heard: Heard, by_kind: Mapping[str, Sequence[Annotation]], unheard: Set[str]) -> list[ClauseQuality]:
    """The guideline debugger: clauses in force that people disagree about, most first. Who does not read (`unheard`) says
    nothing about a clause.
    """
    found = []
    for kind, guideline in heard.guidelines.items():
        by_question: dict[str, list[dict[str, Any]]] = {}
        for a in by_kind.get(kind, []):
            if a.guideline == guideline.version and a.role != EXPERT and a.annotator not in unheard:
                by_question.setdefault(a.interaction_id, []).append(a.parsed)
        for clause in (c for c in guideline.clauses if c.about):
            said = [[_said(clause, v) for v in values] for values in by_question.values() if len(values) > 1]
            said = [s for s in said if any(s)]
            apart = sum(len(set(map(str, s))) > 1 for s in said)
            if said:
                found.append(ClauseQuality(guideline.version, clause.id, len(said), apart, *_wilson(apart, len(said))))
    return sorted(found, key=lambda c: (-c.low, -c.disagreed, c.guideline, c.clause))


def _said(clause: Clause, value: Mapping[str, Any]) -> Any:
    """What an answer says about a clause: whether it names its values, and the whole of a field that it is about."""
    if not clause.touches(value):
        return None
    whole = [value.get(field) for field, option in clause.about if not option]
    return whole or True


def _cards(heard: Heard, answers: Sequence[Annotation]) -> list[Card]:
    """Everybody who answers whether an answer is right, by what they meant; gold are the experts' decisions."""
    served = heard.served
    # An item of its own: what was asked again as gold measures people, what they disputed before would accuse them.
    on_gold = [a for a in heard.gold if a.interaction_id in served]
    item = {a.annotation_id: f"gold {a.interaction_id}" for a in on_gold}
    gold = {f"gold {a.interaction_id}": meant(a, served[a.interaction_id]) for a in answers if a.role == EXPERT}
    everything = [a for a in answers if a.role != EXPERT] + on_gold
    found = cards(
        [Vote(item.get(a.annotation_id, a.interaction_id), a.annotator, meant(a, served[a.interaction_id])) for a in everything],
        gold,
        {(item.get(a.annotation_id, a.interaction_id), a.annotator): a.seconds for a in everything if a.seconds is not None},
    )
    return list(found)


def _audited(heard: Heard, answers: Sequence[Annotation], params: AnnotateParams, agreed: AgreementParams) -> Audited:
    """Of the questions that an expert answered by lot: how many had a settled label, and how many of those were other."""
    experts = {a.interaction_id: a for a in answers if a.role == EXPERT and audited(a.candidate_id, a.kind, params)}
    served = heard.served
    alone = aggregate([a for a in answers if a.role != EXPERT], served, agreed)
    settled = {x.interaction_id: x.target or SERVED for x in alone.labels if x.state == AGREED}
    seen = [(settled[i], meant(a, served[i])) for i, a in experts.items() if i in settled]
    wrong = sum(label != expert for label, expert in seen)
    return Audited(len(seen), wrong, *_wilson(wrong, len(seen)))


def _wilson(count: int, n: int) -> tuple[float, float]:
    from scipy.stats import binomtest

    interval = binomtest(count, n).proportion_ci(method="wilson") if n else None
    return (float(interval.low), float(interval.high)) if interval else (math.nan, math.nan)
