"""Langfuse: blob exports (traces, observations, scores), pages of its API, and whole traces as UI and API give them.

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
    saying,
    span_ms,
    time_us,
)
from tasks.formats.messages import answers, conversation

TRACE, DOCUMENTS = "langfuse_trace", "langfuse_documents"
SOURCES = {"API": "human_end_user", "EVAL": "llm_judge", "ANNOTATION": "human_annotator"}
# Keys of a whole trace, whichever version of API, SDK or UI wrote it.
OF_A_TRACE = {
    "projectId", "project_id", "sessionId", "session_id", "htmlPath", "html_path", "bookmarked",
}  # fmt: skip
INPUT_TOKENS = ("input", "inputUsage", "prompt_tokens", "promptTokens", "input_tokens", "inputTokens")
OUTPUT_TOKENS = ("output", "outputUsage", "completion_tokens", "completionTokens", "output_tokens", "outputTokens")
# The AI SDK's outer spans repeat what the generation inside them says.
WRAPPERS = ("ai.generateText", "ai.streamText", "ai.generateObject", "ai.streamObject")
_TRANSCRIPT = re.compile(r"^(system|user|assistant|tool): ", re.MULTILINE)


def recognises(document: dict[str, Any]) -> bool:
    keys = document.keys()
    if _rows_of_page(document):
        return True
    if isinstance(document.get("trace"), dict) and ("observations" in document["trace"] or "observations" in document):
        return True
    if "observations" in document and keys & OF_A_TRACE:
        return True
    score = {"name", "value", "source"} <= keys and (
        keys & {"data_type", "dataType", "observation_id", "observationId"}
    )
    observation = "type" in document and ("parent_observation_id" in document or "parentObservationId" in document)
    trace = "bookmarked" in document or (
        "project_id" in document and {"release", "session_id", "timestamp"} <= document.keys()
    )
    return bool(score) or observation or trace


def parse(document: dict[str, Any], origin: str = "") -> Parsed:
    """One exported row, one whole trace with its observations and scores, or a page of either."""
    if rows := _rows_of_page(document):
        return _page(rows, origin)
    trace = document.get("trace") if isinstance(document.get("trace"), dict) else document
    if "observations" in trace or "observations" in document:
        return _whole(trace, document)
    if {"name", "value", "source"} <= document.keys():
        return Parsed(feedback=[_score(document)])
    if "parent_observation_id" in document or "parentObservationId" in document:
        return _observation_row(document)
    return Parsed(parts=[RawPart(TRACE, required_text(document, "id"), _of_trace(document))], attached=1)


def _rows_of_page(document: dict[str, Any]) -> list[Any]:
    """The rows of a page as the API gives it ({"data": […], "meta": {…}}), where one of them is Langfuse's; else []."""
    rows = document.get("data") if isinstance(document.get("meta"), dict) else None
    return rows if isinstance(rows, list) and any(isinstance(r, dict) and recognises(r) for r in rows) else []


def _page(rows: list[Any], origin: str) -> Parsed:
    whole = Parsed()
    for row in rows:
        try:
            if not isinstance(row, dict) or not recognises(row):
                raise BadRecord("unknown_dialect", "a row of the page is none of Langfuse's")
            parsed = parse(row, origin)
        except BadRecord as e:
            whole.rejects.append(e)
            continue
        whole.interactions += parsed.interactions
        whole.feedback += parsed.feedback
        whole.parts += parsed.parts
        whole.rejects += parsed.rejects
        whole.attached += parsed.attached
    return whole


def _merge_trace(raw: RawInteraction, found: list[Any]) -> RawInteraction:
    of_trace = found[-1]
    more = {k: v for k, v in of_trace.items() if k in RawInteraction.__struct_fields__ and not getattr(raw, k)}
    return replace(raw, **more)


def _merge_documents(raw: RawInteraction, found: list[Any]) -> RawInteraction:
    return replace(raw, contexts=[d for rows in found for d in rows])


