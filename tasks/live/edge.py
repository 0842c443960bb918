"""The edge: lines as an application logged them -> lines that may be kept, and what the dialects read in them.

    {"flywheel":"interaction/1","user_id":"kim", … "write to kim@example.org"}
 -> {"flywheel":"interaction/1","user_id":"u_5c0…", … "write to [EMAIL_3fa91c]"}  and its row

Nothing behind this module has seen a user's id or, where `capture.redact` is on, an address, a number or a key.
Lines of the plain shape are screened all at once; only those in which something may stand are looked at closely.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from tasks.errors import BadRecord
from tasks.formats import load_line, native_fast, parse
from tasks.formats.fields import Parsed, RawInteraction
from tasks.formats.native_fast import Plain
from tasks.live import rows
from tasks.live.rows import Placed
from tasks.redact import SCREEN, Edge, conversation, targets

# Ids of records (responses, traces, sessions) -> the conversations that they belong to.
Lookup = Callable[[list[str]], dict[str, str]]
# Lines decoded at a time: few enough that their objects stay in the processor's cache and their memory is used again.
BATCH = 1000
FIRST_LINE = 1  # of a segment, its own first line not counted


@dataclass(slots=True)
class Read:
    """What stands in the lines of a chunk. `plain` are the interactions of the plain shape, as rows already."""

    plain: list[pa.Table] = field(default_factory=list)
    interactions: list[Placed] = field(default_factory=list)
    feedback: list[Placed] = field(default_factory=list)
    parts: list[Placed] = field(default_factory=list)
    rejects: list[tuple[int, BadRecord]] = field(default_factory=list)
    attached: int = 0

    def add(self, line: int, parsed: Parsed) -> None:
        """What a dialect read in a line; what no row can hold becomes a reject."""
        self.attached += parsed.attached
        self.rejects += [(line, bad) for bad in parsed.rejects]
        for into, records in (
            (self.interactions, parsed.interactions), (self.feedback, parsed.feedback), (self.parts, parsed.parts),
        ):  # fmt: skip
            for record in records:
                try:
                    rows.check(record)
                    into.append(Placed(record, line))
                except BadRecord as e:
                    self.rejects.append((line, e))

    def add_plain(self, plain: list[Plain], lines: list[int]) -> None:
        asked = [n for n, p in enumerate(plain) if p.is_interaction]
        if asked:
            self.plain.append(rows.plain_interactions([plain[n] for n in asked], [lines[n] for n in asked]))
        self.feedback += [
            Placed(p.record(), line) for p, line in zip(plain, lines, strict=True) if not p.is_interaction
        ]


def clean(lines: list[bytes], edge: Edge, origin: str, lookup: Lookup) -> tuple[list[bytes], Read]:
    """Redact and read the lines of one chunk, blank ones left out. Returns the lines to keep, and what stands in them.

    `lookup` is asked for the conversations of records that only point at others (feedback), so that a comment gets the same
    surrogates as the conversation that it is about.
    """
    lines = [line for line in lines if line and not line.isspace()]
    kept: list[bytes] = []
    read = Read()
    others: list[int] = []
    for start in range(0, len(lines), BATCH):
        decoded = [native_fast.decode(line, edge.pseudonym) for line in lines[start : start + BATCH]]
        if edge.texts:
            _take_back(decoded)
        kept += [p.line() if p else b"" for p in decoded]
        at = [start + n for n, p in enumerate(decoded) if p]
        read.add_plain([p for p in decoded if p], [n + FIRST_LINE for n in at])
        others += [start + n for n, p in enumerate(decoded) if not p]
    _closely(lines, others, kept, read, edge, origin, lookup)
    return kept, read


def reread(lines: list[bytes], origin: str) -> Read:
    """Kept lines, read again: what stands in them has been replaced already."""
    read = Read()
    for start in range(0, len(lines), BATCH):
        plain, at = [], []
        for n, line in enumerate(lines[start : start + BATCH], start + FIRST_LINE):
            decoded = native_fast.decode(line, _as_it_is)
            if decoded:
                plain.append(decoded)
                at.append(n)
            else:
                read.add(n, reread_line(line, origin))
        read.add_plain(plain, at)
    return read


def reread_line(line: bytes, origin: str) -> Parsed:
    """One kept line, read again."""
    try:
        return parse(load_line(line), origin)
    except BadRecord as e:
        return Parsed(rejects=[e])


def _closely(
    lines: list[bytes], others: list[int], kept: list[bytes], read: Read, edge: Edge, origin: str, lookup: Lookup
) -> None:
    """Look at the lines `others` one by one. Those that only point at others come last, when all else is known."""
    known: dict[str, str] = {}
    pointing: list[tuple[int, dict, list[str]]] = []
    for n in others:
        try:
            document = load_line(lines[n])
        except BadRecord as e:
            kept[n] = edge.line(lines[n]).replace(b"\n", b" ")
            read.rejects.append((n + FIRST_LINE, e))
            continue
        about = targets(document) if edge.texts and conversation(document) is None else []
        if about:
            pointing.append((n, document, about))
            continue
        kept[n], parsed = _document(document, edge, origin, None)
        read.add(n + FIRST_LINE, parsed)
    if pointing:
        _remember(known, read)
        missing = sorted({id for _, _, about in pointing for id in about if id not in known})
        known |= lookup(missing) if missing else {}
        for n, document, about in pointing:
            scope = next((known[id] for id in about if id in known), None)
            kept[n], parsed = _document(document, edge, origin, scope)
            read.add(n + FIRST_LINE, parsed)


def _take_back(decoded: list[Plain | None]) -> None:
    """Leave only those decoded lines in whose texts the screen finds nothing."""
    plain = [n for n, p in enumerate(decoded) if p]
    if plain:
        texts = pa.array([decoded[n].texts() for n in plain], pa.large_string())
        for n, seen in zip(plain, pc.match_substring_regex(texts, SCREEN).to_pylist(), strict=True):
            if seen:
                decoded[n] = None


def _document(document: dict, edge: Edge, origin: str, scope: str | None) -> tuple[bytes, Parsed]:
    try:
        document = edge.document(document, scope)
        line = orjson.dumps(document)
    except (TypeError, RecursionError) as e:
        # A number or a depth that JSON has and no row can hold: kept as text, so that nothing of it is lost.
        line = edge.line(repr(document).encode("utf-8", "replace")).replace(b"\n", b" ")
        return line, Parsed(rejects=[BadRecord("bad_value", f"the record cannot be stored: {e}")])
    try:
        return line, parse(document, origin)
    except BadRecord as e:
        return line, Parsed(rejects=[e])


def _remember(known: dict[str, str], read: Read) -> None:
    """The conversations of this chunk by the ids that feedback may name."""
    for table in read.plain:
        columns = table.select(["session_id", "trace_id", "response_id", "native_id"]).to_pydict()
        for scope, *ids in zip(*columns.values(), strict=True):
            known.update((id, scope) for id in ids if id)
    for placed in read.interactions:
        raw: RawInteraction = placed.record
        scope = raw.session_id or raw.trace_id or raw.native_id
        known.update((id, scope) for id in (raw.trace_id, raw.response_id, raw.native_id) if id)


def _as_it_is(tenant: str, user_id: str) -> str:
    return user_id
