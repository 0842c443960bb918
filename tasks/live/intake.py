"""Intake: one chunk of lines -> a raw segment on the disk -> rows of the lake, with an account of every record.

    in 24,310 = stored 24,180 + duplicate 120 + rejected 8 + attached 2 + waiting 0

The same records again, from whatever file, store nothing: rows are upserts by ids that derive from their content.
A chunk is durable in its raw segment when `take` returns; the lake shows it after the next `commit`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import orjson
import pyarrow as pa
from msgspec.structs import replace

from tasks.errors import BadRecord
from tasks.formats import complete
from tasks.formats.fields import Parsed, RawInteraction
from tasks.live import rows
from tasks.live.edge import FIRST_LINE, Read, clean, reread, reread_line
from tasks.live.erasure.lines import left_out
from tasks.live.erasure.theirs import Tombstones
from tasks.live.known import Known
from tasks.live.lake import OPEN, Lake, Pending
from tasks.live.rows import Placed
from tasks.live.segments import Segment, Segments
from tasks.records import Reject, Waiting, content_id
from tasks.redact import Edge

# Optional parts that always exist, if perhaps in a later export: worth a wait, because feedback finds sessions by them.
PATIENT = ("langfuse_trace",)
# Rejects that say what an application did not log, or what must not be kept, not that its log is broken: no cause for alarm.
HARMLESS = ("no_content", "erased")


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
    """Takes chunks of lines into one lake. `wait_us`: how long an interaction waits for a record that completes it; `edge`: what
    kept lines go through that a mapping reads only now; `erased`: whose records stay out, whatever log they come in.
    """

    def __init__(
        self, lake: Lake, segments: Segments, wait_us: int, account: Account, edge: Edge | None = None,
        erased: Tombstones | None = None,
    ):  # fmt: skip
        self.lake = lake
        self.segments = segments
        self.wait_us = wait_us
        self.account = account
        self.edge = edge
        self.erased = erased
        self.began_waiting: set[str] = set()
        self.uncommitted = 0  # bytes of records
        self._known = {table: Known(lake, table) for table in ("interactions", "feedback")}
        self._pending = {table: Pending(lake.root, table) for table in ("interactions", "feedback")}
        self._rejects: list[Reject] = []
        # Of what is pending: what tells the conversation of a record; and what was there before, to be compared with it.
        self._places = [PLACE.empty_table()]
        self._again = [CONTENT.empty_table()]

    def take(
        self, data: bytes, edge: Edge | None, source: str, origin: str, now: int, flaws: Sequence[BadRecord] = ()
    ) -> None:
        """Redact, keep, then store the lines of one chunk; `flaws` are what its source could not hand on.

        Without an `edge` the lines are kept as they are: they have been through one.
        """
        self.account.bytes += len(data)
        self.uncommitted += len(data)
        if edge is None:
            kept, read = [data], reread(data, origin, self.edge)
        else:
            kept, read = clean(data, edge, origin, self._conversations)
        if self.erased:
            kept, read = left_out(kept, read, self.erased, origin, self.edge)
        if not any(kept) and not flaws:
            return
        segment = self.segments.write(
            b"".join(kept), source, origin, now, flaws=tuple((f.code, f.message) for f in flaws)
        )
        self._store(segment, read, flaws)

    def commit(self) -> None:
        """Show in the lake what was taken since the last time. Safe to be killed in: what is missing is taken again."""
        for pending in self._pending.values():
            pending.commit()
        self.lake.append("rejects", self._rejects)
        again = pa.concat_tables(self._again)
        if again.num_rows:
            # Same id, other content: the first is kept, and the number is shown, because one of the two logs is wrong.
            sql = """SELECT count(*) AS n FROM interactions i JOIN again a USING (interaction_id)
                     WHERE i.content_hash <> a.content_hash"""
            self.account.conflicts += self.lake.query(sql, again=again)["n"][0].as_py()
        self._places, self._again, self._rejects = self._places[:1], self._again[:1], []
        self.uncommitted = 0

    def replay(self, segment: Segment, body: bytes) -> None:
        """Store what a raw segment holds. The mark of a run's end settles what waited then."""
        flaws = [BadRecord(code, message) for code, message in segment.flaws]
        self.uncommitted += len(body)
        read = reread(body, segment.origin, self.edge)
        if self.erased:  # a segment that came back from a backup
            _, read = left_out([body], read, self.erased, segment.origin, self.edge)
        self._store(segment, read, flaws)
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
        if read.parts:
            parts = {rows.part_id(p.record): p for p in reversed(read.parts)}
            known = self.lake.known("parts", list(parts))
            new = [id for id in reversed(parts) if id not in known]
            self.lake.add("parts", rows.parts([parts[id] for id in new], new, segment.name))
        self._add_interactions(segment, read.plain_interactions, self._whole(segment, read.interactions))
        said = [*read.plain_feedback, *([rows.feedback(read.feedback)] if read.feedback else [])]
        self._add("feedback", segment, said)
        rejects = [reject_of(segment, 0, nth, flaw) for nth, flaw in enumerate(flaws)]
        nth_of_line: Counter[int] = Counter()
        for line, bad in read.rejects:
            rejects.append(reject_of(segment, line, nth_of_line[line], bad))
            nth_of_line[line] += 1
        self._rejects += rejects
        self.account.add(0, 0, rejects)
        self.account.attached += read.attached

    def settle(self, now: int, mark: bool = False) -> None:
        """The end of a run: complete what waited and now can be, let go without its extras what must not wait longer.

        Optional extras (a call's cost) are waited for until the end of the run that logged the interaction; PATIENT ones
        for `wait_us`; what an interaction is nothing without (its prompt) as long, and then it is rejected.
        With `mark` the settling is put on record, so that a rebuild settles at the same point.
        """
        self.commit()
        waiting = self.lake.rows(Waiting, OPEN)
        if not waiting:
            return
        if mark:
            self.segments.write(b"", "", "", now, settles=True)
        by_segment: dict[str, dict[int, list[Waiting]]] = {}
        for w in waiting:
            by_segment.setdefault(w.raw_segment, {}).setdefault(w.raw_line, []).append(w)
        for name, of_lines in sorted(by_segment.items()):
            segment, lines = self.segments.lines(name)
            read = {n: reread_line(lines[n - FIRST_LINE], segment.origin, self.edge).interactions for n in of_lines}
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
            self._add_interactions(segment, [], ready)
            self._rejects += given_up
            self.account.add(0, 0, given_up)
        self.commit()

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

    def _add_interactions(self, segment: Segment, plain: list[pa.Table], placed: list[Placed]) -> None:
        self._add("interactions", segment, [*plain, *([rows.interactions(placed)] if placed else [])])

    def _add(self, table: str, segment: Segment, found: list[pa.Table]) -> None:
        """Append the rows that the lake does not have yet; of two with the same id, the one that stood first."""
        total = sum(len(t) for t in found)
        if not total:
            return
        id = found[0].schema.names[0]
        ids = pa.chunked_array([c for t in found for c in t[id].chunks])
        order = np.argsort(np.concatenate([t["raw_line"].to_numpy() for t in found]), kind="stable")
        new = np.empty(total, bool)
        new[order] = self._known[table].remember(_taken(ids, order))
        start, kept = 0, []
        for t in found:
            mask = new[start : start + len(t)]
            start += len(t)
            if not mask.all():
                if table == "interactions":
                    self._again.append(t.select(CONTENT.names).filter(pa.array(~mask)))
                t = t.filter(pa.array(mask))
            kept.append(t)
        table_rows = pa.concat_tables(kept)
        given = {"raw_segment": segment.name} | ({"received": segment.received} if table == "feedback" else {})
        for name, value in given.items():
            place = table_rows.schema.get_field_index(name)
            constant = pa.repeat(pa.scalar(value, table_rows.schema.field(name).type), len(table_rows))
            table_rows = table_rows.set_column(place, table_rows.schema.field(name), constant)
        self._pending[table].write(table_rows)
        if table == "interactions":
            self._places.append(table_rows.select(PLACE.names))
        self.account.add(len(table_rows), total - len(table_rows), [])

    def _wait(self, segment: Segment, placed: list[Placed]) -> None:
        if not placed:
            return
        made = []
        for p in placed:
            id = rows.interaction_id(p.record)
            required = any(want.required for want in p.record.wants)
            made.append(Waiting(content_id("wt", id), id, required, segment.received, segment.name, p.line))
        self.commit()
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
            WITH places AS (
                SELECT dialect, response_id, trace_id, native_id, session_id FROM interactions UNION ALL SELECT * FROM pending
            )
            SELECT id, min(scope) AS scope FROM (
                SELECT unnest([response_id, trace_id, native_id]) AS id,
                       CASE dialect WHEN 'langfuse' THEN trace_id ELSE session_id END AS scope FROM places
                WHERE list_contains($ids, response_id) OR list_contains($ids, trace_id) OR list_contains($ids, native_id)
            ) WHERE list_contains($ids, id) GROUP BY id"""
        found = self.lake.query(sql, {"ids": ids}, pending=pa.concat_tables(self._places))
        return dict(zip(found["id"].to_pylist(), found["scope"].to_pylist(), strict=True))


PLACE = pa.schema(
    [rows.INTERACTIONS.field(n) for n in ("dialect", "response_id", "trace_id", "native_id", "session_id")]
)
CONTENT = pa.schema([rows.INTERACTIONS.field(n) for n in ("interaction_id", "content_hash")])


def _taken(ids: pa.ChunkedArray, order: np.ndarray) -> pa.ChunkedArray:
    if (order[:-1] < order[1:]).all():
        return ids
    return ids.take(pa.array(order))


def reject_of(segment: Segment, line: int, nth: int, bad: BadRecord) -> Reject:
    """The `nth` reject of a line (0: of no line)."""
    # What a source could not hand on stands in no line (0); its message, which says where, tells two apart.
    place = (segment.name, line, nth) if line else (segment.origin, segment.source, bad.code, bad.message)
    return Reject(content_id("rj", *place), segment.source, bad.code, bad.message, segment.name, line)


def _given_up(w: Waiting, segment: Segment) -> Reject:
    message = (
        "the record that holds its prompt never came; capture it (docs/dialects.md), then flywheel quarantine replay"
    )
    return Reject(w.waiting_id.replace("wt_", "rj_"), segment.source, "incomplete", message, w.raw_segment, w.raw_line)
