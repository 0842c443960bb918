"""Gateway access logs (Envoy, nginx, Kong, …) with request and response bodies, by a mapping of field names.

    {"@timestamp": "…", "x-request-id": "q-1", "status": 200, "duration_ms": 800, "req_body": "{…}", "resp_body": "{…}"}

The built-in mapping knows the usual names. Authorization headers and client addresses never get here: the edge drops them.
"""

from __future__ import annotations

from typing import Any

from tasks.errors import BadRecord
from tasks.formats.fields import Parsed, RawInteraction, first, label, numeric, obj, required_text, time_us
from tasks.formats.openai_bodies import from_bodies, joined_stream

REQUEST = ("req_body", "request_body", "requestBody", "request.body")
RESPONSE = ("resp_body", "response_body", "responseBody", "response.body")
ID = ("x-request-id", "x_request_id", "request_id", "requestId", "id")
TIME = ("@timestamp", "timestamp", "time", "ts", "start_time")
LATENCY = ("duration_ms", "latency_ms", "upstream_response_time_ms", "duration")
STATUS = ("status", "status_code", "response_code")


def recognises(document: dict[str, Any]) -> bool:
    return any(k in document for k in REQUEST + RESPONSE) and any(k in document for k in (*TIME, "path", "method"))


def parse(row: dict[str, Any], origin: str = "") -> Parsed:
    request = obj({"body": first(row, *REQUEST)}, "body")
    response = obj({"body": joined_stream(first(row, *RESPONSE))}, "body")
    if not any(k in request for k in ("messages", "input", "prompt", "contents")):
        if "model" in request:
            raise BadRecord("no_content", "the request body has no messages; let the gateway log whole bodies")
        return Parsed(attached=1)  # a health check, a list of models: no generation
    fields = from_bodies(request, response)
    status = first(row, *STATUS)
    if isinstance(status, int) and status >= 400:
        fields["status"], fields["error"] = "error", fields["error"] or f"http_{status}"
    if not fields["messages"] or (not fields["outputs"] and fields["status"] == "ok"):
        raise BadRecord("no_content", "the response body holds no answer; let the gateway log whole bodies")
    return Parsed(
        interactions=[
            RawInteraction(
                dialect="gateway",
                native_id=required_text({"id": label(first(row, *ID)) or fields["response_id"]}, "id"),
                ts=time_us(first(row, *TIME)),
                tenant=label(first(row, "tenant", "tenant_id")),
                latency_ms=next((n for k in LATENCY if (n := numeric(row, k)) is not None), None),
                **fields,
            )
        ]
    )
