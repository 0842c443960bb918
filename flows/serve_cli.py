"""The verb that puts the champion to work: serve."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from flows.shown import JsonOption, WorkspaceOption, find, show

PORT = 8097


def serve(
    host: Annotated[
        str, typer.Option(help="Another address than this machine's own needs FLYWHEEL_SERVE_TOKEN.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Where it listens.")] = PORT,
    allow_host: Annotated[list[str] | None, typer.Option(help="A name by which callers call this machine.")] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve the champion as OpenAI's chat completions; log what it answers, and compare a challenger on a share of the users.

    Examples: flywheel serve
              FLYWHEEL_SERVE_TOKEN=… flywheel serve --host 0.0.0.0 --allow-host models.example.org
    """
    from tasks.live.serving.app import serve as run

    place = find(workspace)
    url = f"http://{(allow_host or [host])[0]}:{port}/v1"
    show(as_json, {"url": url, "pid": os.getpid()}, f"serving the champion at {url} (Ctrl+C ends it); settings: section serve")
    run(place, host, port, os.environ.get("FLYWHEEL_SERVE_TOKEN", ""), tuple(allow_host or ()))
