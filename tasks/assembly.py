"""The tables of a dataset on their way to the disk: rows made from labels, shard by shard, and among them those made otherwise.

    assembly = Assembly(out, [("train", "spans", Spans(…)), …])      what is there already, in memory
    assembly.add("train", "sft", rows, until)                        what comes, in order of arrival
    assembly.close()  ->  {"train": {"sft": 812, "spans": 3, …}, "holdout": {…}}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from tasks import shards
from tasks.examples import HOLDOUT, TABLES, TRAIN, Example
from tasks.records import arrow_schema

IN_ORDER = [("arrived", "ascending"), ("example_id", "ascending")]


class Assembly:
    """Every table on both sides; `origins` counts the rows of each by what they were made of."""

    def __init__(self, out: Path, ready: Iterable[tuple[str, str, Example]]):
        self.origins: dict[str, dict[str, int]] = {}
        self._writers, self._waiting = {}, {}
        together: dict[tuple[str, str], list[dict]] = {}
        for side, name, row in ready:
            together.setdefault((side, name), []).append(asdict(row))
        for table in TABLES.values():
            for side in table.sides:
                folder = out / "parquet" / side / table.name
                self._writers[side, table.name] = shards.Writer(folder, table.row, out / "jsonl" / side / table.name, table.trains)
                rows = pa.Table.from_pylist(together.get((side, table.name), []), arrow_schema(table.row))
                self._waiting[side, table.name] = rows.sort_by(IN_ORDER)

    def add(self, side: str, name: str, rows: pa.Table, until: int) -> None:
        """Rows made from labels, and before them what arrived up to `until`."""
        schema = arrow_schema(TABLES[name].row)
        waiting = self._waiting[side, name]
        due = pc.less_equal(waiting["arrived"], until)
        self._waiting[side, name] = waiting.filter(pc.invert(due))
        self._write(side, name, pa.concat_tables([rows.select(schema.names).cast(schema), waiting.filter(due)]).sort_by(IN_ORDER))

    def close(self) -> dict[str, dict[str, int]]:
        """Rows by side and table."""
        counts: dict[str, dict[str, int]] = {TRAIN: {}, HOLDOUT: {}}
        for (side, name), writer in self._writers.items():
            self._write(side, name, self._waiting[side, name])
            counts[side][name] = writer.close()
        return counts

    def _write(self, side: str, name: str, rows: pa.Table) -> None:
        self._writers[side, name].add(rows)
        of = self.origins.setdefault(f"{side}/{name}", {})
        for origin, n in Counter(rows["origin"].to_pylist()).items():
            of[origin] = of.get(origin, 0) + n
