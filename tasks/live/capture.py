"""Capture: log files in the inbox -> fsynced raw segments -> interactions, feedback and rejects in the lake.

    turn-01-spans.jsonl (1,204 lines)  ->  in 2,409 = stored 1,201 + duplicate 2 + rejected 2 + attached 1,204

Raw lands first: a segment's name is the digest of its bytes, so that reading a file twice, or dying anywhere in
between, ends in the same tables. A file may still be growing: an unfinished last line waits for its end.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import orjson

from tasks.errors import BadRecord, Refused
from tasks.formats import parse_line
from tasks.formats.fields import Parsed, RawFeedback, RawInteraction
from tasks.live.lake import Lake
from tasks.live.workspace import Workspace, write_durably
from tasks.records import Feedback, Interaction, Reject, canonical, content_id, digest

CHUNK_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class CaptureParams:
    max_reject_share: float


@dataclass(slots=True)
class Account:
    """What became of every record: seen = stored + duplicate + rejected + attached, always."""

    files: int = 0
    stored: int = 0
    duplicate: int = 0
    rejected: int = 0
    attached: int = 0
    conflicts: int = 0
    unfinished: list[str] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)

    @property
    def seen(self) -> int:
        return self.stored + self.duplicate + self.rejected + self.attached

    def reject_share(self) -> float:
        return self.rejected / self.seen if self.seen else 0.0

    def add(self, stored: int, duplicate: int, rejects: list[Reject]) -> None:
        self.stored += stored
        self.duplicate += duplicate
        self.rejected += len(rejects)
        for reject in rejects:
            self.reasons[reject.code] = self.reasons.get(reject.code, 0) + 1

    def as_dict(self) -> dict:
        return {"seen": self.seen, **asdict(self)}


def capture(workspace: Workspace, files: list[Path] | None = None) -> Account:
    """Read what is new in the inbox (or in the files named). Raises Refused for a file that is not there."""
    for path in files or []:
        if not path.is_file():
            raise Refused(f"{path} does not exist", "check the path; without one, the whole inbox is read")
    with workspace.lock("lake"):
        account, lake = Account(), Lake(workspace.lake)
        offsets = Offsets(workspace)
        for path in files or sorted(workspace.inbox.glob("*.jsonl")):
            for segment, data in new_segments(workspace, path, offsets, account):
                _store(workspace, lake, path.name, segment, data, account)
        return account


def new_segments(workspace: Workspace, path: Path, offsets: Offsets, account: Account) -> Iterator[tuple[str, bytes]]:
    """What a file holds beyond what was read of it, in whole lines, each part on the disk as a raw segment when it is given.

    The file counts as read only when the caller asks for the next part: what it was doing with this one is then done.
    A last line without its end waits, unless it is whole JSON by itself.
    """
    start, size = offsets.of(path), path.stat().st_size
    if start >= size:
        return
    account.files += 1
    with path.open("rb") as log:
        log.seek(start)
        while chunk := log.read(CHUNK_BYTES):
            end = chunk.rfind(b"\n") + 1
            while end == 0 and (more := log.read(CHUNK_BYTES)):
                chunk += more
                end = chunk.rfind(b"\n") + 1
            if end < len(chunk) and log.tell() >= size and _is_json(chunk[end:]):
                end = len(chunk)
            if end == 0:
                break
            segment = digest(chunk[:end])[:24]
            write_durably(workspace.raw / f"{segment}.jsonl", chunk[:end])
            yield segment, chunk[:end]
            start += end
            log.seek(start)
            offsets.set(path, start)
    if start < size:
        account.unfinished.append(f"{path.name}: {size - start} bytes without a line end wait for the rest")


def _store(workspace: Workspace, lake: Lake, name: str, segment: str, data: bytes, account: Account) -> None:
    key = workspace.pseudonym_key()
    interactions, feedback, rejects = [], [], []
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            parsed = parse_line(line)
        except BadRecord as e:
            parsed = Parsed(rejects=[e])
        account.attached += parsed.attached
        interactions += [_interaction(i, key, segment, number) for i in parsed.interactions]
        feedback += [_feedback(f, key, segment, number) for f in parsed.feedback]
        for nth, bad in enumerate(parsed.rejects):
            reject_id = content_id("rj", segment, number, nth)
            rejects.append(Reject(reject_id, name, bad.code, bad.message, segment, number))
    account.conflicts += _conflicts(lake, interactions)
    for table, rows in (("interactions", interactions), ("feedback", feedback)):
        account.add(*lake.append(table, rows), [])
    lake.append("rejects", rejects)
    account.add(0, 0, rejects)


def _interaction(raw: RawInteraction, key: bytes, segment: str, line: int) -> Interaction:
    messages = canonical(raw.messages).decode()
    question = next(m["content"] for m in reversed(raw.messages) if m["role"] == "user")
    return Interaction(
        interaction_id=content_id("ix", raw.dialect, raw.native_id),
        dialect=raw.dialect,
        native_id=raw.native_id,
        response_id=raw.response_id,
        trace_id=raw.trace_id,
        session_id=raw.session_id or raw.trace_id or raw.native_id,
        user=_pseudonym(key, raw.user_id),
        ts=raw.ts,
        messages=messages,
        question=question,
        response=raw.response,
        contexts=canonical(raw.contexts).decode(),
        finish_reason=raw.finish_reason,
        model_version=raw.model_version,
        confidence=raw.confidence,
        latency_ms=raw.latency_ms,
        input_tokens=raw.input_tokens,
        output_tokens=raw.output_tokens,
        content_hash=content_id("ch", messages, raw.response),
        raw_segment=segment,
        raw_line=line,
    )


def _feedback(raw: RawFeedback, key: bytes, segment: str, line: int) -> Feedback:
    return Feedback(
        feedback_id=content_id("fb", raw.native_id),
        target=raw.target,
        name=raw.name,
        value=canonical(raw.value).decode(),
        user=_pseudonym(key, raw.user_id),
        ts=raw.ts,
        raw_segment=segment,
        raw_line=line,
    )


def _conflicts(lake: Lake, interactions: list[Interaction]) -> int:
    """Same id, other content: the first is kept and the number is shown, because one of the two logs is wrong."""
    if not interactions:
        return 0
    known = lake.query("SELECT interaction_id, content_hash FROM interactions")
    first = dict(zip(known["interaction_id"].to_pylist(), known["content_hash"].to_pylist(), strict=True))
    return sum(1 for i in interactions if first.setdefault(i.interaction_id, i.content_hash) != i.content_hash)


def _pseudonym(key: bytes, user_id: str) -> str:
    """The same user under the same key is the same pseudonym; without the key it leads nowhere."""
    return "u_" + hmac.digest(key, user_id.encode(), "sha256").hex()[:16] if user_id else ""


class Offsets:
    """How far each file was read. Only a shortcut: losing it costs a second reading and stores nothing twice."""

    def __init__(self, workspace: Workspace):
        self.path = workspace.state / "offsets.json"
        try:
            self.known = orjson.loads(self.path.read_bytes())
        except (FileNotFoundError, orjson.JSONDecodeError):
            self.known = {}

    def of(self, path: Path) -> int:
        """Bytes already read of this very file; a file that was replaced (another inode) or cut is read anew."""
        entry = self.known.get(str(path.resolve()))
        status = path.stat()
        return entry["bytes"] if entry and entry["inode"] == status.st_ino and entry["bytes"] <= status.st_size else 0

    def set(self, path: Path, offset: int) -> None:
        self.known[str(path.resolve())] = {"inode": path.stat().st_ino, "bytes": offset}
        write_durably(self.path, orjson.dumps(self.known))


def _is_json(data: bytes) -> bool:
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return True
