"""Agreed judgements of every other kind -> rows of the table of their kind, on their side of the wall.

    spans     [28,35) contradicted            ->  spans     {"tokens": […, "30"], "tags": […, "B-contradicted"]}
    relevance {"0": 3, "1": 0}                ->  retrieval two rows: a query, a document, its grade
    ranking   [["b"], ["a", "c"]]             ->  preference pairs b > a, b > c, and reward rows with the distance as margin

A judgement about the holdout evaluates, and never trains: rankings and written answers of that side give nothing to learn from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from tasks.examples import (
    MODEL,
    NOBODY,
    PERSON,
    TRAIN,
    Classification,
    Example,
    Grounding,
    Preference,
    Retrieval,
    Reward,
    Rubric,
    Safety,
    Spans,
    Supervised,
    example_id,
)
from tasks.frozen import CuratedJudgement
from tasks.kinds import CHOICE, CHOICES, KINDS
from tasks.records import canonical

_TOKEN = re.compile(r"\w+|[^\w\s]")


def examples(judgement: CuratedJudgement) -> list[tuple[str, Example]]:
    """(table, row) of one judgement: none where its kind has nothing to say on its side."""
    value = orjson.loads(judgement.value)
    made = _OF_KIND.get(judgement.kind, _told_apart)
    return made(judgement, value)


def tokens(text: str) -> list[tuple[int, int]]:
    """Where the tokens of a text are: words, and every other visible character on its own."""
    return [m.span() for m in _TOKEN.finditer(text)]


def tags(places: Sequence[tuple[int, int]], spans: Sequence[dict[str, Any]]) -> list[str]:
    """The BIO tag of each token. A token that a span touches belongs to it; of spans that overlap, to the one that starts first."""
    found = ["O"] * len(places)
    for span in sorted(spans, key=lambda s: (s["start"], s["end"], s["label"])):
        inside = [k for k, (a, b) in enumerate(places) if a < span["end"] and span["start"] < b and found[k] == "O"]
        for number, k in enumerate(inside):
            found[k] = ("I-" if number else "B-") + span["label"]
    return found


def _common(j: CuratedJudgement, table: str, origin: str, author: str = NOBODY, of: str = "", topic: str = "") -> dict[str, Any]:
    return {
        "example_id": example_id(table, j.kind, j.interaction_id, of),
        "interaction_id": j.interaction_id,
        "beside": "",
        "group_id": j.group_id,
        "arrived": j.arrived,
        "origin": origin,
        "author": author,
        "weight": j.confidence,
        "copies": 1,
        "topic": topic,
        "language": j.language,
        "guideline": j.guideline,
    }


def _written(j: CuratedJudgement, value: dict[str, Any]) -> list[tuple[str, Example]]:
    """An answer that a person wrote: what to say, and a pair against what was served where that was another text."""
    if j.side != TRAIN:
        return []
    text, messages = value["text"], orjson.loads(j.messages)
    wanted = {"role": "assistant", "content": text}
    whole = canonical([*_unlearned(messages), wanted]).decode()
    row = Supervised(**_common(j, "sft", "written", PERSON), messages=whole, tools=j.tools, action="")
    if not j.response.strip() or text.strip() == j.response.strip():
        return [("sft", row)]
    return [("sft", row), *_pair(j, "written", PERSON, text, j.response, "", 1.0)]


def _unlearned(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [m | {"weight": 0} if m["role"] == "assistant" else m for m in messages]


def _ranked(j: CuratedJudgement, value: dict[str, Any]) -> list[tuple[str, Example]]:
    """A pair of each two answers of which one was ranked above the other; an unacceptable answer is never chosen."""
    if j.side != TRAIN:
        return []
    texts = {a["id"]: a["text"] for a in orjson.loads(j.answers)}
    places = [(place, answer) for place, group in enumerate(value["ranks"]) for answer in group]
    rows: list[tuple[str, Example]] = []
    for place, better in places:
        for lower, worse in places:
            if place < lower and better not in value["unacceptable"] and {better, worse} <= texts.keys():
                margin = (lower - place) / max(1, len(value["ranks"]) - 1)
                if texts[better].strip() != texts[worse].strip():
                    rows += _pair(j, "ranked", MODEL, texts[better], texts[worse], f"{better}+{worse}", margin)
    return rows


def _pair(
    j: CuratedJudgement, origin: str, author: str, better: str, worse: str, of: str, margin: float
) -> list[tuple[str, Example]]:
    prompt = orjson.loads(j.messages)
    chosen, rejected = ({"role": "assistant", "content": t} for t in (better, worse))
    pair = Preference(
        **_common(j, "preference", origin, author, of), prompt=j.messages, contexts=j.contexts,
        chosen=canonical([chosen]).decode(), rejected=canonical([rejected]).decode(), tools=j.tools, chosen_action="",
        rejected_action="",
    )  # fmt: skip
    reward = Reward(
        **_common(j, "reward", origin, author, of), chosen=canonical([*prompt, chosen]).decode(),
        rejected=canonical([*prompt, rejected]).decode(), margin=round(margin, 6),
    )  # fmt: skip
    return [("preference", pair), ("reward", reward)]


def _spans(j: CuratedJudgement, value: dict[str, Any]) -> list[tuple[str, Example]]:
    of_response = j.kind == "spans"
    text = j.response if of_response else j.question
    marked = value["spans" if of_response else "entities"]
    places = tokens(text)
    row = Spans(
        **_common(j, "spans", j.kind), task="hallucination" if of_response else "entities", text=text,
        contexts=j.contexts if of_response else "[]",
        spans=canonical([{k: s[k] for k in ("start", "end", "text", "label")} for s in marked]).decode(),
        tokens=canonical([text[a:b] for a, b in places]).decode(), tags=canonical(tags(places, marked)).decode(),
    )  # fmt: skip
    return [("spans", row), *(_grounding(j, not marked) if of_response else [])]


def _grounded(j: CuratedJudgement, value: dict[str, Any]) -> list[tuple[str, Example]]:
    return _grounding(j, value["grounded"] == "grounded")


def _grounding(j: CuratedJudgement, grounded: bool) -> list[tuple[str, Example]]:
    row = Grounding(
        **_common(j, "grounding", j.kind), prompt=j.messages, contexts=j.contexts, response=j.response, grounded=grounded
    )
    return [("grounding", row)]


def _safety(j: CuratedJudgement, value: dict[str, Any]) -> list[tuple[str, Example]]:
    policies = canonical(value["policies"]).decode()
    return [("safety", _judged(j, policies=policies, action="", route=""))]


def _action(j: CuratedJudgement, value: dict[str, Any]) -> list[tuple[str, Example]]:
    return [("safety", _judged(j, policies="[]", action=value["action"], route=value.get("route", "")))]


def _judged(j: CuratedJudgement, **columns: str) -> Safety:
    return Safety(**_common(j, "safety", j.kind), prompt=j.messages, response=j.response, **columns)


def _relevance(j: CuratedJudgement, value: dict[str, Any]) -> list[tuple[str, Example]]:
    documents = orjson.loads(j.contexts)
    return [
        (
            "retrieval",
            Retrieval(
                **_common(j, "retrieval", j.kind, of=place), query=j.question,
                document_id=str(documents[int(place)].get("id") or place),
                document=str(documents[int(place)].get("text", "")), grade=grade,
            ),
        )
        for place, grade in value["grades"].items()
    ]  # fmt: skip


def _rubric(j: CuratedJudgement, value: dict[str, Any]) -> list[tuple[str, Example]]:
    note, scores = ("", value) if j.kind == "rubric" else (value["note"], {})
    row = Rubric(
        **_common(j, "rubric", j.kind), prompt=j.messages, contexts=j.contexts, response=j.response,
        scores=canonical(scores).decode(), note=note,
    )  # fmt: skip
    return [("rubric", row)]


def _told_apart(j: CuratedJudgement, value: dict[str, Any]) -> list[tuple[str, Example]]:
    """A kind of the team's own: one whose answer is a label tells texts apart, others stay judgements."""
    main = KINDS[j.kind].main
    return _classified(j, value) if main.type in (CHOICE, CHOICES) and main.name == j.kind else []


def _classified(j: CuratedJudgement, value: dict[str, Any]) -> list[tuple[str, Example]]:
    said = value[j.kind]
    labels = canonical(said if isinstance(said, list) else [said]).decode()
    return [("classification", Classification(**_common(j, "classification", j.kind), task=j.kind, text=j.question, labels=labels))]


_OF_KIND: dict[str, Callable[[CuratedJudgement, dict[str, Any]], list[tuple[str, Example]]]] = {
    "correction": _written,
    "ranking": _ranked,
    "spans": _spans,
    "entities": _spans,
    "grounded": _grounded,
    "safety": _safety,
    "action": _action,
    "relevance": _relevance,
    "rubric": _rubric,
    "note": _rubric,
}
