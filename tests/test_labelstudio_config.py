"""Label Studio without the server: the configs that are made, and answers there and back."""

from __future__ import annotations

import contextlib
import itertools
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import BadRecord, Refused
from tasks.kinds import CHOICE, CHOICES, KINDS, RANKING, RATING, SPANS, Ask, Field, Kind, checked, with_options
from tasks.live.handoff.labelstudio import _task
from tasks.live.handoff.labelstudio.config import NONE, TAGS, config, control, instruction, parts
from tasks.live.handoff.labelstudio.server import connect
from tasks.live.handoff.labelstudio.values import values
from tests.handmade import CATALOGUE, SHARED
from tests.labelstudio_server import results

QUESTION = "When does Ada 😀 of Acme get\r\nher 40 EUR? $response"
RESPONSE = "Refunds are possible within\r\n30 days 👍🏽, and shipping is free."
CONTEXTS = ("Policy v3: refunds within 14 days.\r\nNo exceptions.", "Shipping costs 4 EUR.", "")
APPROVED = frozenset(a.id for a in CATALOGUE)


def ask(kind: str, **changes: Any) -> Ask:
    made = Ask(
        ask_id=f"ak_{kind}", batch_id="bt_1", candidate_id="cd_1", kind=kind, content_hash="ch_1", question=QUESTION,
        history=[], contexts=[{"id": f"d{n}", "text": text} for n, text in enumerate(CONTEXTS)], response=RESPONSE,
        answers=[{"id": f"an_{n}", "text": f"answer {n}"} for n in "abcd"], wanted=2, answered_by=[], role="annotator",
        round=1, guideline=f"{kind}/1", due="",
    )  # fmt: skip
    return replace(made, **changes)


def data(*asks: Ask) -> dict[str, Any]:
    return _task(asks, "", KINDS)["data"]


def back(given: list[dict], *asks: Ask) -> dict[str, dict[str, Any]]:
    return values(given, [a.kind for a in asks], data(*asks))


def spans_over(text: str, labels: tuple[str, ...], evidence: bool) -> st.SearchStrategy:
    def span(ends: tuple[int, int], label: str, source: tuple[int, int, int] | None) -> dict[str, Any]:
        start, end = min(ends), max(ends) + 1
        made: dict[str, Any] = {"start": start, "end": end, "text": text[start:end], "label": label}
        if source and evidence:
            place, first, last = source[0], min(source[1:]), max(source[1:]) + 1
            said = CONTEXTS[place][first:last]
            # What people paste has no blanks around it, and is found where it stands first.
            if said.strip() == said and said:
                at = CONTEXTS[place].index(said)
                made["evidence"] = {"context": place, "start": at, "end": at + len(said), "text": said}
        return made

    place = st.integers(0, len(text) - 1)
    source = st.none() | st.tuples(st.integers(0, 1), st.integers(0, 20), st.integers(0, 20))
    return st.lists(st.builds(span, st.tuples(place, place), st.sampled_from(labels), source), max_size=4)


@st.composite
def answered(draw: st.DrawFn, kind: Kind) -> dict[str, Any]:
    """Any right value of the kind."""
    value: dict[str, Any] = {}
    for field in kind.fields:
        hidden = field.when is not None and value.get(field.when[0]) != field.when[1]
        if hidden or (not field.required and draw(st.booleans())):
            continue
        value[field.name] = draw(field_value(field))
    if kind.main.type == RANKING:
        value["unacceptable"] = draw(st.lists(st.sampled_from(["an_a", "an_b", "an_c", "an_d"]), unique=True))
    return value


