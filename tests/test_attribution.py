"""Which data helped: a planted harm is found, a planted help is found, chance is not; and fitting again is exact."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest

from benchmarks.attribution import _row
from benchmarks.labelled_world import Labelled, drawn, params
from tasks.attribution import HELPED, HURT, Answers, AttributeParams, Group, attribute, groups
from tasks.attribution_light import again, answerable
from tasks.policy import light
from tasks.policy.reward import RewardParams

PARAMS = AttributeParams(groups=3, least_rows=10, controls=6, alpha=0.05, key="k")
EVERY = [f"ex_{k}" for k in range(200)]
PROMPTS = [f"gr_{k}" for k in range(120)]
BAD, GOOD, PLAIN = (frozenset(EVERY[a : a + 25]) for a in (0, 25, 50))


def simulated(without: Collection[str]) -> Answers:
    """A model to whose probabilities each row adds a little for some prompts; BAD rows take away, GOOD rows add much."""
    gain = np.zeros(len(PROMPTS))
    for k, row in enumerate(EVERY):
        if row not in without:
            noise = np.random.default_rng(k).normal(0, 0.002, len(PROMPTS))
            gain += noise + 0.0005 + 0.006 * (row in GOOD) - 0.004 * (row in BAD)
    probability = np.clip(0.4 + gain, 0, 1)
    return Answers(probability > 0.5, probability)


def test_a_group_that_does_harm_and_one_that_helps_are_told_from_ordinary_rows():
    chosen = [Group("annotator", name, rows) for name, rows in (("bad", BAD), ("good", GOOD), ("plain", PLAIN))]
    found = {a.group: a for a in attribute(simulated, chosen, EVERY, PROMPTS, PARAMS)}
    assert (found["good"].verdict, found["bad"].verdict) == (HELPED, HURT)
    assert found["plain"].verdict == "ordinary" and abs(found["plain"].excess) < found["good"].excess
    assert found["good"].probability > 0 > found["bad"].probability
    assert all(a.low <= a.effect <= a.high and a.p <= a.p_adjusted and a.band_low < a.band_high for a in found.values())


def test_the_most_helpful_comes_first_and_the_order_of_groups_changes_nothing():
    chosen = [Group("annotator", name, rows) for name, rows in (("bad", BAD), ("good", GOOD), ("plain", PLAIN))]
    found = attribute(simulated, chosen, EVERY, PROMPTS, PARAMS)
    assert (found[0].group, found[-1].group) == ("good", "bad")
    assert attribute(simulated, chosen[::-1], EVERY[::-1], PROMPTS, PARAMS) == found


def test_random_groups_are_seldom_called_anything():
    draw = np.random.default_rng(5)
    called = 0
    for k in range(20):
        chosen = [Group("x", str(g), frozenset(draw.choice(EVERY[50:], 25, replace=False))) for g in range(4)]
        found = attribute(simulated, chosen, EVERY[50:], PROMPTS, replace(PARAMS, key=str(k)))
        called += sum(a.verdict != "ordinary" for a in found)
    assert called <= 8  # of 80


def test_the_largest_groups_are_looked_at_and_none_that_is_nearly_all_rows_or_has_too_few():
    every = [str(k) for k in range(100)]
    sizes = {"all": 100, "a": 50, "b": 40, "c": 30, "d": 20, "few": 9, "": 60}
    found = groups({"x": {v: every[:n] for v, n in sizes.items()}, "y": {"same as a": every[:50]}}, every, PARAMS)
    assert [(g.by, g.value) for g in found] == [("x", "a"), ("x", "b"), ("x", "c")]


def test_nothing_to_compare_gives_nothing():
    assert attribute(simulated, [], EVERY, PROMPTS, PARAMS) == []


# fitting again


@pytest.fixture(scope="module")
def world() -> Labelled:
    return drawn(2, 300, 150)


def test_the_model_without_some_rows_is_the_one_that_never_had_them(world: Labelled):
    lessons = world.lessons()
    whole = light.fit(lessons, params())
    policy = whole.policy.policy
    sealed = [_row(a) for a in world.sealed]
    refit = again(lessons, sealed, params(), policy.encoder, whole.temperature)
    assert refit(frozenset()).right.tolist() == _rights(policy, world)
    gone = {x.interaction_id for x in world.sft[::6]}
    out = frozenset(x.example_id for x in [*lessons.sft, *lessons.preference] if x.interaction_id in gone)
    fewer = replace(lessons, sft=[x for x in lessons.sft if x.example_id not in out],
                    preference=[x for x in lessons.preference if x.example_id not in out])  # fmt: skip
    # From the base, as the train stage does, with the same encoder.
    cold = again(fewer, sealed, params(), policy.encoder, whole.temperature)(frozenset())
    warm = refit(out)
    assert (cold.right != warm.right).sum() <= 1
    assert np.abs(cold.probability - warm.probability).max() < 0.01
    assert np.abs(refit(frozenset()).probability - warm.probability).max() > 0.05


def _rights(policy: light.Policy, world: Labelled) -> list[bool]:
    replies = policy.respond([a.messages for a in world.sealed], [[]] * len(world.sealed))
    return [r[0].action == a.target for r, a in zip(replies, world.sealed, strict=True)]


def test_a_model_without_any_rows_is_the_base(world: Labelled):
    lessons = world.lessons()
    fitted = light.fit(lessons, params())
    refit = again(lessons, [_row(a) for a in world.sealed], params(), fitted.policy.policy.encoder, fitted.temperature)
    nothing = refit({x.example_id for x in [*lessons.sft, *lessons.preference]})
    assert nothing.right.mean() < refit(frozenset()).right.mean() - 0.1


def test_best_of_n_is_fitted_again_without_its_pairs(world: Labelled):
    lessons = world.lessons()
    some = replace(params(), policy="best_of_n", reward=RewardParams(3.0, 30.0, 30))
    fitted = light.fit(lessons, some)
    by_id = {a.id: a.text for a in world.catalogue}
    wrong = {a.example_id: "refuse" if a.target == "escalate" else "escalate" for a in world.sealed}
    offered = [
        [{"text": a.target_text, "right": True}, {"text": by_id[wrong[a.example_id]], "right": False}] for a in world.sealed
    ]
    sealed = [replace(_row(a), offered=orjson.dumps(o).decode()) for a, o in zip(world.sealed, offered, strict=True)]
    assert answerable(lessons, sealed, "best_of_n") == sealed
    refit = again(lessons, sealed, some, fitted.judge.encoder, None)
    replies = fitted.policy.respond(
        [a.messages for a in world.sealed], [[]] * len(sealed), 1, [[o["text"] for o in x] for x in offered]
    )
    right = [r[0].text == o[0]["text"] for r, o in zip(replies, offered, strict=True)]
    assert refit(frozenset()).right.tolist() == right
    assert (refit({p.example_id for p in lessons.preference[::2]}).probability != refit(frozenset()).probability).any()


# the stage


def test_a_policy_that_cannot_be_fitted_again_is_told_and_blocks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from tasks.stages import attribute as stage
    from tests.imports import ROOT

    monkeypatch.chdir(tmp_path)
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    (tmp_path / "params.yaml").write_text(text.replace("policy: answers ", "policy: command ", 1), encoding="utf-8")
    (tmp_path / "model").mkdir()
    assert (
        stage.main(["--frozen", "f", "--curated", "c", "--dataset", "d", "--model", "model", "--report", "r/a.json"])
        == 0
    )
    told = orjson.loads((tmp_path / "r/a.json").read_bytes())
    assert told["method"] == "none" and "command" in told["reason"] and told["rows"] == []


def test_what_goes_wrong_is_told_in_the_report_and_stops_no_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from tasks.stages import attribute as stage
    from tests.imports import ROOT

    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    (tmp_path / "model").mkdir()
    assert stage.main(["--frozen", "f", "--curated", "c", "--dataset", "d", "--model", "model", "--report", "r/a.json"]) == 0
    told = orjson.loads((tmp_path / "r/a.json").read_bytes())
    assert told["method"] == "none" and "does not exist" in told["reason"] and told["rows"] == []


def test_the_stage_names_groups_by_everything_that_rows_have_in_common(
    world: Labelled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from tasks import shards
    from tasks.examples import TABLES
    from tasks.frozen import Curated, CuratedJudgement
    from tasks.records import arrow_schema, write_jsonl
    from tasks.stages import attribute as stage
    from tests.imports import ROOT

    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    lessons = world.lessons()
    light.fit(lessons, params()).policy.save(tmp_path / "model")
    for side, name, rows in (("train", "sft", lessons.sft), ("train", "preference", lessons.preference),
                             ("holdout", "evaluation", [_row(a) for a in world.sealed])):  # fmt: skip
        shards.write_rows(tmp_path / f"dataset/parquet/{side}/{name}", TABLES[name].row, rows)
    blank = {f.name: {"string": "", "int64": 0, "double": 0.0}[str(f.type)] for f in arrow_schema(Curated)}
    labels = [
        Curated(
            **blank | {"interaction_id": x.interaction_id, "annotators": f'["{world.annotator[x.interaction_id]}"]'}
        )
        for x in lessons.sft
    ]
    shards.write_rows(tmp_path / "curated/labels", Curated, labels)
    shards.write_rows(tmp_path / "curated/judgements", CuratedJudgement, [])
    write_jsonl(tmp_path / "frozen/catalogue.jsonl", world.catalogue)
    write_jsonl(tmp_path / "frozen/questions.jsonl", [{"question": q} for q in world.questions])
    few = [orjson.loads(x.messages)[0]["content"] for x in lessons.sft if x.topic == "account"][:8]
    exemplars = [{"interaction_id": f"ix_{k}", "text": t} for k, t in enumerate(few)]
    write_jsonl(
        tmp_path / "frozen/clusters.jsonl",
        [{"cluster_id": "fc_1", "name": "n", "state": "born", "exemplars": exemplars}],
    )
    arguments = [
        "--frozen",
        "frozen",
        "--curated",
        "curated",
        "--dataset",
        "dataset",
        "--model",
        "model",
        "--report",
        "r/a.json",
    ]
    assert stage.main(arguments) == 0
    first = Path("r/a.json").read_bytes()
    told = orjson.loads(first)
    assert told["method"] == "exact" and told["prompts"] == 150
    assert (
        {"annotator", "source", "topic"}
        <= {r["by"] for r in told["rows"]}
        <= {"annotator", "source", "topic", "cluster"}
    )
    assert not [q for q in few if q in first.decode()]
    assert stage.main(arguments) == 0 and Path("r/a.json").read_bytes() == first
