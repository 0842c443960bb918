"""Addressed rows: what is meant for single partitions, in files with row groups of one partition each.

    write(path, tables)          tables have a column `part`, by which they are sorted
    read([path, …], 3, schema)   the rows for partition 3 of all these files

So the worker of a partition reads what is meant for it, and not what is meant for others: the plan of its rows, and the texts that
other partitions lend it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.engine import whole

PART = "part"


def write(path: Path, tables: Iterable[pa.Table]) -> tuple[str, set[int]]:
    """Rows that come sorted by part, as a file; and for which partitions there are any. Nothing to write: no file, and ''."""
    meant: set[int] = set()
    with whole(path) as temporary:
        out: pq.ParquetWriter | None = None
        for table in (t for t in tables if t.num_rows):
            if out is None:
                out = pq.ParquetWriter(temporary, table.schema, compression="zstd", compression_level=1)
            parts = table[PART].to_numpy()
            cuts = [0, *(np.flatnonzero(np.diff(parts)) + 1).tolist(), len(parts)]
            for start, stop in pairwise(cuts):
                out.write_table(table.slice(start, stop - start))
            meant |= set(np.unique(parts).tolist())
        if out is None:
            temporary.touch()
        else:
            out.close()
    return (str(path) if meant else ""), meant


def read(paths: Sequence[str], part: int, schema: pa.Schema) -> pa.Table:
    """All rows for one partition, with the columns of `schema`."""
    found = [schema.empty_table()]
    for path in paths:
        with pq.ParquetFile(path) as file:
            column = file.schema_arrow.names.index(PART)
            mine = [g for g in range(file.num_row_groups) if _part(file, g, column) == part]
            if mine:
                found.append(file.read_row_groups(mine, columns=schema.names).select(schema.names).cast(schema))
    return pa.concat_tables(found)


def _part(file: pq.ParquetFile, group: int, column: int) -> int:
    return file.metadata.row_group(group).column(column).statistics.min
