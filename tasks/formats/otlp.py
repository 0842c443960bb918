"""OpenTelemetry GenAI spans as OTLP/JSON: one TracesData object a line, as file exporters write it.

A chat span and the retrieval span beside it (same trace) become one interaction with its contexts:
    {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "…", "spanId": "…", "attributes": [
        {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}}, …]}]}]}]}

Source: OpenTelemetry semantic conventions for generative AI; attribute messages may be JSON text or structured values.
"""

from __future__ import annotations

from typing import Any

import orjson

from tasks.errors import BadRecord
from tasks.formats.fields import (
    Parsed,
    RawFeedback,
    RawInteraction,
    conversation,
    json_value,
    number,
    required_text,
    text,
    whole,
    within,
)

GENERATIONS = ("chat", "text_completion", "generate_content")
EVALUATION = "gen_ai.evaluation.result"


def parse(line: dict[str, Any]) -> Parsed:
    """One TracesData object -> its generations and the evaluation events on them.

    A span that is no generation is counted as attached; a bad span is rejected alone, not its whole line.
    """
    parsed = Parsed()
    raw = [s for r in _list(line, "resourceSpans") for c in _list(r, "scopeSpans") for s in _list(c, "spans")]
    if not raw:
        raise BadRecord("no_spans", "the object holds no spans")
    spans, documents = [], {}
    for item in raw:
        try:
            span = _Span(item)
            if span.operation() == "retrieval":
                documents.setdefault(span.trace_id(), []).extend(_documents(span))
        except BadRecord as e:
            parsed.rejects.append(e)
            continue
        if span.operation() in GENERATIONS:
            spans.append(span)
        else:
            parsed.attached += 1
    for span in spans:
        try:
            interaction = _interaction(span, documents)
            feedback = _evaluations(span, interaction.response_id)
        except BadRecord as e:
            parsed.rejects.append(e)
        else:
            parsed.interactions.append(interaction)
            parsed.feedback.extend(feedback)
    return parsed


class _Span:
    """A span with its attributes unwrapped from OTLP's typed values."""

    def __init__(self, raw: Any):
        self.raw = raw if isinstance(raw, dict) else {}
        self.attributes = _attributes(self.raw)

    def operation(self) -> str:
        name = self.attributes.get("gen_ai.operation.name")
        return name if isinstance(name, str) else ""

    def trace_id(self) -> str:
        return required_text(self.raw, "traceId")


