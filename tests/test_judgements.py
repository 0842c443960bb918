"""Answers of several people to any kind of question become one judgement, and the examples that it makes."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import orjson
import pytest

from tasks.examples import TABLES, judged
from tasks.frozen import CuratedJudgement
from tasks.judgements import AGREED, OPEN, Judgement, judgements
from tasks.kinds import KINDS, checked
from tasks.overlap import Decision, Limits
from tasks.records import Annotation, canonical
from tests.handmade import NOON, annotation
from tests.tool_conformance import APPROVED, VALUES, ask

LIMITS = Limits(first=2, most=5, sure=0.9)


def said(kind: str, *values: dict[str, Any], about: str = "1") -> list[Annotation]:
    """One person's answer each."""
    return [
        annotation(about, f"p{n}", kind=kind, value=v, annotation_id=f"an_{about}_{kind}_{n}", guideline=f"{kind}/1")
        for n, v in enumerate(values)
    ]


def one(kind: str, *values: dict[str, Any]) -> Judgement:
    (found,) = judgements(KINDS[kind], said(kind, *values), LIMITS)
    return found


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"answer", "correction"}))
def test_people_who_say_the_same_are_believed_and_keep_the_shape_of_the_kind(kind: str):
    value = checked(KINDS[kind], VALUES[kind][0], ask(kind), APPROVED)
    found = one(kind, value, value, value)
    assert (found.state, found.votes) == (AGREED, 3)
    assert found.parsed == value
    assert checked(KINDS[kind], found.parsed, ask(kind), APPROVED) == value


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"answer"}))
def test_the_order_of_answers_and_of_people_changes_nothing(kind: str):
    answers = said(kind, VALUES[kind][0], VALUES[kind][1], VALUES[kind][0])
    shuffled = random.Random(1).sample(answers, len(answers))
    assert judgements(KINDS[kind], shuffled, LIMITS) == judgements(KINDS[kind], answers, LIMITS)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"answer", "note"}))
def test_an_expert_decides(kind: str):
    first, second = VALUES[kind]
    answers = said(kind, first, first)
    expert = replace(annotation("1", "xenia", kind=kind, value=second), role="expert", guideline=f"{kind}/1")
    (found,) = judgements(KINDS[kind], [*answers, expert], LIMITS)
    assert (found.value, found.state, found.confidence) == (canonical(second).decode(), AGREED, 1.0)


def spans(*places: tuple[int, int, str]) -> dict[str, Any]:
    text = "0123456789" * 3
    return {"spans": [{"start": a, "end": b, "text": text[a:b], "label": label} for a, b, label in places]}


def test_spans_are_what_more_than_half_have_marked():
    found = one(
        "spans",
        spans((2, 8, "contradicted")),
        spans((4, 9, "contradicted")),
        spans((5, 8, "contradicted"), (20, 22, "unsupported")),
    )
    assert found.parsed == spans((4, 8, "contradicted"))
    assert found.decision is Decision.ADJUDICATE and found.state == OPEN  # three people, soft F1 below .7


def test_a_span_keeps_the_evidence_of_who_gave_it():
    evidence = {"context": 0, "start": 0, "end": 3, "text": "abc"}
    with_evidence = spans((2, 6, "contradicted"))
    with_evidence["spans"][0]["evidence"] = evidence
    found = one("spans", with_evidence, spans((2, 6, "contradicted")))
    assert found.parsed["spans"] == [with_evidence["spans"][0]]


def test_one_policy_may_be_agreed_on_while_another_is_not():
    found = one("safety", {"policies": ["privacy"]}, {"policies": ["privacy", "hate"]}, {"policies": ["privacy"]})
    assert found.parsed == {"policies": ["privacy"]}


def test_grades_a_step_apart_are_agreement_and_two_are_not():
    assert one("relevance", {"grades": {"0": 3, "1": 0}}, {"grades": {"0": 2, "1": 0}}).parsed == {
        "grades": {"0": 2, "1": 0}
    }
    apart = one("relevance", {"grades": {"0": 3, "1": 0}}, {"grades": {"0": 3, "1": 2}})
    assert (apart.state, apart.decision) == (OPEN, Decision.ASK_AGAIN)


def test_a_ranking_by_several_is_by_mean_rank_with_ties():
    found = one("ranking", {"ranks": [["a"], ["b"], ["c"]]}, {"ranks": [["b"], ["a"], ["c"]]})
    assert found.parsed == {"ranks": [["a", "b"], ["c"]], "unacceptable": []}


def test_one_written_answer_waits_for_an_expert():
    alone = one("correction", {"text": "Five working days."})
    assert (alone.state, alone.decision) == (OPEN, Decision.ADJUDICATE)


def test_somebody_good_beside_somebody_bad_is_no_second_opinion():
    feels = [{"sentiment": "negative"}, {"sentiment": "positive"}]
    good = [a for k in range(30) for a in said("sentiment", *[feels[k % 2]] * 3, about=f"g{k}")]
    disputed = said("sentiment", *feels, about="x")
    found = {j.interaction_id: j for j in judgements(KINDS["sentiment"], good + disputed, LIMITS)}
    assert found["ix_x"].state == OPEN and found["ix_g1"].state == AGREED


