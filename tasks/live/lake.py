"""The lake: a folder of append-only Delta tables, with DuckDB as the engine over them. The one door to both.

Several processes may read and append at once; rows are upserts by content id, so a repeated append is a no-op.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

import duckdb
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, Schema
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction, create_table_with_add_actions

from tasks.live.workspace import write_durably
from tasks.records import (
    Annotation,
    Asked,
    Candidate,
    Cluster,
    Event,
    Feedback,
    Interaction,
    Member,
    Part,
    Reject,
    Release,
    Signal,
    Waiting,
    arrow_schema,
    canonical,
    to_arrow,
)

T = TypeVar("T")

# table -> the noun in its rows. The first field of a noun is its id.
TABLES: dict[str, type] = {
    "interactions": Interaction,
    "feedback": Feedback,
    "parts": Part,
    "waiting": Waiting,
    "rejects": Reject,
    "releases": Release,
    "members": Member,
    "signals": Signal,
    "candidates": Candidate,
    "clusters": Cluster,
    "asks": Asked,
    "events": Event,
    "annotations": Annotation,
}
# Rejects that nobody has released, and interactions that still wait for a record that completes them.
HELD = "SELECT * FROM rejects WHERE reject_id NOT IN (SELECT reject_id FROM releases)"
OPEN = """
    SELECT * FROM waiting
    WHERE interaction_id NOT IN (SELECT interaction_id FROM interactions SEMI JOIN waiting USING (interaction_id))
      AND replace(waiting_id, 'wt_', 'rj_') NOT IN (SELECT reject_id FROM rejects)
    ORDER BY raw_segment, raw_line, waiting_id"""
# The least effort of zstd: level 3 saves another sixth of the disk for a quarter more of all of capture's time.
CODEC, LEVEL = "zstd", 1
# Dictionaries only for columns in which many rows are alike; of the others they would be built and thrown away.
UNLIKE_COLUMNS = {
    "interactions": {"interaction_id", "native_id", "response_id", "trace_id", "session_id", "user", "messages", "question",
                     "response", "contexts", "outputs", "content_hash", "ts", "raw_line"},
    "feedback": {"feedback_id", "native_id", "target", "comment", "ts", "raw_line"},
}  # fmt: skip
# DuckDB's types of the columns that a noun may have, for tables that nobody wrote yet.
SQL_TYPES = {"string": "VARCHAR", "double": "DOUBLE", "int64": "BIGINT", "bool": "BOOLEAN"}
UNCOMMITTED = ".uncommitted-"
MEMORY_LIMIT = "1GB"  # DuckDB spills beyond it; its default of 80% of the machine would crowd the training out


class Lake:
    """Read with SQL, append by table name. `root` is a folder (created on the first append)."""

    def __init__(self, root: Path):
        self.root = root
        self._pinned: dict[str, list[str]] = {}

    def pin(self, *tables: str) -> Lake:
        """From now on this object reads these tables as they are now, whatever other processes append meanwhile."""
        self._pinned = {table: self._files(table) for table in tables}
        return self

    def files(self, table: str) -> list[str]:
        """The paths of the files in which a table is, as it is pinned or else now: for whoever reads it partition by partition."""
        # Delta gives URIs, in which a space in a folder's name is %20; readers want the path.
        named = self._pinned[table] if table in self._pinned else self._files(table)
        return sorted(unquote(f.removeprefix("file://")) for f in named)

    def append(self, table: str, rows: Iterable[Any]) -> tuple[int, int]:
        """Add the rows whose id is not yet there; returns (stored, duplicate). The first row of an id wins."""
        noun = TABLES[table]
        key = fields(noun)[0].name
        fresh: dict[str, Any] = {}
        total = 0
        for row in rows:
            total += 1
            fresh.setdefault(getattr(row, key), row)
        known = self.known(table, list(fresh))
        new = [row for id, row in fresh.items() if id not in known]
        self.add(table, to_arrow(noun, new))
        return len(new), total - len(new)

    def add(self, table: str, rows: pa.Table) -> None:
        """Add rows that are known to be new (`known`), in one commit."""
        pending = Pending(self.root, table)
        pending.write(rows)
        pending.commit()

    def known(self, table: str, ids: list[str], beside: str = "") -> dict[str, Any]:
        """Those of the ids that the table has, each with its value of the column `beside` (None without one)."""
        key = fields(TABLES[table])[0].name
        if not ids or not self._exists(table):
            return {}
        wanted = pa.table({key: pa.array(ids, pa.string())})
        sql = f"SELECT {key} AS id, {beside or 'NULL'} AS beside FROM {table} SEMI JOIN wanted USING ({key})"
        found = self.query(sql, wanted=wanted)
        return dict(zip(found["id"].to_pylist(), found["beside"].to_pylist(), strict=True))

    def query(self, sql: str, parameters: dict[str, Any] | None = None, **tables: pa.Table) -> pa.Table:
        """Run SQL over the tables of the lake (all exist, empty if need be) and the Arrow tables given by name."""
        with self._engine(sql) as engine:
            for name, table in tables.items():
                engine.register(name, table)
            return engine.execute(sql, parameters or {}).to_arrow_table()

    def stream(self, sql: str, rows: int, **tables: pa.Table) -> Iterator[pa.Table]:
        """The same, with the answer handed over in tables of up to about `rows` rows, so that it is never held whole."""
        with self._engine(sql) as engine:
            for name, table in tables.items():
                engine.register(name, table)
            for batch in engine.execute(sql).to_arrow_reader(rows):
                yield pa.Table.from_batches([batch])

    def rows(self, noun: type[T], sql: str, parameters: dict[str, Any] | None = None) -> list[T]:
        """Run SQL whose columns are the fields of a noun."""
        return [noun(**row) for row in self.query(sql, parameters).to_pylist()]

    def count(self, table: str) -> int:
        return self.query(f"SELECT count(*) AS n FROM {table}")["n"][0].as_py()

    def rewrite(self, table: str, change: Callable[[pa.Table], pa.Table]) -> int:
        """Write anew each file of a table that `change` changes, in one commit; returns how many rows it changed or left out.

        The files that were are still on the disk until `vacuum`. Only for who holds every lock under which the table is written.
        """
        if not self._exists(table):
            return 0
        current = DeltaTable(str(self.root / table))
        actions, changed = [], 0
        for uri in sorted(current.file_uris()):
            path = Path(unquote(uri.removeprefix("file://")))
            rows = pq.read_table(path, partitioning=None)
            left = change(rows)
            if left.equals(rows):
                continue
            kept = set(map(canonical, left.to_pylist())) if left.num_rows == rows.num_rows else set()
            changed += rows.num_rows - left.num_rows or sum(canonical(r) not in kept for r in rows.to_pylist())
            now = time.time_ns() // 1_000_000
            actions.append({"remove": {"path": path.name, "deletionTimestamp": now, "dataChange": True}})
            if left.num_rows:
                pending = Pending(self.root, table)
                pending.write(left)
                made = pending.put()
                actions.append({"add": {
                    "path": made.name, "partitionValues": {}, "size": made.stat().st_size, "modificationTime": now,
                    "dataChange": True, "stats": orjson.dumps({"numRecords": left.num_rows}).decode(),
                }})  # fmt: skip
        if actions:
            # The library has no commit that replaces single files; the protocol is this file. (A delete by predicate would write
            # the predicate, and with it whom it was about, into the log.)
            info = {"commitInfo": {"timestamp": time.time_ns() // 1_000_000, "operation": "DELETE", "operationParameters": {}}}
            log = self.root / table / "_delta_log" / f"{current.version() + 1:020d}.json"
            write_durably(log, b"".join(orjson.dumps(a) + b"\n" for a in (info, *actions)))
        return changed

    def vacuum(self, table: str) -> None:
        """Delete every file that the table does not name any more. Earlier versions of it can't be read after that."""
        if self._exists(table):
            named = {Path(unquote(uri)).name for uri in self._files(table)}
            for path in (self.root / table).glob("*.parquet"):
                if path.name not in named:
                    path.unlink()

    def _files(self, table: str) -> list[str]:
        return DeltaTable(str(self.root / table)).file_uris() if self._exists(table) else []

    def _exists(self, table: str) -> bool:
        return DeltaTable.is_deltatable(str(self.root / table))

    def _engine(self, sql: str) -> duckdb.DuckDBPyConnection:
        """An in-memory DuckDB in which the tables that `sql` names are views over their current files."""
        engine = duckdb.connect(":memory:", config={"memory_limit": MEMORY_LIMIT})
        engine.execute("SET enable_progress_bar = false")  # it would go to stdout, which belongs to --json
        for table, noun in TABLES.items():
            if table not in sql:
                continue
            if files := self.files(table):
                listed = ", ".join("'" + f.replace("'", "''") + "'" for f in files)
                engine.execute(f"CREATE VIEW {table} AS SELECT * FROM read_parquet([{listed}])")
            else:
                # Not an empty Arrow table: to register one, DuckDB imports pandas, and `status` would take a second.
                columns = ", ".join(f'"{f.name}" {SQL_TYPES[str(f.type)]}' for f in arrow_schema(noun))
                engine.execute(f"CREATE TABLE {table} ({columns})")
        return engine


