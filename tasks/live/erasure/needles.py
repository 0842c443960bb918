"""What is looked for in bytes: ids, and pieces of texts that only they wrote. And files as the bytes in which one can look.

    pieces("my bike, bought in \\"Porto\\", lost its chain")  ->  ["my bike, bought in ", ", lost its chain"]

A piece has only characters that stand as they are in JSON, in JSON inside JSON, in CSV and in HTML, so that one look finds it in
each of them, and few enough that a preview which was cut off still has one. Letters beyond ASCII are also looked for as \\uXXXX.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import json
import re
import sqlite3
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import re2
import zstandard

LONGEST, SHORTEST, OF_TEXT = 32, 12, 6
PLAIN = re.compile(r"""[^\x00-\x1f"'\\<>&\u2028\u2029]+""")
# Ids that derive from content all look alike: they are found by their form, however many they are.
DERIVED = re2.compile(rb"\b(?:[a-z]{2}_[0-9a-f]{24}|u_[0-9a-f]{16})\b")
FORM = re.compile(r"[a-z]{2}_[0-9a-f]{24}|u_[0-9a-f]{16}")
FEW = 4000
OF_PATTERN = 1000  # literals in one expression: more would outgrow the memory in which RE2 stays fast
ROOMY = re2.Options()
ROOMY.max_mem = 256 * 1024 * 1024
ROOMY.log_errors = False
SQLITE = b"SQLite format 3\0"
BLOCK = 8 * 1024 * 1024
CELLS = 16_384


class Unreadable(OSError):
    """A file that says it is Parquet, SQLite or packed, and can't be read as such: what it packs was not looked into."""


def pieces(text: str) -> list[str]:
    """Up to OF_TEXT pieces of a text by which it is known again, [] where it is too short to be known."""
    found = []
    for run in PLAIN.findall(text):
        cut = [run[n : n + LONGEST] for n in range(0, len(run), LONGEST)]
        found += [c for c in cut if len(c.strip()) >= SHORTEST]
    return found[:OF_TEXT]


class Needles:
    """A set of ids and pieces. `found` names those that stand in some bytes."""

    def __init__(self, ids: Iterable[str] = (), texts: Iterable[str] = (), whole: Iterable[str] = ()):
        self.ids = set(ids)
        self.texts = set(texts)
        self.whole = sorted(set(whole), key=len, reverse=True)  # the texts that the pieces are of
        formed = {i for i in self.ids if FORM.fullmatch(i)}
        # Few are looked for one by one, as fast as the memory can be read; of many, the form is.
        self._formed = {i.encode() for i in formed} if len(formed) > FEW else set()
        written: dict[bytes, str] = {}
        for text in self.texts:
            written[text.encode("utf-8", "surrogatepass")] = text
            written[json.dumps(text)[1:-1].encode()] = text
        self._written = written
        others = sorted(self.ids if not self._formed else self.ids - formed)
        literal = [_bounded(i) for i in others]
        literal += [re2.escape(w) for w in sorted(written)]
        self._patterns = [
            re2.compile(b"|".join(literal[n : n + OF_PATTERN]), ROOMY) for n in range(0, len(literal), OF_PATTERN)
        ]
        # A pattern finds one of several that overlap; a set finds each.
        whole = [(_apart(i), i) for i in others]
        whole += [(re2.escape(w), text) for w, text in sorted(written.items())]
        self._sets = [_set(whole[n : n + OF_PATTERN]) for n in range(0, len(whole), OF_PATTERN)]

    def __bool__(self) -> bool:
        return bool(self.ids or self.texts)

    def found(self, data: bytes) -> set[str]:
        if not self.any(data):
            return set()
        hits = {words[n] for one, words in self._sets for n in one.Match(data) or ()}
        if self._formed:
            hits |= {h.decode() for h in self._formed.intersection(m.group() for m in DERIVED.finditer(data))}
        return hits

    def any(self, data: bytes) -> bool:
        return next(self._matches(data), None) is not None

    def in_file(self, path: Path) -> bool:
        """Whether one stands in a file, or in what it packs. What can't be read is not among it: the proof names it."""
        try:
            return any(self.any(block) for block in looks_into(path))
        except Unreadable:
            return False

    def lines(self, body: bytes) -> set[int]:
        """The numbers (from 0) of the lines that one of them stands in."""
        numbers, line, start = set(), 0, 0
        for place in sorted(at for _, at in self._matches(body)):
            line += body.count(b"\n", start, place)
            start = place
            numbers.add(line)
        return numbers

    def _matches(self, data: bytes) -> Iterator[tuple[bytes, int]]:
        """What stands in the bytes, and where. An id counts as a whole word: 's-1' does not stand in 's-17' or 'my-s-1'."""
        for pattern in self._patterns:
            for m in pattern.finditer(data):
                start, end = m.span()
                word = data[start:end]
                if word in self._written or (data[start - 1 : start] != b"-" and data[end : end + 1] != b"-"):
                    yield word, start
        if self._formed:
            for m in DERIVED.finditer(data):
                word = data[m.start() : m.end()]
                if word in self._formed:
                    yield word, m.start()


