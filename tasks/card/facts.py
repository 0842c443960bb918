"""What a dataset holds, counted: of each table and side its rows, shards, digests and slices; what was refused; who agreed.

    survey(Path("data/dataset"), people_of(Path("data/curated")))
        -> Dataset(parts=(Part("sft", "train", rows=812, …), …), refused={"build": {"near_duplicate": 14}}, people=People(7, …))

Shard by shard, so that a million rows need no more memory than one shard. The digests are of values, not of files: `content` of
whole rows, column by column, whatever version of Parquet wrote them; `lines` of the JSON lines as trainers read them, which is
what `cat data/dataset/jsonl/train/sft/*.jsonl | sha256sum` prints.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks import shards
from tasks.examples import TABLES
from tasks.frozen import Curated, CuratedJudgement, Dropped
from tasks.records import arrow_schema, canonical, digest

# What every row says of itself; `balance` counts what each table teaches (of a ranking nothing).
SLICES = ("origin", "author", "topic", "language", "guideline")
BALANCE = {
    "sft": "action",
    "preference": "chosen_action",
    "unpaired": "label",
    "safety": "action",
    "grounding": "grounded",
    "retrieval": "grade",
    "spans": "task",
    "classification": "task",
    "evaluation": "kind",
    "regression": "cluster",
}


@dataclass(frozen=True, slots=True)
class AboutParams:
    """What facts can't tell, from params.yaml: '' where nobody has said it yet."""

    name: str
    description: str
    source: str
    license: str
    license_link: str
    contact: str


