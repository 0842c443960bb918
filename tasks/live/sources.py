"""Log files of every kind -> chunks of whole records, one JSON text a line, in bounded memory.

    2026-01-05.jsonl.gz, traces.pb, export.csv, observations.parquet, trace.json  ->  Chunk(b'{…}\\n{…}\\n', position, flaws)

What cannot be handed on (a torn archive, a bomb, a line beyond all measure) is a flaw: counted as a reject, with where it stood.
Its message does not repeat the file's name, which may be a person's: the reject has that, redacted, as its source.
"""

from __future__ import annotations

import codecs
import csv
import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from tasks.errors import BadRecord, Refused
from tasks.formats import MAX_LINE_BYTES
from tasks.live.unpacked import PACKED, Raw, Unpacked, as_utf8, is_utf16
from tasks.live.workspace import Workspace, write_durably

CHUNK_BYTES = 16 * 1024 * 1024
READ_BYTES = 1024 * 1024
MAX_DOCUMENT_BYTES = 256 * 1024 * 1024
ARCHIVES = {".zip", ".tar", ".tgz", ".7z", ".rar"}
LOGS = {".jsonl", ".ndjson", ".log", ".txt", ".json", ".pb", ".bin", ".csv", ".parquet"}
# A page of what an API lists (Langfuse, OpenAI): nothing but its rows and where the next page begins.
PAGE = {"data", "meta", "object", "has_more", "first_id", "last_id"}


class Chunk(NamedTuple):
    """Records as lines. `position`: how far the source is read once this chunk is stored; -1 for "not yet to its end"."""

    data: bytes
    position: int
    flaws: tuple[BadRecord, ...] = ()


