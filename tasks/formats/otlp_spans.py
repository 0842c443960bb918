"""What a generation span says, by the convention that its instrumentation follows: messages, answers, documents.

The conventions: OpenTelemetry GenAI (current), its older span events, OpenLLMetry, OpenInference, the Vercel AI SDK, MLflow.
Each reader takes (attributes, events) and returns a Said, or None where the span does not follow it.

Sources: semantic-conventions-genai; OpenLLMetry's and OpenInference's span attributes; AI SDK telemetry; MLflow tracing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tasks.errors import BadRecord
from tasks.formats.fields import count, first, label, numeric, opened
from tasks.formats.messages import answers, conversation, spoken
from tasks.formats.otlp_values import attributes, indexed

GENERATIONS = ("chat", "text_completion", "generate_content")
SWITCH_ON = (
    "the span holds no messages; set OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=true (and, before 1.37, "
    "OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental), or your library's own switch, in the application"
)


@dataclass(slots=True)
class Said:
    """What was asked and answered in one span. `more` holds further fields of a RawInteraction."""

    messages: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    more: dict[str, Any] = field(default_factory=dict)


def read(a: dict[str, Any], events: list[Any]) -> Said | None:
    """A generation's content; None for a span that is no generation. Raises BadRecord('no_content')."""
    for convention in (_openinference, _mlflow, _vercel, _openllmetry, _genai):
        said = convention(a, events)
        if said is not None:
            whole = spoken(said.messages) and (said.outputs or "error.type" in a)
            if not whole and not said.more.get("attached"):
                raise BadRecord("no_content", SWITCH_ON)
            return said
    return None


