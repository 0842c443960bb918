"""The server: OpenAI's chat completions and models, feedback, health. What it takes, from whom, and how it ends.

    POST /v1/chat/completions · POST /v1/feedback · GET /v1/models · GET /healthz

Only this machine can reach it unless it is told otherwise, and then only with a token. Nothing that users say is in its own log.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict
from typing import Any

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tasks.errors import Refused
from tasks.live.capture import edge_of
from tasks.live.door import LOCAL, Refusal, allow_host, is_loopback
from tasks.live.serving import chat, feedback
from tasks.live.serving.answering import CHALLENGER, CHAMPION, Answering
from tasks.live.serving.chat import ApiError
from tasks.live.serving.decisions import decisions
from tasks.live.serving.journal import Journal
from tasks.live.serving.lineup import LineUp
from tasks.live.serving.params import ServeParams
from tasks.live.serving.shadow import Shadow
from tasks.live.serving.watch import Watch
from tasks.live.workspace import Workspace
from tasks.metrics import FeedbackParams, metrics

MAX_BODY_BYTES = 1024 * 1024
RETRY_SECONDS = "1"
LAST_DECISIONS = 5
Endpoint = Callable[[Request], Awaitable[Response]]


def application(workspace: Workspace, token: str = "", hosts: frozenset[str] = frozenset()) -> Starlette:
    """The ASGI application. `hosts`: names by which it may be called (a web page that rebinds its own is refused)."""
    params = workspace.params("serve", ServeParams).checked()
    journal = Journal(workspace, edge_of(workspace))
    lineup = LineUp(workspace, params)
    watch = Watch(workspace, lineup, params.poll_s)
    shadow = Shadow(lineup.folder, lambda: in_flight > 0) if params.shadow else None
    answering = Answering(lineup, journal, shadow, metrics(workspace.params("feedback", FeedbackParams)))
    allowed = hosts | LOCAL
    in_flight = 0

    def guarded(endpoint: Endpoint, closed: bool = True) -> Endpoint:
        """Who may, by which name, and any error in OpenAI's shape."""

        async def checked(request: Request) -> Response:
            try:
                allow_host(request, allowed, "serve")
                if closed and not _has_token(request, token):
                    raise ApiError(401, "a token is needed: Authorization: Bearer …", "invalid_api_key")
                return await endpoint(request)
            except ClientDisconnect:
                return Response(status_code=400)  # which nobody hears
            except Refusal as e:
                return _error(e)

        return checked

    async def completions(request: Request) -> Response:
        nonlocal in_flight
        if in_flight >= params.max_in_flight:
            raise ApiError(429, f"{in_flight} requests are under way; try again", "rate_limit_exceeded")
        in_flight += 1
        try:
            asked = chat.asked(await _document(request), time.time())
            done = await answering.answer(asked)
        finally:
            in_flight -= 1
        version, digest = done.model.version, done.model.digest
        headers = {
            "x-request-id": asked.id, "x-flywheel-version": version,
            "x-flywheel-confidence": str(done.choices[0].reply.confidence),
        }  # fmt: skip
        if asked.stream:
            pieces = chat.chunks(asked, done.choices, version, digest)
            return StreamingResponse(_each(pieces), headers=headers, media_type="text/event-stream")
        return _json(chat.completion(asked, done.choices, version, digest), headers=headers)

    async def say(request: Request) -> Response:
        events = feedback.said(await _document(request), time.time())
        kept, counts = await answering.said(events)
        if not kept:
            raise ApiError(503, "it could not be stored; send it again, with the same 'id'", "not_stored")
        return _json({"object": "feedback", "ids": [e.id for e in events], "counted": counts})

    async def models(request: Request) -> Response:
        at_work = ((CHAMPION, lineup.champion), (CHALLENGER, lineup.challenger))
        listed = [chat.listed(name, m.version, m.digest, int(started)) for name, m in at_work if m is not None]
        return _json({"object": "list", "data": listed})

    async def health(request: Request) -> Response:
        """To anybody whether it serves; to who has the token (or where there is none) all that it knows of itself."""
        status = {"status": "ok" if lineup.champion else "no champion"}
        if _has_token(request, token):
            status |= _state(lineup, watch, journal, answering, shadow) | {"in_flight": in_flight}
        return _json(status, 200 if lineup.champion else 503)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        writer = asyncio.create_task(journal.run())
        watch.start()
        try:
            yield
        finally:  # every request is answered by now
            watch.stop()
            if shadow is not None:
                await asyncio.to_thread(shadow.close)
            lineup.close()
            await journal.close(writer)

    async def failed(request: Request, error: Exception) -> Response:
        status = getattr(error, "status_code", 500)
        return _error(ApiError(status, getattr(error, "detail", "an error of the server")))

    started = time.time()
    routes = [
        Route("/v1/chat/completions", guarded(completions), methods=["POST"]),
        Route("/v1/feedback", guarded(say), methods=["POST"]),
        Route("/v1/models", guarded(models), methods=["GET"]),
        Route("/healthz", guarded(health, closed=False), methods=["GET"]),
    ]
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: failed})


