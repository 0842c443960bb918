"""Suites: JSON files that say what must hold of a table. Great Expectations' own layout; `meta` says of which table, and how to
read it.

    {"name": "sft", "meta": {"tables": ["sft"], "id": "example_id", "columns": {"example_id": "VARCHAR", …, "messages": "JSON"},
                             "includes": ["example", "wall"], "slices": ["topic"], "texts": ["action"],
                             "derived": {"turns": "roles(messages)"}},
     "expectations": [{"type": …, "kwargs": {…}, "severity": "critical", "description": "why", "meta": {"code": "no_answer"}}]}

`includes` names files of expectations/common: what is true of many tables is said once. `derived` are SQL expressions over a row,
and then columns like any other. One suite a table declares its `columns`; others may add to it. {table} and {id} stand for the
table at hand.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from tasks.errors import INVALID, Refused
from tasks.validation import SEVERITIES

FREEZE, EVOLVE, DISCARD = "freeze", "evolve", "discard"
# What becomes of a column that nobody declared: it is refused; it is kept, with a warning; it is left out, and said.
CONTRACTS = {FREEZE: "critical", EVOLVE: "warning", DISCARD: "info"}
TYPES = ("VARCHAR", "BIGINT", "DOUBLE", "BOOLEAN", "JSON")
_META = {"tables", "id", "columns", "nullable", "contract", "includes", "slices", "texts", "derived"}


@dataclass(frozen=True, slots=True)
class Suite:
    """One file. `expectations` are as Great Expectations reads them, those of `includes` first; `contract` is about columns that
    nobody declared; `slices` are columns of codes, whose shares are watched; `texts` those of text beside the JSON ones."""

    name: str
    tables: tuple[str, ...]
    id: str
    columns: dict[str, str]
    nullable: tuple[str, ...]
    contract: str
    slices: tuple[str, ...]
    texts: tuple[str, ...]
    derived: dict[str, str]
    expectations: list[dict[str, Any]]


def read(folder: Path, known: Collection[str]) -> list[Suite]:
    """Every suite of a folder, about tables that are `known`. Raises Refused for a file that can't be read as one."""
    found = [_suite(path, folder) for path in sorted(folder.glob("*.json"))]
    if not found:
        raise Refused(f"{folder} holds no suite", f"git checkout -- {folder.name}", INVALID)
    declared: dict[str, str] = {}
    for suite in found:
        for table in suite.tables:
            if table not in known:
                raise _bad(suite.name, f"there is no table '{table}'", f"one of {', '.join(sorted(known))}")
            if suite.columns and (other := declared.setdefault(table, suite.name)) != suite.name:
                raise _bad(
                    suite.name,
                    f"the columns of '{table}' are declared by {other}.json already",
                    "leave 'columns' out here",
                )
    for suite in found:
        for table in suite.tables:
            if table not in declared:
                raise _bad(suite.name, f"nobody declares the columns of '{table}'", "add 'columns' to its meta")
    _distinct(found)
    return found


def _distinct(suites: list[Suite]) -> None:
    """Raises Refused where two suites of a table derive a column of one name in two ways, or one that is declared already."""
    columns = {(t, c): s.name for s in suites for t in s.tables for c in s.columns}
    derived: dict[tuple[str, str], tuple[str, str]] = {}
    for suite in suites:
        for table in suite.tables:
            for column, sql in suite.derived.items():
                other, said = derived.setdefault((table, column), (suite.name, sql))
                taken = columns.get((table, column)) or (other if said != sql else "")
                if taken:
                    why = f"'{column}' of '{table}' is said by {taken}.json already"
                    raise _bad(suite.name, why, "derive it under another name")


