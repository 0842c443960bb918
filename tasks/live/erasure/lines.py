"""Kept lines without the records of those who are erased. A line that was only theirs becomes a tombstone, so that lines keep their
numbers, and a rebuild counts it as a reject with the reason `erased`.

    {"flywheel":"interaction/1","id":"r-17",…}                 ->  {"flywheel":"erased/1"}
    {"resourceSpans":[… spans of theirs and of others …]}     ->  {"resourceSpans":[… the others' …]}
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import orjson

from tasks.errors import BadRecord
from tasks.formats import load_line, parse
from tasks.formats.fields import Parsed
from tasks.formats.native import ERASED
from tasks.live import rows
from tasks.live.edge import FIRST_LINE, Read, reread, reread_line
from tasks.live.erasure.theirs import Theirs
from tasks.redact import Edge

TOMBSTONE = b'{"flywheel":"%b"}' % ERASED.encode()
# Records in which an exporter sends several people's: where their lists are.
OTLP = (("resourceSpans", "scopeSpans", "spans"), ("resourceLogs", "scopeLogs", "logRecords"))


@dataclass(frozen=True, slots=True)
class Without:
    """A line without their records. `others_lost` are interactions of others that could not be told apart from theirs."""

    line: bytes
    parsed: Parsed
    others_lost: tuple[str, ...] = ()

    @property
    def is_tombstone(self) -> bool:
        return self.line == TOMBSTONE


def without(line: bytes, theirs: Theirs, origin: str, edge: Edge | None = None) -> Without | None:
    """None where nothing in the line is theirs."""
    parsed = reread_line(line, origin, edge)
    if not theirs.any(parsed):
        unread = parsed.rejects and theirs.in_text(line)
        if not unread:
            return None
        if not (parsed.interactions or parsed.feedback or parsed.parts):
            return Without(TOMBSTONE, parsed)
    if theirs.all(parsed) and not parsed.rejects:
        return Without(TOMBSTONE, parsed)
    rest = _pruned(load_line(line), theirs, origin)
    if rest is not None:
        return Without(TOMBSTONE if rest == {} else orjson.dumps(rest), parsed)
    lost = tuple(rows.interaction_id(i) for i in parsed.interactions if not theirs.interaction(i))
    return Without(TOMBSTONE, parsed, lost)


def left_out(kept: list[bytes], read: Read, theirs: Theirs, origin: str, edge: Edge | None) -> tuple[list[bytes], Read]:
    """A chunk that was just read, without their records; the same objects where there are none."""
    numbers = _numbers(read, theirs)
    unread = {line for line, _ in read.rejects}
    if not numbers and not unread:
        return kept, read
    lines = b"".join(kept).split(b"\n")[:-1]
    numbers |= {n for n in unread if theirs.in_text(lines[n - FIRST_LINE])}
    found = {n: w for n in sorted(numbers) if (w := without(lines[n - FIRST_LINE], theirs, origin, edge)) is not None}
    if not found:
        return kept, read
    for n, w in found.items():
        lines[n - FIRST_LINE] = w.line
    body = b"".join(line + b"\n" for line in lines)
    return [body], reread(body, origin, edge)


def _numbers(read: Read, theirs: Theirs) -> set[int]:
    """The lines in which something of theirs was read."""
    found = {p.line for p in read.interactions if theirs.interaction(p.record)}
    found |= {p.line for p in read.feedback if theirs.feedback(p.record)}
    found |= {p.line for p in read.parts if theirs.part(p.record)}
    for table in read.plain_interactions:
        columns = (table[c].to_pylist() for c in ("raw_line", "tenant", "user", "session_id", "interaction_id"))
        for line, tenant, user, session, id in zip(*columns, strict=True):
            if theirs.stands(tenant, user, session) or theirs.has("interaction", "", id):
                found.add(line)
    for table in read.plain_feedback:
        columns = (table[c].to_pylist() for c in ("raw_line", "tenant", "user", "target_type", "target"))
        found |= {line for line, *said in zip(*columns, strict=True) if theirs.said(*said)}
    return found


def _pruned(document: dict[str, Any], theirs: Theirs, origin: str) -> dict[str, Any] | None:
    """A record that holds several people's, without theirs: {} where nothing is left, None where they can't be told apart."""

    def gone(part: dict[str, Any]) -> bool:
        try:
            parsed = parse(part, origin)
        except BadRecord:
            parsed = Parsed()
        return theirs.any(parsed) or theirs.in_text(orjson.dumps(part))

    if any(outer in document for outer, _, _ in OTLP):
        rest = _without_leaves(document, gone)
    elif isinstance(document.get("data"), list) and isinstance(document.get("meta"), dict):
        rows_left = [r for r in document["data"] if not (isinstance(r, dict) and gone(document | {"data": [r]}))]
        rest = document | {"data": rows_left} if rows_left else {}
    else:
        return None
    return None if rest and gone(rest) else rest


def _without_leaves(document: dict[str, Any], gone: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Spans and log records go by traces, because only one span of a trace may say whose it is."""
    whose: dict[str, list[tuple[str, int, int, int]]] = {}
    for place, leaf in _leaves(document):
        trace = str(leaf.get("traceId") or place)
        whose.setdefault(trace, []).append(place)
    going = set(chain.from_iterable(places for places in whose.values() if gone(_only(document, places))))
    staying = [place for place, _ in _leaves(document) if place not in going]
    return _only(document, staying) if staying else {}


def _leaves(document: dict[str, Any]) -> Iterator[tuple[tuple[str, int, int, int], dict[str, Any]]]:
    for outer, middle, inner in OTLP:
        for r, resource in enumerate(document.get(outer) or []):
            for s, scope in enumerate(resource.get(middle) or []):
                for n, leaf in enumerate(scope.get(inner) or []):
                    yield (outer, r, s, n), leaf if isinstance(leaf, dict) else {}


def _only(document: dict[str, Any], places: Iterable[tuple[str, int, int, int]]) -> dict[str, Any]:
    """The document with these of its leaves, and nothing that holds none of them."""
    wanted = set(places)
    made = {k: v for k, v in document.items() if k not in ("resourceSpans", "resourceLogs")}
    for outer, middle, inner in OTLP:
        resources = []
        for r, resource in enumerate(document.get(outer) or []):
            scopes = []
            for s, scope in enumerate(resource.get(middle) or []):
                leaves = [x for n, x in enumerate(scope.get(inner) or []) if (outer, r, s, n) in wanted]
                if leaves:
                    scopes.append(scope | {inner: leaves})
            if scopes:
                resources.append(resource | {middle: scopes})
        if resources:
            made[outer] = resources
    return made
