"""Versions: a table that another version of the loop wrote has other columns. An older one can be migrated, a newer one is refused.

    lacking("signals", table)  ->  {}                   as this version writes it
                                   {"detail": ""}       it was written before there was such a column

`flywheel migrate` adds what is lacking (Lake.migrate). A new column has a default in its noun, which is what older rows get; a
column is never renamed, and never comes to mean something else.
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

import pyarrow as pa

from tasks.errors import Refused
from tasks.live.lake.tables import TABLES
from tasks.records import arrow_schema


def lacking(table: str, found: pa.Schema) -> dict[str, Any]:
    """The columns that a table lacks, each with the value that its rows are to have. Raises Refused where it can't be migrated."""
    wanted = arrow_schema(TABLES[table])
    if found.names == wanted.names and found.types == wanted.types:
        return {}
    strange = sorted(c.name for c in found if c.name not in wanted.names or wanted.field(c.name).type != c.type)
    defaults = {f.name: f.default for f in fields(TABLES[table]) if f.name not in found.names}
    impossible = strange or [c for c, value in defaults.items() if value is MISSING]
    if impossible:
        raise Refused(
            f"the table {table} of the lake was written by another version of flywheel ({', '.join(impossible)})",
            "run the version that wrote it, or a newer one: git log -1 in the workspace says which that was",
        )
    return defaults


def check(table: str, found: pa.Schema) -> None:
    """Raises Refused for a table that is not as this version writes it."""
    if missing := lacking(table, found):
        raise Refused(
            f"the table {table} of the lake was written by an older version of flywheel, without {', '.join(missing)}",
            "flywheel down, then flywheel migrate",
        )


def completed(rows: pa.Table, table: str, missing: dict[str, Any]) -> pa.Table:
    """Rows of before with the columns of today."""
    schema = arrow_schema(TABLES[table])
    for column, value in missing.items():
        rows = rows.append_column(schema.field(column), pa.array([value] * rows.num_rows, schema.field(column).type))
    return rows.select(schema.names)
