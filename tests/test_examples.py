"""Labels become examples in TRL's shapes, and only confirmed answers become targets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from tasks.examples import Curated, Preference, holdout, preferences, served_action, supervised
from tasks.records import canonical
from tests.handmade import CATALOGUE, TEXT

MESSAGES = [{"role": "user", "content": "when do I see my money?"}]


BY_TEXT = {a.text: a for a in CATALOGUE}


def prefer(rows: list[Curated]) -> list[Preference]:
    return preferences(rows, BY_TEXT)


def label(
    name: str, verdict: str = "wrong", target: str = "refund", served: str = "invoice", **changes: Any
) -> Curated:
    made = Curated(
        interaction_id=f"ix_{name}",
        group_id=f"gr_{name}",
        side="train",
        part="mined",
        propensity=0.5,
        messages=canonical(MESSAGES).decode(),
        contexts="[]",
        question="when do I see my money?",
        response=TEXT.get(served, "Some free text."),
        served=served,
        verdict=verdict,
        target=target,
        target_text=TEXT.get(target, ""),
        p_wrong=0.9,
        p_target=0.93,
        votes=3,
        kind="answer",
        topic="billing",
    )
    return replace(made, **changes)


def free(name: str, verdict: str, response: str, **changes: Any) -> Curated:
    """A label of a free text: people said right or wrong, nobody named an approved answer."""
    return label(name, verdict, "", "", response=response, kind="text", topic="", **changes)


def test_a_correction_teaches_the_text_of_the_approved_answer():
    (row,) = supervised([label("1")])
    assert row.messages == [*MESSAGES, {"role": "assistant", "content": TEXT["refund"]}]
    assert (row.action, row.origin, row.weight) == ("refund", "correction", 0.93)


def test_a_confirmed_answer_teaches_what_was_served():
    (row,) = supervised([label("1", "right", "refund", "refund")])
    assert (row.messages[-1]["content"], row.origin) == (TEXT["refund"], "confirmed")
    (row,) = supervised([free("2", "right", "Five days.")])
    assert (row.messages[-1]["content"], row.action, row.origin) == ("Five days.", "", "confirmed")


def test_a_wrong_answer_without_a_correction_teaches_nothing_to_say():
    assert supervised([free("1", "wrong", "We ship to Norway.")]) == []


def test_a_correction_is_preferred_to_what_was_served():
    (pair,) = prefer([label("1")])
    assert pair.prompt == MESSAGES
    assert pair.chosen == [{"role": "assistant", "content": TEXT["refund"]}]
    assert pair.rejected == [{"role": "assistant", "content": TEXT["invoice"]}]
    assert (pair.chosen_action, pair.rejected_action, pair.origin) == ("refund", "invoice", "correction")


@pytest.mark.parametrize(
    "row", [label("1", "right", "refund", "refund"), label("2", response="  "), free("3", "wrong", "x")]
)
def test_no_pair_comes_of_a_right_answer_nor_of_an_empty_one_nor_without_a_correction(row: Curated):
    assert prefer([row]) == []


def test_a_confirmed_answer_is_preferred_to_the_best_other_one_that_was_retrieved():
    found = [{"id": k, "text": TEXT[k], "score": 0.5} for k in ("refund", "invoice", "battery")]
    served = label("1", "right", "refund", "refund", contexts=canonical(found).decode())
    assert [(p.chosen_action, p.rejected_action, p.origin) for p in prefer([served])] == [
        ("refund", "invoice", "confirmed")
    ]
    alone = label("2", "right", "refund", "refund", contexts=canonical(found[:1]).decode())
    assert prefer([alone]) == []


def test_two_answers_of_opposite_verdict_to_the_same_prompt_make_a_pair():
    rows = [free("1", "right", "Five days."), free("2", "wrong", "Never."), free("3", "wrong", "Soon.")]
    assert [(p.chosen[0]["content"], p.rejected[0]["content"]) for p in prefer(rows)] == [
        ("Five days.", "Never."),
        ("Five days.", "Soon."),
    ]


def test_answers_to_other_prompts_or_from_other_documents_are_not_compared():
    other = canonical([{"role": "user", "content": "another"}]).decode()
    assert prefer([free("1", "right", "Five."), free("2", "wrong", "Never.", messages=other)]) == []
    assert prefer([free("1", "right", "Five."), free("2", "wrong", "Never.", contexts='[{"id":"kb"}]')]) == []


def test_the_same_text_with_two_verdicts_is_no_pair():
    assert prefer([free("1", "right", "Five."), free("2", "wrong", "Five.")]) == []


def test_a_holdout_row_holds_the_right_answer_and_not_what_was_served():
    (row,) = holdout([label("1")])
    assert (row.target, row.target_text, row.offered) == ("refund", TEXT["refund"], [])
    assert row.messages == MESSAGES
    assert TEXT["invoice"] not in canonical([row.messages, row.contexts, row.offered]).decode()


def test_rated_answers_to_one_prompt_are_one_holdout_row_to_choose_from():
    (row,) = holdout([free("1", "right", "Five days."), free("2", "wrong", "Never.")])
    assert row.offered == [{"text": "Five days.", "right": True}, {"text": "Never.", "right": False}]
    assert row.target == row.target_text == ""


@pytest.mark.parametrize("verdict", ["right", "wrong"])
def test_a_prompt_whose_answers_are_all_alike_can_show_nothing(verdict: str):
    assert holdout([free("1", verdict, "Five days."), free("2", verdict, "Soon.")]) == []


def test_example_ids_are_unique_and_last():
    rows = [label("1"), label("2"), free("3", "right", "a"), free("4", "wrong", "b"), free("5", "wrong", "c")]
    made = [x.example_id for x in (*supervised(rows), *prefer(rows), *holdout(rows))]
    assert len(set(made)) == len(made)
    again = [x.example_id for x in (*supervised(rows), *prefer(rows), *holdout(rows))]
    assert again == made


def test_a_served_text_is_recognised_whole_and_but_for_its_edges():
    by_text = {a.text.strip(): a for a in CATALOGUE}
    assert served_action(f"  {TEXT['refund']}\n", by_text) == "refund"
    assert served_action(TEXT["refund"][:-5], by_text) == ""
    assert orjson.loads(canonical({"served": served_action("", by_text)})) == {"served": ""}
