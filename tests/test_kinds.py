"""Kinds of judgement: what a person may answer, and that nothing else gets in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import BadRecord, Refused
from tasks.guidelines import changed, newest, parse, touched
from tasks.kinds import KINDS, RATING, SPANS, askable, checked, with_options
from tests.imports import ROOT
from tests.tool_conformance import APPROVED, VALUES, ask

ASK = ask("spans")
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.floats(allow_nan=True) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("kind", sorted(VALUES))  # a team's own kinds have a test of their own (docs/extend.md)
def test_an_answer_of_every_kind_is_kept_as_it_was_given(kind: str):
    asked = ask(kind)
    kept = checked(KINDS[kind], VALUES[kind][0], asked, frozenset(APPROVED))
    assert checked(KINDS[kind], kept, asked, frozenset(APPROVED)) == kept
    assert set(kept) <= {f.name for f in KINDS[kind].fields} | {"unacceptable"}


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(KINDS)), JUNK)
def test_whatever_comes_back_is_an_answer_or_a_reject(kind: str, junk: Any):
    fields = [f.name for f in KINDS[kind].fields]
    for value in (junk, dict.fromkeys(fields, junk)):
        try:
            kept = checked(KINDS[kind], value, ask(kind), frozenset(APPROVED))
        except BadRecord as e:
            assert e.code in {"bad_value", "missing_field", "changed_text", "unknown_answer"}
        else:
            assert checked(KINDS[kind], kept, ask(kind), frozenset(APPROVED)) == kept


def span(start: int, end: int, text: str, **more: Any) -> dict[str, Any]:
    return {"spans": [{"start": start, "end": end, "text": text, "label": "unsupported"} | more]}


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (span(0, 2, "xx"), "changed_text"),
        (span(0, 10_000, "x"), "bad_value"),
        (span(2, 2, ""), "bad_value"),
        (span(0, 1, ASK.response[:1], label="invented"), "bad_value"),
        (span(0, 1, ASK.response[:1], evidence={"context": 9, "start": 0, "end": 1, "text": "x"}), "bad_value"),
        (span(0, 1, ASK.response[:1], evidence={"context": 0, "start": 0, "end": 1, "text": "§"}), "changed_text"),
        ({}, "missing_field"),
    ],
)
def test_a_span_that_is_not_in_the_text_is_rejected(value: dict, code: str):
    with pytest.raises(BadRecord) as caught:
        checked(KINDS["spans"], value, ASK, frozenset())
    assert caught.value.code == code


def test_offsets_are_code_points():
    asked = replace(ASK, response="😀👍🏽 a\r\nb 30 days")
    start = asked.response.index("30")
    assert checked(KINDS["spans"], span(start, start + 7, "30 days"), asked, frozenset())["spans"][0]["start"] == start
    utf16 = start + 3  # each of three code points outside the first plane counts twice there
    with pytest.raises(BadRecord, match=r"changed_text|no part"):
        checked(KINDS["spans"], span(utf16, utf16 + 7, "30 days"), asked, frozenset())


@pytest.mark.parametrize(
    "ranks", [[["an_a"]], [["an_a", "an_a"], ["an_b"]], [["an_a"], ["an_x"]], [["an_a"], [], ["an_b"]], "an_a", [[1]]]
)
def test_a_ranking_ranks_each_answer_once(ranks: Any):
    asked = replace(ask("ranking"), answers=[{"id": "an_a", "text": "a"}, {"id": "an_b", "text": "b"}])
    with pytest.raises(BadRecord):
        checked(KINDS["ranking"], {"ranks": ranks}, asked, frozenset())
    tie = checked(KINDS["ranking"], {"ranks": [["an_b", "an_a"]], "unacceptable": ["an_a", "an_b"]}, asked, frozenset())
    assert tie == {"ranks": [["an_a", "an_b"]], "unacceptable": ["an_a", "an_b"]}


def test_what_a_kind_needs_has_to_be_there():
    assert not askable(KINDS["spans"], [], []) and askable(KINDS["spans"], [{}], [])
    assert not askable(KINDS["ranking"], [{}], [{}]) and askable(KINDS["ranking"], [], [{}, {}])
    assert askable(KINDS["sentiment"], [], [])


def test_a_team_has_its_own_options_and_dimensions():
    assert with_options(KINDS["safety"], {"policies": ["spoilers"]}).main.options == ("spoilers",)
    rubric = with_options(KINDS["rubric"], {"dimensions": ["kindness"]})
    assert [(f.name, f.type) for f in rubric.fields] == [("kindness", RATING)]
    with pytest.raises(KeyError):
        with_options(KINDS["safety"], {"colours": ["red"]})


# Guidelines


def test_every_kind_has_a_guideline_whose_clauses_are_about_its_fields():
    versions = {
        p.stem: parse(p.stem, p.read_text(encoding="utf-8")) for p in (ROOT / "data" / "guidelines").glob("*.md")
    }
    assert set(newest(versions.values())) == set(KINDS)
    for g in versions.values():
        options = {(f.name, o) for f in g.kind.fields for o in f.options} | {
            ("correction", "escalate"),
            ("correction", "refuse"),
        }
        assert g.clauses
        assert {(f, o) for c in g.clauses for f, o in c.about if o} <= options, g.version


ONE = "# Safety\n## privacy (policies=privacy)\nTells data.\n## hate (policies=hate)\nDemeans.\n"


def test_a_changed_clause_touches_only_answers_that_say_what_it_is_about():
    old, new = parse("safety-1", ONE), parse("safety-2", ONE.replace("Demeans.", "Demeans people."))
    assert {c.id for c in changed(old, new)} == {"hate"}
    assert touched([{"policies": []}, {"policies": ["hate"]}], old, new)
    assert not touched([{"policies": []}, {"policies": ["privacy"]}], old, new)
    assert not touched([{"policies": ["hate"]}], old, parse("safety-2", ONE + "\n"))


def test_a_clause_about_everything_and_changed_options_touch_everything():
    old = parse("safety-1", "## scope\nThe answer only.\n")
    assert touched([{"policies": []}], old, parse("safety-2", "## scope\nThe question as well.\n"))
    head = "---\noptions: {policies: [privacy]}\n---\n"
    assert touched([{"policies": []}], old, parse("safety-2", head + "## scope\nThe answer only.\n"))


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("answer", "x", "not named after a kind"),
        ("colour-1", "x", "not named after a kind"),
        ("safety-1", "---\noptions: {colours: [red]}\n---\n", "no options for"),
        ("safety-1", "---\n- a\n---\n", "its head is not"),
        ("safety-1", "---\noptions: {policies: [\n---\n", "not valid YAML"),
        ("safety-1", "## a (colour=red)\n", "no field of safety"),
    ],
)
def test_a_malformed_guideline_is_refused_with_its_name(name: str, text: str, why: str):
    with pytest.raises(Refused, match=why) as caught:
        parse(name, text)
    assert f"data/guidelines/{name}.md" in caught.value.why


def test_the_newest_version_is_by_number_and_not_by_name():
    versions = [parse(f"answer-{n}", "x") for n in (2, 10, 9)]
    assert newest(versions)["answer"].version == "answer/10"


def test_spans_of_every_kind_mark_a_text_that_is_shown():
    assert {f.over for k in KINDS.values() for f in k.fields if f.type == SPANS} == {"response", "question"}
