"""Log dialects: what is good comes out, what is bad is rejected alone and with its reason, and nothing crashes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.errors import BadRecord
from tasks.formats import load_line, parse
from tasks.formats.fields import Parsed, RawInteraction
from tasks.records import canonical
from tests.handmade import NOON, SHARED, asked, attribute, chat_span, line, said, traces


def parse_line(data: bytes) -> Parsed:
    return parse(load_line(data))


def answer(found: RawInteraction) -> str:
    return found.outputs[0]["content"]


def rejected(data: bytes | dict) -> str:
    """The reason for which a line that holds one record is rejected."""
    try:
        parsed = parse_line(data if isinstance(data, bytes) else line(data))
    except BadRecord as e:
        return e.code
    assert not parsed.interactions and not parsed.feedback
    assert len(parsed.rejects) == 1
    return parsed.rejects[0].code


# The project's own lines


def test_an_interaction_line_becomes_an_interaction():
    document = asked("r-1", contexts=[{"id": "kb-1", "text": "Five days.", "score": 1}], confidence=1, input_tokens=7.0)
    parsed = parse_line(line(document))
    (found,) = parsed.interactions
    assert (found.native_id, found.response_id, found.session_id, found.user_id) == ("r-1", "r-1", "s-1", "u-9")
    assert found.ts == NOON
    assert found.messages == document["messages"] and answer(found) == document["response"]
    assert found.contexts == [{"id": "kb-1", "text": "Five days.", "score": 1.0}]
    assert (found.confidence, found.latency_ms, found.input_tokens, found.output_tokens) == (1.0, None, 7, None)
    assert not parsed.feedback and not parsed.rejects and not parsed.attached


def test_a_feedback_line_becomes_feedback_with_its_value_untouched():
    for value in (True, False, 0, 4.5, "", "no!", {"stars": 2}, []):
        (found,) = parse_line(line(said("f-1", "r-1", value=value))).feedback
        assert (found.target, found.name, found.value) == ("r-1", "thumb", value)


@pytest.mark.parametrize("target", [{"response_id": "r-1"}, {"id": "r-1"}, {"trace_id": "r-1"}])
def test_feedback_may_name_a_response_a_record_or_a_trace(target: dict):
    (found,) = parse_line(line(said("f-1", "", target=target))).feedback
    assert found.target == "r-1"


def test_an_empty_answer_is_an_answer_and_a_missing_one_is_not():
    (found,) = parse_line(line(asked("r-1", response=""))).interactions
    assert answer(found) == ""
    assert rejected(asked("r-1", response=None)) == "missing_field"


def test_times_in_another_zone_are_the_same_moment():
    for time in ("2026-01-05T12:00:00Z", "2026-01-05T13:00:00+01:00", "2026-01-05T06:30:00.000000-05:30"):
        assert parse_line(line(asked("r", time=time))).interactions[0].ts == NOON


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"time": "2026-01-05T12:00:00"}, "bad_time"),  # no zone: it could be any hour
        ({"time": "2026-01-05"}, "bad_time"),
        ({"time": "yesterday"}, "bad_time"),
        ({"time": None}, "bad_time"),
        ({"time": 1767614400}, "bad_time"),
        ({"time": "1970-01-21T11:00:14Z"}, "bad_time"),  # seconds that were read as milliseconds
        ({"time": "2226-01-05T12:00:00Z"}, "bad_time"),
        ({"time": "0001-01-01T00:00:00+23:59"}, "bad_time"),
        ({"time": "9999-12-31T23:59:59-23:59"}, "bad_time"),
        ({"id": None}, "missing_field"),
        ({"id": ""}, "missing_field"),
        ({"id": 17}, "bad_type"),
        ({"user_id": ["u"]}, "bad_type"),
        ({"session_id": 5}, "bad_type"),
        ({"response": {"text": "x"}}, "bad_type"),
        ({"messages": None}, "no_content"),
        ({"messages": []}, "no_content"),
        ({"messages": "when?"}, "no_content"),
        ({"messages": ["when?"]}, "bad_message"),
        ({"messages": [{"role": "user"}]}, "bad_message"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "bad_message"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "bad_message"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "bad_message"),
        ({"messages": [{"role": "system", "content": "x"}]}, "no_question"),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}, "no_question"),
        ({"contexts": "kb-1"}, "bad_contexts"),
        ({"contexts": ["kb-1"]}, "bad_contexts"),
        ({"contexts": [{"id": 3}]}, "bad_type"),
        ({"confidence": "high"}, "bad_number"),
        ({"confidence": True}, "bad_number"),
        ({"input_tokens": -1}, "bad_number"),
        ({"input_tokens": 1.5}, "bad_number"),
        ({"input_tokens": 2**64}, "bad_number"),
        ({"flywheel": "interaction/2"}, "unknown_version"),
        ({"flywheel": None}, "unknown_version"),
        ({"flywheel": ["interaction/1"]}, "unknown_version"),
    ],
)
def test_a_wrong_field_rejects_the_interaction_with_its_reason(changes: dict, code: str):
    assert rejected(asked("r-1", **changes)) == code


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"target": None}, "no_target"),
        ({"target": "r-1"}, "no_target"),
        ({"target": {}}, "no_target"),
        ({"target": {"response_id": ""}}, "no_target"),
        ({"target": {"response_id": ["r-1"]}}, "bad_type"),
        ({"name": None}, "missing_field"),
        ({"id": None}, "missing_field"),
        ({"time": "2026-01-05T12:00:00"}, "bad_time"),
    ],
)
def test_a_wrong_field_rejects_the_feedback_with_its_reason(changes: dict, code: str):
    assert rejected(said("f-1", "r-1") | changes) == code


# Lines that are no record at all


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "bad_json"),
        (b"not json", "bad_json"),
        (b'{"flywheel": "interaction/1"', "bad_json"),
        (b"[]", "bad_json"),
        (b"17", "bad_json"),
        (b"null", "bad_json"),
        (b'"flywheel"', "bad_json"),
        (b"\xff\xfe\x00", "bad_json"),
        (b'{"flywheel": NaN}', "bad_json"),
        (b'{"flywheel": 1e999}', "bad_json"),
        (b'{"flywheel": "\\ud800"}', "bad_json"),  # half of a surrogate pair is no text
        (b'{"flywheel": ' + b"9" * 5000 + b"}", "bad_json"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "bad_json"),
        (b"{}", "unknown_dialect"),
        (b'{"role": "user", "content": "hi"}', "unknown_dialect"),
    ],
)
def test_what_is_no_record_is_rejected_with_its_reason(data: bytes, code: str):
    assert rejected(data) == code


def test_an_unknown_dialect_is_named_by_its_keys():
    with pytest.raises(BadRecord, match="model, prompt"):
        parse_line(b'{"prompt": "x", "model": "y"}')


def test_a_line_beyond_the_limit_is_refused_before_it_is_read(monkeypatch):
    monkeypatch.setattr("tasks.formats.MAX_LINE_BYTES", 100)
    assert rejected(b'{"flywheel": "' + b"x" * 100 + b'"}') == "too_long"


def test_a_byte_order_mark_does_not_hide_a_line():
    assert len(parse_line(b"\xef\xbb\xbf" + line(asked("r-1"))).interactions) == 1


# OTLP


def test_a_chat_span_becomes_an_interaction():
    (found,) = parse_line(line(traces(chat_span()))).interactions
    assert found.native_id == "65747c7a70eb81d8:5a17"
    assert (found.response_id, found.session_id, found.user_id) == ("resp-5a17", "s-1", "u-9")
    assert (found.ts, found.latency_ms) == (NOON, 1500.0)
    assert found.messages == [{"role": "user", "content": "when?"}]
    assert (answer(found), found.finish_reason) == ("In five days.", "stop")
    assert (found.confidence, found.input_tokens, found.output_tokens) == (0.75, 12, None)


def test_structured_values_say_the_same_as_json_text():
    as_text = parse_line(line(traces(chat_span()))).interactions
    structured = {
        "gen_ai.input.messages": [{"role": "user", "parts": [{"type": "text", "content": "when?"}]}],
        "gen_ai.output.messages": [{"role": "assistant", "parts": [{"type": "text", "content": "In five days."}]}],
    }
    assert parse_line(line(traces(chat_span(attributes=structured)))).interactions == as_text


def retrieval_span(**changes: Any) -> dict[str, Any]:
    documents = json.dumps([{"id": "kb-1", "content": "Five days.", "score": 0.7}])
    attributes = {"gen_ai.operation.name": "retrieval", "gen_ai.retrieval.documents": documents}
    return {"traceId": "65747c7a70eb81d8", "spanId": "0d0c",
            "attributes": [attribute(k, v) for k, v in (attributes | changes).items()]}  # fmt: skip


@pytest.mark.parametrize("order", [1, -1])
def test_what_was_retrieved_in_the_same_trace_becomes_the_context_whatever_comes_first(order: int):
    parsed = parse_line(line(traces(*[retrieval_span(), chat_span()][::order])))
    assert parsed.interactions[0].contexts == [{"id": "kb-1", "text": "Five days.", "score": 0.7}]
    assert parsed.attached == 1


def test_what_was_retrieved_in_another_trace_does_not():
    parsed = parse_line(line(traces(retrieval_span() | {"traceId": "ffff"}, chat_span())))
    assert parsed.interactions[0].contexts == []


def evaluation(**attributes: Any) -> dict[str, Any]:
    ordinary = {"gen_ai.evaluation.name": "thumb", "gen_ai.evaluation.score.value": 0}
    return {
        "name": "gen_ai.evaluation.result",
        "timeUnixNano": "1767614460000000000",
        "attributes": [attribute(k, v) for k, v in (ordinary | attributes).items() if v is not None],
    }


def test_an_evaluation_event_becomes_feedback_on_its_own_span():
    parsed = parse_line(line(traces(chat_span(events=[evaluation(), {"name": "exception"}, "noise"]))))
    (found,) = parsed.feedback
    assert (found.target, found.name, found.value) == ("65747c7a70eb81d8:5a17", "thumb", 0)
    assert found.ts == NOON + 60_000_000
    assert len(parsed.interactions) == 1


@pytest.mark.parametrize(
    ("span", "code"),
    [
        (chat_span(attributes={"gen_ai.input.messages": None}), "no_content"),
        (chat_span(attributes={"gen_ai.output.messages": None}), "no_content"),
        (chat_span(attributes={"gen_ai.input.messages": "not json"}), "bad_json"),
        (chat_span(attributes={"gen_ai.input.messages": '["when?"]'}), "bad_message"),
        (chat_span(attributes={"gen_ai.input.messages": '[{"role": "user"}]'}), "no_content"),
        (chat_span(attributes={"gen_ai.output.messages": "{}"}), "bad_message"),
        (chat_span(attributes={"gen_ai.output.messages": "[" * 3000}), "bad_json"),
        (chat_span(attributes={"flywheel.confidence": "sure"}), "bad_number"),
        (chat_span(attributes={"flywheel.confidence": 10**400}), "bad_number"),
        (chat_span(startTimeUnixNano="1767614400"), "bad_time"),  # seconds
        (chat_span(startTimeUnixNano="1767614400000"), "bad_time"),  # milliseconds
        (chat_span(startTimeUnixNano=None), "bad_time"),
        (chat_span(startTimeUnixNano="9" * 5000), "bad_time"),
        (chat_span(endTimeUnixNano="9" * 4000), "bad_time"),
        (chat_span(traceId=None), "missing_field"),
        (chat_span(traceId=5), "bad_type"),
        (chat_span(spanId=""), "missing_field"),
        (chat_span(events=[evaluation(**{"gen_ai.evaluation.score.value": None})]), "no_value"),
        (chat_span(events=[evaluation(**{"gen_ai.evaluation.name": None})]), "missing_field"),
        (chat_span(events=[evaluation() | {"timeUnixNano": "1767614460"}]), "bad_time"),
        (retrieval_span(**{"gen_ai.retrieval.documents": '[{"content": 1}]'}), "bad_type"),
        (retrieval_span(**{"gen_ai.retrieval.documents": '["kb-1"]'}), "bad_contexts"),
        (chat_span() | {"attributes": [*chat_span()["attributes"],
         {"key": "gen_ai.request.seed", "value": {"intValue": "many"}}]}, "bad_number"),
    ],
)  # fmt: skip
def test_a_bad_span_is_rejected_alone_and_with_its_reason(span: dict, code: str):
    parsed = parse_line(line(traces(chat_span("600d"), span, chat_span("600e"))))
    assert [i.response_id for i in parsed.interactions] == ["resp-600d", "resp-600e"]
    assert [r.code for r in parsed.rejects] == [code]
    assert not parsed.feedback


def test_every_span_is_counted_once():
    spans = [chat_span("1"), chat_span("2", startTimeUnixNano="1"), retrieval_span(), {"spanId": "9"}, "noise", None]
    parsed = parse_line(line(traces(*spans)))
    assert len(parsed.interactions) + len(parsed.rejects) + parsed.attached == len(spans)


def test_a_clock_that_ran_backwards_gives_no_latency():
    (found,) = parse_line(line(traces(chat_span(endTimeUnixNano="1767614399000000000")))).interactions
    assert found.latency_ms is None


def test_an_object_without_spans_is_rejected():
    for document in (traces(), {"resourceSpans": []}, {"resourceSpans": 3}, {"resourceSpans": [None, [], "x"]}):
        assert rejected(document) == "no_spans"


def test_the_opentelemetry_sample_gives_its_generations():
    sample = SHARED / "formats" / "otel_genai_current.json"
    if not sample.is_file():
        pytest.skip(f"{sample} is not here")
    document = json.loads(sample.read_bytes())
    spans = [s for r in document["resourceSpans"] for c in r["scopeSpans"] for s in c["spans"]]
    operations = [
        a["value"]["stringValue"] for s in spans for a in s["attributes"] if a["key"] == "gen_ai.operation.name"
    ]
    parsed = parse_line(line(document))
    assert operations.count("chat") > 0
    assert len(parsed.interactions) + len(parsed.rejects) == operations.count("chat")
    assert len(parsed.interactions) + len(parsed.rejects) + parsed.attached == len(spans)
    assert {r.code for r in parsed.rejects} <= {"no_content"}, parsed.rejects
    assert parsed.interactions
    for found in parsed.interactions:
        assert [m["content"] for m in found.messages if m["role"] == "user"][-1] and found.trace_id


# Anything at all

keys = st.sampled_from(
    ["flywheel", "resourceSpans", "scopeSpans", "spans", "attributes", "key", "value", "values", "stringValue", "intValue",
     "arrayValue", "kvlistValue", "traceId", "spanId", "events", "name", "messages", "role", "content", "target", "time",
     "gen_ai.operation.name", "gen_ai.input.messages", "id", "response", "contexts", "startTimeUnixNano"]
)  # fmt: skip
scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8) | keys
    | st.sampled_from(["interaction/1", "feedback/1", "chat", "user", "2026-01-05T12:00:00Z", "9" * 400, "-1", "[]", "{}"])
)  # fmt: skip
anything = st.recursive(
    scalars,
    lambda v: st.lists(v, max_size=3) | st.dictionaries(keys | st.text(max_size=4), v, max_size=4),
    max_leaves=20,
)


def holds(data: bytes) -> None:
    """A line is read, or rejected for a reason; what was read can be stored."""
    try:
        parsed = parse_line(data)
    except BadRecord as e:
        assert e.code and e.message is not None
        return
    assert isinstance(parsed, Parsed)
    assert parsed.interactions or parsed.feedback or parsed.rejects or parsed.attached or parsed.parts
    for found in parsed.interactions:
        canonical([found.messages, found.contexts, found.outputs, found.finish_reason])
    for found in parsed.feedback:
        canonical(found.value)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_rejected(data: bytes):
    holds(data)


@settings(max_examples=150, deadline=None)
@given(anything)
def test_any_json_is_read_or_rejected(value: Any):
    holds(line(value))


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(keys, anything, max_size=4), st.booleans())
def test_a_good_line_with_any_fields_overlaid_is_read_or_rejected(changes: dict, feedback: bool):
    holds(line((said("f", "r") if feedback else asked("r")) | changes))


attribute_values = st.dictionaries(
    st.sampled_from(["stringValue", "intValue", "doubleValue", "arrayValue", "kvlistValue", "bytesValue"]),
    anything,
    max_size=2,
)
attribute_keys = st.sampled_from([a["key"] for a in chat_span()["attributes"]] + ["gen_ai.evaluation.score.value", "x"])


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries({"key": attribute_keys | anything, "value": attribute_values | anything}), max_size=3
    ),
    st.dictionaries(
        st.sampled_from(["traceId", "spanId", "startTimeUnixNano", "endTimeUnixNano", "events"]), anything, max_size=2
    ),
)
@example([{"key": ["x"], "value": {"stringValue": "x"}}], {})
@example([{"key": "x", "value": {"intValue": "9" * 5000}}], {})
@example([], {"events": [evaluation(**{"gen_ai.evaluation.score.value": 10**30})]})
def test_a_good_span_with_anything_overlaid_leaves_its_neighbours_alone(attributes: list, changes: dict):
    span = chat_span() | changes
    document = traces(span | {"attributes": [*span["attributes"], *attributes]}, chat_span("600d"))
    holds(line(document))
    assert "resp-600d" in [i.response_id for i in parse_line(line(document)).interactions]


@pytest.mark.parametrize("depth", [10, 200, 254, 255, 300, 900])
def test_deeply_nested_values_are_stored_or_rejected(depth: int):
    nested = b"[" * depth + b"]" * depth
    holds(line(said("f", "r", value="HERE")).replace(b'"HERE"', nested))
    value = b'{"arrayValue":{"values":[' * depth + b'{"stringValue":"x"}' + b"]}}" * depth
    holds(line(traces(chat_span(attributes={"x": "HERE"}))).replace(b'{"stringValue": "HERE"}', value))
    holds(
        line(traces(chat_span(events=[evaluation(**{"gen_ai.evaluation.score.value": "HERE"})]))).replace(
            b'{"stringValue": "HERE"}', value
        )
    )
