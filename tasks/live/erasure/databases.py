"""Their texts in what lies in .flywheel: MLflow's and Prefect's databases, artifacts, model caches, logs.

In a database a text becomes [erased] wherever it stands, and the file is written anew (VACUUM), so that no free page keeps it; in a
text file likewise; any other file that holds one goes.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from tasks.live.erasure.blank import ERASED, blanked
from tasks.live.erasure.needles import SQLITE, Needles
from tasks.live.workspace import Workspace, write_durably

BUSY_S = 5.0
# Kept out of this: what the erasure itself writes, keys, locks, and the remote, whose objects are whole or gone.
KEPT = ("erasures", "locks", "remote")
TEXTS = (".json", ".jsonl", ".txt", ".md", ".html", ".yaml", ".yml", ".log", ".csv", "")


def erase(workspace: Workspace, needles: Needles) -> tuple[dict[str, int], list[str]]:
    """Files changed or deleted, by folder of .flywheel; and what is left to people. Repeating it changes nothing."""
    counts: dict[str, int] = {}
    by_hand: list[str] = []
    for path in files(workspace):
        if not needles.in_file(path):
            continue
        where = path.relative_to(workspace.state).parts[0]
        try:
            erase_file(path, needles)
        except sqlite3.OperationalError as e:
            by_hand.append(f"{path}: {e}; stop the server that uses it (prefect server, mlflow ui), then erase again")
            continue
        counts[where] = counts.get(where, 0) + 1
    return counts, by_hand


def files(workspace: Workspace) -> Iterator[Path]:
    for path in sorted(workspace.state.rglob("*")):
        first = path.relative_to(workspace.state).parts[0]
        if path.is_file() and not path.is_symlink() and first not in KEPT and not path.name.endswith(("-wal", "-shm", "-journal")):
            yield path


def erase_file(path: Path, needles: Needles) -> None:
    """Raises sqlite3.OperationalError for a database that is in use."""
    with path.open("rb") as f:
        is_database = f.read(16) == SQLITE
    if is_database:
        _database(path, needles)
        return
    try:
        left = blanked(path.read_bytes().decode(), needles).encode() if path.suffix in TEXTS else None
    except UnicodeDecodeError:
        left = None
    if left is None or needles.any(left):
        path.unlink()
    else:
        write_durably(path, left)


def _database(path: Path, needles: Needles) -> None:
    with contextlib.closing(sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)) as db:
        db.text_factory = _text
        db.execute("PRAGMA secure_delete = ON")
        db.execute("PRAGMA foreign_keys = OFF")
        db.execute("BEGIN IMMEDIATE")
        for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'").fetchall():
            _table(db, table, needles)
        db.execute("COMMIT")
        db.execute("VACUUM")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _table(db: sqlite3.Connection, table: str, needles: Needles) -> None:
    described = db.execute(f'PRAGMA table_info("{table}")').fetchall()
    names = [row[1] for row in described]
    keys = [row[1] for row in described if row[5]] or ["rowid"]
    where = " AND ".join(f'"{k}" IS ?' for k in keys)
    columns = ", ".join(f'"{k}"' for k in (*keys, *names))
    changed = []
    for row in db.execute(f'SELECT {columns} FROM "{table}"'):
        key, values = row[: len(keys)], row[len(keys) :]
        left = {n: _without(v, needles) for n, v in zip(names, values, strict=True)}
        new = {n: v for (n, v), before in zip(left.items(), values, strict=True) if v != before}
        if new:
            changed.append((key, new))
    for key, new in changed:
        sets = ", ".join(f'"{n}" = ?' for n in new)
        db.execute(f'UPDATE "{table}" SET {sets} WHERE {where}', [*map(_written, new.values()), *map(_written, key)])


def _without(value: object, needles: Needles) -> object:
    if isinstance(value, str):
        return blanked(value, needles)
    return ERASED.encode() if isinstance(value, bytes) and needles.any(value) else value


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _written(value: object) -> object:
    """SQLite takes no halves of characters; a text that holds one goes in as the bytes that it was."""
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return value.encode("utf-8", "surrogateescape")
    return value
