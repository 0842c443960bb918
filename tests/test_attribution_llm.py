"""Which data helped a language model, read off its gradients: wrong lessons are told from right ones, and nothing is changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tasks import shards
from tasks.attribution import AttributeParams, Group, attribute
from tasks.examples import TABLES, Evaluation, Preference, Supervised
from tasks.records import canonical
from tests import tiny

pytestmark = [pytest.mark.slow, tiny.needs_torch]
PARAMS = AttributeParams(groups=3, least_rows=5, controls=8, alpha=0.05, key="k")
TAUGHT, WRONG, SEALED = 120, 30, 60


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory):
    """A tiny model that was taught everything, the wrong answers too: before it has learned them, gradients say nothing of rows."""
    from tasks.policy import load
    from tasks.policy.llm import training

    place = tmp_path_factory.mktemp("llm")
    spec = TABLES["sft"]
    shards.write_rows(
        place / "parquet" / "train" / "sft", spec.row, lessons(), place / "jsonl" / "train" / "sft", spec.trains
    )
    base = str(tiny.base(place / "base"))
    params = tiny.params(
        base=base, methods=["sft"], tuning="full", sft_epochs=20.0, sft_rate=5e-3, checkpoint_every=1000
    )
    training.train(place, place / "model", place / "checkpoints", params)
    return load(place / "model")


def sealed() -> list[Evaluation]:
    """Questions of the same users that were not taught."""
    asked = tiny.questions(TAUGHT + SEALED)[TAUGHT:]
    return [
        Evaluation(
            example_id=f"ev_{k}", interaction_id=f"in_{k}", beside="", group_id=f"g_{k}", arrived=0, origin="label",
            author="person", weight=1.0, copies=1, topic="", language="en", guideline="", contexts="[]", target="",
            messages=canonical(tiny.user(q)).decode(), target_text=right, kind="answer", offered="[]", rubric="",
        )
        for k, (q, right, _) in enumerate(asked)
    ]  # fmt: skip


def lessons() -> list[Supervised]:
    """The first rows teach a wrong answer."""
    return [
        tiny.example("sft", k, messages=tiny.user(q) + tiny.said(bad if k < WRONG else right), tools="[]", action="")
        for k, (q, right, bad) in enumerate(tiny.questions(TAUGHT))
    ]


def test_rows_that_teach_wrong_answers_help_less_than_those_that_teach_right_ones(policy):
    from tasks.attribution_llm import similar

    rows, asked = lessons(), sealed()
    every = [r.example_id for r in rows]
    who = [Group("annotator", f"an_{a}", frozenset(every[a : a + 30])) for a in range(0, TAUGHT, 30)]
    refit = similar(policy, rows, [], asked)
    found = {a.group: a for a in attribute(refit, who, every, [r.group_id for r in asked], PARAMS)}
    assert min(found, key=lambda name: found[name].excess) == "an_0"
    assert found["an_0"].excess < -1
    assert all(a.effect is None for a in found.values())


def test_a_pair_the_wrong_way_round_points_the_other_way(policy):
    from tasks.attribution_llm import similar

    asked = sealed()
    pairs, turned = [], []
    for k, (q, right, bad) in enumerate(tiny.questions(10)):
        for rows, chosen, rejected in ((pairs, right, bad), (turned, bad, right)):
            said = {"chosen": tiny.said(chosen), "rejected": tiny.said(rejected)}
            known = {"contexts": [], "tools": "[]", "chosen_action": "", "rejected_action": ""}
            rows.append(tiny.example("preference", k, prompt=tiny.user(q), **said, **known))
    assert all(isinstance(p, Preference) for p in pairs)
    ids = {p.example_id for p in pairs}
    straight, around = (similar(policy, [], rows, asked)(ids).probability for rows in (pairs, turned))
    assert np.allclose(straight, -around, atol=1e-6) and straight.any()


def test_gradients_are_the_same_bytes_each_time_and_leave_the_model_as_it_was(policy, tmp_path: Path):
    from tasks.policy.llm.gradients import directions

    q, right, _ = tiny.questions(1)[0]
    before = policy.respond([tiny.user(q)], [[]])
    first, again = (directions(policy, [tiny.user(q)] * 2, [right, ""]) for _ in range(2))
    assert first.tobytes() == again.tobytes()
    assert np.linalg.norm(first[0]) == pytest.approx(1, abs=1e-5)
    assert policy.respond([tiny.user(q)], [[]]) == before