MERGE = {TRACE: _merge_trace, DOCUMENTS: _merge_documents}


def _whole(trace: dict[str, Any], document: dict[str, Any]) -> Parsed:
    parsed, of_trace = Parsed(attached=1), _of_trace(trace) | {"trace_id": label(trace.get("id"))}
    rows = _observations(trace, document)
    if not rows:  # a list of traces names its observations, which are another list: they wait for what the trace says
        parsed.parts.append(RawPart(TRACE, required_text(trace, "id"), of_trace))
    documents = [d for o in rows if isinstance(o, dict) and _type(o) == "RETRIEVER" for d in _documents(o)]
    read: list[tuple[Any, RawInteraction | BadRecord]] = []
    for row in rows:
        if isinstance(row, dict) and _type(row) != "GENERATION":
            parsed.attached += 1
            continue
        try:
            if not isinstance(row, dict):
                raise BadRecord("not_an_object", f"an observation is {type(row).__name__}")
            raw = _merge_trace(_generation(row), [of_trace])
            read.append((row["id"], replace(raw, contexts=documents, wants=())))
        except BadRecord as e:
            read.append((row.get("id") if isinstance(row, dict) else None, e))
    # A generation around another one that was read repeats what that one says.
    wrappers = {made.parent_id for _, made in read if isinstance(made, RawInteraction)} - {""}
    for id, made in read:
        if id is not None and str(id) in wrappers:
            parsed.attached += 1
        elif isinstance(made, BadRecord):
            parsed.rejects.append(made)
        else:
            parsed.interactions.append(made)
    beside = items(document, "scores") if document is not trace else []
    for row in [*items(trace, "scores"), *beside, *items(trace, "corrections")]:
        try:
            if isinstance(row, dict):
                parsed.feedback.append(_score(row))
        except BadRecord as e:
            parsed.rejects.append(e)
    return parsed


def _observations(trace: dict[str, Any], document: dict[str, Any]) -> list[Any]:
    """The observations of a trace; ids alone are left out. An export's own list has the inputs and outputs that the trace's
    list leaves out.
    """
    listed = opened(trace.get("observations"))
    if not isinstance(listed, list | None):
        raise BadRecord("bad_type", f"'observations' is {type(listed).__name__}, not a list")
    rows = [o for o in listed or [] if not isinstance(o, str)]
    places = {o["id"]: n for n, o in enumerate(rows) if isinstance(o, dict) and isinstance(o.get("id"), str)}
    for row in items(document, "observations") if document is not trace else []:
        id = row.get("id") if isinstance(row, dict) else None
        place = places.pop(id, None) if isinstance(id, str) else None
        if place is None:
            rows.append(row)
        else:
            rows[place] = rows[place] | {k: v for k, v in row.items() if v is not None}
    return rows


def _observation_row(row: dict[str, Any]) -> Parsed:
    if _type(row) == "RETRIEVER" and (documents := _documents(row)):
        trace = label(first(row, "trace_id", "traceId"))
        return Parsed(parts=[RawPart(DOCUMENTS, trace, documents)] if trace else [], attached=1)
    if _type(row) != "GENERATION" or str(row.get("name")) in WRAPPERS:
        return Parsed(attached=1)
    return Parsed(interactions=[_merge_trace(_generation(row), [_of_trace(row)])])


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
    usage = obj(row, "usage_details") or obj(row, "usageDetails") or obj(row, "usage")
    cost = obj(row, "cost_details") or obj(row, "costDetails")
    trace = label(first(row, "trace_id", "traceId"))
    parameters = obj(row, "model_parameters") or obj(row, "modelParameters")
    costs = (
        (row, "total_cost"),
        (cost, "total"),
        (row, "totalCost"),
        (row, "calculatedTotalCost"),
        (usage, "totalCost"),
    )
    return RawInteraction(
        dialect="langfuse",
        native_id=required_text(row, "id"),
        ts=start,
        messages=messages,
        outputs=outputs,
        response_id=answered["id"] if isinstance(answered, dict) and isinstance(answered.get("id"), str) else "",
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
        latency_ms=span_ms(start, end) if end is not None else _ms(row, "latency"),
        ttft_ms=span_ms(start, began) if began is not None else _ms(row, "time_to_first_token", "timeToFirstToken"),
        input_tokens=_tokens(usage, row, INPUT_TOKENS),
        output_tokens=_tokens(usage, row, OUTPUT_TOKENS),
        cached_input_tokens=_tokens(usage, {}, ("input_cached_tokens", "cache_read_input_tokens")),
        reasoning_tokens=count(usage, "output_reasoning_tokens"),
        cost_usd=next((n for holder, key in costs if (n := numeric(holder, key)) is not None), None),
        # A row that has the trace's columns itself says all that its trace would.
        wants=(Want(TRACE, trace),) if trace and not row.keys() & {"session_id", "sessionId"} else (),
    )


