"""validate: every suite in expectations/ against its table, inside DuckDB; a critical breach stops the snapshot.

A suite is a JSON file: Great Expectations' own layout, and in its `meta` the table, the columns and the id column.
    {"name": "sft", "meta": {"table": "sft", "id": "example_id", "columns": {"example_id": "VARCHAR", …}}, "expectations": […]}
A crash of an expectation is a failure, whatever its severity; warnings pass and are shown.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from tasks.errors import INVALID, Refused
from tasks.params import load
from tasks.records import canonical
from tasks.stages import PARAMS, run

SHOWN_ROWS = 20
SUITES = Path(__file__).resolve().parents[2] / "expectations"


@dataclass(frozen=True, slots=True)
class ValidateParams:
    """Numbers that suites refer to as {"$PARAMETER": "min_sft_rows"}."""

    min_labels: int
    min_sft_rows: int
    min_preference_rows: int
    min_holdout_rows: int


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one expectation. `rows` are ids of failing rows (the first few), `count` all of them."""

    table: str
    severity: str
    passed: bool
    expectation: str
    why: str
    count: int
    rows: list[str]


def validate(curated: Path, dataset: Path, report: Path, page: Path) -> None:
    """Check every table, write the report, then refuse where a critical expectation failed."""
    params = load(PARAMS, "validate", ValidateParams)
    suites = [orjson.loads(p.read_bytes()) for p in sorted(SUITES.glob("*.json"))]
    if not suites:
        raise Refused(f"{SUITES} holds no suite", "git checkout -- expectations", INVALID)
    files = {p.stem: p for folder in (curated, dataset) for p in sorted(folder.glob("*.jsonl"))}
    findings = _check(suites, files, {f: getattr(params, f) for f in params.__slots__})
    broken = [f for f in findings if not f.passed and f.severity == "critical"]
    document = {
        "success": not broken,
        "checked": len(findings),
        "failed": {
            s: sum(1 for f in findings if not f.passed and f.severity == s) for s in ("critical", "warning", "info")
        },
        "findings": [{s: getattr(f, s) for s in f.__slots__} for f in findings],
    }
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_bytes(canonical(document) + b"\n")
    page.write_text(as_page(document), encoding="utf-8")
    if broken:
        first = broken[0]
        raise Refused(
            f"validation failed: {len(broken)} critical of {len(findings)} expectations; first: {first.table}: {first.why}"
            f" ({first.count} rows, {', '.join(first.rows[:3])})",
            f"read {page}; nothing was published",
            INVALID,
        )


def as_page(document: dict[str, Any]) -> str:
    """The report as Markdown: failures first, then what was checked."""
    verdict = "passed" if document["success"] else "FAILED, nothing was published"
    lines = [f"# Validation {verdict}", "", f"{document['checked']} expectations. Failed: {document['failed']}.", ""]
    lines += ["| | table | severity | what must hold | failing rows |", "|---|---|---|---|---|"]
    for f in sorted(document["findings"], key=lambda f: (f["passed"], f["severity"] != "critical", f["table"])):
        rows = f"{f['count']}: {', '.join(f['rows'][:5])}" if not f["passed"] else ""
        cells = ("ok" if f["passed"] else "**FAIL**", f["table"], f["severity"], f["why"], rows)
        lines.append("| " + " | ".join(str(c).replace("|", "\\|").replace("\n", " ") for c in cells) + " |")
    return "\n".join(lines) + "\n"


def _check(suites: list[dict[str, Any]], files: dict[str, Path], parameters: dict[str, Any]) -> list[Finding]:
    import duckdb

    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "tables.duckdb"
        with duckdb.connect(str(database)) as engine:
            for suite in suites:
                meta = suite["meta"]
                if meta["table"] not in files:
                    raise Refused(
                        f"suite {suite['name']}: no table '{meta['table']}' among {', '.join(files)}",
                        f"mend 'table' in expectations/{suite['name']}.json, or run dvc repro build",
                        INVALID,
                    )
                # A view cannot hold parameters, so the names are quoted here; they come from our own suites and folders.
                columns = ", ".join(f"'{name}': '{kind}'" for name, kind in meta["columns"].items())
                path = str(files[meta["table"]]).replace("'", "''")
                engine.execute(
                    f"""CREATE VIEW {meta["table"]} AS SELECT * FROM read_json('{path}', columns={{{columns}}},"""
                    """ format='newline_delimited', maximum_object_size=67108864)"""
                )
        context = _context()
        return [f for suite in suites for f in _run_suite(context, suite, database, parameters)]


def _context() -> Any:
    """An ephemeral context that knows DuckDB and draws no progress bars."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    import expectations.engine  # noqa: F401  (importing it registers add_duckdb)

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    return context


def _run_suite(context: Any, suite: dict[str, Any], database: Path, parameters: dict[str, Any]) -> list[Finding]:
    import great_expectations as gx

    meta = suite["meta"]
    source = context.data_sources.add_duckdb(suite["name"], connection_string=f"duckdb:///{database}")
    asset = source.add_query_asset(meta["table"], query=f"SELECT * FROM {meta['table']}")
    batch = asset.add_batch_definition_whole_table("all").get_batch()
    result = batch.validate(
        gx.ExpectationSuite(name=suite["name"], expectations=suite["expectations"]),
        expectation_parameters=parameters,
        result_format={"result_format": "COMPLETE", "unexpected_index_column_names": [meta["id"]]},
    )
    findings = [_finding(meta, r) for r in result.results]
    if len(findings) != len(suite["expectations"]):
        raise RuntimeError(f"suite {suite['name']}: {len(suite['expectations'])} expectations, {len(findings)} results")
    return sorted(findings, key=lambda f: (f.severity, f.expectation, f.why))


def _finding(meta: dict[str, Any], result: Any) -> Finding:
    config = result.expectation_config
    details = result.result or {}
    crashed = (result.exception_info or {}).get("raised_exception") or any(
        isinstance(e, dict) and e.get("raised_exception") for e in (result.exception_info or {}).values()
    )
    rows = [str(r.get(meta["id"])) for r in details.get("unexpected_index_list") or []]
    rows += [str(r.get(meta["id"], r)) for r in (details.get("details") or {}).get("unexpected_rows") or []]
    why = config.description or f"{config.type} {config.kwargs.get('column', '')}".strip()
    return Finding(
        table=meta["table"],
        severity="critical" if crashed else str(getattr(config.severity, "value", config.severity)),
        passed=bool(result.success) and not crashed,
        expectation=config.type,
        why=f"{why} (the check itself crashed)" if crashed else why,
        count=0 if result.success else int(details.get("unexpected_count") or len(rows) or 0),
        rows=sorted(rows)[:SHOWN_ROWS],
    )


def main(argv: list[str] | None = None) -> int:
    return run(validate, ("curated", "dataset", "report", "page"), argv)


if __name__ == "__main__":
    sys.exit(main())
