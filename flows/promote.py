"""Promote: make the challenger champion where the verdict says so and nothing has changed since."""

from __future__ import annotations

from pathlib import Path

from prefect import flow, task

from tasks.live import registry
from tasks.live.workspace import find


@task(name="promote", task_run_name="promote")
def promote_challenger(workspace: Path) -> registry.Promoted:
    return registry.promote(find(workspace))


@flow(name="promote", flow_run_name="promote: the challenger, if the gate says so")
def promote(workspace: Path) -> registry.Promoted | None:
    """None where the newest verdict promotes nothing, or what it promotes is champion already."""
    if not registry.promotion_is_due(find(workspace)):
        return None
    return promote_challenger(workspace)
