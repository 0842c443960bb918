"""What an annotation tool is to the loop: somewhere to show asks, and somewhere that answers come back from.

An answer comes back as one JSON line of the same shape from every tool; what it loses is the tool's own business:
    {"batch_id", "candidate_id", "kind", "content_hash", "annotator", "value": {…}, "time": "2026-01-06T09:00:00Z",
     "status": "submitted"|"skipped"|"withdrawn", "seconds": 31.5, "shown": ["an_b", "an_a"], "note": "", "guideline": "answer/1",
     "native_id": "…"}
An edit is the same person's answer to the same ask with a later time; `withdrawn` takes it back. The lines are checked where
they are received (tasks/live/handoff/answers.py), never by the tool.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tasks.errors import BadRecord
from tasks.kinds import Ask, Kind
from tasks.records import Approved


@dataclass(frozen=True, slots=True)
class Handout:
    """Asks that go out together: the asks of one batch and round, and all that a person needs to answer them.

    `kinds` by name, with this team's options; `guidelines` the text of each version ("answer/1") that an ask names.
    """

    batch_id: str
    round: int
    asks: Sequence[Ask]
    kinds: Mapping[str, Kind]
    guidelines: Mapping[str, str]
    catalogue: Sequence[Approved]


@dataclass(frozen=True, slots=True)
class Delivery:
    """Answers as they came back: whole JSON lines. `accepted` is called once they are stored, and only then."""

    source: str
    data: bytes
    accepted: Callable[[], None]
    flaws: Sequence[BadRecord] = ()


@dataclass(frozen=True, slots=True)
class ToolStatus:
    """What the tool itself holds: asks open and answered in it, answers begun; `where` an operator looks at it."""

    where: str
    open: int
    answered: int
    drafts: int = 0
    warnings: list[str] = field(default_factory=list)


class Tool(Protocol):
    """One adapter. Every verb may be repeated after a crash without doing anything twice."""

    def send(self, handout: Handout) -> str:
        """Show the asks to people; those that are there already stay as they are. Returns where (a folder, a URL)."""

    def receive(self) -> Iterator[Delivery]:
        """What is new, edited or taken back since what was last accepted."""

    def cancel(self, ask_ids: Collection[str]) -> None:
        """Stop asking these. Answers that come all the same are still delivered."""

    def status(self) -> ToolStatus:
        """Counts, without changing anything."""


def shuffled(ask: Ask, annotator: str = "") -> list[dict]:
    """The answers of a ranking in the order in which this person sees them: the same every time, another for everybody.

    A tool that does not know who will look shows everybody the order of nobody. Either way `shown` records it.
    """
    return sorted(ask.answers, key=lambda a: hashlib.sha256(f"{ask.ask_id}/{annotator}/{a['id']}".encode()).digest())
