"""The verbs that bring logs in: capture, listen, quarantine."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.shown import JsonOption, WorkspaceOption, account_text, find, show
from tasks.errors import PARTIAL


def capture(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Log files and folders; default: data/inbox and what the receiver took.")
    ] = None,
    rebuild: Annotated[bool, typer.Option(help="Make the captured tables anew from the raw segments.")] = False,
    mlflow: Annotated[str | None, typer.Option(help="Pull from this MLflow tracking server instead.")] = None,
    experiment: Annotated[list[str] | None, typer.Option(help="With --mlflow: only these experiments (names).")] = None,
    watch: Annotated[float | None, typer.Option(help="Go on, looking every so many seconds for what is new.")] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read logs of any known dialect into the lake, redacted. Exits 7 when too much was rejected.

    Examples: flywheel capture ~/exports/langfuse --watch 60
              flywheel capture --mlflow http://127.0.0.1:5000
    """
    from tasks.live import capture as live

    place = find(workspace)
    paths = [f.resolve() for f in files or []] or None
    if watch:
        from tasks.live.sources import watch as changes

        for _ in changes(paths or [place.inbox, place.spool], watch):
            print(account_text(live.capture(place, paths)), flush=True)
    if rebuild:
        account = live.rebuild(place)
    elif mlflow:
        from tasks.live.mlflow_server import capture_server

        account = capture_server(place, mlflow, experiment or [])
    else:
        account = live.capture(place, paths)
    show(as_json, account.as_dict(), account_text(account))
    if account.reject_share() > place.params("capture", live.CaptureParams).max_reject_share:
        print(
            f"error: {account.rejected} of {account.seen} records were rejected ({account.reasons})\n"
            "  fix: flywheel quarantine list shows them with file, line and reason; mend the log and capture it again",
            file=sys.stderr,
        )
        raise typer.Exit(PARTIAL)


def listen(
    host: Annotated[
        str, typer.Option(help="Another address than this machine's own needs FLYWHEEL_TOKEN.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="4318 is where OpenTelemetry exporters look.")] = 4318,
    allow_host: Annotated[list[str] | None, typer.Option(help="A name by which exporters call this machine.")] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Receive OTLP over HTTP, redacted and on the disk before it is acknowledged; `flywheel capture` takes it from there.

    Example: FLYWHEEL_TOKEN=… flywheel listen --host 0.0.0.0 --allow-host flywheel.example.org
    """
    from tasks.live.receiver import serve

    place = find(workspace)
    print(f"listening on http://{host}:{port} (/v1/traces, /v1/logs, /health); spool: {place.spool}", flush=True)
    serve(place, host, port, os.environ.get("FLYWHEEL_TOKEN", ""), tuple(allow_host or ()))


quarantine = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Records that could not be read, and what to do."
)
CodeOption = Annotated[str, typer.Option("--code", help="Only those rejected for this reason.")]


@quarantine.command("list")
def quarantine_list(code: CodeOption = "", workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """What was rejected and not yet released, by source and reason, and the newest of it with where its bytes are."""
    from tasks.live.quarantine import held

    found = held(find(workspace), code)
    lines = [f"{c['n']:>8,}  {c['code']:<16}  {c['source']}" for c in found["counts"]]
    lines += [f"  {r['raw_segment']}:{r['raw_line']}  {r['code']}: {r['message']}" for r in found["newest"]]
    show(as_json, found, "\n".join(lines) or "the quarantine is empty")


@quarantine.command("replay")
def quarantine_replay(code: CodeOption = "", workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Read rejected records again, with today's dialects and what was captured since."""
    from tasks.live.quarantine import replay

    done = replay(find(workspace), code)
    show(
        as_json,
        done,
        f"{done.tried} tried, {done.released} released ({done.stored} rows stored); still held: {done.still}",
    )


@quarantine.command("dismiss")
def quarantine_dismiss(
    code: Annotated[str, typer.Argument(help="The reason whose records are let go.")],
    reason: Annotated[str, typer.Option(help="Why; it is kept.")],
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let the rejected records of one reason go. Their bytes stay in the raw segments."""
    from tasks.live.quarantine import dismiss

    n = dismiss(find(workspace), code, reason)
    show(as_json, {"dismissed": n}, f"{n} dismissed")
