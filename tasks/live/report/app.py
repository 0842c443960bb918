"""Serves the report to this machine's own browser, where the Prefect pages can link to it (they may not link to files).

    GET / · GET /turn-….html        nothing else, to nobody else

It shows what users wrote, so it never listens for others: they get the folder as a file, or a tunnel.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from tasks.live.door import LOCAL, Refusal, allow_host
from tasks.live.report import FOLDER, INDEX, write
from tasks.live.workspace import Workspace

HOST = "127.0.0.1"
FRESH_S = 60.0  # that an index may be old: its top says how things are now
HEADERS = {
    "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
}  # fmt: skip


def application(workspace: Workspace) -> Starlette:
    """The index is written anew when it is asked for."""
    folder = workspace.state / FOLDER

    async def page(request: Request) -> Response:
        try:
            allow_host(request, LOCAL, "report")
        except Refusal as e:
            return Response(str(e), e.status)
        path = folder / (request.path_params.get("name") or INDEX)
        if path.name == INDEX and not (path.is_file() and time.time() - path.stat().st_mtime < FRESH_S):
            await anyio.to_thread.run_sync(write, workspace)
        if not _ours(path, folder):
            return Response("there is no such page", 404)
        return FileResponse(path, media_type="text/html; charset=utf-8", headers=HEADERS)

    async def health(_: Request) -> Response:
        return Response("ok")

    return Starlette(routes=[Route("/health", health), Route("/", page), Route("/{name}", page)])


def _ours(path: Path, folder: Path) -> bool:
    """A page of the folder itself, and no link to anywhere else."""
    return path.suffix == ".html" and path.is_file() and not path.is_symlink() and path.resolve().parent == folder.resolve()


def serve(workspace: Workspace, port: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    config = uvicorn.Config(application(workspace), host=HOST, port=port, log_level="warning", server_header=False)
    server = uvicorn.Server(config)
    signal.signal(signal.SIGTERM, server.handle_exit)
    server.run()
