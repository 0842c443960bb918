"""What people do after they read an answer: mostly nothing, sometimes a thumb, a second try, a call for a person.

    in    an Interaction, whether it was right, and the approved text that it should have been
    out   Reaction(feedback=(Feedback(name="thumb", value=False, late=False, ...),), rephrases=True)

Most errors are silent, and some thumbs lie: that is why the loop pays for an unbiased audit and never trains on thumbs.
"""

from __future__ import annotations

from dataclasses import dataclass

from numpy.random import Generator

from demo.app import Interaction
from demo.chance import chance, digest
from demo.drop import compact
from demo.week import SECOND, stamp

DOWN_IF_WRONG = 0.08
REPHRASE_IF_WRONG = 0.25
ESCALATION_IF_WRONG = 0.05
EDIT_IF_WRONG = 0.03
COMMENT_IF_WRONG = 0.02
UP_IF_RIGHT = 0.06
DOWN_IF_RIGHT = 0.007
REPHRASE_IF_RIGHT = 0.01
MALICIOUS_THUMB = 0.60
LATE_SHARE = 0.15
AGENTS = 12
COMMENTS = (
    "that is not what I asked",
    "wrong answer, sorry",
    "this does not help at all",
    "I asked about something else",
    "the bot keeps missing the point",
    "not my question",
)
DELAY_SECONDS = {"thumb": (4, 300), "escalation": (10, 120), "comment": (20, 600), "edit": (600, 14_400)}


@dataclass(frozen=True, slots=True)
class Feedback:
    """One event after an interaction. A late one happens in time but is delivered with the next turn's file."""

    id: str
    response_id: str
    name: str
    value: bool | str
    user_id: str
    time_ns: int
    late: bool

    def line(self) -> str:
        """The event in the project's own JSON form, feedback/1."""
        return compact(
            {
                "flywheel": "feedback/1",
                "id": self.id,
                "target": {"response_id": self.response_id},
                "name": self.name,
                "value": self.value,
                "user_id": self.user_id,
                "time": stamp(self.time_ns),
            }
        )


@dataclass(frozen=True, slots=True)
class Reaction:
    """All that follows from one answer; `rephrases` is the wish to ask again, which the caller may have to deny."""

    feedback: tuple[Feedback, ...]
    rephrases: bool


def react(seed: int, served: Interaction, right: bool, right_text: str, malicious: bool) -> Reaction:
    """One user's reaction to one answer, the same whatever else happened in that week."""
    request = served.request
    rng = chance(seed, request.turn, "reaction", request.session_id, request.position)
    # Each possible reaction owns one draw, so a right answer instead of a wrong one does not reshuffle the others.
    thumb, rephrase, escalation, edit, comment = rng.random(5)
    if malicious:
        thumbs = [_event(seed, served, "thumb", not right, rng)] if thumb < MALICIOUS_THUMB else []
        return Reaction(tuple(thumbs), False)
    if right:
        events = (
            [_event(seed, served, "thumb", thumb < UP_IF_RIGHT, rng)] if thumb < UP_IF_RIGHT + DOWN_IF_RIGHT else []
        )
        return Reaction(tuple(events), bool(rephrase < REPHRASE_IF_RIGHT))
    events = []
    if thumb < DOWN_IF_WRONG:
        events.append(_event(seed, served, "thumb", False, rng))
    if escalation < ESCALATION_IF_WRONG:
        events.append(_event(seed, served, "escalation", True, rng))
    if edit < EDIT_IF_WRONG:
        events.append(_event(seed, served, "edit", right_text, rng, f"agent-{1 + rng.integers(AGENTS):02d}"))
    if comment < COMMENT_IF_WRONG:
        events.append(_event(seed, served, "comment", COMMENTS[rng.integers(len(COMMENTS))], rng))
    return Reaction(tuple(events), bool(rephrase < REPHRASE_IF_WRONG))


def _event(
    seed: int, served: Interaction, name: str, value: bool | str, rng: Generator, by: str | None = None
) -> Feedback:
    return Feedback(
        id=f"f-{digest(seed, served.response_id, name)[:20]}",
        response_id=served.response_id,
        name=name,
        value=value if isinstance(value, str) else bool(value),
        user_id=by or served.request.user_id,
        time_ns=served.answered_ns + int(rng.uniform(*DELAY_SECONDS[name])) * SECOND,
        late=bool(rng.random() < LATE_SHARE),
    )
