"""Who gets which candidate next, and what becomes of an answer.

    desk.next(ana) -> Group(bt_5c0…, in_7f…, (ask "answer", ask "spans"))        hers for 15 minutes
    desk.answer(ana, [Said("ak_1…", "submitted", {"verdict": "right"}, "", 12.5)]) -> []     nothing wrong: on the disk

No more people than are wanted are handed an ask at the same time, and nobody is handed what they answered. Leases are
memory only: losing them costs an answer too many at worst, and that is an answer all the same.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from tasks.errors import BadRecord
from tasks.kinds import RANKING, Ask, checked
from tasks.live.handoff.tool import shuffled
from tasks.live.people import ANNOTATOR, EXPERT, Person
from tasks.live.review.given import SKIPPED, SUBMITTED, WITHDRAWN, Answers, Given
from tasks.live.review.outbox import Group, Key, Outbox

LEASE_SECONDS = 15 * 60
MAX_NOTE = 2_000
MAX_SECONDS = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Said:
    """What a page sends about one ask."""

    ask_id: str
    status: str
    value: dict[str, Any]
    note: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Wrong:
    """Why it is not kept, for the person who said it."""

    ask_id: str
    code: str
    message: str


class Desk:
    """One for all people. Every method may be called from several threads; who reads more than one thing holds `lock`."""

    def __init__(self, outbox: Outbox, answers: Answers, cap: int = 0, now: Callable[[], float] = time.time):
        """`cap`: answers a person and batch at most; 0 for no end."""
        self.outbox, self.answers, self.cap, self._now = outbox, answers, cap, now
        self.lock = threading.RLock()
        self._leases: dict[Key, dict[str, float]] = {}  # annotator -> until when
        self._handed: set[tuple[Key, str]] = set()
        self._at: dict[str, tuple[str, str]] = {}  # annotator -> the candidate before them

    def refresh(self) -> None:
        with self.lock:
            self.outbox.refresh()
            self.answers.refresh()

    def next(self, person: Person) -> Group | None:
        """The candidate before this person, or another one that is free; None where nothing is."""
        with self.lock:
            self.refresh()
            before = self.outbox.candidates.get(self._at.get(person.annotator, ("", "")))
            if before and (found := self._part(before, person, (ANNOTATOR, EXPERT))):
                return self._hand(found, person)
            taken_back = None
            for role in (EXPERT, ANNOTATOR):  # an expert's time is scarcer: first what only experts can decide
                room = self._room(person)
                for group in self.outbox.groups:
                    if room.get(group.batch_id, 1) > 0 and (found := self._part(group, person, (role,))):
                        if not self._took_back(found, person):
                            return self._hand(found, person)
                        taken_back = taken_back or found
            return self._hand(taken_back, person) if taken_back else None

    def keep(self, person: Person, batch_id: str, candidate_id: str) -> None:
        """Somebody still reads: their lease begins anew."""
        with self.lock:
            group = self.outbox.candidates.get((batch_id, candidate_id))
            if group and self._at.get(person.annotator) == (batch_id, candidate_id):
                self._lease(group.asks, person)

    def own(self, person: Person, batch_id: str, candidate_id: str) -> Group | None:
        """A candidate that this person answered: the asks that they answered, to look at or to change."""
        with self.lock:
            self.refresh()
            batch = self.outbox.batches.get(batch_id)
            asks = {a.kind: a for a in (batch.asks.values() if batch else ()) if a.candidate_id == candidate_id}
            mine = tuple(a for a in asks.values() if self._mine(a, person) is not None)
            return Group(batch_id, candidate_id, mine) if mine else None

    def history(self, person: Person) -> list[tuple[str, str]]:
        """The candidates that this person answered, newest first."""
        with self.lock:
            self.refresh()
            newest: dict[tuple[str, str], int] = {}
            for key, people in self.answers.given.items():
                one = people.get(person.annotator)
                if one and one.status != WITHDRAWN and key[0] in self.outbox.batches:
                    newest[key[:2]] = max(one.time, newest.get(key[:2], 0))
            return sorted(newest, key=lambda c: -newest[c])

    def answer(self, person: Person, said: Sequence[Said]) -> list[Wrong]:
        """Keep all of it, or, where something is wrong, nothing. Raises OSError where the disk takes it not."""
        with self.lock:
            self.refresh()
            lines, wrong = [], []
            for one in said:
                try:
                    lines.append(self._line(person, one))
                except BadRecord as e:
                    wrong.append(Wrong(one.ask_id, e.code, e.message))
            if len({one.ask_id for one in said}) < len(said):
                wrong.append(Wrong(said[0].ask_id, "twice", "one ask is answered twice in one go"))
            if wrong or not lines:
                return wrong
            self.answers.append(person.annotator, lines)
            for line in lines:
                leases = self._leases.get((line["batch_id"], line["candidate_id"], line["kind"]), {})
                leases.pop(person.annotator, None)
            self.answers.refresh()
            return []

    def counted(self, ask: Ask) -> list[Given]:
        """The answers that count towards `wanted` of this ask."""
        people = self.answers.of(key_of(ask)).values()
        return [g for g in people if counts(g, ask) and g.annotator not in ask.answered_by]

    def mine(self, ask: Ask, person: Person) -> Given | None:
        with self.lock:
            return self._mine(ask, person)

    def _mine(self, ask: Ask, person: Person) -> Given | None:
        """This person's newest word on what the ask asks, about the text as it is."""
        one = self.answers.of(key_of(ask)).get(person.annotator)
        return one if one and one.content_hash == ask.content_hash else None

    def _part(self, group: Group, person: Person, roles: tuple[str, ...]) -> Group | None:
        """What of the group this person may be asked now."""
        free = tuple(a for a in group.asks if a.role in roles and self._free(a, person))
        return replace(group, asks=free) if free else None

    def _free(self, ask: Ask, person: Person) -> bool:
        if (ask.role == EXPERT and person.role != EXPERT) or person.annotator in ask.answered_by:
            return False
        mine = self._mine(ask, person)
        if mine is not None and mine.status != WITHDRAWN:
            return False
        return self._places(ask, person) > 0

    def _places(self, ask: Ask, person: Person) -> int:
        """How many more people may be handed this ask, beside those who have it."""
        now = self._now()
        leases = self._leases.get(key_of(ask), {})
        answered = {g.annotator for g in self.counted(ask)}
        others = sum(1 for who, until in leases.items() if who not in answered | {person.annotator} and until > now)
        return ask.wanted - len(answered) - others

    def _room(self, person: Person) -> dict[str, int]:
        """By batch, how many more answers this person may give; a batch that is not named has room."""
        if not self.cap:
            return {}
        room = dict.fromkeys(self.outbox.batches, self.cap)
        for key, people in self.answers.given.items():
            one = people.get(person.annotator)
            if one and one.status == SUBMITTED and key[0] in room:
                room[key[0]] -= 1
        return room

    def _took_back(self, group: Group, person: Person) -> bool:
        return all(self._mine(a, person) is not None for a in group.asks)

    def _hand(self, group: Group, person: Person) -> Group:
        if self.cap:
            room = self._room(person)[group.batch_id]
            group = replace(group, asks=group.asks[: max(room, 1)])
        self._at[person.annotator] = (group.batch_id, group.candidate_id)
        self._lease(group.asks, person)
        return group

    def _lease(self, asks: Iterable[Ask], person: Person) -> None:
        for ask in asks:
            if self._free(ask, person):
                self._leases.setdefault(key_of(ask), {})[person.annotator] = self._now() + LEASE_SECONDS
                self._handed.add((key_of(ask), person.annotator))

    def _line(self, person: Person, said: Said) -> dict[str, Any]:
        """The answer as it goes to the disk. Raises BadRecord."""
        ask = self.outbox.asks.get(said.ask_id)
        if ask is None:
            raise BadRecord("unknown_ask", "this was never asked, or is asked no longer; go on to the next one")
        batch = self.outbox.batches[ask.batch_id]
        mine = self._mine(ask, person)
        self._may(person, ask, mine)
        value: dict[str, Any] = {}
        if said.status == SUBMITTED:
            value = checked(batch.kinds[ask.kind], said.value, ask, batch.approved)
        elif said.status == SKIPPED:
            if not said.note.strip():
                raise BadRecord("missing_field", "say why you skip it: it helps to ask better")
        elif said.status == WITHDRAWN:
            if mine is None or mine.status == WITHDRAWN:
                raise BadRecord("bad_value", "there is no answer of yours to take back")
        else:
            raise BadRecord("bad_value", f"status is {said.status!r}")
        if len(said.note) > MAX_NOTE:
            raise BadRecord("bad_value", f"a note is at most {MAX_NOTE:,} characters long")
        ranks = batch.kinds[ask.kind].main.type == RANKING
        time_us = max(int(self._now() * 1_000_000), mine.time + 1 if mine else 0)  # an edit is later, whatever the clock says
        return {
            "batch_id": ask.batch_id,
            "candidate_id": ask.candidate_id,
            "kind": ask.kind,
            "content_hash": ask.content_hash,
            "annotator": person.annotator,
            "value": value,
            "time": rfc3339(time_us),
            "status": said.status,
            "seconds": round(min(max(said.seconds, 0.0), MAX_SECONDS), 1),
            "shown": [a["id"] for a in shuffled(ask, person.annotator)] if ranks else [],
            "note": said.note,
            "guideline": ask.guideline,
            "native_id": f"{ask.ask_id}/{person.annotator}",
        }

    def _may(self, person: Person, ask: Ask, mine: Given | None) -> None:
        """Raises BadRecord for an ask that this person was not handed and could not have been."""
        if mine is not None or (key_of(ask), person.annotator) in self._handed:
            return  # an edit, or an answer that took long: late is not wrong
        batch = self.outbox.batches[ask.batch_id]
        if ask.ask_id in batch.cancelled or not self._free(ask, person) or self._room(person).get(ask.batch_id, 1) < 1:
            raise BadRecord("not_yours", "this is not asked of you; go on to the next one")


def key_of(ask: Ask) -> Key:
    return ask.batch_id, ask.candidate_id, ask.kind


def counts(given: Given, ask: Ask) -> bool:
    """Whether it is an answer to the text that is asked about."""
    return given.status == SUBMITTED and given.content_hash == ask.content_hash


def rfc3339(us: int) -> str:
    return datetime.fromtimestamp(us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{us % 1_000_000:06d}Z"
