"""What MLflow is told of a snapshot: one finished run and one model version, however often and from wherever it is tried again.

Everything is looked up by its tags before it is made, and what is logged twice is the same both times (the time of a value is the
snapshot's), so a record that a dead server cut short is gone on with, in the same run. What is told comes from the commit of the
snapshot and not from the work tree, so a late record is the same as one in time.
"""

from __future__ import annotations

import csv
import io
import math
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import yaml

from tasks.errors import Refused
from tasks.live import store
from tasks.live.registry import environment, files
from tasks.live.registry.packaged import LOGGED_AS, package
from tasks.live.registry.tracking import CHALLENGER, MODEL, experiment, model_versions
from tasks.live.repository import git, git_bytes
from tasks.live.snapshot import report_at
from tasks.live.workspace import Workspace
from tasks.records import canonical, digest

REPORTS = "data/reports"
TRAINING, EVALUATION, BASE_MODEL, FAILED = "training", "evaluation", "base model", "failed training"
MOST_METRICS, MOST_PARAMS = 1000, 100  # of one request
LONGEST_PARAM, LONGEST_TAG = 6000, 5000
UNFIT = re.compile(r"[^\w.\- /]")  # of a metric's name


def snapshot(workspace: Workspace, client: Any, tag: str, commit: str) -> tuple[str, str]:
    """Record a snapshot; returns the digest and the version of its model. Repeating it changes nothing."""
    trained, verdict = report_at(workspace, commit, "training"), report_at(workspace, commit, "verdict")
    model = files.of_snapshot(workspace, tag, commit, trained["digest"])
    about = {"snapshot": tag, "commit": commit, "digest": trained["digest"], "decision": verdict["decision"]}
    known = next((v for v in model_versions(client) if v.tags.get("snapshot") == tag), None)
    if known is None:
        where = experiment(client, workspace)
        run = _run(client, where, TRAINING, tag, about)
        model_id = _model(client, where, run, model, about)
        _measured(workspace, client, run, commit, trained["digest"], model_id)
        _inputs(workspace, client, run, tag, commit)
        _artifacts(workspace, client, run, tag, commit)
        reasons = "\n".join(verdict["reasons"])
        told = f"**{verdict['decision']}** of `{tag}`\n\n" + "\n".join(f"- {r}" for r in verdict["reasons"])
        _tags(client, run, {"reasons": reasons, "mlflow.note.content": told} | environment.of_code(workspace, commit))
        known = client.create_model_version(MODEL, f"models:/{model_id}", run, tags=about, model_id=model_id)
    _finish(client, known.run_id)
    client.set_registered_model_alias(MODEL, CHALLENGER, str(known.version))
    note = f"MLflow: version {known.version} of {MODEL}, run {known.run_id}"
    git_bytes(workspace.root, "notes", "--ref", "models", "add", "--force", "--message", note, commit)
    return trained["digest"], str(known.version)


def base(workspace: Workspace, client: Any, name: str, model_digest: str) -> str:
    """Record the model before any label, called `name` in place of a snapshot; returns its version."""
    about = {"snapshot": name, "digest": model_digest, "decision": name}
    known = next((v for v in model_versions(client) if v.tags.get("digest") == model_digest), None)
    if known is None:
        where = experiment(client, workspace)
        run = _run(client, where, BASE_MODEL, f"{name}-{model_digest[:8]}", about)
        model_id = _model(client, where, run, files.folder(workspace, model_digest), about)
        known = client.create_model_version(MODEL, f"models:/{model_id}", run, tags=about, model_id=model_id)
    _finish(client, known.run_id)
    return str(known.version)


def failure(workspace: Workspace, client: Any, name: str, stage: str, why: str, params: str) -> None:
    """Record a training that ended without a model, as a failed run."""
    about = {"stage": stage, "error": why, "decision": "failed"}
    run = _run(client, experiment(client, workspace), FAILED, name, about)
    _params(client, run, yaml.safe_load(params))
    if client.get_run(run).info.status == "RUNNING":
        client.set_terminated(run, "FAILED")


