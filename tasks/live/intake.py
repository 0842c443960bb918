"""Intake: one chunk of lines -> a raw segment on the disk -> rows of the lake, with an account of every record.

    in 24,310 = stored 24,180 + duplicate 120 + rejected 8 + attached 2 + waiting 0

The same records again, from whatever file, store nothing: rows are upserts by ids that derive from their content.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import orjson
import pyarrow as pa
from msgspec.structs import replace

from tasks.errors import BadRecord
from tasks.formats import complete
from tasks.formats.fields import Parsed, RawInteraction
from tasks.live import rows
from tasks.live.edge import FIRST_LINE, Read, clean, reread, reread_line
from tasks.live.lake import Lake
from tasks.live.rows import Placed
from tasks.live.segments import Segment, Segments
from tasks.records import Reject, Waiting, content_id
from tasks.redact import Edge

# Optional parts that always exist, if perhaps in a later export: worth a wait, because feedback finds sessions by them.
PATIENT = ("langfuse_trace",)
# Rejects that say what an application did not log, not that its log is broken: they are counted, and no cause for alarm.
HARMLESS = ("no_content",)


@dataclass(slots=True)
class Account:
    """What became of every record: seen + resumed = stored + duplicate + rejected + attached + waiting, always.

    `resumed` are records of earlier captures whose missing part came, or was given up, this time.
    """

    files: int = 0
    stored: int = 0
    duplicate: int = 0
    rejected: int = 0
    attached: int = 0
    waiting: int = 0
    resumed: int = 0
    conflicts: int = 0
    bytes: int = 0
    unfinished: list[str] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)
    redacted: dict[str, int] = field(default_factory=dict)

    @property
    def seen(self) -> int:
        return self.stored + self.duplicate + self.rejected + self.attached + self.waiting - self.resumed

    def reject_share(self) -> float:
        """The share of records that could not be read; those without content are no fault of the log."""
        broken = self.rejected - sum(self.reasons.get(code, 0) for code in HARMLESS)
        return broken / self.seen if self.seen else 0.0

    def add(self, stored: int, duplicate: int, rejects: Sequence[Reject]) -> None:
        self.stored += stored
        self.duplicate += duplicate
        self.rejected += len(rejects)
        for reject in rejects:
            self.reasons[reject.code] = self.reasons.get(reject.code, 0) + 1

    def as_dict(self) -> dict:
        return {"seen": self.seen, **asdict(self)}


class Intake:
    """Takes chunks of lines into one lake. `wait_us`: how long an interaction waits for a record that completes it."""

    def __init__(self, lake: Lake, segments: Segments, wait_us: int, account: Account):
        self.lake = lake
        self.segments = segments
        self.wait_us = wait_us
        self.account = account
        self.began_waiting: set[str] = set()

    def take(
        self, data: bytes, edge: Edge, source: str, origin: str, now: int, flaws: Sequence[BadRecord] = ()
    ) -> None:
        """Redact, keep, then store the lines of one chunk; `flaws` are what its source could not hand on."""
        self.account.bytes += len(data)
        lines, read = clean(data.split(b"\n"), edge, origin, self._conversations)
        if not lines and not flaws:
            return
        body = b"".join(line + b"\n" for line in lines)
        segment = self.segments.write(body, source, origin, now, flaws=tuple((f.code, f.message) for f in flaws))
        self._store(segment, read, flaws)

    def replay(self, segment: Segment, lines: list[bytes]) -> None:
        """Store what a raw segment holds. The mark of a run's end settles what waited then."""
        flaws = [BadRecord(code, message) for code, message in segment.flaws]
        self._store(segment, reread(lines, segment.origin), flaws)
        if segment.settles:
            self.settle(segment.received)

    def again(self, segment: Segment, line: int, parsed: Parsed) -> list[BadRecord]:
        """Store what a rejected line holds now; returns what is still wrong with it. What still waits counts as wrong.

        Its good records may have been stored the first time: they are duplicates, and the bad ones are tried again.
        """
        completed = self._completed(parsed.interactions)
        whole = [i for i in completed.values() if not any(want.required for want in i.wants)]
        bad = list(parsed.rejects)
        if len(whole) < len(completed):
            bad.append(BadRecord("incomplete", "the record that holds its prompt has still not come"))
        read = Read()
        good = [replace(i, wants=()) for i in whole]
        read.add(line, Parsed(interactions=good, feedback=parsed.feedback, parts=parsed.parts))
        self._store(segment, read)
        return bad + [e for _, e in read.rejects]

    def _store(self, segment: Segment, read: Read, flaws: Sequence[BadRecord] = ()) -> None:
        # Parts first: whoever waits for them looks into the lake.
        ids = [rows.part_id(p.record) for p in read.parts]
        new = _first(ids, self.lake.known("parts", ids))
        self.lake.add("parts", rows.parts([read.parts[n] for n in new], [ids[n] for n in new], segment.name))
        self._add_new(segment, [*read.plain, rows.interactions(self._whole(segment, read.interactions))])
        self._add_feedback(segment, read.feedback)
        rejects = [_reject(segment, 0, nth, flaw) for nth, flaw in enumerate(flaws)]
        nth_of_line: Counter[int] = Counter()
        for line, bad in read.rejects:
            rejects.append(_reject(segment, line, nth_of_line[line], bad))
            nth_of_line[line] += 1
        self.lake.append("rejects", rejects)
        self.account.add(0, 0, rejects)
        self.account.attached += read.attached

    def settle(self, now: int, mark: bool = False) -> None:
        """The end of a run: complete what waited and now can be, let go without its extras what must not wait longer.

        Optional extras (a call's cost) are waited for until the end of the run that logged the interaction; PATIENT ones
        for `wait_us`; what an interaction is nothing without (its prompt) as long, and then it is rejected.
        With `mark` the settling is put on record, so that a rebuild settles at the same point.
        """
        waiting = self.lake.rows(Waiting, OPEN)
        if not waiting:
            return
        if mark:
            self.segments.write(b"", "", "", now, settles=True)
        by_segment: dict[str, dict[int, list[Waiting]]] = {}
        for w in waiting:
            by_segment.setdefault(w.raw_segment, {}).setdefault(w.raw_line, []).append(w)
        for name, of_lines in sorted(by_segment.items()):
            segment, lines = self.segments.read(name)
            read = {n: reread_line(lines[n - FIRST_LINE], segment.origin).interactions for n in of_lines}
            whole = self._completed([raw for raws in read.values() for raw in raws])
            ready, given_up = [], []
            for number, those in sorted(of_lines.items()):
                for w in those:
                    raw, over = whole[w.interaction_id], now - w.received >= self.wait_us
                    if not any(want.required or want.kind in PATIENT for want in raw.wants) or (
                        over and not w.required
                    ):
                        ready.append(Placed(raw, number))
                    elif over:
                        given_up.append(_given_up(w, segment))
                    else:
                        continue
                    if w.waiting_id in self.began_waiting:
                        self.account.waiting -= 1
                    else:
                        self.account.resumed += 1
            self._add_new(segment, [rows.interactions(ready)])
            self.lake.append("rejects", given_up)
            self.account.add(0, 0, given_up)

    def _whole(self, segment: Segment, placed: list[Placed]) -> list[Placed]:
        """Those interactions that lack nothing, completed with the parts that are there; the others begin to wait."""
        if not any(p.record.wants for p in placed):
            return placed
        completed = self._completed([p.record for p in placed if p.record.wants])
        ready, waiting = [], []
        for p in placed:
            raw = completed[rows.interaction_id(p.record)] if p.record.wants else p.record
            (waiting if raw.wants else ready).append(Placed(raw, p.line))
        self._wait(segment, waiting)
        return ready

    def _add_new(self, segment: Segment, tables: list[pa.Table]) -> None:
        """Append the interactions that the lake does not have yet; of two with the same id, the one that stood first."""
        table = pa.concat_tables(tables)
        ids, hashes = table["interaction_id"].to_pylist(), table["content_hash"].to_pylist()
        known = self.lake.known("interactions", ids, beside="content_hash")
        order = sorted(range(len(ids)), key=table["raw_line"].to_pylist().__getitem__) if len(tables) > 1 else None
        new = _first(ids, known, order)
        first = known | {ids[n]: hashes[n] for n in new}
        # Same id, other content: the first is kept, and the number is shown, because one of the two logs is wrong.
        self.account.conflicts += sum(first[id] != hash for id, hash in zip(ids, hashes, strict=True))
        if len(new) < len(ids):
            table = table.take(pa.array(new, pa.int64()))
        place = table.schema.get_field_index("raw_segment")
        self.lake.add(
            "interactions", table.set_column(place, "raw_segment", pa.repeat(pa.scalar(segment.name), len(table)))
        )
        self.account.add(len(new), len(ids) - len(new), [])

    def _add_feedback(self, segment: Segment, placed: list[Placed]) -> None:
        ids = [rows.feedback_id(p.record) for p in placed]
        new = _first(ids, self.lake.known("feedback", ids))
        table = rows.feedback([placed[n] for n in new], [ids[n] for n in new], segment.received, segment.name)
        self.lake.add("feedback", table)
        self.account.add(len(new), len(ids) - len(new), [])

    def _wait(self, segment: Segment, placed: list[Placed]) -> None:
        if not placed:
            return
        made = []
        for p in placed:
            id = rows.interaction_id(p.record)
            required = any(want.required for want in p.record.wants)
            made.append(Waiting(content_id("wt", id), id, required, segment.received, segment.name, p.line))
        there = self.lake.known("interactions", [w.interaction_id for w in made])
        waiting = self.lake.known("waiting", [w.waiting_id for w in made])
        fresh = {
            w.waiting_id: w for w in reversed(made) if w.interaction_id not in there and w.waiting_id not in waiting
        }
        self.lake.append("waiting", list(fresh.values()))
        self.began_waiting |= fresh.keys()
        self.account.waiting += len(fresh)
        self.account.duplicate += len(made) - len(fresh)

    def _completed(self, raws: list[RawInteraction]) -> dict[str, RawInteraction]:
        """Interactions with the parts that the lake has for them, by interaction id."""
        keys = sorted({want.key for raw in raws for want in raw.wants})
        found: dict[tuple[str, str], list] = {}
        if keys:
            sql = "SELECT kind, key, data FROM parts WHERE list_contains($keys, key) ORDER BY raw_segment, raw_line, part_id"
            for row in self.lake.query(sql, {"keys": keys}).to_pylist():
                found.setdefault((row["kind"], row["key"]), []).append(orjson.loads(row["data"]))
        return {rows.interaction_id(raw): complete(raw, found) for raw in raws}

    def _conversations(self, ids: list[str]) -> dict[str, str]:
        """The conversations of records that were captured before, by response, trace or own id."""
        sql = """
            SELECT id, min(session_id) AS session_id FROM (
                SELECT unnest([response_id, trace_id, native_id]) AS id, session_id FROM interactions
                WHERE list_contains($ids, response_id) OR list_contains($ids, trace_id) OR list_contains($ids, native_id)
            ) WHERE list_contains($ids, id) GROUP BY id"""
        found = self.lake.query(sql, {"ids": ids})
        return dict(zip(found["id"].to_pylist(), found["session_id"].to_pylist(), strict=True))