def _suite(path: Path, folder: Path) -> Suite:
    document = _document(path, {"name", "meta", "expectations", "notes", "id"})
    meta = document.get("meta")
    if not isinstance(meta, dict):
        raise _bad(path.stem, "it has no 'meta'", "add meta: {tables: [...], id: ...}")
    if unknown := sorted(set(meta) - _META):
        raise _bad(path.stem, f"meta has no key '{unknown[0]}'", f"keys: {', '.join(sorted(_META))}")
    for key in ("tables", "includes", "slices", "texts", "nullable"):
        if not isinstance(meta.get(key, []), list) or not all(isinstance(v, str) for v in meta.get(key, [])):
            raise _bad(path.stem, f"meta.{key} is no list of names", f"write it as [{key[:-1]}, …]")
    for key in ("columns", "derived"):
        if not isinstance(meta.get(key, {}), dict) or not all(isinstance(v, str) for v in meta.get(key, {}).values()):
            raise _bad(path.stem, f"meta.{key} is no object of texts", f"write it as {{column: …}}, or leave {key} out")
    if not meta.get("tables") or not isinstance(meta.get("id"), str):
        raise _bad(path.stem, "meta names no 'tables', or no 'id' column", 'add "tables": ["sft"], "id": "example_id"')
    for column, kind in meta.get("columns", {}).items():
        if kind not in TYPES:
            raise _bad(path.stem, f"column '{column}' is of no type {kind!r}", f"one of {', '.join(TYPES)}")
    contract = meta.get("contract", FREEZE)
    if contract not in CONTRACTS:
        raise _bad(path.stem, f"contract is {contract!r}", f"one of {', '.join(CONTRACTS)}")
    derived, expectations = {}, []
    for name in meta.get("includes", []):
        common = folder / "common" / f"{name}.json"
        if not common.is_file():
            there = ", ".join(p.stem for p in sorted(common.parent.glob("*.json")))
            raise _bad(path.stem, f"there is nothing to include as '{name}'", f"one of {there}")
        shared = _document(common, {"about", "derived", "expectations"})
        derived |= shared.get("derived", {})
        expectations += _expectations(f"common/{name}", shared)
    return Suite(
        name=path.stem,
        tables=tuple(meta["tables"]),
        id=meta["id"],
        columns=meta.get("columns", {}),
        nullable=tuple(meta.get("nullable", [])),
        contract=contract,
        slices=tuple(meta.get("slices", [])),
        texts=tuple(meta.get("texts", [])),
        derived=derived | meta.get("derived", {}),
        expectations=expectations + _expectations(path.stem, document),
    )


def _document(path: Path, keys: set[str]) -> dict[str, Any]:
    try:
        document = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as e:
        raise _bad(path.stem, f"it is not JSON ({e})", "mend it, or git checkout it") from None
    if not isinstance(document, dict) or (unknown := sorted(set(document) - keys)):
        raise _bad(path.stem, f"a suite has no key '{unknown[0]}'" if isinstance(document, dict) else "it is no object",
                   f"keys: {', '.join(sorted(keys))}")  # fmt: skip
    return document


def _expectations(name: str, document: dict[str, Any]) -> list[dict[str, Any]]:
    listed = document.get("expectations")
    if not isinstance(listed, list):
        raise _bad(name, "it has no list of 'expectations'", 'add "expectations": [...]')
    for number, e in enumerate(listed, 1):
        if not isinstance(e, dict) or not isinstance(e.get("type"), str) or not isinstance(e.get("kwargs"), dict):
            raise _bad(
                name, f"expectation {number} has no 'type' or no 'kwargs'", '{"type": "expect_…", "kwargs": {…}, …}'
            )
        if e.get("severity") not in SEVERITIES:
            raise _bad(
                name,
                f"expectation {number} ({e['type']}) is of severity {e.get('severity')!r}",
                f"one of {', '.join(SEVERITIES)}",
            )
        if not e.get("description"):
            raise _bad(
                name,
                f"expectation {number} ({e['type']}) doesn't say what must hold",
                "add 'description', in a sentence",
            )
        if not isinstance(e.get("meta"), dict) or not isinstance(e["meta"].get("code"), str):
            raise _bad(
                name, f"expectation {number} ({e['type']}) has no code", 'add "meta": {"code": "a_word_for_the_reason"}'
            )
    return listed


def _bad(name: str, why: str, fix: str) -> Refused:
    return Refused(f"expectations/{name}.json: {why}", fix, INVALID)