def fetched(workspace: Workspace, client: Any, version: Any) -> str:
    """Bring a version's files here; returns their digest. Raises Refused where they are not what was registered, or no policy."""
    import mlflow

    known = version.tags.get("digest", "")
    if known and files.folder(workspace, known).is_dir():
        return known
    with tempfile.TemporaryDirectory(dir=workspace.state) as temporary:
        got = Path(mlflow.artifacts.download_artifacts(artifact_uri=version.source, dst_path=temporary))
        model = got / "data" / LOGGED_AS if (got / "MLmodel").is_file() else got
        if not (model / "policy.json").is_file():
            raise Refused(f"version {version.version} of {MODEL} is no model of flywheel's", "move MLflow's alias to one that is")
        found = files.keep(workspace, model)
        if known and found != known:
            raise Refused(
                f"the files of model version {version.version} are not those that were registered",
                "restore MLflow's artifact store from its backup",
            )
        return found


def forget_rows(client: Any, workspace: Workspace, tags: Sequence[str]) -> int:
    """Delete the row-level tables of evaluations (texts of people's questions and answers) of these snapshots; returns how many."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    gone = 0
    for tag in tags:
        for run in client.search_runs([experiment(client, workspace)], f"tags.flywheel = '{TRAINING}' and tags.name = '{tag}'"):
            if client.list_artifacts(run.info.run_id, EVALUATION):
                get_artifact_repository(run.info.artifact_uri).delete_artifacts(EVALUATION)
                gone += 1
    return gone


def _run(client: Any, where: str, what: str, name: str, about: Mapping[str, str]) -> str:
    """The run of this name: the one that an earlier try began, or a new one."""
    named = f"tags.flywheel = '{what}' and tags.name = '{name}'"
    found = client.search_runs([where], named, order_by=["attributes.start_time ASC"])
    if found:
        return found[0].info.run_id
    tags = {"flywheel": what, "name": name} | {k: v[:LONGEST_TAG] for k, v in about.items()}
    return client.create_run(where, tags=tags, run_name=name).info.run_id


def _finish(client: Any, run: str) -> None:
    if run and client.get_run(run).info.status == "RUNNING":
        client.set_terminated(run, "FINISHED")


def _model(client: Any, where: str, run: str, model: Path, about: Mapping[str, str]) -> str:
    """The run's MLflow model, whole: one that an earlier try finished, or a new one. What was begun only is marked as failed."""
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    for left in client.search_logged_models([where], f"source_run_id = '{run}'"):
        if left.status == LoggedModelStatus.READY:
            return left.model_id
        if left.status == LoggedModelStatus.PENDING:
            client.finalize_logged_model(left.model_id, LoggedModelStatus.FAILED)
    made = client.create_logged_model(where, name=LOGGED_AS, source_run_id=run, tags=dict(about), model_type="policy")
    with tempfile.TemporaryDirectory() as temporary:
        packaged = Path(temporary) / "model"
        package(model, packaged, run, made.model_id)
        client.log_model_artifacts(made.model_id, str(packaged))
    client.log_outputs(run, [LoggedModelOutput(made.model_id, step=0)])
    client.finalize_logged_model(made.model_id, LoggedModelStatus.READY)
    return made.model_id


def _measured(workspace: Workspace, client: Any, run: str, commit: str, model_digest: str, model_id: str) -> None:
    """Parameters, results, curves, and what the training took of this machine."""
    from mlflow.entities import Metric

    _params(client, run, yaml.safe_load(git(workspace.root, "show", f"{commit}:params.yaml")))
    at = 1000 * int(git(workspace.root, "show", "--no-patch", "--format=%ct", commit))
    results: dict[str, float] = {}
    for name in ("training", "evaluation", "verdict"):
        results |= _numbers(report_at(workspace, commit, name), "" if name == "evaluation" else f"{name}/")
    results |= _numbers(report_at(workspace, commit, "build")["rows"], "rows/")
    points = [Metric(name, value, at, 0, model_id=model_id, run_id=run) for name, value in results.items()]
    points += [Metric(f"curves/{name}", value, at, step) for step, name, value in _curves(workspace, commit)]
    used, took = environment.of_training(workspace, model_digest)
    points += [Metric(f"system/{name}", value, at, step) for step, name, value in took]
    points = list(_untold(client, run, points))
    for start in range(0, len(points), MOST_METRICS):
        client.log_batch(run, metrics=points[start : start + MOST_METRICS])
    _tags(client, run, used)


