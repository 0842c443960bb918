"""Promote: make the challenger champion where the verdict says so and nothing has changed since, or ask a person first."""

from __future__ import annotations

from pathlib import Path

from prefect import flow, task

from flows import artifacts
from flows.approve import ask_in_prefect
from tasks.live import registry
from tasks.live.workspace import find


@task(name="promote", task_run_name="promote")
def promote_challenger(workspace: Path) -> registry.Promoted | registry.Asked:
    return registry.promote(find(workspace))


@flow(name="promote", flow_run_name="promote: the challenger, if the gate says so")
def promote(workspace: Path) -> registry.Promoted | registry.Asked | None:
    """None where the newest verdict promotes nothing, or what it promotes is champion already; the question where a person has to
    approve (promote.approval). Nobody is waited for: the turn after the answer finds a new champion."""
    place = find(workspace)
    if not registry.promotion_is_due(place):
        return None
    done = promote_challenger(workspace)
    if isinstance(done, registry.Asked):
        ask_in_prefect(place, done)
    artifacts.champions(registry.history(place))
    return done
