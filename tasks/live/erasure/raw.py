"""Their lines in the raw segments, the receiver's spool and the inbox.

    find(workspace, facts)  ->  which lines of which segments are theirs, and the facts that only these lines tell
    segments(workspace, …)  ->  the lines are tombstones; those that others share hold the others' records

The lake does not know every line: a record that came twice, waits for its prompt or could not be read is in the segments only. A
log of the inbox may still grow, so its lines are overwritten where they stand, with blanks, and no byte moves.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from tasks.errors import BadRecord
from tasks.formats import load_line, parse
from tasks.live.capture import edge_of, rereading
from tasks.live.edge import FIRST_LINE
from tasks.live.erasure.lines import TOMBSTONE, Without, without
from tasks.live.erasure.needles import Needles
from tasks.live.erasure.subject import Subject
from tasks.live.erasure.theirs import CANDIDATE, INTERACTION, PART, RECORD, Fact, Facts
from tasks.live.lake import Lake
from tasks.live.rows import interaction_id
from tasks.live.segments import Segments
from tasks.live.sources import PACKED, Offsets, chunks, files
from tasks.live.workspace import Workspace, write_durably
from tasks.records import canonical
from tasks.redact import Edge

LINES = (".jsonl", ".ndjson", ".log", ".txt", ".open")


@dataclass(slots=True)
class Found:
    """`lines`: segment -> line -> the line without them. `facts`: what these lines tell beyond what was known."""

    lines: dict[str, dict[int, Without]] = field(default_factory=dict)
    facts: set[Fact] = field(default_factory=set)


def find(workspace: Workspace, facts: set[Fact]) -> Found:
    """One look through all segments."""
    found, theirs, edge = Found(), Facts(facts), rereading(workspace)
    needles = Needles(v for kind, _, v in facts if kind != CANDIDATE)
    everyone = _ids_of_others(workspace, facts)
    segments = Segments(workspace.raw)
    for segment, body in segments.all():
        if not needles.any(body):
            continue
        lines = body.split(b"\n")
        for n in sorted(needles.lines(body)):
            rest = without(lines[n], theirs, segment.origin, edge)
            if rest is not None:
                found.lines.setdefault(segment.name, {})[n + FIRST_LINE] = rest
                found.facts |= _facts(rest, theirs, everyone)
    found.facts -= facts
    return found


def _facts(rest: Without, theirs: Facts, everyone: set[str]) -> set[Fact]:
    """What a line of theirs tells: the ids of their interactions, and the parts that these wait for."""
    facts: set[Fact] = set()
    for raw in rest.parsed.interactions:
        if theirs.interaction(raw):
            facts.add((INTERACTION, "", interaction_id(raw)))
            names = {raw.native_id, raw.response_id, raw.trace_id} - everyone - {""}
            facts |= {(RECORD, raw.tenant, n) for n in names} | {(PART, "", w.key) for w in raw.wants if w.key not in everyone}
    return facts


def _ids_of_others(workspace: Workspace, facts: set[Fact]) -> set[str]:
    """Traces that interactions of others are in too: what stands under these is not theirs alone."""
    own = sorted({v for kind, _, v in facts if kind == INTERACTION})
    sql = """SELECT DISTINCT v FROM (SELECT unnest([native_id, response_id, trace_id]) AS v FROM interactions
             WHERE NOT list_contains($own, interaction_id)) WHERE v <> '' AND v IN (
                 SELECT unnest([native_id, response_id, trace_id]) FROM interactions WHERE list_contains($own, interaction_id))"""
    return set(Lake(workspace.lake).query(sql, {"own": own})["v"].to_pylist())


def rewrite(workspace: Workspace, found: Found) -> dict[str, int]:
    """Put the tombstones in. Repeating it changes nothing."""
    segments, counts = Segments(workspace.raw), {"lines": 0, "lines shared with others": 0, "others' interactions lost from raw": 0}
    for name, of_lines in found.lines.items():
        _, lines = segments.lines(name)
        for n, rest in of_lines.items():
            counts["lines"] += 1
            counts["lines shared with others"] += rest.line != TOMBSTONE
            counts["others' interactions lost from raw"] += len(rest.others_lost)
            lines[n - FIRST_LINE] = rest.line
        segments.rewrite(name, b"".join(line + b"\n" for line in lines))
    return {k: n for k, n in counts.items() if n}


def answer_segments(workspace: Workspace, found: Subject) -> int:
    """What people answered about them, in the segments of answers."""
    theirs, done = set(found.candidates), 0
    segments = Segments(workspace.raw / "answers")
    for name in list(segments.names):
        _, lines = segments.lines(name)
        hit = [n for n, line in enumerate(lines) if is_answer_about(line, theirs)]
        for n in hit:
            lines[n] = TOMBSTONE
        if hit:
            segments.rewrite(name, b"".join(line + b"\n" for line in lines))
        done += len(hit)
    return done


def is_answer_about(line: bytes, candidates: set[str]) -> bool:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return any(c.encode() in line for c in candidates)
    return isinstance(row, dict) and row.get("candidate_id") in candidates


def spool(workspace: Workspace, found: Subject) -> int:
    """What the receiver took and capture has not: redacted already."""
    theirs, edge = Facts(found.facts), rereading(workspace)
    return sum(
        _blank(path, lambda line: (w := without(line, theirs, "spool", edge)) and w.line, found.needles)
        for path in sorted(workspace.spool.glob("*")) if path.suffix in LINES
    )  # fmt: skip


def inbox(workspace: Workspace, found: Subject) -> tuple[int, list[str]]:
    """The application's own logs, as they came: here identities are still plain. Returns the lines, and what is left to people."""
    theirs, edge, offsets = Facts(found.facts), edge_of(workspace), Offsets(workspace)
    # Whom only a pseudonym names stands in a log under a name that nobody knows: then every line is looked at.
    named = Needles((v for kind, _, v in found.facts if kind != CANDIDATE), [found.logged]) if found.logged else None
    done, by_hand = 0, []
    for path in files([workspace.inbox]):
        origin = path.resolve().parent.relative_to(workspace.data.resolve()).as_posix()

        def rest(line: bytes, origin: str = origin) -> bytes | None:
            return _as_logged(line, theirs, edge, origin) if named is None or named.any(line) else None

        if path.suffix.lower() in LINES and path.suffix.lower() not in PACKED:
            done += _blank(path, rest, found.needles)
        else:
            lines, of_chunks = 0, []
            for chunk in chunks(path):
                kept = []
                for line in chunk.data.split(b"\n")[:-1]:
                    left = rest(line)
                    lines += left is not None
                    kept.append(line if left is None else left)
                of_chunks.append(b"".join(k + b"\n" for k in kept if k.strip()))
                if any(f.code in ("archive", "bomb", "too_long") for f in chunk.flaws):
                    by_hand.append(f"{path}: it can't be read, so nobody knows whether they are in it; look, or delete it")
            if lines:
                _as_lines(path, of_chunks, offsets)
                done += lines
    return done, by_hand


