"""Pieces: the files of a table, cut at their row groups into partitions of about one size, and read by whoever works on one.

    cut(["a.parquet", "b.parquet"], bytes)  ->  [Partition(number=0, name="1 of 2: a.parquet, row groups 0 to 11", …), …]

A partition is as many row groups as fit, in the order of the files: of one large file a part, of many small files all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


@dataclass(frozen=True, slots=True)
class Piece:
    """Row groups [first, last] of a file."""

    file: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Partition:
    number: int
    name: str
    pieces: tuple[Piece, ...]
    rows: int


def cut(files: Sequence[str], part_bytes: int) -> list[Partition]:
    """Partitions of `part_bytes` (before compression) or a row group more."""
    parts: list[tuple[list[Piece], int]] = []
    held = part_bytes
    for file in files:
        footer = pq.read_metadata(file)
        for group in range(footer.num_row_groups):
            about = footer.row_group(group)
            if held >= part_bytes:
                parts.append(([], 0))
                held = 0
            pieces, rows = parts[-1]
            if pieces and pieces[-1].file == file:
                pieces[-1] = Piece(file, pieces[-1].first, group)
            else:
                pieces.append(Piece(file, group, group))
            parts[-1] = (pieces, rows + about.num_rows)
            held += about.total_byte_size
    return [
        Partition(k, f"{k + 1} of {len(parts)}: {_said(pieces)}", tuple(pieces), rows)
        for k, (pieces, rows) in enumerate(parts)
    ]


def read(partition: Partition, columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
    """The partition's columns, `rows` rows at a time (the last ones fewer), whatever its row groups are."""
    held: list[pa.Table] = []
    count = 0
    for piece in partition.pieces:
        with pq.ParquetFile(piece.file) as file:
            for batch in file.iter_batches(rows, row_groups=range(piece.first, piece.last + 1), columns=list(columns)):
                held.append(pa.Table.from_batches([batch]))
                count += batch.num_rows
                while count >= rows:
                    table = pa.concat_tables(held)
                    yield table.slice(0, rows)
                    held, count = [table.slice(rows)], count - rows
    if count:
        yield pa.concat_tables(held)


def reader(partition: Partition, columns: Sequence[str], rows: int) -> pa.RecordBatchReader | pa.Table:
    """The same as one stream, as DuckDB reads it."""
    tables = read(partition, columns, rows)
    first = next(tables, None)
    if first is None:
        return pa.table({c: pa.array([], pa.string()) for c in columns})

    def batches() -> Iterator[pa.RecordBatch]:
        yield from first.to_batches()
        for table in tables:
            yield from table.to_batches()

    return pa.RecordBatchReader.from_batches(first.schema, batches())


def _said(pieces: Sequence[Piece]) -> str:
    first = pieces[0]
    what = f"{Path(first.file).name}, row groups {first.first} to {first.last}"
    return what if len(pieces) == 1 else f"{what}, and {len(pieces) - 1} files more"
