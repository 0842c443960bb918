"""Their rows in snapshots: exactly the objects that hold one go, from DVC's cache and from every remote; the others stay.

    affected(workspace, subject)   ->  {"0f3a…": 3 rows, …} and which files of which snapshots these objects are
    delete(workspace, affected)    ->  {"cache": 7, "store": 7, "backup": 7}

A shard that holds a row of theirs holds rows of others too, so an old snapshot loses these files as a whole; the list of its files
stays, and whoever checks it out still gets all the others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.errors import Refused
from tasks.live import kept
from tasks.live.erasure.needles import Needles, Unreadable, content
from tasks.live.erasure.subject import Subject
from tasks.live.kept import CACHE, DIR, Kept
from tasks.live.repository import git_bytes
from tasks.live.workspace import Workspace

ABOUT = ("interaction_id", "beside")
NOTHING = "nothing is there: it was never pushed to, or is not mounted"
# What the work tree has of a snapshot; the next one is made anew.
FOLDERS = ("frozen", "curated", "dataset", "model", "evaluation", ".frozen.tmp")


@dataclass(slots=True)
class Affected:
    """`objects`: MD5 -> in which stores it is; `files`: snapshot's tag (or commit) -> the paths of these objects in it,
    each with its MD5, by which DVC names what it misses."""

    objects: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, dict[str, str]] = field(default_factory=dict)
    unreachable: dict[str, str] = field(default_factory=dict)


def affected(workspace: Workspace, subject: Subject) -> Affected:
    """Look into every object of the cache and the remotes, and find the rows of theirs: their ids are added to `subject.rows`."""
    found = Affected()
    with kept.opened(workspace) as objects:
        found.unreachable = dict(objects.unreachable)
        where = _everything(objects, found.unreachable)
        subject.rows |= set(_row_ids(objects, where, subject))
        needles = subject.needles
        for md5, stores in where.items():
            if _holds(objects, md5, needles):
                found.objects[md5] = stores
        found.files = _files(workspace, objects, set(found.objects))
    return found


def delete(workspace: Workspace, objects_of: Iterable[str], commits: Iterable[str] = ()) -> tuple[dict[str, int], dict[str, str]]:
    """Delete these objects, and what DVC remembers of runs that made them; and which remotes could not be reached."""
    gone, counts = set(objects_of), {}
    with kept.opened(workspace) as objects:
        unreachable = dict(objects.unreachable)
        for name, odb in objects.stores.items():
            try:
                if not odb.fs.exists(odb.path):
                    raise FileNotFoundError(NOTHING)
                there = [md5 for md5 in sorted(gone) if objects.has(name, md5)]
                for md5 in there:
                    odb.delete(md5)
                runs = _forget_runs(objects, odb, gone)
            except Exception as e:  # whatever a remote's library raises where it can't be reached, or must not be written to
                unreachable[name] = str(e) or type(e).__name__
                continue
            if there or runs:
                counts[name] = len(there) + runs
    return counts, unreachable


def work_tree(workspace: Workspace, subject: Subject) -> int:
    """Their rows in the files that lie in the work tree: the file goes, and the next snapshot makes it anew."""
    needles, done = subject.needles, 0
    for folder in FOLDERS:
        for path in sorted((workspace.data / folder).rglob("*")):
            if path.is_file() and needles.in_file(path):
                path.unlink()
                done += 1
    return done


def _everything(objects: Kept, unreachable: dict[str, str]) -> dict[str, list[str]]:
    """Every object but the lists of folders -> the stores that have it."""
    where: dict[str, list[str]] = {}
    for name, odb in objects.stores.items():
        try:
            for md5 in odb.all():
                if not md5.endswith(DIR):
                    where.setdefault(md5, []).append(name)
        except FileNotFoundError:
            continue  # nothing was ever pushed there
        except Exception as e:
            unreachable[name] = f"{type(e).__name__}: {e}"
    return where


def _row_ids(objects: Kept, where: dict[str, list[str]], subject: Subject) -> Iterator[str]:
    """The ids of the rows that came from their interactions; the lines that trainers read have no other."""
    wanted = pa.array(sorted(subject.interactions), pa.string())
    for md5 in where:
        path = objects.path(md5)
        with contextlib.suppress(pa.ArrowInvalid, kept.Gone), _parquet(objects, md5, path) as file:
            if file is None:
                continue
            names = file.schema_arrow.names
            about = [c for c in ABOUT if c in names]
            if about:
                table = file.read(columns=list(dict.fromkeys([names[0], *about])))
                for column in about:
                    yield from table.column(0).filter(pc.is_in(table[column], wanted)).to_pylist()


@contextlib.contextmanager
def _parquet(objects: Kept, md5: str, path: Path | None) -> Iterator[pq.ParquetFile | None]:
    if path is not None:
        with path.open("rb") as f:
            is_one = f.read(4) == b"PAR1"
        source: Any = path
    else:
        data = objects.read(md5)
        is_one, source = data[:4] == b"PAR1", pa.BufferReader(data)
    if not is_one:
        yield None
        return
    with pq.ParquetFile(source) as file:
        yield file


def _holds(objects: Kept, md5: str, needles: Needles) -> bool:
    path = objects.path(md5)
    if path is not None:
        return needles.in_file(path)
    try:
        return any(needles.any(block) for block in content(objects.read(md5)))
    except (kept.Gone, Unreadable):
        return False


def _files(workspace: Workspace, objects: Kept, gone: set[str]) -> dict[str, dict[str, str]]:
    """Which files of which snapshots these objects are; also of commits that no tag names."""
    tags = {s.commit: s.tag for s in kept.snapshots(workspace)}
    found: dict[str, dict[str, str]] = {}
    for commit in commits(workspace):
        with contextlib.suppress(kept.Gone, Refused):
            paths = {path: md5 for path, md5 in sorted(objects.files(commit).items()) if md5 in gone}
            if paths:
                found[tags.get(commit, commit)] = paths
    return found


def commits(workspace: Workspace) -> list[str]:
    """Every commit of any branch or tag that changed what DVC pins, and every snapshot."""
    changed = git_bytes(workspace.root, "log", "--all", "--format=%H", "--", "dvc.lock", "*.dvc").decode().split()
    return list(dict.fromkeys([*changed, *(s.commit for s in kept.snapshots(workspace))]))


def _forget_runs(objects: Kept, odb: Any, gone: set[str]) -> int:
    """Runs that DVC would restore from objects that are gone: their notes (which hold MD5s and no data)."""
    fs, done = odb.fs, 0
    base = fs.parent(fs.parent(odb.path)) if fs.name(odb.path) == "md5" else odb.path
    runs = fs.join(base, "runs")
    if not fs.exists(runs):
        return 0
    lists = _folders_with(objects, gone)
    for path in list(fs.find(runs)):
        note = fs.cat_file(path).decode("utf-8", "replace")
        if any(md5 in note for md5 in gone | lists):
            fs.remove(path)
            done += 1
    return done


def _folders_with(objects: Kept, gone: set[str]) -> set[str]:
    """The lists of folders that name one of these objects."""
    found = set()
    for md5 in objects.stores[CACHE].all():
        if md5.endswith(DIR):
            with contextlib.suppress(kept.Gone):
                if gone & set(objects.folder(md5).values()):
                    found.add(md5)
    return found
