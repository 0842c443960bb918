"""Snapshots: git and DVC. A snapshot is a commit of the workspace whose dvc.lock pins frozen → verdict, and its tag.

    snapshot-3f9c2a1b   git checkout snapshot-3f9c2a1b && dvc pull && dvc repro   -> the same hashes, every stage skipped

The one door to git and to DVC (its Repo class from Python; the command line says the same, with a start of seconds each).
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml

from tasks.errors import INVALID, USAGE, Refused
from tasks.live.workspace import Workspace, new_key
from tasks.records import Approved, canonical, digest, read_records, write_jsonl

COMMITTER = (
    "-c",
    "user.name=flywheel",
    "-c",
    "user.email=flywheel@localhost",
    "-c",
    "commit.gpgsign=false",
    "-c",
    "tag.gpgsign=false",
)
TAG = "snapshot-"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`digest`: of everything dvc.lock pins; `commit` its git commit; `new` whether this call made it."""

    tag: str
    digest: str
    commit: str
    new: bool


def init(directory: Path, source: Path, approved: Path | None, remote: str | None, with_uncommitted: bool) -> Workspace:
    """Make a workspace: a clone of the project at `source`, with a DVC remote, keys and an empty lake.

    The snapshots are committed there, never into the developer's checkout. An existing workspace is refused.
    """
    directory = directory.resolve()
    if directory.exists() and any(directory.iterdir()):
        raise Refused(f"{directory} is not empty", "choose a new folder, or use the workspace that is there")
    if shutil.which("git") is None:
        raise Refused("git is not installed", "install git; snapshots are its commits")
    if approved is not None:
        read_records(approved, Approved)  # refuses before anything is made
    _git(
        source,
        "clone",
        "--quiet",
        "--no-hardlinks",
        str(source),
        str(directory),
        fix="run it from a git checkout of flywheel",
    )
    if with_uncommitted:
        _overlay(source, directory)
    workspace = Workspace(directory)
    workspace.state.mkdir(mode=0o700)
    for folder in (workspace.inbox, workspace.outbox, workspace.answers, workspace.reports):
        folder.mkdir(parents=True, exist_ok=True)
    new_key(workspace.state / "pseudonym.key")
    if approved is not None:
        write_jsonl(workspace.catalogue, sorted(read_records(approved, Approved), key=lambda a: a.id))
    with _dvc(workspace) as repo:
        url = remote or str(workspace.state / "remote")
        with repo.config.edit("repo") as config:
            config["remote"] = {"store": {"url": url}}
            config["core"]["remote"] = "store"
    added = [".dvc/config", *(["data/catalogue.jsonl"] if approved is not None else [])]
    _git(directory, "add", "--", *added)
    _git(directory, *COMMITTER, "commit", "--quiet", "-m", "workspace: where its data is kept")
    return workspace


def stages(workspace: Workspace) -> list[str]:
    """The names of the pipeline's stages, in an order in which they can run. DVC knows it; nobody else needs to."""
    with _dvc(workspace) as repo:
        ordered: list[str] = []
        graph = repo.index.graph  # an edge leads from a stage to what it depends on
        pending = {s for s in graph.nodes if s.cmd}
        while pending:
            ready = sorted((s for s in pending if not set(graph.successors(s)) & pending), key=lambda s: s.name)
            ordered += [s.name for s in ready]
            pending -= set(ready)
        return ordered


def track_frozen(workspace: Workspace) -> None:
    """`dvc add data/frozen`, where its bytes are not the ones that DVC already pins."""
    with _dvc(workspace) as repo:
        repo.add([str(workspace.frozen)])


def run_stage(workspace: Workspace, stage: str) -> bool:
    """Bring one stage up to date; True where it ran, False where nothing that it depends on had changed.

    Raises Refused where the stage refused (validation names its report), and RuntimeError where it crashed.
    """
    from dvc.exceptions import ReproductionError

    with _dvc(workspace) as repo:
        try:
            return bool(repo.reproduce([stage], single_item=True))
        except ReproductionError as e:
            if stage == "validate":
                _refuse_invalid(workspace)
            raise RuntimeError(
                f"stage {stage} failed: {_cause(e)}; dvc repro {stage} in {workspace.root} shows it"
            ) from e


def publish(workspace: Workspace) -> Snapshot:
    """Push the data, then commit and tag. Nothing new: nothing is committed, and the existing snapshot is named."""
    pinned = pinned_digest(workspace)
    tag = TAG + pinned[:8]
    existing = _git(workspace.root, "tag", "--list", tag)
    if existing:
        return Snapshot(tag, pinned, _git(workspace.root, "rev-list", "-1", tag), False)
    # The data first: a commit whose data nobody can pull is worse than data that no commit names.
    with _dvc(workspace) as repo:
        repo.push()
    reports = sorted(p for p in workspace.reports.iterdir() if p.is_file())
    paths = ["dvc.lock", "data/frozen.dvc", "params.yaml", *(str(p.relative_to(workspace.root)) for p in reports)]
    _git(workspace.root, "add", "--", *paths)
    verdict = report(workspace, "verdict")
    if _git(workspace.root, "diff", "--cached", "--name-only"):
        _git(workspace.root, *COMMITTER, "commit", "--quiet", "-m", _message(workspace, tag, verdict))
    _git(
        workspace.root,
        *COMMITTER,
        "tag",
        "--annotate",
        tag,
        "-m",
        f"{verdict['decision']}: {'; '.join(verdict['reasons'])}",
    )
    return Snapshot(tag, pinned, _git(workspace.root, "rev-parse", "HEAD"), True)


