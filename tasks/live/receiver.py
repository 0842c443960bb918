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
import ipaddress
import signal
import zlib
from collections.abc import AsyncIterator
from typing import Any

import orjson
import uvicorn
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tasks.errors import BadRecord, Refused
from tasks.formats import parse, protobuf
from tasks.live.capture import edge_of
from tasks.live.spool import Full, Spool
from tasks.live.workspace import Workspace
from tasks.redact import Edge

MAX_BODY_BYTES = 16 * 1024 * 1024  # as sent, and unpacked
MAX_WAITING_BYTES = 64 * 1024 * 1024  # of all requests that are not yet on the disk
RETRY_SECONDS = "2"
JSON, PROTOBUF = "application/json", "application/x-protobuf"
# path: the key of its document, how it is read from protobuf, its answer and what the answer counts
SIGNALS: dict[str, tuple[str, Any, Any, str]] = {
    "/v1/traces": ("resourceSpans", protobuf.traces, ExportTraceServiceResponse, "rejectedSpans"),
    "/v1/logs": ("resourceLogs", protobuf.logs, ExportLogsServiceResponse, "rejectedLogRecords"),
}


class Refusal(Exception):
    """An HTTP answer that is not 200: its status and what is wrong."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


def application(
    workspace: Workspace, token: str = "", hosts: frozenset[str] = frozenset(), max_waiting: int = MAX_WAITING_BYTES
) -> Starlette:
    """The ASGI application. `hosts`: names by which it may be called (a web page that rebinds its own is refused)."""
    edge = edge_of(workspace)
    allowed = hosts | {"127.0.0.1", "localhost", "[::1]"}
    spool = Spool(workspace.spool, max_waiting)
    in_flight = 0

    async def export(request: Request) -> Response:
        nonlocal in_flight
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        try:
            _allow(request, allowed, token)
            if kind not in (JSON, PROTOBUF):
                raise Refusal(415, f"content type {kind!r}; {JSON} and {PROTOBUF} are read")
            if in_flight >= max_waiting:
                raise Full
            body = await _body(request)
            in_flight += len(body)
            try:
                line, answer = await run_in_threadpool(_read, request, kind, body, edge)
                if line:
                    await spool.put(line)
            finally:
                in_flight -= len(body)
        except Refusal as e:
            return _answer(kind, e.status, {"code": e.status, "message": str(e)})
        except Full:
            return _answer(kind, 429, {"message": "more arrives than the disk takes; try again"})
        except OSError as e:
            return _answer(kind, 503, {"message": f"not stored: {e.strerror or e}"})
        message = SIGNALS[request.url.path][2]
        content = orjson.dumps(answer) if kind == JSON else ParseDict(answer, message()).SerializeToString()
        return Response(content, media_type=kind)

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
    return Starlette(routes=[*routes, Route("/health", health)], lifespan=lifespan)


def serve(workspace: Workspace, host: str, port: int, token: str = "", hosts: tuple[str, ...] = ()) -> None:
    """Listen until SIGTERM or SIGINT; then answer what is under way, and end. Raises Refused for an open door."""
    if not _is_loopback(host) and not token:
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
    named = request.headers.get("host", "")
    name = named if named.endswith("]") or ":" not in named else named.rpartition(":")[0]
    if name.lower() not in allowed:
        raise Refusal(403, f"host {name!r} is not allowed; flywheel listen --allow-host {name}")
    given = request.headers.get("authorization", "")
    if token and not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
        raise Refusal(401, "a token is needed: Authorization: Bearer …")


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise Refusal(413, f"more than {MAX_BODY_BYTES:,} bytes in one request")
    return bytes(body)


def _read(request: Request, kind: str, body: bytes, edge: Edge) -> tuple[bytes, dict[str, Any]]:
    """A request -> the line to keep (b"" for none), and the answer."""
    key, from_protobuf, _, counted = SIGNALS[request.url.path]
    encoding = request.headers.get("content-encoding", "identity").lower()
    try:
        body = _unpacked(body, encoding)
        document = from_protobuf(body) if kind == PROTOBUF else orjson.loads(body)
    except (BadRecord, orjson.JSONDecodeError, zlib.error, EOFError, OSError) as e:
        raise Refusal(400, f"not readable as {kind}, {encoding}: {e}") from None
    if not isinstance(document, dict) or not isinstance(document.get(key, []), list) or document.keys() - {key}:
        raise Refusal(400, f"not an OTLP export: an object with {key!r} and nothing else is")
    if not document.get(key):
        return b"", {}
    try:
        document = edge.document(document)
        line = orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
    except (TypeError, RecursionError) as e:
        raise Refusal(400, f"it cannot be stored: {e}") from None
    try:
        bad = [reject for reject in parse(document).rejects if reject.code != "no_content"]
    except BadRecord as e:
        bad = [e]
    if not bad:
        return line, {}
    return line, {"partialSuccess": {counted: len(bad), "errorMessage": f"{bad[0].code}: {bad[0].message}"}}


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


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
