"""How the assistant logs: OpenTelemetry's GenAI spans, one OTLP/JSON TracesData object a request and line.

    {"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"velora-assistant"}},..]},
      "scopeSpans":[{"scope":{..},"spans":[
        {"traceId":"9f..","spanId":"1c..","parentSpanId":"77..","name":"retrieval help-centre",..},
        {"traceId":"9f..","spanId":"e0..","parentSpanId":"77..","name":"chat answers",..}]}]}]}

Source: OTLP/JSON encoding (ids hex, 64-bit integers as strings) and the semantic conventions for generative AI.
The root span stays out of the file, as where a sampler keeps only the GenAI spans.
"""

from __future__ import annotations

from typing import Any

from demo.app import Interaction
from demo.chance import digest
from demo.drop import compact

SERVICE = "velora-assistant"
SERVICE_VERSION = "4.2.0"
SCOPE = "velora.assistant.telemetry"
PROVIDER = "velora"
MODEL = "answers"
KNOWLEDGE_SOURCE = "help-centre"
CLIENT = 3
STATUS_ERROR = 2


def trace_line(interaction: Interaction) -> str:
    """One request -> one line of the file exporter: its retrieval span and its chat span under one absent root."""
    return compact(
        {
            "resourceSpans": [
                {
                    "resource": {
                        "attributes": [
                            _text("service.name", SERVICE),
                            _text("service.version", SERVICE_VERSION),
                            _text("deployment.environment.name", "production"),
                        ]
                    },
                    "scopeSpans": [
                        {
                            "scope": {"name": SCOPE, "version": SERVICE_VERSION},
                            "spans": [_retrieval(interaction), _chat(interaction)],
                        }
                    ],
                }
            ]
        }
    )


def _retrieval(served: Interaction) -> dict[str, Any]:
    documents = [{"id": d["id"], "score": d["score"], "content": d["text"]} for d in served.documents]
    attributes = [
        _text("gen_ai.operation.name", "retrieval"),
        _text("gen_ai.data_source.id", KNOWLEDGE_SOURCE),
        _text("gen_ai.retrieval.query.text", served.query),
        _text("gen_ai.retrieval.documents", compact(documents)),
    ]
    return _span(served, f"retrieval {KNOWLEDGE_SOURCE}", served.request.time_ns, served.searched_ns, attributes, {})


def _chat(served: Interaction) -> dict[str, Any]:
    request = served.request
    history = [{"role": m["role"], "parts": [_part(m["content"])]} for m in request.messages]
    output = [{"role": "assistant", "parts": [_part(served.text)], "finish_reason": served.finish_reason}]
    attributes = [
        _text("gen_ai.operation.name", "chat"),
        _text("gen_ai.provider.name", PROVIDER),
        _text("gen_ai.conversation.id", request.session_id),
        _text("user.id", request.user_id),
        _text("gen_ai.request.model", MODEL),
        _text("gen_ai.response.model", f"{MODEL}-{served.model_version}"),
        _text("gen_ai.response.id", served.response_id),
        _text("gen_ai.input.messages", compact(history)),
        _text("gen_ai.output.messages", compact(output)),
        {
            "key": "gen_ai.response.finish_reasons",
            "value": {"arrayValue": {"values": [{"stringValue": served.finish_reason}]}},
        },
        _integer("gen_ai.usage.input_tokens", served.input_tokens),
        _integer("gen_ai.usage.output_tokens", served.output_tokens),
        {"key": "flywheel.confidence", "value": {"doubleValue": served.confidence}},
        _text("flywheel.model_version", served.model_version),
    ]
    status: dict[str, Any] = {}
    if served.finish_reason == "error":
        attributes.append(_text("error.type", "stream_closed"))
        status = {"code": STATUS_ERROR, "message": "the model's stream closed before its first token"}
    return _span(served, f"chat {MODEL}", served.searched_ns, served.answered_ns, attributes, status)


def _span(
    served: Interaction, name: str, start_ns: int, end_ns: int, attributes: list[dict[str, Any]], status: dict[str, Any]
) -> dict[str, Any]:
    return {
        "traceId": served.trace_id,
        "spanId": digest(0, served.trace_id, name)[:16],
        "parentSpanId": digest(0, served.trace_id, "root")[:16],
        "name": name,
        "kind": CLIENT,
        "startTimeUnixNano": str(start_ns),
        "endTimeUnixNano": str(end_ns),
        "attributes": attributes,
        "status": status,
        "flags": 256,
    }


def _part(content: str) -> dict[str, str]:
    return {"type": "text", "content": content}


def _text(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": value}}


def _integer(key: str, value: int) -> dict[str, Any]:
    return {"key": key, "value": {"intValue": str(value)}}
