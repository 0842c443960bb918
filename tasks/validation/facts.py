"""What suites ask about beside a table's own rows: small tables in the same database, found once for all of them.

    parameters      one row of the numbers of params.yaml          needed        table, the rows that it must have (0: may be empty)
    catalogue       the approved answers                           options       guideline, kind, field, value: what may be answered
    agreement       kind, units, alpha of what people answered     stale         labels made under clauses that have changed since
    drift           table, column: what is no longer as it was

`personal_data` is made in tasks/validation/personal.py; `sealed` and `passages`, the wall's own, in tasks/validation/wall.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import orjson
import pyarrow as pa

from tasks.calculator import Engine
from tasks.errors import INVALID, Refused
from tasks.guidelines import Guideline, newest, parse, touched
from tasks.kinds import KINDS, RATING, Kind
from tasks.profile import Change
from tasks.records import Approved, arrow_schema, read_records, to_arrow

# Pairwise agreement of what people answered, before anybody decided: Krippendorff's alpha (2011) for names, over the first field of
# each kind that is a choice, and for `answer` the answer that they want.
AGREEMENT = """
    CREATE TABLE agreement AS
    WITH said AS (
        SELECT kind, interaction_id, annotator, arg_max(CASE kind
                   WHEN 'answer' THEN CASE WHEN value->>'verdict' = 'right' THEN 'right'
                                           ELSE coalesce(value->>'correction', 'wrong') END
                   ELSE coalesce(value->>'action', value->>'grounded', value->>'intent', value->>'sentiment') END, ts) AS said
        FROM whole_annotations WHERE status = 'submitted' AND role <> 'expert' AND kind IN (SELECT kind FROM chosen)
        GROUP BY kind, interaction_id, annotator
    ), counted AS (
        SELECT kind, interaction_id, said, count(*) AS n FROM said WHERE said IS NOT NULL GROUP BY ALL
    ), units AS (
        SELECT kind, interaction_id, sum(n) AS m, sum(n * (n - 1)) AS same FROM counted GROUP BY ALL HAVING sum(n) > 1
    ), observed AS (
        SELECT kind, count(*) AS units, sum(m) AS n, 1 - sum(same / (m - 1)) / sum(m) AS disagreed FROM units GROUP BY kind
    ), expected AS (
        SELECT kind, sum(c * (c - 1)) AS same
        FROM (SELECT kind, said, sum(n) AS c FROM counted SEMI JOIN units USING (kind, interaction_id) GROUP BY ALL) GROUP BY kind
    )
    SELECT kind, units, CASE WHEN e.same < n * (n - 1) THEN round(1 - disagreed / (1 - e.same / (n * (n - 1))), 4) END AS alpha
    FROM observed JOIN expected e USING (kind)
"""
_CHOSEN = ("answer", "action", "grounded", "intent", "sentiment")


def parameters(engine: Engine, numbers: Mapping[str, int | float], needed: Mapping[str, int]) -> None:
    """The numbers that queries read as (FROM parameters SELECT max_tokens), and how many rows each table must have."""
    as_table(engine, "parameters", pa.Table.from_pylist([dict(numbers)]))
    as_table(engine, "needed", pa.table({"name": list(needed), "min_rows": pa.array(needed.values(), pa.int64())}))


def minimums(listed: Iterable[str], known: Iterable[str]) -> dict[str, int]:
    """["sft: 20"] -> rows that each known table must have, 0 of one that is not listed. Raises Refused for anything else."""
    found = dict.fromkeys(known, 0)
    for entry in listed:
        name, _, number = (part.strip() for part in entry.partition(":"))
        if name not in found or not number.isdigit():
            raise Refused(f"validate.min_rows: {entry!r} is no table with a number of rows",
                          f'write it as "sft: 20"; tables: {", ".join(sorted(found))}', INVALID)  # fmt: skip
        found[name] = int(number)
    return found


def known(engine: Engine, frozen: Path) -> None:
    """The catalogue, the guidelines' options, and labels whose guideline has changed since."""
    approved = read_records(frozen / "catalogue.jsonl", Approved)
    as_table(engine, "catalogue", to_arrow(Approved, approved).cast(arrow_schema(Approved)))
    guidelines = [parse(p.stem, p.read_text(encoding="utf-8")) for p in sorted((frozen / "guidelines").glob("*.md"))]
    rows = [o for g in guidelines for o in _options(g.version, g.kind)]
    # A kind without a guideline of its own has the options that kinds have.
    rows += [o for k in KINDS.values() for o in _options("", k)]
    as_table(
        engine,
        "options",
        pa.Table.from_pylist(rows, pa.schema([(c, pa.string()) for c in ("guideline", "kind", "field", "value")])),
    )
    as_table(engine, "stale", _stale(engine, {g.version: g for g in guidelines}))
    as_table(engine, "chosen", pa.table({"kind": list(_CHOSEN)}))
    engine.execute(AGREEMENT)


def changes(engine: Engine, found: Sequence[Change]) -> None:
    schema = pa.schema([("name", pa.string()), ("column_name", pa.string()), ("kind", pa.string()), ("psi", pa.float64()),
                        ("kl", pa.float64()), ("ks", pa.float64()), ("p_value", pa.float64()), ("drifted", pa.bool_()),
                        ("said", pa.string())])  # fmt: skip
    rows = [
        {k: v for k, v in asdict(c).items() if k in schema.names} | {"name": c.table, "column_name": c.column}
        for c in found
    ]
    as_table(engine, "drift", pa.Table.from_pylist(rows, schema))


def _options(version: str, kind: Kind) -> list[dict[str, str]]:
    found = [
        {"guideline": version, "kind": kind.name, "field": f.name, "value": o} for f in kind.fields for o in f.options
    ]
    ratings = [f for f in kind.fields if f.type == RATING]
    return found + [
        {"guideline": version, "kind": kind.name, "field": f.name, "value": str(n)}
        for f in ratings
        for n in range(f.low, f.high + 1)
    ]


def _stale(engine: Engine, guidelines: Mapping[str, Guideline]) -> pa.Table:
    """Labels and judgements of an older version, of which a changed clause speaks."""
    current = newest(guidelines.values())
    found = []
    for version, old in guidelines.items():
        new = current[old.kind.name]
        if new.version == version:
            continue
        if old.kind.name == "answer":
            sql = """SELECT 'labels', interaction_id, json_object('verdict', verdict, 'correction', target)::VARCHAR FROM labels
                     WHERE guideline = ?"""
        else:
            sql = "SELECT 'judgements', judgement_id, value FROM whole_judgements WHERE guideline = ?"
        for name, id, value in engine.execute(sql, [version]).fetchall():
            parsed = orjson.loads(value)
            if isinstance(parsed, dict) and touched([parsed], old, new):
                found.append({"name": name, "id": id, "guideline": version, "newest": new.version})
    return pa.Table.from_pylist(found, pa.schema([(c, pa.string()) for c in ("name", "id", "guideline", "newest")]))


def as_table(engine: Engine, name: str, rows: pa.Table) -> None:
    engine.register("handed_in", rows)
    engine.execute(f"CREATE TABLE {name} AS SELECT * FROM handed_in")
    engine.unregister("handed_in")
