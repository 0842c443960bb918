"""The advisor: which methods the data supports, what is missing in numbers, and what to beware of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from tasks import shards
from tasks.errors import INVALID, Refused
from tasks.examples import TABLES
from tasks.params import load
from tasks.policy.advisor import TEXTS, Advice, AdviseParams, Held, advise, read, refuse_too_few
from tests.imports import ROOT
from tests.tables import example

PARAMS = load(ROOT / "params.yaml", "advise", AdviseParams)
EMPTY = {name: Held() for name in TEXTS}


def advice(method: str, **held: Held) -> Advice:
    return next(a for a in advise(EMPTY | held, PARAMS) if a.method == method)


def test_enough_rows_are_ready_and_one_too_few_are_not() -> None:
    ready = advice("sft", sft=Held(rows=PARAMS.sft))
    assert ready.ready and ready.text == f"SFT: ready ({PARAMS.sft} rows, {PARAMS.sft} needed)"
    short = advice("sft", sft=Held(rows=PARAMS.sft - 1))
    assert not short.ready and short.text == f"SFT: 1 more supervised row ({PARAMS.sft - 1} of {PARAMS.sft})"


def test_what_is_missing_is_a_number() -> None:
    assert advice("dpo", preference=Held(rows=60)).text == "DPO: 140 more preference pairs (60 of 200)"


def test_kto_needs_both_labels_and_says_how_to_weigh_them() -> None:
    one = advice("kto", unpaired=Held(rows=500, teaches=(("true", 500),)))
    assert not one.ready and one.text == "KTO: 100 more answers that people called bad (0 of 100)"
    uneven = advice("kto", unpaired=Held(rows=600, teaches=(("false", 100), ("true", 500))))
    assert uneven.ready and uneven.warnings == ("500 good and 100 bad answers: weigh the bad ones 5.0 times",)
    hopeless = advice("kto", unpaired=Held(rows=2100, teaches=(("false", 2000), ("true", 100))))
    assert "more than 10 to one" in hopeless.warnings[0]
    assert advice("kto", unpaired=Held(rows=280, teaches=(("false", 120), ("true", 160)))).warnings == ()


def test_grpo_needs_checks_or_a_reward_model() -> None:
    prompts = Held(rows=150, checked=40)
    assert advice("grpo", prompts=prompts).missing == (
        "60 more prompts with checks (40 of 100)", "or a reward model: it judges prompts that have no checks",
    )  # fmt: skip
    assert advice("grpo", prompts=prompts, reward=Held(rows=PARAMS.reward)).ready
    assert advice("grpo", prompts=Held(rows=100, checked=100)).ready


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (Held(rows=200, long=3), "3 rows longer than 4,096 tokens"),
        (Held(rows=200, repeated=41), "41 rows of 200 ask what another row asks too"),
        (Held(rows=200, teaches=(("refund", 200),)), "all rows teach one answer (refund)"),
        (Held(rows=200, teaches=(("battery", 60), ("refund", 140))), "70% of the rows teach one answer (refund)"),
    ],
)
def test_what_blocks_is_warned_of(held: Held, said: str) -> None:
    (warning,) = advice("sft", sft=held).warnings
    assert said in warning


def test_what_is_in_order_is_not_warned_of() -> None:
    fine = Held(rows=200, repeated=40, teaches=(("battery", 100), ("refund", 100)))
    assert advice("sft", sft=fine).warnings == ()
    assert advice("sft", sft=Held(rows=200, teaches=(("", 200),))).warnings == ()  # free texts: no answer is named


def test_a_training_on_too_little_is_refused_in_the_same_words() -> None:
    with pytest.raises(Refused, match="SFT: 98 more supervised rows") as refused:
        refuse_too_few(EMPTY | {"sft": Held(rows=2)}, PARAMS, {"sft"})
    assert refused.value.exit_code == INVALID
    refuse_too_few(EMPTY | {"sft": Held(rows=100)}, PARAMS, {"sft"})


def test_a_dataset_is_counted_as_it_is(tmp_path: Path) -> None:
    def said(text: str) -> str:
        return orjson.dumps([{"role": "user", "content": text}, {"role": "assistant", "content": "Five days."}]).decode()

    sft = [example("sft", n, messages=said(f"question {n}"), action="refund") for n in range(5)]
    sft += [example("sft", 7, messages=said("question 0"), action="invoice")]
    sft += [example("sft", 8, messages=said("long " * 9000), action="")]
    unpaired = [example("unpaired", n, label=n < 2) for n in range(6)]
    prompts = [example("prompts", n, checks="[]" if n == 0 else '[{"check":"action","value":"refund"}]') for n in range(4)]
    made = {"sft": sft, "unpaired": unpaired, "prompts": prompts, "preference": [], "reward": []}
    for table, rows in made.items():
        shards.write_rows(tmp_path / "parquet/train" / table, TABLES[table].row, rows)
    found = read(tmp_path, PARAMS)
    assert found["sft"] == Held(rows=7, repeated=1, long=1, teaches=(("", 1), ("invoice", 1), ("refund", 5)))
    assert found["unpaired"].teaches == (("false", 4), ("true", 2))
    assert (found["prompts"].rows, found["prompts"].checked) == (4, 3)
    assert found["reward"] == Held()


def test_a_dataset_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="does not exist"):
        read(tmp_path, PARAMS)


def test_lower_thresholds_are_enough_for_more() -> None:
    few = replace(PARAMS, preference=60)
    assert next(a for a in advise(EMPTY | {"preference": Held(rows=60)}, few) if a.method == "dpo").ready
