"""MLflow traces with their assessments, as `trace.to_dict()` gives them and its server stores them.

    {"info": {"trace_id": "tr-…", "trace_metadata": {…}, "assessments": […]}, "data": {"spans": [{"attributes": {"mlflow.spanType": "\\"CHAT_MODEL\\"", …}}]}}

Span ids are base64, attribute values JSON inside strings. Assessments hang on the trace, rarely on the generation itself.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from tasks.errors import BadRecord
from tasks.formats.fields import (
    Parsed,
    RawFeedback,
    RawInteraction,
    count,
    first,
    items,
    json_value,
    label,
    numeric,
    obj,
    opened,
    required_text,
    saying,
    time_us,
)
from tasks.formats.messages import answers, as_text, conversation
from tasks.formats.otlp_spans import documents

SOURCES = {"HUMAN": "human_end_user", "LLM_JUDGE": "llm_judge", "AI_JUDGE": "llm_judge", "CODE": "code"}
DEMONSTRATIONS = ("expected_response", "expected_answer", "expected_output", "ground_truth", "correction")


def recognises(document: dict[str, Any]) -> bool:
    info, data = document.get("info"), document.get("data")
    return (
        isinstance(info, dict)
        and isinstance(data, dict)
        and ("trace_id" in info or "request_id" in info)
        and "spans" in data
    )


def parse(document: dict[str, Any], origin: str = "") -> Parsed:
    info, parsed = obj(document, "info"), Parsed()
    trace = required_text({"trace_id": first(info, "trace_id", "request_id")}, "trace_id")
    spans = [s for s in items(obj(document, "data"), "spans") if isinstance(s, dict)]
    told = [(s, {k: opened(v) for k, v in obj(s, "attributes").items()}) for s in spans]
    generations = [(s, a) for s, a in told if a.get("mlflow.spanType") in ("CHAT_MODEL", "LLM")]
    if not generations:  # a traced function is one generation as a whole, if it reads like one
        generations = [(s, a) for s, a in told if not first(s, "parent_span_id", "parent_id")][:1]
    contexts = []
    for _, a in told:
        contexts += (
            documents({"mlflow.spanType": a.get("mlflow.spanType"), "mlflow.spanOutputs": a.get("mlflow.spanOutputs")})
            or []
        )
    ids = {}
    for span, a in generations:
        try:
            raw = _generation(trace, info, span, a, contexts, len(generations) == 1)
            ids[label(span.get("span_id"))] = raw.native_id
            parsed.interactions.append(raw)
        except BadRecord as e:
            parsed.rejects.append(e)
    parsed.attached = len(spans) - len(generations)
    for row in items(info, "assessments"):
        try:
            if isinstance(row, dict) and row.get("valid") is not False:
                parsed.feedback.append(_assessment(row, trace, ids))
            else:
                parsed.attached += 1  # overridden by a later one, which stands beside it
        except BadRecord as e:
            parsed.rejects.append(e)
    if not spans:
        parsed.rejects.append(
            BadRecord("no_content", "the trace has no spans; export it with them (include_spans=True)")
        )
    return parsed


def _generation(
    trace: str, info: dict[str, Any], span: dict[str, Any], a: dict[str, Any], contexts: list[Any], alone: bool
) -> RawInteraction:
    metadata = obj(info, "trace_metadata") or obj(info, "request_metadata")
    tags = obj(info, "tags")
    given = a.get("mlflow.spanInputs")
    messages, outputs = conversation(given), answers(a.get("mlflow.spanOutputs")) if a.get("mlflow.spanOutputs") else []
    status = obj(span, "status")
    failed = "ERROR" in str(first(status, "code", "status_code") or span.get("status_code"))
    if not messages or (not outputs and not failed):
        raise BadRecord(
            "no_content", "the span has no inputs or outputs; log both with mlflow.trace or set_inputs/set_outputs"
        )
    start, end = first(span, "start_time_unix_nano", "start_time"), first(span, "end_time_unix_nano", "end_time")
    ts = time_us(start)
    usage = a.get("mlflow.chat.tokenUsage") or (opened(metadata.get("mlflow.trace.tokenUsage")) if alone else None)
    cost = a.get("mlflow.llm.cost") or (opened(metadata.get("mlflow.trace.cost")) if alone else None)
    answered = a.get("mlflow.spanOutputs")
    choices = items(answered, "choices")
    return RawInteraction(
        dialect="mlflow",
        native_id=_hex(required_text(span, "span_id")),
        ts=ts,
        messages=messages,
        outputs=outputs,
        response_id=label(first(answered, "id")) if isinstance(first(answered, "id"), str) else "",
        trace_id=trace,
        parent_id=_hex(label(first(span, "parent_span_id", "parent_id"))),
        session_id=label(metadata.get("mlflow.trace.session")),
        user_id=label(metadata.get("mlflow.trace.user")),
        tenant=label(first(tags, "tenant", "tenant_id")),
        status="error" if failed else "ok",
        error=label(first(status, "message", "description")) if failed else "",
        finish_reason=label(choices[0].get("finish_reason")) if choices and isinstance(choices[0], dict) else "",
        contexts=contexts,
        tools=items(a, "mlflow.chat.tools") or items(given, "tools"),
        params={k: v for k, v in given.items() if k in ("temperature", "max_tokens", "top_p", "seed", "stop")} if isinstance(given, dict) else {},
        model_requested=label(first(a, "mlflow.llm.model") or first(given, "model")),
        model_served=label(first(answered, "model")),
        provider=label(a.get("mlflow.llm.provider")).lower(),
        **_prompt(tags),
        app_version=label(first(metadata, "mlflow.modelId")),
        environment=label(first(tags, "env", "environment")),
        latency_ms=(int(end) - int(start)) / 1e6 if isinstance(end, int) and isinstance(start, int) and end >= start else None,
        input_tokens=count(usage, "input_tokens"),
        output_tokens=count(usage, "output_tokens"),
        cost_usd=numeric(cost, "total_cost"),
    )  # fmt: skip


def _prompt(tags: dict[str, Any]) -> dict[str, str]:
    linked = items(tags, "mlflow.linkedPrompts")
    prompt = linked[0] if linked and isinstance(linked[0], dict) else {}
    return {"prompt_name": label(prompt.get("name")), "prompt_version": label(prompt.get("version"))}


def _assessment(row: dict[str, Any], trace: str, ids: dict[str, str]) -> RawFeedback:
    name, source = required_text({"name": first(row, "assessment_name", "name")}, "name"), obj(row, "source")
    kind = SOURCES.get(str(source.get("source_type")), "unknown")
    span = label(row.get("span_id"))
    target_type, target = ("interaction", ids[span]) if span in ids else ("trace", trace)
    expectation = row.get("expectation")
    if isinstance(expectation, dict):
        value = first(expectation, "value", "serialized_value")
        text = isinstance(value, str) and name in DEMONSTRATIONS
        value_type, value = ("demonstration", as_text(value)) if text else ("category", json_value(opened(value)))
        kind = "human_annotator" if kind == "human_end_user" else kind
    else:
        value = obj(row, "feedback").get("value")
        if obj(row, "feedback").get("error"):
            raise BadRecord("no_value", "the assessment is an error of its judge, not a judgement")
        if isinstance(value, bool):
            value_type = "bool"
        elif isinstance(value, int | float):
            value_type, value = "number", numeric({"value": value}, "value")
        else:
            value_type, value = "category", label(value) if isinstance(value, str) else json_value(value)
    made, changed = first(row, "create_time", "create_time_ms"), first(row, "last_update_time", "last_update_time_ms")
    id, ts = saying(required_text({"id": first(row, "assessment_id", "id")}, "id"), made, changed)
    return RawFeedback(
        dialect="mlflow",
        native_id=id,
        target_type=target_type,
        target=target,
        name=name,
        value_type=value_type,
        value=value,
        comment=label(row.get("rationale")),
        source_kind=kind,
        user_id=label(source.get("source_id")),
        ts=ts,
    )


def _hex(id: str) -> str:
    """A span id as 16 hex digits, whichever way it was written."""
    if len(id) == 12 and id.endswith("="):
        try:
            return base64.b64decode(id, validate=True).hex()
        except binascii.Error:
            return id
    return id.removeprefix("0x")
