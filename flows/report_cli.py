"""The verb that tells what the wheel did, what it costs, and what it needs from a person: report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.shown import JsonOption, WorkspaceOption, find, show


def report(
    snapshot: Annotated[str, typer.Argument(help="A snapshot's tag, or the digits at its end; its page is written anew.")] = "",
    out: Annotated[Path | None, typer.Option(help="The folder; default: .flywheel/report.")] = None,
    serve: Annotated[int | None, typer.Option(metavar="PORT", help="Show it to this machine's browser, until Ctrl+C.")] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a page for each turn that has none, and the index over them; with --json print a turn's document (default: the newest).

    Examples: flywheel report
              flywheel report snapshot-22d82ccb --json
    """
    from tasks.live import report

    place = find(workspace)
    if serve is not None:
        from tasks.live.report.app import serve as run

        typer.echo(f"the report: http://127.0.0.1:{serve}/ (Ctrl+C ends it)", err=as_json)
        run(place, serve)
        return
    if as_json:
        show(True, report.read(place, snapshot), "")
    else:
        show(False, None, f"{report.write(place, snapshot, out)}")
