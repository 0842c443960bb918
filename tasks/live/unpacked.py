"""Packed and recoded files as streams of plain bytes, in bounded memory: gzip, zstd, bzip2, UTF-16.

Unpacked(path, f).read(1 << 20)  ->  the next megabyte of what was packed; a BadRecord after all that came before a flaw
"""

from __future__ import annotations

import bz2
import codecs
import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

from tasks.errors import BadRecord

READ_BYTES = 1024 * 1024
# A text log packs 5 to 40 times. Beyond both of these a file was made to hurt.
BOMB_RATIO, BOMB_BYTES = 200, 64 * 1024 * 1024
PACKED = {".gz", ".zst", ".bz2"}


class Unpacked:
    """A packed stream, read in bounded pieces. Raises BadRecord where it is torn or a bomb, after all that came before."""

    def __init__(self, path: Path, packed: BinaryIO):
        self.packed = packed
        self.taken = self.given = 0
        self.ready = bytearray()
        self.over = False
        kind = path.suffix.lower()
        self.make = {".gz": lambda: zlib.decompressobj(31), ".bz2": bz2.BZ2Decompressor, ".zst": _Zst}[kind]
        self.unpacker: Any = self.make()

    def read(self, size: int = -1) -> bytes:
        while not self.over and (size < 0 or len(self.ready) < size):
            try:
                self._more()
            except (zlib.error, OSError, EOFError, zstandard.ZstdError) as e:
                self._stop("truncated", f"the file is damaged after {self.taken:,} packed bytes ({e})")
        if not self.ready and isinstance(self.over, BadRecord):
            raise self.over
        size = len(self.ready) if size < 0 else size
        given = bytes(self.ready[:size])
        del self.ready[:size]
        return given

    def _more(self) -> None:
        piece = self.packed.read(READ_BYTES // 16)
        if not piece:
            if not self._is_whole():
                self._stop("truncated", f"the file ends in the middle, after {self.taken:,} packed bytes")
            else:
                self.over = True
            return
        self.taken += len(piece)
        while piece and not self.over:
            if self._is_whole() and self.given:
                self.unpacker = self.make()  # members one after the other, as log rotation writes them
            for out in self._out(piece):
                self.given += len(out)
                self.ready += out
                if self.given > BOMB_BYTES and self.given > BOMB_RATIO * self.taken:
                    del self.ready[self.ready.rfind(b"\n") + 1 :]
                    self._stop("bomb", f"the file unpacks to more than {BOMB_RATIO} times its size; no more was read")
                    return
            piece = getattr(self.unpacker, "unused_data", b"") if self._is_whole() else b""

    def _out(self, piece: bytes) -> Iterator[bytes]:
        if isinstance(self.unpacker, bz2.BZ2Decompressor):
            yield self.unpacker.decompress(piece, READ_BYTES)
            while not self.unpacker.eof and not self.unpacker.needs_input:
                yield self.unpacker.decompress(b"", READ_BYTES)
        else:
            while piece:
                yield self.unpacker.decompress(piece, READ_BYTES)
                piece = self.unpacker.unconsumed_tail

    def _is_whole(self) -> bool:
        return self.unpacker.eof

    def _stop(self, code: str, message: str) -> None:
        self.over = BadRecord(code, message)  # type: ignore[assignment]


class _Zst:
    """zstandard's decompressor with the interface of zlib's, one piece of output at a time."""

    def __init__(self) -> None:
        self.inner = zstandard.ZstdDecompressor().decompressobj(write_size=READ_BYTES)
        self.unconsumed_tail = b""

    @property
    def eof(self) -> bool:
        return self.inner.eof

    @property
    def unused_data(self) -> bytes:
        return self.inner.unused_data

    def decompress(self, piece: bytes, most: int) -> bytes:
        # A few kilobytes of zstd may be gigabytes of zeros: small bites keep what comes out small enough to look at.
        bite, self.unconsumed_tail = piece[:512], piece[512:]
        return self.inner.decompress(bite)


class Raw(io.RawIOBase):
    """A read function as the raw stream that a text reader wants."""

    def __init__(self, read: Callable[[int], bytes]):
        self._read = read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def as_utf8(read: Callable[[int], bytes]) -> Callable[[int], bytes]:
    """UTF-16 (by its mark) as UTF-8; anything else as it is."""
    decoder: Any = None
    began = False

    def recoded(size: int) -> bytes:
        nonlocal decoder, began
        data = read(size)
        if not began and data:
            began = True
            if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                decoder = codecs.getincrementaldecoder("utf-16")("replace")
        return decoder.decode(data).encode("utf-8", "replace") if decoder else data

    return recoded


def is_utf16(path: Path) -> bool:
    with path.open("rb") as f:
        return f.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
