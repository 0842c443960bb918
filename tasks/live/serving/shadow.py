"""The challenger answers what the champion answered, for nobody to see: how often do they differ, and how sure is each?

    .flywheel/serve/shadow.jsonl  {"at": "…", "response": "chatcmpl-…", "served": "3-81f3…", "shadow": "4-5c0e…", "agreed": true, …}

No text is kept, and none of it is traffic: the lake never sees it, so that no error rate counts it. Nothing waits for it; where
the challenger is slower than the traffic, questions are left out and counted.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from tasks.live.serving.chat import Asked, shorter
from tasks.live.serving.journal import moment
from tasks.live.serving.model import Model
from tasks.policy import Reply

MAX_WAITING = 64
TIMEOUT_S = 120.0
GIVE_WAY_S = 1.0  # to requests, which use the same processor, before each answer
log = logging.getLogger("flywheel.serve")


class Shadow:
    """One thread answers, where it can while no request is under way (`busy` says so); `offer` never blocks."""

    def __init__(self, folder: Path, busy: Callable[[], bool] = lambda: False):
        self.left_out = self.failed = 0
        self.compared: dict[str, list[int]] = {}  # "served/shadow" -> [compared, agreed]
        self._busy = busy
        self._path = folder / "shadow.jsonl"
        self._queue: queue.Queue[tuple[Model, Model, Asked, Reply] | None] = queue.Queue(MAX_WAITING)
        if self._path.is_file():
            for line in self._path.read_bytes().splitlines():
                if line.endswith(b"}"):  # the last may be torn
                    self._count(orjson.loads(line))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def offer(self, served: Model, challenger: Model, asked: Asked, shown: Reply) -> None:
        try:
            self._queue.put_nowait((served, challenger, asked, shown))
        except queue.Full:
            self.left_out += 1

    def close(self) -> None:
        """What waits is let go."""
        while not self._queue.empty():
            self._queue.get_nowait()
        self._queue.put(None)
        self._thread.join(timeout=5)

    def told(self) -> dict[str, Any]:
        """For /healthz: the rate of disagreement by pair of models."""
        pairs = {
            pair: {"compared": n, "disagreed": n - same, "disagreement": round(1 - same / n, 4)}
            for pair, (n, same) in self.compared.items()
        }
        return {"pairs": pairs, "left_out": self.left_out, "failed": self.failed, "waiting": self._queue.qsize()}

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            served, challenger, asked, shown = item
            self._give_way()
            start = time.perf_counter()
            try:
                other = challenger.answer(shorter(asked, 1)).result(TIMEOUT_S)[0]
                row = {
                    "at": moment(asked.started), "response": asked.id, "served": served.name, "shadow": challenger.name,
                    "agreed": _same(shown, other), "confidence": shown.confidence, "shadow_confidence": other.confidence,
                    "shadow_ms": round((time.perf_counter() - start) * 1000, 3),
                }  # fmt: skip
                self._count(row)
                with self._path.open("ab") as f:
                    f.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
            except Exception as e:  # a challenger may fail in any way; it is not in anybody's way
                self.failed += 1
                if self.failed & (self.failed - 1) == 0:
                    log.warning("the shadow failed %d times; the last time with %s", self.failed, type(e).__name__)

    def _give_way(self) -> None:
        end = time.monotonic() + GIVE_WAY_S
        while self._busy() and time.monotonic() < end:
            time.sleep(0.002)

    def _count(self, row: dict[str, Any]) -> None:
        counts = self.compared.setdefault(f"{row['served']}/{row['shadow']}", [0, 0])
        counts[0] += 1
        counts[1] += row["agreed"]


def _same(a: Reply, b: Reply) -> bool:
    """The same approved answer, or, of free texts, the same words."""
    return a.action == b.action if a.action or b.action else a.text.split() == b.text.split()
