"""What others are told: who checks out an old snapshot, and who has to train a model anew.

    data/ERASED.md                 committed: which snapshots lost which files, since when, and how to go on
    git notes, tag erased-…        on each such commit: git log and git tag show them (a tag goes along into every clone)
    .git/hooks/post-checkout       says it at the moment of the checkout, in the workspace
    contains_erased                on each model version that was trained on what is gone
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from tasks.errors import Refused
from tasks.live import kept, registry
from tasks.live.repository import NOTES, git_bytes
from tasks.live.workspace import Workspace, write_durably

PAGE = "data/ERASED.md"
HEAD = """# Erased

Rows of these snapshots were erased at the wish of those whom they were about. The files that held them are gone for good, from
the cache and from every remote. `dvc pull` of such a snapshot fails, and says `failed to transfer` with the number (MD5) of each of
these; what lost nothing still comes by its own name, such as `dvc pull data/frozen/guidelines`.

What is missing can't be had again. A snapshot without it: `flywheel retrain --force`. Models that were trained on it carry the tag
`contains_erased` and are to be replaced by one that was not.
"""
HOOK = """#!/bin/sh
# flywheel: what was erased from the snapshot that was just checked out
git notes show HEAD >&2 2>/dev/null || true
"""
# Folders in which only what was judged on lies, or what was left out: no model learned from these.
UNLEARNED = ("/holdout/", "/dropped/", "data/evaluation/", "data/curated/", "data/frozen/")
ROWS = "data/evaluation/"  # a record in MLflow has a copy of these
LEARNED = ("data/frozen/questions.jsonl",)


def message(day: str, erasure: str, tag: str, paths: dict[str, str]) -> str:
    named = "\n".join(f"  {md5} {path}" for path, md5 in paths.items())
    files = "1 file is" if len(paths) == 1 else f"{len(paths)} files are"
    return (
        f"Erased on {day} ({erasure}): {files} gone for good from {tag}, as they held rows of somebody who asked for it.\n"
        "dvc pull fails for these, and brings others by their own path;"
        f" flywheel retrain --force makes a snapshot without these rows.\n{named}\n"
    )


def may_commit(workspace: Workspace) -> None:
    """Raises Refused where a commit would belong to no branch."""
    try:
        git_bytes(workspace.root, "symbolic-ref", "--quiet", "HEAD")
    except Refused:
        raise Refused(
            f"{workspace.root} has an old commit checked out",
            f"git -C {workspace.root} checkout main (or whatever its branch is), then erase again",
        ) from None


def tell(workspace: Workspace, erasure: str, day: str, files: dict[str, dict[str, str]]) -> None:
    """Notes, tags, the page and its commit. Repeating it changes nothing."""
    if not files:
        return
    commits = {s.tag: s.commit for s in kept.snapshots(workspace)}
    for tag, paths in files.items():
        commit, text = commits.get(tag, tag), message(day, erasure, tag, paths)
        if erasure not in _note(workspace, commit):
            git_bytes(workspace.root, "notes", "--ref", NOTES, "append", "--file", "-", commit, data=text.encode())
        mark = f"erased-{tag}"
        if tag in commits and not git_bytes(workspace.root, "tag", "--list", mark):
            git_bytes(workspace.root, "tag", "--annotate", mark, "--file", "-", commit, data=text.encode())
    page = workspace.root / PAGE
    text = page.read_text(encoding="utf-8") if page.is_file() else HEAD
    if erasure not in text:
        text += f"\n## {day}, {erasure}\n\n" + "".join(f"- `{tag}`\n{_listed(paths)}" for tag, paths in files.items())
        write_durably(page, text.encode())
    git_bytes(workspace.root, "add", "--", PAGE)
    if git_bytes(workspace.root, "diff", "--cached", "--name-only", "--", PAGE):
        git_bytes(workspace.root, "commit", "--quiet", "-m", f"Erased: rows of {len(files)} snapshots, see {PAGE}", "--", PAGE)
    _hook(workspace)


def to_retrain(workspace: Workspace, day: str, files: dict[str, dict[str, str]]) -> tuple[list[str], list[str]]:
    """Mark the model versions that learned from what is gone; returns them, and those that were only judged on it."""
    learned = {tag for tag, paths in files.items() if any(map(_teaches, paths))}
    if judged_on := [tag for tag, paths in files.items() if any(path.startswith(ROWS) for path in paths)]:
        registry.forget_rows(workspace, judged_on)
    marked, judged = [], []
    for version in registry.versions(workspace):
        if version["snapshot"] in learned:
            marked.append(version["version"])
            if not version["erased"]:
                registry.mark(workspace, version["version"], registry.ERASED, day)
        elif version["snapshot"] in files:
            judged.append(version["version"])
    return marked, judged


def _teaches(path: str) -> bool:
    return path in LEARNED or not any(part in path for part in UNLEARNED)


def _note(workspace: Workspace, commit: str) -> str:
    with contextlib.suppress(Refused):
        return git_bytes(workspace.root, "notes", "--ref", NOTES, "show", commit).decode()
    return ""


def _hook(workspace: Workspace) -> None:
    """Only where there is none, or ours: the clone is the loop's own, but a person may have put one there."""
    where = Path(git_bytes(workspace.root, "rev-parse", "--git-path", "hooks").decode().strip())
    hook = (where if where.is_absolute() else workspace.root / where) / "post-checkout"
    if not hook.exists():
        write_durably(hook, HOOK.encode())
        hook.chmod(0o700)


def _listed(paths: dict[str, str]) -> str:
    return "".join(f"  - `{md5}` {path}\n" for path, md5 in paths.items())
