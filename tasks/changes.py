"""What changed between two versions of a dataset: rows added, removed, changed, by where they come from; labels that flipped.

    compare("sft", "train", old, new) -> TableChange(added=12, removed=3, changed=1, slices={"topic": {"billing": {"added": 9}, …

Only the shards that differ need to be handed in: a row of a shard that both versions have is in both, and unchanged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

ADDED, REMOVED, CHANGED = "added", "removed", "changed"
HOW = (ADDED, REMOVED, CHANGED)
# The slices of a row, as people call them. Annotators stand beside the rows: the caller knows who gave the label of an interaction.
SLICES = {"source": "origin", "author": "author", "topic": "topic", "language": "language", "guideline": "guideline"}
ANNOTATOR = "annotator"
EXAMPLES = 5
SHOWN = 8  # values of a slice in a text

People = Callable[[str, pa.Table], Iterable[Iterable[str]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableChange:
    """Of one table on one side. `rows` before and after, None unknown; `columns` in how many rows each column changed; `slices`
    [slice][value][added, removed or changed]; `examples` some ids of each."""

    table: str
    side: str
    rows: tuple[int | None, int | None]
    added: int
    removed: int
    changed: int
    columns: dict[str, int] = field(default_factory=dict)
    slices: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def any(self) -> bool:
        return bool(self.added or self.removed or self.changed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flips:
    """Labels of the same interaction that say something else now: how many, of how many that both versions have, by
    [from, to, times], some ids."""

    kind: str
    flipped: int
    turns: list[tuple[str, str, int]] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Between the versions named `before` and `after`. `params` are [key, before, after]; `unknown` why data could not be compared
    ('' where it was); `read` how many of how many files of data were looked into."""

    before: str
    after: str
    tables: list[TableChange] = field(default_factory=list)
    flips: list[Flips] = field(default_factory=list)
    params: list[tuple[str, Any, Any]] = field(default_factory=list)
    read: tuple[int, int] = (0, 0)
    unknown: str = ""

    @property
    def added(self) -> int:
        return sum(t.added for t in self.tables)

    @property
    def removed(self) -> int:
        return sum(t.removed for t in self.tables)

    @property
    def changed(self) -> int:
        return sum(t.changed for t in self.tables)


def compare(
    table: str,
    side: str,
    old: pa.Table,
    new: pa.Table,
    rows: tuple[int | None, int | None] = (None, None),
    people: People | None = None,
) -> TableChange:
    """Compare rows by their first column, which is their id. `people("old", rows)` says who gave the label of each."""
    key = new.schema.names[0]
    old, new = old.combine_chunks(), new.combine_chunks()
    was = pc.index_in(new[key], value_set=old[key])
    met = new.filter(pc.is_valid(was))
    before = old.take(pc.drop_null(was))
    differs = {c: _differs(before[c], met[c]) for c in new.schema.names}
    different = _any(list(differs.values()), met.num_rows)
    parts = {
        ADDED: new.filter(pc.is_null(was)),
        REMOVED: old.filter(pc.invert(pc.is_in(old[key], value_set=new[key]))),
        CHANGED: met.filter(different),
    }
    columns = {c: pc.sum(d).as_py() or 0 for c, d in differs.items()}
    return TableChange(
        table=table,
        side=side,
        rows=rows,
        **{how: part.num_rows for how, part in parts.items()},
        columns={c: n for c, n in columns.items() if n},
        slices=_slices(parts, people),
        examples={how: part[key][:EXAMPLES].to_pylist() for how, part in parts.items() if part.num_rows},
    )


def flips(kind: str, old: pa.Table, new: pa.Table, says: Iterable[str]) -> Flips:
    """Rows with the same id of which one of the columns `says` says something else."""
    key, says = new.schema.names[0], list(says)
    old, new = old.combine_chunks(), new.combine_chunks()
    was = pc.index_in(new[key], value_set=old[key])
    met, before = new.filter(pc.is_valid(was)), old.take(pc.drop_null(was))
    different = _any([_differs(before[c], met[c]) for c in says], met.num_rows)
    met, before = met.filter(different), before.filter(different)
    turns = Counter(zip(_said(before, says), _said(met, says), strict=True))
    return Flips(
        kind=kind,
        flipped=met.num_rows,
        turns=[(a, b, n) for (a, b), n in sorted(turns.items(), key=lambda item: (-item[1], item[0]))],
        examples=met[key][:EXAMPLES].to_pylist(),
    )


