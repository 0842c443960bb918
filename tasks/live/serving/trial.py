"""A comparison on live users: who gets which of two models, and what came of each user. It outlives a restart.

    .flywheel/serve/trial-81f3….jsonl     {"at": 1767571200.1, "actor": "5c0e…", "newer": true, "response": "chatcmpl-…"}
                                          {"at": 1767571260.7, "bad": "chatcmpl-…"}

A user stays on one side, by a keyed hash, and counts once, as of the first answer: bad where they met a failure or said so within
the window, good once it is over. Who is named neither as user nor as session cannot be kept on a side, and takes no part. The
names are hashed with a key and the trial's own id, hold for this trial only, and go with its file once it is decided.
"""

from __future__ import annotations

import hmac
import logging
import threading
from collections import OrderedDict, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from tasks.live.serving.model import Model
from tasks.records import digest
from tasks.sequential import Outcome

CANARY = "canary"  # newer: the challenger, for a share of the users
HOLDBACK = "holdback"  # newer: a fresh champion; the one before keeps a share of the users, to be compared with
OLDER, NEWER = "older", "newer"
log = logging.getLogger("flywheel.serve")


@dataclass(slots=True)
class User:
    newer: bool
    since: float
    bad: bool = False


class Trial:
    """`share` of the users get `newer`. Several threads may use it at once."""

    def __init__(
        self, folder: Path, kind: str, older: Model, newer: Model, share: float, window_s: float, key: bytes, started: float
    ):
        self.id = digest(f"{kind} {older.digest} {newer.digest}".encode())[:16]
        self.kind, self.older, self.newer, self.share, self.started = kind, older, newer, share, started
        self.succeeded = False
        self._window_s = window_s
        self._key = key
        self._lock = threading.Lock()
        self._users: dict[str, User] = {}
        self._open: deque[User] = deque()  # in the order in which they came; of the first it is not known yet what came of them
        self._settled: list[Outcome] = []
        self._answers: OrderedDict[str, tuple[str, float]] = OrderedDict()  # response -> whose it is, and when
        self._path = folder / f"trial-{self.id}.jsonl"
        self._resume()
        self._file = self._path.open("ab", buffering=0)

    def model(self, arm: str) -> Model:
        return self.newer if arm == NEWER else self.older

    def arm(self, actor: str) -> str:
        """On which side an actor is; "" for nobody in particular."""
        if not actor:
            return ""
        return NEWER if int(self._hashed(actor), 16) / 2**64 < self.share else OLDER

    def answered(self, actor: str, response_id: str, at: float, failed: bool = False) -> None:
        """An actor of the trial got an answer, or (`failed`) their side could give none."""
        hashed = self._hashed(actor)
        row: dict[str, Any] = {"at": at, "actor": hashed, "newer": self.arm(actor) == NEWER, "response": response_id}
        with self._lock:
            self._take(row)
            self._write(row)
            if failed:
                self._bad(response_id, at)

    def said_bad(self, response_id: str, actor: str, at: float) -> bool:
        """Somebody says that an answer was bad; whether it counts: it must be theirs, of this trial, and not too late.

        `actor` "" is whoever got the answer: the application vouches for that.
        """
        with self._lock:
            whose = self._answers.get(response_id)
            if whose is None or (actor and self._hashed(actor) != whose[0]):
                return False
            return self._bad(response_id, at)

    def outcomes(self, now: float) -> list[Outcome]:
        """What came of the users, in the order in which they came, up to the first of whom it is not known yet.

        Bad news comes sooner than good; taken as it comes it would count for more, so that nobody is taken out of turn.
        """
        with self._lock:
            while self._open and (self._open[0].bad or now - self._open[0].since >= self._window_s):
                user = self._open.popleft()
                self._settled.append(Outcome(user.newer, user.bad))
            while self._answers and now - next(iter(self._answers.values()))[1] > 2 * self._window_s:
                self._answers.popitem(last=False)
            return list(self._settled)

    @property
    def enrolled(self) -> int:
        return len(self._users)

    def close(self, decided: bool) -> None:
        with self._lock:
            self._file.close()
            if decided:
                self._path.unlink(missing_ok=True)

    def _bad(self, response_id: str, at: float) -> bool:
        row = {"at": at, "bad": response_id}
        counted = self._take(row)
        if counted:
            self._write(row)
        return counted

    def _take(self, row: dict[str, Any]) -> bool:
        """One row of the file, just written or read again."""
        if "actor" in row:
            if row["actor"] not in self._users:
                self._users[row["actor"]] = User(row["newer"], row["at"])
                self._open.append(self._users[row["actor"]])
            self._answers[row["response"]] = row["actor"], row["at"]
            return True
        whose = self._answers.get(row["bad"])
        user = self._users[whose[0]] if whose else None
        if user is None or user.bad or row["at"] - user.since >= self._window_s:
            return False
        user.bad = True
        return True

    def _write(self, row: dict[str, Any]) -> None:
        try:
            if not self._file.closed:
                self._file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
        except OSError as e:  # it still counts; only a restart would not know of it
            log.error("the trial's file cannot be written: %s", e.strerror)

    def _resume(self) -> None:
        try:
            lines = self._path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return
        for line in lines:
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue  # the last one, of a process that was killed
            self._take(row)

    def _hashed(self, actor: str) -> str:
        return hmac.digest(self._key, f"{self.id}\0{actor}".encode("utf-8", "surrogatepass"), "sha256").hex()[:16]
