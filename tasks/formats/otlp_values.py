"""OTLP's typed values -> plain ones, and flat attributes with indices -> lists, both bounded.

   [{"key": "llm.input_messages.0.message.role", "value": {"stringValue": "user"}}]
-> {"llm.input_messages.0.message.role": "user"}  ->  indexed(…, "llm.input_messages") == [{"message.role": "user"}]
"""

from __future__ import annotations

from typing import Any

from tasks.errors import BadRecord

MAX_ATTRIBUTES = 10_000  # of one span; what is beyond them is dropped
MAX_INDEX = 4096  # of a list that travels as attributes: an index is only a number that somebody wrote


def attributes(raw: Any) -> dict[str, Any]:
    """The attributes of a span, an event, a log record or a resource."""
    return keyed(listed(raw, "attributes"))


def keyed(pairs: list[Any]) -> dict[str, Any]:
    return {
        p["key"]: value(p.get("value"))
        for p in pairs[:MAX_ATTRIBUTES]
        if isinstance(p, dict) and isinstance(p.get("key"), str) and "__" not in p["key"]
    }


def value(wrapped: Any, depth: int = 0) -> Any:
    """OTLP's AnyValue -> a plain value (integers travel as strings in JSON)."""
    if not isinstance(wrapped, dict) or not wrapped or depth > 64:
        return None
    kind, inner = next(iter(wrapped.items()))
    if kind == "intValue":
        try:
            return int(inner)
        except (TypeError, ValueError):
            raise BadRecord("bad_number", f"intValue is {str(inner)[:40]!r}") from None
    if kind == "arrayValue":
        return [value(v, depth + 1) for v in listed(inner, "values")]
    if kind == "kvlistValue":
        return keyed(listed(inner, "values"))
    return inner


def listed(raw: Any, key: str) -> list[Any]:
    found = raw.get(key) if isinstance(raw, dict) else None
    return found if isinstance(found, list) else []


def indexed(flat: dict[str, Any], prefix: str) -> list[dict[str, Any]]:
    """The rows of a list that travels as `prefix.N.rest` attributes, in the order of N; N itself identifies nothing."""
    rows: dict[int, dict[str, Any]] = {}
    start = prefix + "."
    for key, given in flat.items():
        if key.startswith(start):
            number, _, rest = key[len(start) :].partition(".")
            if number.isascii() and number.isdigit() and len(number) <= 4 and int(number) < MAX_INDEX:
                rows.setdefault(int(number), {})[rest] = given
    return [rows[n] for n in sorted(rows)]


def nanoseconds(raw: dict[str, Any], key: str) -> int:
    try:
        return int(raw[key])
    except (KeyError, TypeError, ValueError):
        raise BadRecord("bad_time", f"{key} is {str(raw.get(key))[:40]!r}, not nanoseconds") from None
