"""Tables on disk in shards: many files of which a change touches few, so that a new version uploads little more than what is new.

    write(folder, Supervised, rows)   ->  1767600000000000-5c0e7c5d1f2a.parquet, 1767603600000000-91af02d47b3c.parquet, …

Rows come in the order (`arrived`, id). A shard ends after a row whose id says so (content-defined, about one in ROWS), and is named
after its first row; so rows that arrive later go into later shards, and a row that changes or goes touches its own shard only.
"""

from __future__ import annotations

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
CODEC, LEVEL = "zstd", 3


def write(
    folder: Path, row: type, batches: Iterable[pa.Table], lines: Path | None = None, trains: Sequence[str] = ()
) -> int:
    """Write tables, which come in the order (`arrived`, first column), as shards into `folder`, which is emptied first; returns
    the number of rows.

    With `lines`, each shard is written there as JSON lines as well: the first column and those of `trains`, Json columns nested.
    """
    for place in filter(None, (folder, lines)):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
    schema = arrow_schema(row)
    key, nested = schema.names[0], {f.name for f in fields(row) if f.type == "Json"}
    total, held = 0, schema.empty_table()
    for batch in batches:
        held = pa.concat_tables([held, batch.select(schema.names).cast(schema)])
        *whole, held = _cut(held, key)
        for shard in whole:
            total += _write(folder, shard, lines, [key, *trains], nested)
    return total + (_write(folder, held, lines, [key, *trains], nested) if held.num_rows else 0)


def write_rows(folder: Path, row: type, rows: Iterable[Any], lines: Path | None = None, trains: Sequence[str] = ()) -> int:
    """The same of dataclass rows, in any order."""
    key = fields(row)[0].name
    ordered = sorted(rows, key=lambda r: (r.arrived, getattr(r, key)))
    return write(folder, row, [pa.Table.from_pylist([asdict(r) for r in ordered], arrow_schema(row))], lines, trains)


def read(folder: Path, row: type[T]) -> list[T]:
    """The rows of a table, in the order in which they were written. Raises Refused where the folder is missing."""
    return [row(**values) for values in table(folder, row).to_pylist()]


def table(folder: Path, row: type, columns: Sequence[str] | None = None) -> pa.Table:
    """The same as one Arrow table, of some columns. A folder without a shard is an empty table."""
    schema = arrow_schema(row)
    if columns is not None:
        schema = pa.schema([schema.field(c) for c in columns])
    parts = [pq.read_table(p, columns=columns).cast(schema) for p in files(folder)]
    return pa.concat_tables([schema.empty_table(), *parts])


def files(folder: Path) -> list[Path]:
    """The shards of a table, in order. Raises Refused where there is no such table."""
    if not folder.is_dir():
        raise Refused(f"{folder} does not exist", "dvc pull (a snapshot's data), or dvc repro")
    return sorted(folder.glob("*.parquet"))


def _cut(held: pa.Table, key: str) -> Iterator[pa.Table]:
    """The whole shards at the start of a table, then the rest of it."""
    marks = np.array([zlib.crc32(x.encode()) for x in held[key].to_pylist()], np.uint32)
    start = 0
    for end in (np.flatnonzero(marks % ROWS == 0) + 1).tolist():
        yield held.slice(start, end - start)
        start = end
    yield held.slice(start)


def _write(folder: Path, shard: pa.Table, lines: Path | None, columns: Sequence[str], nested: set[str]) -> int:
    first = shard.slice(0, 1).to_pylist()[0]
    name = f"{first['arrived']:016d}-{zlib.crc32(first[columns[0]].encode()):08x}"
    pq.write_table(shard.combine_chunks(), folder / f"{name}.parquet", compression=CODEC, compression_level=LEVEL)
    if lines is not None:
        (lines / f"{name}.jsonl").write_bytes(_as_lines(shard.select(columns), nested))
    return shard.num_rows


def _as_lines(shard: pa.Table, nested: set[str]) -> bytes:
    kept = [
        [orjson.Fragment(v) for v in column.to_pylist()] if name in nested else column.to_pylist()
        for name, column in zip(shard.column_names, shard.columns, strict=True)
    ]
    rows = (dict(zip(shard.column_names, values, strict=True)) for values in zip(*kept, strict=True))
    return b"".join(orjson.dumps(row, option=orjson.OPT_SORT_KEYS) + b"\n" for row in rows)
