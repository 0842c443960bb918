"""Rows on their way into one table: written as they come, seen by nobody until `commit`, then by all at once."""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import FileInfo

from tasks.live.lake.folder import Folder, Made
from tasks.live.lake.tables import CODEC, LEVEL, TABLES, UNDER_LAKE, UNLIKE_COLUMNS
from tasks.live.workspace import DAY_S, HERE, Workspace, runs
from tasks.records import arrow_schema

UNCOMMITTED = ".uncommitted-"
# How `Pending` names its files: by host and process. Those that Delta joined are swept where files are joined (folder.py).
OURS = re.compile(rf"(?:{re.escape(UNCOMMITTED)})?(\w*)\.(\d+)-[0-9a-f-]{{36}}\.parquet")


class Pending:
    """What is written and never committed (the process died) is a file that no table names; `sweep` removes it.

    A file's name tells whose it is, before and after it is whole: whoever died between giving it its name and the commit that
    names it left a file that looks like any other.
    """

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
            self._name = f"{HERE}.{os.getpid()}-{uuid.uuid4()}.parquet"
            self._half = UNCOMMITTED + self._name
            self._sink = self.folder.files.open_output_stream(self._half)
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
        self.folder.files.move(self._half, self._name)
        return {self._name: (size, self.rows)}


@contextmanager
def writing(workspace: Workspace) -> Iterator[None]:
    """Hold the lock under which what people and detectors say is written, after whoever died in it."""
    with workspace.lock("lake"):
        sweep(workspace.lake, UNDER_LAKE)
        yield


def sweep(lake: Path | str, tables: Iterable[str], dead_only: bool = False, older_than_s: float = 0) -> int:
    """Remove what a process that died wrote and did not commit; returns how many files. For who alone writes these tables; with
    `dead_only` for others too: what processes that run have begun stays (of another machine's, what is younger than a day)."""
    gone, now = 0, time.time()
    for table in tables:
        folder = Folder(lake, table)
        left = [
            file for file in folder.all_files()
            if (file.base_name.startswith(UNCOMMITTED) or OURS.match(file.base_name))
            and (age := now - file.mtime_ns / 1e9) >= older_than_s and not (dead_only and _alive(file.base_name, age))
        ]  # fmt: skip
        left = _unnamed(_unnamed(left, folder.names), folder.ever_named)
        for file in left:
            folder.files.delete_file(file.path)
        gone += len(left)
    return gone


def _unnamed(files: list[FileInfo], named: Callable[[], Iterable[str]]) -> list[FileInfo]:
    """Without those that are named; nothing is read where none can be."""
    if all(f.base_name.startswith(UNCOMMITTED) for f in files):
        return files
    found = set(named())
    return [f for f in files if f.base_name not in found]


def _alive(name: str, age: float) -> bool:
    named = OURS.match(name)
    return runs(named[2]) if named and named[1] == HERE else age < DAY_S
