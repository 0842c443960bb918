"""The review page's server: three files for the browser, and a few JSON calls behind a session.

    POST /api/sign-in {"annotator": "ana", "token": "…"} · POST /api/next · POST /api/answers {"answers": [{…}]} · GET /api/progress

It serves one page to itself and nothing to anyone else: names by which it may be called are listed, what changes something
must come from its own page, and the page may load and run its own files only.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import anyio
import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from tasks.errors import Refused
from tasks.live.door import LOCAL, Refusal, allow_host, is_loopback
from tasks.live.events import ANSWERS, Teller
from tasks.live.handoff.desk import AnnotateParams
from tasks.live.people import Person, place
from tasks.live.review.desk import Desk, Said
from tasks.live.review.given import Answers
from tasks.live.review.outbox import Outbox
from tasks.live.review.roster import Roster
from tasks.live.review.screens import guideline, progress, screen, tally
from tasks.live.workspace import Workspace

PAGE = Path(__file__).parent / "page"
FILES = {
    "/": ("index.html", "text/html"),
    "/review.css": ("review.css", "text/css"),
    **{f"/{name}.js": (f"{name}.js", "text/javascript") for name in ("review", "fields", "marks", "dom")},
}
MAX_BODY_BYTES = 2 * 1024 * 1024
SESSION = "flywheel_review"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}
Call = Callable[[Person, dict[str, Any]], Any]


def application(
    workspace: Workspace, hosts: frozenset[str] = frozenset(), cap: int = 0, closed: bool = False,
    now: Callable[[], float] = time.time, answered: Callable[[], None] = lambda: None,
) -> Starlette:  # fmt: skip
    """The ASGI application. `hosts`: further names by which it may be called; `closed`: nobody without a token; `answered`: called
    after answers were stored."""
    desk = Desk(Outbox(workspace.outbox), Answers(workspace.answers), cap, now)
    roster = Roster(workspace, closed)
    allowed = hosts | LOCAL

    async def guarded(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        try:
            allow_host(request, allowed, "review")
            if request.method != "GET":
                _from_own_page(request)
            response = await go_on(request)
        except Refusal as e:
            response = JSONResponse({"message": str(e)}, e.status)
        response.headers.update(HEADERS)
        return response

    def called(do: Call) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint: who it is, what they sent, and the JSON that `do` gives, in a thread (it waits for the disk)."""

        def alone(person: Person, sent: dict[str, Any]) -> Any:
            with desk.lock:
                return do(person, sent)

        async def endpoint(request: Request) -> Response:
            sent = await _document(request) if request.method == "POST" else dict(request.query_params)
            try:
                person = await anyio.to_thread.run_sync(roster.person, request.cookies.get(SESSION, ""), now())
                if person is None:
                    return JSONResponse({"message": "sign in first", "token_needed": roster.closed}, 401)
                found = await anyio.to_thread.run_sync(alone, person, sent)
            except Refused as e:
                return JSONResponse({"message": e.why}, 503)
            except OSError as e:
                return JSONResponse({"message": f"not saved: {e.strerror or e}"}, 503)
            if isinstance(found, Response):
                return found
            return Response(orjson.dumps(found), media_type="application/json")

        return endpoint

    async def sign_in(request: Request) -> Response:
        sent = await _document(request)
        name, token = sent.get("annotator"), sent.get("token", "")
        if not isinstance(name, str) or not isinstance(token, str):
            raise Refusal(400, "annotator and token are texts")
        try:
            person = await anyio.to_thread.run_sync(roster.enter, name, token, sent.get("expert") is True)
        except Refused as e:
            return JSONResponse({"message": e.why}, 503)
        if person is None:
            needed = roster.closed
            message = "this name and token do not fit; ask for a new link" if needed else (
                "a name has 1 to 64 letters, digits, '_', '.' or '-'")  # fmt: skip
            return JSONResponse({"message": message, "token_needed": needed}, 401)
        response = JSONResponse({"annotator": person.annotator, "role": person.role})
        response.set_cookie(
            SESSION, roster.session(person, now()), httponly=True, samesite="strict", secure=request.url.scheme == "https",
            max_age=30 * 24 * 3600,
        )  # fmt: skip
        return response

    async def sign_out(request: Request) -> Response:
        response = JSONResponse({})
        response.delete_cookie(SESSION, httponly=True, samesite="strict")
        return response

    async def me(request: Request) -> Response:
        try:
            person = await anyio.to_thread.run_sync(roster.person, request.cookies.get(SESSION, ""), now())
        except Refused as e:
            return JSONResponse({"message": e.why}, 503)
        return JSONResponse(asdict(person) if person else {"annotator": "", "token_needed": roster.closed})

    def following(person: Person, sent: dict[str, Any]) -> Any:
        group = desk.next(person)
        if group is None:
            return {"screen": None}
        return {"screen": screen(desk, group, person), "tally": tally(desk, desk.outbox.batches[group.batch_id], person)}

    def own(person: Person, sent: dict[str, Any]) -> Any:
        group = desk.own(person, sent.get("batch_id", ""), sent.get("candidate_id", ""))
        if group is None:
            return JSONResponse({"message": "you answered no such candidate"}, 404)
        return {"screen": screen(desk, group, person)}

    def answers(person: Person, sent: dict[str, Any]) -> Any:
        wrong = desk.answer(person, _said(sent.get("answers")))
        if not wrong:
            answered()
        return JSONResponse({"wrong": [asdict(w) for w in wrong]}, 422 if wrong else 200)

    def keep(person: Person, sent: dict[str, Any]) -> Any:
        desk.keep(person, str(sent.get("batch_id")), str(sent.get("candidate_id")))
        return {}

    def guidance(person: Person, sent: dict[str, Any]) -> Any:
        text = guideline(desk, sent.get("batch_id", ""), sent.get("version", ""))
        return {"text": text} if text is not None else JSONResponse({"message": "there is no such guideline"}, 404)

    def approved(person: Person, sent: dict[str, Any]) -> Any:
        batch = desk.outbox.batches.get(sent.get("batch_id", ""))
        return {"approved": [asdict(a) for a in batch.catalogue] if batch else []}

    async def file(request: Request) -> Response:
        name, kind = FILES[request.url.path]
        return FileResponse(PAGE / name, media_type=kind)

    async def failed(request: Request, error: Exception) -> Response:
        return JSONResponse({"message": getattr(error, "detail", "")}, getattr(error, "status_code", 500))

    routes = [
        *(Route(path, file, methods=["GET"]) for path in FILES),
        Route("/favicon.ico", lambda _: Response(status_code=204)),
        Route("/api/sign-in", sign_in, methods=["POST"]),
        Route("/api/sign-out", sign_out, methods=["POST"]),
        Route("/api/me", me, methods=["GET"]),
        Route("/api/next", called(following), methods=["POST"]),
        Route("/api/keep", called(keep), methods=["POST"]),
        Route("/api/answers", called(answers), methods=["POST"]),
        Route("/api/own", called(own), methods=["GET"]),
        Route("/api/history", called(lambda person, _: {"history": desk.history(person)[:200]}), methods=["GET"]),
        Route("/api/progress", called(lambda person, _: progress(desk, person)), methods=["GET"]),
        Route("/api/guideline", called(guidance), methods=["GET"]),
        Route("/api/approved", called(approved), methods=["GET"]),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=guarded)],
        exception_handlers={HTTPException: failed},
    )


