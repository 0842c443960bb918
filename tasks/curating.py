"""Curating, partition by partition: two pure functions over exchanges and what people said of them, for any engine.

    vote      a partition's answers of people              -> its votes
    decide    its exchanges and what was agreed on them    -> its labels, and what is dropped with its reason

Between the two everybody's votes are looked at together (agreement.py), for who is to be trusted shows over all of them; those
are narrow rows. Texts are read where a partition is worked on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks import addressed, shards
from tasks.agreement import ANSWER, OTHER, SERVED
from tasks.calculator import Engine, calculator
from tasks.engine import OfPartition, whole
from tasks.frozen import Exchange, Given
from tasks.records import Approved, Label, arrow_schema, read_records, to_arrow

STRIPPED = "CREATE MACRO stripped(text) AS trim(text, ' ' || chr(9) || chr(10) || chr(13))"
SERVED_ANSWERS = """
    SELECT e.interaction_id, max(a.id) AS id FROM exchanges e JOIN approved a ON stripped(e.response) = stripped(a.text)
    GROUP BY e.interaction_id
"""
# The answer that each person wants: 'right' means the served one, and so does a correction that names it.
VOTES = f"""
    WITH served AS ({SERVED_ANSWERS})
    SELECT g.interaction_id, g.annotator, coalesce(s.id, '{SERVED}') AS right, g.role = 'expert' AS expert,
           CASE WHEN g.value->>'verdict' = 'right' THEN coalesce(s.id, '{SERVED}')
                ELSE coalesce(nullif(g.value->>'correction', ''), '{OTHER}') END AS said
    FROM given g SEMI JOIN exchanges USING (interaction_id) LEFT JOIN served s USING (interaction_id)
    WHERE g.kind = '{ANSWER}' ORDER BY g.ts, g.annotation_id
"""
# Posteriors in three digits: each new answer moves what is known of annotators a little, and with it every posterior ever given;
# in all their digits no file of a version would be the same as in the one before.
LABELS = f"""
    WITH served AS ({SERVED_ANSWERS}), who AS (
        SELECT interaction_id, to_json(list_sort(list_distinct(list(annotator))))::VARCHAR AS annotators,
               max(guideline) AS guideline
        FROM given WHERE kind = '{ANSWER}' GROUP BY interaction_id
    )
    SELECT e.*, coalesce(s.id, '') AS served, l.verdict, l.target, coalesce(a.text, '') AS target_text,
           round(l.p_wrong, 3) AS p_wrong, round(l.p_target, 3) AS p_target,
           l.votes, coalesce(a.kind, 'text') AS kind, coalesce(a.topic, '') AS topic, w.annotators, w.guideline,
           CASE WHEN l.state <> 'agreed' THEN 'no_agreement'
                WHEN l.target <> '' AND a.id IS NULL THEN 'answer_no_longer_approved' ELSE '' END AS reason
    FROM exchanges e JOIN labels l USING (interaction_id) JOIN who w USING (interaction_id)
         LEFT JOIN served s USING (interaction_id) LEFT JOIN approved a ON a.id = l.target
    ORDER BY e.arrived, e.interaction_id
"""


@dataclass(frozen=True, slots=True)
class Together:
    """Shards of exchanges, and those of annotations in which there are any of them (and perhaps some of others)."""

    number: int
    name: str
    exchanges: tuple[Path, ...]
    given: tuple[Path, ...]
    catalogue: Path


@dataclass(frozen=True, slots=True)
class Voting(OfPartition):
    partition: Together
    out: Path


@dataclass(frozen=True, slots=True)
class Deciding(OfPartition):
    """`agreed`: an addressed file of what was agreed (Label)."""

    partition: Together
    agreed: str
    out: Path


def partitions(frozen: Path, part_bytes: int) -> list[Together]:
    """Shards of about `part_bytes` together, and one at least. Both tables are kept in the order of arrival, and a shard is named
    after when its first row arrived."""
    frozen = frozen.absolute()
    groups: list[list[Path]] = []
    held = part_bytes
    for shard in shards.files(frozen / "exchanges"):
        if held >= part_bytes:
            groups.append([])
            held = 0
        groups[-1].append(shard)
        held += shard.stat().st_size
    starts = [shards.arrived(group[0]) for group in groups]
    annotations = shards.files(frozen / "annotations")
    return [
        Together(
            k, f"{k + 1} of {len(groups)}: exchanges from {group[0].name}", tuple(group),
            _between(annotations, start, end), frozen / "catalogue.jsonl",
        )
        for k, (group, (start, end)) in enumerate(zip(groups, pairwise([*starts, None]), strict=True))
    ]  # fmt: skip


def _between(files: Sequence[Path], start: int, end: int | None) -> tuple[Path, ...]:
    """Those that may hold rows which arrived from `start` to `end`, both included (None: for ever)."""
    spans = pairwise([*map(shards.arrived, files), None])
    return tuple(
        file for file, (first, after) in zip(files, spans, strict=True)
        if (end is None or first <= end) and (after is None or after >= start)
    )  # fmt: skip


def vote(part: Voting) -> str:
    """The file of the partition's votes, in the order of time within each shard."""
    with _opened(part.partition) as engine:
        return _written(part.out, _tables(engine, part.partition, VOTES))


def decide(part: Deciding) -> str:
    """The file of the partition's rows of Curated, each with its `reason` to be dropped, '' to be kept."""
    with _opened(part.partition) as engine:
        agreed = [part.agreed] if part.agreed else []
        engine.register("labels", addressed.read(agreed, part.partition.number, arrow_schema(Label)))
        return _written(part.out, _tables(engine, part.partition, LABELS))


def _opened(partition: Together) -> Engine:
    engine = calculator()
    engine.execute(STRIPPED)
    engine.register("approved", to_arrow(Approved, read_records(partition.catalogue, Approved)))
    return engine


def _tables(engine: Engine, partition: Together, sql: str) -> Iterator[pa.Table]:
    """The answer of each shard of exchanges, with all annotations of them."""
    files = list(partition.given)
    held = arrow_schema(Given).empty_table()
    for shard in partition.exchanges:
        exchanges = shards.one(shard, Exchange)
        span = pc.min_max(exchanges["arrived"]).as_py()
        since, until = span["min"] or 0, span["max"] or 0
        while files and (not held.num_rows or held["arrived"][-1].as_py() <= until):
            held = pa.concat_tables([held, shards.one(files.pop(0), Given)])
        held = held.filter(pc.greater_equal(held["arrived"], since))
        engine.register("exchanges", exchanges)
        engine.register("given", held.filter(pc.less_equal(held["arrived"], until)))
        yield engine.execute(sql).to_arrow_table()


def _written(path: Path, tables: Iterable[pa.Table]) -> str:
    with whole(path) as temporary:
        out: pq.ParquetWriter | None = None
        for table in tables:
            out = out or pq.ParquetWriter(temporary, table.schema, compression="zstd", compression_level=1)
            out.write_table(table)
        if out:
            out.close()
    return str(path)