def field_value(field: Field) -> st.SearchStrategy:
    if field.type == CHOICE:
        return st.sampled_from(sorted(APPROVED) if field.source else field.options)
    if field.type == CHOICES:
        return st.lists(st.sampled_from(field.options), unique=True)
    if field.type == RATING:
        grade = st.integers(field.low, field.high)
        return st.fixed_dictionaries({str(n): grade for n in range(len(CONTEXTS))}) if field.each else grade
    if field.type == SPANS:
        return spans_over(QUESTION if field.over == "question" else RESPONSE, field.options, field.evidence)
    if field.type == RANKING:
        order = st.permutations(["an_a", "an_b", "an_c", "an_d"])
        return st.builds(cut, order, st.sets(st.integers(1, 3)))
    return st.text(min_size=1, max_size=200).filter(str.strip)


def cut(order: list[str], at: set[int]) -> list[list[str]]:
    edges = [0, *sorted(at), len(order)]
    return [list(order[a:b]) for a, b in itertools.pairwise(edges)]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(draw=st.data())
def test_a_right_value_comes_back_as_it_was(kind: str, draw: st.DataObject):
    asked = ask(kind)
    right = checked(KINDS[kind], draw.draw(answered(KINDS[kind])), asked, APPROVED)
    came = back(results(KINDS[kind], right, data(asked)), asked)
    assert checked(KINDS[kind], came[kind], asked, APPROVED) == right


def test_all_kinds_of_one_candidate_are_read_apart():
    asks = [ask("answer"), ask("safety"), ask("rubric"), ask("spans")]
    right = {
        "answer": {"verdict": "wrong", "correction": "refund"},
        "safety": {"policies": []},
        "rubric": {f.name: 3 for f in KINDS["rubric"].fields},
        "spans": {"spans": []},
    }
    given = [r for a in asks for r in results(KINDS[a.kind], right[a.kind], data(*asks))]
    assert back(given, *asks) == right


def reason(kind: str, given: list[dict]) -> str:
    with pytest.raises(BadRecord) as refused:
        checked(KINDS[kind], back(given, ask(kind))[kind], ask(kind), APPROVED)
    return refused.value.code


def choice(name: str, *chosen: str, **more: Any) -> dict[str, Any]:
    return {"id": "r", "from_name": name, "type": "choices", "to_name": "question", "value": {"choices": list(chosen)}} | more


def test_what_does_not_fit_is_refused_with_a_reason_and_never_raises():
    right = {"start": 27, "end": 29, "text": RESPONSE[27:29], "labels": ["contradicted"]}
    span = {"id": "x", "from_name": "spans__spans__spans", "type": "labels", "value": right}
    whole = choice("spans__spans__spans__whole", "all are marked")
    assert reason("answer", []) == "missing_field"
    assert reason("answer", [choice("answer__verdict__choice", "perhaps")]) == "bad_value"
    assert reason("answer", [choice("answer__verdict__choice", "right", "wrong")]) == "bad_value"
    assert reason("answer", [choice("answer__verdict__choice", "right")] * 2) == "bad_value", "answered twice"
    assert reason("answer", [choice("answer__verdict__choice", "right"), choice("other", "x")]) == "bad_value"
    assert reason("safety", []) == "missing_field", "nothing chosen is not: none of these"
    assert reason("safety", [choice("safety__policies__choices", NONE, "hate")]) == "bad_value"
    assert reason("rubric", [choice(control("rubric", f.name, RATING), "9") for f in KINDS["rubric"].fields]) == "bad_value"
    assert reason("relevance", [choice("relevance__grades__rating__0", "3")]) == "bad_value", "two documents without a grade"
    assert reason("spans", []) == "missing_field", "nothing marked is not: nothing to mark"
    assert reason("spans", [whole]) == "missing_field"
    assert reason("spans", [span, choice("spans__spans__spans__whole", "there is nothing to mark")]) == "bad_value"
    assert reason("spans", [span | {"value": right | {"start": 26}}, whole]) == "changed_text"
    assert reason("spans", [span | {"value": {"labels": ["contradicted"]}}, whole]) == "bad_value"
    said = {"id": "x", "from_name": "spans__spans__spans__evidence", "type": "textarea", "value": {"text": ["not there"]}}
    assert reason("spans", [span, said, whole]) == "changed_text"
    assert reason("ranking", [choice("ranking__ranks__ranking__rank__0", "1")]) == "unknown_answer"
    assert reason("ranking", [choice("ranking__ranks__ranking__rank__9", "1")]) == "unknown_answer"
    for junk in (None, 5, "x", [None], [{}], [{"from_name": "answer__verdict__choice"}], [{"from_name": None, "value": 3}]):
        reason("answer", junk)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "id": st.text(max_size=3),
                "from_name": st.sampled_from([
                    control(k.name, f.name, f.type, *rest)
                    for k in KINDS.values()
                    for f in k.fields
                    for rest in ((), ("0",), ("rank", "x"), ("unacceptable", "1"), ("evidence",), ("document",), ("whole",))
                ]),
                "value": st.recursive(
                    st.none() | st.integers() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3)
                    | st.dictionaries(st.sampled_from(["choices", "text", "start", "labels"]), inner, max_size=3),
                ),
            },
        )
    )
)  # fmt: skip
def test_no_result_that_the_server_may_hold_stops_a_pull(given: list[dict]):
    for kind in KINDS:
        came = back(given, ask(kind))[kind]
        with contextlib.suppress(BadRecord):
            checked(KINDS[kind], came, ask(kind), APPROVED)


