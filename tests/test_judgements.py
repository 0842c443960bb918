"""Answers of several people to any kind of question become one judgement, and the examples that it makes."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import orjson
import pytest

from tasks.examples import CuratedJudgement, judgement_examples, ranked, written
from tasks.judgements import AGREED, OPEN, Judgement, judgements
from tasks.kinds import KINDS, checked
from tasks.overlap import Decision, Limits
from tasks.records import Annotation, canonical
from tests.handmade import annotation
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
        interaction_id="ix_1", kind=kind, group_id="gr_1", side="train", part="mined", propensity=0.5,
        messages='[{"content":"when?","role":"user"}]', contexts="[]", question="when?", response="In ten days.",
        answers=[{"id": i, "text": f"text {i}"} for i in "abc"], value=canonical(value).decode(), confidence=0.9, votes=2,
        guideline=f"{kind}/1",
    )  # fmt: skip
    return replace(made, **changes)


def test_a_written_answer_teaches_and_is_preferred_to_what_was_served():
    sft, pairs = written(
        [judgement("correction", {"text": "In five days."}), judgement("sentiment", {"sentiment": "neutral"})]
    )
    assert [x.messages[-1] for x in sft] == [{"role": "assistant", "content": "In five days."}]
    assert [(p.chosen[0]["content"], p.rejected[0]["content"], p.origin) for p in pairs] == [
        ("In five days.", "In ten days.", "written")
    ]
    unchanged = written([judgement("correction", {"text": "In ten days."})])
    assert (len(unchanged[0]), unchanged[1]) == (1, [])


def test_a_ranking_makes_a_pair_of_each_two_that_differ_and_none_with_an_unacceptable_winner():
    pairs = ranked([judgement("ranking", {"ranks": [["b"], ["a", "c"]], "unacceptable": []})])
    assert [(p.chosen[0]["content"], p.rejected[0]["content"]) for p in pairs] == [
        ("text b", "text a"),
        ("text b", "text c"),
    ]
    assert ranked([judgement("ranking", {"ranks": [["a"], ["b"], ["c"]], "unacceptable": ["a", "b", "c"]})]) == []


def test_every_judgement_is_an_example_on_its_own_side_of_the_wall():
    rows = [judgement("spans", {"spans": []}), judgement("rubric", {"tone": 4}, interaction_id="ix_2", side="holdout")]
    examples = judgement_examples(rows)
    assert [(x.kind, x.split, x.value) for x in examples] == [
        ("spans", "train", {"spans": []}),
        ("rubric", "holdout", {"tone": 4}),
    ]
    assert len({x.example_id for x in examples}) == 2
    assert orjson.loads(orjson.dumps(examples[0].value)) == {"spans": []}
