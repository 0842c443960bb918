"""Langfuse: blob exports (traces, observations, scores), the Scores API, and whole traces as the UI exports them.

    {"id": "obs-1", "trace_id": "tr-1", "type": "GENERATION", "input": "[{…}]", "output": "{…}", "prompt_name": …}

A blob export tells session, user and tags in the trace's own row, so an observation waits for it. `input` and `output` hold
JSON, JSON twice, or plain text. Corrections travel through the Scores API only: the blob export leaves them out.
"""

from __future__ import annotations

import re
from typing import Any

from msgspec.structs import replace

from tasks.errors import BadRecord
from tasks.formats.fields import (
    Parsed,
    RawFeedback,
    RawInteraction,
    RawPart,
    Want,
    count,
    first,
    items,
    json_value,
    label,
    maybe_time_us,
    number,
    numeric,
    obj,
    opened,
    required_text,
    span_ms,
    time_us,
)
from tasks.formats.messages import answers, conversation

TRACE, DOCUMENTS = "langfuse_trace", "langfuse_documents"
SOURCES = {"API": "human_end_user", "EVAL": "llm_judge", "ANNOTATION": "human_annotator"}
# The AI SDK's outer spans repeat what the generation inside them says.
WRAPPERS = ("ai.generateText", "ai.streamText", "ai.generateObject", "ai.streamObject")
_TRANSCRIPT = re.compile(r"^(system|user|assistant|tool): ", re.MULTILINE)


def recognises(document: dict[str, Any]) -> bool:
    if isinstance(document.get("trace"), dict) and "observations" in document["trace"]:
        return True
    if "observations" in document and "projectId" in document:
        return True
    score = {"name", "value", "source"} <= document.keys() and ("data_type" in document or "dataType" in document)
    observation = "type" in document and ("parent_observation_id" in document or "parentObservationId" in document)
    trace = "bookmarked" in document or (
        "project_id" in document and {"release", "session_id", "timestamp"} <= document.keys()
    )
    return score or observation or trace


def parse(document: dict[str, Any], origin: str = "") -> Parsed:
    """One exported row, or one whole trace with its observations and scores."""
    trace = document.get("trace") if isinstance(document.get("trace"), dict) else document
    if "observations" in trace and isinstance(trace["observations"], list):
        return _whole(trace, document)
    if "data_type" in document or "dataType" in document:
        return Parsed(feedback=[_score(document)])
    if "parent_observation_id" in document or "parentObservationId" in document:
        return _observation_row(document)
    return Parsed(parts=[RawPart(TRACE, required_text(document, "id"), _of_trace(document))], attached=1)


def _merge_trace(raw: RawInteraction, found: list[Any]) -> RawInteraction:
    of_trace = found[-1]
    more = {k: v for k, v in of_trace.items() if k in RawInteraction.__struct_fields__ and not getattr(raw, k)}
    return replace(raw, **more)


def _merge_documents(raw: RawInteraction, found: list[Any]) -> RawInteraction:
    return replace(raw, contexts=[d for rows in found for d in rows])


MERGE = {TRACE: _merge_trace, DOCUMENTS: _merge_documents}


def _whole(trace: dict[str, Any], document: dict[str, Any]) -> Parsed:
    parsed, of_trace = Parsed(attached=1), _of_trace(trace)
    by_id = {o.get("id"): o for o in items(trace, "observations") if isinstance(o, dict)}
    for row in items(document, "observations") if document is not trace else []:
        if isinstance(row, dict):  # the export's own list has the inputs and outputs that the trace's list leaves out
            by_id[row.get("id")] = by_id.get(row.get("id"), {}) | {k: v for k, v in row.items() if v is not None}
    rows = list(by_id.values())
    documents = [d for o in rows if _type(o) == "RETRIEVER" for d in _documents(o)]
    wrappers = {first(o, "parentObservationId", "parent_observation_id") for o in rows if _type(o) == "GENERATION"}
    for row in rows:
        if _type(row) != "GENERATION" or row.get("id") in wrappers:
            parsed.attached += 1
            continue
        try:
            raw = _merge_trace(_generation(row), [of_trace])
            parsed.interactions.append(replace(raw, contexts=documents, wants=()))
        except BadRecord as e:
            parsed.rejects.append(e)
    for row in [*items(trace, "scores"), *items(trace, "corrections")]:
        try:
            if isinstance(row, dict):
                parsed.feedback.append(_score(row))
        except BadRecord as e:
            parsed.rejects.append(e)
    return parsed


