"""The registry: MLflow runs, registered model versions and the champion and challenger aliases. The one door to MLflow.

    version 4   tags: snapshot=snapshot-3f9c2a1b, digest=…, decision=promote, replaced=3   aliases: champion

`record` is door 2: what the stages wrote becomes one run and one model version, also when DVC skipped every stage.
"""

from __future__ import annotations

import functools
import logging
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml

from tasks.errors import GATE_REFUSED, Refused
from tasks.live.base_model import base_model
from tasks.live.snapshot import Snapshot, last, report_at
from tasks.live.workspace import Workspace
from tasks.policy import folder_digest
from tasks.verdict import PROMOTE

MODEL = "flywheel-policy"
EXPERIMENT = "flywheel"
CHAMPION, CHALLENGER = "champion", "challenger"
ERASED = "contains_erased"  # the tag of a version that was trained on what has been erased since, with the day


@dataclass(frozen=True, slots=True)
class Registered:
    """A model version and its files on this machine."""

    version: str
    digest: str
    folder: Path


@dataclass(frozen=True, slots=True)
class Promoted:
    """Who is champion now, who was before, and whether this call changed it."""

    version: str
    replaced: str
    changed: bool


def champion(workspace: Workspace) -> Registered:
    """The champion, with its files at hand. The first one is the base model: there is no time without a champion."""
    client = _client(workspace)
    version = _by_alias(client, CHAMPION)
    if version is None:
        with workspace.lock("registry"):
            version = _by_alias(client, CHAMPION) or _register_base(workspace, client)
    return _fetched(workspace, client, version)


def challenger(workspace: Workspace) -> Registered | None:
    client = _client(workspace)
    version = _by_alias(client, CHALLENGER)
    return _fetched(workspace, client, version) if version is not None else None


def record(workspace: Workspace, snapshot: Snapshot) -> str:
    """Log a snapshot as a run and register its model as challenger; returns the version. Repeating it changes nothing."""
    import mlflow

    client = _client(workspace)
    known = _by_snapshot(client, snapshot.tag)
    if known is not None:
        return str(known.version)
    digest = report_at(workspace, snapshot.commit, "training")["digest"]
    model = workspace.data / "model"
    if folder_digest(model) != digest:
        raise Refused(f"data/model is not the model of {snapshot.tag}", f"git checkout {snapshot.tag} && dvc checkout")
    verdict = report_at(workspace, snapshot.commit, "verdict")
    with mlflow.start_run(
        run_name=snapshot.tag,
        experiment_id=_experiment(client, workspace),
        tags={"snapshot": snapshot.tag, "commit": snapshot.commit, "decision": verdict["decision"]},
    ) as run:
        mlflow.log_params(_flat(yaml.safe_load((workspace.root / "params.yaml").read_text(encoding="utf-8"))))
        mlflow.log_metrics(_metrics(workspace, snapshot))
        mlflow.log_input(_dataset(workspace, snapshot), context="training", tags={"snapshot": snapshot.tag})
        mlflow.log_artifacts(str(workspace.reports), "reports")
        mlflow.log_artifacts(str(model), "policy")
        source = f"{run.info.artifact_uri}/policy"
        tags = {"snapshot": snapshot.tag, "digest": digest, "decision": verdict["decision"]}
        version = client.create_model_version(MODEL, source, run.info.run_id, tags=tags)
    client.set_registered_model_alias(MODEL, CHALLENGER, str(version.version))
    return str(version.version)


def is_recorded(workspace: Workspace, snapshot: Snapshot) -> bool:
    return _by_snapshot(_client(workspace), snapshot.tag) is not None


def promotion_is_due(workspace: Workspace) -> bool:
    """The newest snapshot's verdict promotes, and its challenger neither is champion nor was rolled back."""
    newest = last(workspace)
    if newest is None:
        return False
    verdict = report_at(workspace, newest.commit, "verdict")
    if verdict["decision"] != PROMOTE:
        return False
    client = _client(workspace)
    current, new = _by_alias(client, CHAMPION), _by_digest(client, verdict["challenger"])
    if current is None or new is None or "rolled_back" in new.tags:
        return False
    return current.tags["digest"] == verdict["champion"]


