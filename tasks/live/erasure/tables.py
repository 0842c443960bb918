"""Their rows in the lake's tables. A table's file that holds one is written anew without it, and the old one is deleted.

Every other file stays as it is. Clusters of failures stay as well, without the interactions of theirs by which they were known.
A finding about somebody else's answer that quotes them goes (it may be made anew, without them); any other quotation is blanked.
"""

from __future__ import annotations

from collections.abc import Callable

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from tasks.errors import BadRecord
from tasks.formats.native import ERASED_WHY
from tasks.live.erasure.blank import blanked
from tasks.live.erasure.needles import Needles
from tasks.live.erasure.subject import Subject
from tasks.live.erasure.theirs import PART, Facts
from tasks.live.intake import reject_of
from tasks.live.lake import TABLES, Lake
from tasks.live.segments import Segments
from tasks.live.workspace import Workspace
from tasks.records import Reject

# What is said there is somebody's own: a text of theirs that stands there too is not looked for.
OWN_WORDS = ("interactions", "feedback", "asks", "annotations")
# Which column of a table says whose a row is.
BY_INTERACTION = ("interactions", "waiting", "members", "signals", "candidates", "asks", "annotations")


# Segment -> line of theirs -> whether nothing of anybody else is left in it.
Places = dict[str, dict[int, bool]]


def erase(workspace: Workspace, subject: Subject, places: Places) -> dict[str, int]:
    """Rows that went, by table. Repeating it changes nothing."""
    lake = Lake(workspace.lake)
    theirs = Facts(subject.facts)
    raw = [(name, line) for name, of_lines in places.items() for line in of_lines]
    where: dict[str, Callable[[pa.Table], pa.Array]] = {
        table: _among("interaction_id", theirs.values("interaction")) for table in BY_INTERACTION
    }
    where["feedback"] = _among("feedback_id", subject.feedback)
    where["events"] = _among("candidate_id", subject.candidates)
    where["parts"] = _either(_among("key", theirs.values(PART)), _at(raw))
    where["rejects"] = _at(raw)
    counts = {table: lake.rewrite(table, _without(gone)) for table, gone in where.items()}
    counts |= dict.fromkeys(TABLES, 0) | counts
    counts["clusters"] = lake.rewrite("clusters", lambda rows: _forgotten(rows, set(theirs.values("interaction"))))
    needles = subject.needles
    for table in (t for t in TABLES if t not in OWN_WORDS):
        quoted = lake.rewrite(table, lambda rows, t=table: _unquoted(rows, needles, t == "signals"))
        counts[table] += quoted
    lake.append("rejects", _tombstones(workspace, places))
    for table in TABLES:
        lake.vacuum(table)
    return {table: n for table, n in counts.items() if n}


def _unquoted(rows: pa.Table, needles: Needles, drop: bool) -> pa.Table:
    """Rows in which they are quoted, without the quotation or (`drop`) left out."""
    texts = [n for n in rows.column_names if pa.types.is_string(rows.schema.field(n).type)]
    if not any(needles.any("\0".join(rows[n].to_pylist()).encode("utf-8", "surrogatepass")) for n in texts):
        return rows
    kept = []
    for row in rows.to_pylist():
        new = row | {n: blanked(row[n], needles) for n in texts}
        if new == row or not drop:
            kept.append(new)
    return pa.Table.from_pylist(kept, rows.schema)


def _without(gone: Callable[[pa.Table], pa.Array]) -> Callable[[pa.Table], pa.Table]:
    return lambda rows: rows.filter(pc.invert(gone(rows)))


def _among(column: str, values: list[str]) -> Callable[[pa.Table], pa.Array]:
    wanted = pa.array(values, pa.string())
    return lambda rows: pc.is_in(rows[column], wanted)


def _either(*several: Callable[[pa.Table], pa.Array]) -> Callable[[pa.Table], pa.Array]:
    return lambda rows: pc.or_(*(one(rows) for one in several))


def _at(raw: list[tuple[str, int]]) -> Callable[[pa.Table], pa.Array]:
    """Rows that came from these lines of raw segments."""
    places = pa.array([f"{name}:{line}" for name, line in raw], pa.string())

    def gone(rows: pa.Table) -> pa.Array:
        at = pc.binary_join_element_wise(rows["raw_segment"], pc.cast(rows["raw_line"], pa.string()), ":")
        return pc.is_in(at, places)

    return gone


def _forgotten(rows: pa.Table, interactions: set[str]) -> pa.Table:
    """Clusters without their interactions; the one in the middle becomes another, or nobody."""
    changed = []
    for row in rows.to_pylist():
        known = orjson.loads(row["exemplars"])
        left = [i for i in known if i not in interactions]
        if len(left) < len(known) or row["example"] in interactions:
            row["exemplars"] = orjson.dumps(left).decode()
            row["example"] = row["example"] if row["example"] not in interactions else (left[0] if left else "")
            row["name"] = row["name"] if left else "erased"
        changed.append(row)
    return pa.Table.from_pylist(changed, rows.schema)


def _tombstones(workspace: Workspace, places: Places) -> list[Reject]:
    """The rejects that a rebuild would make of the tombstones, so that the lake and its rebuild are one."""
    segments, bad = Segments(workspace.raw), BadRecord("erased", ERASED_WHY)
    return [
        reject_of(segments.head(name), line, 0, bad)
        for name, of_lines in places.items() if name in segments.known
        for line, is_tombstone in of_lines.items() if is_tombstone
    ]  # fmt: skip
