"""The spool: what the receiver took, on the disk before it is acknowledged; capture reads it and removes it.

data/spool/1767571200123456.open   being written      1767571200123456.jsonl   complete, for capture to read

A process that has files of its own there names them apart (serve-1767571200123456.open): nobody finishes another's.
Records that arrive while the disk is busy are written and synced together (group commit): one fsync serves them all.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path
from typing import BinaryIO

ROTATE_BYTES = 64 * 1024 * 1024
ROTATE_SECONDS = 5.0  # how long capture does not see what was acknowledged


class Full(Exception):
    """More waits for the disk than may be held in memory."""


class Spool:
    """Appends lines durably. One task (`run`) writes; `put` returns once its lines are on the disk."""

    def __init__(self, folder: Path, max_waiting: int, owner: str = ""):
        self.folder = folder
        self.owner = owner
        self.max_waiting = max_waiting
        self.waiting = 0  # bytes
        self.acknowledged = 0  # requests
        self._queue: list[tuple[bytes, asyncio.Future[None]]] = []
        self._wake = asyncio.Event()
        self._closing = False
        self._file: BinaryIO | None = None
        self._path = folder
        self._opened = 0.0
        folder.mkdir(parents=True, exist_ok=True)
        recover(folder, owner)

    async def put(self, lines: bytes) -> None:
        """Returns when the lines are on the disk. Raises Full, and OSError where the disk refuses; then nothing is kept."""
        if self.waiting + len(lines) > self.max_waiting:
            raise Full
        done = asyncio.get_running_loop().create_future()
        self.waiting += len(lines)
        self._queue.append((lines, done))
        self._wake.set()
        try:
            await done
        finally:
            self.waiting -= len(lines)
        self.acknowledged += 1

    async def run(self) -> None:
        """Write until `close`; what was put before is written first."""
        while not (self._closing and not self._queue):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), ROTATE_SECONDS)
            self._wake.clear()
            group, self._queue = self._queue, []
            if group:
                try:
                    await asyncio.to_thread(self._write, b"".join(lines for lines, _ in group))
                except OSError as e:
                    for _, done in group:
                        if not done.done():
                            done.set_exception(e)
                else:
                    for _, done in group:
                        if not done.done():
                            done.set_result(None)
            if self._file and (self._file.tell() > ROTATE_BYTES or time.monotonic() - self._opened > ROTATE_SECONDS):
                self._finish()
        self._finish()

    def close(self) -> None:
        self._closing = True
        self._wake.set()

    def _write(self, data: bytes) -> None:
        if self._file is None:
            self._path = self.folder / f"{self.owner}{time.time_ns() // 1000}.open"
            self._file = self._path.open("xb", buffering=0)
            self._opened = time.monotonic()
            _sync_folder(self.folder)
        start = self._file.tell()
        try:
            written = 0
            while written < len(data):
                written += self._file.write(data[written:])
            os.fsync(self._file.fileno())
        except OSError:
            # Nobody was told that these are kept: take them out again, so that a retry does not stand behind half a line.
            with contextlib.suppress(OSError):
                self._file.truncate(start)
                self._file.seek(start)
            raise

    def _finish(self) -> None:
        if self._file is not None:
            size = self._file.tell()
            self._file.close()
            self._file = None
            _publish(self._path, size)


def recover(folder: Path, owner: str = "") -> None:
    """Publish what a process of this owner left behind when it was killed. A last line without an end was never acknowledged."""
    for path in folder.glob(f"{owner}[0-9]*.open"):
        if path.is_symlink():  # none of ours; what it leads to would be cut
            continue
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        os.truncate(path, whole)
        _publish(path, whole)


def _publish(path: Path, size: int) -> None:
    if size:
        path.rename(path.with_suffix(".jsonl"))
    else:
        path.unlink()
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