def test_a_field_that_is_asked_only_sometimes_goes_with_what_it_depends_on():
    escalate = {"action": "escalate", "route": "legal"}
    assert one("action", escalate, escalate, {"action": "refuse"}).parsed == escalate
    assert "route" not in one("action", escalate, {"action": "refuse"}, {"action": "refuse"}).parsed


# What they become


def judgement(kind: str, value: dict[str, Any], **changes: Any) -> CuratedJudgement:
    made = CuratedJudgement(
        judgement_id="jd_1", interaction_id="ix_1", arrived=NOON, kind=kind, group_id="gr_1", side="train", part="mined",
        propensity=0.5, session_id="s-1", user="", tenant="", language="en", messages='[{"content":"when?","role":"user"}]',
        contexts='[{"id":"kb","text":"Refunds take five days."},{"id":"faq","text":"Bikes."}]', tools="[]", question="when?",
        response="In ten days.", answers=canonical([{"id": i, "text": f"text {i}"} for i in "abc"]).decode(),
        value=canonical(value).decode(), confidence=0.9, votes=2, annotators='["ana"]', guideline=f"{kind}/1",
    )  # fmt: skip
    return replace(made, **changes)


def made(j: CuratedJudgement) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for table, row in judged.examples(j):
        assert isinstance(row, TABLES[table].row) and j.side in TABLES[table].sides
        found.setdefault(table, []).append(row)
    return found


def texts(pair: Any) -> tuple[str, str]:
    return tuple(orjson.loads(m)[-1]["content"] for m in (pair.chosen, pair.rejected))


def test_a_written_answer_teaches_and_is_preferred_to_what_was_served():
    found = made(judgement("correction", {"text": "In five days."}))
    (row,), (pair,) = found["sft"], found["preference"]
    assert orjson.loads(row.messages)[-1] == {"role": "assistant", "content": "In five days."}
    assert (texts(pair), pair.origin, pair.author) == (("In five days.", "In ten days."), "written", "person")
    assert list(made(judgement("correction", {"text": "In ten days."}))) == ["sft"]


def test_a_ranking_makes_a_pair_of_each_two_that_differ_and_none_with_an_unacceptable_winner():
    found = made(judgement("ranking", {"ranks": [["b"], ["a", "c"]], "unacceptable": []}))
    assert [texts(p) for p in found["preference"]] == [("text b", "text a"), ("text b", "text c")]
    assert [texts(r) for r in found["reward"]] == [("text b", "text a"), ("text b", "text c")]
    assert made(judgement("ranking", {"ranks": [["a"], ["b"], ["c"]], "unacceptable": ["a", "b", "c"]})) == {}


def test_the_further_apart_two_answers_are_ranked_the_larger_the_margin():
    found = made(judgement("ranking", {"ranks": [["b"], ["a"], ["c"]], "unacceptable": []}))
    assert {texts(r): r.margin for r in found["reward"]} == {
        ("text b", "text a"): 0.5, ("text b", "text c"): 1.0, ("text a", "text c"): 0.5,
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["correction", "ranking"])
def test_nothing_of_the_holdout_trains(kind: str):
    value = {"text": "In five days."} if kind == "correction" else {"ranks": [["b"], ["a"], ["c"]], "unacceptable": []}
    assert made(judgement(kind, value, side="holdout")) == {}


def test_marked_spans_become_tags_of_tokens_and_say_whether_the_answer_is_grounded():
    marked = [{"start": 3, "end": 11, "text": "ten days", "label": "contradicted"}]
    found = made(judgement("spans", {"spans": marked}, side="holdout"))
    (row,), (grounding,) = found["spans"], found["grounding"]
    assert list(zip(orjson.loads(row.tokens), orjson.loads(row.tags), strict=True)) == [
        ("In", "O"), ("ten", "B-contradicted"), ("days", "I-contradicted"), (".", "O"),
    ]  # fmt: skip
    assert (row.task, row.text, orjson.loads(row.spans)) == ("hallucination", "In ten days.", marked)
    assert grounding.grounded is False
    assert made(judgement("spans", {"spans": []}))["grounding"][0].grounded is True


def test_two_names_beside_each_other_are_two():
    marked = [{"start": 0, "end": 3, "text": "Ann", "label": "person"}, {"start": 4, "end": 7, "text": "Ben", "label": "person"}]
    (row,) = made(judgement("entities", {"entities": marked}, question="Ann Ben went"))["spans"]
    assert orjson.loads(row.tags) == ["B-person", "B-person", "O"] and row.task == "entities"


def test_every_document_with_a_grade_is_a_row_of_its_own():
    rows = made(judgement("relevance", {"grades": {"0": 3, "1": 0}}))["retrieval"]
    assert [(r.query, r.document_id, r.document, r.grade) for r in rows] == [
        ("when?", "kb", "Refunds take five days.", 3), ("when?", "faq", "Bikes.", 0),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"answer"}))
def test_every_kind_of_judgement_becomes_rows(kind: str):
    rows = judged.examples(judgement(kind, VALUES[kind][0], question=ask(kind).question, response=ask(kind).response,
                                     contexts=canonical(ask(kind).contexts).decode(),
                                     answers=canonical(ask(kind).answers).decode()))  # fmt: skip
    ids = [row.example_id for _, row in rows]
    assert rows and len(set(ids)) == len(ids)
    assert all(row.guideline == f"{kind}/1" and row.weight == 0.9 for _, row in rows)
