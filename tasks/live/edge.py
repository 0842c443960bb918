"""The edge: lines as an application logged them -> lines that may be kept, and what the dialects read in them.

    {"flywheel":"interaction/1","user_id":"kim", … "write to kim@example.org"}
 -> {"flywheel":"interaction/1","user_id":"u_5c0…", … "write to [EMAIL_3fa91c]"}  and its row

Nothing behind this module has seen a user's id or, where `capture.redact` is on, an address, a number or a key.
Lines of the plain shape are screened all at once; only those in which something may stand are looked at closely.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import re2

from tasks.errors import BadRecord
from tasks.formats import load_line, native, native_fast, parse
from tasks.formats.fields import Parsed, RawInteraction
from tasks.formats.native_fast import Plain, PlainInteraction
from tasks.live import rows
from tasks.live.rows import Placed
from tasks.redact import ROOMY, SCREEN, Edge, conversation, targets

# Ids of records (responses, traces, sessions) -> the conversations that they belong to.
Lookup = Callable[[list[str]], dict[str, str]]
# Bytes decoded in one step: small, so that one odd line makes only its neighbours go line by line.
PIECE_BYTES = 64 * 1024
# Lines that become rows in one step: few enough that their memory is used again and again.
BATCH = 1000
# A text that may be JSON is looked at key by key, because the name of a key may tell an identity.
OPENING = ('"', "[", "{")
_LOOK = re2.compile(rf"{SCREEN}|\x{{0}}[^!-~]*[\"\[{{]".encode(), ROOMY)
FIRST_LINE = 1  # of a segment, its own first line not counted


@dataclass(slots=True)
class Read:
    """What stands in the lines of a chunk. `plain…` are the lines of the plain shape, as rows already."""

    plain_interactions: list[pa.Table] = field(default_factory=list)
    plain_feedback: list[pa.Table] = field(default_factory=list)
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
        asked = [n for n, row in enumerate(plain) if type(row) is PlainInteraction]
        if asked:
            self.plain_interactions.append(
                rows.plain_interactions([plain[n] for n in asked], [lines[n] for n in asked])
            )
        if len(asked) < len(plain):
            said = sorted(set(range(len(plain))).difference(asked))
            self.plain_feedback.append(rows.plain_feedback([plain[n] for n in said], [lines[n] for n in said]))


def clean(data: bytes, edge: Edge, origin: str, lookup: Lookup) -> tuple[list[bytes], Read]:
    """Redact and read the lines of one chunk, blank ones left out. Returns the lines to keep (b"…\\n", one or more in each
    piece), and what stands in them.

    `lookup` is asked for the conversations of records that only point at others (feedback), so that a comment gets the same
    surrogates as the conversation that it is about.
    """
    plain = _PlainLines(edge)
    for piece in _pieces(data):
        plain.take(piece)
    read = plain.end()
    _closely(plain.others, plain.kept, read, edge, origin, lookup)
    return plain.kept, read


def reread(data: bytes, origin: str, edge: Edge | None = None) -> Read:
    """Kept lines, read again: what stands in them has been replaced already. `edge` as for reread_line."""
    plain = _PlainLines(None)
    for piece in _pieces(data):
        plain.take(piece)
    read = plain.end()
    for number, _, line in plain.others:
        read.add(number, reread_line(line, origin, edge))
    return read


class _PlainLines:
    """Takes the lines of the plain shape out of a chunk, those left out in which something may have to be replaced.

    `others` are the rest: (number of the line, where it belongs in `kept`, the line). Without an edge nothing is kept.
    """

    def __init__(self, edge: Edge | None):
        self.edge = edge
        self.kept: list[bytes] = []
        self.others: list[tuple[int, int, bytes]] = []
        self._read = Read()
        self._number = FIRST_LINE
        self._batch: list[Plain] = []
        self._lines: list[int] = []

    def take(self, piece: bytes) -> None:
        rows: list[Plain | None] | None = native_fast.decode_lines(piece, piece.count(b"\n"))
        lines: list[bytes] = []
        if rows is None:
            lines = [line for line in piece.split(b"\n") if line and not line.isspace()]
            rows = [native_fast.decode(line) for line in lines]
        done = self._replaced(rows)
        if all(done):
            self._keep(rows)
        else:
            lines = lines or piece.split(b"\n")
            for good, group in itertools.groupby(range(len(rows)), key=done.__getitem__):
                if good:
                    self._keep([rows[n] for n in group])
                else:
                    self._leave([lines[n] for n in group])
        if len(self._batch) >= BATCH:
            self._flush()

    def end(self) -> Read:
        self._flush()
        return self._read

    def _replaced(self, rows: list[Plain | None]) -> list[bool]:
        """Replace in place what must not be kept. False for a row in which it can only be done key by key."""
        plain = [n for n, row in enumerate(rows) if row]
        done = [row is not None for row in rows]
        if self.edge is None or not plain:
            return done
        if self.edge.texts:
            labels = set().union(*(native_fast.labels(rows[n]) for n in plain))
            if self.edge.safe.issuperset(labels) or self.edge.look(labels):
                seen = _seen([rows[n].texts() for n in plain])
                for k in range(len(plain)) if self.edge.names else seen:
                    done[plain[k]] = _replaced_texts(rows[plain[k]], self.edge, seen.get(k, set()))
            else:
                done = [False] * len(rows)
        for row, good in zip(rows, done, strict=True):
            if good and row.user_id:
                row.user_id = self.edge.pseudonym(row.tenant, row.user_id)
        return done

    def _keep(self, rows: list[Plain]) -> None:
        if self.edge is not None:
            self.kept.append(native_fast.encode_lines(rows))
        self._batch += rows
        self._lines += range(self._number, self._number + len(rows))
        self._number += len(rows)

    def _leave(self, lines: list[bytes]) -> None:
        for line in lines:
            self.others.append((self._number, len(self.kept), line))
            self.kept.append(b"")
            self._number += 1

    def _flush(self) -> None:
        if self._batch:
            self._read.add_plain(self._batch, self._lines)
            self._batch, self._lines = [], []


def _seen(texts: list[str]) -> dict[int, set[int]]:
    """In which rows something may stand that has to be replaced, and in which of their texts (each begins with a NUL; the
    first is 1). All are looked through in one pass.
    """
    data = [text.encode("utf-8", "replace") for text in texts]
    ends = list(itertools.accumulate(map(len, data)))
    found: dict[int, set[int]] = {}
    for match in _LOOK.finditer(b"".join(data)):
        # One that spans two texts may hide the beginning of another in the second: both are looked at closely.
        start, end = match.span()
        for row in range(bisect_right(ends, start), bisect_left(ends, end) + 1):
            offset = ends[row] - len(data[row])
            first = data[row].count(b"\0", 0, max(start - offset, 0))
            last = first + data[row].count(b"\0", max(start - offset, 0), end - offset)
            found.setdefault(row, set()).update(range(first, last + 1))
    return found


def _replaced_texts(row: Plain, edge: Edge, seen: set[int]) -> bool:
    """Replace in the texts of a row that were seen. False where it takes more: JSON inside a text, an id that is an address."""
    if type(row) is not PlainInteraction or any("@" in id for id in row.ids()):
        return False
    scope = row.session_id or row.trace_id or row.response_id or row.id  # as redact.conversation
    places = [*((m, "content") for m in row.messages), (row, "response")]
    places += [place for context in row.contexts for place in ((context, "text"), (context, "id"))]
    texts = [getattr(holder, name) for holder, name in places]
    # A NUL in a text of its own: which text is which cannot be told.
    every = edge.names is not None or any("\0" in text for text in texts)
    for n, (text, (holder, name)) in enumerate(zip(texts, places, strict=True), 1):
        if every or n in seen:
            if text.lstrip()[:1] in OPENING:
                return False
            if name != "id":
                setattr(holder, name, edge.text(text, scope, row.tenant))
    return True


def _pieces(data: bytes) -> Iterator[bytes]:
    """Whole lines, some tens of kilobytes at a time; the last one ends in a line end too."""
    start = 0
    while start < len(data):
        end = data.find(b"\n", start + PIECE_BYTES) + 1 or len(data)
        piece = data[start:end]
        yield piece if piece.endswith(b"\n") else piece + b"\n"
        start = end


def reread_line(line: bytes, origin: str, edge: Edge | None = None) -> Parsed:
    """One kept line, read again. What `edge` can translate only now, because a mapping for it was written since, goes through
    it only now: which of its fields are identities was not known before.
    """
    try:
        document = load_line(line)
        translated = edge.translate(document) if edge is not None else None
        return parse(edge.document(translated) if translated else document, origin)
    except BadRecord as e:
        return Parsed(rejects=[e])


def _closely(
    others: list[tuple[int, int, bytes]], kept: list[bytes], read: Read, edge: Edge, origin: str, lookup: Lookup
) -> None:
    """Look at the other lines one by one. Those that only point at others come last, when all else is known."""
    pointing: list[tuple[int, int, dict, list[str]]] = []
    for number, at, line in others:
        try:
            document = load_line(line)
            document = edge.translate(document) or document
        except BadRecord as e:
            kept[at] = edge.line(line).replace(b"\n", b" ") + b"\n"
            read.rejects.append((number, e))
            continue
        about = targets(document) if edge.texts and conversation(document) is None else []
        if about:
            pointing.append((number, at, document, about))
        else:
            kept[at], parsed = _document(document, edge, origin, None)
            read.add(number, parsed)
    if pointing:
        known = _conversations(read, {id for *_, about in pointing for id in about})
        missing = sorted({id for *_, about in pointing for id in about if id not in known})
        known |= lookup(missing) if missing else {}
        for number, at, document, about in pointing:
            scope = next((known[id] for id in about if id in known), None)
            kept[at], parsed = _document(document, edge, origin, scope)
            read.add(number, parsed)


def _document(document: dict, edge: Edge, origin: str, scope: str | None) -> tuple[bytes, Parsed]:
    try:
        document = edge.document(document, scope)
        line = orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
    except (TypeError, RecursionError) as e:
        # A number or a depth that JSON has and no row can hold: kept as text, and rejected whenever it is read.
        kept = edge.line(repr(document).encode("utf-8", "replace")).decode("utf-8", "replace")
        document = {"flywheel": native.UNSTORABLE, "why": str(e), "text": kept}
        line = orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
    try:
        return line, parse(document, origin)
    except BadRecord as e:
        return line, Parsed(rejects=[e])


def _conversations(read: Read, wanted: set[str]) -> dict[str, str]:
    """The conversations of this chunk's records by those of their ids that are wanted; of two with the same id, the one that
    stood first, whichever way it was read.
    """
    found: list[tuple[int, str, str]] = []  # line, id, conversation
    ids = ("trace_id", "response_id", "native_id")
    few = pa.array(wanted, pa.string())
    for table in read.plain_interactions:
        for name in ids:
            named = table.filter(pc.is_in(table[name], few)).select(["raw_line", name, "session_id"])
            found += zip(*named.to_pydict().values(), strict=True)
    for placed in read.interactions:
        raw: RawInteraction = placed.record
        # As redact.conversation: what a Langfuse score knows is the trace.
        session = "" if raw.dialect == "langfuse" else raw.session_id
        scope = session or raw.trace_id or raw.native_id
        found += [(placed.line, id, scope) for name in ids if (id := getattr(raw, name)) in wanted]
    return {id: scope for _, id, scope in sorted(found, reverse=True)}
