"""What every dialect hands on, and how single fields are read hard: a wrong type is a reject, never a guess."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tasks.errors import BadRecord
from tasks.records import canonical

# 2000 to 2100. Outside of it a unit was mixed up (s, ms, ns) or a clock was never set.
EARLIEST_US, LATEST_US = 946_684_800_000_000, 4_102_444_800_000_000
ROLES = ("system", "developer", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class RawInteraction:
    """An interaction as a dialect gives it: the user id is still the real one, messages are lists."""

    dialect: str
    native_id: str
    response_id: str
    trace_id: str
    session_id: str
    user_id: str
    ts: int
    messages: list[dict[str, str]]
    response: str
    contexts: list[dict[str, Any]]
    finish_reason: str
    model_version: str
    confidence: float | None
    latency_ms: float | None
    input_tokens: int | None
    output_tokens: int | None


@dataclass(frozen=True, slots=True)
class RawFeedback:
    native_id: str
    target: str
    name: str
    value: Any
    user_id: str
    ts: int


@dataclass(slots=True)
class Parsed:
    """What one line became. `attached` counts records folded into an interaction (a retrieval span, say)."""

    interactions: list[RawInteraction] = field(default_factory=list)
    feedback: list[RawFeedback] = field(default_factory=list)
    rejects: list[BadRecord] = field(default_factory=list)
    attached: int = 0


def text(row: dict[str, Any], key: str) -> str:
    """A string, '' where absent."""
    value = row.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadRecord("bad_type", f"'{key}' is {type(value).__name__}, not a string")
    return value


def required_text(row: dict[str, Any], key: str, may_be_empty: bool = False) -> str:
    if row.get(key) is None or (row[key] == "" and not may_be_empty):
        raise BadRecord("missing_field", f"'{key}' is missing")
    return text(row, key)


def number(row: dict[str, Any], key: str) -> float | None:
    value = row.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRecord("bad_number", f"'{key}' is {type(value).__name__}, not a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise BadRecord("bad_number", f"'{key}' is not a finite number")
    return number


def whole(row: dict[str, Any], key: str) -> int | None:
    value = number(row, key)
    if value is None:
        return None
    if not value.is_integer() or not 0 <= value < 2**53:
        raise BadRecord("bad_number", f"'{key}' is {value!r}, not a count")
    return int(value)


def rfc3339_us(value: Any) -> int:
    """'2026-01-05T08:00:00Z' -> microseconds since 1970 UTC. A time without a zone is refused: it could be any hour."""
    if not isinstance(value, str):
        raise BadRecord("bad_time", f"time is {value!r}, not an RFC 3339 string")
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise BadRecord("bad_time", f"time {value!r} is not RFC 3339") from None
    if moment.tzinfo is None:
        raise BadRecord("bad_time", f"time {value!r} has no zone; write Z or an offset")
    try:
        since = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    except OverflowError:
        raise BadRecord("bad_time", f"time {value!r} is outside the calendar") from None
    return within(since.days * 86_400_000_000 + since.seconds * 1_000_000 + since.microseconds)


def json_value(value: Any) -> Any:
    """A feedback's value, if it can be written as canonical JSON: not nested without end, no integer beyond 64 bits."""
    try:
        canonical(value)
    except TypeError as e:
        raise BadRecord("bad_value", f"'value' cannot be stored: {e}") from None
    return value


def within(us: int) -> int:
    if not EARLIEST_US <= us < LATEST_US:
        raise BadRecord("bad_time", f"{us} µs is not between 2000 and 2100: wrong unit or clock")
    return us


def conversation(value: Any) -> list[dict[str, str]]:
    """Chat messages up to the last one of the user. Raises BadRecord where there is no user message to learn from."""
    if not isinstance(value, list) or not value:
        raise BadRecord("no_content", "no input messages; is content capture switched on in the application?")
    messages = []
    for m in value:
        if not isinstance(m, dict) or m.get("role") not in ROLES or not isinstance(m.get("content"), str):
            raise BadRecord("bad_message", f"a message needs a role of {', '.join(ROLES)} and a string content")
        messages.append({"role": m["role"], "content": m["content"]})
    if messages[-1]["role"] not in ("user", "tool") or not any(m["role"] == "user" for m in messages):
        raise BadRecord("no_question", "the input must end with what the user (or a tool) said")
    return messages