def _observation_row(row: dict[str, Any]) -> Parsed:
    if _type(row) == "RETRIEVER" and (documents := _documents(row)):
        trace = label(first(row, "trace_id", "traceId"))
        return Parsed(parts=[RawPart(DOCUMENTS, trace, documents)] if trace else [], attached=1)
    if _type(row) != "GENERATION" or str(row.get("name")) in WRAPPERS:
        return Parsed(attached=1)
    return Parsed(interactions=[_generation(row)])


def _type(row: dict[str, Any]) -> str:
    return str(row.get("type")).upper()


def _generation(row: dict[str, Any]) -> RawInteraction:
    given, answered, metadata = opened(row.get("input")), opened(row.get("output")), obj(row, "metadata")
    messages, tools = _asked(given)
    outputs = answers(answered) if answered not in (None, "", [], {}) else []
    instructions = first(answered, "instructions")
    if isinstance(instructions, str) and messages and messages[0]["role"] != "system":
        messages = conversation(messages, instructions)
    failed = str(row.get("level")).upper() == "ERROR"
    if (not outputs and not failed) or not messages:
        raise BadRecord(
            "no_content", "the generation has no input or no output; log both (capture_input, capture_output)"
        )
    start = time_us(first(row, "start_time", "startTime"))
    end = maybe_time_us(first(row, "end_time", "endTime"))
    began = maybe_time_us(first(row, "completion_start_time", "completionStartTime"))
    usage, cost = (
        obj(row, "usage_details") or obj(row, "usageDetails"),
        obj(row, "cost_details") or obj(row, "costDetails"),
    )
    latency, first_token = numeric(row, "latency"), first(row, "time_to_first_token", "timeToFirstToken")
    trace = label(first(row, "trace_id", "traceId"))
    parameters = obj(row, "model_parameters") or obj(row, "modelParameters")
    total = numeric(row, "total_cost")
    return RawInteraction(
        dialect="langfuse",
        native_id=required_text(row, "id"),
        ts=start,
        messages=messages,
        outputs=outputs,
        response_id=label(answered.get("id")) if isinstance(answered, dict) and "id" in answered else "",
        trace_id=trace,
        parent_id=label(first(row, "parent_observation_id", "parentObservationId")),
        session_id=label(first(row, "session_id", "sessionId")),
        user_id=label(first(row, "user_id", "userId")),
        tenant=label(first(metadata, "tenant", "tenant_id")),
        status="error" if failed else "ok",
        error=label(first(row, "status_message", "statusMessage")) if failed else "",
        finish_reason=_finish(answered),
        tools=tools,
        params=parameters,
        model_requested=label(first(row, "provided_model_name", "model", "providedModelName")),
        prompt_name=label(first(row, "prompt_name", "promptName")),
        prompt_version=label(first(row, "prompt_version", "promptVersion")),
        environment=label(row.get("environment")),
        latency_ms=span_ms(start, end) if end is not None else latency * 1000 if latency is not None else None,
        ttft_ms=span_ms(start, began)
        if began is not None
        else float(first_token) * 1000
        if first_token is not None
        else None,
        input_tokens=count(usage, "input") if "input" in usage else count(row, "inputUsage"),
        output_tokens=count(usage, "output") if "output" in usage else count(row, "outputUsage"),
        cached_input_tokens=count(usage, "input_cached_tokens")
        if "input_cached_tokens" in usage
        else count(usage, "cache_read_input_tokens"),
        reasoning_tokens=count(usage, "output_reasoning_tokens"),
        cost_usd=total
        if total is not None
        else numeric(cost, "total")
        if "total" in cost
        else numeric(row, "totalCost") or None,
        wants=(Want(TRACE, trace),) if trace else (),
    )


