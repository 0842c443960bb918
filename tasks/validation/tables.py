"""A dataset's shards -> tables in DuckDB that suites can be held against; whatever is of another shape is a finding.

    data/dataset/parquet/train/sft/*.parquet  ->  view whole_sft   every declared column, as it was written
                                                  table sft        the same without the JSON ones, and what is derived of a row:
                                                                   nulls, malformed (names of columns), turns, taught, asked, …

A shard that is damaged, or of another schema, is left out of both: its table is then checked no further, and never passes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.calculator import Engine
from tasks.errors import INVALID, Refused
from tasks.examples import HOLDOUT, TABLES, TRAIN
from tasks.validation import CRITICAL, Finding
from tasks.validation.suites import CONTRACTS, DISCARD, EVOLVE, Suite

_KINDS = {
    pa.string(): "VARCHAR",
    pa.large_string(): "VARCHAR",
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
    pa.bool_(): "BOOLEAN",
}
MISSING_TABLE, UNREADABLE = "missing_table", "unreadable_shard"
MISSING, RETYPED, EXTRA = "missing_column", "retyped_column", "extra_column"


@dataclass(frozen=True, slots=True)
class Loaded:
    """What of a table could be loaded; `sound`: all of it is of the declared shape."""

    name: str
    rows: int
    sound: bool


def places(frozen: Path, curated: Path, dataset: Path) -> dict[str, Path]:
    """Table -> its folder of shards. A table that both sides of the wall have is `holdout_<table>` on the sealed one."""
    found = {n: frozen / n for n in ("exchanges", "annotations", "thumbs")}
    found |= {n: curated / n for n in ("labels", "judgements", "dropped")}
    found["dropped_by_build"] = dataset / "parquet" / "dropped"
    for side in (TRAIN, HOLDOUT):
        here = dataset / "parquet" / side
        built = {p.name for p in here.iterdir() if p.is_dir()} if here.is_dir() else set()
        for name in sorted(built | {t.name for t in TABLES.values() if side in t.sides}):
            both = name not in TABLES or TRAIN in TABLES[name].sides
            found[f"{HOLDOUT}_{name}" if side == HOLDOUT and both else name] = here / name
    return found


def load(engine: Engine, name: str, folder: Path, suites: Iterable[Suite]) -> tuple[Loaded, list[Finding]]:
    """Make `whole_<name>` and `<name>` of a folder of shards; the findings are about their shape, one of them at least."""
    mine = [s for s in suites if name in s.tables]
    (declaring,) = [s for s in mine if s.columns]
    good, extra, faults = _shards(name, folder, declaring)
    columns = declaring.columns | (extra if declaring.contract == EVOLVE else {})
    _view(engine, name, columns, good)
    derived = _derived(declaring, mine)
    kept = ", ".join(_quoted(c) for c, kind in columns.items() if kind != "JSON")
    made = ", ".join(f"{sql} AS {_quoted(c)}" for c, sql in derived.items())
    making = f"CREATE TABLE {_quoted(name)} AS SELECT {kept}, malformed, {made}"
    try:
        engine.execute(f"{making} FROM {_quoted('whole_' + name)}")
    except Exception as e:
        _understood(engine, name, declaring, mine)
        if "JSON" not in str(e):
            raise
        # JSON that is none would end every query over it: such columns count as empty, and the rows are named as malformed.
        _view(engine, name, columns, good, guarded=True)
        engine.execute(f"{making} FROM {_quoted('whole_' + name)}")
    (rows,) = engine.execute(f"SELECT count(*) FROM {_quoted(name)}").fetchone() or (0,)
    broken = any(f.severity == CRITICAL for f in faults)
    if not faults:
        why = f"the table has its declared columns, {len(declaring.columns)} of them, and no other"
        faults = [Finding(name, CRITICAL, True, "schema", why, 0, [], "schema", declaring.name, "")]
    return Loaded(name, rows, not broken), faults


def _shards(name: str, folder: Path, suite: Suite) -> tuple[list[Path], dict[str, str], list[Finding]]:
    """The shards that hold the declared columns, what else they hold, and what is wrong with all of them."""
    if not folder.is_dir():
        said = f"no folder {folder.name}"
        return [], {}, [Finding(name, CRITICAL, False, "schema", "the table is there", 0, [], MISSING_TABLE, suite.name, said)]
    wrong: dict[tuple[str, str], list[str]] = {}
    good, extra = [], {}
    for shard in sorted(folder.glob("*.parquet")):
        try:
            schema = pq.read_schema(shard)
        except (pa.ArrowInvalid, OSError):
            wrong.setdefault((UNREADABLE, "every shard can be read"), []).append(shard.name)
            continue
        there = {f.name: _KINDS.get(f.type, str(f.type).upper()) for f in schema}
        faults = _compared(there, suite)
        for code, what in faults:
            wrong.setdefault((code, what), []).append(shard.name)
        if all(code == EXTRA for code, _ in faults):
            good.append(shard)
            extra |= {c: k for c, k in there.items() if c not in suite.columns}
    order = {UNREADABLE: 0, MISSING: 1, RETYPED: 2, EXTRA: 3}
    return good, extra, [
        Finding(name, CONTRACTS[suite.contract] if code == EXTRA else CRITICAL, False, "schema", what, len(files), files, code,
                suite.name, f"contract: {suite.contract}" if code == EXTRA else "")
        for (code, what), files in sorted(wrong.items(), key=lambda w: (order[w[0][0]], w[0][1]))
    ]  # fmt: skip


def _compared(there: Mapping[str, str], suite: Suite) -> list[tuple[str, str]]:
    wanted = {c: "VARCHAR" if kind == "JSON" else kind for c, kind in suite.columns.items()}
    found = [(MISSING, f"column {c} is there") for c in wanted if c not in there]
    found += [
        (RETYPED, f"column {c} is {k}, not {there[c]}") for c, k in wanted.items() if c in there and there[c] != k
    ]
    said = {EVOLVE: "is declared (it was kept)", DISCARD: "is declared (it was not looked at)"}.get(
        suite.contract, "is declared"
    )
    return found + [(EXTRA, f"column {c} {said}") for c in there if c not in wanted]


def _view(engine: Engine, name: str, columns: Mapping[str, str], shards: list[Path], guarded: bool = False) -> None:
    """A view cannot hold parameters, so the names are quoted here; they come from our own folders and suites."""
    json = [c for c, kind in columns.items() if kind == "JSON"]
    said = ", ".join(f"CASE WHEN NOT json_valid({_quoted(c)}) THEN '{c}' END" for c in json)
    shown = ", ".join(
        f"CASE WHEN json_valid({_quoted(c)}) THEN {_quoted(c)} ELSE '[]' END AS {_quoted(c)}"
        if guarded and c in json
        else _quoted(c)
        for c in columns
    )
    if shards:
        files = ", ".join("'" + str(s).replace("'", "''") + "'" for s in shards)
        source = f"read_parquet([{files}], union_by_name=true)"
    else:
        empty = ", ".join(
            f"CAST(NULL AS {'VARCHAR' if k == 'JSON' else k}) AS {_quoted(c)}" for c, k in columns.items()
        )
        source = f"(SELECT {empty} LIMIT 0)"
    malformed = f"concat_ws(',', {said})" if said else "''"
    engine.execute(
        f"CREATE OR REPLACE VIEW {_quoted('whole_' + name)} AS SELECT {shown}, {malformed} AS malformed FROM {source}"
    )


def _derived(declaring: Suite, suites: Iterable[Suite]) -> dict[str, str]:
    """What every table has of its rows, and what its suites derive: that of the declaring one first, for others to build on."""
    nulls = ", ".join(
        f"CASE WHEN {_quoted(c)} IS NULL THEN '{c}' END" for c in declaring.columns if c not in declaring.nullable
    )
    found = {"nulls": f"concat_ws(',', {nulls})"} | declaring.derived
    for suite in suites:
        found |= {c: sql for c, sql in suite.derived.items() if c not in declaring.derived}
    return found


def _understood(engine: Engine, name: str, declaring: Suite, suites: Iterable[Suite]) -> None:
    """Raises Refused, with the suite, for a derived column that DuckDB can't make sense of, whatever the rows are."""
    before = _derived(declaring, [])
    for suite in (declaring, *suites):
        for column, sql in suite.derived.items():
            made = ", ".join(f"{x} AS {_quoted(c)}" for c, x in {**before, column: sql}.items())
            try:
                engine.execute(f"EXPLAIN SELECT *, {made} FROM {_quoted('whole_' + name)}")
            except Exception as e:
                why = str(e).splitlines()[0]
                raise Refused(f"expectations/{suite.name}.json: derived column '{column}' of {name}: {why}",
                              "mend its SQL; expectations/words.sql has the words", INVALID) from None  # fmt: skip
            before[column] = sql


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
