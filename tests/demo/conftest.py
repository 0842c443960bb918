"""A knowledge base of twelve answers, a model that is wrong on purpose, and a company around them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from demo.chance import chance
from demo.company import Company, Served
from demo.knowledge import Knowledge, load_knowledge

TOPICS = {
    "billing": ("refund", "invoice", "deposit", "payment"),
    "bike": ("battery", "brakes", "puncture", "theft"),
    "contract": ("pause", "cancel", "upgrade", "move"),
}
SEED = 7
SESSIONS = 600
TURNS = (0, 1)


@pytest.fixture
def sample_rows() -> dict[str, Any]:
    """A small knowledge.json."""
    return _rows()


def _rows() -> dict[str, Any]:
    answers = [
        {
            "id": f"{topic}-{subject}",
            "topic": topic,
            "title": f"{subject} of the {topic}",
            "text": f"About {subject}: open the app, choose {topic}, then {subject}, and follow the four steps.",
            "source": f"help/{topic}#{subject}",
            "questions": [
                f"[how|where] do I [arrange|get] the {subject} [for my {topic}|]?",
                f"what about {subject} [please|now|]",
                f"I need help with [the|my] {subject}",
            ],
            "follow_ups": [{"question": "and how long [does|will] that take?", "answer": f"{topic}-{subjects[0]}"}],
        }
        for topic, subjects in TOPICS.items()
        for subject in subjects
    ]
    return {
        "company": {"name": "Velora"},
        "answers": answers,
        "escalate": {"id": "escalate", "title": "Hand over", "text": "A colleague takes over and writes to you today."},
        "refuse": {"id": "refuse", "title": "Decline", "text": "I can only help with Velora subscriptions."},
        "sensitive": [
            {"id": "injury", "questions": ["I [fell|crashed] and am hurt", "my child was injured on the bike"]}
        ],
        "out_of_scope": [
            {"id": "weather", "questions": ["will it rain [today|tomorrow]?", "write me a poem about rain"]}
        ],
    }


@dataclass(frozen=True, slots=True)
class SampleReply:
    action: str
    text: str
    confidence: float


class SamplePolicy:
    """Gives the nearest document, and in three of ten conversations the second nearest."""

    def __init__(self, knowledge: Knowledge, error: float = 0.3) -> None:
        self.knowledge = knowledge
        self.error = error
        self.batches: list[int] = []

    def respond(self, conversations, contexts, n):
        self.batches.append(len(conversations))
        return [[self._reply(c[-1]["content"], found)] for c, found in zip(conversations, contexts, strict=True)]

    def _reply(self, question, found):
        rank = int(chance(1, question).random() < self.error)
        return SampleReply(found[rank]["id"], found[rank]["text"], 0.9 - 0.3 * rank)


@pytest.fixture(scope="session")
def knowledge_path(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("knowledge") / "knowledge.json"
    path.write_text(json.dumps(_rows()), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def sample_policy() -> type[SamplePolicy]:
    return SamplePolicy


@pytest.fixture(scope="session")
def knowledge(knowledge_path: Path) -> Knowledge:
    return load_knowledge(knowledge_path)


@dataclass(frozen=True, slots=True)
class Town:
    """A company that has served two weeks."""

    company: Company
    workspace: Path
    state: Path
    served: tuple[Served, ...]


@pytest.fixture(scope="session")
def settle(knowledge_path: Path, tmp_path_factory):
    """Make a company and let it serve two weeks."""

    def make(seed: int = SEED) -> Town:
        root = tmp_path_factory.mktemp("town")
        company = Company(root / "workspace", root / "state", seed, knowledge_path)
        policy = SamplePolicy(company.knowledge)
        served = tuple(company.serve(turn, SESSIONS, policy, "v1") for turn in TURNS)
        return Town(company, root / "workspace", root / "state", served)

    return make


@pytest.fixture(scope="session")
def town(settle) -> Town:
    return settle()
