"""A snapshot's rows in another tool's files: whole or not at all, and noted so that an erasure can find them.

    export(workspace, "openai-sft")  ->  .flywheel/exports/openai-sft-1a2b3c4d/{openai_sft.jsonl, export-manifest.json}

.flywheel/exports.jsonl has one line an export, written before its first byte is: where, when, of which snapshot.
Rows are read shard by shard, so a million need no more memory than one shard does.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import orjson

from tasks import shards
from tasks.errors import Refused
from tasks.examples import TABLES, Example
from tasks.exports import dialects as exports
from tasks.live import snapshot, store
from tasks.live.workspace import Workspace, write_durably

FORMAT = "flywheel-export/1"
MANIFEST = "export-manifest.json"
DATASET = "data/dataset"


@dataclass(frozen=True, slots=True)
class Exported:
    """What the manifest says. `files`: {name: {"rows", "bytes", "sha256"}}; `read` rows are those in files and those left out."""

    format: str
    out: str
    snapshot: str
    digest: str
    read: int
    written: int
    files: dict[str, dict[str, Any]]
    left_out: dict[str, dict[str, int]]
    without: dict[str, dict[str, int]]
    examples: dict[str, str]
    sources: dict[str, int]
    flywheel: str = FORMAT


def export(workspace: Workspace, name: str, tag: str = "", out: Path | None = None) -> Exported:
    """Export the newest snapshot, or the one named by `tag`, into the folder `out`. Raises Refused where there is no such snapshot,
    its data can't be had, or `out` holds something else than an earlier export."""
    to = exports.dialect(name)
    with workspace.lock("snapshot"):
        of = _snapshot(workspace, tag)
        target = (out or workspace.state / "exports" / f"{name}-{of.digest[:8]}").absolute()
        _refuse_other_things(target)
        with _source(workspace, of, to) as source:
            return _write(workspace, to, source, of, target)