@dataclass(frozen=True, slots=True)
class Shard:
    """A file of a dataset, its path within the dataset's folder."""

    path: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One table on one side. `arrived` are the first and the last time (µs), `copies` the near-identical pieces
    of evidence that its rows stand for, `weight` their mean, `counts` the rows by value of each slice."""

    table: str
    side: str
    rows: int
    columns: dict[str, str]
    parquet: tuple[Shard, ...]
    jsonl: tuple[Shard, ...]
    content: str
    lines: str
    arrived: tuple[int, int]
    copies: int
    weight: float
    counts: dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """Who agreed on it, without names: a dataset may be handed on. `labels` by kind; `each` how many of them each person took part
    in, the most first; `agreement` Krippendorff's alpha by kind, None unknown."""

    labels: dict[str, int] = field(default_factory=dict)
    each: tuple[int, ...] = ()
    agreement: dict[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """`params` is the digest of the settings that made it, by section."""

    parts: tuple[Part, ...]
    refused: dict[str, dict[str, int]] = field(default_factory=dict)
    people: People = field(default_factory=People)
    params: dict[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return sum(p.rows for p in self.parts)

    @property
    def full(self) -> tuple[Part, ...]:
        """The parts that hold a row."""
        return tuple(p for p in self.parts if p.rows)

    def total(self, column: str) -> dict[str, int]:
        """Rows by value of a slice over all parts, the most first."""
        together: Counter[str] = Counter()
        for part in self.parts:
            together.update(part.counts[column])
        return most_first(together)


def survey(folder: Path, people: People | None = None, params: Mapping[str, Any] | None = None) -> Dataset:
    """Count the tables under `folder`; `params` are the sections of params.yaml that made them.

    Raises Refused where a table's folder is missing.
    """
    parts = [_part(folder, name, side) for name, table in TABLES.items() for side in table.sides]
    refused: dict[str, Counter[str]] = {}
    if (folder / "parquet" / "dropped").is_dir():
        dropped = shards.table(folder / "parquet" / "dropped", Dropped, ["stage", "reason"])
        for row in dropped.group_by(["stage", "reason"]).aggregate([([], "count_all")]).to_pylist():
            refused.setdefault(row["stage"], Counter())[row["reason"]] += row["count_all"]
    return Dataset(
        parts=tuple(parts),
        refused={stage: most_first(reasons) for stage, reasons in sorted(refused.items())},
        people=people or People(),
        params={name: digest(canonical(section)) for name, section in sorted((params or {}).items())},
    )


def people_of(curated: Path, agreement: Mapping[str, float | None] | None = None) -> People:
    """The people behind the labels and judgements of data/curated."""
    labels: Counter[str] = Counter()
    each: Counter[str] = Counter()
    for table, row in (("labels", Curated), ("judgements", CuratedJudgement)):
        columns = ["annotators"] if table == "labels" else ["annotators", "kind"]
        rows = shards.table(curated / table, row, columns)
        if table == "labels":
            labels["answer"] += rows.num_rows
        else:
            labels.update(_counted(rows["kind"]))
        for names, n in _counted(rows["annotators"]).items():
            each.update(dict.fromkeys(orjson.loads(names), n))
    kinds = {kind: n for kind, n in sorted(labels.items()) if n}
    return People(labels=kinds, each=tuple(sorted(each.values(), reverse=True)), agreement=dict(sorted((agreement or {}).items())))


def most_first(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _part(folder: Path, name: str, side: str) -> Part:
    row = TABLES[name].row
    schema = arrow_schema(row)
    counted = {c: Counter() for c in (*SLICES, *(["balance"] if name in BALANCE else []))}
    values = {c: _Column() for c in schema.names}
    parquet, arrived, copies, weight, n = [], [], 0, 0.0, 0
    for path in shards.files(folder / "parquet" / side / name):
        data = path.read_bytes()
        parquet.append(_shard(folder, path, data))
        table = pq.read_table(pa.BufferReader(data)).select(schema.names).cast(schema).combine_chunks()
        for column in schema.names:
            values[column].add(table[column])
        for column, counts in counted.items():
            counts.update(_counted(table[BALANCE[name] if column == "balance" else column]))
        arrived += [t for t in pc.min_max(table["arrived"]).as_py().values() if t is not None]
        copies += pc.sum(table["copies"]).as_py() or 0
        weight += pc.sum(table["weight"]).as_py() or 0.0
        n += table.num_rows
    lines, jsonl = hashlib.sha256(), []
    for path in sorted((folder / "jsonl" / side / name).glob("*.jsonl")):
        data = path.read_bytes()
        lines.update(data)
        jsonl.append(_shard(folder, path, data))
    return Part(
        table=name,
        side=side,
        rows=n,
        columns={f.name: str(f.type) for f in schema},
        parquet=tuple(parquet),
        jsonl=tuple(jsonl),
        content=digest(canonical({c: v.digest() for c, v in values.items()})),
        lines=lines.hexdigest(),
        arrived=(min(arrived), max(arrived)) if arrived else (0, 0),
        copies=copies,
        weight=round(weight / n, 4) if n else 0.0,
        counts={c: most_first(counts) for c, counts in counted.items()},
    )


class _Column:
    """A digest of a column's values, the same however its rows are cut into shards: their lengths, and their bytes."""

    def __init__(self) -> None:
        self.lengths, self.bytes = hashlib.sha256(), hashlib.sha256()

    def add(self, column: pa.ChunkedArray) -> None:
        if pa.types.is_string(column.type):
            self.lengths.update(pc.binary_length(column).to_numpy().astype("<i4").tobytes())
            for chunk in column.chunks:
                offsets = memoryview(chunk.buffers()[1]).cast("i")[chunk.offset : chunk.offset + len(chunk) + 1]
                if len(chunk) and chunk.buffers()[2] is not None:
                    self.bytes.update(memoryview(chunk.buffers()[2])[offsets[0] : offsets[len(chunk)]])
        else:
            plain = column.cast(pa.uint8()) if pa.types.is_boolean(column.type) else column
            kind = "<f8" if pa.types.is_floating(column.type) else "<i8"
            self.bytes.update(plain.to_numpy().astype(kind).tobytes())

    def digest(self) -> list[str]:
        return [self.lengths.hexdigest(), self.bytes.hexdigest()]


def _shard(folder: Path, path: Path, data: bytes) -> Shard:
    return Shard(path.relative_to(folder).as_posix(), hashlib.sha256(data).hexdigest(), len(data))


def _counted(column: pa.ChunkedArray) -> dict[str, int]:
    found = pc.value_counts(column)
    texts = [str(v).lower() if isinstance(v, bool) else str(v) for v in found.field("values").to_pylist()]
    return dict(zip(texts, found.field("counts").to_pylist(), strict=True))