def serve(workspace: Workspace, host: str, port: int, hosts: tuple[str, ...] = ()) -> None:
    """Serve until SIGTERM or SIGINT. Raises Refused for a page that others could reach without a token."""
    open_to_others = not is_loopback(host) or bool(set(hosts) - LOCAL)
    if open_to_others and not place(workspace).is_file():
        raise Refused(
            f"on {host} anyone who reaches this machine could answer in any name",
            "flywheel review --invite NAME gives a person a link of their own; or stay on 127.0.0.1",
        )
    names = frozenset(h.lower() for h in (host, *hosts))
    cap = workspace.params("annotate", AnnotateParams).cap
    app = application(workspace, names, cap, open_to_others, answered=Teller(workspace, ANSWERS).happened)
    config = uvicorn.Config(app, host=host, port=port, log_level="warning", server_header=False, timeout_graceful_shutdown=5)
    with workspace.lock("review"):
        server = uvicorn.Server(config)
        signal.signal(signal.SIGTERM, server.handle_exit)
        server.run()


def _from_own_page(request: Request) -> None:
    """Raises Refusal for a request that another page makes with this person's session."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site not in (None, "same-origin") or (origin is not None and origin.partition("://")[2] != request.headers["host"]):
        raise Refusal(403, "this comes from another page")
    if site is None and origin is None:
        raise Refusal(403, "a browser says where a request comes from; this one does not")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(415, "application/json is read")


async def _document(request: Request) -> dict[str, Any]:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise Refusal(413, f"more than {MAX_BODY_BYTES:,} bytes")
    try:
        document = orjson.loads(bytes(body))
    except orjson.JSONDecodeError as e:
        raise Refusal(400, f"no JSON: {e}") from None
    if not isinstance(document, dict):
        raise Refusal(400, "an object is expected")
    return document


def _said(rows: Any) -> list[Said]:
    """Raises Refusal for what our own page would never send."""
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise Refusal(400, "answers is a list of objects")
    said = []
    for row in rows:
        seconds = row.get("seconds", 0)
        one = Said(row.get("ask_id"), row.get("status"), row.get("value") or {}, row.get("note") or "", seconds)
        if not all(isinstance(t, str) for t in (one.ask_id, one.status, one.note)) or type(seconds) not in (int, float):
            raise Refusal(400, "an answer has an ask_id, a status, a value, a note and seconds")
        said.append(one)
    return said
