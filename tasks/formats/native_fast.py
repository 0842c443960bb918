"""The project's own lines, decoded with their types in one step, many at a time: the common case at a tenth of the cost.

What does not fit (another key, another type) is None and goes the ordinary way through native.py, which also says what is
wrong with it. A test holds the two against each other.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Annotated, Literal

import msgspec

from tasks.formats.fields import EARLIEST_US, EPOCH, LATEST_US, RawFeedback, RawInteraction
from tasks.formats.native import SOURCES

MAX_LINE_BYTES = 1024 * 1024
EARLIEST, LATEST = EPOCH + timedelta(microseconds=EARLIEST_US), EPOCH + timedelta(microseconds=LATEST_US)

Id = Annotated[str, msgspec.Meta(min_length=1)]
Time = Annotated[datetime, msgspec.Meta(tz=True)]
Count = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
# From 1e16 on orjson, which writes canonical JSON, and msgspec spell the same number in two ways.
Score = Annotated[float, msgspec.Meta(gt=-1e16, lt=1e16)]
Milliseconds = Annotated[float, msgspec.Meta(ge=0)]


# Fields in the order of their names: encoded, they are canonical JSON.
class Message(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    content: str
    role: Literal["system", "user", "assistant", "tool"]


class Context(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    id: str = ""
    score: Score | None = None
    text: str = ""


class PlainInteraction(
    msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False, tag_field="flywheel", tag="interaction/1"
):
    id: Id
    time: Time
    messages: Annotated[list[Message], msgspec.Meta(min_length=1)]
    response: str
    contexts: list[Context] = []
    response_id: str = ""
    trace_id: str = ""
    session_id: str = ""
    user_id: str = ""
    tenant: str = ""
    finish_reason: str = ""
    provider: str = ""
    model_requested: str = ""
    model_served: str = ""
    model_version: str = ""
    prompt_name: str = ""
    prompt_version: str = ""
    app_version: str = ""
    environment: str = ""
    language: str = ""
    confidence: float | None = None
    latency_ms: Milliseconds | None = None
    ttft_ms: Milliseconds | None = None
    cost_usd: float | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None

    def texts(self) -> str:
        """What people and models wrote, and the ids that may be an address, each after a NUL."""
        said = ["", *[m.content for m in self.messages], self.response]
        for context in self.contexts:
            said += (context.text, context.id)
        if "@" in self.id or "@" in self.session_id or "@" in self.response_id or "@" in self.trace_id:
            said += self.ids()
        return "\0".join(said)

    def ids(self) -> tuple[str, ...]:
        return (self.id, self.session_id, self.response_id, self.trace_id, *[c.id for c in self.contexts])


# Fields of a line that are the fields of the same name of a RawInteraction.
SAME = tuple(
    f for f in PlainInteraction.__struct_fields__
    if f in RawInteraction.__struct_fields__ and f not in ("messages", "contexts", "response_id", "finish_reason")
)  # fmt: skip


class Target(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    response_id: Id


class PlainFeedback(
    msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False, tag_field="flywheel", tag="feedback/1"
):
    id: Id
    target: Target
    name: Id
    value: bool
    time: Time
    user_id: str = ""
    tenant: str = ""
    comment: str = ""
    source: Literal[tuple(SOURCES)] = "human_end_user"

    def texts(self) -> str:
        """The comment, and the ids that may be an address. What is found in it can't be replaced here: that takes the
        conversation of its target.
        """
        if "@" in self.id or "@" in self.target.response_id:
            return f"\0{self.comment}\0{self.id}\0{self.target.response_id}"
        return f"\0{self.comment}" if self.comment else ""


Plain = PlainInteraction | PlainFeedback
# Short texts of which a log has few different ones.
_labels_of_interaction = attrgetter(
    "tenant", "finish_reason", "provider", "model_requested", "model_served", "model_version", "prompt_name", "prompt_version",
    "app_version", "environment", "language",
)  # fmt: skip
_labels_of_feedback = attrgetter("tenant", "name")

_decoder = msgspec.json.Decoder(Plain)
_encoder = msgspec.json.Encoder()


def decode_lines(data: bytes | memoryview, lines: int) -> list[Plain] | None:
    """All of `lines` whole lines, where every one of them is of the plain shape; else None. Never raises."""
    try:
        rows = _decoder.decode_lines(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None
    # A record may stand on two lines, or two on one: those are not lines of ours.
    return rows if len(rows) == lines and all(map(_fits, rows)) else None


def decode(line: bytes) -> Plain | None:
    """A line of the plain shape, or None. Never raises."""
    if len(line) > MAX_LINE_BYTES:
        return None
    try:
        row = _decoder.decode(line)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None
    return row if _fits(row) else None


def labels(row: Plain) -> tuple[str, ...]:
    return _labels_of_interaction(row) if type(row) is PlainInteraction else _labels_of_feedback(row)


def encode_lines(rows: list[Plain]) -> bytes:
    """The lines to keep: what was decoded, and no more."""
    return _encoder.encode_lines(rows)


def record(row: Plain) -> RawInteraction | RawFeedback:
    """The same as native.py reads in the line; a test holds the two against each other."""
    return _interaction(row) if isinstance(row, PlainInteraction) else _feedback(row)


def _fits(row: Plain) -> bool:
    if type(row) is PlainInteraction:
        last = row.messages[-1].role
        if last != "user" and (last != "tool" or all(m.role != "user" for m in row.messages)):
            return False
    return EARLIEST <= row.time < LATEST


def _interaction(row: PlainInteraction) -> RawInteraction:
    given = {name: getattr(row, name) for name in SAME}
    return RawInteraction(
        dialect="flywheel",
        native_id=row.id,
        ts=_microseconds(row.time),
        messages=[{"role": m.role, "content": m.content} for m in row.messages],
        outputs=[{"role": "assistant", "content": row.response}],
        response_id=row.response_id or row.id,
        contexts=[{"id": c.id, "text": c.text, "score": c.score} for c in row.contexts],
        finish_reason=row.finish_reason or "stop",
        **given,
    )


def _feedback(row: PlainFeedback) -> RawFeedback:
    return RawFeedback(
        dialect="flywheel",
        native_id=row.id,
        target_type="any",
        target=row.target.response_id,
        name=row.name,
        value_type="bool",
        value=row.value,
        ts=_microseconds(row.time),
        comment=row.comment,
        source_kind=row.source,
        user_id=row.user_id,
        tenant=row.tenant,
    )


def _microseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
