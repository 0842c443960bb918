"""Deploy: which flows run by themselves, when, and what happens when one fails or dies.

    python -m flows.deploy WORKSPACE     serves them from this process (what `flywheel up` starts)
    flywheel deploy                      gives them to the workers of a Prefect work pool
    python -m flows.deploy --yaml        prefect.yaml, for `prefect deploy --all`

A deployment runs once at a time; a run that comes due meanwhile is cancelled, because the next one does all that is there. After a
downtime the late runs begin at once, the first does the work, and the others are cancelled in the same way.
"""

# No `from __future__ import annotations` here: see flows/scheduled.py.
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import yaml
from prefect import serve
from prefect.automations import Automation
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy, StateType
from prefect.deployments.runner import EntrypointType, RunnerDeployment
from prefect.events import DeploymentEventTrigger, EventTrigger, Posture, ResourceSpecification
from prefect.events.actions import ChangeFlowRunState, RunDeployment
from prefect.exceptions import ObjectNotFound
from prefect.schedules import Cron, Interval, Schedule

from flows import scheduled
from flows.approve import approve
from tasks.errors import Refused
from tasks.live.events import ANSWERS
from tasks.live.schedule import ScheduleParams, every_s, schedule
from tasks.live.workspace import ENVIRONMENT, Workspace, find, quiet_environment

NAME = "flywheel"  # of each deployment: "capture/flywheel"
WATCHED = "flywheel"  # tag of the flows whose failure is told
OURS = ResourceSpecification({"prefect.resource.id": [f"prefect.tag.{WATCHED}"], "prefect.resource.role": ["tag"]})
AT_ONCE = 4  # flow runs of one workspace; each is a process of 200 MB and more
HEARTBEAT_S = 30
DEAD_AFTER = timedelta(seconds=3 * HEARTBEAT_S)
FOR_WORKERS = ENVIRONMENT | {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S)}
# What comes after the last sign of life: the end, or a question to a person, for which a run waits without a process.
AT_REST = ("Completed", "Failed", "Cancelled", "Crashed", "TimedOut", "Skipped", "Suspended", "Paused")
RESTS = {f"prefect.flow-run.{state}" for state in AT_REST}


@dataclass(frozen=True, slots=True)
class Due:
    """A flow and when it runs: what it is called in params.yaml -> the parameters of those runs."""

    flow: Any
    says: str
    due: dict[str, dict[str, Any]]
    on_event: str = ""
    tags: tuple[str, ...] = (WATCHED,)


DEPLOYMENTS = [
    Due(scheduled.capture, "Logs of the inbox and the receiver go into the lake, redacted.", {"capture": {}}),
    Due(scheduled.mine, "New interactions get their place at the wall, and the detectors run over them.", {"mine": {}}),
    Due(scheduled.send, "The next batch of questions goes to people, where enough traffic is new.", {"send": {}}),
    Due(scheduled.receive, "Answers come in; where people are not sure, more are asked.", {"receive": {}}, on_event=ANSWERS),
    Due(
        scheduled.retrain_and_promote, "A snapshot, a challenger and a verdict, where enough labels are new; then promote, or ask.",
        {"retrain": {}, "retrain_anyway": {"anyway": True}},
    ),
    Due(scheduled.watch, "What users say of the champion, beside those before it; alarms where it is worse.", {"watch": {}}),
    Due(scheduled.maintain, "Small files are put together; what nobody needs any more is removed.", {"maintain": {}}),
    Due(scheduled.whole_turn, "One whole turn, when a person starts it.", {}),
    Due(approve, "Waits for a person who decides about a promotion.", {}),
    Due(scheduled.alarm, "Tells people that a flow run failed or died.", {}, tags=()),  # its own failure is not told by itself
]  # fmt: skip


