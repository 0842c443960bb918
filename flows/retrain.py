"""Retrain: freeze the lake, run the stages that DVC names (one task each), publish the snapshot, record the model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prefect import flow, task

from flows import artifacts
from tasks.live import registry, snapshot, validations
from tasks.live.freeze import Frozen, freeze, new_labels
from tasks.live.workspace import find


@dataclass(frozen=True, slots=True)
class Retrained:
    """The snapshot, its model version and what the gate says; `new` is False where it had all been done before."""

    snapshot: str
    version: str
    decision: str
    reasons: list[str]
    new: bool


@task(name="freeze", task_run_name="freeze")
def freeze_lake(workspace: Path) -> Frozen:
    place = find(workspace)
    frozen = freeze(place)
    snapshot.track_frozen(place)
    return frozen


@task(name="stage", task_run_name="{stage}")
def run_stage(workspace: Path, stage: str) -> bool:
    place = find(workspace)
    try:
        return snapshot.run_stage(place, stage)
    finally:
        page = place.reports / "validation.md"
        if stage == "validate" and page.is_file():
            artifacts.validation(page.read_text(encoding="utf-8"))
            validations.show(place)


@task(name="publish", task_run_name="publish")
def publish_snapshot(workspace: Path) -> snapshot.Snapshot:
    place = find(workspace)
    published = snapshot.publish(place)
    artifacts.verdict(snapshot.report(place, "verdict"))
    return published


@task(name="record", task_run_name="record")
def record_model(workspace: Path, published: snapshot.Snapshot) -> str:
    return registry.record(find(workspace), published)


@flow(name="retrain", flow_run_name="retrain: a snapshot, a challenger and a verdict")
def retrain(workspace: Path, force: bool = False) -> Retrained | None:
    """None where fewer than `retrain.min_new_labels` labels are new and nothing was left unfinished."""
    place = find(workspace)
    with place.lock("snapshot"):
        if force or new_labels(place):
            snapshot.ready(place)  # before an hour is spent on what may not be committed
            freeze_lake(workspace)
            for stage in snapshot.stages(place):
                run_stage(workspace, stage)
            published = publish_snapshot(workspace)
        else:
            snapshot.push_pending(place)
            published = snapshot.last(place)
            if published is None or registry.is_recorded(place, published):
                return None
        version = record_model(workspace, published)
        verdict = snapshot.report_at(place, published.commit, "verdict")
        return Retrained(published.tag, version, verdict["decision"], verdict["reasons"], published.new)
