"""Seven people who read what the loop sends them: five are good at it, one is careless, one does not read at all; and an expert.

    in    batch.jsonl, batch-2.jsonl, …   {"batch_id":"b-3","candidate_id":"cd_5c0..","kind":"answer","content_hash":"..","role":..,
                                           "contexts":[..],"response":"..","wanted":2,"answered_by":[..],"guideline":"..", …}
          catalogue.jsonl                 {"id":"billing-refund","kind":"answer","topic":"billing","title":..,"text":..,"source":..}
    out   b-3-ada.jsonl                   {"batch_id":"b-3","candidate_id":"cd_5c0..","kind":"answer","content_hash":"..",
                                           "annotator":"ada","value":{"verdict":"wrong","correction":"billing-refund"},"time":".."}

Somebody of skill p has the true action in mind with probability p, else a plausible other one. What they answer follows from
that alone: "right" where the served text is exactly the text of the action in their mind.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from numpy.random import Generator

from demo.chance import chance
from demo.drop import compact, drop
from demo.week import FIRST_MONDAY, SECOND, WEEK, stamp

SKILLS = {"ada": 0.97, "bruno": 0.96, "chiara": 0.95, "dmitri": 0.93, "emeka": 0.90, "fritz": 0.95, "gus": 0.0}
CARELESS, CARELESS_SHARE = "fritz", 0.30  # of his answers are given without reading
SPAMMER = "gus"  # finds everything right, and the documents all alike
EXPERT, EXPERT_SKILL = "hanna", 0.99
PEOPLE = [{"annotator": name, "role": "annotator"} for name in SKILLS] + [{"annotator": EXPERT, "role": "expert"}]
SAME_TOPIC = 0.70
SECONDS_PER_ANSWER, SECONDS_OF_A_SPAMMER = (15, 90), (2, 6)


@dataclass(frozen=True, slots=True)
class Question:
    """One ask of a batch, as far as a person needs it; `answered_by` names people who need not be asked again."""

    batch_id: str
    candidate_id: str
    kind: str
    content_hash: str
    contexts: tuple[str, ...]
    response: str
    wanted: int
    guideline: str
    role: str
    answered_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Opinion:
    """One row of an answer file."""

    batch_id: str
    candidate_id: str
    kind: str
    content_hash: str
    annotator: str
    value: dict[str, Any]
    guideline: str
    seconds: int
    time: str


class Catalogue:
    """The approved answers as the annotators' tool lists them."""

    def __init__(self, path: Path) -> None:
        rows = _rows(path)
        self.texts = {row["id"]: row["text"] for row in rows}
        self.kinds = {row["id"]: row["kind"] for row in rows}
        self.ids = {row["text"]: row["id"] for row in rows}
        self._topics = {row["id"]: row["topic"] for row in rows}

    def grade(self, text: str, action: str) -> int:
        """How relevant a document is to somebody who has this action in mind: 3, 1 for its neighbours, 0."""
        found = self.ids.get(text)
        if found == action:
            return 3
        return int(found is not None and self._topics[found] != "" and self._topics[found] == self._topics[action])

    def other(self, action: str, rng: Generator) -> str:
        """A plausible confusion: mostly a neighbour of the same topic, sometimes anything else."""
        anything = [i for i in self.texts if i != action]
        # escalate and refuse have no topic, hence no neighbours.
        neighbours = [i for i in anything if self._topics[i] and self._topics[i] == self._topics[action]]
        among = neighbours if neighbours and rng.random() < SAME_TOPIC else anything
        return among[rng.integers(len(among))]


def answer_batch(
    outbox_batch_dir: Path,
    answers_dir: Path,
    truth: Mapping[str, str],
    seed: int,
    start_ns: int = FIRST_MONDAY + WEEK,
) -> int:
    """Answer what a batch asks and nobody has answered yet; returns how many answers were written.

    `truth` maps candidate_id to the true action; `start_ns` is when they begin. The same batch gives the same files.
    """
    folder, written = Path(outbox_batch_dir), 0
    catalogue = Catalogue(folder / "catalogue.jsonl")
    for asked in sorted(folder.glob("batch*.jsonl")):
        answered = Path(answers_dir) / f".{folder.name}-{asked.stem}.answered"
        if answered.exists():
            continue
        later = (int(asked.stem.partition("-")[2] or 1) - 1) * 24 * 3600 * SECOND  # a round a day
        by_desk: dict[str, list[Question]] = {}
        for question in sorted((_question(r) for r in _rows(asked)), key=lambda q: (q.candidate_id, q.kind)):
            for annotator in _chosen(question, seed):
                by_desk.setdefault(annotator, []).append(question)
        for annotator, desk in sorted(by_desk.items()):
            lines = _lines(desk, annotator, truth, catalogue, seed, start_ns + later)
            drop(Path(answers_dir) / f"{folder.name}-{asked.stem}-{annotator}.jsonl", lines)
            written += len(lines)
        answered.parent.mkdir(parents=True, exist_ok=True)
        answered.touch()
    return written


