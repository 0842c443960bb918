"""Snapshots: git and DVC. A snapshot is a commit of the workspace whose dvc.lock pins frozen → verdict, and its tag.

    snapshot-3f9c2a1b   git checkout snapshot-3f9c2a1b && dvc pull && dvc repro   -> the same hashes, every stage skipped

What goes through git and DVC goes through tasks/live/repository.py; where the data lies, tasks/live/store.py says.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml

from tasks.changes import as_markdown, changelog, summary
from tasks.errors import INVALID, Refused
from tasks.live import diff, store
from tasks.live.repository import COMMITTER, TAG, mend, ready, unlock
from tasks.live.repository import dvc as _dvc
from tasks.live.repository import git as _git
from tasks.live.workspace import Workspace, new_key
from tasks.records import Approved, canonical, digest, read_records, write_jsonl


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`digest`: of everything dvc.lock pins; `commit` its git commit; `new` whether this call made it; `unpushed` why the
    remote has not taken its data yet, '' where it has."""

    tag: str
    digest: str
    commit: str
    new: bool
    unpushed: str = ""


def init(directory: Path, source: Path, approved: Path | None, remote: str | None, with_uncommitted: bool,
    settings: Sequence[str] = ()) -> Workspace:
    """Make a workspace: a clone of the project at `source`, with a DVC remote (and its `settings`), keys and an empty lake.

    The snapshots are committed there, never into the developer's checkout. An existing workspace is refused.
    """
    directory = directory.resolve()
    if directory.exists() and any(directory.iterdir()):
        raise Refused(f"{directory} is not empty", "choose a new folder, or use the workspace that is there")
    if shutil.which("git") is None:
        raise Refused("git is not installed", "install git; snapshots are its commits")
    # What refuses does so before anything is made.
    store.check(remote or "", settings)
    if approved is not None:
        read_records(approved, Approved)
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
    store.configure(workspace, remote or str(workspace.state / "remote"), settings)
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
    mend(workspace)
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
    """Push the data, then commit and tag. Nothing new: nothing is committed, and the existing snapshot is named.

    A remote that doesn't answer costs no snapshot: it is kept here, and what it owes is pushed by the next one. Killed anywhere,
    the next call ends in the same commit. Raises Refused where no snapshot may be made (tasks/live/repository.py, ready).
    """
    unlock(workspace.root)
    ready(workspace)
    pinned = pinned_digest(workspace)
    tag = TAG + pinned[:8]
    if _git(workspace.root, "tag", "--list", tag):
        commit = _git(workspace.root, "rev-list", "-1", tag)
        _refuse_elsewhere(workspace, tag, commit)
        return Snapshot(tag, pinned, commit, False, store.push_pending(workspace))
    # The data first: a commit whose data nobody can pull yet is the exception, and `flywheel status` shows it.
    unpushed = store.push(workspace, tag)
    verdict = report(workspace, "verdict")
    changed = _log_changes(workspace, tag, verdict["decision"])
    reports = sorted(p for p in workspace.reports.iterdir() if p.is_file())
    named = [workspace.changelog, *reports, *sorted(workspace.data.glob("*.dvc"))]
    paths = ["dvc.lock", "params.yaml", *(str(p.relative_to(workspace.root)) for p in named)]
    _git(workspace.root, "add", "--", *paths)
    # These paths and no other: what somebody else has staged stays staged.
    if _git(workspace.root, "diff", "--cached", "--name-only", "--", *paths):
        _git(workspace.root, *COMMITTER, "commit", "--quiet", "-m", _message(workspace, tag, verdict), "--", *paths)
    message = f"{verdict['decision']}: {'; '.join(verdict['reasons'])}\n\n{changed}"
    _git(workspace.root, *COMMITTER, "tag", "--annotate", tag, "-m", message)
    return Snapshot(tag, pinned, _git(workspace.root, "rev-parse", "HEAD"), True, unpushed)


def push_pending(workspace: Workspace) -> str:
    """Push what earlier snapshots owe the remote; '' where nothing is left, or why it is still owed."""
    return store.push_pending(workspace)


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


def _log_changes(workspace: Workspace, tag: str, decision: str) -> str:
    """Put what this snapshot changes on top of data/CHANGELOG.md; returns it in one line. From the file as it was committed, so
    that an entry of a call which was killed is not left in it."""
    try:
        before = _git(workspace.root, "show", f"HEAD:{workspace.changelog.relative_to(workspace.root).as_posix()}") + "\n"
    except Refused:
        before = ""
    newest = next((s for s in history(workspace) if s.tag != tag), None)
    if newest is None:
        rows = sum(diff.sizes(workspace).values())
        line, entry = f"the first: {rows:,} rows", f"## {tag}: {decision}\n\nThe first snapshot: {rows:,} rows.\n"
    else:
        found = diff.since(workspace, newest.tag)
        line, entry = f"since {newest.tag}: {summary(found)}", as_markdown(found, f"{tag}: {decision}")
    workspace.changelog.write_text(changelog(before, tag, entry), encoding="utf-8")
    return line


def change_of(workspace: Workspace, tag: str) -> str:
    """The entry of a snapshot in data/CHANGELOG.md, without its heading; '' where there is none."""
    text = workspace.changelog.read_text(encoding="utf-8") if workspace.changelog.is_file() else ""
    entries = text.split("\n## ")[1:]
    return next((e.partition("\n")[2].strip() for e in entries if e.startswith(tag)), "")


def _refuse_elsewhere(workspace: Workspace, tag: str, commit: str) -> None:
    branch = _git(workspace.root, "rev-parse", "--abbrev-ref", "HEAD")
    if not _git(workspace.root, "branch", "--contains", commit, "--list", branch):
        raise Refused(
            f"{tag} was made on another branch (commit {commit[:12]}), and this one doesn't contain it",
            f"git merge {tag}, or git switch to the branch that has it",
        )


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


def _overlay(source: Path, directory: Path) -> None:
    """Bring a checkout's uncommitted changes along, as one commit of the workspace (for developing flywheel itself)."""
    listed = _git(source, "ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
    for name in filter(None, listed):
        target = directory / name
        if (source / name).is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, target)
            target.chmod(target.stat().st_mode & 0o700)  # as git makes files here, whatever they are in the checkout
        else:
            target.unlink(missing_ok=True)
    _git(directory, "add", "--all")
    if _git(directory, "diff", "--cached", "--name-only"):
        _git(directory, *COMMITTER, "commit", "--quiet", "-m", "workspace: uncommitted changes of the checkout")
