"""The receiver: OTLP over HTTP (/v1/traces, /v1/logs; JSON and protobuf, gzip), redacted, on the disk, then acknowledged.

    OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 my-app        flywheel listen

What it answers follows the OTLP specification: 200 with partialSuccess for what cannot be read (kept all the same, for the
quarantine), 400 for what is no OTLP, 429 and 503 with Retry-After where the exporter should try again.
Only this machine can reach it unless it is told otherwise, and then only with a token.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hmac
import io
import signal
import zlib
from collections.abc import AsyncIterator
from typing import Any

import anyio
import orjson
import uvicorn
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tasks.errors import BadRecord, Refused
from tasks.formats import MAX_LINE_BYTES, parse, protobuf
from tasks.formats.otlp_values import listed
from tasks.live.capture import edge_of
from tasks.live.door import LOCAL, Refusal, allow_host, is_loopback
from tasks.live.events import ANSWERS, Teller
from tasks.live.spool import Full, Spool
from tasks.live.workspace import Workspace
from tasks.redact import Edge

MAX_BODY_BYTES = 16 * 1024 * 1024  # as sent, and unpacked
MAX_WAITING_BYTES = 64 * 1024 * 1024  # of all requests that are not yet on the disk
READERS = 4  # requests unpacked at the same time: what waits is held as it was sent
RETRY_SECONDS = "2"
HOOK = "/hooks/answers"
JSON, PROTOBUF = "application/json", "application/x-protobuf"
# path: the keys of its document, how it is read from protobuf, its answer and what the answer counts
SIGNALS: dict[str, tuple[tuple[str, str, str], Any, Any, str]] = {
    "/v1/traces": (
        ("resourceSpans", "scopeSpans", "spans"),
        protobuf.traces,
        ExportTraceServiceResponse,
        "rejectedSpans",
    ),
    "/v1/logs": (
        ("resourceLogs", "scopeLogs", "logRecords"),
        protobuf.logs,
        ExportLogsServiceResponse,
        "rejectedLogRecords",
    ),
}


def application(
    workspace: Workspace, token: str = "", hosts: frozenset[str] = frozenset(), max_waiting: int = MAX_WAITING_BYTES
) -> Starlette:
    """The ASGI application. `hosts`: names by which it may be called (a web page that rebinds its own is refused)."""
    edge = edge_of(workspace)
    allowed = hosts | LOCAL
    spool = Spool(workspace.spool, max_waiting)
    teller = Teller(workspace, ANSWERS)
    readers = anyio.CapacityLimiter(READERS)
    in_flight = 0  # bytes of bodies

    async def export(request: Request) -> Response:
        nonlocal in_flight
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        body = bytearray()
        try:
            _allow(request, allowed, token)
            if kind not in (JSON, PROTOBUF):
                raise Refusal(415, f"content type {kind!r}; {JSON} and {PROTOBUF} are read")
            async for piece in request.stream():
                if in_flight + len(piece) > max_waiting:
                    raise Full
                body += piece
                in_flight += len(piece)
                if len(body) > MAX_BODY_BYTES:
                    raise Refusal(413, f"more than {MAX_BODY_BYTES:,} bytes in one request")
            lines, answer = await anyio.to_thread.run_sync(_read, request, kind, bytes(body), edge, limiter=readers)
            if lines:
                await spool.put(lines)
        except Refusal as e:
            return _answer(kind, e.status, {"code": e.status, "message": str(e)})
        except Full:
            return _answer(kind, 429, {"message": "more arrives than the disk takes; try again"})
        except OSError as e:
            return _answer(kind, 503, {"message": f"not stored: {e.strerror or e}"})
        except ClientDisconnect:
            return Response(status_code=400)  # which nobody hears
        finally:
            in_flight -= len(body)
        message = SIGNALS[request.url.path][2]
        content = orjson.dumps(answer) if kind == JSON else ParseDict(answer, message()).SerializeToString()
        return Response(content, media_type=kind)

    async def answers_came(request: Request) -> Response:
        """An annotation tool's webhook: the flow that fetches answers starts soon. What it sends is not read."""
        try:
            _allow(request, allowed, token)
        except Refusal as e:
            return JSONResponse({"message": str(e)}, e.status)
        teller.happened()
        return JSONResponse({"message": "answers will be fetched"}, 202)

    async def health(request: Request) -> Response:
        try:
            _allow(request, allowed, "")
        except Refusal as e:
            return JSONResponse({"message": str(e)}, e.status)
        return JSONResponse({"status": "ok", "waiting_bytes": spool.waiting, "acknowledged": spool.acknowledged})

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        writer = asyncio.create_task(spool.run())
        try:
            yield
        finally:  # every request is answered by now; their lines are on the disk, and the last file is published
            spool.close()
            await writer

    routes = [Route(path, export, methods=["POST"]) for path in SIGNALS]
    return Starlette(routes=[*routes, Route(HOOK, answers_came, methods=["POST"]), Route("/health", health)], lifespan=lifespan)


