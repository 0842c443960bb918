"""The proof: a look into every byte of the workspace, its history and its remotes, unpacked and decoded, for what was theirs.

    data/raw: 12 files, 0 hits · data/lake: 40 files, 0 hits · .dvc/cache: 212 files, 0 hits · remote store: 212 objects, 0 hits · …

Row ids that derive from content may stand in reports and in the data's changelog, which are counts and ids of rows and lie in git
for ever: they name nothing any more, and are counted apart.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tasks.live import kept
from tasks.live.erasure.needles import Needles, Unreadable, content, looks_into
from tasks.live.erasure.objects import NOTHING
from tasks.live.erasure.theirs import PSEUDONYM
from tasks.live.kept import CACHE
from tasks.live.lake import Lake
from tasks.live.workspace import Workspace

JOURNALS = "erasures"
KEPT_IN_GIT = ("data/reports/", "data/CHANGELOG.md")
FIRST_HITS = 20


@dataclass(slots=True)
class Looked:
    """What was looked into in one place. `row_ids` are derived ids in reports and the changelog, and no hits."""

    files: int = 0
    bytes: int = 0
    hits: int = 0
    row_ids: int = 0


@dataclass(slots=True)
class Proof:
    """`where` names the first files that still hold something; `unseen` what could not be looked into."""

    places: dict[str, Looked] = field(default_factory=dict)
    where: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)

    @property
    def hits(self) -> int:
        return sum(p.hits for p in self.places.values())

    def add(
        self, place: str, name: str, blocks: Iterator[bytes], size: int, needles: Needles, ids_may_stay: bool
    ) -> None:
        looked = self.places.setdefault(place, Looked())
        looked.files += 1
        looked.bytes += size
        found: set[str] = set()
        try:
            for block in blocks:
                found |= needles.found(block)
        except Unreadable as e:
            self.unseen.append(f"{name}: {e}")
        named = {f for f in found if ids_may_stay and f in needles.ids and not PSEUDONYM.fullmatch(f.encode())}
        looked.row_ids += len(named)
        if found - named:
            looked.hits += 1
            if len(self.where) < FIRST_HITS:
                self.where.append(name)


def prove(workspace: Workspace, needles: Needles) -> Proof:
    """Look everywhere. Nothing is changed."""
    proof = Proof()
    for path in _files(workspace.root):
        name = path.relative_to(workspace.root).as_posix()
        try:
            size = path.stat().st_size
            proof.add(_place(name), name, looks_into(path), size, needles, name.startswith(KEPT_IN_GIT))
        except OSError as e:
            proof.unseen.append(f"{name}: {e}")
    _lake_elsewhere(workspace, proof, needles)
    if (workspace.root / ".git").exists():
        for object_, data in _git_objects(workspace.root):
            proof.add(
                ".git (every version of every file)", f"git object {object_}", iter([data]), len(data), needles, True
            )
        _remotes(workspace, proof, needles)
    return proof


def _lake_elsewhere(workspace: Workspace, proof: Proof, needles: Needles) -> None:
    """A lake that lies outside of the workspace (FLYWHEEL_LAKE)."""
    place = workspace.lake
    if isinstance(place, Path) and place.is_relative_to(workspace.root):
        return
    with _unseen(proof, f"the lake at {place}"):
        for name, data in Lake(place).contents():
            proof.add("data/lake", f"{place}/{name}", content(data), len(data), needles, False)


def _files(root: Path) -> Iterator[Path]:
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        if parts[:2] == (".git", "objects") or parts[:2] == (".flywheel", JOURNALS) or ".venv" in parts[:1]:
            continue
        if path.is_file() and not path.is_symlink():
            yield path


def _place(name: str) -> str:
    parts = name.split("/")
    deep = 2 if parts[0] in ("data", ".flywheel", ".dvc") and len(parts) > 2 else 1
    return "/".join(parts[:deep]) if len(parts) > 1 else "files beside them"


def _remotes(workspace: Workspace, proof: Proof, needles: Needles) -> None:
    """A remote's object has the bytes of the cache's of the same name, where they agree on the MD5; each is read all the same."""
    with kept.opened(workspace) as objects:
        for name, why in objects.unreachable.items():
            proof.unseen.append(f"remote {name}: {why}")
        for name, odb in objects.stores.items():
            if name == CACHE:
                continue
            with _unseen(proof, f"remote {name}"):
                if not odb.fs.exists(odb.path):
                    raise FileNotFoundError(NOTHING)
                for md5 in odb.all():
                    data = odb.fs.cat_file(odb.oid_to_path(md5))
                    proof.add(f"remote {name}", f"remote {name}: {md5}", content(data), len(data), needles, False)


@contextlib.contextmanager
def _unseen(proof: Proof, name: str) -> Iterator[None]:
    try:
        yield
    except Exception as e:  # whatever a remote's library raises where it can't be reached
        proof.unseen.append(f"{name}: {e or type(e).__name__}")


def _git_objects(root: Path) -> Iterator[tuple[str, bytes]]:
    command = ["git", "-C", str(root), "cat-file", "--batch-all-objects", "--batch", "--unordered"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as git:
        assert git.stdout is not None
        while header := git.stdout.readline():
            name, kind, size = header.split()
            data = git.stdout.read(int(size) + 1)[:-1]
            if kind in (b"blob", b"commit", b"tag"):
                yield name.decode(), data