def deployments(workspace: Workspace | None) -> Iterator[RunnerDeployment]:
    """Each with its schedules, for one workspace (None: the workspace comes from the environment of prefect.yaml)."""
    params = schedule(workspace)
    once = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
    for d in DEPLOYMENTS:
        many = d.flow in (approve, scheduled.alarm)  # questions and alarms don't wait for each other
        event = DeploymentEventTrigger(expect={d.on_event}, name=f"{d.flow.name} on {d.on_event}") if d.on_event else None
        yield d.flow.to_deployment(
            NAME,
            description=d.says,
            tags=list(d.tags),
            parameters={"workspace": str(workspace.root) if workspace else "{{ $FLYWHEEL_WORKSPACE }}"},
            schedules=[s for name, more in d.due.items() if (s := _schedule(name, params, more))],
            triggers=[event] if event else None,
            concurrency_limit=None if many else once,
            entrypoint_type=EntrypointType.MODULE_PATH,
        )


def _schedule(name: str, params: ScheduleParams, parameters: dict[str, Any]) -> Schedule | None:
    said = getattr(params, name)
    more = {"timezone": params.timezone, "slug": name.replace("_", "-"), "parameters": parameters}
    if not said:
        return None
    seconds = every_s(said)
    try:
        ZoneInfo(params.timezone)
        if seconds is not None:
            return Interval(timedelta(seconds=seconds), **more)
        return Cron(said, **more)
    except (ValueError, KeyError) as e:
        why = str(e).splitlines()[0]
        raise Refused(
            f"params.yaml: 'schedule.{name}' is {said!r}, timezone {params.timezone!r}: {why}",
            'write "every 5 minutes", a cron line as "0 6 * * *", or "" for never; a timezone as Europe/Berlin',
        ) from None


def serve_here(workspace: Workspace) -> None:
    """Run the deployments from this process until it is told to end. Their schedules stay on: what is missed is made up."""
    made = list(deployments(workspace))
    automate(next(d for d in made if d.flow_name == scheduled.alarm.name).apply())
    serve(*made, pause_on_shutdown=False, print_starting_message=False, limit=AT_ONCE)


def deploy_to(workspace: Workspace, pool: str) -> list[str]:
    """Register the deployments for the workers of a process pool, which is made where there is none; returns their names."""
    from prefect.client.schemas.actions import WorkPoolCreate

    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(pool)
        except ObjectNotFound:
            client.create_work_pool(WorkPoolCreate(name=pool, type="process", concurrency_limit=AT_ONCE))
    made = {}
    for deployment in deployments(workspace):
        deployment.job_variables = {"env": FOR_WORKERS}
        made[deployment.flow_name] = deployment.apply(work_pool_name=pool)
    automate(made[scheduled.alarm.name])
    return [f"{name}/{NAME}" for name in made]


def automate(alarm_id: Any) -> None:
    """The automations that belong to the deployments, made or brought up to date.

    One that is as it should be is not touched: the server would forget whose heartbeats it waits for, and who died together with
    the process that serves the deployments would stay Running for ever, because that process does this when it starts again.
    """
    with get_client(sync_client=True) as client:
        known = {a.name: a for a in client.read_automations()}
    for wanted in (zombies(), failures(alarm_id)):
        before = known.get(wanted.name)
        if before is None:
            wanted.create()
        elif before.model_dump(exclude={"id"}) != wanted.model_dump(exclude={"id"}):
            wanted.id = before.id
            wanted.update()


def zombies() -> Automation:
    """A flow run whose process died together with whoever started it stays Running for ever, and holds its place; so Prefect's own
    documentation, and it did when it was tried. The server sees that its heartbeats have stopped."""
    trigger = EventTrigger(
        after={"prefect.flow-run.Running", "prefect.flow-run.heartbeat"},  # it may die before its first
        expect={"prefect.flow-run.heartbeat", *RESTS},
        match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
        # Others on the server, and our own commands at a terminal, send heartbeats at another pace, or none.
        match_related=OURS,
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=DEAD_AFTER,
    )
    message = "its process is gone: no heartbeat for 90 seconds; what it had done is kept, the next run goes on from there"
    return Automation(
        name="flywheel: flow runs that died are marked",
        trigger=trigger,
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message=message)],
    )