def files(paths: list[Path]) -> list[Path]:
    """The files named, and the logs in the folders named, in order. Raises Refused for one that does not exist."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            root = path.resolve()
            found += sorted(p for p in root.rglob("*") if _is_log(p, root))
        elif path.is_file():
            found.append(path)
        elif path.name not in ("inbox", "spool"):
            raise Refused(f"{path} does not exist", "check the path; without one, the whole inbox is read")
    return found


def chunks(path: Path, start: int = 0, chunk_bytes: int = CHUNK_BYTES) -> Iterator[Chunk]:
    """What a file holds from `start` on, in chunks of about `chunk_bytes`. Nothing is held beyond a chunk and one line."""
    kind = _kind(path)
    size = path.stat().st_size
    if kind in ARCHIVES:
        yield Chunk(b"", size, (BadRecord("archive", "the file is an archive; unpack it and capture what is in it"),))
    elif path.suffix.lower() in PACKED:
        with path.open("rb") as packed:
            yield from _ended(_read(kind, Unpacked(path, packed), size, chunk_bytes), size)
    elif kind in (".pb", ".bin", ".csv", ".parquet") or is_utf16(path):
        with path.open("rb") as f:
            yield from _ended(_read(kind, f, size, chunk_bytes), size)
    elif kind == ".json" and not _starts_with_a_record(path):
        with path.open("rb") as f:
            yield from _ended(_document(f), size)
    else:
        with path.open("rb") as f:
            f.seek(start)
            yield from _lines(f.read, start, size, chunk_bytes, growing=True)


def unfinished(path: Path, position: int) -> str | None:
    """What of a growing file waits for the rest of its last line, as a person may read it."""
    size = path.stat().st_size
    if position >= size or path.suffix.lower() in PACKED or _kind(path) not in LOGS - {".pb", ".bin", ".csv", ".parquet"}:
        return None
    return f"{path.name}: {size - position} bytes without a line end wait for the rest"


def watch(paths: list[Path], seconds: float) -> Iterator[None]:
    """Once now, and then whenever one of the files grew, changed or came. Ends with the process."""
    seen: object = None
    while True:
        now = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files([p for p in paths if p.exists()])]
        if now != seen:
            seen = now
            yield
        time.sleep(seconds)


class Offsets:
    """How far each file was read. Only a shortcut: losing it costs a second reading and stores nothing twice."""

    def __init__(self, workspace: Workspace, of: str = "logs"):
        self.path = workspace.state / f"offsets-{of}.json"
        try:
            self.known = orjson.loads(self.path.read_bytes())
        except (FileNotFoundError, orjson.JSONDecodeError):
            self.known = {}

    def start(self, path: Path) -> int | None:
        """Where to go on; None where there is nothing new. A file that was replaced, cut or (packed) changed is read anew."""
        position = self.position(path)
        return None if position >= path.stat().st_size else position

    def position(self, path: Path) -> int:
        """Bytes already read of this very file."""
        entry, status = self.known.get(str(path.resolve())), path.stat()
        same = entry and entry["inode"] == status.st_ino and entry["bytes"] <= status.st_size
        if same and not _grows(path):
            same = entry["mtime"] == status.st_mtime_ns
        return entry["bytes"] if same else 0

    def read(self, path: Path, position: int) -> None:
        """Note how far a file is read; counts for other processes, and after a crash, once it is saved."""
        if position >= 0:
            status = path.stat()
            self.known[str(path.resolve())] = {"inode": status.st_ino, "bytes": position, "mtime": status.st_mtime_ns}

    def save(self) -> None:
        write_durably(self.path, orjson.dumps(self.known))


def _kind(path: Path) -> str:
    """The last ending of a name that is not that of a packer; '' where there is none."""
    ending = path.suffix.lower()
    return Path(path.stem).suffix.lower() if ending in PACKED else ending


def _grows(path: Path) -> bool:
    return path.suffix.lower() not in PACKED and _kind(path) not in (".pb", ".bin", ".csv", ".parquet", ".json")


def _is_log(path: Path, root: Path) -> bool:
    if path.name.startswith(".") or not path.is_file() or not path.resolve().is_relative_to(root):
        return False
    return _kind(path) in LOGS or _kind(path) in ARCHIVES


def _read(kind: str, f: Any, size: int, chunk_bytes: int) -> Iterator[Chunk]:
    if kind in (".pb", ".bin"):
        yield from _protobuf(f)
    elif kind == ".csv":
        yield from _csv(f, chunk_bytes)
    elif kind == ".parquet":
        yield from _parquet(f, chunk_bytes)
    elif kind == ".json":
        yield from _document(f)
    else:
        yield from _lines(as_utf8(f.read), 0, size, chunk_bytes, growing=False)


def _ended(found: Iterator[Chunk], size: int) -> Iterator[Chunk]:
    """The source is read to its end only with its last chunk; a flaw of the stream itself comes as the last one."""
    last = None
    try:
        for chunk in found:
            if last is not None:
                yield last._replace(position=-1)
            last = chunk
    except BadRecord as e:
        if last is not None:
            yield last._replace(position=-1)
        last = Chunk(b"", size, (e,))
    yield last._replace(position=size) if last is not None else Chunk(b"", size)


def _lines(read: Callable[[int], bytes], start: int, size: int, chunk_bytes: int, growing: bool) -> Iterator[Chunk]:
    """Whole lines. Of a growing file an unfinished last line waits, unless it is whole JSON by itself."""
    held, position, flaws = b"", start, []
    torn: BadRecord | None = None
    while True:
        try:
            more = read(chunk_bytes)
        except BadRecord as e:
            more, torn = b"", e
        held += more
        end = held.rfind(b"\n") + 1
        if end == 0 and len(held) > MAX_LINE_BYTES:
            skipped, held = _skip_line(read, held, chunk_bytes)
            flaws.append(
                BadRecord(
                    "too_long", f"a line of {skipped:,} bytes at byte {position:,}; the limit is {MAX_LINE_BYTES:,}"
                )
            )
            position += skipped
            continue
        if not more:
            whole = held if (not growing and torn is None) or _is_json(held) else held[:end]
            if torn is not None:
                flaws.append(
                    BadRecord(torn.code, f"{torn.message}; {position + len(whole):,} bytes before that were read")
                )
            if whole or flaws:
                yield Chunk(
                    whole if whole.endswith(b"\n") or not whole else whole + b"\n", position + len(whole), tuple(flaws)
                )
            return
        if end:
            yield Chunk(held[:end], position + end, tuple(flaws))
            held, position, flaws = held[end:], position + end, []


def _skip_line(read: Callable[[int], bytes], held: bytes, chunk_bytes: int) -> tuple[int, bytes]:
    """Read past a line without holding it: its length, and what stands after it."""
    skipped = len(held)
    while more := read(chunk_bytes):
        end = more.find(b"\n") + 1
        if end:
            return skipped + end, more[end:]
        skipped += len(more)
    return skipped, b""


def _document(f: Any) -> Iterator[Chunk]:
    """One JSON document, or an array of records."""
    data = as_utf8(f.read)(MAX_DOCUMENT_BYTES + 1)
    while len(data) <= MAX_DOCUMENT_BYTES and (more := f.read(READ_BYTES)):
        data += more
    if len(data) > MAX_DOCUMENT_BYTES:
        raise BadRecord(
            "too_long", f"the file is one document of more than {MAX_DOCUMENT_BYTES:,} bytes; write JSON lines"
        )
    try:
        value = orjson.loads(data.removeprefix(codecs.BOM_UTF8))
    except orjson.JSONDecodeError:
        # Perhaps lines after all; those that are none are rejected one by one.
        yield Chunk(data if data.endswith(b"\n") else data + b"\n", 0)
        return
    if isinstance(value, dict) and value.keys() <= PAGE and isinstance(value.get("data"), list):
        value = value["data"]  # each of its rows belongs to a conversation of its own
    rows = value if isinstance(value, list) else [value]
    yield Chunk(b"".join(orjson.dumps(row) + b"\n" for row in rows), 0)


def _protobuf(f: Any) -> Iterator[Chunk]:
    from tasks.formats.protobuf import sniff

    data = f.read(MAX_DOCUMENT_BYTES + 1)
    if len(data) > MAX_DOCUMENT_BYTES:
        raise BadRecord("too_long", f"the file is more than {MAX_DOCUMENT_BYTES:,} bytes of protobuf in one piece")
    yield Chunk(orjson.dumps(sniff(data)) + b"\n", 0)


def _csv(f: Any, chunk_bytes: int) -> Iterator[Chunk]:
    csv.field_size_limit(MAX_LINE_BYTES)
    text = io.TextIOWrapper(io.BufferedReader(Raw(as_utf8(f.read))), encoding="utf-8-sig", errors="replace", newline="")
    lines: list[bytes] = []
    held = 0
    try:
        for row in csv.DictReader(text):
            if None in row:
                line = orjson.dumps(
                    {"csv": row}
                )  # more cells than the header names: no dialect reads it, and it is seen
            else:
                line = orjson.dumps({k: v if v else None for k, v in row.items()})
            lines.append(line + b"\n")
            held += len(line)
            if held >= chunk_bytes:
                yield Chunk(b"".join(lines), 0)
                lines, held = [], 0
    except csv.Error as e:
        yield Chunk(b"".join(lines), 0)
        raise BadRecord("bad_csv", str(e)) from None
    if lines:
        yield Chunk(b"".join(lines), 0)


def _parquet(f: Any, chunk_bytes: int) -> Iterator[Chunk]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        source = pq.ParquetFile(f if isinstance(f, io.BufferedReader) else pa.BufferReader(f.read(MAX_DOCUMENT_BYTES)))
        for batch in source.iter_batches(batch_size=2000):
            lines = [
                orjson.dumps(
                    row, default=_plain, option=orjson.OPT_UTC_Z | orjson.OPT_NAIVE_UTC | orjson.OPT_NON_STR_KEYS
                )
                for row in batch.to_pylist(maps_as_pydicts="lossy")
            ]
            yield Chunk(b"".join(line + b"\n" for line in lines), 0)
    except (pa.ArrowException, OSError, TypeError) as e:
        raise BadRecord("bad_parquet", str(e)) from None


def _plain(value: Any) -> Any:
    """What Parquet has and JSON has not: bytes and decimals as text."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _starts_with_a_record(path: Path) -> bool:
    """Whether a .json file is JSON lines in truth: its first line is an object by itself, and more follows."""
    with path.open("rb") as f:
        first = f.readline(MAX_LINE_BYTES).strip()
        while not first and (line := f.readline(MAX_LINE_BYTES)):
            first = line.strip()
        return first.startswith(b"{") and _is_json(first) and bool(f.read(1))


def _is_json(data: bytes) -> bool:
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return True
