"""The fast way through the edge and the ordinary one are the same: rows, kept lines, surrogates, rejects."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tasks.errors import BadRecord
from tasks.formats import load_line, native_fast, parse
from tasks.live import edge as edges
from tasks.live import rows
from tasks.live.rows import Placed
from tasks.redact import Edge
from tests.handmade import asked, said

KEY = b"a key of this test"
TEXT = st.one_of(
    st.text(max_size=30),
    st.sampled_from(["", "kim@example.org", "call +49 30 1234567", "{\"a\": \"kim@example.org\"}", "\u2028", "token=abc123def456",
                     "k\u200bim@example.org", "null", "[1]", "2026-01-05", "größer", "\x00", "4111 1111 1111 1111"]),
)  # fmt: skip
NUMBER = st.one_of(st.none(), st.integers(-5, 10**18), st.floats(allow_nan=False), st.text(max_size=3))
SHORT = st.one_of(
    st.none(), st.integers(0, 9), st.sampled_from(["", "a", "gpt-x", "kim@example.org", "é", "v1.2", "call +49 30 1234567"])
)
TIME = st.one_of(
    st.sampled_from(["2026-01-05T12:00:00Z", "2026-01-05T12:00:00.123456+02:00", "2026-01-05T12:00:00.1234567Z", "2026-01-05",
                     "2026-01-05T12:00:00", "1969-01-01T00:00:00Z", "3000-01-01T00:00:00Z", "noon", "2026-01-05t12:00:00z",
                     "2026-06-30T23:59:60Z", "2026-01-05 12:00:00Z", "2026-01-05T12:00:00-00:00"]),
    st.integers(0, 2 * 10**18),
)  # fmt: skip
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "system", "tool", "developer", "nobody"]), "content": TEXT},
        optional={"name": st.just("x")},
    ),
    max_size=4,
)
CONTEXTS = st.lists(
    st.fixed_dictionaries({}, optional={"id": SHORT, "text": TEXT, "score": NUMBER, "more": st.just(1)}), max_size=3
)
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "messages": MESSAGES, "response": TEXT, "contexts": CONTEXTS, "session_id": SHORT, "response_id": SHORT,
        "trace_id": SHORT, "user_id": SHORT, "tenant": SHORT, "model_served": SHORT, "finish_reason": SHORT, "time": TIME,
        "input_tokens": NUMBER, "latency_ms": NUMBER, "confidence": NUMBER, "odd": st.just({"a": "kim@example.org"}),
        "tags": st.just(["a"]), "id": SHORT,
    },
)  # fmt: skip
SAID = st.fixed_dictionaries(
    {},
    optional={
        "value": st.one_of(st.booleans(), st.none(), st.integers(-9, 9), st.text(max_size=3)), "comment": TEXT, "user_id": SHORT,
        "source": st.sampled_from(["human_end_user", "code", "nobody", ""]), "time": TIME, "tenant": SHORT, "name": SHORT,
        "target": st.sampled_from([{"response_id": "r-1"}, {"id": "r-1"}, {"session_id": "s-1"}, {}, {"response_id": ""}]),
    },
)  # fmt: skip


def ordinary(line: bytes) -> tuple[Any, str]:
    """What the ordinary way reads in a line: its record, or the code of its reject."""
    try:
        parsed = parse(load_line(line), "")
    except BadRecord as e:
        return None, e.code
    return (parsed.interactions + parsed.feedback)[0], ""


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(CHANGES)
def test_what_decodes_in_one_step_is_what_the_ordinary_way_reads(changes: dict[str, Any]):
    line = orjson.dumps(asked("r-1", **changes))
    fast = native_fast.decode(line)
    if fast is not None:
        record, why = ordinary(line)
        assert record == native_fast.record(fast), why
        assert rows.plain_interactions([fast], [3]).equals(rows.interactions([Placed(record, 3)]))


@settings(max_examples=200, deadline=None)
@given(SAID)
def test_so_is_feedback(changes: dict[str, Any]):
    line = orjson.dumps(said("f-1", "r-1") | changes)
    fast = native_fast.decode(line)
    if fast is not None:
        record, why = ordinary(line)
        assert record == native_fast.record(fast), why
        assert rows.plain_feedback([fast], [3]).equals(rows.feedback([Placed(record, 3)]))


@example([asked("r-1", contexts=[{"id": "a", "text": "", "score": 1e16}])])
@example([asked("r-1", session_id=None), asked("r-1"), said("f-1", "r-1") | {"comment": "to kim@example.org"}])
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.one_of(CHANGES.map(lambda c: asked("r-1", **c)), SAID.map(lambda c: said("f-1", "r-1") | c)), max_size=6))
def test_a_chunk_keeps_and_reads_the_same_without_the_fast_way(documents: list[dict[str, Any]]):
    data = b"".join(orjson.dumps(d) + b"\n" for d in documents)
    fast, ordinary = cleaned(data), cleaned_line_by_line(data)
    assert fast == ordinary


def cleaned(data: bytes) -> tuple[list[Any], list[Any], list[Any]]:
    kept, read = edges.clean(data, Edge(KEY), "", lambda ids: {})
    found = [*read.plain_interactions, *([rows.interactions(read.interactions)] if read.interactions else [])]
    said = [*read.plain_feedback, *([rows.feedback(read.feedback)] if read.feedback else [])]
    sort = lambda tables: sorted((r for t in tables for r in t.to_pylist()), key=lambda r: r["raw_line"])  # noqa: E731
    rejects = sorted((line, bad.code) for line, bad in read.rejects)
    lines = [_without_defaults(orjson.loads(line)) for line in b"".join(kept).splitlines() if line]
    return sort(found), sort(said), [lines, rejects]


def cleaned_line_by_line(data: bytes) -> tuple[list[Any], list[Any], list[Any]]:
    """The same with nothing being of the plain shape."""
    real = native_fast.decode_lines, native_fast.decode
    native_fast.decode_lines, native_fast.decode = lambda data, lines: None, lambda line: None
    try:
        return cleaned(data)
    finally:
        native_fast.decode_lines, native_fast.decode = real


def _without_defaults(document: dict[str, Any]) -> dict[str, Any]:
    """Kept lines of the plain shape leave out what is empty, and write a moment in one way."""
    for context in document.get("contexts") or []:
        if isinstance(context, dict):
            for key, empty in (("id", ""), ("text", ""), ("score", None)):
                if key in context and (context[key] == empty or context[key] is None):
                    del context[key]
    shown = {k: v for k, v in document.items() if v not in ("", None, []) and k != "time"}
    shown.pop("source", None) if shown.get("source") == "human_end_user" else None
    return {k: float(v) if isinstance(v, int) and not isinstance(v, bool) else v for k, v in shown.items()}
