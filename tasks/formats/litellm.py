"""LiteLLM: StandardLoggingPayload, as its S3, GCS and callback loggers write it.

    {"litellm_call_id": "5e7a…", "call_type": "completion", "messages": […], "response": {"choices": […]}, "trace_id": "s-1", …}

With metadata.session_id set, the session comes back as `trace_id`; `user=` lands in model_parameters only.
"""

from __future__ import annotations

from typing import Any

from tasks.errors import BadRecord
from tasks.formats.fields import (
    Parsed,
    RawInteraction,
    count,
    first,
    items,
    label,
    maybe_time_us,
    numeric,
    obj,
    required_text,
    span_ms,
    time_us,
)
from tasks.formats.messages import answers, conversation


def recognises(document: dict[str, Any]) -> bool:
    return "litellm_call_id" in document or {"call_type", "custom_llm_provider", "startTime"} <= document.keys()


def parse(row: dict[str, Any], origin: str = "") -> Parsed:
    if "embedding" in str(row.get("call_type")):
        return Parsed(attached=1)
    redacted = "redacted-by-litellm"
    response, failed = row.get("response"), row.get("status") == "failure"
    if (isinstance(response, str) and redacted in response) or redacted in str(row.get("messages"))[:200]:
        raise BadRecord("no_content", "the payload is redacted by LiteLLM; unset turn_off_message_logging")
    messages = conversation(row.get("messages"))
    outputs = answers(response) if response else []
    if not messages or (not outputs and not failed):
        raise BadRecord("no_content", "the payload has no messages or no response; unset turn_off_message_logging")
    parameters, metadata, error = obj(row, "model_parameters"), obj(row, "metadata"), obj(row, "error_information")
    prompt, usage = obj(metadata, "prompt_management_metadata"), obj(metadata, "usage_object")
    start, end = time_us(row.get("startTime")), maybe_time_us(row.get("endTime"))
    choices = items(response, "choices")
    trace = label(row.get("trace_id"))
    total = numeric(row, "total_tokens")
    return Parsed(
        interactions=[
            RawInteraction(
                dialect="litellm",
                native_id=required_text(row, "litellm_call_id"),
                ts=start,
                messages=messages,
                outputs=outputs,
                response_id=label(first(response, "id")) if not failed else "",
                trace_id=trace,
                session_id=label(row.get("session_id")) or trace,
                user_id=label(first(row, "end_user") or first(parameters, "user")),
                tenant=label(first(obj(metadata, "requester_metadata"), "tenant", "tenant_id")),
                status="error" if failed else "ok",
                error=label(first(error, "error_class") or first(row, "error_str")) if failed else "",
                finish_reason=label(choices[0].get("finish_reason"))
                if choices and isinstance(choices[0], dict)
                else "",
                tools=items(parameters, "tools"),
                params={k: v for k, v in parameters.items() if k not in ("user", "tools", "metadata", "extra_headers")},
                provider=label(row.get("custom_llm_provider")).lower(),
                model_requested=label(first(row, "model_group", "model")),
                model_served=label(first(response, "model")),
                prompt_name=label(first(prompt, "prompt_id")),
                prompt_variables=obj(prompt, "prompt_variables"),
                tags=[t for t in items(row, "request_tags") if isinstance(t, str)],
                latency_ms=span_ms(start, end),
                ttft_ms=span_ms(start, maybe_time_us(row.get("completionStartTime"))),
                input_tokens=count(row, "prompt_tokens") if total else None,
                output_tokens=count(row, "completion_tokens") if total else None,
                cached_input_tokens=count(obj(usage, "prompt_tokens_details"), "cached_tokens"),
                reasoning_tokens=count(obj(usage, "completion_tokens_details"), "reasoning_tokens"),
                cost_usd=numeric(row, "response_cost"),
            )
        ]
    )
