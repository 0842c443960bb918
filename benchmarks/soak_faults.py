"""The faults of the soak: which can strike which step, and what of the workspace a crash can leave torn.

some(Random(1), "retrain", measured)  ->  Fault("SIGKILL, its stages too", {"kill_after": 7.1, "group": True})
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ENOSPC, EIO = 28, 5
NOWHERE = "http://127.0.0.1:9"  # the port "discard", where nobody listens
DAY = 86_400


@dataclass(frozen=True, slots=True)
class Measured:
    """An undisturbed life of a step: how long it took, how often it wrote and looked at the clock, and what it left."""

    seconds: float
    writes: int
    looks: int
    content: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Fault:
    """What befalls a step. `order` goes to its life; `torn` is done to the workspace before; `beside`: a flow at the same moment;
    `cut`: seconds after which Prefect's server is gone."""

    kind: str
    order: dict[str, Any] = field(default_factory=dict)
    torn: Callable[[Path, random.Random], str] | None = None
    beside: str = ""
    cut: float | None = None


def some(chance: random.Random, flow: str, of: Measured) -> Fault:
    """One at random of those that can strike this flow."""
    # Where in its writes; more often early in them than evenly, because a log's chunk is one of many writes.
    at = chance.randint(1, max(of.writes, 1))
    when = chance.uniform(0.02, 0.95) * of.seconds
    faults = [
        *[Fault("SIGKILL at a time", {"kill_after": when})] * 4,
        *[Fault("SIGKILL, all its programs", {"kill_after": when, "group": True})] * 3,
        *[Fault("SIGKILL at a write", {"at": at, "how": 0})] * 5,
        Fault("disk refuses a write (EIO)", {"at": at, "how": EIO}),
        Fault("disk refuses a write (ENOSPC)", {"at": at, "how": ENOSPC}),
        *[Fault("disk full from a write on", {"at": at, "how": -ENOSPC})] * 2,
        *[
            Fault(
                "clock jumps",
                {"jump": chance.choice((-DAY, -3600, 3600, DAY)), "jump_at": chance.randint(1, of.looks or 1)},
            )
        ]
        * 2,
        *[Fault("torn file", torn=chance.choice(TORN + TORN_MODEL * (flow in OF_MODELS)))] * 2,
        *[Fault("two at once", beside=flow)] * 2,
    ]
    if flow in ("collect", "annotate", "retrain", "promote", "turn"):
        faults += [Fault("Prefect killed in the middle", cut=when), Fault("Prefect down", cut=0.0)]
    if flow in ("retrain", "turn"):
        early = chance.randint(1, 12)  # of a stage's, or git's, own writes
        faults += [Fault("a program it starts dies at a write", {"child_at": early, "how": 0})] * 3
        faults += [Fault("a program it starts finds the disk full", {"child_at": early, "how": -ENOSPC})] * 2
    if flow in ("retrain", "turn", "approve", "rollback", "promote"):
        faults += [Fault("MLflow down", {"environment": {"FLYWHEEL_TRACKING_URI": NOWHERE}})] * 2
    if flow in ("approve", "rollback"):
        faults += [Fault("promote and rollback at once", beside="rollback" if flow == "approve" else "approve")] * 3
    return chance.choice(faults)


def _cut(*names: str) -> Callable[[Path, random.Random], str]:
    """The last part of one of these files is gone, as after a power cut for a file that was not fsynced."""

    def tear(root: Path, chance: random.Random) -> str:
        there = sorted(p for name in names for p in root.glob(name) if p.is_file() and p.stat().st_size > 1)
        if not there:
            return ""
        path = chance.choice(there)
        mode = path.stat().st_mode
        path.chmod(0o600)
        data = path.read_bytes()
        path.write_bytes(data[: chance.randrange(len(data))])
        path.chmod(mode)
        return path.relative_to(root).as_posix()

    return tear


# Whatever is written without fsync, or that its owner may lose: never a raw segment or the journal, which are fsynced before use.
TORN = (
    _cut(".flywheel/offsets-*.json"),
    _cut(".flywheel/rates.json"),
    _cut(".dvc/tmp/rwlock", ".dvc/tmp/lock"),
    _cut("data/dataset/**/*.parquet", "data/curated/**/*.parquet", "data/frozen/**/*.jsonl"),
    _cut("data/reports/*.json"),
    _cut(".dvc/cache/files/md5/[0-9a-f][0-9a-f]/*"),
    _cut(".git/index"),
)
# Whoever reads no model can't mend one: there the checker names it, with the fix, until somebody does.
TORN_MODEL = (_cut(".flywheel/models/*/*"),)
OF_MODELS = ("retrain", "promote", "approve", "rollback", "turn")


class Wire:
    """A way to a server that can be cut: connections end in the middle, and new ones are refused until it is mended."""

    def __init__(self, port: int):
        self.port, self.refused = port, 0
        self._whole = True
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.here = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._whole = False
        for s in self._open:
            _end(s)
        self.refused += len(self._open) > 0
        self._open = []

    def mend(self) -> None:
        self._whole, self.refused = True, 0

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            if not self._whole:
                self.refused += 1
                _end(client)
                continue
            server = socket.create_connection(("127.0.0.1", self.port))
            self._open += [client, server]
            for a, b in ((client, server), (server, client)):
                threading.Thread(target=_pump, args=(a, b), daemon=True).start()


def _pump(a: socket.socket, b: socket.socket) -> None:
    try:
        while data := a.recv(65536):
            b.sendall(data)
    except OSError:
        pass
    finally:
        _end(a)
        _end(b)


def _end(s: socket.socket) -> None:
    with contextlib.suppress(OSError):
        s.shutdown(socket.SHUT_RDWR)
    s.close()
