"""TensorZero: rows of ChatInference, JsonInference, ModelInference and its four feedback tables.

    {"id": "01920c75-…", "function_name": "billing_chat", "variant_name": "v7", "episode_id": "0192…", "input": "{…}", "output": "[…]"}

Ids are UUIDv7, so the time is in them. A metric's target is an inference or an episode. Tool results stand under role user.
"""

from __future__ import annotations

import uuid
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
    json_value,
    label,
    numeric,
    obj,
    opened,
    required_text,
    within,
)
from tasks.formats.messages import answers, as_text, conversation

MODEL = "tensorzero_model"


def recognises(document: dict[str, Any]) -> bool:
    keys = document.keys()
    inference = {"function_name", "episode_id", "input", "output"} <= keys
    model = {"inference_id", "model_name"} <= keys
    feedback = {"target_id", "metric_name", "value"} <= keys or {"target_id", "target_type", "value"} <= keys
    demonstration = {"inference_id", "value"} <= keys
    return inference or model or feedback or demonstration


def parse(row: dict[str, Any], origin: str = "") -> Parsed:
    if "model_name" in row:
        return Parsed(parts=[RawPart(MODEL, required_text(row, "inference_id"), _of_model(row))], attached=1)
    if "function_name" in row:
        if "variant_name" not in row:
            raise BadRecord(
                "not_a_log", "a datapoint of a dataset, not an inference; import it as examples, not as a log"
            )
        return Parsed(interactions=[_inference(row)])
    return Parsed(feedback=[_feedback(row)])


def _merge_model(raw: RawInteraction, found: list[Any]) -> RawInteraction:
    # Retries and fallbacks are several calls: the last one answered, all of them cost.
    last = {k: v for k, v in found[-1].items() if v is not None}
    costs = [m["cost_usd"] for m in found if m.get("cost_usd") is not None]
    return replace(raw, **(last | ({"cost_usd": sum(costs)} if costs else {})))


MERGE = {MODEL: _merge_model}


def _of_model(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "model_requested": label(row.get("model_name")),
        "provider": label(row.get("model_provider_name")).lower(),
        "input_tokens": count(row, "input_tokens"),
        "output_tokens": count(row, "output_tokens"),
        "cost_usd": numeric(row, "cost"),
        "finish_reason": label(row.get("finish_reason")),
    }


def _inference(row: dict[str, Any]) -> RawInteraction:
    id, given, answered = required_text(row, "id"), opened(row.get("input")), opened(row.get("output"))
    is_json = isinstance(answered, dict) and ("raw" in answered or "parsed" in answered)
    if is_json:
        raw = first(answered, "raw")
        outputs = [{"role": "assistant", "content": raw if isinstance(raw, str) else as_text(answered.get("parsed"))}]
    else:
        outputs = answers(answered) if answered else []
    system = given.get("system") if isinstance(given, dict) else None
    messages = conversation(first(given, "messages"), as_text(system) if system else None)
    if not messages or not outputs:
        raise BadRecord("no_content", "the inference has no messages or no output")
    tags = obj(row, "tags")
    return RawInteraction(
        dialect="tensorzero",
        native_id=id,
        ts=_time(id),
        messages=messages,
        outputs=outputs,
        trace_id=label(row.get("episode_id")),
        session_id=label(row.get("episode_id")),
        user_id=label(first(tags, "user_id", "tensorzero::user_id")),
        tenant=label(first(tags, "tenant", "tenant_id")),
        kind="json" if is_json else "chat",
        tools=t if isinstance(t := first(opened(row.get("tool_params")), "tools_available"), list) else [],
        params=obj(row, "inference_params"),
        prompt_name=label(row.get("function_name")),
        prompt_version=label(row.get("variant_name")),
        latency_ms=numeric(row, "processing_time_ms"),
        ttft_ms=numeric(row, "ttft_ms"),
        attributes={"config_hash": h} if (h := label(row.get("snapshot_hash"))) else {},
        wants=(Want(MODEL, id),),
    )


def _feedback(row: dict[str, Any]) -> RawFeedback:
    id, value, tags = required_text(row, "id"), row.get("value"), obj(row, "tags")
    name, source = label(row.get("metric_name")), "human_end_user"
    if "inference_id" in row:
        value_type, name, source = "demonstration", "demonstration", "human_annotator"
        inner = opened(value)
        text = (
            answers(inner)[0]["content"]
            if isinstance(inner, list) and answers(inner)
            else as_text(first(inner, "raw") or inner)
        )
        value = text
    elif isinstance(value, bool):
        value_type = "bool"
    elif isinstance(value, int | float):
        value_type, value = "number", numeric(row, "value")
    else:
        value_type, name, value = "comment", "comment", label(value)
    return RawFeedback(
        dialect="tensorzero",
        native_id=id,
        target_type="any",
        target=required_text({"target": first(row, "inference_id", "target_id")}, "target"),
        name=name,
        value_type=value_type,
        value=json_value(value),
        ts=_time(id),
        source_kind=source,
        user_id=label(first(tags, "user_id", "author")),
        tenant=label(first(tags, "tenant", "tenant_id")),
    )


def _time(id: str) -> int:
    """The time in a UUIDv7, to the millisecond."""
    try:
        parsed = uuid.UUID(id)
    except ValueError:
        raise BadRecord("bad_time", f"{id[:40]!r} is no UUIDv7, so its time is unknown") from None
    if parsed.version != 7:
        raise BadRecord("bad_time", f"{id[:40]!r} is a UUID of version {parsed.version}, so its time is unknown")
    return within((parsed.int >> 80) * 1000)
