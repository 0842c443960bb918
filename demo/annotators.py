"""Six people who read what the loop sends them; five are good at it and one does not care.

    in    batch.jsonl      {"batch_id":"b-3","candidate_id":"ix_5c0..","kind":"answer","content_hash":"..",
                            "question":..,"history":[..],"contexts":[..],"response":"..","wanted":3,"guideline":".."}
          catalogue.jsonl  {"id":"billing-refund","kind":"answer","topic":"billing","title":..,"text":..,"source":..}
    out   b-3-ada.jsonl    {"batch_id":"b-3","candidate_id":"ix_5c0..","content_hash":"..","annotator":"ada",
                            "verdict":"wrong","correction":"billing-refund","note":"","guideline":"..","time":".."}

Somebody of skill p has the true action in mind with probability p, else a plausible other one. What they answer follows
from that alone: "right" where the served text is exactly the text of the action in their mind.
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

SKILLS = {"ada": 0.97, "bruno": 0.96, "chiara": 0.95, "dmitri": 0.93, "emeka": 0.90, "fritz": 0.55}
CARELESS = "fritz"
CARELESS_NOD = 0.60
SAME_TOPIC = 0.70
SECONDS_PER_ANSWER = (15, 90)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One row of batch.jsonl, as far as a person needs it; `answered_by` names people who need not be asked again."""

    batch_id: str
    candidate_id: str
    content_hash: str
    response: str
    wanted: int
    guideline: str
    answered_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Opinion:
    """One row of an answer file."""

    batch_id: str
    candidate_id: str
    content_hash: str
    annotator: str
    verdict: str
    correction: str
    note: str
    guideline: str
    time: str

    def line(self) -> str:
        """JSON without `correction` where the served answer was right."""
        row = asdict(self)
        if self.verdict == "right":
            del row["correction"]
        return compact(row)


class Catalogue:
    """The approved answers as the annotators' tool lists them."""

    def __init__(self, path: Path) -> None:
        rows = _rows(path)
        self.texts = {row["id"]: row["text"] for row in rows}
        self._topics = {row["id"]: row["topic"] for row in rows}

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
    overlap: int = 3,
    start_ns: int = FIRST_MONDAY + WEEK,
) -> int:
    """Answer a whole batch; returns how many answers were written.

    `truth` maps candidate_id to the true action; `overlap` is how many people answer where a row does not say
    `wanted`; `start_ns` is when they begin. The same batch gives the same files.
    """
    candidates = [_candidate(row, overlap) for row in _rows(Path(outbox_batch_dir) / "batch.jsonl")]
    catalogue = Catalogue(Path(outbox_batch_dir) / "catalogue.jsonl")
    by_desk: dict[tuple[str, str], list[Candidate]] = {}
    for candidate in sorted(candidates, key=lambda c: (c.batch_id, c.candidate_id)):
        for annotator in _chosen(candidate, seed):
            by_desk.setdefault((candidate.batch_id, annotator), []).append(candidate)
    for (batch_id, annotator), desk in sorted(by_desk.items()):
        pace, time_ns, lines = chance(seed, "pace", batch_id, annotator), start_ns, []
        for candidate in desk:
            time_ns += int(pace.integers(*SECONDS_PER_ANSWER)) * SECOND
            action = _action_in_mind(candidate, annotator, truth[candidate.candidate_id], catalogue, seed)
            lines.append(_opinion(candidate, annotator, action, catalogue, time_ns).line())
        drop(Path(answers_dir) / f"{batch_id}-{annotator}.jsonl", lines)
    return sum(len(desk) for desk in by_desk.values())


def batch_candidates(outbox_batch_dir: Path) -> list[str]:
    """The candidate ids of a batch."""
    return [str(row["candidate_id"]) for row in _rows(Path(outbox_batch_dir) / "batch.jsonl")]


def _chosen(candidate: Candidate, seed: int) -> list[str]:
    # A rotation of its own for each candidate: fixed triples would make the agreement of strangers unmeasurable.
    order = chance(seed, "rota", candidate.batch_id, candidate.candidate_id).permutation(len(SKILLS))
    names = list(SKILLS)
    free = [names[i] for i in order if names[i] not in candidate.answered_by]
    return free[: candidate.wanted]


def _action_in_mind(candidate: Candidate, annotator: str, true_action: str, catalogue: Catalogue, seed: int) -> str:
    # Without the batch in the stream's name: asked twice about the same candidate, a person thinks the same.
    rng = chance(seed, "mind", annotator, candidate.candidate_id)
    if rng.random() < SKILLS[annotator]:
        return true_action
    if annotator == CARELESS:
        served = next((i for i, text in catalogue.texts.items() if text == candidate.response), None)
        if served is not None and rng.random() < CARELESS_NOD:
            return served
        return list(catalogue.texts)[rng.integers(len(catalogue.texts))]
    return catalogue.other(true_action, rng)


def _opinion(candidate: Candidate, annotator: str, action: str, catalogue: Catalogue, time_ns: int) -> Opinion:
    right = catalogue.texts[action] == candidate.response
    return Opinion(
        batch_id=candidate.batch_id,
        candidate_id=candidate.candidate_id,
        content_hash=candidate.content_hash,
        annotator=annotator,
        verdict="right" if right else "wrong",
        correction="" if right else action,
        note="",
        guideline=candidate.guideline,
        time=stamp(time_ns),
    )


def _candidate(row: dict[str, Any], overlap: int) -> Candidate:
    if row["kind"] != "answer":
        raise ValueError(f"{row['candidate_id']}: these people answer kind 'answer', not {row['kind']!r}")
    return Candidate(
        batch_id=str(row["batch_id"]),
        candidate_id=str(row["candidate_id"]),
        content_hash=str(row["content_hash"]),
        response=str(row["response"]),
        wanted=int(row.get("wanted", overlap)),
        guideline=str(row["guideline"]),
        answered_by=tuple(row.get("answered_by", ())),
    )


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
