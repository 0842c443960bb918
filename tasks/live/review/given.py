"""What was answered so far: every answer file of data/answers, read on as it grows; and the page's own lines appended.

    data/answers/review-ana.jsonl   {"batch_id", "candidate_id", "kind", "content_hash", "annotator": "ana", "value": {…}, …}

Files are all the memory there is: after a restart the same files say again who answered what. What counts in the loop is
decided where answers are received; here a line counts if it is an answer to something asked.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from tasks.errors import BadRecord
from tasks.formats.fields import rfc3339_us
from tasks.live.review.outbox import Key

SUBMITTED, SKIPPED, WITHDRAWN = "submitted", "skipped", "withdrawn"


@dataclass(frozen=True, slots=True)
class Given:
    """A person's newest word on one ask. `time` in µs since 1970."""

    annotator: str
    status: str
    value: dict[str, Any]
    note: str
    content_hash: str
    time: int


class Answers:
    """Who answered what, by what was asked."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.given: dict[Key, dict[str, Given]] = {}
        self._read: dict[str, tuple[int, int]] = {}  # file name -> inode, bytes read

    def refresh(self) -> None:
        """Read what was added. A file that was replaced, cut or taken away means to read all of them again."""
        found = {p.name: p.stat() for p in sorted(self.folder.glob("[!.]*.jsonl")) if p.is_file()}
        for name, (inode, size) in self._read.items():
            if name not in found or found[name].st_ino != inode or found[name].st_size < size:
                self.given, self._read = {}, {}
                break
        for name, status in found.items():
            _, start = self._read.get(name, (0, 0))
            if status.st_size > start:
                with (self.folder / name).open("rb") as f:
                    f.seek(start)
                    data = f.read()
                whole = data.rfind(b"\n") + 1
                self._take(data[:whole])
                self._read[name] = (status.st_ino, start + whole)

    def of(self, key: Key) -> dict[str, Given]:
        """By annotator."""
        return self.given.get(key, {})

    def append(self, annotator: str, lines: Iterable[dict[str, Any]]) -> None:
        """One write, on the disk when this returns. Raises OSError where it is not; then nothing was added."""
        data = b"".join(orjson.dumps(line) + b"\n" for line in lines)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.folder / f"review-{annotator}.jsonl"
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(file).st_size
            if size and os.pread(file, 1, size - 1) != b"\n":  # a line that a crash cut off ends here
                data = b"\n" + data
            try:
                if os.write(file, data) != len(data):
                    raise OSError(28, "the disk is full")
                os.fsync(file)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(file, size)
                raise
        finally:
            os.close(file)
        if size == 0:
            folder = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _take(self, data: bytes) -> None:
        for line in data.split(b"\n"):
            try:
                row = orjson.loads(line)
                key = (row["batch_id"], row["candidate_id"], row["kind"])
                one = Given(
                    row["annotator"], row.get("status", SUBMITTED), row["value"], row.get("note") or "",
                    row["content_hash"], rfc3339_us(row["time"]),
                )  # fmt: skip
            except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, BadRecord):
                continue  # `flywheel receive` rejects it with its reason
            if not all(isinstance(part, str) for part in (*key, one.annotator)) or not isinstance(one.value, dict):
                continue
            people = self.given.setdefault(key, {})
            if one.annotator not in people or people[one.annotator].time <= one.time:
                people[one.annotator] = one
