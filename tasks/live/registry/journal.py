"""The journal: what was champion, when, why and by whom. A file of this machine, and the truth that MLflow's aliases mirror.

    {"at": "2026-11-28T21:11:34Z", "action": "promoted", "digest": "9f1…", "replaced": "3c0…", "snapshot": "snapshot-3f9c2a1b",
     "version": "4", "by": "the gate", "why": "right answers: better, fixed 41, broken 12 of 180"}

Nothing in it is ever changed; who is champion follows from it. Each addition is compared and written under one lock, whole or not
at all, so of two processes that promote at once, or of one that dies half-way, exactly one promotion is in the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import orjson
from filelock import FileLock, Timeout

from tasks.errors import BUSY, Refused
from tasks.live.workspace import Workspace, write_durably

BASE = "base"  # the "snapshot" of the model before any label
FIRST, PROMOTED, ROLLED_BACK, MOVED = "first", "promoted", "rolled back", "moved in MLflow"
RECORDED = "recorded"  # MLflow has a version of it
ASKED, DECLINED = "asked", "declined"  # a person about a promotion
MIRRORED = "mirrored"  # MLflow's champion alias is at `digest`
CHANGES = (FIRST, PROMOTED, ROLLED_BACK, MOVED)  # who is champion
GATE = "the gate"
WAIT_S = 10.0  # an addition takes milliseconds


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened. `digest`: of the model that it is about; of a change, the champion from then on, and `replaced` the
    one before. `version` is MLflow's, '' while it has none."""

    action: str
    digest: str
    replaced: str = ""
    version: str = ""
    snapshot: str = ""
    by: str = ""
    why: str = ""
    at: str = ""


@dataclass(frozen=True, slots=True)
class Journal:
    """What the entries say together, oldest first."""

    entries: tuple[Entry, ...] = ()

    @property
    def champions(self) -> list[Entry]:
        """The champion last, before it whom it replaced, and so on: what one rollback after the other brings back."""
        stack: list[Entry] = []
        for e in self.entries:
            if e.action == ROLLED_BACK:
                stack.pop()
            elif e.action in CHANGES:
                stack.append(e)
        return stack

    @property
    def champion(self) -> str:
        """Its digest; '' before the first."""
        stack = self.champions
        return stack[-1].digest if stack else ""

    @property
    def challenger(self) -> Entry | None:
        """The newest model that a training made and MLflow has."""
        return next((e for e in reversed(self.entries) if e.action == RECORDED and e.snapshot != BASE), None)

    @property
    def mirrored(self) -> str:
        """The digest at which MLflow's champion alias was last seen or put; '' never."""
        return next((e.digest for e in reversed(self.entries) if e.action == MIRRORED), "")

    def recorded(self, snapshot: str) -> Entry | None:
        return next((e for e in reversed(self.entries) if e.action == RECORDED and e.snapshot == snapshot), None)

    def version(self, digest: str) -> str:
        """MLflow's number of a model, '' where it has none yet."""
        return next((e.version for e in reversed(self.entries) if e.digest == digest and e.version), "")

    def snapshot(self, digest: str) -> str:
        return next((e.snapshot for e in reversed(self.entries) if e.digest == digest and e.snapshot), "")

    def was_rolled_back(self, digest: str) -> bool:
        return any(e.action == ROLLED_BACK and e.replaced == digest for e in self.entries)

    def unmirrored(self) -> list[Entry]:
        """The changes that MLflow may not show yet."""
        last = max((n for n, e in enumerate(self.entries) if e.action == MIRRORED), default=-1)
        return [e for e in self.entries[last + 1 :] if e.action in CHANGES]

    def question(self, champion: str, challenger: str) -> tuple[Entry | None, Entry | None]:
        """Whether a person was asked about this promotion, and has declined it."""
        about = [e for e in self.entries if (e.digest, e.replaced) == (challenger, champion)]
        asked = next((e for e in about if e.action == ASKED), None)
        return asked, next((e for e in about if e.action == DECLINED), None)


def read(workspace: Workspace) -> Journal:
    path = _path(workspace)
    lines = path.read_bytes().splitlines() if path.is_file() else []
    return Journal(tuple(Entry(**orjson.loads(line)) for line in lines if line))


def add(workspace: Workspace, decide: Callable[[Journal], Sequence[Entry]]) -> list[Entry]:
    """Compare and write: `decide` sees the journal as it is and says what is added, or raises; nobody else writes meanwhile."""
    path = _path(workspace)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path.with_suffix(".lock"), timeout=WAIT_S):
            journal = read(workspace)
            now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
            new = [Entry(**asdict(e) | {"at": e.at or now}) for e in decide(journal)]
            if new:
                lines = [orjson.dumps(asdict(e), option=orjson.OPT_APPEND_NEWLINE) for e in (*journal.entries, *new)]
                write_durably(path, b"".join(lines))
            return new
    except Timeout:
        raise Refused(f"{path} is busy for {WAIT_S:.0f} s", "the same command again", BUSY) from None


def _path(workspace: Workspace) -> Path:
    return workspace.state / "registry" / "journal.jsonl"