def read_elsewhere(workspace: Workspace, found: Subject) -> list[str]:
    """Logs outside of the workspace that capture was pointed at and that still name the user."""
    needles = Needles([found.logged] if found.logged else [], found.texts)
    named = []
    for name in Offsets(workspace).known:
        path = Path(name)
        if path.is_file() and not path.is_relative_to(workspace.root):
            with path.open("rb") as f:
                if any(needles.any(block) for block in iter(lambda: f.read(1 << 24), b"")):
                    named.append(f"{path}: a log that capture read, outside of the workspace, names them: erase them there")
    return named


def _as_logged(line: bytes, theirs: Facts, edge: Edge, origin: str) -> bytes | None:
    """A line of a log without theirs (b'' nothing left), None where nothing is theirs."""
    if not line.strip():
        return None
    try:
        document = load_line(line)
        document = edge.translate(document) or document
        parsed = parse(edge.document(document), origin)
    except (BadRecord, RecursionError):
        return b"" if theirs.in_text(edge.line(line)) else None
    if not theirs.any(parsed) and not (parsed.rejects and theirs.in_text(canonical(edge.document(document)))):
        return None
    kept = orjson.dumps(edge.document(document))
    rest = without(kept, theirs, origin)
    # Where others share the line, it is left as it may be kept: redacted.
    return b"" if rest is None or rest.line == TOMBSTONE else rest.line


def _blank(path: Path, rest_of: Callable[[bytes], bytes | None], needles: Needles) -> int:
    """Overwrite their lines in place: whoever appends to the file, or reads it by position, notices nothing."""
    done = 0
    with path.open("r+b") as f:
        for start, line in _lines(f):
            left = rest_of(line)
            if left is None and line[:1] == b" " and needles.any(line):
                left = b""  # a line that was half overwritten when the process died
            if left is None:
                continue
            if left == TOMBSTONE or len(left) > len(line):
                left = b""
            os.pwrite(f.fileno(), left.ljust(len(line)), start)
            done += 1
        if done:
            os.fsync(f.fileno())
    return done


def _lines(f) -> Iterator[tuple[int, bytes]]:
    start = 0
    for line in f:
        yield start, line.rstrip(b"\r\n")
        start += len(line)


def _as_lines(path: Path, of_chunks: list[bytes], offsets: Offsets) -> None:
    """A log that is no lines (or packed) becomes one of lines: that reads the same, and can be taken apart."""
    whole = path.stat().st_size
    read = offsets.position(path) >= whole
    made = path.with_name(f"{path.name}.jsonl")
    write_durably(made, b"".join(of_chunks))
    path.unlink()
    if read:
        offsets.read(made, made.stat().st_size)
        offsets.save()
