"""What a user says of an answer: a thumb, a correction, a comment, or any score by its name.

    {"response_id": "chatcmpl-…", "thumb": false, "correction": "Refunds take two days.", "user": "u-9"}  ->  two events

The names are those of our own log lines (tasks/formats/native.py), so that what is said here means the same as in any other log.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from tasks.live.serving.chat import MAX_NAME, ApiError
from tasks.live.serving.journal import Said
from tasks.metrics import Metric

THUMB, CORRECTION, COMMENT = "thumb", "correction", "comment"
MAX_TEXT = 50_000
KNOWN = ("response_id", THUMB, CORRECTION, COMMENT, "name", "value", "user", "tenant", "id")


def said(document: Any, now: float) -> list[Said]:
    """The events of one call, at least one. Raises ApiError (400)."""
    if not isinstance(document, dict):
        raise ApiError(400, "the body is no JSON object")
    if unknown := sorted(document.keys() - set(KNOWN)):
        raise ApiError(400, f"'{unknown[0]}' is unknown here; known: {', '.join(KNOWN)}", "unknown_parameter", unknown[0])
    texts = {key: _text(document, key, MAX_NAME) for key in ("response_id", "name", "user", "tenant", "id")}
    if not texts["response_id"]:
        raise ApiError(400, "'response_id' is missing: the id of the answer", "missing_required_parameter", "response_id")
    values: dict[str, Any] = {}
    if document.get(THUMB) is not None:
        values[THUMB] = document[THUMB]
        if not isinstance(values[THUMB], bool):
            raise ApiError(400, "'thumb' is true or false", "invalid_type", THUMB)
    if correction := _text(document, CORRECTION, MAX_TEXT):
        values[CORRECTION] = correction
    if texts["name"]:
        if "value" not in document or not isinstance(document["value"], (bool, int, float, str, type(None))):
            raise ApiError(400, "'value' is a truth value, a number or a text; null takes it back", "invalid_type", "value")
        values[texts["name"]] = document["value"]
    comment = _text(document, COMMENT, MAX_TEXT)
    if comment and not values:
        values, comment = {COMMENT: comment}, ""
    if not values:
        raise ApiError(400, "nothing is said: 'thumb', 'correction', 'comment', or 'name' and 'value'", param=THUMB)
    given = texts["id"] or f"fb-{secrets.token_hex(12)}"
    # An id that the caller gives makes a repeated call the same event; each of several events of a call has its own.
    ids = [given if k == 0 else f"{given}.{k}" for k in range(len(values))]
    return [
        Said(id, texts["response_id"], name, value, comment if k == 0 else "", texts["user"], texts["tenant"], now)
        for k, (id, (name, value)) in enumerate(zip(ids, values.items(), strict=True))
    ]


def is_bad(of: Said, metrics: Sequence[Metric]) -> bool:
    """Whether it speaks against the answer, by the same rules as in the lake (params: feedback); a correction always does."""
    if of.name in (CORRECTION, "edit"):
        return True
    metric = next((m for m in metrics if m.name == of.name.lower().replace("-", "_")), None)
    if metric is None or not isinstance(of.value, (bool, int, float)):
        return False
    up = of.value if isinstance(of.value, bool) else of.value >= metric.threshold
    return (metric.direction if up else -metric.direction) < 0


def _text(document: dict[str, Any], key: str, most: int) -> str:
    value = document.get(key)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > most:
        raise ApiError(400, f"'{key}' is a text of at most {most:,} characters", "invalid_type", key)
    return value
