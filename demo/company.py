"""Velora from outside: a week of customers served, their logs dropped into the inbox, and batches sent to its people.

    Company(workspace, state, seed=7).serve(turn=3, sessions=1000, policy=champion, model_version="v2")
    -> <workspace>/data/inbox/turn-03-spans.jsonl       what the assistant logged
       <workspace>/data/inbox/turn-03-feedback.jsonl    what the users did then, and what came late from week 2
       <state>/truth.jsonl                              what only the scorer may read
       <state>/late/turn-03.jsonl                       what will come late in week 4

Every file follows from the seed, the turn and the model, so serving a week again writes the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from numpy.random import Generator

from demo.annotators import answer_batch, batch_candidates
from demo.app import App, Interaction, Message, Policy, Request
from demo.chance import chance
from demo.drop import drop
from demo.knowledge import KNOWLEDGE, load_knowledge
from demo.otlp import trace_line
from demo.scorer import Fact, Truth
from demo.users import Feedback, react
from demo.week import SECOND, WEEK, turn_start
from demo.world import Ask, Conversation, World

# Nobody starts in the last hours of a week: a session, an edit included, ends in the week in which it began.
OPEN_FOR = WEEK - 8 * 3600 * SECOND
READING_SECONDS = (15, 120)
STRAY_LINE = "upstream connect error or disconnect/reset before headers. reset reason: connection termination"


@dataclass(frozen=True, slots=True)
class Served:
    """What one week put into the inbox. Lines of the spans file = interactions + corrupt + duplicated."""

    turn: int
    sessions: int
    interactions: int
    follow_ups: int
    rephrases: int
    truncated: int
    empty: int
    feedback: int
    late_delivered: int
    late_held: int
    corrupt: int
    duplicated: int
    spans: Path
    feedback_file: Path


@dataclass(slots=True)
class _Session:
    """A conversation while it goes on."""

    conversation: Conversation
    clock_ns: int
    messages: list[Message] = field(default_factory=list)
    asked: int = 0
    again: Ask | None = None


class Company:
    """The demo's outside world in one object; the loop sees its files and nothing else."""

    def __init__(self, workspace_dir: Path, state_dir: Path, seed: int, knowledge_path: Path = KNOWLEDGE) -> None:
        self.seed = seed
        self.knowledge = load_knowledge(knowledge_path)
        self.world = World(seed, self.knowledge)
        self.truth = Truth(Path(state_dir))
        self._inbox = Path(workspace_dir) / "data" / "inbox"
        self._answers = Path(workspace_dir) / "data" / "answers"
        self._late = Path(state_dir) / "late"

    def serve(self, turn: int, sessions: int, policy: Policy, model_version: str) -> Served:
        """Serve one week of traffic with one version of the model and drop the week's two files."""
        week = _Week(self, App(policy, model_version, self.knowledge, self.seed), turn)
        week.play(sessions)
        in_time = [event for event in week.feedback if not event.late]
        late = [event for event in week.feedback if event.late]
        arrived_late = self._arrived_late(turn)
        lines, corrupt, duplicated = _with_accidents(week.interactions, chance(self.seed, turn, "accidents"))
        spans, feedback_file = (self._inbox / f"turn-{turn:02d}-{kind}.jsonl" for kind in ("spans", "feedback"))
        # Truth first: whoever sees a response in the inbox can already be told what it deserved.
        self.truth.record(week.facts)
        drop(self._late / f"turn-{turn:02d}.jsonl", _by_time(late))
        drop(spans, lines)
        drop(feedback_file, [*arrived_late, *_by_time(in_time)])
        return Served(
            turn=turn,
            sessions=sessions,
            interactions=len(week.interactions),
            follow_ups=week.follow_ups,
            rephrases=week.rephrases,
            truncated=sum(i.finish_reason == "length" for i in week.interactions),
            empty=sum(i.finish_reason == "error" for i in week.interactions),
            feedback=len(in_time) + len(arrived_late),
            late_delivered=len(arrived_late),
            late_held=len(late),
            corrupt=corrupt,
            duplicated=duplicated,
            spans=spans,
            feedback_file=feedback_file,
        )

    def annotate(self, batch_dir: Path, response_id_of: Mapping[str, str]) -> int:
        """Let the annotators answer a batch; returns how many answers they dropped.

        `response_id_of` maps the loop's candidate_id to the app's response_id (the interactions table has both).
        """
        facts = {c: self.truth.fact(response_id_of[c]) for c in batch_candidates(Path(batch_dir))}
        # They work on the Monday after the newest week in the batch.
        newest = max((fact.turn for fact in facts.values()), default=0)
        return answer_batch(
            Path(batch_dir),
            self._answers,
            {candidate: fact.true_action for candidate, fact in facts.items()},
            self.seed,
            start_ns=turn_start(newest + 1),
        )

    def _arrived_late(self, turn: int) -> list[str]:
        held = self._late / f"turn-{turn - 1:02d}.jsonl"
        return held.read_text(encoding="utf-8").splitlines() if held.exists() else []


