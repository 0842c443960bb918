"""validate: every suite in expectations/ against its table, inside DuckDB; a critical breach stops the snapshot.

    data/frozen · data/curated · data/dataset/parquet  ->  validation.json    what was checked, and what failed (ids, no texts)
                                                           validation.md      the same to read, failures first
                                                           quarantine.jsonl   every failing row with its reason
                                                           profile.json       what each column looks like, for the next snapshot

A crash of an expectation is a failure, whatever its severity; warnings pass and are shown.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import orjson

from tasks.calculator import Engine
from tasks.errors import INVALID, Refused
from tasks.params import load
from tasks.profile import compared, kinds, profile
from tasks.records import canonical, write_jsonl
from tasks.stages import PARAMS, run
from tasks.validation import CRITICAL, Finding, facts, personal, report, suites, tables, wall
from tasks.validation.suites import Suite

SUITES = Path(__file__).resolve().parents[2] / "expectations"
SHOWN_ROWS = 20
MEMORY = "1GB"  # beyond it DuckDB goes to the disk
THREADS = 1  # as the calculator has it: two cost more CPU, and the machine has other work
# Suites may read these as {"$PARAMETER": …} or, in a query, as (SELECT … FROM parameters).
NUMBERS = ("min_votes", "min_alpha", "max_tokens", "max_share", "max_class_share", "passage_words", "passage_share")


@dataclass(frozen=True, slots=True)
class ValidateParams:
    """`min_rows`: "table: rows" of the tables that must not be empty; `drift_*`: from when on a column has changed since the
    snapshot before; `quarantine`: failing rows that are written, of one expectation. The others are numbers that suites read."""

    min_rows: list[str]
    min_votes: int
    min_alpha: float
    max_tokens: int
    max_share: float
    max_class_share: float
    passage_words: int
    passage_share: float
    drift_psi: float
    drift_alpha: float
    drift_rows: int
    quarantine: int


def validate(
    frozen: Path, curated: Path, dataset: Path, report: Path, page: Path, profile: Path, quarantine: Path
) -> None:
    """Check every table, write the reports, then refuse where a critical expectation failed."""
    params = load(PARAMS, "validate", ValidateParams)
    places = tables.places(frozen, curated, dataset)
    listed = suites.read(SUITES, places)
    needed = facts.minimums(params.min_rows, places)
    checked = examine(listed, places, frozen, needed, params)
    _write(checked, report, page, profile, quarantine)
    broken = [f for f in checked.findings if not f.passed and f.severity == CRITICAL]
    if broken:
        first = broken[0]
        raise Refused(
            f"validation failed: {len(broken)} critical of {len(checked.findings)} expectations; first: {first.table}:"
            f" not so: {first.why} ({first.code}; {first.count} rows: {', '.join(first.rows[:3]) or first.observed})",
            f"read {page}; every failing row is in {quarantine}; nothing was published",
            INVALID,
        )


@dataclass(frozen=True, slots=True)
class Checked:
    """`quarantined` are failing rows as they are written; `tables` the rows of each table."""

    findings: list[Finding]
    quarantined: list[dict[str, Any]]
    tables: dict[str, int]
    profiles: dict[str, Any]


def examine(
    listed: list[Suite], places: Mapping[str, Path], frozen: Path, needed: Mapping[str, int], params: ValidateParams,
    only: Collection[str] = (),
) -> Checked:  # fmt: skip
    """Hold every table (or `only` some, beside all the others) against its suites; `needed` are the rows that each must have."""
    numbers = {n: getattr(params, n) for n in NUMBERS}
    settings = {"memory_limit": MEMORY, "threads": str(THREADS)}
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "tables.duckdb"
        with duckdb.connect(str(database), config=settings) as engine:
            engine.execute("SET enable_progress_bar = false")
            engine.execute((SUITES / "words.sql").read_text(encoding="utf-8"))
            facts.parameters(engine, numbers, needed)
            loaded, findings = _loaded(engine, listed, places)
            profiles = _profiles(engine, listed, loaded)
            before = orjson.loads((frozen / "baseline.json").read_bytes())
            facts.changes(engine, compared(before, profiles, params.drift_psi, params.drift_alpha, params.drift_rows))
            facts.known(engine, frozen)
            asking = {t for s in listed for t in s.tables if "asked" in s.derived}
            wall.look(engine, *wall.sides(places, asking), params.passage_words)
            ours = personal.given(frozen / "catalogue.jsonl")
            for suite in listed:
                for table in suite.tables if suite.columns else ():
                    personal.look(engine, table, suite, ours)
        looked = {n: x for n, x in loaded.items() if n in (only or loaded)}
        found, quarantined = _run(database, settings, listed, looked, needed, numbers, params.quarantine)
    return Checked(_ordered([*findings, *found]), quarantined, {n: x.rows for n, x in loaded.items()}, profiles)


def _loaded(
    engine: Engine, listed: list[Suite], places: Mapping[str, Path]
) -> tuple[dict[str, tables.Loaded], list[Finding]]:
    loaded, findings = {}, []
    for name in sorted({t for s in listed for t in s.tables}):
        loaded[name], shape = tables.load(engine, name, places[name], listed)
        findings += shape
    return loaded, findings


def _profiles(engine: Engine, listed: list[Suite], loaded: Mapping[str, tables.Loaded]) -> dict[str, Any]:
    found = {}
    for suite in listed:
        for name in suite.tables if suite.columns else ():
            group = "group_id" if "group_id" in suite.columns else ""
            found[name] = (
                profile(engine, f"whole_{name}", kinds(suite.columns, suite.slices), group)
                if loaded[name].sound
                else {}
            )
    return {n: p for n, p in sorted(found.items()) if p}


def _run(
    database: Path, settings: Mapping[str, str], listed: list[Suite], loaded: Mapping[str, tables.Loaded],
    needed: Mapping[str, int], numbers: Mapping[str, int | float], most: int,
) -> tuple[list[Finding], list[dict[str, Any]]]:  # fmt: skip
    """Every suite against its tables. Of a table that may be empty and is, there is nothing to say."""
    from expectations.engine import NotUnderstood, checker

    findings, quarantined = [], []
    with checker(database, settings) as check:
        for suite in listed:
            for table in suite.tables:
                if table not in loaded or not loaded[table].sound or not (loaded[table].rows or needed[table]):
                    continue
                parameters = {**numbers, "min_rows": needed[table]}
                codes = {*suite.slices, "nulls", "malformed", "turns"}
                try:
                    outcomes = check(table, suite.id, suite.expectations, parameters, codes, most)
                except NotUnderstood as e:
                    raise Refused(
                        f"expectations/{suite.name}.json: {e}", "mend the expectation that it names", INVALID
                    ) from None
                for o in outcomes:
                    empty = o.code == "too_few_rows" and not loaded[table].rows
                    finding = Finding(
                        table, CRITICAL if o.crashed else o.severity, o.passed, o.type,
                        f"{o.description} (the check itself crashed)" if o.crashed else o.description, o.count,
                        [row for row, _ in o.rows[:SHOWN_ROWS]], "empty_table" if empty else o.code, suite.name,
                        o.crashed or o.observed,
                    )  # fmt: skip
                    findings.append(finding)
                    quarantined += [
                        {"table": table, "row": row, "code": finding.code, "severity": finding.severity, "why": finding.why,
                         "seen": seen, "suite": suite.name}
                        for row, seen in o.rows
                    ]  # fmt: skip
    return findings, quarantined


def _ordered(findings: Iterable[Finding]) -> list[Finding]:
    order = {"critical": 0, "warning": 1, "info": 2}
    return sorted(findings, key=lambda f: (f.passed, order[f.severity], f.table, f.code, f.suite, f.why))


def _write(checked: Checked, place: Path, page: Path, profile: Path, quarantine: Path) -> None:
    document = report.document(checked.findings, checked.tables, checked.quarantined)
    for path in (place, page, profile, quarantine):
        path.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(canonical(document) + b"\n")
    page.write_text(report.as_markdown(document), encoding="utf-8")
    profile.write_bytes(canonical(checked.profiles) + b"\n")
    write_jsonl(quarantine, sorted(checked.quarantined, key=lambda r: (r["table"], r["row"], r["code"], r["suite"])))


def main(argv: list[str] | None = None) -> int:
    return run(validate, ("frozen", "curated", "dataset", "report", "page", "profile", "quarantine"), argv)


if __name__ == "__main__":
    sys.exit(main())
