"""Whether a dataset may be trained on: its tables, what suites say about them, what was found, and how that reads.

    expectations/sft.json  ──suites──▶  Suite  ─┐
    data/dataset/parquet/train/sft ──tables──▶ tables in DuckDB, with facts beside them ──GX──▶ findings ──report──▶ reports

Great Expectations runs behind its own door (expectations/engine.py), DuckDB is handed in.
"""

from __future__ import annotations

from dataclasses import dataclass

CRITICAL, WARNING, INFO = "critical", "warning", "info"
SEVERITIES = (CRITICAL, WARNING, INFO)


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one expectation on one table. `rows` are ids of failing rows (the first few), `count` all of them; `code` is
    the reason in a word, `observed` what was seen where no row is to blame."""

    table: str
    severity: str
    passed: bool
    expectation: str
    why: str
    count: int
    rows: list[str]
    code: str
    suite: str
    observed: str
