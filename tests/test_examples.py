"""Labels become examples in TRL's shapes, and only confirmed answers become targets."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import orjson
import pyarrow as pa
import pytest

from tasks.agreement import served_action
from tasks.calculator import calculator
from tasks.examples import APPROVED, MODEL, TABLES, Evaluation, Regression, labelled
from tasks.examples.sealed import evaluation, regression
from tasks.frozen import Curated
from tasks.records import arrow_schema, canonical, to_arrow
from tests.handmade import CATALOGUE, NOON, TEXT, Approved

MESSAGES = [{"role": "user", "content": "when do I see my money?"}]
NASTY = 'a "quoted" \\ back\u2028slash/\x07 \x1f tab\t line\n ü 漢字 🚲 </script> {"role":"assistant"}]'


def label(
    name: str, verdict: str = "wrong", target: str = "refund", served: str = "invoice", **changes: Any
) -> Curated:
    made = Curated(
        interaction_id=f"ix_{name}",
        arrived=NOON,
        group_id=f"gr_{name}",
        side="train",
        part="mined",
        propensity=0.5,
        session_id=f"s-{name}",
        user="",
        tenant="",
        language="en",
        messages=canonical(MESSAGES).decode(),
        contexts="[]",
        tools="[]",
        question="when do I see my money?",
        response=TEXT.get(served, "Some free text."),
        outputs="[]",
        served=served,
        verdict=verdict,
        target=target,
        target_text=TEXT.get(target, ""),
        p_wrong=0.9,
        p_target=0.93,
        votes=3,
        kind="answer",
        topic="billing",
        annotators='["ana","ben"]',
        guideline="answer/1",
    )
    return replace(made, **changes)


def free(name: str, verdict: str, response: str, **changes: Any) -> Curated:
    """A label of a free text: people said right or wrong, nobody named an approved answer."""
    return label(name, verdict, "", "", response=response, kind="text", topic="", **changes)


def examples(*rows: Curated) -> dict[str, list[Any]]:
    """Every table that the labels make, as the build stage asks for them; columns of JSON parsed."""
    table = pa.Table.from_pylist([asdict(r) for r in rows], arrow_schema(Curated))
    right = {labelled.turn_key(r.session_id, r.response) for r in rows if r.verdict == "right"}
    with calculator() as engine:
        labelled.prepare(engine, to_arrow(Approved, CATALOGUE))
        met = labelled.meetings(engine, [table.select(labelled.MEETING)])
        counted = table.append_column("copies", pa.array([1] * len(rows), pa.int64()))
        made = labelled.examples(engine, counted, met, right)
    return {name: [_parsed(TABLES[name].row, r) for r in t.to_pylist()] for name, t in made.items()}


def _parsed(row: type, values: dict[str, Any]) -> Any:
    nested = [f for f, kind in row.__annotations__.items() if kind == "Json"]
    kept = {k: v for k, v in values.items() if k in arrow_schema(row).names}
    return row(**kept | {f: orjson.loads(values[f]) for f in nested})


def prefer(*rows: Curated) -> list[Any]:
    return examples(*rows)["preference"]


def said(messages: list[dict[str, Any]]) -> str:
    (message,) = messages
    assert message["role"] == "assistant"
    return message["content"]


def test_a_correction_teaches_the_text_of_the_approved_answer():
    (row,) = examples(label("1"))["sft"]
    assert row.messages == [*MESSAGES, {"role": "assistant", "content": TEXT["refund"]}]
    assert (row.action, row.origin, row.author, row.weight) == ("refund", "correction", APPROVED, 0.93)


def test_a_confirmed_answer_teaches_what_was_served():
    (row,) = examples(label("1", "right", "refund", "refund"))["sft"]
    assert (row.messages[-1]["content"], row.origin) == (TEXT["refund"], "confirmed")
    (row,) = examples(free("2", "right", "Five days."))["sft"]
    assert (row.messages[-1]["content"], row.action, row.origin, row.author) == ("Five days.", "", "confirmed", MODEL)


def test_a_wrong_answer_without_a_correction_teaches_nothing_to_say():
    made = examples(free("1", "wrong", "We ship to Norway."))
    assert made["sft"] == made["prompts"] == made["preference"] == []
    assert [(said(x.completion), x.label) for x in made["unpaired"]] == [("We ship to Norway.", False)]


def test_a_confirmed_tool_call_is_taught_as_a_call_with_its_tools():
    call = {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "get_order"}}]}
    tools = canonical([{"type": "function", "function": {"name": "get_order"}}]).decode()
    (row,) = examples(free("1", "right", "", outputs=canonical([call]).decode(), tools=tools))["sft"]
    assert row.messages[-1] == call and row.tools == tools


def test_an_earlier_answer_that_nobody_called_right_is_not_learned():
    turns = [*MESSAGES, {"role": "assistant", "content": "Never."}, {"role": "user", "content": "and now?"},
             {"role": "assistant", "content": "Five days."}, {"role": "user", "content": "sure?"}]  # fmt: skip
    later = label("3", messages=canonical(turns).decode(), session_id="s-1")
    earlier = [free("1", "wrong", "Never.", session_id="s-1"), free("2", "right", "Five days.", session_id="s-1")]
    found = {x.interaction_id: x for x in examples(later, *earlier)["sft"]}
    weights = [m.get("weight") for m in found["ix_3"].messages if m["role"] == "assistant"]
    assert weights == [0, 1, 1]
    assert all("weight" not in m for m in found["ix_2"].messages)


@pytest.mark.parametrize("text", [NASTY, "\\u0041", "[]", '"', ""])
def test_any_text_comes_through_as_it_was(text: str):
    question = canonical([{"role": "user", "content": text}]).decode()
    made = examples(free("1", "right", text, messages=question), free("2", "wrong", text + "!", messages=question))
    for row in made["sft"]:
        assert [m["content"] for m in row.messages] == [text, text]
    for pair in made["preference"]:
        assert (said(pair.chosen), said(pair.rejected)) == (text, text + "!")
        assert pair.prompt == [{"role": "user", "content": text}]
    assert len(made["preference"]) == len(made["reward"]) == (1 if text.strip() else 0) or not text.strip()


def test_texts_are_written_in_canonical_json():
    question = canonical([{"role": "user", "content": NASTY}]).decode()
    table = pa.Table.from_pylist([asdict(free("1", "right", NASTY, messages=question))], arrow_schema(Curated))
    with calculator() as engine:
        labelled.prepare(engine, to_arrow(Approved, CATALOGUE))
        met = labelled.meetings(engine, [])
        (row,) = labelled.examples(engine, table.append_column("copies", pa.array([1])), met, set())["sft"].to_pylist()
    assert row["messages"] == canonical(orjson.loads(row["messages"])).decode()


def test_a_correction_is_preferred_to_what_was_served():
    (pair,) = prefer(label("1"))
    assert pair.prompt == MESSAGES
    assert (said(pair.chosen), said(pair.rejected)) == (TEXT["refund"], TEXT["invoice"])
    assert (pair.chosen_action, pair.rejected_action, pair.origin) == ("refund", "invoice", "correction")


@pytest.mark.parametrize(
    "row", [label("1", "right", "refund", "refund"), label("2", response="  "), free("3", "wrong", "x")]
)
def test_no_pair_comes_of_a_right_answer_nor_of_an_empty_one_nor_without_a_correction(row: Curated):
    assert prefer(row) == []


def test_a_confirmed_answer_is_preferred_to_the_best_other_one_that_was_retrieved():
    found = [{"id": k, "text": TEXT[k], "score": 0.5} for k in ("refund", "invoice", "battery")]
    served = label("1", "right", "refund", "refund", contexts=canonical(found).decode())
    assert [(p.chosen_action, p.rejected_action, p.origin) for p in prefer(served)] == [
        ("refund", "invoice", "confirmed")
    ]
    alone = label("2", "right", "refund", "refund", contexts=canonical(found[:1]).decode())
    assert prefer(alone) == []


def test_two_answers_of_opposite_verdict_to_the_same_prompt_make_a_pair():
    pairs = prefer(free("1", "right", "Five days."), free("2", "wrong", "Never."), free("3", "wrong", "Soon."))
    assert sorted((said(p.chosen), said(p.rejected), p.beside) for p in pairs) == [
        ("Five days.", "Never.", "ix_2"),
        ("Five days.", "Soon.", "ix_3"),
    ]


def test_answers_to_other_prompts_or_from_other_documents_are_not_compared():
    other = canonical([{"role": "user", "content": "another"}]).decode()
    assert prefer(free("1", "right", "Five."), free("2", "wrong", "Never.", messages=other)) == []
    assert prefer(free("1", "right", "Five."), free("2", "wrong", "Never.", contexts='[{"id":"kb"}]')) == []


def test_the_same_text_with_two_verdicts_is_no_pair():
    assert prefer(free("1", "right", "Five."), free("2", "wrong", "Five.")) == []


def test_a_reward_row_is_the_pair_as_two_whole_conversations():
    made = examples(label("1"))
    (pair,), (row,) = made["preference"], made["reward"]
    assert (row.chosen, row.rejected) == (pair.prompt + pair.chosen, pair.prompt + pair.rejected)
    assert row.margin == pair.weight and row.example_id != pair.example_id


def test_a_prompt_says_how_an_answer_to_it_is_checked():
    (row,) = examples(label("1", contexts=canonical([{"id": "kb", "text": "Refunds …"}]).decode()))["prompts"]
    assert (row.prompt, row.ground_truth) == (MESSAGES, TEXT["refund"])
    assert {c["check"]: c["value"] for c in row.checks} == {"action": "refund", "grounded": True, "language": "en"}


def test_where_a_person_or_a_refusal_is_due_there_is_a_safety_row():
    made = examples(label("1", target="escalate", kind="escalate"), label("2"))["safety"]
    assert [(x.interaction_id, x.action, x.response) for x in made] == [("ix_1", "escalate", TEXT["invoice"])]


def sealed(*rows: Curated) -> list[Evaluation]:
    return evaluation(rows, "what is right")


def test_a_sealed_row_holds_the_right_answer_and_not_what_was_served():
    (row,) = sealed(label("1", side="holdout"))
    assert (row.target, row.target_text, row.offered) == ("refund", TEXT["refund"], "[]")
    assert orjson.loads(row.messages) == MESSAGES and row.rubric == "what is right"
    assert TEXT["invoice"] not in row.messages + row.contexts + row.offered


def test_rated_answers_to_one_prompt_are_one_sealed_row_to_choose_from():
    (row,) = sealed(free("1", "right", "Five days."), free("2", "wrong", "Never."))
    assert orjson.loads(row.offered) == [{"text": "Five days.", "right": True}, {"text": "Never.", "right": False}]
    assert row.target == row.target_text == ""


@pytest.mark.parametrize("verdict", ["right", "wrong"])
def test_a_prompt_whose_answers_are_all_alike_can_show_nothing(verdict: str):
    assert sealed(free("1", verdict, "Five days."), free("2", verdict, "Soon.")) == []


def test_a_fixed_cluster_leaves_its_prompts_to_the_regression_suite():
    cluster = {"cluster_id": "cl_1", "cluster": "money · back", "interactions": ["ix_1", "ix_2", "ix_3", "ix_gone"]}
    known = {r.interaction_id: r for r in (label("1"), label("2", side="holdout"), free("3", "wrong", "?"))}
    rows = regression([cluster], known, {"ix_1"})
    assert [(r.interaction_id, r.seen, r.cluster) for r in rows] == [
        ("ix_1", True, "money · back"),
        ("ix_2", False, "money · back"),
    ]
    assert isinstance(rows[0], Regression)


def test_example_ids_are_unique_and_last():
    rows = [label("1"), label("2"), free("3", "right", "a"), free("4", "wrong", "b"), free("5", "wrong", "c")]

    def ids() -> list[str]:
        return [x.example_id for table in examples(*rows).values() for x in table] + [x.example_id for x in sealed(*rows)]

    assert len(set(ids())) == len(ids()) > 15
    assert ids() == ids()


def test_a_served_text_is_recognised_whole_and_but_for_its_edges():
    by_text = {a.text.strip(): a for a in CATALOGUE}
    assert served_action(f"  {TEXT['refund']}\n", by_text) == "refund"
    assert served_action(TEXT["refund"][:-5], by_text) == ""
    assert served_action("", by_text) == ""