class Pending:
    """Rows on their way into one table: on the disk as they come, seen by nobody until `commit`, then by all at once.

    What is written and never committed (the process died) is a file that no table names; `sweep` removes it.
    """

    def __init__(self, lake: Path, table: str):
        self.folder = lake / table
        self.schema = arrow_schema(TABLES[table])
        self.like = [name for name in self.schema.names if name not in UNLIKE_COLUMNS.get(table, ())]
        self.rows = 0
        self._writer: pq.ParquetWriter | None = None

    def write(self, rows: pa.Table) -> None:
        """One row group: best some thousands of rows."""
        if not rows.num_rows:
            return
        if self._writer is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._path = self.folder / f"{UNCOMMITTED}{uuid.uuid4()}.parquet"
            self._writer = pq.ParquetWriter(
                self._path, self.schema, compression=CODEC, compression_level=LEVEL, use_dictionary=self.like,
                write_statistics=self.like,
            )  # fmt: skip
        self._writer.write_table(rows.cast(self.schema))
        self.rows += rows.num_rows

    def commit(self) -> None:
        """Into the table, all or nothing. Does nothing where nothing was written. Raises OSError where the disk refuses."""
        if self._writer is None:
            return
        path = self.put()
        action = AddAction(
            path.name, path.stat().st_size, {}, time.time_ns() // 1_000_000, data_change=True,
            stats=orjson.dumps({"numRecords": self.rows}).decode(),
        )  # fmt: skip
        folder = str(self.folder)
        schema = Schema.from_arrow(self.schema)
        try:
            if DeltaTable.is_deltatable(folder):
                DeltaTable(folder).create_write_transaction([action], mode="append", schema=schema)
            else:
                create_table_with_add_actions(folder, schema, [action], mode="append")
        except DeltaError as e:
            raise OSError(f"{folder}: {e}") from e
        self._writer, self.rows = None, 0

    def put(self) -> Path:
        """Close the file and give it its name, without a commit that names it."""
        assert self._writer is not None
        self._writer.close()
        return self._path.rename(self.folder / self._path.name.removeprefix(UNCOMMITTED))


def sweep(lake: Path, tables: Iterable[str], older_than_s: float = 0) -> None:
    """Remove what a process that died wrote and did not commit. For who alone writes these tables, or with an age at which
    nobody writes on it any more.
    """
    for table in tables:
        for left in (lake / table).glob(f"{UNCOMMITTED}*"):
            if time.time() - left.stat().st_mtime >= older_than_s:
                left.unlink()
