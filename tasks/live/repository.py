"""The workspace's git repository and its DVC: the one door to both, and the rule of when a snapshot may be made in it.

    git(workspace.root, "rev-parse", "HEAD")        with dvc(workspace) as repo: repo.push()
"""

from __future__ import annotations

import contextlib
import logging
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tasks.errors import USAGE, Refused
from tasks.live.workspace import Workspace

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
NOTES = "commits"  # of the notes that git log shows: what was erased from a snapshot stands there
SHOWN = 5


def git(folder: Path, *arguments: str, fix: str = "see the message of git above") -> str:
    """What git prints. Raises Refused where it fails, or is not there."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise Refused("git is not installed", "install git; snapshots are its commits") from None
    if done.returncode:
        raise Refused(
            f"git {' '.join(a for a in arguments if not a.startswith('-'))}: {done.stderr.strip()}", fix, USAGE
        )
    return done.stdout.strip()


def git_bytes(folder: Path, *arguments: str, data: bytes | None = None) -> bytes:
    """The same as bytes, as the loop itself commits, with `data` as git's input."""
    done = subprocess.run(["git", "-C", str(folder), *COMMITTER, *arguments], input=data, capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()
        raise Refused(f"git {arguments[0]}: {said}", "see the message of git above", USAGE)
    return done.stdout


@contextlib.contextmanager
def dvc(workspace: Workspace) -> Iterator[Any]:
    """DVC's Repo in this process: the command line says the same, with a start of seconds each."""
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.ERROR)
    # A file that a store does not have, because it was erased for one, is no news with a traceback: whoever asked for it says so.
    logging.getLogger("dvc_data").setLevel(logging.CRITICAL)
    # DVC resolves stage names and working folders against the current folder, whatever root it was given.
    with contextlib.chdir(workspace.root):
        repo = Repo(str(workspace.root))
        try:
            yield repo
        finally:
            repo.close()


def ready(workspace: Workspace) -> None:
    """Whether a snapshot may be committed here. Raises Refused in a detached HEAD, a shallow clone, a merge that is not finished,
    and where code or settings that a stage depends on are not committed: nobody could check out what the snapshot was made by."""
    root = workspace.root
    if git(root, "rev-parse", "--is-shallow-repository", fix=f"flywheel init {root.name}") == "true":
        raise Refused(f"{root} is a shallow clone, which doesn't know earlier snapshots", "git fetch --unshallow --tags")
    if git(root, "rev-parse", "--abbrev-ref", "HEAD") == "HEAD":
        branches = git(root, "for-each-ref", "--format=%(refname:short)", "refs/heads").split()
        raise Refused(
            f"{root} has no branch checked out, so a new snapshot would belong to none",
            f"git switch {branches[0] if branches else 'BRANCH'}",
        )
    if unmerged := git(root, "diff", "--name-only", "--diff-filter=U"):
        names = ", ".join(unmerged.split()[:SHOWN])
        raise Refused(f"a merge is not finished: {names}", "resolve it and commit, or git merge --abort")
    if changed := uncommitted(workspace):
        more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        raise Refused(
            f"what the stages run is not committed: {', '.join(changed[:SHOWN])}{more};"
            " the snapshot could not be made again from its tag",
            f"git commit -- {' '.join(changed[:SHOWN])}, or git checkout -- {' '.join(changed[:SHOWN])}",
        )


def unlock(root: Path) -> list[str]:
    """Remove what a git process that was killed left locked, where no git works here now; returns the names. For who holds the
    workspace's lock 'snapshot': git itself would refuse every later commit until a person has looked."""
    left = git_locks(root)
    if not left:
        return []
    import psutil

    for process in psutil.process_iter(["name", "cwd", "cmdline"]):
        said = process.info
        here = str(root) in (said["cmdline"] or []) or Path(said["cwd"] or "/").is_relative_to(root)
        if said["name"] == "git" and here and process.status() != psutil.STATUS_ZOMBIE:
            return []
    for path in left:
        path.unlink(missing_ok=True)
    return [p.name for p in left]


def mend(workspace: Workspace) -> list[str]:
    """Put back what DVC was writing when it was killed; returns the names. It writes dvc.lock and .dvc files in place, and refuses
    to work with half of one. As of HEAD they are as good: a stage that is not in them runs again, or comes from DVC's cache of
    runs. For who holds the workspace's lock 'snapshot'."""
    from dvc.exceptions import DvcException
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA, COMPILED_SINGLE_STAGE_SCHEMA
    from dvc.utils.strictyaml import load

    root, torn = workspace.root, []
    schemas = dict.fromkeys(workspace.data.glob("*.dvc"), COMPILED_SINGLE_STAGE_SCHEMA)
    schemas[root / "dvc.lock"] = COMPILED_LOCKFILE_SCHEMA
    for path in (p for p in sorted(schemas) if p.is_file()):
        try:
            load(str(path), schemas[path])
            continue
        except DvcException:
            torn.append(str(path.relative_to(root)))
        if git(root, "ls-tree", "--name-only", "HEAD", "--", torn[-1]):
            git(root, "checkout", "--quiet", "HEAD", "--", torn[-1])
        else:
            path.unlink()
    return torn


def git_locks(root: Path) -> list[Path]:
    """What a git process that works in the workspace, or died there, has locked."""
    return sorted([*(root / ".git").glob("*.lock"), *(root / ".git" / "refs").rglob("*.lock")])


def uncommitted(workspace: Workspace) -> list[str]:
    """Code that stages depend on, and dvc.yaml, where they differ from HEAD. What a snapshot commits itself is not among it."""
    stages = yaml.safe_load((workspace.root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    code = {d for stage in stages.values() for d in stage.get("deps", []) if not d.startswith("data/")}
    paths = ["dvc.yaml", *sorted(code)]
    changed = git(workspace.root, "diff", "--name-only", "-z", "HEAD", "--", *paths)
    new = git(workspace.root, "ls-files", "--others", "--exclude-standard", "-z", "--", *paths)
    return sorted(filter(None, f"{changed}\0{new}".split("\0")))
