"""Raw segments: every captured record, redacted, on the disk before anything is made of it. The tables are made from them.

data/raw/00000017-5c0f…e1.jsonl.zst   line 1: {"flywheel":"segment/1","source":"turn-01.jsonl","received":1767…,…}
                                      then the records, one a line; `raw_line` of a row is the number of its record

Append-only: a segment is written once, whole, and changed by nothing but an erasure. Its name ends in the digest of its records,
so that the same records read a second time after a crash find the segment that holds them. The order of segments is the order of
capture. An erased record leaves a tombstone in its line; the segment keeps its name, and its head says the digest as of `now`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import orjson
import zstandard

from tasks.errors import Refused
from tasks.live.workspace import write_durably
from tasks.records import canonical, digest

LEVEL = 1  # zstd: a fifth of the bytes to fsync for a tenth of the time
SUFFIX = ".jsonl.zst"
REWRITTEN = "rewritten.json"
MAX_SEGMENT_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Segment:
    """One written segment. `received` (µs) is when its records were captured; `settles` marks the end of a capture run.

    `flaws` are the (code, message) of what its source could not hand on: they have no line, and must survive a rebuild. `now` is
    the digest of its records where some of them were erased, '' otherwise.
    """

    name: str
    source: str
    origin: str
    received: int
    settles: bool = False
    flaws: tuple[tuple[str, str], ...] = ()
    now: str = ""


class Segments:
    """The raw segments of a workspace, in order."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.names = sorted(p.name.removesuffix(SUFFIX) for p in folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []
        self.by_digest = {name.partition("-")[2]: name for name in self.names}
        self.by_digest |= {mark: name for mark, name in self._rewritten().items() if name in self.by_digest.values()}

    def write(
        self, body: bytes, source: str, origin: str, received: int, settles: bool = False,
        flaws: tuple[tuple[str, str], ...] = (),
    ) -> Segment:  # fmt: skip
        """Put records on the disk; durable when this returns. Records that a segment holds already are not written twice."""
        # What has no records is named by what it says: the end of a run by its time, flaws by themselves.
        mark = digest(body or canonical([origin, source, flaws] if flaws else [received]))[:24]
        if mark in self.by_digest:
            return self.head(self.by_digest[mark])
        number = int(self.names[-1].partition("-")[0]) + 1 if self.names else 1
        segment = Segment(f"{number:08}-{mark}", source, origin, received, settles, flaws)
        self._put(segment, body)
        self.names.append(segment.name)
        self.by_digest[mark] = segment.name
        return segment

    def rewrite(self, name: str, body: bytes, source: str | None = None) -> None:
        """Put other records in the place of a segment's, line for line: only an erasure does that. Durable when it returns."""
        mark = digest(body)[:24]
        # First where to find it: the same log, read again without what was erased, gives these records.
        write_durably(self.folder / REWRITTEN, canonical(self._rewritten() | {mark: name}))
        head = self.head(name)
        self._put(replace(head, now=mark, source=head.source if source is None else source), body)
        self.by_digest[mark] = name

    def _put(self, segment: Segment, body: bytes) -> None:
        head = {
            "flywheel": "segment/1", "source": segment.source, "origin": segment.origin, "received": segment.received,
            "settles": segment.settles, "flaws": segment.flaws,
        } | ({"now": segment.now} if segment.now else {})  # fmt: skip
        packed = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(canonical(head) + b"\n" + body)
        write_durably(self.folder / f"{segment.name}{SUFFIX}", packed)

    def _rewritten(self) -> dict[str, str]:
        """Digest -> name of the segments from which something was erased. Only a shortcut: without it, a log that is read again
        makes a second segment, of duplicates."""
        try:
            return orjson.loads((self.folder / REWRITTEN).read_bytes())
        except (FileNotFoundError, orjson.JSONDecodeError):
            return {}

    @property
    def known(self) -> set[str]:
        return set(self.names)

    def lines(self, name: str) -> tuple[Segment, list[bytes]]:
        """A segment and its records, one by one."""
        segment, body = self.read(name)
        return segment, body.split(b"\n")[:-1]

    def read(self, name: str) -> tuple[Segment, bytes]:
        """A segment and its records, as lines. Raises Refused where it is missing, cut or changed."""
        path = self.folder / f"{name}{SUFFIX}"
        try:
            data = zstandard.ZstdDecompressor().decompress(path.read_bytes(), max_output_size=MAX_SEGMENT_BYTES)
        except FileNotFoundError:
            raise Refused(
                f"{path} is missing", "restore it from a backup; its rows can't be rebuilt without it"
            ) from None
        except zstandard.ZstdError as e:
            raise Refused(f"{path} is damaged: {e}", "restore it from a backup") from None
        head, _, body = data.partition(b"\n")
        segment = _segment(name, head)
        if body and digest(body)[:24] != (segment.now or name.partition("-")[2]):
            raise Refused(
                f"{path} does not hold the records that its name is the digest of", "restore it from a backup"
            )
        return segment, body

    def place(self, name: str, line: int) -> tuple[int, int]:
        """Where a record begins in the unpacked file, and how long it is, in bytes."""
        _, lines = self.lines(name)
        return len(self._first_line(name)) + 1 + sum(len(x) + 1 for x in lines[: line - 1]), len(lines[line - 1])

    def head(self, name: str) -> Segment:
        """What a segment's first line says."""
        return _segment(name, self._first_line(name))

    def _first_line(self, name: str) -> bytes:
        head = b""
        with (self.folder / f"{name}{SUFFIX}").open("rb") as f, zstandard.ZstdDecompressor().stream_reader(f) as data:
            while b"\n" not in head and (more := data.read(65536)):
                head += more
        return head.partition(b"\n")[0]

    def all(self) -> Iterator[tuple[Segment, bytes]]:
        for name in list(self.names):
            yield self.read(name)

    def bytes(self) -> int:
        return sum(os.path.getsize(self.folder / f"{name}{SUFFIX}") for name in self.names)  # noqa: PTH202


def _segment(name: str, head: bytes) -> Segment:
    row = orjson.loads(head)
    flaws = tuple((code, message) for code, message in row["flaws"])
    return Segment(name, row["source"], row["origin"], row["received"], row["settles"], flaws, row.get("now", ""))