def promote(workspace: Workspace) -> Promoted:
    """Compare and swap: the newest snapshot's verdict says yes, and the champion is still the one that was judged.

    Raises Refused with exit code 4 otherwise; repeating a promotion that was done changes nothing.
    """
    newest = last(workspace)
    if newest is None:
        raise Refused("there is no snapshot yet, and so no verdict", "flywheel turn", GATE_REFUSED)
    verdict = report_at(workspace, newest.commit, "verdict")
    client = _client(workspace)
    with workspace.lock("registry"):
        current = _by_alias(client, CHAMPION)
        if current is None:
            raise Refused("there is no champion to compare with", "flywheel turn", GATE_REFUSED)
        if current.tags["digest"] == verdict["challenger"]:
            return Promoted(str(current.version), current.tags.get("replaced", ""), False)
        if verdict["decision"] != PROMOTE:
            raise Refused(
                f"the gate says {verdict['decision']}: {'; '.join(verdict['reasons'])}",
                "collect more answers, then flywheel turn",
                GATE_REFUSED,
            )
        if current.tags["digest"] != verdict["champion"]:
            raise Refused(
                f"the champion is version {current.version}, not the one that the challenger was judged against",
                "flywheel retrain: it freezes the present champion and judges anew",
                GATE_REFUSED,
            )
        new = _by_digest(client, verdict["challenger"])
        if new is None:
            raise Refused(
                "the judged challenger is not registered", "flywheel retrain: it records what is missing", GATE_REFUSED
            )
        if "rolled_back" in new.tags:
            raise Refused(f"version {new.version} was rolled back", "flywheel retrain with new answers", GATE_REFUSED)
        client.set_model_version_tag(MODEL, str(new.version), "replaced", str(current.version))
        client.set_registered_model_alias(MODEL, CHAMPION, str(new.version))
        return Promoted(str(new.version), str(current.version), True)


def rollback(workspace: Workspace) -> Promoted:
    """Make the version that the champion replaced champion again. Nothing is deleted; the old one is marked."""
    client = _client(workspace)
    with workspace.lock("registry"):
        current = _by_alias(client, CHAMPION)
        before = current.tags.get("replaced") if current is not None else None
        if current is None or before is None:
            raise Refused(
                "the champion replaced nobody: there is nothing to go back to", "flywheel status shows the versions"
            )
        client.set_model_version_tag(MODEL, str(current.version), "rolled_back", "true")
        client.set_registered_model_alias(MODEL, CHAMPION, before)
        return Promoted(before, str(current.version), True)


def versions(workspace: Workspace) -> list[dict[str, Any]]:
    """Every model version with its snapshot, decision, aliases and whether it learned from what was erased, oldest first."""
    client = _client(workspace)
    aliases: dict[str, list[str]] = {}
    try:
        for alias, version in client.get_registered_model(MODEL).aliases.items():
            aliases.setdefault(str(version), []).append(alias)
    except _mlflow_exception():
        return []
    found = sorted(client.search_model_versions(f"name='{MODEL}'"), key=lambda v: int(v.version))
    return [
        {
            "version": str(v.version),
            "snapshot": v.tags.get("snapshot", "base"),
            "decision": v.tags.get("decision", ""),
            "aliases": sorted(aliases.get(str(v.version), [])),
            "erased": v.tags.get(ERASED, ""),
        }
        for v in found
    ]


def mark(workspace: Workspace, version: str, tag: str, value: str) -> None:
    """Set a tag of a model version."""
    _client(workspace).set_model_version_tag(MODEL, version, tag, value)


