"""What the dialects read -> the rows of the lake, a column at a time: ids, hashes and canonical JSON, ready to append.

RawInteraction(dialect="otlp", native_id="65…:e8…", …)  ->  interaction_id "ix_9f16…", content_hash "ch_…", …
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, fields
from hashlib import sha256
from operator import attrgetter
from typing import Any

import msgspec
import orjson
import pyarrow as pa

from tasks.errors import BadRecord
from tasks.formats import native_fast
from tasks.formats.fields import RawFeedback, RawInteraction, RawPart
from tasks.formats.messages import question
from tasks.formats.native_fast import PlainFeedback, PlainInteraction
from tasks.records import Feedback, Interaction, Part, arrow_schema, canonical, content_id

INTERACTIONS = arrow_schema(Interaction)
FEEDBACK = arrow_schema(Feedback)
PARTS = arrow_schema(Part)
# Dialects whose ids the application itself makes up: two tenants may well use the same ones.
OWN_IDS = ("flywheel", "gateway", "openai_log")
PLAIN_ANSWER = {"role", "content"}
# Columns of a row that are the fields of the same name, as they are.
AS_THEY_ARE = tuple(
    f for f in (c.name for c in fields(Interaction))
    if f in RawInteraction.__struct_fields__
    and f not in ("messages", "outputs", "contexts", "tools", "params", "prompt_variables", "tags", "attributes", "session_id")
)  # fmt: skip
AS_JSON = ("contexts", "tools", "params", "prompt_variables", "tags", "attributes")
PLAIN_AS_THEY_ARE = tuple(f for f in native_fast.SAME if f in INTERACTIONS.names and f != "session_id")
_encoded = msgspec.json.Encoder().encode
EMPTY = {"contexts": "[]", "tools": "[]", "params": "{}", "prompt_variables": "{}", "tags": "[]", "attributes": "{}"}

# What a line of the plain shape leaves at its default.
CONSTANT = EMPTY | {
    f.name: f.default for f in fields(Interaction) if f.default is not MISSING and f.default is not None
} | {"dialect": "flywheel", "raw_segment": ""}  # fmt: skip
CONSTANT_FEEDBACK = {
    "dialect": "flywheel", "target_type": "any", "value_type": "bool", "received": 0, "raw_segment": "",
}  # fmt: skip
TIME = pa.timestamp("us", "UTC")


class Placed(msgspec.Struct, frozen=True, gc=False):
    """A record and the raw line that it came from."""

    record: Any
    line: int


def interaction_id(raw: RawInteraction) -> str:
    """The same generation, read again from any copy of its log, is the same row."""
    return content_id("ix", raw.dialect, raw.tenant if raw.dialect in OWN_IDS else "", raw.native_id)


def feedback_id(raw: RawFeedback) -> str:
    return content_id("fb", raw.dialect, raw.tenant if raw.dialect in OWN_IDS else "", raw.native_id)


def part_id(raw: RawPart) -> str:
    return content_id("pt", raw.kind, raw.key, raw.data)


def check(raw: RawInteraction | RawFeedback | RawPart) -> None:
    """Raises BadRecord for what no row can hold: integers beyond 64 bits, endless nesting, halves of characters."""
    try:
        orjson.dumps(raw.data if isinstance(raw, RawPart) else msgspec.structs.astuple(raw), default=_no_more)
    except TypeError as e:
        raise BadRecord("bad_value", f"the record cannot be stored: {e}") from None


def interactions(placed: Sequence[Placed]) -> pa.Table:
    """Rows of the table `interactions`, in the order given, still without their raw segment."""
    raws = [p.record for p in placed]
    messages = [_json(r.messages) for r in raws]
    responses = [r.outputs[0]["content"] if r.outputs else "" for r in raws]
    outputs = [b"[]" if _is_plain(r.outputs) else _json(r.outputs) for r in raws]
    columns: dict[str, Any] = {name: [getattr(r, name) for r in raws] for name in AS_THEY_ARE}
    for name in ("latency_ms", "ttft_ms"):  # a clock that ran backwards is no reason to lose the exchange
        columns[name] = [None if v is not None and v < 0 else v for v in columns[name]]
    for name in AS_JSON:
        empty = EMPTY[name]
        columns[name] = [_json(v).decode() if (v := getattr(r, name)) else empty for r in raws]
    columns |= {
        "interaction_id": [interaction_id(r) for r in raws],
        "content_hash": list(map(_content_hash, messages, responses, outputs)),
        "messages": [m.decode() for m in messages],
        "question": [question(r.messages) for r in raws],
        "response": responses,
        "outputs": [o.decode() for o in outputs],
        "session_id": [r.session_id or r.trace_id or r.native_id for r in raws],
        "user": [r.user_id for r in raws],
        "raw_segment": [""] * len(raws),
        "raw_line": [p.line for p in placed],
    }
    return pa.table({f.name: pa.array(columns[f.name], f.type) for f in INTERACTIONS}, schema=INTERACTIONS)


def plain_interactions(rows: Sequence[PlainInteraction], lines: Sequence[int]) -> pa.Table:
    """The same rows from lines of the plain shape, without a RawInteraction in between: that would be half of all the time."""
    messages = [_encoded(r.messages) for r in rows]
    responses = [r.response for r in rows]
    columns: dict[str, Any] = {name: list(map(attrgetter(name), rows)) for name in PLAIN_AS_THEY_ARE}
    columns |= {
        "interaction_id": [_plain_id("ix", r) for r in rows],
        "native_id": [r.id for r in rows],
        "response_id": [r.response_id or r.id for r in rows],
        "session_id": [r.session_id or r.trace_id or r.id for r in rows],
        "user": [r.user_id for r in rows],
        "ts": _microseconds(rows),
        "messages": messages,
        "contexts": [_encoded(r.contexts) if r.contexts else b"[]" for r in rows],
        "question": [_last_asked(r.messages) for r in rows],
        "response": responses,
        "finish_reason": [r.finish_reason or "stop" for r in rows],
        "content_hash": [_content_hash(m, r, b"[]") for m, r in zip(messages, responses, strict=True)],
        "raw_line": lines,
    }
    return _table(columns, CONSTANT, INTERACTIONS, len(rows))


def plain_feedback(rows: Sequence[PlainFeedback], lines: Sequence[int]) -> pa.Table:
    """Rows of the table `feedback` from lines of the plain shape, still without their segment and its time."""
    columns: dict[str, Any] = {
        "feedback_id": [_plain_id("fb", r) for r in rows],
        "native_id": [r.id for r in rows],
        "target": [r.target.response_id for r in rows],
        "value": ["true" if r.value else "false" for r in rows],
        "user": [r.user_id for r in rows],
        "source_kind": [r.source for r in rows],
        "ts": _microseconds(rows),
        "raw_line": lines,
    } | {name: list(map(attrgetter(name), rows)) for name in ("name", "tenant", "comment")}
    return _table(columns, CONSTANT_FEEDBACK, FEEDBACK, len(rows))


def feedback(placed: Sequence[Placed]) -> pa.Table:
    """Rows of the table `feedback`, in the order given, still without their segment and its time."""
    names = (
        "dialect", "native_id", "target_type", "target", "name", "value_type", "comment", "source_kind", "tenant", "ts",
    )  # fmt: skip
    columns: dict[str, Any] = {name: [getattr(p.record, name) for p in placed] for name in names}
    columns |= {
        "feedback_id": [feedback_id(p.record) for p in placed],
        "value": [canonical(p.record.value).decode() for p in placed],
        "user": [p.record.user_id for p in placed],
        "raw_line": [p.line for p in placed],
    }
    return _table(columns, {"received": 0, "raw_segment": ""}, FEEDBACK, len(placed))


def parts(placed: Sequence[Placed], ids: Sequence[str], segment: str) -> pa.Table:
    """Rows of the table `parts`, in the order given."""
    return pa.table(
        {
            "part_id": ids,
            "kind": [p.record.kind for p in placed],
            "key": [p.record.key for p in placed],
            "data": [canonical(p.record.data).decode() for p in placed],
            "raw_segment": [segment] * len(placed),
            "raw_line": [p.line for p in placed],
        },
        schema=PARTS,
    )


def _table(columns: dict[str, Any], constant: dict[str, Any], schema: pa.Schema, rows: int) -> pa.Table:
    arrays = [
        pa.array(columns[f.name], f.type)
        if f.name in columns
        else pa.repeat(pa.scalar(constant.get(f.name), f.type), rows)
        for f in schema
    ]
    return pa.table(arrays, schema=schema)


def _plain_id(prefix: str, row: PlainInteraction | PlainFeedback) -> str:
    return content_id(prefix, "flywheel", row.tenant, row.id)


def _microseconds(rows: Sequence[PlainInteraction | PlainFeedback]) -> pa.Array:
    return pa.array([r.time for r in rows], TIME).cast(pa.int64())


def _content_hash(messages: bytes, response: str, outputs: bytes) -> str:
    """Of what was asked and answered, so that two logs which differ about one generation can be told."""
    return "ch_" + sha256(b"%b\x00%b\x00%b" % (messages, response.encode(), outputs)).hexdigest()[:24]


def _last_asked(messages: Sequence[Any]) -> str:
    if messages[-1].role == "user" and messages[-1].content:
        return messages[-1].content
    return next((m.content for m in reversed(messages) if m.role == "user" and m.content), "")


def _json(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _is_plain(outputs: list[dict[str, Any]]) -> bool:
    return len(outputs) <= 1 and all(o.keys() <= PLAIN_ANSWER for o in outputs)


def _no_more(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.astuple(value)
    raise TypeError(f"{type(value).__name__} is no JSON")
