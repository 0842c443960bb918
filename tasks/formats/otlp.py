"""OpenTelemetry: OTLP traces and logs, as file exporters and the receiver write them, one request or TracesData a line.

A generation span and the retrieval span beside it (same trace) become one interaction with its contexts:
    {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "…", "spanId": "…", "attributes": [
        {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}}, …]}]}]}]}

Which convention a span follows is found span by span (otlp_spans.py). A span that is no generation is counted as attached; a
bad one is rejected alone, not its whole line. Source: OTLP 1.x and the semantic conventions for generative AI.
"""

from __future__ import annotations

from typing import Any

from tasks.errors import BadRecord
from tasks.formats.fields import (
    Parsed,
    RawFeedback,
    RawInteraction,
    RawPart,
    Want,
    count,
    first,
    json_value,
    label,
    number,
    numeric,
    opened,
    required_text,
    text,
    within,
)
from tasks.formats.otlp_spans import Said, documents, read
from tasks.formats.otlp_values import attributes, indexed, listed, nanoseconds, value

EVALUATION = "gen_ai.evaluation.result"
OPERATION_DETAILS = "gen_ai.client.inference.operation.details"
ERROR = 2  # status code of a span
PARAMS = (
    "temperature",
    "max_tokens",
    "top_p",
    "top_k",
    "seed",
    "frequency_penalty",
    "presence_penalty",
    "stop_sequences",
)
ANNOTATORS = {"HUMAN": "human_end_user", "LLM": "llm_judge", "CODE": "code"}
DOCUMENTS = "otlp_documents"


def recognises(document: dict[str, Any]) -> bool:
    return "resourceSpans" in document or "resourceLogs" in document


def parse(document: dict[str, Any], origin: str = "") -> Parsed:
    """One TracesData or LogsData object -> its generations, the feedback on them, and the documents retrieved for them."""
    parsed = Parsed()
    spans = _leaves(document, "resourceSpans", "scopeSpans", "spans", parsed)
    logs = _leaves(document, "resourceLogs", "scopeLogs", "logRecords", parsed)
    if not spans and not logs and not parsed.rejects:
        raise BadRecord("no_spans", "the object holds neither spans nor log records")
    retrieved: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    context: dict[str, dict[str, Any]] = {}
    rest = []
    for span in spans:
        try:
            found = documents(span.a)
            trace = required_text(span.raw, "traceId") if found is not None else text(span.raw, "traceId")
            if found is not None:
                start = nanoseconds(span.raw, "startTimeUnixNano") if "startTimeUnixNano" in span.raw else 0
                retrieved.setdefault(trace, []).extend((start, d) for d in found)
                parsed.parts.append(RawPart(DOCUMENTS, trace, found))
                parsed.attached += 1
            else:
                rest.append(span)
            # What only the root span says (who asks, under which prompt) holds for the generations below it.
            for key in ("gen_ai.conversation.id", "session.id", "user.id", "gen_ai.prompt.name"):
                if span.a.get(key):
                    context.setdefault(trace, {}).setdefault(key, span.a[key])
        except BadRecord as e:
            parsed.rejects.append(e)
    for span in rest:
        _span(span, retrieved, context, parsed)
    for log in logs:
        _log(log, parsed)
    return parsed


def _merge_documents(raw: RawInteraction, found: list[Any]) -> RawInteraction:
    from msgspec.structs import replace

    return replace(raw, contexts=[d for rows in found for d in rows])


MERGE = {DOCUMENTS: _merge_documents}


class _Leaf:
    """A span or a log record with its own attributes and those of its resource unwrapped."""

    def __init__(self, raw: Any, resource: dict[str, Any]):
        self.raw = raw if isinstance(raw, dict) else {}
        self.a = attributes(self.raw)
        self.resource = resource


def _leaves(document: dict[str, Any], outer: str, middle: str, inner: str, parsed: Parsed) -> list[_Leaf]:
    found = []
    for r in listed(document, outer):
        resource = attributes(r.get("resource")) if isinstance(r, dict) else {}
        for scope in listed(r, middle):
            for raw in listed(scope, inner):
                try:
                    found.append(_Leaf(raw, resource))
                except BadRecord as e:
                    parsed.rejects.append(e)
    return found


def _span(span: _Leaf, retrieved: dict, context: dict, parsed: Parsed) -> None:
    try:
        events = listed(span.raw, "events")
        said = read(span.a, events)
        is_generation = said is not None and not said.more.pop("attached", False)
        interaction = _interaction(span, said, retrieved, context) if is_generation else None
        feedback = _evaluations(span, events, interaction) + _annotations(span, interaction)
    except BadRecord as e:
        parsed.rejects.append(e)
        return
    if interaction is not None:
        parsed.interactions.append(interaction)
    else:
        parsed.attached += 1
    parsed.feedback.extend(feedback)