def _ms(row: dict[str, Any], *keys: str) -> float | None:
    """Seconds under the first of the keys that holds a number, as milliseconds."""
    seconds = next((n for k in keys if (n := numeric(row, k)) is not None), None)
    return seconds * 1000 if seconds is not None and abs(seconds) < 1e9 else None


def _tokens(usage: dict[str, Any], row: dict[str, Any], keys: tuple[str, ...]) -> int | None:
    """A count under the name that it has had in one version or another."""
    return next((n for holder in (usage, row) for k in keys if (n := count(holder, k)) is not None), None)


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
        inner = items(answered, "choices") or items(answered, "candidates") or [answered]
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
    target = named[kind]
    if kind == "interaction" and named["trace"]:  # it may be any observation, not a generation only
        kind, target = "observation", f"{target}|{named['trace']}"
    name, value, said = required_text(row, "name"), row.get("value"), first(row, "string_value", "stringValue")
    data_type = str(first(row, "data_type", "dataType") or _type_of_value(value)).upper()
    if data_type == "CORRECTION":
        name, value_type, value = (
            "correction",
            "demonstration",
            label(first(row, "longStringValue", "long_string_value", "value")),
        )
    elif data_type == "BOOLEAN":
        value_type, value = "bool", _flag(value if value is not None else said)
    elif data_type == "CATEGORICAL":
        value_type, value = "category", label(said if said is not None else value)
    elif data_type == "TEXT":
        value_type, value = "comment", label(said if said is not None else value)
    elif data_type == "NUMERIC":
        value_type, value = "number", numeric(row, "value") if isinstance(value, str) else number(row, "value")
    else:
        raise BadRecord("unknown_version", f"a score of data type {data_type[:40]}")
    if value in (None, ""):
        raise BadRecord("no_value", f"a {data_type.lower()} score without a value")
    id, ts = saying(
        required_text(row, "id"),
        first(row, "created_at", "createdAt"),
        first(row, "updated_at", "updatedAt"),
        row.get("timestamp"),
    )
    return RawFeedback(
        dialect="langfuse",
        native_id=id,
        target_type=kind,
        target=target,
        name=name,
        value_type=value_type,
        value=json_value(value),
        comment=label(row.get("comment")),
        source_kind=SOURCES.get(str(row.get("source")).upper(), "unknown"),
        user_id=label(first(row, "author_user_id", "authorUserId")),
        ts=ts,
    )


def _type_of_value(value: Any) -> str:
    """What a score is that an older version wrote without its type."""
    return "BOOLEAN" if isinstance(value, bool) else "CATEGORICAL" if isinstance(value, str) else "NUMERIC"


def _flag(value: Any) -> bool | None:
    """A boolean as JSON (true, 1) or as a cell of a CSV file ("True", "0") has it."""
    said = str(value).strip().lower()
    if said in ("", "none"):
        return None
    if said in ("true", "false"):
        return said == "true"
    found = numeric({"value": value}, "value")
    if found is None:
        raise BadRecord("bad_value", f"a boolean score is {type(value).__name__}, neither true nor false")
    return found != 0
