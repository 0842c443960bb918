"""One module an export dialect: rows of a dataset become the files that another tool reads.

    Supervised(example_id="ex_1", messages='[{"role":"user",…},{"role":"assistant",…}]', …)
    ->  Said("sft.jsonl", {"messages": […], "tools": […]})        or CannotSay("media"), which is counted under its reason

A dialect module has NAME, WHAT (a sentence), READS (side -> tables), `line(table, row)`, and `beside(files)`: the small files that
come with the lines, by name, for the files that have lines ({name: rows}). `UNIQUE`, where it has one, tells the part of a line
that the target keys its records by.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType

import orjson

from tasks.errors import Refused
from tasks.examples import Example
from tasks.exports import (
    alpaca,
    axolotl,
    inspect_samples,
    llamafactory,
    lm_eval,
    mlflow_records,
    openai_dpo,
    openai_rft,
    openai_sft,
    promptfoo,
)
from tasks.exports.said import CannotSay

DIALECTS: dict[str, ModuleType] = {
    m.NAME: m
    for m in (
        openai_sft, openai_dpo, openai_rft, llamafactory, alpaca, axolotl, inspect_samples, promptfoo, lm_eval, mlflow_records,
    )
}  # fmt: skip


@dataclass(slots=True)
class Account:
    """Every row that was read is in a file or left out. `tables`: rows read of each; `left_out`: {table: {reason: rows}};
    `without`: what rows in a file no longer say, {table: {what: rows}}; `examples`: the id of one row for each of both."""

    rows: int = 0
    tables: Counter[str] = field(default_factory=Counter)
    files: Counter[str] = field(default_factory=Counter)
    left_out: dict[str, Counter[str]] = field(default_factory=dict)
    without: dict[str, Counter[str]] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)


def dialect(name: str) -> ModuleType:
    """Raises Refused for a name that is none."""
    if name not in DIALECTS:
        raise Refused(f"there is no export format {name!r}", f"flywheel export {'|'.join(DIALECTS)}")
    return DIALECTS[name]


def lines(to: ModuleType, rows: Iterable[tuple[str, Example]], account: Account) -> Iterator[tuple[str, bytes]]:
    """(table, row) in, (file name, one line) out, one at a time; what is left out goes into the account."""
    unique = getattr(to, "UNIQUE", None)
    seen: set[bytes] = set()
    for table, row in rows:
        account.rows += 1
        account.tables[table] += 1
        try:
            said = to.line(table, row)
            if unique is not None:
                key = said.file.encode() + hashlib.md5(orjson.dumps(unique(said.document)), usedforsecurity=False).digest()
                if key in seen:
                    raise CannotSay("same_prompt_twice")
                seen.add(key)
        except CannotSay as e:
            account.left_out.setdefault(table, Counter())[e.reason] += 1
            account.examples.setdefault(f"{table}/{e.reason}", row.example_id)
            continue
        for what in said.without:
            account.without.setdefault(table, Counter())[what] += 1
            account.examples.setdefault(f"{table}/{what}", row.example_id)
        account.files[said.file] += 1
        yield said.file, orjson.dumps(said.document) + b"\n"


def beside(to: ModuleType, files: Mapping[str, int]) -> dict[str, bytes]:
    """The small files of an export, by name."""
    return to.beside(files) if hasattr(to, "beside") else {}