def failures(alarm_id: Any) -> Automation:
    """Who failed or crashed is told by the flow `alarm`, in a message that says what and where."""
    return Automation(
        name="flywheel: failed flow runs are told",
        trigger=EventTrigger(
            expect={"prefect.flow-run.Failed", "prefect.flow-run.Crashed", "prefect.flow-run.TimedOut"},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            match_related=OURS,
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(0),
        ),
        actions=[
            RunDeployment(
                source="selected",
                deployment_id=alarm_id,
                parameters={
                    "about": _filled_in("{{ flow_run.name }}"),
                    "state": _filled_in("{{ flow_run.state.name }}"),
                    "message": _filled_in("{{ flow_run.state.message }}"),
                    "run": _filled_in("{{ flow_run.id }}"),
                },
            )
        ],
    )


def _filled_in(template: str) -> dict[str, str]:
    """A text that the server fills in. Said so: a bare "{{ … }}" it would take for JSON."""
    return {"__prefect_kind": "jinja", "template": template}


def set_paused(name: str | None, paused: bool) -> list[str]:
    """Pause the schedules of one deployment, or of all, or let them go on. Raises Refused for a name that there is not."""
    with get_client(sync_client=True) as client:
        found = {}
        for d in DEPLOYMENTS:
            try:
                found[d.flow.name] = client.read_deployment_by_name(f"{d.flow.name}/{NAME}")
            except ObjectNotFound:
                continue
        if not found or (name and name not in found):
            known = ", ".join(found) or "none: flywheel up, or flywheel deploy, makes them"
            raise Refused(f"there is no deployment {name!r}" if name else "nothing is deployed", f"deployments: {known}")
        chosen = [name] if name else [n for n, d in found.items() if d.schedules]
        for n in chosen:
            (client.pause_deployment if paused else client.resume_deployment)(found[n].id)
    return chosen


def prefect_yaml() -> str:
    """The same deployments as `prefect deploy --all` reads them."""
    listed = []
    for d in deployments(None):
        one: dict[str, Any] = {
            "name": d.name, "description": d.description, "entrypoint": d.entrypoint, "tags": d.tags, "parameters": d.parameters,
            "work_pool": {"name": NAME, "job_variables": {"env": FOR_WORKERS}},
        }  # fmt: skip
        if d.concurrency_limit:
            collision = d.concurrency_options.collision_strategy.value
            one["concurrency_limit"] = {"limit": d.concurrency_limit, "collision_strategy": collision}
        if d.schedules:
            one["schedules"] = [_plain(s) for s in d.schedules]
        if d.triggers:
            one["triggers"] = [{"type": "event", "enabled": True, "name": t.name, "expect": sorted(t.expect)} for t in d.triggers]
        listed.append(one)
    head = (
        "# For a Prefect server with process workers: docs/running.md. Made from flows/deploy.py: python -m flows.deploy --yaml\n"
        "# FLYWHEEL_WORKSPACE=… prefect --no-prompt deploy --all\n"
    )
    return head + yaml.dump({"name": NAME, "pull": None, "deployments": listed}, Dumper=_NoAliases, sort_keys=False, width=130)


class _NoAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _plain(schedule: Any) -> dict[str, Any]:
    s = schedule.schedule
    when = {"cron": s.cron} if hasattr(s, "cron") else {"interval": s.interval.total_seconds()}
    more = {"parameters": schedule.parameters} if schedule.parameters else {}
    return when | {"timezone": s.timezone, "slug": schedule.slug, "active": True} | more


def main(arguments: list[str]) -> None:
    if arguments == ["--yaml"]:
        print(prefect_yaml(), end="")
        return
    quiet_environment()
    os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", str(HEARTBEAT_S))
    serve_here(find(Path(arguments[0])))


if __name__ == "__main__":
    main(sys.argv[1:])
