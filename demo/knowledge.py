"""What the company knows: its approved answers, and the questions that people ask about each of them.

in    demo/knowledge.json  {"company":{..},"answers":[{"id":"billing-refund","topic":"billing","title":..,"text":..,
      "source":..,"questions":["[how|when] do I get my money back?"],"follow_ups":[{"question":..,"answer":..}]}],
      "escalate":{..},"refuse":{..},"sensitive":[{"id":..,"questions":[..]}],"out_of_scope":[..]}
out   Knowledge(answers=(Answer(id="billing-refund", ...), ...), ...)
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KNOWLEDGE = Path(__file__).with_name("knowledge.json")


@dataclass(frozen=True, slots=True)
class FollowUp:
    """A second question that only makes sense after the first one; `answer` is the id of what it deserves."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One approved answer, word for word, with the ways in which people ask for it."""

    id: str
    topic: str
    title: str
    text: str
    source: str
    questions: tuple[str, ...]
    follow_ups: tuple[FollowUp, ...]


@dataclass(frozen=True, slots=True)
class Exit:
    """What the assistant says when it should not answer itself: hand over to a person, or decline."""

    id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Concern:
    """Questions that have no answer in the catalogue, only an exit."""

    id: str
    questions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Knowledge:
    """The whole of knowledge.json. `texts` maps every action to its approved text; no two actions share one."""

    company: Mapping[str, Any]
    answers: tuple[Answer, ...]
    escalate: Exit
    refuse: Exit
    sensitive: tuple[Concern, ...]
    out_of_scope: tuple[Concern, ...]
    texts: Mapping[str, str]


def load_knowledge(path: Path = KNOWLEDGE) -> Knowledge:
    """Read and check knowledge.json; ValueError names what contradicts itself."""
    raw = json.loads(Path(path).read_text(encoding="utf-8"))
    answers = tuple(
        Answer(
            id=row["id"],
            topic=row["topic"],
            title=row["title"],
            text=row["text"],
            source=row["source"],
            questions=tuple(row["questions"]),
            follow_ups=tuple(FollowUp(f["question"], f["answer"]) for f in row.get("follow_ups", ())),
        )
        for row in raw["answers"]
    )
    escalate, refuse = (
        Exit(**{key: raw[name][key] for key in ("id", "title", "text")}) for name in ("escalate", "refuse")
    )
    knowledge = Knowledge(
        company=raw["company"],
        answers=answers,
        escalate=escalate,
        refuse=refuse,
        sensitive=_concerns(raw["sensitive"]),
        out_of_scope=_concerns(raw["out_of_scope"]),
        texts={action.id: action.text for action in (*answers, escalate, refuse)},
    )
    _check(knowledge, Path(path))
    return knowledge


def approved_answers(knowledge: Knowledge) -> list[dict[str, str]]:
    """The catalogue as the loop receives it, one row an action; how people ask stays out of it.

    {"id": "billing-refund", "kind": "answer" | "escalate" | "refuse", "topic": .., "text": .., "source": ..}
    """
    rows = [
        {"id": a.id, "kind": "answer", "topic": a.topic, "title": a.title, "text": a.text, "source": a.source}
        for a in knowledge.answers
    ]
    exits = (("escalate", knowledge.escalate), ("refuse", knowledge.refuse))
    return rows + [
        {"id": e.id, "kind": kind, "topic": "", "title": e.title, "text": e.text, "source": ""} for kind, e in exits
    ]


def _concerns(rows: list[dict[str, Any]]) -> tuple[Concern, ...]:
    return tuple(Concern(row["id"], tuple(row["questions"])) for row in rows)


def _check(knowledge: Knowledge, path: Path) -> None:
    actions = (*knowledge.answers, knowledge.escalate, knowledge.refuse)
    asked = (*knowledge.answers, *knowledge.sensitive, *knowledge.out_of_scope)
    # An answer is right when its text is the approved one, so a shared text would make two actions the same.
    problems = [
        f"two actions share the text {text[:40]!r}" for text, n in Counter(a.text for a in actions).items() if n > 1
    ]
    ids = [a.id for a in asked] + [knowledge.escalate.id, knowledge.refuse.id]
    problems += [f"the id {i} is used twice" for i, n in Counter(ids).items() if n > 1]
    problems += [f"{a.id} has no questions" for a in asked if not a.questions]
    problems += [
        f"a follow-up of {a.id} points at {f.answer}, which does not exist"
        for a in knowledge.answers
        for f in a.follow_ups
        if f.answer not in knowledge.texts
    ]
    if problems:
        raise ValueError(f"{path}: " + "; ".join(problems))
