"""The verb that opens the review page: review."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.shown import JsonOption, WorkspaceOption, find, show

PORT = 8095


def review(
    host: Annotated[str, typer.Option(help="Another address than this machine's own needs invited people.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Where the page listens.")] = PORT,
    allow_host: Annotated[list[str] | None, typer.Option(help="A name by which people call this machine.")] = None,
    invite: Annotated[str | None, typer.Option(help="Make this person's link (the one before ends), and stop.")] = None,
    expert: Annotated[bool, typer.Option(help="With --invite: they decide where others disagree.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve the page where people answer what was sent; `flywheel receive` takes the answers in from data/answers.

    Examples: flywheel review
              flywheel review --invite ana --expert
              flywheel review --host 0.0.0.0 --allow-host review.example.org
    """
    place = find(workspace)
    name = (allow_host or [host])[0]
    if invite:
        from tasks.live.review.roster import invite as invited

        token = invited(place, invite, expert)
        link = f"http://{name}:{port}/?{invite}#{token}"
        text = f"{link}\nThis link is {invite}'s own, and is shown only now. Whoever has it answers in that name."
        show(as_json, {"annotator": invite, "role": "expert" if expert else "annotator", "link": link}, text)
        return
    from tasks.live.review.app import serve

    typer.echo(f"review page: http://{name}:{port}/ (Ctrl+C ends it); answers go to {place.answers}", err=as_json)
    serve(place, host, port, tuple(allow_host or ()))