OPEN = """
    SELECT * FROM waiting
    WHERE interaction_id NOT IN (SELECT interaction_id FROM interactions SEMI JOIN waiting USING (interaction_id))
      AND replace(waiting_id, 'wt_', 'rj_') NOT IN (SELECT reject_id FROM rejects)
    ORDER BY raw_segment, raw_line, waiting_id"""


def _first(ids: list[str], known: dict, order: list[int] | None = None) -> list[int]:
    """Where in `ids` each one stands for the first time (in `order`), those known left out."""
    seen: set[str] = set(known)
    new = []
    for n in range(len(ids)) if order is None else order:
        if ids[n] not in seen:
            seen.add(ids[n])
            new.append(n)
    return new


def _reject(segment: Segment, line: int, nth: int, bad: BadRecord) -> Reject:
    # What a source could not hand on stands in no line (0); its message, which says where, tells two apart.
    place = (segment.name, line, nth) if line else (segment.source, bad.code, bad.message)
    return Reject(content_id("rj", *place), segment.source, bad.code, bad.message, segment.name, line)


def _given_up(w: Waiting, segment: Segment) -> Reject:
    message = (
        "the record that holds its prompt never came; capture it (docs/dialects.md), then flywheel quarantine replay"
    )
    return Reject(w.waiting_id.replace("wt_", "rj_"), segment.source, "incomplete", message, w.raw_segment, w.raw_line)
