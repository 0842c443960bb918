"""Great Expectations on DuckDB: the dialect it lacks, with regular expressions and row ids that work."""

from __future__ import annotations

import contextlib
import types
from typing import Literal

from great_expectations.datasource.fluent import SQLDatasource
from great_expectations.execution_engine import SqlAlchemyExecutionEngine


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
