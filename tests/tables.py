"""Datasets made by hand: some rows of every example table, on both sides of the wall, and the labels that they rest on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tasks import shards
from tasks.examples import HOLDOUT, TABLES, Example, example_id
from tasks.frozen import Curated, CuratedJudgement, Dropped
from tasks.records import canonical
from tests.handmade import NOON

SAID = [{"role": "user", "content": "when do I see my money?"}]
TOLD = [{"role": "assistant", "content": "Refunds take five days."}]
CALLED = [
    *SAID,
    {
        "role": "assistant",
        "content": "",
        "weight": 0,
        "tool_calls": [{"id": "1", "type": "function", "function": {"name": "find", "arguments": {"of": 7}}}],
    },
    {"role": "tool", "content": "[1, 2]", "tool_call_id": "1"},
    *TOLD,
]
# Values of nested columns, two shapes of each: what one row has, another row has not.
NESTED: dict[str, tuple[Any, Any]] = {
    "messages": ([*SAID, *TOLD], CALLED),
    "prompt": (SAID, CALLED[:3]),
    "chosen": (TOLD, TOLD),
    "rejected": (TOLD, CALLED[1:2]),
    "completion": (TOLD, TOLD),
    "contexts": ([], [{"id": "d1", "text": "Five days.", "score": 0.5}]),
    "checks": ([{"check": "action", "value": "refund"}], [{"check": "schema", "value": {"type": "object"}}]),
    "policies": ([], ["promises"]),
    "spans": ([], [{"start": 0, "end": 4, "label": "unsupported"}]),
    "tokens": (["Five", "days"], ["Six"]),
    "tags": (["O", "O"], ["B-unsupported"]),
    "labels": (["refund"], ["refund", "delay"]),
    "scores": ({"tone": 4}, {"facts": 2}),
    "offered": ([], [{"text": "Five days.", "right": True}]),
}
PLAIN = {"str": "words", "int": 1, "float": 0.5, "bool": True}
ABOUT = {
    "name": "Support",
    "description": "",
    "source": "a bicycle shop's help desk",
    "license": "other",
    "license_link": "",
    "contact": "data@example.org",
}


def example(table: str, n: int, **changes: Any) -> Example:
    """The n-th row of a table."""
    row = TABLES[table].row
    values: dict[str, Any] = {
        f.name: canonical(NESTED[f.name][n % 2]).decode() if f.type == "Json" else PLAIN[str(f.type)]
        for f in dataclasses.fields(row)
    }
    values |= {
        "example_id": example_id(table, str(n)),
        "interaction_id": f"ix_{n}",
        "beside": "",
        "group_id": f"gr_{n // 2}",
        "arrived": NOON + n * 1_000_000,
        "origin": ("correction", "agreed")[n % 2],
        "author": ("person", "approved")[n % 2],
        "topic": ("billing", "bike", "billing")[n % 3],
        "language": ("en", "en", "de")[n % 3],
        "guideline": "answer/1",
    }
    if "tools" in values:
        values["tools"] = "[]"
    return row(**values | changes)


def write_dataset(folder: Path, rows: int, of: Callable[[str, int], Example] = example, dropped: Iterable[Dropped] = ()) -> None:
    """`rows` rows of every table: every third is sealed where a table has both sides."""
    for name, table in TABLES.items():
        made = [of(name, n) for n in range(rows)]
        for side in table.sides:
            here = [r for n, r in enumerate(made) if len(table.sides) == 1 or (n % 3 == 2) == (side == HOLDOUT)]
            shards.write_rows(folder / "parquet" / side / name, table.row, here, folder / "jsonl" / side / name, table.trains)
    shards.write_rows(folder / "parquet" / "dropped", Dropped, dropped)


def refused(n: int, reason: str) -> Dropped:
    return Dropped(dropped_id=f"dr_{n}", arrived=NOON + n, interaction_id=f"ix_{n}", stage="build", reason=reason, met="")


def label(n: int, **changes: Any) -> Curated:
    """The label that the n-th rows rest on: two of three people agreed."""
    values: dict[str, Any] = {
        f.name: "[]" if f.type == "Json" else PLAIN[str(f.type)] for f in dataclasses.fields(Curated)
    }
    values |= {
        "interaction_id": f"ix_{n}",
        "arrived": NOON + n * 1_000_000,
        "verdict": "wrong",
        "target": "refund",
        "annotators": canonical([["ana", "ben"], ["ana", "cem"]][n % 2]).decode(),
        "guideline": "answer/1",
    }
    return Curated(**values | changes)


def write_labels(folder: Path, rows: Iterable[Curated]) -> None:
    shards.write_rows(folder / "labels", Curated, rows)
    shards.write_rows(folder / "judgements", CuratedJudgement, [])
    shards.write_rows(folder / "dropped", Dropped, [])