def settings(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """What changed of params.yaml, by dotted key; None where a key is not there."""
    old, new = dict(_flat(before)), dict(_flat(after))
    return [(k, old.get(k), new.get(k)) for k in sorted(old.keys() | new.keys()) if old.get(k) != new.get(k)]


def as_text(changes: Changes) -> str:
    """For reading aloud on a terminal."""
    lines = [f"{changes.before} -> {changes.after}: {summary(changes)}"]
    for t in filter(lambda t: t.any, changes.tables):
        columns = f" ({', '.join(f'{c} in {n:,}' for c, n in t.columns.items())})" if t.columns else ""
        lines.append(f"  {t.table} ({t.side}){_sizes(t)}: {_counts(t)}{columns}")
    lines += [f"  by {name}: {_values(values)}" for name, values in _together(changes).items()]
    lines += [f"  {how}, as {', '.join(ids)}" for how, ids in _some(changes).items()]
    lines += [f"  {_flipped(f)}" for f in changes.flips if f.flipped]
    lines += [f"  params.yaml: {key}: {_value(a)} -> {_value(b)}" for key, a, b in changes.params]
    if changes.read[1]:
        lines.append(f"  looked into {changes.read[0]:,} of {changes.read[1]:,} files; the others are the same")
    return "\n".join(lines)


def as_markdown(changes: Changes, title: str) -> str:
    """An entry of data/CHANGELOG.md."""
    lines = [f"## {title}", "", f"Since {changes.before}: {summary(changes)}."]
    shown = [t for t in changes.tables if t.any]
    if shown:
        lines += ["", "| table | side | rows | added | removed | changed |", "|---|---|---|---|---|---|"]
        lines += [
            f"| {t.table} | {t.side} | {_number(t.rows[1])} | {t.added:,} | {t.removed:,} | {t.changed:,} |"
            for t in shown
        ]
        lines += ["", *(f"- by {name}: {_values(values)}" for name, values in _together(changes).items())]
        lines += [f"- {how}, as {', '.join(f'`{i}`' for i in ids)}" for how, ids in _some(changes).items()]
    lines += [f"- {_flipped(f)}" for f in changes.flips if f.flipped]
    lines += [f"- params.yaml: `{key}`: {_value(a)} -> {_value(b)}" for key, a, b in changes.params]
    return "\n".join(lines) + "\n"


HEAD = "# What changed in the data\n\nThe newest snapshot first; each is a git tag, and `flywheel diff A B` compares any two.\n"


def changelog(before: str, tag: str, entry: str) -> str:
    """The whole file with the entry of a snapshot on top; one that has it already is left as it is."""
    if f"\n## {tag}" in before:
        return before
    older = before.removeprefix(HEAD)
    return f"{HEAD}\n{entry}{older}"


def summary(changes: Changes) -> str:
    """In one line, as in the message of a tag."""
    if changes.unknown:
        return f"not compared ({changes.unknown})"
    if not (changes.added or changes.removed or changes.changed):
        return "no row changed"
    return f"{changes.added:,} rows added, {changes.removed:,} removed, {changes.changed:,} changed"


def _together(changes: Changes) -> dict[str, dict[str, dict[str, int]]]:
    """The slices of all tables, the most changed values first."""
    together: dict[str, dict[str, Counter[str]]] = {}
    for t in changes.tables:
        for name, values in t.slices.items():
            for value, counts in values.items():
                together.setdefault(name, {}).setdefault(value, Counter()).update(counts)
    return {name: dict(sorted(values.items(), key=lambda v: (-v[1].total(), v[0]))) for name, values in together.items()}


def _some(changes: Changes) -> dict[str, list[str]]:
    """Some ids of what was added, removed and changed."""
    found = {how: [i for t in changes.tables for i in t.examples.get(how, [])][:EXAMPLES] for how in HOW}
    return {how: ids for how, ids in found.items() if ids}


def _differs(old: pa.ChunkedArray, new: pa.ChunkedArray) -> pa.ChunkedArray:
    """Where two columns differ; no value is the same as no value."""
    return pc.fill_null(pc.not_equal(old, new), pc.xor(pc.is_null(old), pc.is_null(new)))


def _any(masks: list[Any], rows: int) -> Any:
    found: Any = pa.array([False] * rows, pa.bool_())
    for mask in masks:
        found = pc.or_(found, mask)
    return found


def _slices(parts: Mapping[str, pa.Table], people: People | None) -> dict[str, dict[str, dict[str, int]]]:
    slices: dict[str, dict[str, dict[str, int]]] = {}
    for how, part in parts.items():
        if not part.num_rows:
            continue
        for name, column in SLICES.items():
            counts = pc.value_counts(part[column])
            for value, n in zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True):
                slices.setdefault(name, {}).setdefault(str(value), {})[how] = n
        if people is not None:
            who = Counter(person for names in people("old" if how == REMOVED else "new", part) for person in names)
            for person, n in who.items():
                slices.setdefault(ANNOTATOR, {}).setdefault(person, {})[how] = n
    return {name: dict(sorted(values.items(), key=lambda v: (-sum(v[1].values()), v[0]))) for name, values in slices.items()}


def _said(rows: pa.Table, says: list[str]) -> list[str]:
    columns = [rows[c].to_pylist() for c in says]
    return [" ".join(str(v) for v in values if v != "") or "nothing" for values in zip(*columns, strict=True)]


def _flat(value: Any, path: str = "") -> Iterable[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


def _counts(change: TableChange | Mapping[str, int]) -> str:
    get = change.get if isinstance(change, Mapping) else lambda how, _=0: getattr(change, how)
    return ", ".join(f"{get(how, 0):,} {how}" for how in HOW if get(how, 0))


def _values(values: Mapping[str, Mapping[str, int]]) -> str:
    shown = [f"{value or '(none)'} {_counts(counts)}" for value, counts in list(values.items())[:SHOWN]]
    more = f"; and {len(values) - SHOWN} more" if len(values) > SHOWN else ""
    return "; ".join(shown) + more


def _sizes(change: TableChange) -> str:
    before, after = change.rows
    return "" if before is None or after is None else f", {before:,} -> {after:,} rows"


def _flipped(found: Flips) -> str:
    turns = "; ".join(f"{a} -> {b} ({n:,})" for a, b, n in found.turns[:SHOWN])
    what = "label" if found.kind == "answer" else f"judgement of kind {found.kind}"
    return f"{found.flipped:,} {what}{'s' if found.flipped > 1 else ''} flipped: {turns}, as {', '.join(found.examples)}"


def _number(n: int | None) -> str:
    return "" if n is None else f"{n:,}"


def _value(value: Any) -> str:
    return "absent" if value is None else orjson.dumps(value, default=str).decode()
