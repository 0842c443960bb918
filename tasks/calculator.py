"""DuckDB as a calculator: in memory, over the Arrow tables handed in, without a way out.

    with calculator() as engine:
        engine.register("labels", labels)
        engine.execute("SELECT …").to_arrow_table()
"""

from __future__ import annotations

import duckdb

Engine = duckdb.DuckDBPyConnection
MEMORY_LIMIT = "1GB"


def calculator() -> Engine:
    """An engine that touches nothing outside, with one thread: two would each warm up every pattern's automaton, and the
    machine has other work (CPU seconds fall by a third). So nothing depends on how many cores there are, either.
    """
    settings = {"memory_limit": MEMORY_LIMIT, "enable_external_access": "false", "threads": "1"}
    engine = duckdb.connect(":memory:", config=settings)
    engine.execute("SET enable_progress_bar = false")  # it would go to stdout
    return engine
