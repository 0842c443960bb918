"""Champion and challenger with their files, and what MLflow is told of them.

    champion(place)  ->  Registered(version="4", digest="9f1…", folder=….flywheel/models/9f1c27ab03de4f55)
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.errors import Refused
from tasks.live.registry import environment, files, journal, mirror
from tasks.live.registry.journal import BASE, FIRST, RECORDED, Entry, Journal
from tasks.live.services.known import addresses
from tasks.live.snapshot import Snapshot, report, report_at
from tasks.live.workspace import Workspace

ERASED = "contains_erased"  # the tag of a version that was trained on what has been erased since, with the day


@dataclass(frozen=True, slots=True)
class Registered:
    """A model and its files on this machine. `version` is MLflow's; the name of its snapshot where MLflow has none yet."""

    version: str
    digest: str
    folder: Path


def champion(workspace: Workspace) -> Registered:
    """The champion, with its files at hand. The first one is the base model: there is no time without a champion."""
    now = journal.read(workspace)
    if not now.champion:
        mirror.settle(workspace)  # MLflow may know this workspace
        if not journal.read(workspace).champion:
            _begin(workspace)
            mirror.settle(workspace)
        now = journal.read(workspace)
    return registered(workspace, now, now.champion)


def challenger(workspace: Workspace) -> Registered | None:
    """The newest model that was trained and recorded."""
    now = journal.read(workspace)
    return registered(workspace, now, now.challenger.digest) if now.challenger else None


def record(workspace: Workspace, snapshot: Snapshot) -> str:
    """Tell MLflow of a snapshot and of what it was not told of before; returns the model's version, or '' where it does not answer:
    then the next turn tells it. Repeating it changes nothing."""
    trained = report_at(workspace, snapshot.commit, "training")["digest"]
    files.of_snapshot(workspace, snapshot.tag, snapshot.commit, trained)
    mirror.settle(workspace)
    now = journal.read(workspace)
    files.forget_others(workspace, [trained, *(e.digest for e in now.champions)])
    entry = now.recorded(snapshot.tag)
    return entry.version if entry else ""


def trained(workspace: Workspace, watch: environment.Watch) -> None:
    """Note what the training took that has just made data/model."""
    environment.keep(workspace, watch, report(workspace, "training")["digest"])


def is_recorded(workspace: Workspace, snapshot: Snapshot) -> bool:
    return journal.read(workspace).recorded(snapshot.tag) is not None


def pending(workspace: Workspace) -> dict[str, Any]:
    """What MLflow was not told of yet, and why. Reads files only."""
    now = journal.read(workspace)
    behind = [e.action for e in now.unmirrored()]
    return {"snapshots": [s.tag for s in mirror.owed(workspace)], "changes": behind, "why": mirror.trouble(workspace)}


def page(workspace: Workspace, version: str) -> str:
    """The address of a model version in MLflow's pages; '' where nobody serves them, or MLflow has no such version yet."""
    from tasks.live.registry.tracking import MODEL

    served = addresses(workspace).get("mlflow", "")
    return f"{served}/#/models/{MODEL}/versions/{version}" if served and version else ""


def versions(workspace: Workspace) -> list[dict[str, Any]]:
    """Every model version with its snapshot, decision, aliases and whether it learned from what was erased, oldest first. As MLflow
    has them; where it does not answer, as the journal remembers."""
    from tasks.live.registry import tracking

    try:
        with tracking.asking(workspace) as client:
            names: dict[str, list[str]] = {}
            for alias, version in tracking.aliases(client).items():
                names.setdefault(version, []).append(alias)
            return [
                {
                    "version": str(v.version),
                    "snapshot": v.tags.get("snapshot", BASE),
                    "decision": v.tags.get("decision", ""),
                    "aliases": sorted(names.get(str(v.version), [])),
                    "erased": v.tags.get(ERASED, ""),
                }
                for v in tracking.model_versions(client)
            ]
    except tracking.Unreachable:
        now = journal.read(workspace)
        newest = now.challenger.version if now.challenger else ""
        known = [e for e in now.entries if e.action == RECORDED]
        return [
            {
                "version": e.version,
                "snapshot": e.snapshot,
                "decision": BASE if e.snapshot == BASE else "",
                "aliases": ["challenger"] * (e.version == newest) + ["champion"] * (e.digest == now.champion),
                "erased": "",
            }
            for e in known
        ]


def mark(workspace: Workspace, version: str, tag: str, value: str) -> None:
    """Set a tag of a model version. Raises Refused where MLflow does not answer."""
    from tasks.live.registry import tracking

    try:
        with tracking.asking(workspace) as client:
            client.set_model_version_tag(tracking.MODEL, version, tag, value)
    except tracking.Unreachable as e:
        raise Refused(f"version {version} could not be marked: {e}", "start the MLflow server, then the same again", 1) from None


def forget_rows(workspace: Workspace, snapshots: Sequence[str]) -> int:
    """Delete what MLflow has of these snapshots that may hold people's texts: the rows of their evaluations. Returns of how many it
    did. Raises Refused where MLflow does not answer."""
    from tasks.live.registry import recording, tracking

    try:
        with tracking.asking(workspace) as client:
            return recording.forget_rows(client, workspace, snapshots)
    except tracking.Unreachable as e:
        raise Refused(f"rows of evaluations are still in MLflow: {e}", "start the MLflow server, then the same again", 1) from None


def _begin(workspace: Workspace) -> None:
    """The base model is the first champion."""
    from tasks.live.base_model import base_model

    with tempfile.TemporaryDirectory(dir=workspace.state) as folder:
        base_model(workspace).save(Path(folder) / "policy")
        digest = files.keep(workspace, Path(folder) / "policy")
    entry = Entry(FIRST, digest, snapshot=BASE, by="flywheel", why="the model before any label")
    journal.add(workspace, lambda now: [] if now.champion else [entry])


def registered(workspace: Workspace, now: Journal, digest: str) -> Registered:
    """A model with its files, brought here from MLflow where they are not."""
    here = files.folder(workspace, digest)
    if not here.is_dir():
        _fetch(workspace, now, digest)
    return Registered(name(now, digest), digest, here)


def _fetch(workspace: Workspace, now: Journal, digest: str) -> None:
    from tasks.live.registry import recording, tracking

    version = now.version(digest)
    lost = f"the files of {name(now, digest)} are not on this machine"
    try:
        with tracking.asking(workspace) as client:
            found = recording.fetched(workspace, client, client.get_model_version(tracking.MODEL, version)) if version else ""
    except tracking.Unreachable as e:
        raise Refused(f"{lost}, and MLflow does not give them: {e}", "start the MLflow server, then the same again", 1) from None
    if found != digest:
        raise Refused(f"{lost}, and MLflow has no such version", "restore .flywheel/models from a backup", 1)


def name(now: Journal, digest: str) -> str:
    return now.version(digest) or now.snapshot(digest)
