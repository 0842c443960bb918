"""The only place where truth lives: what every served message deserved, in a folder that the loop never reads.

A row of truth.jsonl:
    {"response_id":"resp-5c0..","turn":3,"true_action":"billing-refund","right":false,"model_version":"v2"}

The demo writes it while the app serves; the demo's last table reads it to say whether the loop's own estimates and
verdicts were right.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from demo.app import Message, Policy, user_text
from demo.drop import compact
from demo.retrieval import Retrieval
from demo.world import Ask, World

UNLOGGED = "x"


@dataclass(frozen=True, slots=True)
class Fact:
    """What one response deserved to be, and whether it was."""

    response_id: str
    turn: int
    true_action: str
    right: bool
    model_version: str


class Truth:
    """An append-only file of facts. Recording a fact again changes nothing; a different one for its id is a bug."""

    def __init__(self, folder: Path) -> None:
        self._path = Path(folder) / "truth.jsonl"
        self._facts: dict[str, Fact] = {}
        self._whole_bytes = 0
        if self._path.exists():
            data = self._path.read_bytes()
            # A killed demo may leave half a line at the end: the next record() writes over it.
            self._whole_bytes = data.rfind(b"\n") + 1
            for line in data[: self._whole_bytes].splitlines():
                fact = Fact(**json.loads(line))
                self._facts[fact.response_id] = fact

    def record(self, facts: Iterable[Fact]) -> int:
        """Append the facts that are not there yet; returns how many."""
        fresh: dict[str, Fact] = {}
        for fact in facts:
            known = self._facts.get(fact.response_id) or fresh.get(fact.response_id)
            if known is None:
                fresh[fact.response_id] = fact
            elif known != fact:
                raise ValueError(
                    f"{fact.response_id} was {known} and would become {fact}: another model under the same version"
                )
        if not fresh:
            return 0
        data = "".join(f"{compact(asdict(fact))}\n" for fact in fresh.values()).encode()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("r+b" if self._path.exists() else "w+b") as file:
            file.truncate(self._whole_bytes)
            file.seek(self._whole_bytes)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self._whole_bytes += len(data)
        self._facts.update(fresh)
        return len(fresh)

    def fact(self, response_id: str) -> Fact:
        """The fact about one response; KeyError where the demo never served it."""
        return self._facts[response_id]

    def facts(self, turn: int, model_version: str | None = None) -> list[Fact]:
        """What was served in a turn, of one version of the model or of all."""
        return [
            fact
            for fact in self._facts.values()
            if fact.turn == turn and (model_version is None or fact.model_version == model_version)
        ]

    def true_error_rate(self, turn: int, model_version: str | None = None) -> float:
        """The share of wrong answers among all that were served in a turn, faults of the transport included."""
        facts = self.facts(turn, model_version)
        if not facts:
            raise ValueError(f"nothing was served in turn {turn}" + (f" by {model_version}" if model_version else ""))
        return sum(not fact.right for fact in facts) / len(facts)


def policy_error_rate(policy: Policy, world: World, turn: int, n: int) -> float:
    """The share of wrong answers of a model on `n` fresh conversations of a turn that nobody logs.

    Openings, and follow-ups with the history that the model itself made; no rephrasing and no transport faults. The
    conversations depend on the world and the turn alone, so two models compare on the same messages.
    """
    conversations = world.traffic(turn, n, prefix=UNLOGGED)
    texts = world.knowledge.texts
    retrieval = Retrieval(world.knowledge)

    def served(histories: list[list[Message]]) -> list[str]:
        documents = retrieval.documents([user_text(history) for history in histories])
        return [replies[0].text for replies in policy.respond(histories, documents, 1)] if histories else []

    openings = [c.asks[0] for c in conversations]
    first = served([[_said("user", ask.text)] for ask in openings])
    longer = [(c, text) for c, text in zip(conversations, first, strict=True) if len(c.asks) > 1]
    second = served(
        [[_said("user", c.asks[0].text), _said("assistant", t), _said("user", c.asks[1].text)] for c, t in longer]
    )
    asked: list[Ask] = openings + [c.asks[1] for c, _ in longer]
    wrong = sum(text != texts[ask.true_action] for ask, text in zip(asked, first + second, strict=True))
    return wrong / len(asked)


def _said(role: str, content: str) -> Message:
    return {"role": role, "content": content}
