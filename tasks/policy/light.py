"""The light policies, trained in seconds on a processor: an encoder, a reward model where pairs allow, and the policy itself.

    fit(Lessons(catalogue, questions, sft, preference), params)  ->  Fitted(policy, judge, temperature)

Values in, values out: the train stage fits on everything, attribution fits again without one group of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
from threadpoolctl import threadpool_limits

from tasks import shards
from tasks.examples import TRAIN, Preference, Supervised
from tasks.policy import Policy, answers, reward
from tasks.policy.encoder import Encoder, EncoderParams
from tasks.records import Approved, read_jsonl, read_records

BEST_OF_N = "best_of_n"


@dataclass(frozen=True, slots=True)
class LightParams:
    """`copies`: labels that a row which stands for several weighs as, at most."""

    policy: str
    copies: int
    encoder: EncoderParams
    answers: answers.AnswersParams
    reward: reward.RewardParams
    guard: reward.GuardParams


@dataclass(frozen=True, slots=True)
class Lessons:
    """What a light policy learns from: the approved answers, what users asked (for the encoder), and the rows of two tables."""

    catalogue: Sequence[Approved]
    questions: Sequence[str]
    sft: Sequence[Supervised]
    preference: Sequence[Preference]


@dataclass(frozen=True, slots=True)
class Fitted:
    """`judge` is the reward model (None: too few pairs), `temperature` that of the calibration (None: it has none)."""

    policy: Policy
    judge: reward.RewardModel | None
    temperature: float | None


def read(frozen: Path, dataset: Path) -> Lessons:
    """The lessons of a frozen lake and a dataset folder."""
    return Lessons(
        catalogue=read_records(frozen / "catalogue.jsonl", Approved),
        questions=[row["question"] for row in read_jsonl(frozen / "questions.jsonl")],
        sft=shards.read(dataset / "parquet" / TRAIN / "sft", Supervised),
        preference=shards.read(dataset / "parquet" / TRAIN / "preference", Preference),
    )


def fit(lessons: Lessons, params: LightParams) -> Fitted:
    """Train from the base on everything that is labelled. One thread: equal bytes on every run."""
    with threadpool_limits(1):
        answered = [text for p in lessons.preference for text in (_text(p.chosen), _text(p.rejected))]
        texts = [*answers.described(lessons.catalogue), *lessons.questions, *dict.fromkeys(answered)]
        encoder = Encoder.fit(texts, params.encoder.dimensions)
        judge = _reward(encoder, lessons.preference, params.reward)
        if params.policy == BEST_OF_N:
            return Fitted(reward.BestOfN(judge), judge, None)
        policy = _answers(lessons, encoder, params)
        guarded = policy if judge is None else reward.Guarded(policy, judge, params.guard)
        return Fitted(guarded, judge, policy.temperature)


def _answers(lessons: Lessons, encoder: Encoder, params: LightParams) -> answers.AnswersPolicy:
    known = {a.id for a in lessons.catalogue}
    taught = [taught_by(x, params.copies) for x in lessons.sft if x.action in known]
    preferred = [preferred_by(x) for x in lessons.preference if {x.chosen_action, x.rejected_action} <= known]
    return answers.train(lessons.catalogue, encoder, taught, preferred, params.answers)


def taught_by(row: Supervised, copies: int) -> answers.Taught:
    """What was asked more often weighs more, up to a point: doubles were collapsed, their number was not."""
    return answers.Taught(orjson.loads(row.messages)[:-1], row.action, row.weight * min(row.copies, copies), row.group_id)


def preferred_by(row: Preference) -> answers.Preferred:
    return answers.Preferred(orjson.loads(row.prompt), row.chosen_action, row.rejected_action)


def _reward(encoder: Encoder, preference: Sequence[Preference], params: reward.RewardParams) -> reward.RewardModel | None:
    """The reward model, or None where there are too few pairs to learn one."""
    if len(preference) < params.min_pairs:
        return None
    pairs = [pair_of(x) for x in preference]
    return reward.train(pairs, encoder, params)


def pair_of(row: Preference) -> reward.Pair:
    return reward.Pair(orjson.loads(row.prompt), orjson.loads(row.contexts), _text(row.chosen), _text(row.rejected))


def _text(messages: str) -> str:
    return orjson.loads(messages)[0]["content"]
