"""Tables on disk in shards: many files of which a change touches few, so that a new version uploads little more than what is new.

    write(folder, Supervised, rows)   ->  1767600000000000-5c0e7c5d1f2a.parquet, 1767603600000000-91af02d47b3c.parquet, …

Rows come in the order (`arrived`, id). A shard ends after a row whose id says so (content-defined, about one in ROWS), and is named
after its first row; so rows that arrive later go into later shards, and a row that changes or goes touches its own shard only.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.errors import Refused
from tasks.records import arrow_schema

T = TypeVar("T")
ROWS = 4096  # of a shard, on average: a million rows are 250 files
EMPTY = f"{0:016d}-{0:08x}"
CODEC, LEVEL = "zstd", 3
PARTS = {"prompt": slice(None, -1), "completion": slice(-1, None)}  # of `messages`


class Writer:
    """One table on its way to the disk: `add` tables that come in the order (`arrived`, first column), then `close`.

    `folder` is emptied first. With `lines`, each shard is written there as JSON lines as well: the first column and those of
    `trains`, Json columns nested (see _as_lines).
    """

    def __init__(self, folder: Path, row: type, lines: Path | None = None, trains: Sequence[str] = ()):
        for place in filter(None, (folder, lines)):
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
        self.schema = arrow_schema(row)
        self.rows = 0
        self._folder, self._lines = folder, lines
        self._key = self.schema.names[0]
        self._trains = [self._key, *trains]
        self._nested = {f.name for f in fields(row) if f.type == "Json"}
        self._held = self.schema.empty_table()

    def add(self, rows: pa.Table) -> None:
        held = pa.concat_tables([self._held, rows.select(self.schema.names).cast(self.schema)])
        *whole, self._held = _cut(held, self._key)
        for shard in whole:
            self._write(shard)

    def close(self) -> int:
        """Write what is left; returns the rows of all. A table without rows is a file without rows: git and DVC keep no folders."""
        self._write(self._held)
        self._held = self.schema.empty_table()
        if not self.rows:
            pq.write_table(self._held, self._folder / f"{EMPTY}.parquet")
        return self.rows

    def _write(self, shard: pa.Table) -> None:
        if not shard.num_rows:
            return
        first = shard.slice(0, 1).to_pylist()[0]
        name = f"{first['arrived']:016d}-{zlib.crc32(first[self._key].encode()):08x}"
        path = self._folder / f"{name}.parquet"
        pq.write_table(shard.combine_chunks(), path, compression=CODEC, compression_level=LEVEL)
        if self._lines is not None:
            (self._lines / f"{name}.jsonl").write_bytes(_as_lines(shard, self._trains, self._nested))
        self.rows += shard.num_rows


def write(
    folder: Path, row: type, batches: Iterable[pa.Table], lines: Path | None = None, trains: Sequence[str] = ()
) -> int:
    """Write tables as shards into `folder` (see Writer); returns the number of rows."""
    writer = Writer(folder, row, lines, trains)
    for batch in batches:
        writer.add(batch)
    return writer.close()


def write_rows(folder: Path, row: type, rows: Iterable[Any], lines: Path | None = None, trains: Sequence[str] = ()) -> int:
    """The same of dataclass rows, in any order."""
    key = fields(row)[0].name
    ordered = sorted(rows, key=lambda r: (r.arrived, getattr(r, key)))
    return write(folder, row, [pa.Table.from_pylist([asdict(r) for r in ordered], arrow_schema(row))], lines, trains)


def read(folder: Path, row: type[T]) -> list[T]:
    """The rows of a table, in the order in which they were written. Raises Refused where the folder is missing."""
    return [row(**values) for values in table(folder, row).to_pylist()]


def table(folder: Path, row: type, columns: Sequence[str] | None = None) -> pa.Table:
    """The same as one Arrow table, of some columns."""
    return pa.concat_tables([_schema(row, columns).empty_table(), *(one(p, row, columns) for p in files(folder))])


def one(shard: Path, row: type, columns: Sequence[str] | None = None) -> pa.Table:
    """One shard of a table. Raises Refused where the file is of another shape."""
    schema = _schema(row, columns)
    try:
        return pq.read_table(shard, columns=schema.names).cast(schema)
    except (pa.ArrowInvalid, pa.ArrowKeyError) as e:
        raise Refused(f"{shard} holds no rows of {row.__name__}: {e}", "dvc checkout, or freeze again") from None


def _schema(row: type, columns: Sequence[str] | None) -> pa.Schema:
    schema = arrow_schema(row)
    return schema if columns is None else pa.schema([schema.field(c) for c in columns])


def files(folder: Path) -> list[Path]:
    """The shards of a table, in order. Raises Refused where there is no such table."""
    if not folder.is_dir():
        raise Refused(f"{folder} does not exist", "dvc pull (a snapshot's data), or dvc repro")
    return sorted(folder.glob("*.parquet"))


def arrived(shard: Path) -> int:
    """When the first row of a shard arrived, in microseconds since 1970; 0 of a table without rows."""
    return int(shard.name.partition("-")[0])


def content_digest(lines: Path) -> str:
    """SHA-256 of a table's JSON lines, wherever they are cut: it does not depend on the version of any library."""
    whole = hashlib.sha256()
    for shard in sorted(lines.glob("*.jsonl")):
        whole.update(shard.read_bytes())
    return whole.hexdigest()


def _cut(held: pa.Table, key: str) -> Iterator[pa.Table]:
    """The whole shards at the start of a table, then the rest of it."""
    marks = np.array([zlib.crc32(x.encode()) for x in held[key].to_pylist()], np.uint32)
    start = 0
    for end in (np.flatnonzero(marks % ROWS == 0) + 1).tolist():
        yield held.slice(start, end - start)
        start = end
    yield held.slice(start)


def _as_lines(shard: pa.Table, columns: Sequence[str], nested: set[str]) -> bytes:
    """Rows as a trainer reads them. Of a table of `messages`, `prompt` is all of them but the last and `completion` the last: TRL
    learns every turn of `messages`, also those of weight 0, and of a prompt with its completion the completion alone."""
    kept = []
    for name in columns:
        if name in shard.column_names:
            texts = shard[name].to_pylist()
            kept.append([orjson.Fragment(_opened(v)) for v in texts] if name in nested else texts)
        else:
            part = PARTS[name]
            kept.append([_arguments(orjson.loads(v))[part] for v in shard["messages"].to_pylist()])
    rows = (dict(zip(columns, values, strict=True)) for values in zip(*kept, strict=True))
    return b"".join(orjson.dumps(row, option=orjson.OPT_SORT_KEYS) + b"\n" for row in rows)


def _opened(text: str) -> str | bytes:
    return orjson.dumps(_arguments(orjson.loads(text)), option=orjson.OPT_SORT_KEYS) if '"tool_calls":' in text else text


def _arguments(messages: list[Any]) -> list[Any]:
    """The arguments of tool calls as objects: chat templates write them as JSON, and would write our JSON text as a string."""
    for message in messages:
        for call in message.get("tool_calls", ()) if isinstance(message, dict) else ():
            with contextlib.suppress(orjson.JSONDecodeError, KeyError, TypeError):
                given = orjson.loads(call["function"]["arguments"])
                if isinstance(given, dict):
                    call["function"]["arguments"] = given
    return messages
