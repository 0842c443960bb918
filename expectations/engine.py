"""Great Expectations on DuckDB: the dialect it lacks, with regular expressions and row ids that work; and one door to run it.

with checker(Path("tables.duckdb"), {"memory_limit": "1GB"}) as check:
    check("sft", "example_id", [{"type": …, "kwargs": {…}, "severity": …, …}], {"min_rows": 20}, {"origin"}, 10_000)
    -> [Outcome(type="expect_column_values_to_be_unique", passed=False, count=2, rows=["ex_1", "ex_7"], …), …]
"""

from __future__ import annotations

import contextlib
import functools
import logging
import types
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import great_expectations as gx
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.datasource.fluent import SQLDatasource
from great_expectations.execution_engine import SqlAlchemyExecutionEngine

QUERY = "unexpected_rows_expectation"
SHOWN, LONGEST = 5, 300
NUMBER = "number"  # by which an expectation is known again


class NotUnderstood(ValueError):
    """An expectation that Great Expectations doesn't know, or knows otherwise. It leaves out some of these and only logs it."""


class DuckDBExecutionEngine(SqlAlchemyExecutionEngine):
    """One connection, and REGEXP_MATCHES for regular expressions.

    Great Expectations 1.24 knows no DuckDB. Told that the dialect is Dremio's it renders REGEXP_MATCHES(column, pattern),
    which is DuckDB's function for a partial match.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.dialect_module = types.SimpleNamespace(DremioDialect=object)

    @contextlib.contextmanager
    def get_connection(self):
        if self._connection is None or self._connection.closed:
            self._connection = self.engine.connect()
        yield self._connection


class DuckDBDatasource(SQLDatasource):
    """Registers itself as `context.data_sources.add_duckdb(name, connection_string="duckdb:///…")`."""

    type: Literal["duckdb"] = "duckdb"

    @property
    def execution_engine_type(self):
        return DuckDBExecutionEngine


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one expectation. A crash is no pass: `crashed` says why, '' where it ran. `rows` are ids of failing rows,
    each with what was seen there ('' where the expectation doesn't say), as many as were asked for; `count` all of them.
    `observed` is the value that failed where no row is to blame."""

    type: str
    severity: str
    description: str
    code: str
    passed: bool
    crashed: str
    count: int
    rows: list[tuple[str, str]]
    observed: str


Check = Callable[[str, str, list[dict[str, Any]], Mapping[str, Any], Collection[str], int], list[Outcome]]


@contextlib.contextmanager
def checker(database: Path, settings: Mapping[str, str]) -> Iterator[Check]:
    """A function that holds a table of the database against expectations, and gives the ids of at most so many failing rows each.
    `codes` are columns whose values may be shown.

    It raises NotUnderstood for an expectation that is none.
    """
    # It logs what it then reports, every crash of an expectation among it.
    logging.getLogger("great_expectations").setLevel(logging.CRITICAL)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    connecting = {"connect_args": {"config": dict(settings)}}
    source = context.data_sources.add_duckdb("tables", connection_string=f"duckdb:///{database}", kwargs=connecting)

    def check(
        table: str,
        id: str,
        expectations: list[dict[str, Any]],
        parameters: Mapping[str, Any],
        codes: Collection[str],
        most: int,
    ) -> list[Outcome]:
        built = [_built(e, number, table, id) for number, e in enumerate(expectations)]
        asset = source.add_table_asset(f"{table}_{len(source.assets)}", table_name=table)
        batch = asset.add_batch_definition_whole_table("all").get_batch()

        def validated(some: list[Any], form: dict[str, Any]) -> list[Any]:
            suite = gx.ExpectationSuite(name=table, expectations=some)
            found = batch.validate(suite, expectation_parameters=dict(parameters), result_format=form).results
            if len(found) != len(some):
                raise RuntimeError(f"{table}: {len(some)} expectations, {len(found)} results")
            return found

        # Whether it holds is one number of each; ids and values, of which there are a dozen, are asked of the few that don't hold.
        first = validated(built, {"result_format": "BOOLEAN_ONLY"})
        kept = [r for r in first if r.success and not _crash(r.exception_info or {})]
        held = {r.expectation_config.meta[NUMBER] for r in kept}
        form = {"result_format": "COMPLETE", "unexpected_index_column_names": [id], "partial_unexpected_count": most}
        failed = [e for e in built if e.meta[NUMBER] not in held]
        again = validated(failed, form) if failed else []
        with source.get_execution_engine().get_connection() as connection:
            return [_outcome(r, id, codes, most, connection) for r in [*kept, *again]]

    try:
        yield check
    finally:
        source.get_execution_engine().close()


