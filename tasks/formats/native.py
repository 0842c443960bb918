"""The project's own JSON lines: what an application writes when it has no tracing library.

{"flywheel": "interaction/1", "id": "r-17", "session_id": "s-1", "time": "2026-01-05T08:00:00Z", "user_id": "u-9",
 "messages": [{"role": "user", "content": "…"}], "response": "…", "contexts": [{"id": "kb-1", "text": "…", "score": 0.7}]}
{"flywheel": "feedback/1", "id": "f-3", "target": {"response_id": "r-17"}, "name": "thumb", "value": false,
 "user_id": "u-9", "time": "2026-01-05T08:01:00Z"}
"""

from __future__ import annotations

from typing import Any

from tasks.errors import BadRecord
from tasks.formats.fields import (
    Parsed,
    RawFeedback,
    RawInteraction,
    conversation,
    json_value,
    number,
    required_text,
    rfc3339_us,
    text,
    whole,
)

TARGETS = ("response_id", "id", "trace_id")  # the most exact first


def parse(line: dict[str, Any]) -> Parsed:
    """One line -> one interaction or one feedback event. Raises BadRecord."""
    kind = line.get("flywheel")
    if kind == "interaction/1":
        return Parsed(interactions=[_interaction(line)])
    if kind == "feedback/1":
        return Parsed(feedback=[_feedback(line)])
    raise BadRecord("unknown_version", f"'flywheel' is {kind!r}; this version reads interaction/1 and feedback/1")


def _interaction(line: dict[str, Any]) -> RawInteraction:
    native_id = required_text(line, "id")
    contexts = line.get("contexts") or []
    if not isinstance(contexts, list) or not all(isinstance(c, dict) for c in contexts):
        raise BadRecord("bad_contexts", "'contexts' must be a list of {id, text, score}")
    return RawInteraction(
        dialect="flywheel",
        native_id=native_id,
        response_id=text(line, "response_id") or native_id,
        trace_id=text(line, "trace_id"),
        session_id=text(line, "session_id"),
        user_id=text(line, "user_id"),
        ts=rfc3339_us(line.get("time")),
        messages=conversation(line.get("messages")),
        response=required_text(line, "response", may_be_empty=True),
        contexts=[{"id": text(c, "id"), "text": text(c, "text"), "score": number(c, "score")} for c in contexts],
        finish_reason=text(line, "finish_reason") or "stop",
        model_version=text(line, "model_version"),
        confidence=number(line, "confidence"),
        latency_ms=number(line, "latency_ms"),
        input_tokens=whole(line, "input_tokens"),
        output_tokens=whole(line, "output_tokens"),
    )


def _feedback(line: dict[str, Any]) -> RawFeedback:
    target = line.get("target")
    named = [text(target, key) for key in TARGETS] if isinstance(target, dict) else []
    if not any(named):
        raise BadRecord("no_target", f"'target' needs one of {', '.join(TARGETS)}")
    if line.get("value") is None:
        raise BadRecord("no_value", "'value' is missing")
    return RawFeedback(
        native_id=required_text(line, "id"),
        target=next(filter(None, named)),
        name=required_text(line, "name"),
        value=json_value(line["value"]),
        user_id=text(line, "user_id"),
        ts=rfc3339_us(line.get("time")),
    )
