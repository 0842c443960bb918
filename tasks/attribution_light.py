"""A light policy fitted again without some rows, exactly: the same objectives, begun at the weights that all rows gave.

    refit = again(lessons, sealed, params, encoder)
    refit(frozenset())  ->  the answers of the judged model      refit({"ex_1", "ex_2"})  ->  those of the model without these rows

The objectives are convex, so where the fit begins does not change where it ends. The encoder learns from unlabelled questions
and stays; so does the temperature, or a group would be praised for the sharpness of its model.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import orjson
from scipy.special import softmax
from threadpoolctl import threadpool_limits

from tasks.attribution import Answers, Refit
from tasks.examples import Evaluation
from tasks.policy import answers, reward
from tasks.policy.encoder import Encoder
from tasks.policy.light import BEST_OF_N, Lessons, LightParams, pair_of, preferred_by, taught_by


def again(
    lessons: Lessons, sealed: Sequence[Evaluation], params: LightParams, encoder: Encoder, temperature: float | None
) -> Refit:
    """How to fit the policy of these lessons again. `sealed` are the prompts that it answers; `encoder` and `temperature` are
    those of the judged model."""
    if params.policy == BEST_OF_N:
        return _best_of_n(lessons, sealed, params, encoder)
    return _answers(lessons, sealed, params, encoder, temperature or 1.0)


def answerable(lessons: Lessons, sealed: Sequence[Evaluation], policy: str) -> list[Evaluation]:
    """The prompts of which the policy can give the right answer at all."""
    known = {a.id for a in lessons.catalogue}
    return [r for r in sealed if (r.offered != "[]" if policy == BEST_OF_N else r.target in known)]


def _answers(
    lessons: Lessons, sealed: Sequence[Evaluation], params: LightParams, encoder: Encoder, temperature: float
) -> Refit:
    start = answers.base(lessons.catalogue, encoder, params.answers)
    places = {a.id: k for k, a in enumerate(lessons.catalogue)}
    sft = [x for x in lessons.sft if x.action in places]
    pairs = [x for x in lessons.preference if {x.chosen_action, x.rejected_action} <= places.keys()]
    rows = answers.encoded(start, [taught_by(x, params.copies) for x in sft], [preferred_by(x) for x in pairs])
    asked = [orjson.loads(r.messages) for r in sealed]
    wanted = np.array([places[r.target] for r in sealed], int)
    with threadpool_limits(1):
        near = answers.learned(start.weights, rows, params.answers)

    def refit(without: Collection[str]) -> Answers:
        kept, kept_pairs = (np.array([x.example_id not in without for x in of], bool) for of in (sft, pairs))
        weights = start.weights
        with threadpool_limits(1):
            if not without:
                weights = near[1]
            elif kept.any():
                weights = answers.learned(start.weights, rows.only(kept, kept_pairs), params.answers, near)[1]
            policy = answers.AnswersPolicy(start.catalogue, encoder, weights.astype(np.float32), temperature)
            chances = softmax(policy.logits(asked) / temperature, axis=1)
        return Answers(chances.argmax(axis=1) == wanted, chances[np.arange(len(wanted)), wanted].astype(float))

    return refit


def _best_of_n(lessons: Lessons, sealed: Sequence[Evaluation], params: LightParams, encoder: Encoder) -> Refit:
    asked = [(orjson.loads(r.messages), orjson.loads(r.contexts), orjson.loads(r.offered)) for r in sealed]

    def refit(without: Collection[str]) -> Answers:
        pairs = [pair_of(x) for x in lessons.preference if x.example_id not in without]
        with threadpool_limits(1):
            model = reward.train(pairs, encoder, params.reward) if len(pairs) >= params.reward.min_pairs else None
            found = [_picked(model, *prompt) for prompt in asked]
        return Answers(np.array([f[0] for f in found], bool), np.array([f[1] for f in found], float))

    return refit


def _picked(model: reward.RewardModel | None, messages: list, contexts: list, offered: list) -> tuple[bool, float]:
    """Whether the text that is picked is right, and the probability of all that are."""
    texts = [o["text"] for o in offered]
    scores = (
        np.zeros(len(texts)) if model is None else model.score([messages] * len(texts), [contexts] * len(texts), texts)
    )
    right = np.array([o["right"] for o in offered], bool)
    return bool(right[int(np.argmax(scores))]), float(softmax(scores)[right].sum())