def serve(workspace: Workspace, host: str, port: int, token: str = "", hosts: tuple[str, ...] = ()) -> None:
    """Listen until SIGTERM or SIGINT; then answer what is under way, and end. Raises Refused for an open door."""
    if not is_loopback(host) and not token:
        raise Refused(
            f"listening on {host} would let anyone on the network write into the lake",
            "set FLYWHEEL_TOKEN to a secret that exporters send as 'Authorization: Bearer …', or listen on 127.0.0.1",
        )
    app = application(workspace, token, frozenset({host, *hosts}))
    config = uvicorn.Config(
        app, host=host, port=port, log_level="warning", server_header=False, timeout_graceful_shutdown=20, lifespan="on",
    )  # fmt: skip
    with workspace.lock("receiver"):
        server = uvicorn.Server(config)
        signal.signal(signal.SIGTERM, server.handle_exit)
        server.run()


def _allow(request: Request, allowed: frozenset[str], token: str) -> None:
    allow_host(request, allowed, "listen")
    given = request.headers.get("authorization", "")
    if token and not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
        raise Refusal(401, "a token is needed: Authorization: Bearer …")


def _read(request: Request, kind: str, body: bytes, edge: Edge) -> tuple[bytes, dict[str, Any]]:
    """A request -> the lines to keep (b"" for none), and the answer."""
    keys, from_protobuf, _, counted = SIGNALS[request.url.path]
    key = keys[0]
    encoding = request.headers.get("content-encoding", "identity").lower()
    try:
        body = _unpacked(body, encoding)
        if kind == JSON and body.count(b"{") > protobuf.MAX_OBJECTS:
            raise Refusal(413, f"more than {protobuf.MAX_OBJECTS:,} objects in one request")
        document = from_protobuf(body) if kind == PROTOBUF else orjson.loads(body)
    except (BadRecord, orjson.JSONDecodeError, zlib.error, EOFError, OSError) as e:
        status = 413 if isinstance(e, BadRecord) and e.code == "bomb" else 400
        raise Refusal(status, f"not readable as {kind}, {encoding}: {e}") from None
    if not isinstance(document, dict) or (document and key not in document):
        raise Refusal(400, f"not an OTLP export: an object with {key!r} is")
    resources = document[key] if document else []
    if not isinstance(resources, list | None):
        raise Refusal(400, f"not an OTLP export: {key!r} is no list")
    if not resources:
        return b"", {}
    try:
        # Fields of a later version are left out, as OTLP asks for.
        document = edge.document({key: resources})
        lines = _lines(document, keys)
    except (TypeError, RecursionError) as e:
        raise Refusal(400, f"it cannot be stored: {e}") from None
    try:
        bad = [reject for reject in parse(document).rejects if reject.code != "no_content"]
    except BadRecord as e:
        bad = [e]
    if not bad:
        return lines, {}
    return lines, {"partialSuccess": {counted: len(bad), "errorMessage": f"{bad[0].code}: {bad[0].message}"}}


def _lines(document: dict[str, Any], keys: tuple[str, str, str]) -> bytes:
    """The document as one line, or, where that is longer than capture reads, as one line a span or record."""
    line = orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
    if len(line) <= MAX_LINE_BYTES:
        return line
    lines = []
    outer, middle, inner = keys
    for resource in document[outer]:
        for scope in listed(resource, middle):
            for leaf in listed(scope, inner):
                alone = {outer: [resource | {middle: [scope | {inner: [leaf]}]}]}
                lines.append(orjson.dumps(alone, option=orjson.OPT_APPEND_NEWLINE))
    if max(map(len, lines), default=len(line)) > MAX_LINE_BYTES:
        raise Refusal(413, f"a span of more than {MAX_LINE_BYTES:,} bytes as JSON")
    return b"".join(lines)


def _unpacked(body: bytes, encoding: str) -> bytes:
    if encoding in ("", "identity"):
        return body
    if encoding != "gzip":
        raise Refusal(415, f"content encoding {encoding!r}; gzip is read")
    with gzip.GzipFile(fileobj=io.BytesIO(body)) as f:
        data = f.read(MAX_BODY_BYTES + 1)
    if len(data) > MAX_BODY_BYTES:
        raise Refusal(413, f"unpacks to more than {MAX_BODY_BYTES:,} bytes")
    return data


def _answer(kind: str, status: int, message: dict[str, Any]) -> Response:
    headers = {"Retry-After": RETRY_SECONDS} if status in (429, 503) else {}
    if kind == PROTOBUF:
        from google.rpc.status_pb2 import Status

        content = ParseDict(message, Status()).SerializeToString()
        return Response(content, status, headers, PROTOBUF)
    return Response(orjson.dumps(message), status, headers, JSON)

