"""Language models: five methods learn from the dataset's own rows, the same bytes every time, and answer from a plain folder."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tasks.errors import Refused
from tasks.policy import Trained, folder_digest, load
from tasks.policy.llm import LlmParams, check
from tasks.policy.llm.checks import verified
from tests import tiny
from tests.tiny import needs_torch, said, user

pytestmark = [pytest.mark.slow, needs_torch]
ALL = ["sft", "reward", "dpo", "kto", "grpo"]
ASKED = [user(q) for q, _, _ in tiny.questions(6)]
NOTHING = [[] for _ in ASKED]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.dataset(tmp_path_factory.mktemp("dataset") / "data")


def trained(dataset: Path, place: Path, params: LlmParams, copies: int = 1) -> tuple[Path, Trained]:
    from tasks.policy.llm import training

    return place / "model", training.train(dataset, place / "model", place / "checkpoints", params, copies)


@pytest.fixture(scope="module")
def whole(base: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Trained]:
    """All five methods, one after the other, adapters worked in."""
    return trained(dataset, tmp_path_factory.mktemp("whole"), tiny.params(base=str(base), methods=ALL))


def curve(made: Trained, name: str) -> list[float]:
    return [p.value for p in made.curves if p.metric == name]


def test_every_method_learns_from_its_own_table(whole):
    folder, made = whole
    assert list(made.summary["methods"]) == ALL and made.summary["skipped"] == {}
    assert {m: v["rows"] for m, v in made.summary["methods"].items()} == dict.fromkeys(ALL, tiny.ROWS)
    assert all(v["steps"] and v["tokens"] for v in made.summary["methods"].values())
    for method in ALL:
        assert all(math.isfinite(v) for v in curve(made, f"{method}.loss")) and curve(made, f"{method}.loss")
    assert not list(folder.parent.glob("checkpoints/*")), "nothing is left to go on from"


def test_the_loss_falls_and_what_people_chose_rises_above_what_they_rejected(base, dataset, tmp_path):
    params = tiny.params(
        base=str(base), methods=["sft", "reward", "dpo"], tuning="full", sft_rate=1e-2, sft_epochs=8.0,
        reward_epochs=6.0, dpo_epochs=4.0,
    )  # fmt: skip
    folder, made = trained(dataset, tmp_path, params)
    loss = curve(made, "sft.loss")
    assert np.mean(loss[-3:]) < 0.7 * np.mean(loss[:3])
    assert np.mean(curve(made, "reward.accuracy")[-6:]) > 0.8
    assert np.mean(curve(made, "reward.margin")[-6:]) > np.mean(curve(made, "reward.margin")[:6]) + 0.1
    assert np.mean(curve(made, "dpo.rewards/accuracies")[-6:]) > 0.8
    assert np.mean(curve(made, "dpo.rewards/margins")[-3:]) > 0.05
    policy = load(folder)
    right = policy.judge.score([user(q) for q, _, _ in tiny.questions(40)], [a for _, a, _ in tiny.questions(40)])
    wrong = policy.judge.score([user(q) for q, _, _ in tiny.questions(40)], [w for _, _, w in tiny.questions(40)])
    assert np.mean(np.array(right) > np.array(wrong)) > 0.7, "the reward model that was saved is the one that learned"


def test_the_same_snapshot_and_seed_give_the_same_bytes_and_another_seed_others(whole, base, dataset, tmp_path):
    params = tiny.params(base=str(base), methods=ALL)
    again, _ = trained(dataset, tmp_path / "again", params)
    assert folder_digest(again) == folder_digest(whole[0])
    other = replace(params, seed=2, methods=["sft"])
    assert folder_digest(trained(dataset, tmp_path / "other", other)[0]) != folder_digest(
        trained(dataset, tmp_path / "one", replace(other, seed=1))[0]
    )


def test_merged_or_apart_the_answers_are_the_same(base, dataset, tmp_path):
    params = tiny.params(base=str(base), methods=["sft", "reward"], sft_epochs=2.0)
    merged, _ = trained(dataset, tmp_path / "merged", params)
    apart, _ = trained(dataset, tmp_path / "apart", replace(params, merge=False))
    assert (merged / "model" / "model.safetensors").is_file() and not (apart / "model").exists()
    assert (apart / "adapter" / "adapter_model.safetensors").stat().st_size < (
        merged / "model" / "model.safetensors"
    ).stat().st_size
    one, other = load(merged), load(apart)
    texts = [[a for _, a, _ in tiny.questions(3)]] * len(ASKED)
    for n, offered in ((1, None), (2, texts)):
        for a, b in zip(
            one.respond(ASKED, NOTHING, n, offered), other.respond(ASKED, NOTHING, n, offered), strict=True
        ):
            assert [r.text for r in a] == [r.text for r in b]
            assert np.allclose([r.confidence for r in a], [r.confidence for r in b], atol=2e-5)


def test_an_adapter_on_a_base_that_changed_is_refused(dataset, tmp_path):
    own = tiny.base(tmp_path / "own")
    folder, _ = trained(dataset, tmp_path, tiny.params(base=str(own), methods=["sft"], merge=False))
    tiny.base(own, seed=2)
    with pytest.raises(Refused, match="another"):
        load(folder)


def test_a_folder_holds_safetensors_and_text_and_no_place_of_this_machine(whole, base, dataset, tmp_path):
    apart, _ = trained(dataset, tmp_path, tiny.params(base=str(base), methods=["sft"], merge=False))
    for folder in (whole[0], apart):
        files = [p for p in folder.rglob("*") if p.is_file()]
        assert {p.suffix for p in files} == {".json", ".safetensors", ".jinja"}
        for path in files:
            if path.name not in ("policy.json", "adapter_config.json"):  # they name llm.base, as it was given
                assert str(tmp_path.parent).encode() not in path.read_bytes(), path


def test_a_saved_copy_answers_as_the_original(whole, tmp_path):
    policy = load(whole[0])
    policy.save(tmp_path / "copy")
    assert folder_digest(tmp_path / "copy") == folder_digest(whole[0])
    assert load(tmp_path / "copy").respond(ASKED, NOTHING, 3) == policy.respond(ASKED, NOTHING, 3)


def test_answers_do_not_depend_on_their_neighbours(whole):
    policy = load(whole[0])
    together = policy.respond(ASKED, NOTHING)
    for alone, row in zip((policy.respond([c], [[]]) for c in ASKED), together, strict=True):
        assert alone[0][0].text == row[0].text
        assert alone[0][0].confidence == pytest.approx(row[0].confidence, abs=1e-5)
    assert policy.respond([], []) == []


def test_confidence_is_the_mean_chance_of_the_tokens(whole):
    """Against one forward pass over one row, without padding."""
    import torch

    policy = load(whole[0])
    asked = policy.tokenizer.apply_chat_template(ASKED[0], add_generation_prompt=True, return_dict=True)["input_ids"]
    answer = policy.tokenizer("Refunds take five days.")["input_ids"]
    with torch.inference_mode():
        logs = policy.model(torch.tensor([asked + answer])).logits[0].log_softmax(-1)
        by_hand = float(np.mean([logs[len(asked) + k - 1, t] for k, t in enumerate(answer)]))
        short, other = policy.tokenizer("Yes")["input_ids"], policy.tokenizer("hi")["input_ids"]
        found = policy.likelihood([asked, other, asked], [answer, short, []])
    assert found[0] == pytest.approx(by_hand, abs=1e-5) and found[2] == 0.0


def test_of_offered_texts_the_reward_model_chooses_and_without_one_the_likeliest_wins(whole, base, dataset, tmp_path):
    judged = load(whole[0])
    texts = [a for _, a, _ in tiny.questions(5)]
    (ranked,) = judged.respond([ASKED[0]], [[]], 5, [texts])
    scores = dict(zip(texts, judged.judge.score([ASKED[0]] * 5, texts), strict=True))
    assert [r.text for r in ranked] == sorted(texts, key=lambda t: -scores[t])
    assert sum(r.confidence for r in ranked) == pytest.approx(1, abs=1e-4)
    alone, _ = trained(dataset, tmp_path, tiny.params(base=str(base), methods=["sft"], sft_epochs=8.0, tuning="full"))
    (likely,) = load(alone).respond([ASKED[0]], [[]], 2, [["zq zq zq", texts[0]]])
    assert [r.text for r in likely] == [texts[0], "zq zq zq"]


def test_the_rows_that_are_learned_are_the_assistants_words_and_tools_are_in_the_prompt(base, dataset, tmp_path):
    from tasks.policy.llm import models, rows, trainers

    tokens = models.tokens(base)
    start = trainers.Start(models.found(str(base), ""), models.Weights(), None)
    for only, expected in ((True, said), (False, None)):
        params = tiny.params(base=str(base), assistant_only_loss=only)
        made = trainers._sft(start, rows.read(dataset, "sft"), params, tmp_path, tokens)
        for row, (_, right, _) in zip(made.train_dataset, tiny.questions(tiny.ROWS), strict=True):
            learned = tokens.decode([t for t in row["labels"] if t != -100])
            if expected:
                assert learned == f"{right}\n<|end|>" or learned == f"{right}<|end|>"
            else:
                assert learned == tokens.decode(row["input_ids"])
    first, second = (tokens.decode(made.train_dataset[k]["input_ids"]) for k in (0, 1))
    assert first.startswith('<|tools|>{"function": {"description": "Find it"') and "<|tools|>" not in second


def test_the_template_of_a_base_without_one_marks_what_the_assistant_says(base, tmp_path):
    from tasks.policy.llm import models

    tokens = models.tokens(base)
    tokens.chat_template = models.TEMPLATE
    called = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"function": {"name": "find", "arguments": {"of": 7}}}],
    }
    talk = [
        {"role": "system", "content": "Be kind."},
        *user("where?"),
        called,
        {"role": "tool", "content": "[1]"},
        *said("Here."),
    ]
    made = tokens.apply_chat_template(talk, tools=[tiny.TOOL], return_dict=True, return_assistant_tokens_mask=True)
    marked = tokens.decode([t for t, m in zip(made["input_ids"], made["assistant_masks"], strict=True) if m])
    assert marked == 'call find {"of": 7}<|end|>Here.<|end|>'
    text = tokens.decode(made["input_ids"])
    assert '"name": "find"' in text.partition("system:")[0] and "tool:\n[1]" in text
    asked = tokens.apply_chat_template(talk[:2], add_generation_prompt=True, tokenize=False)
    assert tokens.apply_chat_template([*talk[:2], *said("Here.")], tokenize=False).startswith(asked), (
        "what is learned is what is asked"
    )


def test_packed_rows_do_not_see_each_other(base, dataset, tmp_path):
    """The mean loss over the same tokens is the same, whether rows stand alone or in one sequence."""
    found = {}
    for packing in (False, True):
        params = tiny.params(
            base=str(base),
            methods=["sft"],
            packing=packing,
            batch=64,
            tuning="full",
            max_length=4096 if packing else 256,
        )
        _, made = trained(dataset, tmp_path / str(packing), params)
        found[packing] = curve(made, "sft.loss")[0]
    assert found[True] == pytest.approx(found[False], rel=2e-3)


def test_a_row_that_stands_for_several_is_learned_as_often_up_to_a_point(tmp_path):
    from tasks import shards
    from tasks.examples import TABLES
    from tasks.policy.llm import rows

    made = [
        tiny.example("sft", k, copies=c, messages=user(f"q{k}") + said("a"), tools="[]", action="")
        for k, c in enumerate((1, 3, 9))
    ]
    spec = TABLES["sft"]
    shards.write_rows(tmp_path / "parquet/train/sft", spec.row, made, tmp_path / "jsonl/train/sft", spec.trains)
    asked = [r["prompt"][0]["content"] for r in rows.read(tmp_path, "sft", 4)]
    assert asked == ["q0", *["q1"] * 3, *["q2"] * 4]


def test_rows_that_are_longer_than_the_model_reads_are_counted(base, dataset, tmp_path):
    _, made = trained(dataset, tmp_path, tiny.params(base=str(base), methods=["sft"], max_length=60))
    tokens = load(tmp_path / "model").tokenizer
    rows = [user(q) + said(a) for q, a, _ in tiny.questions(tiny.ROWS)]
    longer = [k for k, r in enumerate(rows) if len(tokens.apply_chat_template(r, return_dict=True)["input_ids"]) > 60]
    assert made.summary["methods"]["sft"]["too_long"] == len({0, *longer}) > 1, "the first has a tool besides"


def test_a_method_with_too_few_rows_is_left_out_and_said_so(base, dataset, tmp_path):
    folder, made = trained(dataset, tmp_path, tiny.params(base=str(base), min_rows=tiny.ROWS + 1))
    assert made.summary["methods"] == {} and set(made.summary["skipped"]) == {"sft", "reward", "dpo"}
    kept, was = tiny.weights(folder / "model"), tiny.weights(base)
    assert kept.keys() == was.keys() and all(np.array_equal(kept[k], was[k]) for k in kept)


def test_the_reward_for_policy_optimisation_rises_towards_the_right_answer():
    right = "Refunds take 5 working days."
    answers = ["", "bananas", "Refunds take days", "working days: refunds take 5", right]
    worth = verified([said(a) for a in answers], [right] * len(answers))
    assert worth == sorted(worth) and (worth[0], worth[-1]) == (0.0, 1.0) and worth[-2] < 1


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"base": ""}, "names no model"),
        ({"tuning": "lorra"}, "llm.tuning"),
        ({"methods": ["sft", "ppo"]}, "llm.methods"),
        ({"methods": ["sft", "sft"]}, "twice"),
        ({"methods": ["grpo", "reward"]}, "none is trained before"),
        ({"methods": ["reward", "grpo"], "grpo_generations": 3}, "whole batches"),
        ({"methods": ["kto"], "batch": 1}, "llm.batch is 1"),
        ({"max_new_tokens": 256}, "no room"),
    ],
)
def test_parameters_that_contradict_themselves_are_refused(changes, why):
    with pytest.raises(Refused, match=why):
        check(tiny.params(**{"base": "x", **changes}))


def test_a_base_with_pickled_weights_alone_unpinned_or_changed_is_refused(base, tmp_path):
    from tasks.policy.llm import models

    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "config.json").write_text("{}")
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(Refused, match="pickle"):
        models.found(str(tmp_path / "pickled"), "")
    for branch in ("", "main"):
        with pytest.raises(Refused, match="commit"):
            models.found("someone/model", branch)
    with pytest.raises(Refused, match="digest"):
        models.found(str(base), "0" * 12)
    digest = models.found(str(base), "").digest
    assert models.found(str(base), digest[:12]).digest == digest


def test_what_needs_a_gpu_is_refused_without_one(base, dataset, tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    for changes, why in (({"precision": "bf16"}, "no GPU"), ({"tuning": "qlora"}, "no GPU")):
        with pytest.raises(Refused, match=why):
            trained(dataset, tmp_path, tiny.params(base=str(base), **changes))
    assert not (tmp_path / "model").exists()


def test_policy_json_says_what_it_is(whole, base):
    described = json.loads((whole[0] / "policy.json").read_bytes())
    assert (
        described["kind"] == "llm"
        and described["form"] == "whole"
        and described["base"] == str(base)
        and described["reward"]
    )


def test_several_processes_train_one_model_together(base, dataset, tmp_path):
    """Two on this processor, one a GPU elsewhere: each sees half of every batch."""
    alone = tiny.params(base=str(base), methods=["sft", "reward", "dpo"], batch=8)
    one, lone = trained(dataset, tmp_path / "one", alone)
    two, both = trained(dataset, tmp_path / "two", replace(alone, batch=4, processes=2))
    steps = {m: v["steps"] for m, v in lone.summary["methods"].items()}
    assert {m: v["steps"] for m, v in both.summary["methods"].items()} == steps
    ours, theirs = tiny.weights(one / "model"), tiny.weights(two / "model")
    was = tiny.weights(base)
    moved = np.concatenate([(ours[k] - was[k]).ravel() for k in was])
    apart = np.concatenate([(theirs[k] - was[k]).ravel() for k in was])
    assert np.corrcoef(moved, apart)[0, 1] > 0.9, "the same steps, but for the order of rows and sums"
    with pytest.raises(Refused, match="at step"):
        trained(dataset, tmp_path / "nan", replace(alone, batch=4, processes=2, sft_rate=1e30))
