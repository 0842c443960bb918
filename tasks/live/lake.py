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
from deltalake import DeltaTable, write_deltalake

from tasks.records import (
    Annotation,
    Candidate,
    Feedback,
    Interaction,
    Member,
    Reject,
    Signal,
    arrow_schema,
    to_arrow,
)

T = TypeVar("T")

# table -> the noun in its rows. The first field of a noun is its id.
TABLES: dict[str, type] = {
    "interactions": Interaction,
    "feedback": Feedback,
    "rejects": Reject,
    "members": Member,
    "signals": Signal,
    "candidates": Candidate,
    "annotations": Annotation,
}
MEMORY_LIMIT = "1GB"  # DuckDB spills beyond it; its default of 80% of the machine would crowd the training out


class Lake:
    """Read with SQL, append by table name. `root` is a folder (created on the first append)."""

    def __init__(self, root: Path):
        self.root = root

    def append(self, table: str, rows: Iterable[Any]) -> tuple[int, int]:
        """Add the rows whose id is not yet there; returns (stored, duplicate). The first row of an id wins."""
        noun = TABLES[table]
        key = fields(noun)[0].name
        fresh: dict[str, Any] = {}
        total = 0
        for row in rows:
            total += 1
            fresh.setdefault(getattr(row, key), row)
        incoming = to_arrow(noun, fresh.values())
        if incoming.num_rows and self._exists(table):
            sql = f"SELECT * FROM incoming ANTI JOIN {table} USING ({key})"
            incoming = self.query(sql, incoming=incoming)
        if incoming.num_rows:
            write_deltalake(str(self.root / table), incoming.cast(arrow_schema(noun)), mode="append")
        return incoming.num_rows, total - incoming.num_rows

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

    def _exists(self, table: str) -> bool:
        return DeltaTable.is_deltatable(str(self.root / table))

    def _engine(self, sql: str) -> duckdb.DuckDBPyConnection:
        """An in-memory DuckDB in which the tables that `sql` names are views over their current files."""
        engine = duckdb.connect(":memory:", config={"memory_limit": MEMORY_LIMIT})
        for table, noun in TABLES.items():
            if table not in sql:
                continue
            files = DeltaTable(str(self.root / table)).file_uris() if self._exists(table) else []
            if files:
                # Delta gives URIs, in which a space in a folder's name is %20; DuckDB wants the path.
                listed = ", ".join("'" + unquote(f.removeprefix("file://")).replace("'", "''") + "'" for f in files)
                engine.execute(f"CREATE VIEW {table} AS SELECT * FROM read_parquet([{listed}])")
            else:
                engine.register(f"empty_{table}", arrow_schema(noun).empty_table())
                engine.execute(f"CREATE VIEW {table} AS SELECT * FROM empty_{table}")
        return engine