def batch_candidates(outbox_batch_dir: Path) -> list[str]:
    """The candidate ids of a batch."""
    return sorted({str(row["candidate_id"]) for row in _rows(Path(outbox_batch_dir) / "batch.jsonl")})


def _lines(
    desk: list[Question], annotator: str, truth: Mapping[str, str], catalogue: Catalogue, seed: int, time_ns: int
) -> list[str]:
    pace, lines = chance(seed, "pace", desk[0].batch_id, annotator), []
    for question in desk:
        seconds = int(pace.integers(*(SECONDS_OF_A_SPAMMER if annotator == SPAMMER else SECONDS_PER_ANSWER)))
        time_ns += seconds * SECOND
        action = _action_in_mind(question, annotator, truth[question.candidate_id], catalogue, seed)
        lines.append(compact(asdict(_opinion(question, annotator, action, catalogue, seconds, time_ns))))
    return lines


def _chosen(question: Question, seed: int) -> list[str]:
    if question.role == "expert":
        return [EXPERT]
    # A rotation of its own for each candidate: fixed pairs would make the agreement of strangers unmeasurable.
    order = chance(seed, "rota", question.batch_id, question.candidate_id, question.kind).permutation(len(SKILLS))
    names = list(SKILLS)
    free = [names[i] for i in order if names[i] not in question.answered_by]
    return free[: question.wanted]


def _action_in_mind(question: Question, annotator: str, true_action: str, catalogue: Catalogue, seed: int) -> str:
    # Without the batch in the stream's name: asked twice about the same candidate, a person thinks the same.
    rng = chance(seed, "mind", annotator, question.candidate_id)
    if annotator == SPAMMER:
        return catalogue.ids.get(question.response, "refuse")
    if annotator == CARELESS and rng.random() < CARELESS_SHARE:
        return list(catalogue.texts)[rng.integers(len(catalogue.texts))]
    skill = EXPERT_SKILL if annotator == EXPERT else SKILLS[annotator]
    return true_action if rng.random() < skill else catalogue.other(true_action, rng)


def _opinion(
    question: Question, annotator: str, action: str, catalogue: Catalogue, seconds: int, time_ns: int
) -> Opinion:
    return Opinion(
        batch_id=question.batch_id,
        candidate_id=question.candidate_id,
        kind=question.kind,
        content_hash=question.content_hash,
        annotator=annotator,
        value=_VALUES[question.kind](question, action, catalogue),
        guideline=question.guideline,
        seconds=seconds,
        time=stamp(time_ns),
    )


def _answer(question: Question, action: str, catalogue: Catalogue) -> dict[str, Any]:
    right = catalogue.texts[action] == question.response
    return {"verdict": "right"} if right else {"verdict": "wrong", "correction": action}


def _action(question: Question, action: str, catalogue: Catalogue) -> dict[str, Any]:
    kind = catalogue.kinds[action]
    return {"action": kind, "route": "support"} if kind == "escalate" else {"action": kind}


def _relevance(question: Question, action: str, catalogue: Catalogue) -> dict[str, Any]:
    return {"grades": {str(i): catalogue.grade(text, action) for i, text in enumerate(question.contexts)}}


_VALUES = {"answer": _answer, "action": _action, "relevance": _relevance}


def _question(row: dict[str, Any]) -> Question:
    if row["kind"] not in _VALUES:
        raise ValueError(f"{row['candidate_id']}: these people answer {', '.join(_VALUES)}, not {row['kind']!r}")
    return Question(
        batch_id=str(row["batch_id"]),
        candidate_id=str(row["candidate_id"]),
        kind=str(row["kind"]),
        content_hash=str(row["content_hash"]),
        contexts=tuple(str(c.get("text", "")) for c in row["contexts"]),
        response=str(row["response"]),
        wanted=int(row["wanted"]),
        guideline=str(row["guideline"]),
        role=str(row["role"]),
        answered_by=tuple(row["answered_by"]),
    )


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