class _Week:
    """One week while it is played: all openings as one batch, then the follow-ups, then the second tries."""

    def __init__(self, company: Company, app: App, turn: int) -> None:
        self._seed = company.seed
        self._world = company.world
        self._app = app
        self._turn = turn
        self.interactions: list[Interaction] = []
        self.facts: list[Fact] = []
        self.feedback: list[Feedback] = []
        self.follow_ups = 0
        self.rephrases = 0

    def play(self, sessions: int) -> None:
        starts = sorted(int(s) for s in chance(self._seed, self._turn, "arrivals").integers(OPEN_FOR, size=sessions))
        going = [
            _Session(conversation, turn_start(self._turn) + start)
            for conversation, start in zip(self._world.traffic(self._turn, sessions), starts, strict=True)
        ]
        self._wave([(s, s.conversation.asks[0]) for s in going], may_rephrase=True)
        # Who was misunderstood says it again rather than going on.
        follow_ups = [(s, s.conversation.asks[1]) for s in going if len(s.conversation.asks) > 1 and s.again is None]
        self._wave(follow_ups, may_rephrase=True)
        again = [(s, s.again) for s in going if s.again is not None]
        self._wave(again, may_rephrase=False)
        self.follow_ups, self.rephrases = len(follow_ups), len(again)

    def _wave(self, asks: list[tuple[_Session, Ask]], may_rephrase: bool) -> None:
        requests = [self._request(session, ask) for session, ask in asks]
        for (session, ask), served in zip(asks, self._app.answer(requests), strict=True):
            right_text = self._world.knowledge.texts[ask.true_action]
            right = served.text == right_text
            reaction = react(self._seed, served, right, right_text, session.conversation.malicious)
            self.interactions.append(served)
            self.facts.append(Fact(served.response_id, self._turn, ask.true_action, right, served.model_version))
            self.feedback.extend(reaction.feedback)
            session.messages.append({"role": "assistant", "content": served.text})
            session.clock_ns = served.answered_ns
            session.again = None
            if reaction.rephrases and may_rephrase:
                words = chance(self._seed, self._turn, "rephrase", session.conversation.session_id)
                session.again = self._world.rephrase(ask, words)

    def _request(self, session: _Session, ask: Ask) -> Request:
        if session.messages:
            reading = chance(self._seed, self._turn, "reading", session.conversation.session_id, session.asked)
            session.clock_ns += int(reading.integers(*READING_SECONDS)) * SECOND
        session.messages.append({"role": "user", "content": ask.text})
        session.asked += 1
        return Request(
            turn=self._turn,
            session_id=session.conversation.session_id,
            position=session.asked - 1,
            user_id=session.conversation.user_id,
            time_ns=session.clock_ns,
            messages=tuple(session.messages),
        )


def _by_time(events: Iterable[Feedback]) -> list[str]:
    return [event.line() for event in sorted(events, key=lambda e: (e.time_ns, e.id))]


def _with_accidents(interactions: list[Interaction], rng: Generator) -> tuple[list[str], int, int]:
    """The week's log lines in the order of time, with one line torn or astray and one written twice.

    The torn line is an attempt that the exporter made again: no interaction is lost, so the truth still adds up.
    """
    ordered = sorted(interactions, key=lambda i: (i.request.time_ns, i.response_id))
    lines = [trace_line(interaction) for interaction in ordered]
    if not lines:
        return [], 0, 0
    torn, twice = (int(i) for i in rng.integers(len(lines), size=2))
    fragment = lines[torn][: int(len(lines[torn]) * rng.uniform(0.2, 0.9))] if rng.random() < 0.7 else STRAY_LINE
    repeated = lines[twice]
    lines.insert(twice + 1, repeated)
    lines.insert(torn, fragment)
    return lines, 1, 1
