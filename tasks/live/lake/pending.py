"""Rows on their way into one table: written as they come, seen by nobody until `commit`, then by all at once."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.live.lake.folder import Folder, Made
from tasks.live.lake.tables import CODEC, LEVEL, TABLES, UNLIKE_COLUMNS
from tasks.records import arrow_schema

UNCOMMITTED = ".uncommitted-"


class Pending:
    """What is written and never committed (the process died) is a file that no table names; `sweep` removes it."""

    def __init__(self, lake: Path | str, table: str):
        self.folder = Folder(lake, table)
        self.schema = arrow_schema(TABLES[table])
        self.like = [name for name in self.schema.names if name not in UNLIKE_COLUMNS.get(table, ())]
        self.rows = 0
        self._writer: pq.ParquetWriter | None = None

    def write(self, rows: pa.Table) -> None:
        """One row group: best some thousands of rows."""
        if not rows.num_rows:
            return
        if self._writer is None:
            self.folder.make()
            self._name = f"{uuid.uuid4()}.parquet"
            self._sink = self.folder.files.open_output_stream(UNCOMMITTED + self._name)
            self._writer = pq.ParquetWriter(
                self._sink, self.schema, compression=CODEC, compression_level=LEVEL, use_dictionary=self.like,
                write_statistics=self.like,
            )  # fmt: skip
        self._writer.write_table(rows.cast(self.schema))
        self.rows += rows.num_rows

    def commit(self) -> None:
        """Into the table, all or nothing. Does nothing where nothing was written. Raises OSError where the disk refuses."""
        if self._writer is None:
            return
        self.folder.commit(self.put(), self.schema)
        self._writer, self.rows = None, 0

    def put(self) -> Made:
        """Close the file and give it its name, without a commit that names it: name -> bytes, rows."""
        assert self._writer is not None
        self._writer.close()
        size = self._sink.tell()
        self._sink.close()
        self.folder.files.move(UNCOMMITTED + self._name, self._name)
        return {self._name: (size, self.rows)}


def sweep(lake: Path | str, tables: Iterable[str], older_than_s: float = 0) -> int:
    """Remove what a process that died wrote and did not commit; returns how many files. For who alone writes these tables, or with
    an age at which nobody writes on it any more.
    """
    gone = 0
    for table in tables:
        folder = Folder(lake, table)
        for left in folder.all_files():
            if left.base_name.startswith(UNCOMMITTED) and time.time() - left.mtime_ns / 1e9 >= older_than_s:
                folder.files.delete_file(left.path)
                gone += 1
    return gone