def documents(a: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The documents of a retrieval span; None for any other span."""
    if a.get("gen_ai.operation.name") == "retrieval":
        rows, query = opened(a.get("gen_ai.retrieval.documents")) or [], a.get("gen_ai.retrieval.query.text")
        if not isinstance(rows, list) or not all(isinstance(r, dict) for r in rows):
            raise BadRecord("bad_contexts", "gen_ai.retrieval.documents is not a list of documents")
        return [_document(r, query) for r in rows]
    if a.get("openinference.span.kind") in ("RETRIEVER", "RERANKER"):
        prefix = "retrieval.documents" if a["openinference.span.kind"] == "RETRIEVER" else "reranker.output_documents"
        rows = [{k.removeprefix("document."): v for k, v in r.items()} for r in indexed(a, prefix)]
        return [_document(r, a.get("input.value")) for r in rows]
    if opened(a.get("mlflow.spanType")) == "RETRIEVER":
        rows = opened(a.get("mlflow.spanOutputs"))
        return [_document(r, None) for r in rows if isinstance(r, dict)] if isinstance(rows, list) else []
    return None


def _document(row: dict[str, Any], query: Any) -> dict[str, Any]:
    metadata = opened(row.get("metadata"))
    id = first(row, "id", "document_id") or (
        first(metadata, "doc_uri", "id", "source") if isinstance(metadata, dict) else None
    )
    text = first(row, "content", "text", "page_content")
    if text is not None and not isinstance(text, str):
        raise BadRecord("bad_type", "a document's content is not a string")
    score = numeric(row, "score") if "score" in row else numeric(metadata, "score")
    found = {"id": label(id), "text": text or "", "score": score}
    if isinstance(query, str) and query:
        found["query"] = query
    return found


def _genai(a: dict[str, Any], events: list[Any]) -> Said | None:
    if a.get("gen_ai.operation.name") not in GENERATIONS:
        return None
    told = [(e.get("name"), attributes(e)) for e in events if isinstance(e, dict)]
    details = next((b for name, b in told if name == "gen_ai.client.inference.operation.details"), {})
    given = a | details
    messages = conversation(_valid(given, "gen_ai.input.messages"), _valid(given, "gen_ai.system_instructions"))
    outputs = (
        answers(_valid(given, "gen_ai.output.messages")) if given.get("gen_ai.output.messages") is not None else []
    )
    if not messages and not outputs:
        for name, body in told:
            role = {"gen_ai.system.message": "system", "gen_ai.user.message": "user", "gen_ai.assistant.message": "assistant",
                    "gen_ai.tool.message": "tool"}.get(str(name))  # fmt: skip
            if role:
                messages += conversation([_event_message(body, role)])
            elif name == "gen_ai.choice":
                outputs += answers([{"role": "assistant"} | _event_message(body, "assistant")])
            elif name in ("gen_ai.content.prompt", "gen_ai.content.completion"):
                content = opened(first(body, "gen_ai.prompt", "gen_ai.completion"))
                messages += conversation(content) if name.endswith("prompt") else []
                outputs += answers(content) if name.endswith("completion") else []
    return Said(messages, outputs)


def _event_message(body: dict[str, Any], role: str) -> dict[str, Any]:
    inner = opened(body.get("message"))
    row = inner if isinstance(inner, dict) else body
    found = {"role": row.get("role") or role, "content": row.get("content") or ""}
    for key in ("tool_calls", "id"):
        if (value := opened(row.get(key))) is not None:
            found["tool_call_id" if key == "id" else key] = value
    return found


def _openllmetry(a: dict[str, Any], events: list[Any]) -> Said | None:
    asked, answered = indexed(a, "gen_ai.prompt"), indexed(a, "gen_ai.completion")
    if not asked and not answered and not ("llm.request.type" in a and "gen_ai.operation.name" not in a):
        return None
    return Said(
        conversation([_traceloop(m, "user") for m in asked]),
        [x for m in answered for x in answers([_traceloop(m, "assistant")])],
        {
            "finish_reason": label(answered[0].get("finish_reason")) if answered else "",
            "tools": [
                {"type": "function", **{k: opened(v) for k, v in t.items()}}
                for t in indexed(a, "llm.request.functions")
            ],
        },
    )


def _traceloop(m: dict[str, Any], role: str) -> dict[str, Any]:
    calls = [
        {"id": c.get("id"), "name": c.get("name"), "arguments": c.get("arguments")} for c in indexed(m, "tool_calls")
    ]
    row = {
        "role": m.get("role") or role,
        "content": opened(m.get("content")) if _blocks(m.get("content")) else m.get("content") or "",
    }
    return (
        row
        | ({"tool_calls": calls} if calls else {})
        | ({"tool_call_id": m["tool_call_id"]} if "tool_call_id" in m else {})
    )


def _blocks(value: Any) -> bool:
    inner = opened(value)
    return isinstance(inner, list) and bool(inner) and all(isinstance(b, dict) and "type" in b for b in inner)


def _openinference(a: dict[str, Any], events: list[Any]) -> Said | None:
    if "openinference.span.kind" not in a:
        return None
    if a["openinference.span.kind"] != "LLM":
        return Said([], [], {"attached": True})
    asked = [_phoenix(m) for m in indexed(a, "llm.input_messages")]
    answered = [_phoenix(m) for m in indexed(a, "llm.output_messages")]
    if not asked:
        asked = [{"role": "user", "content": p} for r in indexed(a, "llm.prompts") if (p := r.get("prompt.text"))]
    if not answered:
        answered = [
            {"role": "assistant", "content": p} for r in indexed(a, "llm.choices") if (p := r.get("completion.text"))
        ]
    messages = conversation(asked) if asked else conversation(_hidden(a.get("input.value")))
    outputs = [x for m in answered for x in answers([m])] if answered else answers(_hidden(a.get("output.value")))
    variables = opened(a.get("llm.prompt_template.variables"))
    return Said(
        messages,
        outputs,
        {
            "prompt_version": label(a.get("llm.prompt_template.version")),
            "prompt_variables": variables if isinstance(variables, dict) else {},
            "tools": [opened(t.get("tool.json_schema")) for t in indexed(a, "llm.tools")],
            "params": p if isinstance(p := opened(a.get("llm.invocation_parameters")), dict) else {},
            "provider": label(first(a, "llm.provider", "llm.system")),
            "model_requested": label(first(a, "llm.request.model_name", "llm.model_name")),
            "model_served": label(a.get("llm.response.model_name")),
            "finish_reason": label(a.get("llm.finish_reason")),
            "input_tokens": count(a, "llm.token_count.prompt"),
            "output_tokens": count(a, "llm.token_count.completion"),
            "cached_input_tokens": count(a, "llm.token_count.prompt_details.cache_read"),
            "reasoning_tokens": count(a, "llm.token_count.completion_details.reasoning"),
            "cost_usd": numeric(a, "llm.cost.total"),
        },
    )


def _hidden(value: Any) -> Any:
    return None if value == "__REDACTED__" else value


def _phoenix(flat: dict[str, Any]) -> dict[str, Any]:
    m = {k.removeprefix("message."): v for k, v in flat.items()}
    blocks = [{k.removeprefix("message_content."): v for k, v in b.items()} for b in indexed(m, "contents")]
    calls = [
        {"id": c.get("tool_call.id"), "name": c.get("tool_call.function.name"), "arguments": c.get("tool_call.function.arguments")}
        for c in indexed(m, "tool_calls")
    ]  # fmt: skip
    row: dict[str, Any] = {"role": m.get("role") or "user", "content": blocks or m.get("content") or ""}
    for key, value in (("tool_calls", calls), ("tool_call_id", m.get("tool_call_id")), ("name", m.get("name"))):
        if value:
            row[key] = value
    return row


def _vercel(a: dict[str, Any], events: list[Any]) -> Said | None:
    if "ai.operationId" not in a and not any(k.startswith("ai.prompt") for k in a):
        return None
    if not str(a.get("ai.operationId", "")).endswith((".doGenerate", ".doStream")):
        return Said([], [], {"attached": True})
    calls = opened(a.get("ai.response.toolCalls"))
    answer: dict[str, Any] = {
        "role": "assistant",
        "content": first(a, "ai.response.text", "ai.response.object", "ai.result.text") or "",
    }
    if isinstance(calls, list) and calls:
        answer["tool_calls"] = calls
    spoken = any(k in a for k in ("ai.response.text", "ai.response.object", "ai.result.text", "ai.response.toolCalls"))
    tools = a.get("ai.prompt.tools")
    return Said(
        conversation(first(a, "ai.prompt.messages", "ai.prompt")),
        answers([answer]) if spoken else [],
        {
            "model_requested": label(a.get("ai.model.id")),
            "model_served": label(a.get("ai.response.model")),
            "provider": label(a.get("ai.model.provider")).partition(".")[0],
            "finish_reason": label(a.get("ai.response.finishReason")),
            "input_tokens": count(a, "ai.usage.promptTokens") or count(a, "ai.usage.inputTokens"),
            "output_tokens": count(a, "ai.usage.completionTokens") or count(a, "ai.usage.outputTokens"),
            "ttft_ms": numeric(a, "ai.response.msToFirstChunk"),
            "tools": [opened(t) for t in tools] if isinstance(tools, list) else [],
            "session_id": label(first(a, "ai.telemetry.metadata.sessionId", "ai.telemetry.metadata.session_id")),
            "user_id": label(first(a, "ai.telemetry.metadata.userId", "ai.telemetry.metadata.user_id")),
        },
    )


def _mlflow(a: dict[str, Any], events: list[Any]) -> Said | None:
    if "mlflow.spanType" not in a:
        return None
    if opened(a["mlflow.spanType"]) not in ("CHAT_MODEL", "LLM"):
        return Said([], [], {"attached": True})
    usage = opened(a.get("mlflow.chat.tokenUsage"))
    return Said(
        conversation(opened(a.get("mlflow.spanInputs"))),
        answers(opened(a.get("mlflow.spanOutputs"))),
        {
            "model_requested": label(opened(a.get("mlflow.llm.model"))),
            "input_tokens": count(usage, "input_tokens"),
            "output_tokens": count(usage, "output_tokens"),
        },
    )


def _valid(a: dict[str, Any], key: str) -> Any:
    """Messages as JSON text or as structured values, which the convention demands: anything else is a fault of the log."""
    value = opened(a.get(key))
    if isinstance(value, str):
        raise BadRecord("bad_json", f"{key} is not JSON")
    if value is not None and (not isinstance(value, list) or any(not isinstance(m, dict) for m in value)):
        raise BadRecord("bad_message", f"{key} is not a list of messages")
    return value
