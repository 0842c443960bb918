"""The nouns survive writing and reading, and their ids depend on content alone."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.errors import Refused
from tasks.records import (
    Annotation,
    Candidate,
    Feedback,
    Interaction,
    Label,
    Member,
    Reject,
    Signal,
    arrow_schema,
    canonical,
    content_id,
    digest,
    read_jsonl,
    read_records,
    to_arrow,
    write_jsonl,
)
from tests.handmade import annotation, interaction

NOUNS = (Interaction, Feedback, Reject, Member, Signal, Candidate, Annotation, Label)
hostile = st.one_of(
    st.text(),
    st.sampled_from(["", "\n", "\r\n", "\u2028", "\x85", "\x00", "a\tb", '"', "\\", "‮abc", "\ufeff", "𝔸", "{}", "NaN"]),
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | hostile,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(hostile, inner, max_size=4),
    max_leaves=12,
)


def test_equal_parts_give_an_equal_id_and_other_parts_another():
    assert content_id("ix", "a", 1) == content_id("ix", "a", 1)
    ids = {content_id("ix", *parts) for parts in (("a", 1), ("a", "1"), ("a1",), ("a", 1, ""), (["a", 1],), ("A", 1))}
    assert len(ids) == 6


def test_an_id_says_what_it_names():
    assert content_id("ix", "a").startswith("ix_")
    assert len(content_id("ix", "a")) == len("ix_") + 24


@given(st.dictionaries(hostile, json_values, max_size=6))
def test_the_order_of_keys_does_not_change_canonical_bytes(value: dict):
    backwards = dict(reversed(value.items()))
    assert canonical(value) == canonical(backwards)
    assert content_id("x", value) == content_id("x", backwards)


@given(json_values)
def test_canonical_json_is_one_line_that_reads_back_the_same(value: object):
    data = canonical(value)
    assert b"\n" not in data
    assert orjson.loads(data) == value
    assert canonical(orjson.loads(data)) == data


@pytest.mark.parametrize("noun", NOUNS)
def test_every_noun_has_a_declared_schema_in_the_order_of_its_fields(noun: type):
    assert arrow_schema(noun).names == [f.name for f in fields(noun)]


def test_only_what_may_be_unknown_is_nullable():
    nullable = {f.name for f in arrow_schema(Interaction) if f.nullable}
    assert nullable == {
        "confidence", "latency_ms", "ttft_ms", "cost_usd",
        "input_tokens", "output_tokens", "cached_input_tokens", "reasoning_tokens",
    }  # fmt: skip
    assert {f.name for f in arrow_schema(Annotation) if f.nullable} == {"seconds"}
    for noun in set(NOUNS) - {Interaction, Annotation}:
        assert not [f.name for f in arrow_schema(noun) if f.nullable], noun


@pytest.mark.parametrize("noun", NOUNS)
def test_a_table_without_rows_has_the_schema_all_the_same(noun: type):
    assert to_arrow(noun, []).schema == arrow_schema(noun)


@given(st.lists(st.tuples(hostile, hostile, st.none() | st.floats(0, 1)), max_size=5))
def test_interactions_come_back_from_arrow_as_they_went_in(rows: list):
    made = [interaction(str(k), q, response=r, confidence=c) for k, (q, r, c) in enumerate(rows)]
    assert [Interaction(**row) for row in to_arrow(Interaction, made).to_pylist()] == made


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(hostile, hostile), max_size=8))
def test_annotations_come_back_from_json_lines_as_they_went_in(tmp_path: Path, notes: list):
    made = [annotation(str(k), who, note=note) for k, (who, note) in enumerate(notes)]
    path = tmp_path / "a" / "annotations.jsonl"
    assert write_jsonl(path, made) == len(made)
    assert read_records(path, Annotation) == made
    assert path.read_bytes().count(b"\n") == len(made)


def test_equal_rows_give_equal_bytes_whether_written_as_nouns_or_as_objects(tmp_path: Path):
    rows = [annotation("1", "ana"), annotation("2", "ben", note="it's\nnot")]
    write_jsonl(tmp_path / "a", rows)
    write_jsonl(tmp_path / "b", list(read_jsonl(tmp_path / "a")))
    assert digest((tmp_path / "a").read_bytes()) == digest((tmp_path / "b").read_bytes())


def test_a_damaged_line_is_refused_with_its_place(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a":1}\n{"a":\n')
    with pytest.raises(Refused, match=r"rows\.jsonl:2"):
        list(read_jsonl(path))


def test_a_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(Refused, match="does not exist"):
        list(read_jsonl(tmp_path / "none.jsonl"))