def _interaction(span: _Span, documents: dict[str, list[dict[str, Any]]]) -> RawInteraction:
    a = span.attributes
    trace_id, span_id = span.trace_id(), required_text(span.raw, "spanId")
    start, end = _nanoseconds(span.raw, "startTimeUnixNano"), _nanoseconds(span.raw, "endTimeUnixNano")
    reasons = a.get("gen_ai.response.finish_reasons") or []
    usage = "gen_ai.usage."
    return RawInteraction(
        dialect="otlp",
        native_id=f"{trace_id}:{span_id}",
        response_id=text(a, "gen_ai.response.id") or span_id,
        trace_id=trace_id,
        session_id=text(a, "gen_ai.conversation.id") or text(a, "session.id"),
        user_id=text(a, "user.id"),
        ts=within(start // 1000),
        messages=conversation(_messages(a, "gen_ai.input.messages")),
        response=_output_text(a),
        contexts=documents.get(trace_id, []),
        finish_reason=reasons[0] if isinstance(reasons, list) and reasons and isinstance(reasons[0], str) else "stop",
        model_version=text(a, "flywheel.model_version") or text(a, "gen_ai.response.model"),
        confidence=number(a, "flywheel.confidence"),
        # A clock that went backwards must not become a negative latency.
        latency_ms=(within(end // 1000) - within(start // 1000)) / 1000 if end >= start else None,
        input_tokens=whole(a, usage + "input_tokens"),
        output_tokens=whole(a, usage + "output_tokens"),
    )


def _evaluations(span: _Span, response_id: str) -> list[RawFeedback]:
    feedback = []
    for event in _list(span.raw, "events"):
        if not isinstance(event, dict) or event.get("name") != EVALUATION:
            continue
        a = _attributes(event)
        value = a.get("gen_ai.evaluation.score.value", a.get("gen_ai.evaluation.score.label"))
        if value is None:
            raise BadRecord("no_value", f"a {EVALUATION} event has neither score.value nor score.label")
        name = required_text(a, "gen_ai.evaluation.name")
        ns = _nanoseconds(event, "timeUnixNano")
        target = text(a, "gen_ai.response.id") or response_id
        feedback.append(RawFeedback(f"{target}:{name}:{ns}", target, name, json_value(value), "", within(ns // 1000)))
    return feedback


def _messages(attributes: dict[str, Any], key: str) -> list[dict[str, str]]:
    messages = _json_or_value(attributes, key)
    if not messages:
        raise BadRecord("no_content", f"the span has no {key}; switch content capture on in its instrumentation")
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        raise BadRecord("bad_message", f"{key} is not a list of messages")
    return [{"role": m.get("role"), "content": _parts_text(m)} for m in messages]


def _output_text(attributes: dict[str, Any]) -> str:
    """The text of the first candidate: it is the one the user saw. An answer without a text part is empty, not absent."""
    messages = _json_or_value(attributes, "gen_ai.output.messages")
    if messages is None:
        raise BadRecord("no_content", "the span has no gen_ai.output.messages; switch content capture on")
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        raise BadRecord("bad_message", "gen_ai.output.messages is not a list of messages")
    return _parts_text(messages[0]) if messages else ""


def _parts_text(message: dict[str, Any]) -> str:
    if isinstance(message.get("content"), str):
        return message["content"]
    parts = message.get("parts")
    if not isinstance(parts, list):
        raise BadRecord("bad_message", "a message has neither parts nor content")
    texts = []
    for part in (p for p in parts if isinstance(p, dict)):
        if part.get("type") == "text" and "content" in part:
            texts.append(part["content"])
        elif part.get("type") == "tool_call_response":
            # The schema says `response`, an example of the specification `result`; both are seen.
            given = part.get("response", part.get("result"))
            texts.append(given if isinstance(given, str) else orjson.dumps(given).decode())
    if not all(isinstance(t, str) for t in texts):
        raise BadRecord("bad_message", "a text part's content is not a string")
    return "\n".join(texts)


def _documents(span: _Span) -> list[dict[str, Any]]:
    documents = _json_or_value(span.attributes, "gen_ai.retrieval.documents") or []
    if not isinstance(documents, list) or not all(isinstance(d, dict) for d in documents):
        raise BadRecord("bad_contexts", "gen_ai.retrieval.documents is not a list of documents")
    return [{"id": text(d, "id"), "text": text(d, "content"), "score": number(d, "score")} for d in documents]


def _json_or_value(attributes: dict[str, Any], key: str) -> Any:
    value = attributes.get(key)
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as e:
        raise BadRecord("bad_json", f"{key} is not JSON: {e}") from None


def _attributes(raw: dict[str, Any]) -> dict[str, Any]:
    return _keyed(_list(raw, "attributes"))


def _keyed(pairs: list[Any]) -> dict[str, Any]:
    return {p["key"]: _value(p.get("value")) for p in pairs if isinstance(p, dict) and isinstance(p.get("key"), str)}


def _value(wrapped: Any) -> Any:
    """OTLP's AnyValue -> a plain value (integers travel as strings in JSON)."""
    if not isinstance(wrapped, dict) or not wrapped:
        return None
    kind, value = next(iter(wrapped.items()))
    if kind == "intValue":
        try:
            return int(value)
        except (TypeError, ValueError):
            raise BadRecord("bad_number", f"intValue is {value!r}") from None
    if kind == "arrayValue":
        return [_value(v) for v in _list(value, "values")]
    if kind == "kvlistValue":
        return _keyed(_list(value, "values"))
    return value


def _nanoseconds(raw: dict[str, Any], key: str) -> int:
    try:
        return int(raw[key])
    except (KeyError, TypeError, ValueError):
        raise BadRecord("bad_time", f"{key} is {raw.get(key)!r}, not nanoseconds") from None


def _list(raw: Any, key: str) -> list[Any]:
    value = raw.get(key) if isinstance(raw, dict) else None
    return value if isinstance(value, list) else []