def _untold(client: Any, run: str, points: Sequence[Any]) -> Iterator[Any]:
    """Those that an earlier try did not tell: MLflow refuses a batch with a value of a model that it has already."""
    told = {name: {0} for name in client.get_run(run).data.metrics}
    for name in {p.key for p in points if p.step} & told.keys():
        told[name] = {m.step for m in client.get_metric_history(run, name)}
    return (p for p in points if p.step not in told.get(p.key, ()))


def _params(client: Any, run: str, values: Mapping[str, Any]) -> None:
    from mlflow.entities import Param

    params = [Param(k, v[:LONGEST_PARAM]) for k, v in _flat(values)]
    for start in range(0, len(params), MOST_PARAMS):
        client.log_batch(run, params=params[start : start + MOST_PARAMS])


def _tags(client: Any, run: str, tags: Mapping[str, str]) -> None:
    from mlflow.entities import RunTag

    client.log_batch(run, tags=[RunTag(k, v[:LONGEST_TAG]) for k, v in tags.items()])


def _inputs(workspace: Workspace, client: Any, run: str, tag: str, commit: str) -> None:
    """Each table by name and digest: what trained, and the sealed holdout that judged."""
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.entities import DatasetInput, InputTag

    tables: dict[str, list[list[str]]] = {}
    for name, md5 in sorted(store.files(workspace, commit, "data/dataset").items()):
        kind, _, path = name.partition("/")
        if kind == "parquet":
            tables.setdefault(path.rpartition("/")[0], []).append([path, md5])
    inputs = []
    for table, pinned in tables.items():
        place = {"repository": str(workspace.root), "commit": commit, "path": f"data/dataset/parquet/{table}"}
        data = MetaDataset(CodeDatasetSource(place), name=table, digest=digest(canonical(pinned))[:16])
        context = EVALUATION if table.startswith("holdout") else TRAINING
        tags = [InputTag("mlflow.data.context", context), InputTag("snapshot", tag)]
        inputs.append(DatasetInput(data._to_mlflow_entity(), tags))
    client.log_inputs(run, inputs)


def _artifacts(workspace: Workspace, client: Any, run: str, tag: str, commit: str) -> None:
    """The dossier, and the reports and the rows of the evaluation as they were committed."""
    from tasks.live import dossier  # which reads the journal

    with tempfile.TemporaryDirectory() as temporary:
        reports, rows = Path(temporary) / "reports", Path(temporary) / EVALUATION
        for folder in (reports, rows):
            folder.mkdir()
        for path in git(workspace.root, "ls-tree", "-r", "--name-only", commit, f"{REPORTS}/").splitlines():
            (reports / Path(path).name).write_bytes(git_bytes(workspace.root, "show", f"{commit}:{path}"))
        try:
            pinned = store.files(workspace, commit, "data/evaluation")
            store.fetch(workspace, pinned.values())
        except Refused:  # a person's rows were erased from it meanwhile: then they are not told either
            pinned = {}
        for name, md5 in pinned.items():
            (rows / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(store.cached(workspace, md5), rows / name)
        (Path(temporary) / "dossier.html").write_text(dossier.html(workspace, tag), encoding="utf-8")
        client.log_artifacts(run, temporary)


def _curves(workspace: Workspace, commit: str) -> Iterator[tuple[int, str, float]]:
    try:
        text = git(workspace.root, "show", f"{commit}:{REPORTS}/curves.csv")
    except Refused:  # a snapshot from before trainings had curves
        return
    for row in csv.DictReader(io.StringIO(text)):
        if math.isfinite(value := float(row["value"])):
            yield int(row["step"]), UNFIT.sub("_", row["metric"]).strip("/. "), value


def _numbers(values: Mapping[str, Any], prefix: str) -> dict[str, float]:
    """Every finite number of a report, by its path in it: 'verdict/primary/p_value'."""
    found: dict[str, float] = {}
    for key, value in values.items():
        name = prefix + (UNFIT.sub("_", str(key)).strip("/. ") or "_")
        if isinstance(value, Mapping):
            found |= _numbers(value, f"{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            found[name] = float(value)
    return found


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", orjson.dumps(value).decode()