def pinned_digest(workspace: Workspace) -> str:
    """One digest of all that a snapshot pins: the frozen input and every stage's outputs, by content."""
    try:
        lock = yaml.safe_load((workspace.root / "dvc.lock").read_text(encoding="utf-8"))
        frozen = yaml.safe_load((workspace.data / "frozen.dvc").read_text(encoding="utf-8"))
    except FileNotFoundError as e:
        raise Refused(f"{e.filename} does not exist", "flywheel retrain") from None
    outs = {name: [[o["path"], o["md5"]] for o in s.get("outs", [])] for name, s in lock["stages"].items()}
    return digest(canonical([frozen["outs"][0]["md5"], outs]))


def last(workspace: Workspace) -> Snapshot | None:
    """The newest snapshot that HEAD contains, None before the first."""
    return next(history(workspace), None)


def history(workspace: Workspace) -> Iterator[Snapshot]:
    """The snapshots that HEAD contains, the newest first."""
    tags = _git(
        workspace.root,
        "tag",
        "--merged",
        "HEAD",
        "--list",
        f"{TAG}*",
        "--format=%(objectname) %(*objectname) %(refname:short)",
    )
    by_commit = {line.split()[1]: line.split()[2] for line in tags.splitlines()}
    for commit in _git(workspace.root, "rev-list", "--first-parent", "HEAD").splitlines():
        if commit in by_commit:
            yield Snapshot(by_commit[commit], digest_at(workspace, commit), commit, False)


def digest_at(workspace: Workspace, commit: str) -> str:
    lock = yaml.safe_load(_git(workspace.root, "show", f"{commit}:dvc.lock"))
    frozen = yaml.safe_load(_git(workspace.root, "show", f"{commit}:data/frozen.dvc"))
    outs = {name: [[o["path"], o["md5"]] for o in s.get("outs", [])] for name, s in lock["stages"].items()}
    return digest(canonical([frozen["outs"][0]["md5"], outs]))


def report_at(workspace: Workspace, commit: str, name: str) -> dict[str, Any]:
    """A report as it was committed with a snapshot."""
    return orjson.loads(_git(workspace.root, "show", f"{commit}:data/reports/{name}.json"))


def report(workspace: Workspace, name: str) -> dict[str, Any]:
    """A report as it lies in the workspace now. Raises Refused where it was never written."""
    path = workspace.reports / f"{name}.json"
    try:
        return orjson.loads(path.read_bytes())
    except FileNotFoundError:
        raise Refused(f"{path} does not exist", "flywheel retrain") from None


def _message(workspace: Workspace, tag: str, verdict: dict[str, Any]) -> str:
    made = report(workspace, "build")["rows"]
    train, holdout = made["train"], made["holdout"]
    rows = f"{train['sft']} supervised, {train['preference']} preference, {holdout['evaluation']} holdout rows"
    return f"{tag}: {verdict['decision']} on {rows}\n\n" + "\n".join(verdict["reasons"]) + "\n"


def _refuse_invalid(workspace: Workspace) -> None:
    """Turn a failed validation into its own refusal; return where the stage died before it wrote a report."""
    path = workspace.reports / "validation.json"
    if not path.is_file():
        return
    findings = [
        f for f in orjson.loads(path.read_bytes())["findings"] if not f["passed"] and f["severity"] == "critical"
    ]
    if findings:
        first = findings[0]
        raise Refused(
            f"validation failed, nothing was published: {len(findings)} critical, first in {first['table']}: {first['why']}"
            f" ({first['count']} rows: {', '.join(first['rows'][:3])})",
            f"read {workspace.reports / 'validation.md'}",
            INVALID,
        )


def _cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)


@contextlib.contextmanager
def _dvc(workspace: Workspace) -> Iterator[Any]:
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.ERROR)
    # DVC resolves stage names and working folders against the current folder, whatever root it was given.
    with contextlib.chdir(workspace.root):
        repo = Repo(str(workspace.root))
        try:
            yield repo
        finally:
            repo.close()


def _overlay(source: Path, directory: Path) -> None:
    """Bring a checkout's uncommitted changes along, as one commit of the workspace (for developing flywheel itself)."""
    listed = _git(source, "ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
    for name in filter(None, listed):
        target = directory / name
        if (source / name).is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, target)
        else:
            target.unlink(missing_ok=True)
    _git(directory, "add", "--all")
    if _git(directory, "diff", "--cached", "--name-only"):
        _git(directory, *COMMITTER, "commit", "--quiet", "-m", "workspace: uncommitted changes of the checkout")


def _git(folder: Path, *arguments: str, fix: str = "see the message of git above") -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(
            f"git {' '.join(a for a in arguments if not a.startswith('-'))}: {done.stderr.strip()}", fix, USAGE
        )
    return done.stdout.strip()
