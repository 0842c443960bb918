"""What the outbox asks of people: the folders that the files hand-off writes, read anew whenever they change.

    data/outbox/bt_5c0…/batch.jsonl  batch-2.jsonl …   asks, a later round in a file of its own
                        kinds.json  catalogue.jsonl  cancelled.jsonl  guidelines/answer-1.md

All asks about one candidate stand together. Where a later round asks the same again, the later ask is the one in force.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import orjson

from tasks.errors import Refused
from tasks.kinds import Ask, Field, Kind
from tasks.records import Approved, read_jsonl, read_records

Key = tuple[str, str, str]  # batch, candidate, kind: by which an answer line names what it answers


@dataclass(frozen=True, slots=True)
class Group:
    """The asks in force about one candidate of one batch, in the order in which they were written."""

    batch_id: str
    candidate_id: str
    asks: tuple[Ask, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """One folder. `asks` by ask id, those of earlier rounds too: an answer to one may still be under way."""

    batch_id: str
    kinds: Mapping[str, Kind]
    guidelines: Mapping[str, str]
    catalogue: tuple[Approved, ...]
    approved: frozenset[str]
    asks: Mapping[str, Ask]
    groups: tuple[Group, ...]
    cancelled: frozenset[str]
    written: int


class Outbox:
    """All batches, as they are on the disk now."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.batches: dict[str, Batch] = {}
        self.asks: dict[str, Ask] = {}
        self.groups: list[Group] = []
        self.candidates: dict[tuple[str, str], Group] = {}
        self.unreadable: dict[str, str] = {}  # folder name -> why
        self._seen: dict[str, object] = {}

    def refresh(self) -> None:
        """Read the folders that changed. One that can't be read is named in `unreadable`, and the others go on."""
        found = {}
        for folder in sorted(self.folder.glob("[!.]*/")):
            files = [*folder.glob("*.json*"), *folder.glob("guidelines/*.md")]
            found[folder.name] = sorted((p.name, p.stat().st_mtime_ns, p.stat().st_size) for p in files)
        if found == self._seen:
            return
        for name, state in found.items():
            if state != self._seen.get(name) or name in self.unreadable:
                self._read(self.folder / name)
        for gone in set(self.batches) - set(found):
            del self.batches[gone]
        self._seen = found
        self.asks = {i: a for b in self.batches.values() for i, a in b.asks.items()}
        self.groups = sorted((g for b in self.batches.values() for g in b.groups), key=self._urgency)
        self.candidates = {(g.batch_id, g.candidate_id): g for g in self.groups}

    def _read(self, folder: Path) -> None:
        self.unreadable.pop(folder.name, None)
        try:
            self.batches[folder.name] = read(folder)
        except (OSError, ValueError, TypeError, KeyError, Refused) as e:
            self.batches.pop(folder.name, None)
            self.unreadable[folder.name] = f"{type(e).__name__}: {e}"

    def _urgency(self, group: Group) -> tuple[Any, ...]:
        """What is due first; then the older batch; in it, what waits for a last word."""
        batch = self.batches[group.batch_id]
        due = min(a.due or "9999" for a in group.asks)
        return due, batch.written, batch.batch_id, -max(a.round for a in group.asks)


def read(folder: Path) -> Batch:
    """One folder. Raises ValueError for an ask of another batch or of a kind that kinds.json lacks."""
    kinds = {name: as_kind(document) for name, document in orjson.loads((folder / "kinds.json").read_bytes()).items()}
    asks: dict[str, Ask] = {}
    in_force: dict[tuple[str, str], Ask] = {}
    rounds = sorted(folder.glob("batch*.jsonl"), key=lambda p: (len(p.name), p.name))
    for path in rounds:
        for row in read_jsonl(path):
            ask = _made(Ask, row)
            if ask.batch_id != folder.name or ask.kind not in kinds:
                raise ValueError(f"{path.name}: {ask.ask_id} is of batch {ask.batch_id} and kind {ask.kind}")
            asks[ask.ask_id] = ask
            in_force[ask.candidate_id, ask.kind] = ask
    cancelled = folder / "cancelled.jsonl"
    gone = frozenset(row["ask_id"] for row in read_jsonl(cancelled)) if cancelled.is_file() else frozenset()
    groups: dict[str, list[Ask]] = {}
    for ask in in_force.values():
        if ask.ask_id not in gone:
            groups.setdefault(ask.candidate_id, []).append(ask)
    catalogue = folder / "catalogue.jsonl"
    rows = tuple(read_records(catalogue, Approved)) if catalogue.is_file() else ()
    return Batch(
        batch_id=folder.name,
        kinds=kinds,
        guidelines={p.stem: p.read_text(encoding="utf-8") for p in folder.glob("guidelines/*.md")},
        catalogue=rows,
        approved=frozenset(a.id for a in rows),
        asks=asks,
        groups=tuple(Group(folder.name, candidate, tuple(a)) for candidate, a in groups.items()),
        cancelled=gone,
        written=(folder / "batch.jsonl").stat().st_mtime_ns,
    )


def as_kind(document: dict[str, Any]) -> Kind:
    """A kind as JSON holds it, where every tuple became a list -> the kind."""
    return _made(Kind, document | {"fields": tuple(_made(Field, f) for f in document["fields"])})


def _made(cls: type, document: dict[str, Any]) -> Any:
    """Lists that stand for tuples become tuples again; the lists of an ask stay lists."""
    known = {f.name: f.type for f in fields(cls)}
    unknown = document.keys() - known.keys()
    if unknown:
        raise ValueError(f"{cls.__name__} has no {', '.join(sorted(unknown))}")
    return cls(**{k: tuple(v) if isinstance(v, list) and "tuple" in known[k] else v for k, v in document.items()})
