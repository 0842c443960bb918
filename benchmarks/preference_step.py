"""What the preference step does to right answers: supervised alone, DPO after it, and both losses together.

python -m benchmarks.preference_step     random labels of the demo world, judged on questions across the wall
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from threadpoolctl import threadpool_limits

from demo.knowledge import approved_answers, load_knowledge
from demo.world import World
from tasks.params import load
from tasks.policy import answers
from tasks.policy.encoder import Encoder, EncoderParams
from tasks.records import Approved
from tasks.split import HOLDOUT, TRAIN, Asked, Known, SplitParams, members
from tasks.stages import PARAMS

LABELS = (230, 1150)
SESSIONS, WEEKS = 1150, 5


def main() -> None:
    params, split = load(PARAMS, "answers", answers.AnswersParams), load(PARAMS, "split", SplitParams)
    knowledge = load_knowledge()
    catalogue = [Approved(**row) for row in approved_answers(knowledge)]
    world = World(1, knowledge)
    opening = [c for week in range(WEEKS) for c in world.traffic(week, SESSIONS)]
    asked = [Asked(str(k), c.session_id, c.asks[0].text, True) for k, c in enumerate(opening)]
    placed = members(asked, Known({}, {}, {}), split)
    messages = [[{"role": "user", "content": c.asks[0].text}] for c in opening]
    truth = [c.asks[0].true_action for c in opening]
    train = [k for k, m in enumerate(placed) if m.side == TRAIN]
    held = [k for k, m in enumerate(placed) if m.side == HOLDOUT]
    random = np.random.default_rng(0)

    print(
        f"{'labels':>6}  {'base':>6}  {'supervised':>10}  {'then DPO alone':>14}  {'both losses':>11}   right, {len(held)} held out"
    )
    for labels in LABELS:
        chosen = random.choice(train, labels, replace=False)
        texts = [*answers.described(catalogue), *(messages[k][0]["content"] for k in chosen)]
        with threadpool_limits(1):
            encoder = Encoder.fit(texts, load(PARAMS, "encoder", EncoderParams).dimensions)
            base = answers.base(catalogue, encoder, params)
            served = base.respond([messages[k] for k in chosen], [[]] * labels)
            taught = [answers.Taught(messages[k], truth[k], 1.0, placed[k].group_id) for k in chosen]
            pairs = [
                answers.Preferred(messages[k], truth[k], s[0].action)
                for k, s in zip(chosen, served, strict=True)
                if s[0].action != truth[k]
            ]
            plain = answers.train(catalogue, encoder, taught, [], params)
            both = answers.train(catalogue, encoder, taught, pairs, params)
            shares = [_right(p, messages, truth, held) for p in (base, plain, _dpo_alone(plain, pairs, params), both)]
        print(f"{labels:>6}  {shares[0]:>6.1%}  {shares[1]:>10.1%}  {shares[2]:>14.1%}  {shares[3]:>11.1%}")


def _dpo_alone(policy: answers.AnswersPolicy, pairs: list, params: answers.AnswersParams) -> answers.AnswersPolicy:
    """The textbook step: start from the supervised weights, minimise the DPO loss (beta 0.1) and nothing else."""
    index = {a.id: k for k, a in enumerate(policy.catalogue)}
    encoded = policy.encoder.conversations([p.messages for p in pairs])
    x = np.hstack([encoded, np.ones((len(encoded), 1), encoded.dtype)])
    chosen, rejected = (np.array([index[getattr(p, side)] for p in pairs]) for side in ("chosen", "rejected"))
    loss = answers._preference(x, chosen, rejected, policy.weights, 0.1)
    return replace(policy, weights=answers._minimise(loss, policy.weights).astype(np.float32))


def _right(policy: answers.AnswersPolicy, messages: list, truth: list, rows: list) -> float:
    replies = policy.respond([messages[k] for k in rows], [[]] * len(rows))
    return float(np.mean([r[0].action == truth[k] for r, k in zip(replies, rows, strict=True)]))


if __name__ == "__main__":
    main()
