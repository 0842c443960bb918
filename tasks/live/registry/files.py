"""The models' files on this machine, by the digest of their bytes: what serves, evaluates and comes back without a network.

    .flywheel/models/9f1c27ab03de4f55/policy.json …

The champion, all whom it replaced, and the newest challenger stay here; others are MLflow's to keep, and fetched when wanted.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tasks.errors import Refused
from tasks.live import store
from tasks.live.workspace import Workspace
from tasks.policy import folder_digest

NAME = 16  # characters of the digest
MODEL = "data/model"


def folder(workspace: Workspace, digest: str) -> Path:
    return workspace.state / "models" / digest[:NAME]


def keep(workspace: Workspace, source: Path) -> str:
    """Copy a model folder here, whole or not at all; returns its digest. What is here already is not copied again."""
    digest = folder_digest(source)
    target = folder(workspace, digest)
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=".new-"))
        try:
            shutil.copytree(source, staging / "model")
            (staging / "model").rename(target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return digest


def of_snapshot(workspace: Workspace, tag: str, commit: str, digest: str) -> Path:
    """The model of a snapshot: from here, from data/model, or from DVC's cache and remote. Raises Refused where it is nowhere."""
    here = folder(workspace, digest)
    if here.is_dir():
        return here
    if (workspace.root / MODEL).is_dir() and folder_digest(workspace.root / MODEL) == digest:
        keep(workspace, workspace.root / MODEL)
        return here
    pinned = store.files(workspace, commit, MODEL)
    store.fetch(workspace, pinned.values())
    with tempfile.TemporaryDirectory(dir=workspace.state) as temporary:
        for name, md5 in pinned.items():
            target = Path(temporary) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(store.cached(workspace, md5), target)
        if keep(workspace, Path(temporary)) != digest:
            raise Refused(f"{MODEL} of {tag} is not the model that it was trained to", f"git checkout {tag} && dvc repro train")
    return here


def whole(workspace: Workspace, digest: str) -> bool:
    """Whether all bytes are here and are the ones that were kept. What is not whole is put aside."""
    here = folder(workspace, digest)
    if here.is_dir() and folder_digest(here) != digest:
        shutil.rmtree(here)
    return here.is_dir()


def forget_others(workspace: Workspace, digests: Iterable[str]) -> None:
    """Keep these only. Nothing is lost: MLflow and DVC have the rest."""
    wanted = {folder(workspace, d).name for d in digests}
    models = workspace.state / "models"
    for path in models.iterdir() if models.is_dir() else ():
        if path.is_dir() and path.name not in wanted:
            shutil.rmtree(path, ignore_errors=True)