def _asked(given: Any) -> tuple[list[dict[str, Any]], list[Any]]:
    """An input as messages, and the tools that came with it: in it, in its configuration, or as a message that lists one."""
    tools = [t for t in [*items(given, "tools"), *items(obj(given, "config"), "tools")] if isinstance(t, dict)]
    if isinstance(given, str):
        turns = _TRANSCRIPT.split(given)
        if len(turns) > 2 and not turns[0].strip():
            pairs = zip(turns[1::2], turns[2::2], strict=True)
            return [{"role": role, "content": text.rstrip("\n")} for role, text in pairs], tools
    if given == {"content": "role"}:  # an instrumentation that logs a message's first key in the place of its text
        return [], tools
    if isinstance(given, list):
        listed = [m for m in given if _lists_a_tool(m)]
        tools += [m["content"] for m in listed]
        given = [m for m in given if not _lists_a_tool(m)]
    return conversation(given), tools


def _lists_a_tool(m: Any) -> bool:
    content = m.get("content") if isinstance(m, dict) and m.get("role") == "tool" else None
    return isinstance(content, dict) and content.get("type") == "function" and isinstance(content.get("function"), dict)


def _finish(answered: Any) -> str:
    if isinstance(answered, dict):
        inner = items(answered, "choices") or [answered]
        found = first(inner[0], "finish_reason", "finishReason", "stop_reason")
        return label(found).lower() if isinstance(found, str) else ""
    return ""


def _documents(row: dict[str, Any]) -> list[dict[str, Any]]:
    found = opened(row.get("output"))
    found = first(found, "documents", "results") if isinstance(found, dict) else found
    rows = [d for d in found if isinstance(d, dict)] if isinstance(found, list) else []
    texts = [(d, first(d, "page_content", "content", "text")) for d in rows]
    return [
        {
            "id": label(first(d, "id")) if isinstance(d.get("id"), str | int) else "",
            "text": t,
            "score": numeric(d, "score"),
        }
        for d, t in texts
        if isinstance(t, str)
    ]


def _of_trace(row: dict[str, Any]) -> dict[str, Any]:
    metadata = obj(row, "metadata")
    return {
        "session_id": label(first(row, "session_id", "sessionId")),
        "user_id": label(first(row, "user_id", "userId")),
        "app_version": label(row.get("release")),
        "environment": label(row.get("environment")),
        "tags": [t for t in items(row, "tags") if isinstance(t, str)],
        "tenant": label(first(metadata, "tenant", "tenant_id")),
    }


def _score(row: dict[str, Any]) -> RawFeedback:
    named = {
        "interaction": label(first(row, "observation_id", "observationId")),
        "trace": label(first(row, "trace_id", "traceId")),
        "session": label(first(row, "session_id", "sessionId")),
    }
    kind = next((k for k, id in named.items() if id), "")
    if not kind:
        raise BadRecord("no_target", "the score names neither observation, trace nor session")
    data_type = str(first(row, "data_type", "dataType")).upper()
    said, name = first(row, "string_value", "stringValue"), required_text(row, "name")
    if data_type == "CORRECTION":
        value_type, value, name = (
            "demonstration",
            label(first(row, "longStringValue", "long_string_value", "value")),
            "correction",
        )
    elif data_type == "BOOLEAN":
        flag = row.get("value") if row.get("value") is not None else str(said).lower() == "true"
        value_type, value = "bool", bool(flag)
    elif data_type == "CATEGORICAL":
        value_type, value = "category", label(said if said is not None else row.get("value"))
    elif data_type == "TEXT":
        value_type, value = "comment", label(said)
    elif data_type == "NUMERIC":
        value_type, value = "number", number(row, "value")
    else:
        raise BadRecord("unknown_version", f"a score of data type {data_type[:40]}")
    return RawFeedback(
        dialect="langfuse",
        native_id=required_text(row, "id"),
        target_type=kind,
        target=named[kind],
        name=name,
        value_type=value_type,
        value=json_value(value),
        comment=label(row.get("comment")),
        source_kind=SOURCES.get(str(row.get("source")).upper(), "unknown"),
        user_id=label(first(row, "author_user_id", "authorUserId")),
        ts=time_us(first(row, "timestamp", "updated_at", "updatedAt", "created_at", "createdAt")),
    )