def _built(expectation: dict[str, Any], number: int, table: str, id: str) -> Any:
    """{batch}, {table} and {id} in texts are those of the table at hand. Great Expectations would put a subquery with an alias of
    its own for {batch}, which no query that gives the table a name could take: it gets its {batch} in a comment.
    """
    names = {"{batch}": f'"{table}"', "{table}": table, "{id}": id}
    kwargs = dict(expectation["kwargs"])
    for key, value in kwargs.items():
        if isinstance(value, str):
            kwargs[key] = functools.reduce(lambda text, name: text.replace(name, names[name]), names, value)
    if expectation["type"] == QUERY:
        kwargs["unexpected_rows_query"] += " /* {batch} */"
    meta = {**expectation.get("meta", {}), NUMBER: number}
    try:
        suite = gx.ExpectationSuite(name="one", expectations=[{**expectation, "kwargs": kwargs, "meta": meta}])
    except ValueError as e:  # pydantic's
        raise NotUnderstood(f"{expectation['type']}: {' '.join(str(e).split())}") from None
    if not suite.expectations:
        raise NotUnderstood(f"there is no expectation {expectation['type']}")
    return suite.expectations[0]


def _outcome(result: Any, id: str, codes: Collection[str], most: int, connection: Any) -> Outcome:
    config = result.expectation_config
    details = result.result or {}
    crashed = _crash(result.exception_info or {})
    passed = bool(result.success) and not crashed
    observed = details.get("observed_value")
    count, rows = 0, []
    if not passed and not crashed and config.type == QUERY:
        count, rows = int(observed), _rows(config.kwargs["unexpected_rows_query"], id, most, connection)
        observed = "; ".join(dict.fromkeys(seen for _, seen in rows[:SHOWN] if seen))
        rows = [(row, seen) for row, seen in rows if row]
    elif not passed and not crashed:
        listed = details.get("unexpected_index_list") or []
        rows = sorted({(str(r.get(id)), _seen(r, id, codes)) for r in listed})
        count = int(details.get("unexpected_count") or 0)
    return Outcome(
        type=config.type,
        severity=str(getattr(config.severity, "value", config.severity)),
        description=str(config.description or ""),
        code=str((config.meta or {}).get("code", "")),
        passed=passed,
        crashed=crashed,
        count=count,
        rows=rows,
        observed="" if passed or observed is None else _short(observed),
    )


def _seen(row: Mapping[str, Any], id: str, codes: Collection[str]) -> str:
    """The value that failed, of numbers and codes. Never a text: reports are kept in git, where nothing can be erased."""
    shown = [v for column, v in row.items() if column != id and (column in codes or isinstance(v, int | float))]
    return _short(shown[0]) if shown else ""


def _rows(query: str, id: str, most: int, connection: Any) -> list[tuple[str, str]]:
    """What a query found: its column named like the id, and `observed`; either may be missing."""
    found = query.replace("{{", "{").replace("}}", "}")
    names = connection.exec_driver_sql(f"DESCRIBE {found}").fetchall()
    there = {row[0] for row in names}
    shown = ", ".join(f'CAST("{c}" AS VARCHAR)' if c in there else "''" for c in (id, "observed"))
    rows = connection.exec_driver_sql(f"SELECT DISTINCT {shown} FROM ({found}) ORDER BY ALL LIMIT {most}").fetchall()
    return [(str(row or ""), _short(seen or "")) for row, seen in rows]


def _crash(info: Mapping[str, Any]) -> str:
    """The message of the exception that an expectation raised; '' where it raised none."""
    for one in (info, *(v for v in info.values() if isinstance(v, Mapping))):
        if one.get("raised_exception"):
            return " ".join(str(one.get("exception_message") or "it says not why").split())[:LONGEST]
    return ""


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
