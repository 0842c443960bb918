"""The verbs that keep the wheel turning: up, down, deploy, pause, resume."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from flows.shown import JsonOption, WorkspaceOption, find, show


def up(
    foreground: Annotated[bool, typer.Option(help="Stay until Ctrl+C or SIGTERM, as a service manager wants it.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start everything on this machine: Prefect, MLflow, the receiver, the review page, the champion, and the scheduled flows.

    Returns once all of it answers. Ports that are taken are replaced by free ones. What runs elsewhere already (PREFECT_API_URL,
    FLYWHEEL_TRACKING_URI) is used and not started.

    Examples: flywheel up
              flywheel up --foreground        (in a container, or under systemd)
    """
    from tasks.live.services.supervisor import listed, start_detached, supervise

    place = find(workspace)
    if foreground:
        supervise(place, lambda text: typer.echo(text, err=as_json))
        return
    found = start_detached(place)
    show(as_json, asdict(found), f"{listed(found)}\nflywheel status shows what waits for you; flywheel down ends it")


def down(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """End what `flywheel up` started. Flow runs under way are cancelled; the next start takes their work up."""
    from tasks.live.services.supervisor import down

    ended = down(find(workspace))
    show(as_json, {"ended": ended}, f"ended {', '.join(ended)}" if ended else "nothing was running")


def deploy(
    pool: Annotated[str, typer.Argument(help="A Prefect work pool of type process; made where there is none.")] = "flywheel",
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give the scheduled flows to the workers of a Prefect work pool, instead of `flywheel up`. PREFECT_API_URL names the server.

    Example: PREFECT_API_URL=http://prefect:4200/api flywheel deploy, then on each machine: prefect worker start --pool flywheel
    """
    from flows.server import prefect_for

    place = find(workspace)
    with prefect_for(place):
        from flows.deploy import deploy_to

        names = deploy_to(place, pool)
    show(as_json, {"pool": pool, "deployments": names}, f"{', '.join(names)}: prefect worker start --pool {pool} --type process")


NameArgument = Annotated[str | None, typer.Argument(help="One deployment (capture, mine, …); default: all.")]


def pause(name: NameArgument = None, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Let no more scheduled flow runs begin. Those under way end; nothing is lost: the lake, the inbox and the spool wait."""
    _set_paused(name, True, workspace, as_json)


def resume(name: NameArgument = None, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Let the schedules go on. What was missed is done by the next run: each takes all that is there."""
    _set_paused(name, False, workspace, as_json)


def _set_paused(name: str | None, paused: bool, workspace: Path | None, as_json: bool) -> None:
    from flows.server import prefect_for

    with prefect_for(find(workspace)):
        from flows.deploy import set_paused

        names = set_paused(name, paused)
    show(as_json, {"paused" if paused else "resumed": names}, f"{'paused' if paused else 'going on'}: {', '.join(names)}")