def serve(workspace: Workspace, host: str, port: int, token: str = "", hosts: tuple[str, ...] = ()) -> None:
    """Serve until SIGTERM or SIGINT; then answer what is under way, and end. Raises Refused for an open door."""
    if not is_loopback(host) and not token:
        raise Refused(
            f"serving on {host} would let anyone on the network ask, and say what they like of the answers",
            "set FLYWHEEL_SERVE_TOKEN to a secret that callers send as their API key, or serve on 127.0.0.1",
        )
    with workspace.lock("serve"):
        app = application(workspace, token, frozenset(h.lower() for h in (host, *hosts)))
        config = uvicorn.Config(
            app, host=host, port=port, log_level="warning", server_header=False, timeout_graceful_shutdown=20, lifespan="on",
        )  # fmt: skip
        server = uvicorn.Server(config)
        signal.signal(signal.SIGTERM, server.handle_exit)
        server.run()


def _state(lineup: LineUp, watch: Watch, journal: Journal, answering: Answering, shadow: Shadow | None) -> dict[str, Any]:
    trial, found = lineup.trial, lineup.evidence
    at_work = {"champion": lineup.champion, "challenger": lineup.challenger, "previous": lineup.previous}
    return {
        "models": {name: {"version": m.version, "digest": m.digest} for name, m in at_work.items() if m is not None},
        "answered": answering.answered,
        "failed": answering.failed,
        "fell_back": answering.fell_back,
        "log": {"written": journal.written, "dropped": journal.dropped, "error": journal.error},
        "registry": {"error": watch.error, "asked": int(watch.asked)},
        "problems": dict(lineup.problems),
        "trial": None if trial is None else {
            "kind": trial.kind, "older": trial.older.version, "newer": trial.newer.version, "share": trial.share,
            "users": trial.enrolled, "evidence": asdict(found) if found else None,
        },
        "shadow": shadow.told() if shadow else None,
        "decisions": [asdict(d) for d in decisions(lineup.folder)[-LAST_DECISIONS:]],
    }  # fmt: skip


def _has_token(request: Request, token: str) -> bool:
    given = request.headers.get("authorization", "")
    return not token or hmac.compare_digest(given.encode(), f"Bearer {token}".encode())


async def _document(request: Request) -> Any:
    # A page of another site may post plain text here without asking; JSON it may not.
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(415, "application/json is read", "unsupported_media_type")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise ApiError(413, f"more than {MAX_BODY_BYTES:,} bytes", "request_too_large")
    try:
        return orjson.loads(bytes(body))
    except orjson.JSONDecodeError as e:
        raise ApiError(400, f"the body is no JSON: {e}", "invalid_json") from None


async def _each(pieces: Any) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value), status, headers, "application/json")


def _error(e: Refusal) -> Response:
    shaped = e if isinstance(e, ApiError) else ApiError(e.status, str(e))
    headers = {"Retry-After": RETRY_SECONDS} if e.status in (429, 503) else {}
    return Response(shaped.body(), e.status, headers, "application/json")
