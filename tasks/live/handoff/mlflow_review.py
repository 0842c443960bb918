"""The hand-off by MLflow's review queues, for a team whose traces are in MLflow: people review a trace where they read it.

    question        label schema   flywheel.answer.verdict           one a field, with the kind's options
    who is asked    review queue   flywheel/bt_5c0…/answer/ana       the traces of the batch's candidates
    answer          assessments    flywheel.answer.verdict = "wrong", by ana, and the item complete

Each queue has one person: in a queue of several the first answer completes the item, and there is no independent overlap. It is
not MLflow's own user queue, because that asks every question of the experiment about every trace. A declined item is a skip; an
assessment that overrides another is an edit; deleted ones take the answer back. An answer counts once its item is complete, or
was cancelled. What somebody signs whose queue it is not is left where it is, and told by `status`: so the server must know
people by name (`mlflow server --app-name basic-auth`), as without that everybody signs "default".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import msgspec
import orjson

from tasks.addresses import without_password
from tasks.errors import Refused
from tasks.kinds import Ask, Kind
from tasks.live.handoff.mlflow_queues import Item, Queues, Signed, lacks, nothing_chosen
from tasks.live.handoff.tool import Delivery, Handout, ToolStatus
from tasks.live.workspace import Workspace, write_durably
from tasks.records import canonical, digest

CANCELLED_BY = "flywheel"
TRACE = re.compile(r"[\w-]{1,50}", re.ASCII)  # a log may name its trace anything; what goes into a filter is an id


@dataclass(frozen=True, slots=True)
class Sent:
    """An ask as it went out: on which trace, and to whom."""

    ask_id: str
    batch_id: str
    candidate_id: str
    kind: str
    content_hash: str
    guideline: str
    wanted: int
    trace: str
    people: tuple[str, ...]
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """What was last accepted of somebody's answer to an ask: a digest of it, its status and its time in ms."""

    mark: str
    status: str
    ms: int


@dataclass(frozen=True, slots=True)
class State:
    """`sent` by ask id, `kinds` by name as they were asked last, `told` by ask id and person."""

    sent: dict[str, Sent] = field(default_factory=dict)
    kinds: dict[str, Kind] = field(default_factory=dict)
    told: dict[str, Told] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Seen:
    """What MLflow holds of one person's answer to one ask."""

    sent: Sent
    person: str
    item: Item
    given: Sequence[Signed]

    @property
    def counts(self) -> bool:
        cancelled = self.item.status == "declined" and self.item.by == CANCELLED_BY
        return bool(self.given) and (self.item.status == "complete" or cancelled)


