"""The lake: a folder of append-only Delta tables, with DuckDB as the engine over them. The one door to both.

Several processes may read and append at once; rows are upserts by content id, so a repeated append is a no-op.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

import duckdb
import pyarrow as pa
from deltalake import ColumnProperties, DeltaTable, WriterProperties, write_deltalake

from tasks.records import (
    Annotation,
    Candidate,
    Feedback,
    Interaction,
    Member,
    Part,
    Reject,
    Release,
    Signal,
    Waiting,
    arrow_schema,
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
    "annotations": Annotation,
}
# The least effort of zstd: level 3 saves another sixth of the disk for a quarter more of all of capture's time.
# And no dictionaries, nor lowest and highest values, of columns in which no two rows are alike.
UNLIKE = ColumnProperties(dictionary_enabled=False, statistics_enabled="NONE")
UNLIKE_COLUMNS = {
    "interactions": ("interaction_id", "native_id", "response_id", "trace_id", "messages", "question", "response", "contexts",
                     "outputs", "content_hash"),
    "feedback": ("feedback_id", "native_id", "target", "comment"),
}  # fmt: skip
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
        if rows.num_rows:
            schema = arrow_schema(TABLES[table])
            folder = str(self.root / table)
            write_deltalake(folder, rows.cast(schema), mode="append", writer_properties=_compressed(table))

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

    def rows(self, noun: type[T], sql: str, parameters: dict[str, Any] | None = None) -> list[T]:
        """Run SQL whose columns are the fields of a noun."""
        return [noun(**row) for row in self.query(sql, parameters).to_pylist()]

    def count(self, table: str) -> int:
        return self.query(f"SELECT count(*) AS n FROM {table}")["n"][0].as_py()

    def _files(self, table: str) -> list[str]:
        return DeltaTable(str(self.root / table)).file_uris() if self._exists(table) else []

    def _exists(self, table: str) -> bool:
        return DeltaTable.is_deltatable(str(self.root / table))

    def _engine(self, sql: str) -> duckdb.DuckDBPyConnection:
        """An in-memory DuckDB in which the tables that `sql` names are views over their current files."""
        engine = duckdb.connect(":memory:", config={"memory_limit": MEMORY_LIMIT})
        for table, noun in TABLES.items():
            if table not in sql:
                continue
            files = self._pinned[table] if table in self._pinned else self._files(table)
            if files:
                # Delta gives URIs, in which a space in a folder's name is %20; DuckDB wants the path.
                listed = ", ".join("'" + unquote(f.removeprefix("file://")).replace("'", "''") + "'" for f in files)
                engine.execute(f"CREATE VIEW {table} AS SELECT * FROM read_parquet([{listed}])")
            else:
                engine.register(f"empty_{table}", arrow_schema(noun).empty_table())
                engine.execute(f"CREATE VIEW {table} AS SELECT * FROM empty_{table}")
        return engine


def _compressed(table: str) -> WriterProperties:
    unlike = dict.fromkeys(UNLIKE_COLUMNS.get(table, ()), UNLIKE)
    return WriterProperties(compression="ZSTD", compression_level=1, column_properties=unlike or None)
