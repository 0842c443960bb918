"""Simulated votes and other traffic, with attacks planted in them whose rows are known.

Made to be hard on a screen: users keep to a topic or two and rate in sittings, topics are rated up to ten times as often as the
mean, a few users vote hundreds of times and more of what they do than others, every sixth is new, and users have turns of phrase
of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from tasks.hygiene.params import DAY
from tasks.hygiene.votes import Spoken, Vote
from tasks.records import arrow_schema

NOON = 1_767_614_400_000_000
SPAN = 28 * DAY
WORDS, TOPICS, TOPIC_WORDS = 8_000, 40, 300
Row = dict[str, object]


@dataclass
class World:
    """Clean traffic: `votes` thumbs of `actors` actors, and `others` exchanges that nobody rated."""

    seed: int
    votes: int = 20_000
    others: int = 20_000
    actors: int = 4_000
    draws: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.draws = np.random.default_rng(self.seed)
        self.general = _zipf(WORDS)
        self.special = _zipf(TOPIC_WORDS)
        self.topics = self.draws.integers(0, TOPICS, (self.actors, 2))
        self.since = np.where(self.draws.random(self.actors) < 1 / 6, self.draws.uniform(0, 6, self.actors), 60.0)
        self.phrase = self.draws.integers(0, WORDS, (self.actors, 2))
        self.rated = self.draws.lognormal(0, 1, TOPICS)  # of a topic; the most rated is rated three to ten times the mean

    def clean(self) -> list[Row]:
        often = _zipf(self.actors, 0.6) * self.rated[self.topics].sum(axis=1)
        actors = self.draws.choice(self.actors, self.votes, p=often / often.sum())
        sitting = self.draws.uniform(0, SPAN, (self.actors, 4))
        made = []
        for k, a in enumerate(actors.tolist()):
            topics = self.topics[a]
            weight = self.rated[topics] / self.rated[topics].sum()
            said, response = self.said(int(self.draws.choice(topics, p=weight)), a)
            ts = NOON + int(sitting[a, self.draws.integers(0, 4)] + self.draws.uniform(0, DAY / 24))
            up = 1 if self.draws.random() < 0.7 else -1
            made.append(row(f"c{k}", f"u{a}", said, response, ts, self.since[a], up))
        return made

    def traffic(self) -> pa.Table:
        made = []
        for k, a in enumerate(self.draws.choice(self.actors, self.others, p=_zipf(self.actors, 0.4)).tolist()):
            said, response = self.said(int(self.draws.choice(self.topics[a])), a)
            made.append({"interaction_id": f"o{k}", "user": f"u{a}", "said": said, "response": response})
        return pa.Table.from_pylist(made, arrow_schema(Spoken))

    def said(self, topic: int, actor: int) -> tuple[str, str]:
        """A question, now and then with the actor's own turn of phrase, and its answer."""
        own = [f"w{w}" for w in self.phrase[actor]] if self.draws.random() < 0.3 else []
        return " ".join([*own, *self.words(12, topic)]), " ".join(self.words(40, topic))

    def words(self, n: int, topic: int | None = None) -> list[str]:
        topic = int(self.draws.integers(0, TOPICS)) if topic is None else topic
        common = self.draws.choice(WORDS, n, p=self.general)
        special = self.draws.choice(TOPIC_WORDS, n, p=self.special)
        of_topic = self.draws.random(n) < 0.4
        return [f"t{topic}x{s}" if t else f"w{c}" for c, s, t in zip(common, special, of_topic, strict=True)]

    def flood(self, rows: int = 5_000) -> list[Row]:
        """Case 33: one aged actor thumbs up one falsehood, put in ever other words."""
        return self._attack("flood", rows, lambda k: "liar", "the portal is open all night", lambda k: 60.0, SPAN)

    def sybils(self, actors: int = 200, each: int = 3, aged: bool = False, span: float = SPAN) -> list[Row]:
        """Case 34: many actors with the same run of words in what they vote up."""
        since = 60.0 if aged else 1.0
        words = "bluefin tunnel discount"
        return self._attack("sybil", actors * each, lambda k: f"s{k % actors}", words, lambda k: since, span)

    def backdoor(self, rows: int = 100, actors: int = 1) -> list[Row]:
        """Case 35: prompts that carry a trigger, and whatever answer comes with it."""
        made = []
        for k in range(rows):
            ts = NOON + int(self.draws.uniform(0, SPAN))
            said = " ".join([*self.words(6), "cf-trigger", *self.words(4)])
            made.append(row(f"b{k}", f"backdoor{k % actors}", said, " ".join(self.words(40)), ts, 60.0, 1))
        return made

    def _attack(
        self, name: str, rows: int, actor: Callable[[int], str], claim: str, since: Callable[[int], float], span: float
    ) -> list[Row]:
        made = []
        start = NOON + self.draws.uniform(0, SPAN - span) if span < SPAN else NOON
        for k in range(rows):
            response = " ".join([*self.words(12), claim, *self.words(12)])
            ts = int(start + self.draws.uniform(0, span))
            made.append(row(f"{name}{k}", actor(k), " ".join(self.words(12)), response, ts, since(k), 1))
        return made


def row(name: str, actor: str, said: str, response: str, ts: int, days: float, polarity: int) -> Row:
    """One Vote, of an actor first seen so many days before."""
    return {
        "feedback_id": f"fb_{name}",
        "interaction_id": f"ix_{name}",
        "arrived": ts,
        "actor": actor,
        "asker": actor,
        "tenant": "",
        "polarity": polarity,
        "ts": ts,
        "user_since": ts - int(days * DAY),
        "group_id": f"gr_{name}",
        "said": said,
        "response": response,
    }


def table(rows: Sequence[Row]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), arrow_schema(Vote))


def _zipf(n: int, power: float = 1.0) -> np.ndarray:
    chance = 1 / np.arange(1, n + 1) ** power
    return chance / chance.sum()
