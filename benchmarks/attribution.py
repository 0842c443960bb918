"""Does attribution find the annotator who does harm, and the topics whose rows help most?

    python -m benchmarks.attribution --seeds 8

The demo's world, 600 labels of eight annotators, each row labelled by one; one is wrong in 30% of rows (others 4%). Who of
the eight is worst? By attribution (270 sealed prompts), against the loss of their rows under the trained model, and against how
often a model that has not seen a row agrees with it (out of fold). And of topics: which rows help, against the same
fits measured on 700 other sealed prompts, with group size and loss as the simple guesses.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import orjson
from scipy.stats import spearmanr

from benchmarks.labelled_world import Labelled, drawn, params
from tasks.attribution import Answers, Attributed, AttributeParams, Group, attribute
from tasks.attribution_light import again
from tasks.evaluation.prompts import Asked
from tasks.examples import Evaluation, Supervised
from tasks.params import load
from tasks.policy import light
from tasks.policy.answers import AnswersPolicy
from tasks.records import canonical
from tasks.stages import PARAMS

LABELS, SEALED, FRESH = 600, 270, 700
HARMFUL, WRONG = "c", 0.3
FOLDS = 5


@dataclass(frozen=True, slots=True)
class Ranked:
    """Of one seed: the share of honest annotators whom each measure ranks above the harmful one; rank correlations of topics with
    their effect on fresh prompts; what the verdicts said of the harmful and of the others; CPU seconds."""

    auc: dict[str, float]
    topics: dict[str, float]
    harmful: str
    others_hurt: int
    seconds: float


def ranked(seed: int) -> Ranked:
    world = drawn(seed, LABELS, SEALED + FRESH, {HARMFUL: WRONG})
    lessons = world.lessons()
    fitted = light.fit(lessons, params())
    policy = fitted.policy.policy if hasattr(fitted.policy, "policy") else fitted.policy
    started = time.process_time()
    refit = again(lessons, [_row(a) for a in world.sealed], params(), policy.encoder, fitted.temperature)
    known: dict[frozenset[str], Answers] = {}

    def here(without: Collection[str]) -> Answers:
        whole = known.setdefault(frozenset(without), refit(without))
        return Answers(whole.right[:SEALED], whole.probability[:SEALED])

    every = {x.example_id for x in [*lessons.sft, *lessons.preference]}
    people, topics = (_groups(by, world) for by in ("annotator", "topic"))
    prompts = [a.group_id for a in world.sealed[:SEALED]]
    found = {
        a.group: a
        for a in attribute(here, [*people, *topics], every, prompts, load(PARAMS, "attribute", AttributeParams))
    }
    seconds = time.process_time() - started
    fresh = {
        g.value: float((known[frozenset()].probability[SEALED:] - known[g.rows].probability[SEALED:]).mean())
        for g in topics
    }
    loss, agrees = _losses(policy, lessons.sft), _out_of_fold(lessons, policy)
    by_row = {x.example_id: k for k, x in enumerate(lessons.sft)}

    def mean(values: np.ndarray, g: Group) -> float:
        return float(values[[by_row[i] for i in g.rows if i in by_row]].mean())

    measures = {
        "attribution": {g.value: found[g.value].excess for g in [*people, *topics]},
        "loss of its rows": {g.value: -mean(loss, g) for g in [*people, *topics]},
        "out-of-fold agreement": {g.value: mean(agrees, g) for g in [*people, *topics]},
        "number of rows": {g.value: float(len(g.rows)) for g in [*people, *topics]},
    }
    total = {g.value: found[g.value].probability for g in topics}
    correlated = {
        "attribution": total,
        "number of rows": measures["number of rows"],
        "loss of its rows": measures["loss of its rows"],
    }
    return Ranked(
        {m: float(np.mean([v[g.value] > v[HARMFUL] for g in people if g.value != HARMFUL])) for m, v in measures.items()},
        {m: float(spearmanr([v[t] for t in fresh], list(fresh.values())).statistic) for m, v in correlated.items()},
        _said(found[HARMFUL]), sum(_said(found[g.value]) == "hurt" for g in people if g.value != HARMFUL), seconds,
    )  # fmt: skip


def _said(found: Attributed) -> str:
    return found.verdict


def _groups(by: str, world: Labelled) -> list[Group]:
    made: dict[str, set[str]] = {}
    for row in [*world.sft, *world.preference]:
        value = world.annotator[row.interaction_id] if by == "annotator" else row.topic
        made.setdefault(value, set()).add(row.example_id)
    return [Group(by, v, frozenset(rows)) for v, rows in sorted(made.items()) if v and len(rows) >= 20]


def _losses(policy: AnswersPolicy, rows: Sequence[Supervised]) -> np.ndarray:
    """The negative log-probability of what each row teaches."""
    replies = policy.respond([orjson.loads(x.messages)[:-1] for x in rows], [[]] * len(rows), len(policy.catalogue))
    return np.array(
        [
            -np.log(max(next(r.confidence for r in of if r.action == x.action), 1e-6))
            for of, x in zip(replies, rows, strict=True)
        ]
    )


def _out_of_fold(lessons: light.Lessons, policy: AnswersPolicy) -> np.ndarray:
    """Whether a model that has not seen a row gives its answer."""
    fold = np.arange(len(lessons.sft)) % FOLDS
    agrees = np.zeros(len(lessons.sft))
    for k in range(FOLDS):
        out = [x for x, f in zip(lessons.sft, fold, strict=True) if f == k]
        refit = again(lessons, [_taught(x) for x in out], params(), policy.encoder, policy.temperature)
        ids = {x.interaction_id for x in out}
        without = {x.example_id for x in [*lessons.sft, *lessons.preference] if x.interaction_id in ids}
        agrees[fold == k] = refit(without).right
    return agrees


def _row(a: Asked) -> Evaluation:
    return _evaluation(a.example_id, a.interaction_id, a.group_id, a.messages, a.target, a.target_text)


def _taught(x: Supervised) -> Evaluation:
    *asked, answer = orjson.loads(x.messages)
    return _evaluation(x.example_id, x.interaction_id, x.group_id, asked, x.action, answer["content"])


def _evaluation(
    example_id: str, interaction_id: str, group_id: str, messages: list, target: str, text: str
) -> Evaluation:
    return Evaluation(
        example_id=example_id, interaction_id=interaction_id, beside="", group_id=group_id, arrived=0, origin="label",
        author="approved", weight=1.0, copies=1, topic="", language="en", guideline="", messages=canonical(messages).decode(),
        contexts="[]", target=target, target_text=text, kind="answer", offered="[]", rubric="",
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=8)
    runs = [ranked(seed) for seed in range(1, parser.parse_args().seeds + 1)]
    print(f"{'measure':<24} {'AUC':>6} {'worst of 8 is the harmful one':>30} {'topics: rank correlation':>26}")
    for name in runs[0].auc:
        auc = [r.auc[name] for r in runs]
        topics = [r.topics[name] for r in runs if name in r.topics] or [float("nan")]
        print(f"{name:<24} {np.mean(auc):>6.2f} {sum(a == 1 for a in auc):>27}/{len(runs)} {np.mean(topics):>26.2f}")
    verdicts = [r.harmful for r in runs]
    told = ", ".join(f"{v} {verdicts.count(v)}" for v in sorted(set(verdicts)))
    print(f"the harmful annotator: {told} of {len(runs)} seeds")
    print(f"honest ones called hurt: {sum(r.others_hurt for r in runs)} of {7 * len(runs)}")
    print(f"CPU: {np.mean([r.seconds for r in runs]):.1f} s a seed")


if __name__ == "__main__":
    main()
