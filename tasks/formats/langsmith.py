"""LangSmith: exported runs (`run_type` llm is a generation) and their feedback.

    {"id": "0190…", "run_type": "llm", "inputs": {"messages": [[…]]}, "outputs": {"generations": [[…]]},
     "session_id": "<the project>"}

A run's `session_id` is the project; the chat session stands in extra.metadata.
"""

from __future__ import annotations

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
    maybe_time_us,
    numeric,
    obj,
    required_text,
    saying,
    span_ms,
    time_us,
)
from tasks.formats.messages import answers, as_text, conversation

SOURCES = {
    "app": "human_end_user",
    "api": "human_end_user",
    "model": "llm_judge",
    "auto_eval": "llm_judge",
    "code": "code",
}
SWITCH_ON = "the run has no inputs or outputs; unset LANGSMITH_HIDE_INPUTS and LANGSMITH_HIDE_OUTPUTS"


def recognises(document: dict[str, Any]) -> bool:
    return "run_type" in document or ({"key", "run_id"} <= document.keys())


def parse(document: dict[str, Any], origin: str = "") -> Parsed:
    if "run_type" not in document:
        return Parsed(feedback=_feedback(document))
    return Parsed(interactions=[_run(document)]) if document["run_type"] == "llm" else Parsed(attached=1)


def _run(row: dict[str, Any]) -> RawInteraction:
    extra, inputs, outputs = obj(row, "extra"), obj(row, "inputs"), obj(row, "outputs")
    metadata, parameters = obj(extra, "metadata"), obj(extra, "invocation_params")
    asked = first(inputs, "messages", "prompts", "prompt", "input")
    messages = conversation(asked if asked is not None else inputs or None)
    answered = answers(outputs) if outputs else []
    failed = row.get("status") == "error" or bool(row.get("error"))
    if not messages or (not answered and not failed):
        raise BadRecord("no_content", SWITCH_ON)
    start, end = time_us(row.get("start_time")), maybe_time_us(row.get("end_time"))
    generations = items(outputs, "generations")
    while generations and isinstance(generations[0], list):
        generations = generations[0]
    told = generations[0] if generations and isinstance(generations[0], dict) else {}
    usage = obj(obj(obj(told, "message"), "kwargs"), "usage_metadata")
    tokens_in, tokens_out = count(row, "prompt_tokens"), count(row, "completion_tokens")
    return RawInteraction(
        dialect="langsmith",
        native_id=required_text(row, "id"),
        ts=start,
        messages=messages,
        outputs=answered,
        response_id=label(first(obj(obj(told, "message"), "kwargs"), "id")),
        trace_id=label(row.get("trace_id")),
        parent_id=label(row.get("parent_run_id")),
        session_id=label(first(metadata, "session_id", "thread_id", "conversation_id")),
        user_id=label(first(metadata, "user_id", "ls_user_id")),
        tenant=label(first(metadata, "tenant", "tenant_id")),
        status="error" if failed else "ok",
        error=as_text(row.get("error")).strip().rpartition("\n")[2] if failed else "",
        finish_reason=label(first(obj(told, "generation_info"), "finish_reason")),
        tools=items(parameters, "tools"),
        params={k: v for k, v in parameters.items() if k not in ("tools", "functions", "_type")},
        provider=label(metadata.get("ls_provider")).lower(),
        model_requested=label(first(metadata, "ls_model_name") or first(parameters, "model", "model_name")),
        model_served=label(first(obj(outputs, "llm_output"), "model_name")),
        prompt_name=label(metadata.get("lc_hub_repo")),
        prompt_version=label(metadata.get("lc_hub_commit_hash")),
        app_version=label(metadata.get("revision_id")),
        tags=[t for t in items(row, "tags") if isinstance(t, str)],
        latency_ms=span_ms(start, end),
        ttft_ms=span_ms(start, maybe_time_us(row.get("first_token_time"))),
        input_tokens=tokens_in if tokens_in is not None else count(usage, "input_tokens"),
        output_tokens=tokens_out if tokens_out is not None else count(usage, "output_tokens"),
        cost_usd=numeric(row, "total_cost"),
    )


def _feedback(row: dict[str, Any]) -> list[RawFeedback]:
    """A feedback row is one event, and a second one where it brings a correction along."""
    source = obj(row, "feedback_source")
    target = label(first(row, "run_id", "trace_id"))
    if not target:
        raise BadRecord("no_target", "the feedback names neither a run nor a trace")
    kind = "any" if row.get("run_id") else "trace"
    id, ts = saying(required_text(row, "id"), row.get("created_at"), row.get("modified_at"))
    shared = {
        "dialect": "langsmith",
        "target_type": kind,
        "target": target,
        "source_kind": SOURCES.get(str(source.get("type")), "unknown"),
        "user_id": label(source.get("user_id")),
        "ts": ts,
    }
    name, comment = required_text(row, "key"), label(row.get("comment"))
    score, value = row.get("score"), row.get("value")
    found = []
    if isinstance(score, bool):
        found.append(("bool", score))
    elif isinstance(score, int | float):
        found.append(("number", numeric(row, "score")))
    elif value not in (None, "", {}):
        found.append(("category", label(value) if isinstance(value, str | int | float) else json_value(value)))
    elif comment and row.get("correction") is None:
        found, comment = [("comment", comment)], ""
    events = [RawFeedback(native_id=id, name=name, value_type=t, value=v, comment=comment, **shared) for t, v in found]
    correction = row.get("correction")
    if correction not in (None, "", {}):
        wanted = (
            first(correction, "desired", "output", "answer", "text", "content")
            if isinstance(correction, dict)
            else correction
        )
        wanted = as_text(wanted if wanted is not None else correction)
        events.append(
            RawFeedback(
                native_id=f"{id}:correction", name="correction", value_type="demonstration", value=wanted, **shared
            )
        )
    if not events:
        raise BadRecord("no_value", "the feedback has neither score, value, comment nor correction")
    return events
