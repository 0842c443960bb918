"""Who writes to Velora in a week, about what, and what each message truly deserves.

    World(7, load_knowledge()).traffic(turn=3, sessions=1000)[12]
    Conversation(session_id="s-3-12", user_id="u-0031", malicious=False,
                 asks=(Ask(text="hi, when do i get my mnoey back", true_action="billing-refund", ...),))

A few intents make up most of the traffic and many are rare (Zipf), as in every support queue: the rare ones are where
a model is wrong for longest. What users do after an answer is in users.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from demo.chance import chance
from demo.knowledge import Answer, Concern, Knowledge, approved_answers, load_knowledge
from demo.wording import wording

__all__ = ["Ask", "Conversation", "World", "approved_answers", "load_knowledge"]

ZIPF_EXPONENT = 1.0
REFUSE_SHARE = 0.09
ESCALATE_SHARE = 0.06
FOLLOW_UP_SHARE = 0.25
USERS = 400
ACTIVITY_EXPONENT = 0.7
USERS_PER_MALICIOUS_ONE = 50
LOGGED = "s"


@dataclass(frozen=True, slots=True)
class Ask:
    """One message of a user. `intent` owns the questions that would ask the same, `question` is the one chosen."""

    text: str
    true_action: str
    intent: str
    question: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a user comes to ask, before any answer: one ask, or an opening and a follow-up."""

    session_id: str
    user_id: str
    malicious: bool
    asks: tuple[Ask, ...]


class World:
    """The customers, fixed by `seed`: which intents are popular, who is active, who means harm."""

    def __init__(self, seed: int, knowledge: Knowledge) -> None:
        self.seed = seed
        self.knowledge = knowledge
        rng = chance(seed, "world")
        self._by_popularity = [knowledge.answers[i] for i in rng.permutation(len(knowledge.answers))]
        self._popularity = _zipf(len(self._by_popularity), ZIPF_EXPONENT)
        self._activity = _zipf(USERS, ACTIVITY_EXPONENT)
        # One of every fifty in the order of activity: no seed puts all the harm, or none, among the busiest users.
        self._malicious = {
            first + int(rng.integers(USERS_PER_MALICIOUS_ONE)) for first in range(0, USERS, USERS_PER_MALICIOUS_ONE)
        }
        self._names = [f"u-{number:04d}" for number in rng.permutation(USERS)]
        self._questions = {
            each.id: each.questions for each in (*knowledge.answers, *knowledge.sensitive, *knowledge.out_of_scope)
        }

    def traffic(self, turn: int, sessions: int, prefix: str = LOGGED) -> list[Conversation]:
        """`sessions` conversations of one week; another `prefix` is another week of the same world.

        More sessions only add to the end: traffic(3, 100) is the beginning of traffic(3, 1000).
        """
        return [self._conversation(turn, number, prefix) for number in range(sessions)]

    def rephrase(self, ask: Ask, rng: Generator) -> Ask:
        """The same wish in other words: another question of the intent where there is one, typed anew."""
        others = [q for q in self._questions[ask.intent] if q != ask.question] or [ask.question]
        return _ask(others[rng.integers(len(others))], ask.true_action, ask.intent, rng)

    def _conversation(self, turn: int, number: int, prefix: str) -> Conversation:
        rng = chance(self.seed, turn, "traffic", prefix, number)
        user = _pick(self._activity, rng)
        return Conversation(
            session_id=f"{prefix}-{turn}-{number}",
            user_id=self._names[user],
            malicious=user in self._malicious,
            asks=self._asks(rng),
        )

    def _asks(self, rng: Generator) -> tuple[Ask, ...]:
        draw = rng.random()
        if draw < REFUSE_SHARE:
            return (_open(_any(self.knowledge.out_of_scope, rng), self.knowledge.refuse.id, rng),)
        if draw < REFUSE_SHARE + ESCALATE_SHARE:
            return (_open(_any(self.knowledge.sensitive, rng), self.knowledge.escalate.id, rng),)
        answer = self._by_popularity[_pick(self._popularity, rng)]
        opening = _open(answer, answer.id, rng)
        if not answer.follow_ups or rng.random() >= FOLLOW_UP_SHARE:
            return (opening,)
        follow_up = answer.follow_ups[rng.integers(len(answer.follow_ups))]
        # Somebody who must repeat a follow-up asks it in full, hence the intent of its target.
        return (opening, _ask(follow_up.question, follow_up.answer, follow_up.answer, rng))


def _zipf(count: int, exponent: float) -> np.ndarray:
    """Cumulative shares of ranks 1..count, share of rank r proportional to r ** -exponent."""
    weights = np.arange(1, count + 1, dtype=float) ** -exponent
    return np.cumsum(weights / weights.sum())


def _pick(cumulative: np.ndarray, rng: Generator) -> int:
    # The last sum may round to just under one.
    return min(int(np.searchsorted(cumulative, rng.random(), side="right")), len(cumulative) - 1)


def _any(concerns: tuple[Concern, ...], rng: Generator) -> Concern:
    return concerns[rng.integers(len(concerns))]


def _open(about: Answer | Concern, true_action: str, rng: Generator) -> Ask:
    return _ask(about.questions[rng.integers(len(about.questions))], true_action, about.id, rng)


def _ask(question: str, true_action: str, intent: str, rng: Generator) -> Ask:
    return Ask(text=wording(question, rng), true_action=true_action, intent=intent, question=question)
