"""Retrain: freeze the lake, run the stages that DVC names (one task each), publish the snapshot, record the model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prefect import flow, task

from flows import artifacts
from tasks.live import registry, services, snapshot, validations
from tasks.live.freeze import Frozen, freeze, new_labels
from tasks.live.workspace import Workspace, find

TRAIN = "train"


@dataclass(frozen=True, slots=True)
class Retrained:
    """The snapshot, its model version and what the gate says; `new` is False where it had all been done before. Without a version
    `pending` says why MLflow has not got it yet."""

    snapshot: str
    version: str
    decision: str
    reasons: list[str]
    new: bool
    pending: str = ""


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
        return _watched(place, stage) if stage == TRAIN else snapshot.run_stage(place, stage)
    finally:
        if stage == "build" and (place.reports / "build.json").is_file():
            artifacts.dataset(snapshot.report(place, "build"))
        page = place.reports / "validation.md"
        if stage == "validate" and page.is_file():
            artifacts.validation(page.read_text(encoding="utf-8"))
            validations.show(place)


def _watched(place: Workspace, stage: str) -> bool:
    """What a training takes is noted; one that fails becomes a failed MLflow run, at once where MLflow answers."""
    try:
        with registry.watched(place, stage) as watch:
            ran = snapshot.run_stage(place, stage)
    except Exception:
        registry.settle(place, failures=True)
        raise
    if ran:
        registry.trained(place, watch)
    return ran


@task(name="publish", task_run_name="publish")
def publish_snapshot(workspace: Path) -> snapshot.Snapshot:
    place = find(workspace)
    published = snapshot.publish(place)
    artifacts.changed(published.tag, snapshot.change_of(place, published.tag))
    artifacts.verdict(snapshot.report(place, "verdict"))
    return published


@task(name="record", task_run_name="record")
def record_model(workspace: Path, published: snapshot.Snapshot) -> str:
    return registry.record(find(workspace), published)


@task(name="registry", task_run_name="registry")
def tell_registry(workspace: Path) -> str:
    """What MLflow was not told of before: late records, trainings that died, aliases. '' or why it does not answer."""
    return registry.settle(find(workspace), failures=True)


@flow(name="retrain", flow_run_name="retrain: a snapshot, a challenger and a verdict")
def retrain(workspace: Path, force: bool = False) -> Retrained | None:
    """None where fewer than `retrain.min_new_labels` labels are new and nothing was left unfinished."""
    place = find(workspace)
    with place.lock("snapshot"):
        before = snapshot.last(place)
        owed = before is not None and not registry.is_recorded(place, before)  # a turn died between its snapshot and its record
        tell_registry(workspace)
        if force or new_labels(place):
            snapshot.ready(place)  # before an hour is spent on what may not be committed
            freeze_lake(workspace)
            for stage in artifacts.progress("training", snapshot.stages(place)):
                run_stage(workspace, stage)
            published = publish_snapshot(workspace)
        else:
            snapshot.push_pending(place)
            published = snapshot.last(place)
            if published is None or not owed:
                return None
        version = record_model(workspace, published)
        page = registry.page(place, version)
        artifacts.links(published.tag, published.commit, version, page, services.addresses(place))
        verdict = snapshot.report_at(place, published.commit, "verdict")
        pending = "" if version else registry.pending(place)["why"]
        return Retrained(published.tag, version, verdict["decision"], verdict["reasons"], published.new, pending)
