"""The kinds of judgement that people are asked for: the question, the fields of its answer, and what the answers become.

    answer    {"verdict": "wrong", "correction": "billing-refund-time"}
    spans     {"spans": [{"start": 28, "end": 35, "text": "30 days", "label": "contradicted",
                          "evidence": {"context": 0, "start": 4, "end": 35, "text": "Refunds are possible for 14 days"}}]}
    ranking   {"ranks": [["an_b"], ["an_a", "an_c"]], "unacceptable": ["an_c"]}     best first; a group is a tie
    relevance {"grades": {"0": 3, "1": 0}}                                          a document by its place in `contexts`

A kind is a few fields of six types; tools, agreement and aggregation know the types only. Offsets are Unicode code points,
half-open, and `text` repeats the slice, so that a tool that counts otherwise is found out. A team's own options (policies,
intents, routes, dimensions of a rubric) stand in the kind's guideline and replace the ones here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tasks.errors import BadRecord

CHOICE, CHOICES, RATING, TEXT, SPANS, RANKING = "choice", "choices", "rating", "text", "spans", "ranking"
ANNOTATOR, EXPERT = "annotator", "expert"  # who answers, and who decides what the others disagree about
APPROVED = "approved"  # options that are not listed: the ids of the approved answers
MAX_TEXT = 20_000
POLICIES = ("privacy", "self_harm", "violence", "hate", "sexual", "illegal", "unlicensed_advice", "false_promise")
DIMENSIONS = ("accuracy", "helpfulness", "completeness", "tone", "compliance", "instruction_following", "citation")


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an answer.

    `options` of a choice, of choices or of spans (their labels); `source` APPROVED where the options are the approved answers.
    `low` to `high` of a rating; `each` 'contexts' where every document gets its own. `over` is the text that spans mark, or
    that a text begins with: 'response' or 'question'; `evidence` whether a span may point at the source's sentence.
    `when` (another field, its value) says when the field is asked at all.
    """

    name: str
    type: str
    options: tuple[str, ...] = ()
    source: str = ""
    low: int = 1
    high: int = 5
    each: str = ""
    over: str = ""
    evidence: bool = False
    required: bool = True
    when: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of judgement. `needs`: 'contexts' or 'answers' (two or more to one prompt) where it can't be asked without.

    `measure` is the agreement that its first field is held to; `becomes` the examples that agreed answers make.
    """

    name: str
    question: str
    fields: tuple[Field, ...]
    measure: str
    becomes: tuple[str, ...]
    needs: str = ""

    @property
    def main(self) -> Field:
        return self.fields[0]


def _kinds(*kinds: Kind) -> dict[str, Kind]:
    return {k.name: k for k in kinds}


KINDS = _kinds(
    Kind(
        "answer",
        "Is this the right answer? If not, which approved answer is?",
        (
            Field("verdict", CHOICE, ("right", "wrong")),
            Field("correction", CHOICE, source=APPROVED, required=False, when=("verdict", "wrong")),
        ),
        "nominal",
        ("supervised", "preference", "holdout"),
    ),
    Kind(
        "correction",
        "Write the answer that should have been given.",
        (
            Field("text", TEXT, over="response"),
            Field("errors", CHOICES, ("factual", "incomplete", "tone", "format", "policy"), required=False),
        ),
        "text",
        ("supervised", "preference"),
    ),
    Kind(
        "ranking",
        "Which answer is best? Rank them; ties are allowed, and all of them may be bad.",
        (Field("ranks", RANKING),),
        "ranking",
        ("preference",),
        needs="answers",
    ),
    Kind(
        "spans",
        "Mark each passage of the answer that the sources contradict or do not support.",
        (Field("spans", SPANS, ("contradicted", "unsupported", "unverifiable"), over="response", evidence=True),),
        "spans",
        ("judgement",),
        needs="contexts",
    ),
    Kind(
        "grounded",
        "Is everything that the answer says supported by the sources?",
        (Field("grounded", CHOICE, ("grounded", "not_grounded")),),
        "nominal",
        ("judgement",),
        needs="contexts",
    ),
    Kind(
        "safety",
        "Which policies does the answer violate? None, if it is safe.",
        (Field("policies", CHOICES, POLICIES),),
        "set",
        ("judgement",),
    ),
    Kind(
        "action",
        "What should the assistant have done here?",
        (
            Field("action", CHOICE, ("answer", "clarify", "refuse", "escalate")),
            Field("route", CHOICE, ("support", "billing", "safety", "legal"), required=False, when=("action", "escalate")),
        ),
        "nominal",
        ("judgement",),
    ),
    Kind(
        "relevance",
        "How relevant is each document to the question? 0 not at all, 3 answers it.",
        (Field("grades", RATING, low=0, high=3, each="contexts"),),
        "ordinal",
        ("judgement",),
        needs="contexts",
    ),
    Kind(
        "rubric",
        "How good is the answer? 1 very bad, 5 very good.",
        tuple(Field(dimension, RATING) for dimension in DIMENSIONS),
        "ordinal",
        ("judgement",),
    ),
    Kind(
        "intent",
        "What does this person want?",
        (Field("intent", CHOICE, ("question", "request", "complaint", "smalltalk", "other")),),
        "nominal",
        ("judgement",),
    ),
    Kind(
        "sentiment",
        "How does this person feel?",
        (Field("sentiment", CHOICE, ("negative", "neutral", "positive")),),
        "nominal",
        ("judgement",),
    ),
    Kind(
        "topics",
        "What is this about? Choose all that fit.",
        (Field("topics", CHOICES, ("billing", "delivery", "account", "product", "other")),),
        "set",
        ("judgement",),
    ),
    Kind(
        "entities",
        "Mark the names, places, amounts, dates and products in the question.",
        (Field("entities", SPANS, ("person", "organisation", "place", "product", "amount", "date"), over="question"),),
        "spans",
        ("judgement",),
    ),
    Kind("note", "Anything else that we should know?", (Field("note", TEXT),), "text", ("judgement",)),
)


@dataclass(frozen=True, slots=True)
class Ask:
    """One question to people about one candidate, as it leaves for a tool. It never says why the candidate was chosen.

    `history` are the chat messages before the question, `contexts` documents {"id", "text", …}, `answers` what a ranking
    ranks: {"id", "text"}. `wanted` is how many more people should answer, none of `answered_by`; `role` 'annotator' or
    'expert' (who decides what annotators disagree about). `content_hash` covers what people see; `due` is RFC 3339.
    """

    ask_id: str
    batch_id: str
    candidate_id: str
    kind: str
    content_hash: str
    question: str
    history: list
    contexts: list
    response: str
    answers: list
    wanted: int
    answered_by: list
    role: str
    round: int
    guideline: str
    due: str


def askable(kind: Kind, contexts: Sequence[Any], answers: Sequence[Any]) -> bool:
    """Whether the candidate has what the kind needs."""
    return {"contexts": len(contexts) > 0, "answers": len(answers) > 1, "": True}[kind.needs]


def with_options(kind: Kind, options: Mapping[str, Sequence[str]]) -> Kind:
    """The kind with a guideline's own options. Raises KeyError for a field that the kind lacks or that has no options.

    The fields of a rubric are its dimensions: {"dimensions": [...]} replaces them all.
    """
    if "dimensions" in options and all(f.type == RATING and not f.each for f in kind.fields):
        return replace(kind, fields=tuple(Field(name, RATING) for name in options["dimensions"]))
    known = {f.name for f in kind.fields if f.options}
    for name in options:
        if name not in known:
            raise KeyError(name)
    return replace(
        kind, fields=tuple(replace(f, options=tuple(options[f.name])) if f.name in options else f for f in kind.fields)
    )


def checked(kind: Kind, value: Any, ask: Ask, approved: frozenset[str] | set[str]) -> dict[str, Any]:
    """The value as the loop keeps it: every field checked against what was asked, nothing else in it.

    Raises BadRecord: bad_value (a type, an option or a rating that there is not), missing_field, changed_text (a span whose
    text is not the slice), unknown_answer (a ranking or a correction that names what was not there).
    """
    if not isinstance(value, dict):
        raise BadRecord("bad_value", f"the value of {kind.name} is an object of {', '.join(f.name for f in kind.fields)}")
    known = {f.name for f in kind.fields} | ({"unacceptable"} if kind.main.type == RANKING else set())
    for name in value:
        if name not in known:
            raise BadRecord("bad_value", f"{kind.name} has no field {name!r}; it has {', '.join(sorted(known))}")
    kept: dict[str, Any] = {}
    for field in kind.fields:
        given = value.get(field.name)
        asked = field.when is None or value.get(field.when[0]) == field.when[1]
        if given in (None, "", {}) or (given == [] and field.type == RANKING):
            if field.required and asked:
                raise BadRecord("missing_field", f"{kind.name} needs {field.name}")
            continue
        if not asked:
            raise BadRecord("bad_value", f"{field.name} is asked only where {field.when[0]} is {field.when[1]}")
        kept[field.name] = _CHECKS[field.type](field, given, ask, approved)
    if kind.main.type == RANKING:
        kept["unacceptable"] = _unacceptable(value.get("unacceptable"), ask)
    return kept


def _choice(field: Field, given: Any, ask: Ask, approved: Any) -> str:
    if field.source == APPROVED:
        if not isinstance(given, str) or given not in approved:
            raise BadRecord("unknown_answer", f"{field.name} {given!r} is no approved answer")
        return given
    if not isinstance(given, str) or given not in field.options:
        raise BadRecord("bad_value", f"{field.name} is {given!r}, not one of {', '.join(field.options)}")
    return given


def _choices(field: Field, given: Any, ask: Ask, approved: Any) -> list[str]:
    if not isinstance(given, list):
        raise BadRecord("bad_value", f"{field.name} is a list of {', '.join(field.options)}")
    return sorted({_choice(field, g, ask, approved) for g in given})


def _rating(field: Field, given: Any, ask: Ask, approved: Any) -> Any:
    if field.each:
        places = {str(i) for i in range(len(ask.contexts))}
        if not isinstance(given, dict) or set(given) != places:
            raise BadRecord("bad_value", f"{field.name} gives each of the {len(places)} documents a grade, by its place")
        return {place: _grade(field, given[place]) for place in sorted(given, key=int)}
    return _grade(field, given)


def _grade(field: Field, given: Any) -> int:
    if type(given) is float and given.is_integer():
        given = int(given)
    if type(given) is not int or not field.low <= given <= field.high:
        raise BadRecord("bad_value", f"{field.name} is {given!r}, not a whole number from {field.low} to {field.high}")
    return given


def _text(field: Field, given: Any, ask: Ask, approved: Any) -> str:
    if not isinstance(given, str) or not given.strip() or len(given) > MAX_TEXT:
        raise BadRecord("bad_value", f"{field.name} is a text of at most {MAX_TEXT:,} characters")
    return given


def _spans(field: Field, given: Any, ask: Ask, approved: Any) -> list[dict[str, Any]]:
    if not isinstance(given, list):
        raise BadRecord("bad_value", f"{field.name} is a list of spans")
    over = ask.response if field.over == "response" else ask.question
    kept = []
    for span in given:
        part = _slice(span, over, field.name)
        part["label"] = _choice(field, span.get("label"), ask, approved)
        evidence = span.get("evidence")
        if evidence is not None:
            if not field.evidence or not isinstance(evidence, dict):
                raise BadRecord("bad_value", f"{field.name}: evidence is no span of a source")
            place = evidence.get("context")
            if type(place) is not int or not 0 <= place < len(ask.contexts):
                raise BadRecord("bad_value", f"{field.name}: evidence is from document {place!r}, which is not there")
            part["evidence"] = {"context": place, **_slice(evidence, str(ask.contexts[place].get("text", "")), "evidence")}
        kept.append(part)
    return sorted(kept, key=lambda s: (s["start"], s["end"], s["label"]))


def _slice(span: Any, over: str, name: str) -> dict[str, Any]:
    if not isinstance(span, dict) or type(span.get("start")) is not int or type(span.get("end")) is not int:
        raise BadRecord("bad_value", f"{name}: a span has whole numbers start and end")
    start, end = span["start"], span["end"]
    if not 0 <= start < end <= len(over):
        raise BadRecord("bad_value", f"{name}: {start} to {end} is no part of a text of {len(over)} characters")
    if span.get("text") != over[start:end]:
        raise BadRecord("changed_text", f"{name}: characters {start} to {end} are {over[start:end]!r}, not {span.get('text')!r}")
    return {"start": start, "end": end, "text": over[start:end]}


def _ranking(field: Field, given: Any, ask: Ask, approved: Any) -> list[list[str]]:
    there = sorted(a["id"] for a in ask.answers)
    groups = [g if isinstance(g, list) else [g] for g in given] if isinstance(given, list) else []
    ranked = [a for g in groups for a in g]
    if not all(isinstance(a, str) for a in ranked) or sorted(ranked) != there or not all(groups):
        raise BadRecord("unknown_answer", f"{field.name} ranks each of {', '.join(there)} once, best first")
    return [sorted(g) for g in groups]


def _unacceptable(given: Any, ask: Ask) -> list[str]:
    there = {a["id"] for a in ask.answers}
    if given is None:
        return []
    if not isinstance(given, list) or not all(isinstance(a, str) and a in there for a in given):
        raise BadRecord("unknown_answer", f"unacceptable is a list of some of {', '.join(sorted(there))}")
    return sorted(set(given))


_CHECKS = {CHOICE: _choice, CHOICES: _choices, RATING: _rating, TEXT: _text, SPANS: _spans, RANKING: _ranking}