def _register_base(workspace: Workspace, client: Any) -> Any:
    import mlflow

    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "policy"
        base_model(workspace).save(model)
        with mlflow.start_run(
            run_name="base model", experiment_id=_experiment(client, workspace), tags={"snapshot": "base"}
        ) as run:
            mlflow.log_artifacts(str(model), "policy")
            source = f"{run.info.artifact_uri}/policy"
        tags = {"snapshot": "base", "digest": folder_digest(model), "decision": "base"}
        version = client.create_model_version(MODEL, source, run.info.run_id, tags=tags)
    client.set_registered_model_alias(MODEL, CHAMPION, str(version.version))
    return client.get_model_version(MODEL, str(version.version))


def _fetched(workspace: Workspace, client: Any, version: Any) -> Registered:
    """The version's files, fetched once; the digest in the registry decides whether they are whole."""
    import mlflow

    folder = workspace.state / "models" / f"{version.version}-{version.tags['digest'][:8]}"
    if not folder.is_dir():
        with tempfile.TemporaryDirectory(dir=workspace.state) as temporary:
            got = Path(mlflow.artifacts.download_artifacts(artifact_uri=version.source, dst_path=temporary))
            if folder_digest(got) != version.tags["digest"]:
                raise Refused(
                    f"the files of model version {version.version} are not those that were registered",
                    "restore the artifact store from its backup",
                )
            folder.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(got, folder)
    return Registered(str(version.version), version.tags["digest"], folder)


def _metrics(workspace: Workspace, snapshot: Snapshot) -> dict[str, float]:
    evaluation = report_at(workspace, snapshot.commit, "evaluation")
    verdict = report_at(workspace, snapshot.commit, "verdict")
    metrics = {f"{who}_{m}": evaluation[who][m] for who in (CHAMPION, CHALLENGER) for m in ("right", "brier")}
    metrics |= {k: float(v) for k, v in verdict.get("primary", {}).items()}
    built, curated = report_at(workspace, snapshot.commit, "build"), report_at(workspace, snapshot.commit, "curate")
    metrics |= {f"rows_{side}_{table}": float(n) for side, of in built["rows"].items() for table, n in of.items()}
    if curated["alpha"] is not None:
        metrics["alpha"] = curated["alpha"]
    return metrics


def _dataset(workspace: Workspace, snapshot: Snapshot) -> Any:
    """The dataset as MLflow names it: the snapshot's tag, its digest, and the workspace that `dvc pull` fills."""
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset

    source = CodeDatasetSource({"repository": str(workspace.root), "commit": snapshot.commit, "path": "data/dataset"})
    return MetaDataset(source, name=snapshot.tag, digest=snapshot.digest[:16])


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= (
            _flat(value, f"{prefix}{key}.")
            if isinstance(value, dict)
            else {f"{prefix}{key}": orjson.dumps(value).decode()}
        )
    return flat


def _by_alias(client: Any, alias: str) -> Any | None:
    try:
        return client.get_model_version_by_alias(MODEL, alias)
    except _mlflow_exception():
        return None


def _by_snapshot(client: Any, tag: str) -> Any | None:
    return next((v for v in client.search_model_versions(f"name='{MODEL}'") if v.tags.get("snapshot") == tag), None)


def _by_digest(client: Any, digest: str) -> Any | None:
    found = [v for v in client.search_model_versions(f"name='{MODEL}'") if v.tags.get("digest") == digest]
    return max(found, key=lambda v: int(v.version)) if found else None


def _client(workspace: Workspace) -> Any:
    import mlflow

    mlflow.set_tracking_uri(workspace.tracking_uri)
    return _connected(workspace.tracking_uri)


@functools.cache
def _connected(tracking_uri: str) -> Any:
    """One client per address and process: each new one opens the database, or the connection, anew."""
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    client = mlflow.MlflowClient(tracking_uri)
    try:
        client.get_registered_model(MODEL)
    except _mlflow_exception():
        client.create_registered_model(MODEL)
    return client


def _experiment(client: Any, workspace: Workspace) -> str:
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return found.experiment_id
    local = workspace.tracking_uri.startswith("sqlite")
    return client.create_experiment(
        EXPERIMENT, artifact_location=(workspace.state / "artifacts").as_uri() if local else None
    )


def _mlflow_exception() -> type[Exception]:
    from mlflow.exceptions import MlflowException

    return MlflowException
