"""An OpenAI request and its response (chat completions or Responses) -> the fields of an interaction.

    ({"model": "gpt-4o-mini", "messages": […]}, {"id": "chatcmpl-…", "choices": […], "usage": {…}})

Used by every log that keeps the bodies as they were: batch files, stored completions, gateways, Helicone, raw logs.
"""

from __future__ import annotations

from typing import Any

import orjson

from tasks.formats.fields import count, first, items, label, obj
from tasks.formats.messages import answers, conversation

PARAMS = (
    "temperature", "top_p", "max_tokens", "max_completion_tokens", "max_output_tokens", "seed", "n", "stop", "response_format",
    "frequency_penalty", "presence_penalty", "reasoning_effort", "service_tier",
)  # fmt: skip
STATUS = {"completed": "ok", "incomplete": "incomplete", "failed": "error", "cancelled": "error"}


def from_bodies(request: dict[str, Any], response: dict[str, Any]) -> dict[str, Any]:
    """Fields of a RawInteraction; 'messages' is [] where the request does not hold them, 'outputs' [] after a failure."""
    usage, choices = obj(response, "usage"), items(response, "choices")
    is_responses = response.get("object") == "response" or "output" in response
    error = first(response, "error")
    answered = first(response, "output") if is_responses else response if choices else None
    instructions = request.get("instructions") or response.get("instructions")
    asked = first(request, "messages", "input", "prompt")
    prompt = obj(response, "prompt") or obj(request, "prompt")
    found = {
        "messages": conversation(asked, instructions) if asked is not None else [],
        "outputs": answers(answered) if answered else [],
        "response_id": label(response.get("id")),
        "session_id": _conversation(request, response),
        "user_id": label(first(request, "safety_identifier", "user") or first(response, "safety_identifier", "user")),
        "kind": "completion" if response.get("object") == "text_completion" else "chat",
        "status": "error" if error else STATUS.get(str(response.get("status")), "ok"),
        "error": label(first(error, "type", "code", "message")) if isinstance(error, dict) else label(error),
        "finish_reason": label(choices[0].get("finish_reason")) if choices and isinstance(choices[0], dict) else "",
        "tools": items(request, "tools") or items(response, "tools"),
        "params": {p: v for p in PARAMS if (v := first(request, p) if first(request, p) is not None else first(response, p)) is not None},
        "model_requested": label(first(request, "model") or (response.get("model") if not request else None)),
        "model_served": label(response.get("model")),
        "prompt_name": label(prompt.get("id")),
        "prompt_version": label(prompt.get("version")),
        "prompt_variables": obj(prompt, "variables"),
        "input_tokens": count(usage, "prompt_tokens") if "prompt_tokens" in usage else count(usage, "input_tokens"),
        "output_tokens": count(usage, "completion_tokens") if "completion_tokens" in usage else count(usage, "output_tokens"),
        "cached_input_tokens": count(first(usage, "prompt_tokens_details", "input_tokens_details"), "cached_tokens"),
        "reasoning_tokens": count(first(usage, "completion_tokens_details", "output_tokens_details"), "reasoning_tokens"),
    }  # fmt: skip
    if found["finish_reason"] == "content_filter":
        found["status"] = "content_filter"
    return found


def joined_stream(body: Any) -> Any:
    """A streamed response as a proxy keeps it (`data: {…}` chunks) -> the response that it adds up to; others as they are."""
    if not isinstance(body, str) or not body.lstrip().startswith("data:"):
        return body
    whole: dict[str, Any] = {"object": "chat.completion"}
    texts: dict[int, dict[str, Any]] = {}
    for line in body.splitlines():
        try:
            chunk = orjson.loads(line.partition("data:")[2])
        except orjson.JSONDecodeError:
            continue
        if not isinstance(chunk, dict):
            continue
        if isinstance(chunk.get("response"), dict) and str(chunk.get("type", "")).startswith("response."):
            whole = chunk["response"]  # the Responses API sends the whole response at its end
            continue
        whole |= {k: chunk[k] for k in ("id", "model", "created", "usage") if chunk.get(k)}
        for choice in items(chunk, "choices"):
            if isinstance(choice, dict):
                _add_delta(texts.setdefault(count(choice, "index") or 0, {"content": "", "calls": {}}), choice)
    if texts and "output" not in whole:
        whole["choices"] = [
            {
                "index": n,
                "finish_reason": t.get("finish_reason"),
                "message": {"role": "assistant", "content": t["content"]}
                | ({"tool_calls": [t["calls"][k] for k in sorted(t["calls"])]} if t["calls"] else {}),
            }
            for n, t in sorted(texts.items())
        ]
    return whole


def _add_delta(into: dict[str, Any], choice: dict[str, Any]) -> None:
    delta = obj(choice, "delta")
    into["content"] += delta["content"] if isinstance(delta.get("content"), str) else ""
    into["finish_reason"] = choice.get("finish_reason") or into.get("finish_reason")
    for call in items(delta, "tool_calls"):
        if isinstance(call, dict):
            function = obj(call, "function")
            made = into["calls"].setdefault(
                count(call, "index") or 0, {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
            )
            made["id"] = label(call.get("id")) or made["id"]
            made["function"]["name"] += label(function.get("name"))
            made["function"]["arguments"] += label(function.get("arguments"))


def _conversation(request: dict[str, Any], response: dict[str, Any]) -> str:
    for body in (response, request):
        found = body.get("conversation")
        if found:
            return label(found.get("id")) if isinstance(found, dict) else label(found) if isinstance(found, str) else ""
    metadata = obj(response, "metadata") or obj(request, "metadata")
    return label(first(metadata, "session_id", "conversation_id", "thread_id"))
