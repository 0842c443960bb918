"""The lake: append-only Delta tables in a folder or a bucket, with DuckDB as the engine over them. The one door to both.

Several processes may read and append at once; rows are upserts by content id, so a repeated append is a no-op.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.live.lake.folder import ROWS_IN_A_GROUP, Folder, Made, is_bucket, names_of, schema_of
from tasks.live.lake.pending import UNCOMMITTED, Pending, sweep, writing
from tasks.live.lake.tables import HELD, OPEN, TABLES, UNLIKE_COLUMNS, key_of
from tasks.live.lake.versions import completed, lacking
from tasks.records import arrow_schema, canonical, to_arrow

__all__ = ["HELD", "OPEN", "TABLES", "UNCOMMITTED", "Lake", "Pending", "key_of", "sweep", "writing"]

T = TypeVar("T")

# DuckDB's types of the columns that a noun may have, for tables that nobody wrote yet.
SQL_TYPES = {"string": "VARCHAR", "double": "DOUBLE", "int64": "BIGINT", "bool": "BOOLEAN"}
MEMORY_LIMIT = "1GB"  # DuckDB spills beyond it; its default of 80% of the machine would crowd the training out


class Lake:
    """Read with SQL, append by table name. `root` is a folder (created on the first append) or s3://BUCKET/PATH."""

    def __init__(self, root: Path | str):
        self.root = root
        self._pinned: dict[str, list[str]] = {}

    def pin(self, *tables: str) -> Lake:
        """From now on this object reads these tables as they are now, whatever other processes append meanwhile."""
        self._pinned = {table: self._names(table) for table in tables}
        return self

    def files(self, table: str) -> list[str]:
        """The files in which a table is, as it is pinned or else now, as Arrow opens them: for whoever reads it partition by
        partition, on another machine perhaps."""
        folder = Folder(self.root, table)
        return sorted(map(folder.uri, self._pinned[table] if table in self._pinned else folder.names()))

    def append(self, table: str, rows: Iterable[Any]) -> tuple[int, int]:
        """Add the rows whose id is not yet there; returns (stored, duplicate). The first row of an id wins."""
        noun = TABLES[table]
        key = key_of(table)
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
        key = key_of(table)
        if not ids or not Folder(self.root, table).exists():
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

        The files that were are still there until `vacuum`. Only for who holds every lock under which the table is written.
        """
        folder = Folder(self.root, table)
        table_now = folder.delta()
        made: Made = {}
        gone, changed = set(), 0
        for name in sorted(names_of(table_now)):
            rows = pq.read_table(name, filesystem=folder.files, partitioning=None)
            left = change(rows)
            if left.equals(rows):
                continue
            kept = set(map(canonical, left.to_pylist())) if left.num_rows == rows.num_rows else set()
            changed += rows.num_rows - left.num_rows or sum(canonical(r) not in kept for r in rows.to_pylist())
            gone.add(name)
            if left.num_rows:
                pending = Pending(self.root, table)
                pending.write(left)
                made |= pending.put()
        if gone:
            # Not Delta's own delete: it would write the predicate, and with it whom it was about, into the log.
            folder.exchange(table_now, gone, made, arrow_schema(TABLES[table]))
        return changed

    def replace(self, table: str, made: Lake) -> None:
        """The rows of another lake's table in the place of this one's, in one commit. That lake is used up. For who holds every
        lock under which the table is written."""
        folder = Folder(self.root, table)
        folder.replace(Folder(made.root, table), arrow_schema(TABLES[table]))
        folder.vacuum()

    def migrate(self, table: str) -> list[str]:
        """Write an older version's table as this one does, in one commit; returns the columns that its rows got.

        The files that were are still there until `vacuum`. Only for who holds every lock under which the table is written. Raises
        Refused where it can't be done.
        """
        folder = Folder(self.root, table)
        table_now = folder.delta(of_any_version=True)
        missing = lacking(table, schema_of(table_now)) if table_now else {}
        if not missing:
            return []
        made: Made = {}
        for name in sorted(names_of(table_now)):
            pending = Pending(self.root, table)
            with pq.ParquetFile(folder.files.open_input_file(name)) as file:
                for rows in file.iter_batches(ROWS_IN_A_GROUP):
                    pending.write(completed(pa.Table.from_batches([rows]), table, missing))
            if pending.rows:
                made |= pending.put()
        folder.renew(table_now, made, arrow_schema(TABLES[table]))
        return sorted(missing)

    def compact(self, table: str) -> int:
        """Join a table's small files, in one commit; returns how many fewer there are. The rows are the same, and who reads or
        appends meanwhile is not disturbed: the files that were are still there until `vacuum`. For who alone joins files of it."""
        return Folder(self.root, table).compact(UNLIKE_COLUMNS.get(table, set()))

    def vacuum(self, table: str, older_than_s: float = 0) -> int:
        """Delete the files that the table has not named for so long; returns how many. With 0, every file that it does not name
        now: for who holds every lock under which the table is written. Earlier versions of it can't be read after that."""
        return Folder(self.root, table).vacuum(older_than_s)

    def litter(self, table: str) -> tuple[list[str], list[str]]:
        """What processes that died left in a table's folder: files that were never finished, and files that no version names."""
        folder = Folder(self.root, table)
        names = [f.base_name for f in folder.all_files()]
        known = folder.ever_named() if names else set()
        half = [n for n in names if n.startswith(UNCOMMITTED)]
        return half, [n for n in names if n not in known and n not in half]

    def size(self, table: str) -> int:
        """Bytes of the files that lie in a table's folder."""
        return sum(f.size for f in Folder(self.root, table).all_files())

    def number_of_files(self, table: str) -> int:
        """Files that a reader of the table opens."""
        return len(self._names(table))

    def contents(self) -> Iterator[tuple[str, bytes]]:
        """Every file of rows, whether its table names it or not, for who must look into all."""
        for table in TABLES:
            folder = Folder(self.root, table)
            for file in folder.all_files():
                yield f"{table}/{file.base_name}", folder.files.open_input_file(file.path).readall()

    def _names(self, table: str) -> list[str]:
        return Folder(self.root, table).names()

    def _engine(self, sql: str) -> duckdb.DuckDBPyConnection:
        """An in-memory DuckDB in which the tables that `sql` names are views over their current files."""
        engine = duckdb.connect(":memory:", config={"memory_limit": MEMORY_LIMIT})
        engine.execute("SET enable_progress_bar = false")  # it would go to stdout, which belongs to --json
        for table, noun in TABLES.items():
            if table not in sql:
                continue
            names = self._pinned[table] if table in self._pinned else self._names(table)
            if names and is_bucket(self.root):
                # Arrow's readers and its client. DuckDB's own need an extension, which it would fetch, or
                # s3fs, with which the same queries took up to six times as long (docs/measurements.md).
                import pyarrow.dataset as ds

                files = Folder(self.root, table).files
                engine.register(table, ds.dataset(names, arrow_schema(noun), format="parquet", filesystem=files))
            elif names:
                listed = ", ".join("'" + f"{self.root}/{table}/{name}".replace("'", "''") + "'" for name in names)
                engine.execute(f"CREATE VIEW {table} AS SELECT * FROM read_parquet([{listed}])")
            else:
                # Not an empty Arrow table: to register one, DuckDB imports pandas, and `status` would take a second.
                columns = ", ".join(f'"{f.name}" {SQL_TYPES[str(f.type)]}' for f in arrow_schema(noun))
                engine.execute(f"CREATE TABLE {table} ({columns})")
        return engine