def _set(whole: list[tuple[bytes, str]]) -> tuple[re2.Set, list[str]]:
    made = re2.Set.SearchSet(ROOMY)
    for pattern, _ in whole:
        made.Add(pattern)
    made.Compile()
    return made, [word for _, word in whole]


def _apart(id: str) -> bytes:
    """An id, and what stands on both sides of it and belongs to no id."""
    before = rb"(?:^|[^0-9A-Za-z_-])" if id[:1].isalnum() else b""
    after = rb"(?:$|[^0-9A-Za-z_-])" if id[-1:].isalnum() else b""
    return before + re2.escape(id.encode("utf-8", "surrogatepass")) + after


def _bounded(id: str) -> bytes:
    before = rb"\b" if id[:1].isascii() and id[:1].isalnum() else b""
    after = rb"\b" if id[-1:].isascii() and id[-1:].isalnum() else b""
    return before + re2.escape(id.encode("utf-8", "surrogatepass")) + after


def looks_into(path: Path) -> Iterator[bytes]:
    """A file's bytes, and whatever they pack, a block at a time: Parquet's columns, the cells of SQLite, what was compressed."""
    with path.open("rb") as f:
        head = f.read(16)
        f.seek(0)
        yield from _overlapping(f)
    if head[:4] == b"PAR1":
        yield from parquet(path)
    elif head == SQLITE:
        yield from sqlite(path)
    else:
        yield from _unpacked(path, head)


def content(data: bytes) -> Iterator[bytes]:
    """The same of bytes that are no file."""
    yield data
    if data[:4] == b"PAR1":
        yield from parquet(pa.BufferReader(data))


def parquet(source: Path | pa.NativeFile) -> Iterator[bytes]:
    """The texts of every column, row group after row group."""
    try:
        with pq.ParquetFile(source) as file:
            for group in range(file.num_row_groups):
                for column in file.read_row_group(group).columns:
                    yield from _texts(column)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as e:
        raise Unreadable(f"it can't be read as Parquet: {e}") from None


def sqlite(path: Path) -> Iterator[bytes]:
    """Every text and blob of every table; a text that spans two pages stands in one piece here only."""
    try:
        with contextlib.closing(_opened(path)) as db:
            for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                for row in db.execute(f'SELECT * FROM "{table.decode()}"'):
                    yield b"\0".join(c for c in row if isinstance(c, bytes))
    except sqlite3.DatabaseError as e:
        raise Unreadable(f"it can't be read as SQLite: {e}") from None


def _opened(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
    db.text_factory = bytes
    return db


def _texts(column: pa.ChunkedArray) -> Iterator[bytes]:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    for chunk in column.chunks:
        if pa.types.is_nested(chunk.type):
            yield json.dumps(chunk.to_pylist(), ensure_ascii=False, default=str).encode("utf-8", "surrogatepass")
        elif pa.types.is_string(chunk.type) or pa.types.is_large_string(chunk.type) or pa.types.is_binary(chunk.type):
            # With something between two texts, so that two halves are no whole, and an id ends where it ends.
            for start in range(0, len(chunk), CELLS):
                texts = chunk.slice(start, CELLS).cast(pa.binary()).fill_null(b"")
                whole = pa.ListArray.from_arrays(pa.array([0, len(texts)], pa.int32()), texts)
                yield pc.binary_join(whole, b"\0")[0].as_buffer().to_pybytes()


def _overlapping(f: io.BufferedReader) -> Iterator[bytes]:
    """Blocks that begin with the end of the one before: what spans two stands whole in the second."""
    tail = b""
    while block := f.read(BLOCK):
        yield tail + block
        tail = block[-512:]


def _unpacked(path: Path, head: bytes) -> Iterator[bytes]:
    try:
        if head[:4] == b"\x28\xb5\x2f\xfd":
            with path.open("rb") as f, zstandard.ZstdDecompressor().stream_reader(f, read_across_frames=True) as data:
                yield from _overlapping(data)
        elif head[:2] == b"\x1f\x8b":
            with gzip.open(path) as data:
                yield from _overlapping(data)
        elif head[:3] == b"BZh":
            with bz2.open(path) as data:
                yield from _overlapping(data)
        elif head[:4] == b"PK\x03\x04":
            with zipfile.ZipFile(path) as z:
                for name in z.namelist():
                    with z.open(name) as data:
                        yield from _overlapping(data)
    except (EOFError, zlib.error, zstandard.ZstdError, zipfile.BadZipFile, ValueError, RuntimeError) as e:
        raise Unreadable(f"what it packs can't be read: {e}") from None
