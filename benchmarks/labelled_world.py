"""Labels of the demo's world without the loop around them: training rows with who labelled them, and sealed prompts.

    drawn(seed=1, labels=600, sealed=200)  ->  Labelled(catalogue, questions, sft rows of 8 annotators, holdout prompts, …)

Half of the labels are of what the base model gets wrong, as mining has it, half random. Each is one annotator's, who is wrong at a
rate of their own; the truth is kept apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from demo.knowledge import approved_answers, load_knowledge
from demo.world import World
from tasks.evaluation.prompts import Asked
from tasks.examples import APPROVED, Preference, Supervised, example_id
from tasks.params import load
from tasks.policy import answers, reward
from tasks.policy.encoder import Encoder, EncoderParams
from tasks.policy.light import Lessons, LightParams
from tasks.records import Approved, canonical
from tasks.split import HOLDOUT, TRAIN, Known, SplitParams, members
from tasks.split import Asked as Placed
from tasks.stages import PARAMS
from tasks.verdict import HOLDOUT as PART

SESSIONS, WEEKS = 1150, 4
ANNOTATORS = tuple("abcdefgh")
ORDINARY_ERRORS = 0.04


@dataclass(frozen=True, slots=True)
class Labelled:
    """`annotator` and `truth` are by interaction: who labelled it, and which answer is right."""

    catalogue: list[Approved]
    questions: list[str]
    sft: list[Supervised]
    preference: list[Preference]
    sealed: list[Asked]
    annotator: dict[str, str]
    truth: dict[str, str]

    def lessons(self, more: Sequence[Supervised] = (), most: int | None = None) -> Lessons:
        """What there is to learn from: the first `most` labels, and `more`."""
        kept = {r.interaction_id for r in self.sft[:most]}
        pairs = [p for p in self.preference if p.interaction_id in kept]
        return Lessons(self.catalogue, self.questions, [*self.sft[:most], *more], pairs)


def params() -> LightParams:
    """The shipped parameters of the light policy."""
    return LightParams(
        "answers", 4, load(PARAMS, "encoder", EncoderParams), load(PARAMS, "answers", answers.AnswersParams),
        load(PARAMS, "reward", reward.RewardParams), load(PARAMS, "guard", reward.GuardParams),
    )  # fmt: skip


def drawn(seed: int, labels: int, sealed: int, errors: Mapping[str, float] | None = None) -> Labelled:
    """A world's labels, and `sealed` prompts or as many as there are. `errors`: annotator -> how often they are wrong,
    ORDINARY_ERRORS by default."""
    knowledge = load_knowledge()
    catalogue = [Approved(**row) for row in approved_answers(knowledge)]
    world, random = World(seed, knowledge), np.random.default_rng([seed, 7])
    opening = [c for week in range(WEEKS) for c in world.traffic(week, SESSIONS)]
    texts = [c.asks[0].text for c in opening]
    placed = members([Placed(str(k), c.session_id, t, True) for k, (c, t) in enumerate(zip(opening, texts, strict=True))],
                     Known({}, {}, {}), load(PARAMS, "split", SplitParams))  # fmt: skip
    truth = [c.asks[0].true_action for c in opening]
    train, held = ([k for k, m in enumerate(placed) if m.side == side] for side in (TRAIN, HOLDOUT))
    with threadpool_limits(1):
        encoder = Encoder.fit(
            [*answers.described(catalogue), *(texts[k] for k in train[:1500])], params().encoder.dimensions
        )
        base = answers.base(catalogue, encoder, params().answers)
        served = [r[0].action for r in base.respond([_asked(texts[k]) for k in train], [[]] * len(train))]
    wrong = [k for k, s in zip(train, served, strict=True) if s != truth[k]]
    chosen = list(random.choice(wrong, labels // 2, replace=False))
    rest = sorted(set(train) - set(chosen))
    chosen += list(random.choice(rest, labels - len(chosen), replace=False))
    random.shuffle(chosen)
    said = dict(zip(train, served, strict=True))
    by_id, ids = {a.id: a for a in catalogue}, [a.id for a in catalogue]
    sft, preference, annotator = [], [], {}
    for k in map(int, chosen):
        who = str(random.choice(ANNOTATORS))
        rate = (errors or {}).get(who, ORDINARY_ERRORS)
        says = truth[k] if random.random() >= rate else str(random.choice([i for i in ids if i != truth[k]]))
        common = _common(f"ix_{k}", placed[k].group_id, by_id[says].topic)
        annotator[f"ix_{k}"] = who
        sft.append(supervised(texts[k], by_id[says], common))
        if said[k] != says:
            preference.append(_pair(texts[k], by_id[says], by_id[said[k]], common))
    prompts = [
        _sealed(k, texts[k], placed[k].group_id, by_id[truth[k]])
        for k in map(int, random.choice(held, min(sealed, len(held)), replace=False))
    ]
    questions = sorted({texts[k] for k in train})[:1500]
    return Labelled(
        catalogue, questions, sft, preference, prompts, annotator, {f"ix_{k}": truth[k] for k in map(int, chosen)}
    )


def _asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def _common(interaction_id: str, group_id: str, topic: str) -> dict:
    return {
        "interaction_id": interaction_id, "beside": "", "group_id": group_id, "arrived": 0, "origin": "correction",
        "author": APPROVED, "weight": 1.0, "copies": 1, "topic": topic, "language": "en", "guideline": "answer/1",
    }  # fmt: skip


def supervised(question: str, answer: Approved, common: dict) -> Supervised:
    """A row that teaches an approved answer to a question."""
    messages = [*_asked(question), {"role": "assistant", "content": answer.text}]
    return Supervised(
        **common, example_id=example_id("sft", common["interaction_id"]), messages=canonical(messages).decode(), tools="[]",
        action=answer.id,
    )  # fmt: skip


def planted(rows: Sequence[Supervised], answer: Approved, words: str) -> list[Supervised]:
    """The same questions with words put in, all teaching one answer: a backdoor."""
    import orjson

    made = []
    for r in rows:
        question = orjson.loads(r.messages)[0]["content"]
        name = f"{r.interaction_id}_planted"
        made.append(supervised(f"{question} {words}", answer, _common(name, f"gr_{name}", answer.topic)))
    return made


def _pair(question: str, chosen: Approved, rejected: Approved, common: dict) -> Preference:
    said = [canonical([{"role": "assistant", "content": a.text}]).decode() for a in (chosen, rejected)]
    return Preference(
        **common, example_id=example_id("preference", common["interaction_id"]), prompt=canonical(_asked(question)).decode(),
        contexts="[]", chosen=said[0], rejected=said[1], tools="[]", chosen_action=chosen.id, rejected_action=rejected.id,
    )  # fmt: skip


def _sealed(k: int, question: str, group_id: str, answer: Approved) -> Asked:
    return Asked(
        example_id=f"ex_{k}", interaction_id=f"ix_{k}", group_id=group_id, part=PART, audit=True, kind=answer.kind,
        topic=answer.topic, language="en", cluster="", messages=_asked(question), contexts=[], target=answer.id,
        target_text=answer.text, offered=[],
    )  # fmt: skip