def _interaction(span: _Leaf, said: Said, retrieved: dict, context: dict) -> RawInteraction:
    a = span.a
    trace, span_id = required_text(span.raw, "traceId"), required_text(span.raw, "spanId")
    start, end = nanoseconds(span.raw, "startTimeUnixNano"), nanoseconds(span.raw, "endTimeUnixNano")
    found = [d for began, d in retrieved.get(trace, []) if began <= max(start, end)]
    # Documents that were exported in another request are joined by the trace.
    wants = (Want(DOCUMENTS, trace),) if not found and span.raw.get("parentSpanId") else ()
    more = _common(span, context.get(trace, {}))
    more |= {k: v for k, v in said.more.items() if v not in (None, "", [], {})}
    first_token = numeric(a, "gen_ai.response.time_to_first_chunk")
    if first_token is not None:
        more["ttft_ms"] = first_token * 1000
    return RawInteraction(
        dialect="otlp",
        native_id=f"{trace}:{span_id}",
        ts=within(start // 1000),
        messages=said.messages,
        outputs=said.outputs,
        trace_id=trace,
        parent_id=text(span.raw, "parentSpanId"),
        contexts=found,
        # A clock that went backwards must not become a negative latency.
        latency_ms=(end - start) / 1e6 if end >= start and within(end // 1000) else None,
        wants=wants,
        **({"response_id": span_id} | more),
    )


def _common(span: _Leaf, context: dict[str, Any]) -> dict[str, Any]:
    """The fields that every convention shares, from the span, its trace and its resource."""
    a, resource, usage = span.a, span.resource, "gen_ai.usage."
    reasons = a.get("gen_ai.response.finish_reasons")
    status = span.raw.get("status") if isinstance(span.raw.get("status"), dict) else {}
    failed = status.get("code") == ERROR or "error.type" in a
    metadata = opened(a.get("metadata"))
    tools = opened(a.get("gen_ai.tool.definitions"))
    tags = a.get("tag.tags")
    confidence, tokens = number(a, "flywheel.confidence"), count(a, usage + "input_tokens")
    fields = {
        "session_id": label(first(a, "gen_ai.conversation.id", "session.id", "traceloop.association.properties.session_id")
                            or first(context, "gen_ai.conversation.id", "session.id")),
        "user_id": label(first(a, "user.id", "enduser.id", "traceloop.association.properties.user_id") or context.get("user.id")),
        "tenant": label(first(a, "tenant.id", "tenant", "tenant_id") or first(metadata, "tenant", "tenant_id")
                        or first(resource, "tenant.id", "tenant", "tenant_id")),
        "status": "error" if failed else "ok",
        "error": label(a.get("error.type") or status.get("message")) if failed else "",
        "finish_reason": label(reasons[0]) if isinstance(reasons, list) and reasons else "",
        "tools": tools if isinstance(tools, list) else [],
        "params": {p: a[f"gen_ai.request.{p}"] for p in PARAMS if f"gen_ai.request.{p}" in a},
        "provider": label(first(a, "gen_ai.provider.name", "gen_ai.system")).lower(),
        "model_requested": label(a.get("gen_ai.request.model")),
        "model_served": label(a.get("gen_ai.response.model")),
        "model_version": label(a.get("flywheel.model_version")),
        "prompt_name": label(first(a, "gen_ai.prompt.name") or context.get("gen_ai.prompt.name")),
        "prompt_version": label(a.get("gen_ai.prompt.version")),
        "app_version": label(resource.get("service.version")),
        "environment": label(first(resource, "deployment.environment.name", "deployment.environment")),
        "tags": [t for t in tags if isinstance(t, str)] if isinstance(tags, list) else [],
        "kind": "completion" if a.get("gen_ai.operation.name") == "text_completion" else "chat",
        "response_id": label(first(a, "gen_ai.response.id", "ai.response.id")),
        "confidence": confidence,
        "input_tokens": tokens if tokens is not None else count(a, usage + "prompt_tokens"),
        "output_tokens": count(a, usage + "output_tokens")
        if usage + "output_tokens" in a
        else count(a, usage + "completion_tokens"),
        "cached_input_tokens": count(a, usage + "cache_read.input_tokens"),
        "reasoning_tokens": count(a, usage + "reasoning.output_tokens"),
    }  # fmt: skip
    return {k: v for k, v in fields.items() if v not in (None, "", [], {})}


def _log(log: _Leaf, parsed: Parsed) -> None:
    """A log record: the details of a generation, or an evaluation of one."""
    try:
        name = log.raw.get("eventName") or log.a.get("event.name")
        body = value(log.raw.get("body"))
        a = log.a | (body if isinstance(body, dict) else {})
        log.a = a
        if name == EVALUATION:
            trace, span_id = text(log.raw, "traceId"), text(log.raw, "spanId")
            native = f"{trace}:{span_id}" if trace and span_id else ""
            parsed.feedback.append(_evaluation(a, log.raw, "", native))
        elif name == OPERATION_DETAILS:
            said = read({"gen_ai.operation.name": "chat"} | a, [])
            if said is None:  # an embedding, or a tool: no generation
                parsed.attached += 1
                return
            at = nanoseconds(
                log.raw, "timeUnixNano" if log.raw.get("timeUnixNano") not in (None, "0", 0) else "observedTimeUnixNano"
            )
            trace, span_id, response = (
                text(log.raw, "traceId"),
                text(log.raw, "spanId"),
                label(a.get("gen_ai.response.id")),
            )
            if not ((trace and span_id) or response):
                raise BadRecord("missing_field", "the event names neither its span nor its response")
            native = f"{trace}:{span_id}" if trace and span_id else response
            fields = {"response_id": span_id or response} | _common(log, {})
            parsed.interactions.append(
                RawInteraction(
                    dialect="otlp",
                    native_id=native,
                    ts=within(at // 1000),
                    messages=said.messages,
                    outputs=said.outputs,
                    trace_id=trace,
                    **fields,
                )
            )
        else:
            parsed.attached += 1
    except BadRecord as e:
        parsed.rejects.append(e)


def _evaluations(span: _Leaf, events: list[Any], interaction: RawInteraction | None) -> list[RawFeedback]:
    trace, span_id = text(span.raw, "traceId"), text(span.raw, "spanId")
    native = interaction.native_id if interaction else ""
    found = []
    for event in events:
        if isinstance(event, dict) and event.get("name") == EVALUATION:
            response = interaction.response_id if interaction else ""
            found.append(
                _evaluation(attributes(event), event, response, native, trace if not interaction and span_id else "")
            )
    return found


def _evaluation(a: dict[str, Any], row: dict[str, Any], response: str, native: str, trace: str = "") -> RawFeedback:
    name, ns = required_text(a, "gen_ai.evaluation.name"), nanoseconds(row, "timeUnixNano")
    score, said = a.get("gen_ai.evaluation.score.value"), a.get("gen_ai.evaluation.score.label")
    if score is None and said is None:
        raise BadRecord("no_value", f"an {EVALUATION} has neither score.value nor score.label")
    named = label(a.get("gen_ai.response.id")) or ("" if native else response)
    kind, target = ("interaction", native) if native else ("response", named) if named else ("trace", trace)
    if not target:
        raise BadRecord("no_target", f"an {EVALUATION} names neither a response nor a span")
    if isinstance(score, bool):
        value_type, given = "bool", score
    elif score is not None:
        value_type, given = "number", number({"score.value": score}, "score.value")
    else:
        value_type, given = "category", label(said)
    explanation = label(a.get("gen_ai.evaluation.explanation"))
    return RawFeedback(
        dialect="otlp",
        native_id=f"eval:{target}:{name}:{ns}",
        target_type=kind,
        target=target,
        name=name,
        value_type=value_type,
        value=json_value(given),
        comment=explanation or (label(said) if score is not None else ""),
        ts=within(ns // 1000),
    )


def _annotations(span: _Leaf, interaction: RawInteraction | None) -> list[RawFeedback]:
    """OpenInference: annotations and evaluations as attributes, on the span itself or on one that links to its target."""
    rows = [(prefix, r) for prefix in ("annotations", "evaluations") for r in indexed(span.a, prefix)]
    rows += [(f"{on}.{prefix}", r) for on in ("trace", "session") for prefix in ("annotations", "evaluations")
             for r in indexed(span.a, f"{on}.{prefix}")]  # fmt: skip
    if not rows:
        return []
    trace, span_id = required_text(span.raw, "traceId"), required_text(span.raw, "spanId")
    links = [link for link in listed(span.raw, "links") if isinstance(link, dict)]
    ts = within(nanoseconds(span.raw, "endTimeUnixNano") // 1000)
    found = []
    for where, flat in rows:
        row = {k.partition(".")[2]: v for k, v in flat.items()}
        on, _, _ = where.rpartition(".")
        if on == "session":
            kind, target = "session", label(first(span.a, "session.id"))
        elif links:
            # Feedback that came later is a span of its own; its Link names what it is about, its parent does not.
            kind, target = "interaction", f"{text(links[0], 'traceId')}:{text(links[0], 'spanId')}"
        elif on == "trace" or interaction is None:
            kind, target = "trace", trace
        else:
            kind, target = "interaction", interaction.native_id
        found.append(_annotation(row, kind, target, f"{trace}:{span_id}", ts, where))
    return [f for f in found if f is not None]


def _annotation(row: dict[str, Any], kind: str, target: str, origin: str, ts: int, where: str) -> RawFeedback:
    name = required_text(row, "name")
    score, said = row.get("score"), row.get("label")
    if score is None and said is None and row.get("explanation") is None:
        raise BadRecord("no_value", "an annotation has neither score, label nor explanation")
    if isinstance(score, bool):
        value_type, given = "bool", score
    elif score is not None:
        value_type, given = "number", number(row, "score")
    elif said is not None:
        value_type, given = "category", label(said)
    else:
        value_type, given = "comment", label(row["explanation"])
    who = label(row.get("identifier"))
    return RawFeedback(
        dialect="otlp",
        native_id=f"{where}:{origin}:{name}:{who}",
        target_type=kind,
        target=target,
        name=name,
        value_type=value_type,
        value=given,
        comment=label(row.get("explanation")) if value_type != "comment" else "",
        source_kind=ANNOTATORS.get(str(row.get("annotator_kind")), "unknown"),
        user_id=who,
        ts=ts,
    )