def test_a_passage_over_a_line_break_is_the_slice_and_a_moved_one_is_not():
    def marked(start: int) -> dict[str, Any]:
        value = {"start": start, "end": start + 9, "text": "within\\n\\n3", "labels": ["contradicted"]}
        return {"id": "x", "from_name": "spans__spans__spans", "to_name": "response", "type": "labels", "value": value}

    at = RESPONSE.index("within")
    assert back([marked(at)], ask("spans"))["spans"]["spans"][0]["text"] == "within\r\n3"
    assert reason("spans", [marked(at - 1)]) == "changed_text"


def test_evidence_is_found_whatever_the_browser_makes_of_line_breaks():
    span = {"id": "x", "from_name": "spans__spans__spans", "type": "labels",
            "value": {"start": 0, "end": 7, "text": RESPONSE[:7], "labels": ["contradicted"]}}  # fmt: skip
    said = {"id": "x", "from_name": "spans__spans__spans__evidence", "type": "textarea",
            "value": {"text": ["refunds within 14 days.\nNo exceptions."]}}  # fmt: skip
    (found,) = back([span, said], ask("spans"))["spans"]["spans"]
    assert found["evidence"] == {"context": 0, "start": 11, "end": len(CONTEXTS[0]), "text": CONTEXTS[0][11:]}


def tree(*kinds: Kind, **more: Any) -> ET.Element:
    return ET.fromstring(config(kinds, more.get("catalogue", CATALOGUE), 3, 4))


def test_no_config_has_a_tag_or_an_attribute_that_renders_markup():
    options = {"topics": ["<b>", "a,b", "$response", '"&', "]]>"]}
    for kinds in [*([k] for k in KINDS.values()), [*KINDS.values()], [with_options(KINDS["topics"], options)]]:
        for element in tree(*kinds).iter():
            assert element.tag in TAGS
            assert not {"html", "hint", "granularity", "saveTextResult", "defaultValue"} & set(element.attrib), element.tag
            if element.tag == "Text":
                assert element.get("valueType") == "text", "otherwise an address in it is fetched"
            if element.tag in ("Choice", "Label"):
                assert "$" not in element.get("value"), "Label Studio takes it for the name of a task's data"


def test_options_are_stored_as_they_are_however_they_are_shown():
    (box,) = tree(with_options(KINDS["topics"], {"topics": ["$5", "<b>", "ok"]})).iter("Choices")
    assert [c.get("alias") or c.get("value") for c in box] == ["$5", "<b>", "ok", NONE]
    approved = tree(KINDS["answer"]).find(".//Choices[@name='answer__correction__choice']")
    assert {c.get("alias") for c in approved} == APPROVED
    assert approved[0].get("value") == "refund: Refund time"


