"""Two threads beside the requests: one asks the registry, which may hang; one looks at the trial, and never waits for anything."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from tasks.errors import Refused
from tasks.live.serving import champions
from tasks.live.serving.lineup import LineUp
from tasks.live.workspace import Workspace

PAUSE_S = 30.0  # at most between two looks, however long one takes
log = logging.getLogger("flywheel.serve")


class Watch:
    """`error` says why the registry could not be asked, "" where it could; `asked` is when it last answered."""

    def __init__(self, workspace: Workspace, lineup: LineUp, poll_s: float):
        self.error = ""
        self.asked = 0.0
        self._workspace, self._lineup, self._poll_s = workspace, lineup, poll_s
        self._decided: tuple[str, str] = "", ""  # a challenger's digest, and what the gate said of it
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._every, args=(do,), daemon=True) for do in (self.poll, self.look)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._end.set()
        self._threads[1].join(timeout=5)  # the other may hang in a call to a server that is gone

    def poll(self) -> None:
        """Ask the registry who is champion, and tell it what was decided here."""
        try:
            self._lineup.resume()
            found = champions.found(self._workspace)
            self._lineup.update(found.champion, found.challenger, self._decision(found))
            if why := self._lineup.taken_back(found.champion):
                champions.roll_back(self._workspace, found.champion, why)
            while self._lineup.to_mark:
                challenger = self._lineup.to_mark[0]
                champions.refuse(self._workspace, challenger, self._lineup.was_worse(challenger))
                self._lineup.to_mark.pop(0)
        except Exception as e:  # whatever a client of a server that is down, busy or half restored may raise
            if not self.error:
                log.error("the registry cannot be asked (%s); what is served stays as it is", type(e).__name__)
            self.error = e.why if isinstance(e, Refused) else f"{type(e).__name__}: {str(e)[:200]}"
        else:
            self.error, self.asked = "", time.time()

    def look(self) -> None:
        try:
            self._lineup.look()
        except Exception as e:
            log.exception("the trial could not be looked at")
            self._lineup.problems["trial"] = type(e).__name__
        else:
            with suppress(KeyError):
                del self._lineup.problems["trial"]

    def _decision(self, found: champions.Found) -> str:
        if found.challenger is None:
            return ""
        if self._decided[0] != found.challenger.digest:
            self._decided = found.challenger.digest, champions.decision(self._workspace, found.challenger)
        return self._decided[1]

    def _every(self, do: Callable[[], None]) -> None:
        """Again and again, with a pause of at least twenty times the processor's time that it took: requests come first."""
        while not self._end.is_set():
            start = time.thread_time()
            do()
            self._end.wait(max(self._poll_s, min(20 * (time.thread_time() - start), PAUSE_S)))
