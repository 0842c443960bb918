"""OpenAI: stored completions, Responses, batch files, and logs of requests with their responses.

    {"id": "chatcmpl-…", "object": "chat.completion", "choices": […], "metadata": {…}}        (its messages come apart)
    {"custom_id": "req-1", "response": {"status_code": 200, "body": {…}}, "error": null}        (its input comes apart)

Neither stored completions nor Responses hold the prompt: it is a resource of its own, joined by id; a batch output needs the
batch's input file, joined by custom_id within one folder, because custom ids are unique in one batch only.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from tasks.errors import BadRecord
from tasks.formats.fields import (
    Parsed,
    RawInteraction,
    RawPart,
    Want,
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
from tasks.formats.messages import conversation
from tasks.formats.openai_bodies import from_bodies

MESSAGES, INPUT, BATCH = "openai_messages", "openai_input", "openai_batch_input"


def recognises(document: dict[str, Any]) -> bool:
    kind = document.get("object")
    return (
        kind in ("chat.completion", "response", "text_completion")
        or (kind == "list" and isinstance(document.get("data"), list))
        or ("custom_id" in document and ("body" in document or "response" in document))
        or (isinstance(document.get("request"), dict) and isinstance(document.get("response"), dict)
            and ("messages" in document["request"] or "input" in document["request"] or "prompt" in document["request"]))
    )  # fmt: skip


def parse(document: dict[str, Any], origin: str = "") -> Parsed:
    if "custom_id" in document:
        return _batch(document, origin)
    if "request" in document:
        return Parsed(interactions=[_logged(document)])
    if document.get("object") == "list":
        return _listed(document, origin)
    return Parsed(interactions=[_stored(document)])


def _merge_messages(raw: RawInteraction, found: list[Any]) -> RawInteraction:
    system = [m for m in raw.messages if m["role"] == "system"]
    return replace(raw, messages=[*system, *conversation(found[-1])])


def _merge_batch(raw: RawInteraction, found: list[Any]) -> RawInteraction:
    given = from_bodies(found[-1], {})
    more = {k: given[k] for k in ("messages", "params", "model_requested", "user_id", "tools") if given[k]}
    return replace(raw, **more)


MERGE = {MESSAGES: _merge_messages, INPUT: _merge_messages, BATCH: _merge_batch}


def _stored(row: dict[str, Any]) -> RawInteraction:
    id, is_response = required_text(row, "id"), row.get("object") == "response"
    fields, metadata = from_bodies({}, row), obj(row, "metadata")
    start, end = time_us(first(row, "created", "created_at")), maybe_time_us(row.get("completed_at"))
    fields["user_id"] = fields["user_id"] or label(first(metadata, "user_id", "user"))
    fields["prompt_name"] = fields["prompt_name"] or label(first(metadata, "prompt_name", "prompt_id"))
    fields["prompt_version"] = fields["prompt_version"] or label(metadata.get("prompt_version"))
    if not fields["messages"] and isinstance(row.get("instructions"), str) and row["instructions"]:
        fields["messages"] = [{"role": "system", "content": row["instructions"]}]
    return RawInteraction(
        dialect="openai_responses" if is_response else "openai_stored",
        native_id=id,
        ts=start,
        tenant=label(first(metadata, "tenant", "tenant_id")),
        parent_id=label(row.get("previous_response_id")),
        latency_ms=span_ms(start, end),
        wants=() if fields["status"] == "error" else (Want(INPUT if is_response else MESSAGES, id, True),),
        **fields,
    )


def _listed(row: dict[str, Any], origin: str) -> Parsed:
    """The messages of a stored completion, the input of a response, or a page of either."""
    if completion := label(row.get("completion_id")):
        return Parsed(parts=[RawPart(MESSAGES, completion, row["data"])], attached=1)
    if response := label(row.get("response_id")):
        return Parsed(parts=[RawPart(INPUT, response, row["data"])], attached=1)
    parsed = Parsed(attached=0 if items(row, "data") else 1)  # the page after the last one is empty
    for item in items(row, "data"):
        try:
            if not isinstance(item, dict) or not recognises(item) or item.get("object") == "list":
                raise BadRecord("unknown_dialect", "the list holds something else than completions or responses")
            parsed.interactions.append(_stored(item))
        except BadRecord as e:
            parsed.rejects.append(e)
    return parsed


def _batch(row: dict[str, Any], origin: str) -> Parsed:
    custom = required_text(row, "custom_id")
    key = f"{origin}\n{custom}"
    if "body" in row and "response" not in row:
        return Parsed(parts=[RawPart(BATCH, key, obj(row, "body"))], attached=1)
    response, failed = obj(row, "response"), row.get("error")
    body = obj(response, "body")
    fields = from_bodies({}, body) | {"model_requested": ""}
    code = response.get("status_code")
    if failed or (isinstance(code, int) and code >= 400):
        fields["status"], fields["outputs"] = "error", []
        fields["error"] = fields["error"] or label(
            first(failed, "code", "message") if isinstance(failed, dict) else failed
        )
        fields["model_served"] = ""
    created = maybe_time_us(first(body, "created", "created_at"))
    no_time = {} if created is not None else {"attributes": {"no_time": True}}
    return Parsed(
        interactions=[
            RawInteraction(
                dialect="openai_batch",
                native_id=required_text(row, "id"),
                ts=created or 0,
                # A failed call is known at once; an answer is nothing without its question.
                wants=() if fields["status"] == "error" else (Want(BATCH, key, True),),
                **fields,
                **no_time,
            )
        ]
    )


def _logged(row: dict[str, Any]) -> RawInteraction:
    request, response = obj(row, "request"), obj(row, "response")
    fields = from_bodies(request, response)
    if not fields["messages"] or (not fields["outputs"] and fields["status"] == "ok"):
        raise BadRecord(
            "no_content", "the line has no messages or no answer; log the whole request and response bodies"
        )
    user = label(first(row, "user", "user_id"))
    session = label(first(row, "session_id", "conversation_id"))
    return RawInteraction(
        dialect="openai_log",
        native_id=label(first(row, "id", "request_id")) or required_text(response, "id"),
        ts=time_us(first(row, "ts", "timestamp", "time") or first(response, "created", "created_at")),
        tenant=label(first(row, "tenant", "tenant_id")),
        latency_ms=numeric(row, "latency_ms"),
        **(fields | ({"user_id": user} if user else {}) | ({"session_id": session} if session else {})),
    )