def test_a_field_that_depends_on_another_is_hidden_until_then():
    box = tree(KINDS["action"]).find(".//Choices[@name='action__route__choice']")
    assert box.get("visibleWhen") == "choice-selected"
    assert (box.get("whenTagName"), box.get("whenChoiceValue")) == ("action__action__choice", "escalate")


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_a_control_says_its_kind_and_field_whatever_they_are_called(kind: str, field: str):
    name = control(kind, field, RATING, "3")
    assert parts(name) == [kind, field, RATING, "3"]
    assert re.fullmatch(r"[A-Za-z0-9_-]+", name)


def test_a_guideline_is_text_in_the_instruction():
    assert "<script>" not in instruction(["# <script>alert(1)</script>\n<img src=x onerror=alert(1)>"])
    assert "<img" not in instruction(["<img src=x onerror=alert(1)>"])


def test_a_task_does_not_say_why_it_was_chosen_and_keeps_its_offsets():
    shown = data(ask("entities", question="a\0b", history=[{"role": "user", "content": "hi"}]))
    assert shown["question"] == "a\ufffdb" and shown["history"] == [{"title": "", "text": "user:\nhi"}]
    assert set(shown) == {"flywheel", "question", "response", "history", "contexts", "answers"}
    assert set(shown["flywheel"]["asks"][0]) == {"ask_id", "batch_id", "candidate_id", "kind", "content_hash", "guideline"}


def test_where_the_server_is_must_be_said_and_be_safe():
    key = {"FLYWHEEL_LABELSTUDIO_TOKEN": "0" * 40}
    for url in ("", "label.example.org", "https://kim:secret@label.example.org", "http://label.example.org", "ftp://x"):
        with pytest.raises(Refused) as refused:
            connect({"FLYWHEEL_LABELSTUDIO_URL": url} | key)
        assert "secret" not in str(refused.value)
    with pytest.raises(Refused, match="TOKEN is not set"):
        connect({"FLYWHEEL_LABELSTUDIO_URL": "http://127.0.0.1:8080"})
    assert connect({"FLYWHEEL_LABELSTUDIO_URL": "http://localhost:8080/"} | key).url == "http://localhost:8080"


@pytest.mark.skipif(not (SHARED / "labelstudio").is_dir(), reason="the exports that were made by hand are not here")
def test_the_shapes_are_those_that_label_studio_exports():
    """What its page stored of clicks (1.23.2), under the names of our controls."""

    def exported(kind: str, file: str = "export.json") -> list[dict]:
        read = orjson.loads((Path(SHARED) / "labelstudio" / kind / file).read_bytes())
        return read[0]["annotations"][0]["result"] if file == "export.json" else read

    names = {"span": "spans__spans__spans", "fix": "spans__spans__spans__evidence", "rel_0": "relevance__grades__rating__0",
             "rel_1": "relevance__grades__rating__1", "corrected": "correction__text__text",
             "error_type": "correction__errors__choices", "sentiment": "sentiment__sentiment__choice"}  # fmt: skip

    def ours(kind: str) -> list[dict]:
        return [r | {"from_name": names[r["from_name"]]} for r in exported(kind) if r["from_name"] in names]

    source = "Policy v3: refunds within 14 days."
    answer = "Refunds are possible within 30 days, and shipping is free."
    asked = ask("spans", response=answer, contexts=[{"id": "d", "text": source}])
    spans = values(ours("hallucination_spans"), ["spans"], data(asked))["spans"]
    assert [s["text"] for s in checked(KINDS["spans"], spans, asked, APPROVED)["spans"]] == ["30 days", "shipping is free"]
    assert spans["spans"][0]["evidence"]["text"] == "14 days"
    assert values(ours("retrieval_relevance"), ["relevance"], data(asked))["relevance"] == {"grades": {"0": 3, "1": 0}}
    correction = values(ours("correction"), ["correction"], data(asked))["correction"]
    assert correction == {"text": "The refund window is 14 days.", "errors": ["factual"]}
