"""What serving decided on its users' evidence, with the numbers: one line a decision, only ever added.

    {"at": "2026-01-05T08:00:00.000Z", "trial": "canary", "decision": "breach", "older": {"version": "3", …}, "newer": {…}, …}
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from tasks.live.registry import Registered
from tasks.live.serving.journal import moment
from tasks.sequential import Evidence

FILE = "decisions.jsonl"


@dataclass(frozen=True, slots=True)
class Decision:
    at: str
    trial: str
    decision: str
    older: dict[str, str]
    newer: dict[str, str]
    evidence: dict[str, Any]
    reason: str

    @classmethod
    def of(cls, trial: str, decision: str, older: Registered, newer: Registered, found: Evidence, at: float) -> Decision:
        named = [{"version": m.version, "digest": m.digest} for m in (older, newer)]
        return cls(moment(at), trial, decision, *named, asdict(found), found.told())


def append(folder: Path, made: Decision) -> None:
    """On the disk when this returns. Raises OSError."""
    with (folder / FILE).open("ab") as f:
        f.write(orjson.dumps(asdict(made), option=orjson.OPT_APPEND_NEWLINE))
        f.flush()
        os.fsync(f.fileno())


def decisions(folder: Path) -> list[Decision]:
    """All of them, the oldest first."""
    try:
        return [Decision(**orjson.loads(line)) for line in (folder / FILE).read_bytes().splitlines()]
    except FileNotFoundError:
        return []
