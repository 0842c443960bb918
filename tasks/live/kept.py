"""What snapshots keep: the files that git and DVC pin, read from the cache or a remote without touching the work tree.

    snapshots(workspace)            ->  [Tagged("snapshot-3f9c2a1b", "9b1d…", 1767600000, "promote: …"), …]      oldest first
    kept.files("9b1d…")["data/frozen/exchanges/1767600000000000-5c0e7c5d.parquet"]  ->  "0f3a…" (md5)
    kept.read("0f3a…")              ->  its bytes

DVC keeps every file once, by the MD5 of its bytes, whatever number of snapshots pin it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import orjson
import yaml

from tasks.errors import Refused
from tasks.live.repository import TAG, dvc, git_bytes
from tasks.live.workspace import Workspace

DIR = ".dir"  # the ending of the object that lists the files of a folder
LOCK = "dvc.lock"
CACHE = "cache"


@dataclass(frozen=True, slots=True)
class Tagged:
    """One snapshot: its tag, commit, the time of the commit (seconds) and what its tag says."""

    tag: str
    commit: str
    time: int
    says: str


class Gone(Refused):
    """An object that neither the cache nor a remote has."""


def snapshots(workspace: Workspace) -> list[Tagged]:
    """Every snapshot, oldest first."""
    line = "%(refname:short)%00%(objectname)%00%(*objectname)%00%(creatordate:unix)%00%(contents:subject)"
    listed = git_bytes(workspace.root, "for-each-ref", f"--format={line}", f"refs/tags/{TAG}*").decode()
    found = [row.split("\0") for row in listed.splitlines()]
    made = [Tagged(tag, peeled or commit, int(time), says) for tag, commit, peeled, time, says in found]
    if not made:
        return []
    # By history and not by time: two commits may be of the same second.
    order = git_bytes(workspace.root, "rev-list", "--topo-order", "--reverse", *(s.commit for s in made)).decode().split()
    place = {commit: n for n, commit in enumerate(order)}
    return sorted(made, key=lambda s: (place[s.commit], s.tag))


def tagged(workspace: Workspace, name: str) -> Tagged:
    """A snapshot by its tag, or by the digits that the tag ends with. Raises Refused."""
    known = snapshots(workspace)
    found = [s for s in known if s.tag == name or s.tag.removeprefix(TAG) == name]
    if not found:
        named = ", ".join(s.tag for s in known[-3:]) or "none yet"
        raise Refused(f"there is no snapshot {name}", f"the newest are: {named}; git tag lists all")
    return found[-1]


@contextlib.contextmanager
def opened(workspace: Workspace) -> Iterator[Kept]:
    with dvc(workspace) as repo:
        yield Kept(workspace, repo)


class Kept:
    """The objects of all snapshots. `stores`: "cache", then the remotes, by name."""

    def __init__(self, workspace: Workspace, repo: Any):
        self.workspace = workspace
        self.stores: dict[str, Any] = {CACHE: repo.cache.local}
        self.unreachable: dict[str, str] = {}
        for name in repo.config["remote"]:
            try:
                self.stores[name] = repo.cloud.get_remote_odb(name)
            except Exception as e:  # a scheme whose package is not installed, a remote of another kind
                self.unreachable[name] = f"{type(e).__name__}: {e}"
        self.tmp = Path(repo.tmp_dir)
        self._folders: dict[str, dict[str, str]] = {}

    def files(self, commit: str) -> dict[str, str]:
        """Path in the workspace -> MD5, of all that a commit pins. Raises Gone where the list of a folder is lost."""
        found: dict[str, str] = {}
        for path, md5 in self._outs(commit).items():
            if md5.endswith(DIR):
                found |= {f"{path}/{name}": m for name, m in self.folder(md5).items()}
            else:
                found[path] = md5
        return found

    def folder(self, md5: str) -> dict[str, str]:
        """The files of a folder, by their path in it."""
        if md5 not in self._folders:
            self._folders[md5] = {row["relpath"]: row["md5"] for row in orjson.loads(self.read(md5))}
        return self._folders[md5]

    def path(self, md5: str) -> Path | None:
        """Where the cache has it."""
        found = Path(self.stores[CACHE].oid_to_path(md5))
        return found if found.is_file() else None

    def has(self, store: str, md5: str) -> bool:
        odb = self.stores[store]
        return odb.fs.exists(odb.oid_to_path(md5))

    def read(self, md5: str) -> bytes:
        """An object's bytes: from the cache, else from the first remote that has it. Raises Gone."""
        here = self.path(md5)
        if here is not None:
            return here.read_bytes()
        for odb in list(self.stores.values())[1:]:
            with contextlib.suppress(FileNotFoundError):
                return odb.fs.cat_file(odb.oid_to_path(md5))
        raise Gone(f"object {md5} is neither in the cache nor in a remote", "dvc pull, or restore the remote from its backup")

    def _outs(self, commit: str) -> dict[str, str]:
        """What the commit's dvc.lock and *.dvc files name: path -> MD5."""
        listed = git_bytes(self.workspace.root, "ls-tree", "-r", "--name-only", "-z", commit).decode().split("\0")
        tracked = set(listed)  # a metric is an out as well, and lies in git
        found: dict[str, str] = {}
        for name in listed:
            path = PurePosixPath(name)
            if path.name != LOCK and path.suffix != ".dvc":
                continue
            document = yaml.safe_load(git_bytes(self.workspace.root, "show", f"{commit}:{name}")) or {}
            outs = document.get("outs", []) + [o for s in document.get("stages", {}).values() for o in s.get("outs", [])]
            for out in outs:
                place = str(path.parent / out["path"])
                if "md5" in out and place not in tracked:
                    found[place] = out["md5"]
        return found