class MlflowReview:
    """The adapter. `people` are the annotators by role; `trace_of` a candidate's trace id, '' where it is not in MLflow."""

    def __init__(
        self, workspace: Workspace, uri: str, experiment: str,
        people: Mapping[str, Sequence[str]], trace_of: Callable[[str], str],
    ):  # fmt: skip
        self.uri, self.experiment, self.people, self.trace_of = uri, experiment, people, trace_of
        self.shown = without_password(uri)
        self.path = workspace.state / f"mlflow-review-{digest(f'{self.shown}/{experiment}'.encode())[:12]}.json"

    def send(self, handout: Handout) -> str:
        """Put the asks into the queues of those who are to answer them. Refuses a round that MLflow can't ask as a whole."""
        before, state = self._load(), self._planned(handout)
        queues = Queues(self.uri, self.experiment)
        there = queues.signed({state.sent[a.ask_id].trace for a in handout.asks}).keys()
        new = [s for i, s in state.sent.items() if i not in before.sent]
        lost = [s.candidate_id for s in new if s.trace not in there]
        if lost:
            raise Refused(
                f"the traces of {len(lost)} candidates are not in {self.experiment!r} any more: {', '.join(lost[:3])}",
                "send these by files",
            )
        self._save(state)  # before anybody can answer: an answer to what is not known here could not be understood
        for (batch, kind, person), asks in _by_queue(state, {a.ask_id for a in handout.asks}).items():
            traces = [s.trace for s in asks.values() if not s.cancelled and s.trace in there]
            if traces:
                queues.put(batch, handout.kinds[kind], person, traces)
        return queues.where

    def receive(self) -> Iterator[Delivery]:
        """Answers that are complete, and those that changed or went since; one delivery."""
        state = self._load()
        lines, told = [], {}
        for seen in self._seen(state)[0]:
            key = f"{seen.sent.ask_id}/{seen.person}"
            before = state.told.get(key)
            answer = _answer(seen, state.kinds[seen.sent.kind], before)
            if answer is not None and (before is None or answer[0].mark != before.mark):
                told[key] = answer[0]
                lines.append(canonical(answer[1]) + b"\n")

        def accepted() -> None:
            latest = self._load()
            self._save(replace(latest, told={**latest.told, **told}))

        if lines:
            yield Delivery(f"mlflow:{self.shown}", b"".join(lines), accepted)

    def cancel(self, ask_ids: Collection[str]) -> None:
        """Decline these in the queues where nobody has answered them yet."""
        state = self._load()
        chosen = {i: replace(s, cancelled=True) for i, s in state.sent.items() if i in ask_ids}
        if not chosen:
            return
        self._save(replace(state, sent={**state.sent, **chosen}))
        queues = Queues(self.uri, self.experiment)
        for place, asks in _by_queue(state, chosen).items():
            pending = [i.trace for i in queues.items(*place) if i.trace in asks and i.status == "pending"]
            queues.decline(*place, pending, CANCELLED_BY)

    def status(self) -> ToolStatus:
        state = self._load()
        seen, strangers = self._seen(state)
        people: dict[str, int] = {}
        for s in seen:
            people[s.sent.ask_id] = people.get(s.sent.ask_id, 0) + s.counts
        done = {i for i, s in state.sent.items() if people.get(i, 0) >= s.wanted}
        open_ = [s for i, s in state.sent.items() if i not in done and not s.cancelled]
        few = sum(len(s.people) < s.wanted for s in open_)
        warnings = [f"{strangers} answers are signed by somebody whose queue it is not"] if strangers else []
        warnings += [f"{few} asks want more people than there are left"] if few else []
        drafts = sum(bool(s.given) and not s.counts for s in seen)
        return ToolStatus(self.shown, len(open_), len(done), drafts, warnings)

    def _planned(self, handout: Handout) -> State:
        """The state with this round in it: who is asked what. Those who were chosen before stay."""
        why = [w for k in handout.kinds.values() if (w := lacks(k))]
        if why:
            raise Refused("; ".join(why), "send these kinds by files")
        state = self._load()
        sent = dict(state.sent)
        candidates = {(s.batch_id, s.kind, s.trace): s.candidate_id for s in sent.values()}
        asked: dict[tuple[str, str, str], set[str]] = {}
        for s in sent.values():
            asked.setdefault((s.batch_id, s.kind, s.candidate_id), set()).update(s.people)
        for ask in handout.asks:
            if ask.ask_id in sent:
                continue
            trace = self.trace_of(ask.candidate_id)
            if TRACE.fullmatch(trace) is None:
                raise Refused(f"candidate {ask.candidate_id} is no trace in MLflow", "send what is not from MLflow by files")
            if candidates.setdefault((ask.batch_id, ask.kind, trace), ask.candidate_id) != ask.candidate_id:
                raise Refused(f"trace {trace} holds several candidates, and MLflow reviews a trace", "send them by files")
            before = asked.setdefault((ask.batch_id, ask.kind, ask.candidate_id), set())
            people = self._chosen(ask, before)
            before.update(people)
            sent[ask.ask_id] = Sent(
                ask.ask_id, ask.batch_id, ask.candidate_id, ask.kind, ask.content_hash, ask.guideline, ask.wanted, trace, people
            )
        return State(sent, {**state.kinds, **handout.kinds}, state.told)

    def _chosen(self, ask: Ask, before: Collection[str]) -> tuple[str, ...]:
        """As many as are wanted of those who were not asked: each ask falls to others, so that the work is shared."""
        # MLflow keeps a user's name in small letters.
        people = {p.strip().lower() for p in self.people.get(ask.role, ())}
        free = people - {p.lower() for p in ask.answered_by} - set(before)
        return tuple(sorted(free, key=lambda p: hashlib.sha256(f"{ask.ask_id}/{p}".encode()).digest())[: ask.wanted])

    def _seen(self, state: State) -> tuple[list[Seen], int]:
        """All that MLflow holds of what was asked, and how many answers were signed by somebody whose queue it is not."""
        if not state.sent:
            return [], 0
        queues = Queues(self.uri, self.experiment)
        signed = queues.signed({s.trace for s in state.sent.values()})
        seen, asked = [], set()
        for (batch, kind, person), asks in _by_queue(state, state.sent).items():
            asked |= {(trace, kind, person) for trace in asks}
            for item in queues.items(batch, kind, person):
                if item.trace in asks:
                    own = [s for s in signed.get(item.trace, []) if (s.kind, s.person) == (kind, person)]
                    seen.append(Seen(asks[item.trace], person, item, own))
        strangers = sum((trace, s.kind, s.person) not in asked for trace, several in signed.items() for s in several)
        return seen, strangers

    def _load(self) -> State:
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=State)
        except FileNotFoundError:
            return State()

    def _save(self, state: State) -> None:
        write_durably(self.path, orjson.dumps(state))


def _by_queue(state: State, ask_ids: Collection[str]) -> dict[tuple[str, str, str], dict[str, Sent]]:
    """(batch, kind, person) -> trace -> the ask."""
    queues: dict[tuple[str, str, str], dict[str, Sent]] = {}
    for sent in state.sent.values():
        for person in sent.people if sent.ask_id in ask_ids else ():
            queues.setdefault((sent.batch_id, sent.kind, person), {})[sent.trace] = sent
    return queues


def _answer(seen: Seen, kind: Kind, before: Told | None) -> tuple[Told, dict[str, Any]] | None:
    """What is to be told of this person's answer now, None where nothing is."""
    if seen.counts:
        status, value = "submitted", _value(seen.given, kind)
    elif seen.item.status == "declined" and seen.item.by == seen.person:
        status, value = "skipped", {}
    elif before is not None and before.status == "submitted" and not seen.given:
        status, value = "withdrawn", {}
    else:
        return None
    # What was taken back has no time of its own, and what stands again has its old one; both came after what was told.
    ms = max([seen.item.ms, *(s.ms for s in seen.given), before.ms + 1 if before else 0])
    note = "\n".join(s.note for s in seen.given if s.note)
    return Told(digest(canonical([status, value, note]))[:16], status, ms), {
        "batch_id": seen.sent.batch_id,
        "candidate_id": seen.sent.candidate_id,
        "kind": seen.sent.kind,
        "content_hash": seen.sent.content_hash,
        "annotator": seen.person,
        "value": value,
        "time": datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "status": status,
        "note": note,
        "guideline": seen.sent.guideline,
        "native_id": ",".join(s.assessment_id for s in seen.given),
    }


def _value(given: Sequence[Signed], kind: Kind) -> dict[str, Any]:
    value = {s.field: s.value for s in given}
    return value | {f.name: [] for f in kind.fields if nothing_chosen(f, value.get(f.name))}
