"""Upkeep: watch the live champion, maintain the lake, tell people what went wrong."""

from __future__ import annotations

from pathlib import Path

from prefect import get_run_logger, task

from flows import artifacts
from tasks.live import alarms, live_champion, maintenance
from tasks.live.workspace import find


@task(name="watch", task_run_name="compare what users say of each champion")
def watch_champion(workspace: Path) -> live_champion.Live:
    place = find(workspace)
    live = live_champion.live_champion(place)
    artifacts.live(live)
    for text in live.alarms:
        alarms.alarm_once(place, "the live champion", text)
    return live


@task(name="maintain", task_run_name="maintain")
def maintain_workspace(workspace: Path) -> None:
    done = maintenance.maintain(find(workspace))
    get_run_logger().info("maintained: %s", done)


@task(name="tell", task_run_name="tell people")
def tell_people(workspace: Path, subject: str, text: str) -> alarms.Told:
    told = alarms.alarm(find(workspace), subject, text)
    for way, why in told.failed.items():
        get_run_logger().error("the alarm could not be sent by %s: %s", way, why)
    return told
