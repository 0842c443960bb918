"""What every dialect hands on, and how single fields are read.

A field that is absent is '' or None. A field of the wrong type is a reject, never a guess: BadRecord names it.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import msgspec
import orjson

from tasks.errors import BadRecord
from tasks.records import canonical

# 2000 to 2100. Outside of it a unit was mixed up (s, ms, ns) or a clock was never set.
EARLIEST_US, LATEST_US = 946_684_800_000_000, 4_102_444_800_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Want(msgspec.Struct, frozen=True):
    """A part that an interaction needs from another record. A required one that never comes rejects the interaction."""

    kind: str
    key: str
    required: bool = False


# msgspec's structs are made ten times faster than dataclasses, and one is made for every record of a log.
class RawInteraction(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One model generation as a dialect gives it. Messages are canonical (formats/messages.py), times µs since 1970 UTC.

    `outputs` holds every candidate, [0] is what the user saw; `contexts` rows {id, text, score[, query]};
    `user_id` is a pseudonym already: identities are replaced at the edge, before any dialect is read.
    """

    dialect: str
    native_id: str
    ts: int
    messages: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    response_id: str = ""
    trace_id: str = ""
    parent_id: str = ""
    session_id: str = ""
    user_id: str = ""
    tenant: str = ""
    kind: str = "chat"  # chat | completion | json
    status: str = "ok"  # ok | error | incomplete | content_filter
    error: str = ""
    contexts: list[dict[str, Any]] = []
    finish_reason: str = ""
    tools: list[Any] = []
    params: dict[str, Any] = {}
    provider: str = ""
    model_requested: str = ""
    model_served: str = ""
    model_version: str = ""
    prompt_name: str = ""
    prompt_version: str = ""
    prompt_variables: dict[str, Any] = {}
    app_version: str = ""
    environment: str = ""
    language: str = ""
    tags: list[str] = []
    confidence: float | None = None
    latency_ms: float | None = None
    ttft_ms: float | None = None
    cost_usd: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_input_tokens: int | None = None
    reasoning_tokens: int | None = None
    attributes: dict[str, Any] = {}
    wants: tuple[Want, ...] = ()


class RawFeedback(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One feedback event as a dialect gives it.

    `target_type`: 'interaction' (a native id) | 'response' (a provider's response id) | 'trace' | 'session' |
    'pair' (two native ids, chosen first, joined by '|') | 'observation' (a native id, or that of a span in the trace which
    follows after '|') | 'any' (native id, else response id, else trace id).
    `value` by `value_type`: bool | number | category (str) | comment (str) | demonstration (the text that should have
    been answered) | preference ({"chosen": id, "rejected": id, "tie": null | "tie" | "both_bad"}); None retracts.
    `source_kind`: human_end_user | human_annotator | llm_judge | code | implicit | unknown.
    """

    dialect: str
    native_id: str
    target_type: str
    target: str
    name: str
    value_type: str
    value: Any
    ts: int
    comment: str = ""
    source_kind: str = "unknown"
    user_id: str = ""
    tenant: str = ""


class RawPart(msgspec.Struct, frozen=True):
    """What another record contributes to the interactions that want (kind, key)."""

    kind: str
    key: str
    data: Any


class Parsed(msgspec.Struct):
    """What one record became. `attached` counts records folded into others (a retrieval span, a trace's own row)."""

    interactions: list[RawInteraction] = []
    feedback: list[RawFeedback] = []
    parts: list[RawPart] = []
    rejects: list[BadRecord] = []
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


def label(value: Any) -> str:
    """A version, a name or a number that names something, as text: 7 -> '7', None -> ''."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise BadRecord("bad_type", f"{str(value)[:40]!r} cannot name anything")


def first(row: Any, *keys: str) -> Any:
    """The first value that is neither absent nor empty among the keys; None where all are, or where `row` is no object."""
    if isinstance(row, dict):
        for key in keys:
            if row.get(key) not in (None, "", [], {}):
                return row[key]
    return None


def obj(row: Any, key: str) -> dict[str, Any]:
    """A nested object, {} where absent or something else; JSON text that holds an object is opened."""
    value = opened(row.get(key)) if isinstance(row, dict) else None
    return value if isinstance(value, dict) else {}


def items(row: Any, key: str) -> list[Any]:
    """A nested list, [] where absent or something else; JSON text that holds a list is opened."""
    value = opened(row.get(key)) if isinstance(row, dict) else None
    return value if isinstance(value, list) else []


def opened(value: Any) -> Any:
    """JSON text -> its value (up to three times: exporters encode twice); anything else, plain text too, as it is."""
    for _ in range(3):
        if not isinstance(value, str) or value.lstrip()[:1] not in ("{", "[", '"'):
            break
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            break
    return value


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


def numeric(row: Any, key: str) -> float | None:
    """A number that may travel as text ('0.0000102', '44'); None where absent, empty or no finite number."""
    value = row.get(key) if isinstance(row, dict) else None
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def count(row: Any, key: str) -> int | None:
    """A number of tokens that may travel as text; None where absent or no count."""
    value = numeric(row, key)
    return int(value) if value is not None and value.is_integer() and 0 <= value < 2**53 else None


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
        # As native_fast.py does, to the last digit: the same line read either way is the same row.
        moment = msgspec.convert(value, datetime)
    except msgspec.ValidationError:
        raise BadRecord("bad_time", f"time {value!r} is not RFC 3339") from None
    if moment.tzinfo is None:
        raise BadRecord("bad_time", f"time {value!r} has no zone; write Z or an offset")
    return _since_1970(moment, value)


def time_us(value: Any) -> int:
    """The time formats of the tools that document theirs as UTC -> µs since 1970.

    Text is RFC 3339 or '2026-11-20 10:00:00.100' (no zone: UTC); numbers are s, ms, µs or ns, told apart by their size.
    Raises BadRecord outside 2000 to 2100.
    """
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            pass
        else:
            return _since_1970(moment if moment.tzinfo else moment.replace(tzinfo=UTC), value)
        try:
            value = float(value) if "." in value else int(value)
        except ValueError:
            raise BadRecord("bad_time", f"time {value[:40]!r} cannot be read") from None
    if isinstance(value, bool) or not isinstance(value, int | float) or not -(2**63) < value < 2**63:
        raise BadRecord("bad_time", f"time is {str(value)[:40]!r}")
    for microseconds in (1_000_000, 1000, 1, 1 / 1000):  # s, ms, µs, ns: 2000 to 2100 never overlap between them
        if isinstance(value, int) and microseconds < 1:
            us = value // 1000
        else:
            us = round(value * microseconds)
        if EARLIEST_US <= us < LATEST_US:
            return us
    raise BadRecord("bad_time", f"{value} is not a time between 2000 and 2100 in any unit")


def maybe_time_us(value: Any) -> int | None:
    """time_us, None where absent."""
    return None if value is None or value == "" else time_us(value)


def saying(id: str, made: Any, changed: Any, at: Any = None) -> tuple[str, int]:
    """The id and the time of one saying. Tools let people change a score in its place: each change is an event of its own."""
    first_us, last_us = maybe_time_us(made), maybe_time_us(changed)
    if first_us is not None and last_us is not None and last_us > first_us:
        return f"{id}@{last_us}", last_us
    return id, time_us(at or made or changed)


def span_ms(start: int | None, end: int | None) -> float | None:
    """Milliseconds between two µs times. A clock that went backwards must not become a negative latency."""
    return (end - start) / 1000 if start is not None and end is not None and end >= start else None


def _since_1970(moment: datetime, value: str) -> int:
    try:
        since = moment.astimezone(UTC) - EPOCH
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