def noted(workspace: Workspace) -> list[dict[str, Any]]:
    """Every export of this workspace, in the order in which they began: {"at" (µs), "format", "out", "snapshot", "digest"}. A
    folder may never have come, be gone since, or hold a later export."""
    path = _notes(workspace)
    return [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.is_file() else []


def _snapshot(workspace: Workspace, tag: str) -> snapshot.Snapshot:
    for one in snapshot.history(workspace):
        if not tag or tag in (one.tag, one.digest[:8]):
            return one
    if tag:
        raise Refused(f"{tag} is no snapshot of this workspace", f"git -C {workspace.root} tag lists them")
    raise Refused("there is no snapshot yet", "flywheel retrain makes one: what is exported was validated")


@contextlib.contextmanager
def _source(workspace: Workspace, of: snapshot.Snapshot, to: ModuleType) -> Iterator[Path]:
    """A folder laid out like data/dataset/parquet with the shards that the snapshot pins: links to DVC's cache, since the work
    tree may have gone on."""
    pinned = store.files(workspace, of.commit, DATASET)
    wanted = {
        path: md5
        for path, md5 in pinned.items()
        for side, tables in to.READS.items()
        if path.startswith(tuple(f"parquet/{side}/{table}/" for table in tables))
    }
    if not wanted:
        raise Refused(f"{of.tag} holds no table that {to.NAME} reads", "export a newer snapshot")
    store.fetch(workspace, list(wanted.values()))
    folder = workspace.state / f"export-{os.getpid()}"
    try:
        for path, md5 in wanted.items():
            link = folder / path
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(store.cached(workspace, md5))
        yield folder / "parquet"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def rows(dataset: Path, to: ModuleType) -> Iterator[tuple[str, Example]]:
    """The rows that a dialect reads from a folder of tables, one shard in memory at a time."""
    for side, tables in to.READS.items():
        for name in tables:
            row = TABLES[name].row
            folder = dataset / side / name
            for shard in shards.files(folder) if folder.is_dir() else ():
                for batch in shards.one(shard, row).to_batches(max_chunksize=1024):
                    yield from ((name, row(**values)) for values in batch.to_pylist())


def _write(workspace: Workspace, to: ModuleType, source: Path, of: snapshot.Snapshot, target: Path) -> Exported:
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target)
    building = target.with_name(f".{target.name}.{os.getpid()}.exporting")
    note(workspace, to.NAME, of.tag, of.digest, target)
    building.mkdir()
    try:
        account = exports.Account()
        files = _lines(to, source, building, account)
        if not files:
            raise Refused(_nothing(of, account), "flywheel export with another format, or of another snapshot")
        for name, data in exports.beside(to, account.files).items():
            (building / name).write_bytes(data)
            files[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        done = Exported(
            format=to.NAME, out=str(target), snapshot=of.tag, digest=of.digest, read=account.rows,
            written=account.files.total(), files=dict(sorted(files.items())), left_out=_plain(account.left_out),
            without=_plain(account.without), examples=dict(sorted(account.examples.items())), sources=dict(account.tables),
        )  # fmt: skip
        # Where it lies is not part of what it is: the same snapshot gives the same bytes in any folder.
        said = {k: v for k, v in asdict(done).items() if k != "out"}
        (building / MANIFEST).write_bytes(orjson.dumps(said, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n")
        _settle(building)
        _put(building, target)
        return done
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _lines(to: ModuleType, source: Path, building: Path, account: exports.Account) -> dict[str, dict[str, Any]]:
    """Write the lines to their files; their sizes and digests by name."""
    with contextlib.ExitStack() as stack:
        open_files: dict[str, tuple[IO[bytes], Any]] = {}
        for name, line in exports.lines(to, rows(source, to), account):
            if name not in open_files:
                open_files[name] = (stack.enter_context((building / name).open("wb")), hashlib.sha256())
            file, digest = open_files[name]
            file.write(line)
            digest.update(line)
    return {
        name: {"rows": account.files[name], "bytes": (building / name).stat().st_size, "sha256": digest.hexdigest()}
        for name, (_, digest) in open_files.items()
    }


def _settle(folder: Path) -> None:
    for path in (*folder.iterdir(), folder):
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


def note(workspace: Workspace, name: str, tag: str, digest: str, target: Path) -> None:
    """Say where the files will be before they are there: what was noted and never came harms nobody, and what a killed export
    left is found."""
    entry = {"at": time.time_ns() // 1000, "format": name, "out": str(target), "snapshot": tag, "digest": digest}
    path = _notes(workspace)
    before = path.read_bytes() if path.is_file() else b""
    write_durably(path, before + orjson.dumps(entry) + b"\n")


def _put(building: Path, target: Path) -> None:
    if target.exists():
        old = target.with_name(f".{target.name}.{os.getpid()}.replaced")
        target.rename(old)
        building.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    else:
        building.rename(target)


def _refuse_other_things(target: Path) -> None:
    if target.exists() and not target.is_dir():
        raise Refused(f"{target} is a file", "name a folder")
    if target.is_dir() and any(target.iterdir()) and not (target / MANIFEST).is_file():
        raise Refused(f"{target} holds other things than an export", "name a new folder, or one of an earlier export")


def _sweep(target: Path) -> None:
    """Remove what an export left that was killed."""
    for left in target.parent.glob(f".{target.name}.*"):
        if left.suffix in (".exporting", ".replaced") and not _runs(left.suffixes[-2].lstrip(".")):
            shutil.rmtree(left, ignore_errors=True)


def _runs(pid: str) -> bool:
    return pid.isdigit() and Path(f"/proc/{pid}").is_dir() and int(pid) != os.getpid()


def _nothing(of: snapshot.Snapshot, account: exports.Account) -> str:
    reasons = ", ".join(f"{n} {reason}" for found in account.left_out.values() for reason, n in sorted(found.items()))
    return f"{of.tag} gives no line: {account.rows} rows read{f', left out: {reasons}' if reasons else ''}"


def _plain(counted: dict[str, Any]) -> dict[str, dict[str, int]]:
    return {table: dict(sorted(counts.items())) for table, counts in sorted(counted.items())}


def _notes(workspace: Workspace) -> Path:
    return workspace.state / "exports.jsonl"
