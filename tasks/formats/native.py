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
    items,
    json_value,
    number,
    obj,
    required_text,
    rfc3339_us,
    text,
    whole,
)
from tasks.formats.messages import answers, conversation

# How a feedback line may name what it is about, the most exact first.
TARGETS = {"response_id": "any", "id": "any", "trace_id": "trace", "session_id": "session"}
ROLES = ("system", "developer", "user", "assistant", "tool")
SOURCES = ("human_end_user", "human_annotator", "llm_judge", "code", "implicit")
TEXTS = (
    "response_id", "trace_id", "parent_id", "session_id", "user_id", "tenant", "finish_reason", "provider", "model_requested",
    "model_served", "model_version", "prompt_name", "prompt_version", "app_version", "environment", "language", "error",
)  # fmt: skip
UNSTORABLE = "unstorable/1"  # what the edge keeps of a record that no row can hold
ERASED = "erased/1"  # what stands in the place of a record whose person was erased
ERASED_WHY = "it was of somebody whose data was erased, and is kept out"
NUMBERS = ("confidence", "latency_ms", "ttft_ms", "cost_usd")
COUNTS = ("input_tokens", "output_tokens", "cached_input_tokens", "reasoning_tokens")


def recognises(document: dict[str, Any]) -> bool:
    return "flywheel" in document


def parse(line: dict[str, Any], origin: str = "") -> Parsed:
    """One line -> one interaction or one feedback event. Raises BadRecord."""
    kind = line.get("flywheel")
    if kind == "interaction/1":
        return Parsed(interactions=[_interaction(line)])
    if kind == "feedback/1":
        return Parsed(feedback=[_feedback(line)])
    if kind == UNSTORABLE:
        raise BadRecord("bad_value", f"the record cannot be stored: {text(line, 'why')}")
    if kind == ERASED:
        raise BadRecord("erased", ERASED_WHY)
    raise BadRecord("unknown_version", f"'flywheel' is {kind!r}; this version reads interaction/1 and feedback/1")


def _interaction(line: dict[str, Any]) -> RawInteraction:
    native_id = required_text(line, "id")
    contexts = line.get("contexts") or []
    if not isinstance(contexts, list) or not all(isinstance(c, dict) for c in contexts):
        raise BadRecord("bad_contexts", "'contexts' must be a list of {id, text, score}")
    given = {key: text(line, key) for key in TEXTS} | {key: number(line, key) for key in NUMBERS}
    given |= {key: whole(line, key) for key in COUNTS}
    given["response_id"] = given["response_id"] or native_id
    given["finish_reason"] = given["finish_reason"] or "stop"
    messages = _messages(line.get("messages"))
    if line.get("outputs"):
        outputs = answers(line["outputs"])
    else:
        outputs = [{"role": "assistant", "content": required_text(line, "response", may_be_empty=True)}]
    return RawInteraction(
        dialect="flywheel",
        native_id=native_id,
        ts=rfc3339_us(line.get("time")),
        messages=messages,
        outputs=outputs,
        kind=text(line, "kind") or "chat",
        status=text(line, "status") or ("error" if given["error"] else "ok"),
        contexts=[{"id": text(c, "id"), "text": text(c, "text"), "score": number(c, "score")} for c in contexts],
        tools=items(line, "tools"),
        params=obj(line, "params"),
        prompt_variables=obj(line, "prompt_variables"),
        tags=[t for t in items(line, "tags") if isinstance(t, str)],
        attributes=obj(line, "attributes"),
        **given,
    )


def _messages(value: Any) -> list[dict[str, Any]]:
    """Our own lines are read hard: a role that no chat template knows is a mistake of the writer, not a dialect."""
    if not isinstance(value, list) or not value:
        raise BadRecord("no_content", "no input messages; is content capture switched on in the application?")
    for m in value:
        spoken = isinstance(m, dict) and m.get("role") in ROLES
        if not spoken or not (isinstance(m.get("content"), str) or (m.get("content") is None and m.get("tool_calls"))):
            raise BadRecord("bad_message", f"a message needs a role of {', '.join(ROLES)} and a string content")
    messages = conversation(value)
    if messages[-1]["role"] not in ("user", "tool") or not any(m["role"] == "user" for m in messages):
        raise BadRecord("no_question", "the input must end with what the user (or a tool) said")
    return messages


def _feedback(line: dict[str, Any]) -> RawFeedback:
    target = line.get("target")
    named = {key: text(target, key) for key in TARGETS} if isinstance(target, dict) else {}
    key = next((k for k in TARGETS if named.get(k)), "")
    if not key:
        raise BadRecord("no_target", f"'target' needs one of {', '.join(TARGETS)}")
    if "value" not in line:
        raise BadRecord("no_value", "'value' is missing; null takes earlier feedback back")
    source = text(line, "source") or "human_end_user"
    if source not in SOURCES:
        raise BadRecord("bad_source", f"'source' is {source!r}; known: {', '.join(SOURCES)}")
    value_type, value = _typed(text(line, "type"), required_text(line, "name"), line["value"])
    return RawFeedback(
        dialect="flywheel",
        native_id=required_text(line, "id"),
        target_type=TARGETS[key],
        target=named[key],
        name=required_text(line, "name"),
        value_type=value_type,
        value=value,
        comment=text(line, "comment"),
        source_kind=source,
        user_id=text(line, "user_id"),
        tenant=text(line, "tenant"),
        ts=rfc3339_us(line.get("time")),
    )


def _typed(declared: str, name: str, value: Any) -> tuple[str, Any]:
    """The value's type as the line declares it, or as its JSON type and the event's name tell."""
    if declared:
        return declared, json_value(value)
    if isinstance(value, bool):
        return "bool", value
    if isinstance(value, int | float):
        return "number", number({"value": value}, "value")
    if isinstance(value, str):
        return {"comment": "comment", "edit": "demonstration", "correction": "demonstration"}.get(
            name, "category"
        ), value
    return "category", json_value(value)
