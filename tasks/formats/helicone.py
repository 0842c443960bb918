"""Helicone: exported requests with their bodies, rating and scores.

    {"request_id": "q-1", "request_body": {…}, "response_body": {…}, "request_properties": {"Helicone-Session-Id": "s-1"}, …}

A row that only holds a signed URL has no content: the URL expires, and no URL found in a log is ever fetched.
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
    label,
    maybe_time_us,
    numeric,
    obj,
    required_text,
    span_ms,
    time_us,
)
from tasks.formats.openai_bodies import from_bodies, joined_stream


def recognises(document: dict[str, Any]) -> bool:
    return (
        "request_id" in document
        and ("request_body" in document or "signed_body_url" in document)
        and "request_created_at" in document
    )


def parse(row: dict[str, Any], origin: str = "") -> Parsed:
    response = joined_stream(row.get("response_body"))
    fields = from_bodies(obj(row, "request_body"), obj({"body": response}, "body"))
    status = row.get("response_status")
    failed = isinstance(status, int) and status >= 400
    if not fields["messages"] or (not fields["outputs"] and not failed):
        raise BadRecord("no_content", "the row holds no bodies; export with request_body and response_body included")
    id, properties = required_text(row, "request_id"), obj(row, "request_properties") or obj(row, "properties")
    start, end = time_us(row.get("request_created_at")), maybe_time_us(row.get("response_created_at"))
    tokens_in, tokens_out, delay = (
        count(row, "prompt_tokens"),
        count(row, "completion_tokens"),
        numeric(row, "delay_ms"),
    )
    cost = numeric(row, "costUSD") if "costUSD" in row else numeric(row, "cost")
    fields |= {
        "session_id": label(properties.get("Helicone-Session-Id")) or fields["session_id"],
        "user_id": label(first(row, "request_user_id", "user_id", "helicone_user")) or fields["user_id"],
        "status": "error" if failed else fields["status"],
        "prompt_name": label(row.get("prompt_id")) or fields["prompt_name"],
        "prompt_version": label(row.get("prompt_version")) or fields["prompt_version"],
        "input_tokens": tokens_in if tokens_in is not None else fields["input_tokens"],
        "output_tokens": tokens_out if tokens_out is not None else fields["output_tokens"],
        "model_served": fields["model_served"] or label(row.get("response_model")),
    }
    interaction = RawInteraction(
        dialect="helicone",
        native_id=id,
        ts=start,
        tenant=label(first(properties, "tenant", "tenant_id")),
        provider=label(row.get("provider")).lower(),
        latency_ms=delay if delay is not None else span_ms(start, end),
        ttft_ms=numeric(row, "time_to_first_token"),
        cost_usd=cost,
        **fields,
    )
    return Parsed(interactions=[interaction], feedback=_feedback(row, interaction))


def _feedback(row: dict[str, Any], about: RawInteraction) -> list[RawFeedback]:
    shared = {"dialect": "helicone", "target_type": "interaction", "target": about.native_id, "tenant": about.tenant}
    found = []
    if isinstance(row.get("feedback_rating"), bool):
        found.append(
            RawFeedback(
                native_id=label(row.get("feedback_id")) or f"{about.native_id}:rating",
                name="thumbs_up",
                value_type="bool",
                value=row["feedback_rating"],
                source_kind="human_end_user",
                user_id=about.user_id,
                ts=time_us(first(row, "feedback_created_at", "request_created_at")),
                **shared,
            )
        )
    for key, value in obj(row, "scores").items():
        if key == "helicone-score-feedback" or isinstance(value, bool) or not isinstance(value, int | float):
            continue
        flag = key.endswith("-hcone-bool")
        found.append(
            RawFeedback(
                native_id=f"{about.native_id}:{key}",
                name=key.removesuffix("-hcone-bool"),
                value_type="bool" if flag else "number",
                value=bool(value) if flag else float(value),
                ts=about.ts,
                **shared,
            )
        )
    return found
