"""Personal data in a finished dataset: which rows hold what redaction would still take out.

    personal_data      name, id, types      "sft", "ex_5c0e…", "EMAIL, PHONE"

One pass of RE2 over the memory of many texts at once says which rows may hold any; those few are looked at exactly, string by
string. What stands in an approved answer, a hotline for one, is ours to give and no person's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import re2

from tasks.calculator import Engine
from tasks.records import Approved, read_records
from tasks.redact.text import ROOMY, SCREEN, redacted
from tasks.validation.suites import Suite

BATCH = 8192
DEPTH = 3  # of JSON text within JSON text
_SCREEN = re2.compile(SCREEN.encode(), ROOMY)


def look(engine: Engine, name: str, suite: Suite, ours: set[tuple[str, str]]) -> None:
    """Add the rows of one table to `personal_data`. `ours` is what may stand there all the same (see `given`)."""
    engine.execute("CREATE TABLE IF NOT EXISTS personal_data (name VARCHAR, id VARCHAR, types VARCHAR)")
    columns = [c for c, kind in suite.columns.items() if kind == "JSON" or c in suite.texts]
    if not columns:
        return
    # Each text begins on a line of its own: what has to begin a text or follow a space is seen in the middle of a block too.
    texts = " || chr(10) || ".join(f"""coalesce("{c}", '')""" for c in columns)
    blocks = engine.execute(
        f"""SELECT "{suite.id}" AS id, chr(10) || bare({texts}) AS text FROM "whole_{name}" """
    ).to_arrow_reader(BATCH)
    suspects = [id for block in blocks for id in _suspects(block)]
    if not suspects:
        return
    engine.register("suspects", pa.table({"id": pa.array(suspects, pa.string())}))
    shown = ", ".join(f'"{c}"' for c in columns)
    rows = engine.execute(
        f"""SELECT "{suite.id}", {shown} FROM "whole_{name}" WHERE "{suite.id}" IN (SELECT id FROM suspects)"""
    )
    found: dict[str, set[str]] = {}
    while some := rows.fetchmany(BATCH):
        for id, *values in some:
            if types := {type for type, value in personal(_strings(values)) if (type, value) not in ours}:
                found.setdefault(id, set()).update(types)
    engine.unregister("suspects")
    listed = [{"name": name, "id": id, "types": ", ".join(sorted(types))} for id, types in sorted(found.items())]
    if listed:
        engine.register("handed_in", pa.Table.from_pylist(listed))
        engine.execute("INSERT INTO personal_data SELECT name, id, types FROM handed_in")
        engine.unregister("handed_in")


def given(catalogue: Path) -> set[tuple[str, str]]:
    """What looks like personal data in approved answers."""
    return personal(text for a in read_records(catalogue, Approved) for text in (a.text, a.title, a.source))


def personal(texts: Iterable[str]) -> set[tuple[str, str]]:
    """(type, value) of what redaction would take out of the texts."""
    found: set[tuple[str, str]] = set()

    def note(type: str, value: str) -> str:
        found.add((type, value))
        return f"[{type}_000000]"

    for text in texts:
        redacted(text, note)
    return found


def _suspects(block: pa.RecordBatch) -> list[str]:
    """Ids of rows whose text may hold personal data."""
    texts = block.column(1)
    _, places, memory = texts.cast(pa.large_string()).buffers()
    ends = np.frombuffer(places, np.int64)[: len(texts) + 1]
    data = memory.to_pybytes() if memory is not None else b""
    ids, at, rows = block.column(0), 0, []
    while at < ends[-1] and (met := _SCREEN.search(data, at)) is not None:
        # What begins at the end of one text and ends in the next is of the first; the next is looked at from its own beginning.
        row = int(np.searchsorted(ends, met.start(), "right")) - 1
        rows.append(row)
        at = int(ends[row + 1])
    return ids.take(pa.array(rows, pa.int64())).to_pylist()


def _strings(values: Iterable[str | None]) -> Iterator[str]:
    """Every string in texts and in JSON texts; what a tool was called with is JSON text within JSON text."""
    for value in values:
        if value:
            yield from _within(value, 0)


def _within(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
        if value[:1] in ("[", "{") and depth < DEPTH:
            with contextlib.suppress(orjson.JSONDecodeError):
                yield from _within(orjson.loads(value), depth + 1)
    elif isinstance(value, list):
        for v in value:
            yield from _within(v, depth)
    elif isinstance(value, dict):
        for k, v in value.items():
            yield k
            yield from _within(v, depth)
