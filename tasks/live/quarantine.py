"""The quarantine: records that could not be read, with their reasons; their bytes (redacted) stay in the raw segments.

After a dialect has learnt to read them, or the record that they waited for was captured, they are read again (replay).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from tasks.errors import Refused
from tasks.live.capture import rereading, wait_us
from tasks.live.edge import FIRST_LINE, reread_line
from tasks.live.intake import Account, Intake
from tasks.live.lake import HELD, Lake
from tasks.live.segments import Segments
from tasks.live.workspace import Workspace
from tasks.records import Reject, Release


@dataclass(slots=True)
class Replayed:
    """What became of the held records that were read again. `still` counts those that stay, by reason."""

    tried: int = 0
    released: int = 0
    stored: int = 0
    duplicate: int = 0
    still: dict[str, int] = field(default_factory=dict)


def held(workspace: Workspace, code: str = "", limit: int = 20) -> dict[str, Any]:
    """Counts by source and reason, and the newest `limit` held records with where their bytes are."""
    lake = Lake(workspace.lake)
    only = f"SELECT * FROM ({HELD}) WHERE $code IN ('', code)"
    counts = lake.query(
        f"SELECT source, code, count(*) AS n FROM ({only}) GROUP BY ALL ORDER BY n DESC, source, code", {"code": code}
    )
    newest = lake.query(
        f"SELECT * FROM ({only}) ORDER BY raw_segment DESC, raw_line DESC LIMIT $limit", {"code": code, "limit": limit}
    )
    return {"counts": counts.to_pylist(), "newest": newest.to_pylist()}


def replay(workspace: Workspace, code: str = "") -> Replayed:
    """Read held records again with today's dialects and mappings. What is taken leaves the quarantine; the rest stays."""
    with workspace.lock("capture"):
        lake, segments, account, done = Lake(workspace.lake), Segments(workspace.raw), Account(), Replayed()
        edge = rereading(workspace)
        intake = Intake(lake, segments, wait_us(workspace), account, edge)
        rejects = lake.rows(
            Reject, f"SELECT * FROM ({HELD}) WHERE raw_line > 0 AND $code IN ('', code) ORDER BY ALL", {"code": code}
        )
        by_segment: dict[str, dict[int, list[Reject]]] = {}
        for r in rejects:
            if r.raw_segment in segments.known:
                by_segment.setdefault(r.raw_segment, {}).setdefault(r.raw_line, []).append(r)
        now = time.time_ns() // 1000
        released: list[Release] = []
        for name, of_lines in by_segment.items():
            segment, lines = segments.lines(name)
            for number, those in sorted(of_lines.items()):
                done.tried += len(those)
                left = intake.again(segment, number, reread_line(lines[number - FIRST_LINE], segment.origin, edge))
                if left:
                    done.still[left[0].code] = done.still.get(left[0].code, 0) + len(those)
                else:
                    done.released += len(those)
                    released += [Release(r.reject_id, "replayed", "", now) for r in those]
        intake.commit()
        lake.append("releases", released)
        done.stored, done.duplicate = account.stored, account.duplicate
        return done


def dismiss(workspace: Workspace, code: str, reason: str) -> int:
    """Let the held records of one reason go, with a reason of one's own; their bytes stay in the raw segments."""
    if not reason.strip():
        raise Refused("a dismissal needs a reason", f'flywheel quarantine dismiss {code} --reason "..."')
    with workspace.lock("capture"):
        lake = Lake(workspace.lake)
        rejects = lake.rows(Reject, f"SELECT * FROM ({HELD}) WHERE code = $code", {"code": code})
        now = time.time_ns() // 1000
        return lake.append("releases", [Release(r.reject_id, "dismissed", reason, now) for r in rejects])[0]
