"""A Dask cluster as the engine: partitions go to whoever is free, and to another where one is lost.

Dask's `distributed` by itself, without a task runner of an orchestrator around it: `flywheel mine` and DVC's stages use it as they
are, and Prefect sees one step and not thousands.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any, TypeVar

from distributed import Client, Future, wait
from distributed.comm import CommClosedError
from distributed.scheduler import KilledWorker

from tasks.engine import PART_VARIABLE, VARIABLE, Part
from tasks.engine.alike import Likeness, likeness
from tasks.errors import UNEXPECTED, Refused

P = TypeVar("P", bound=Part)
R = TypeVar("R")

CONNECT_S = 10  # until a scheduler must have answered
NOBODY_S = 60  # without a single worker, after which we stop waiting
LOOK_S = 1.0
SAME = "install the same requirements.lock and the same commit there, and start it again: dask worker {address} --nthreads 1"
HERE = f"or unset {VARIABLE} to work in this process"
AGAIN = "start it again, then the same command again; nothing was lost"


@contextlib.contextmanager
def cluster(address: str, folder: Path, part_bytes: int) -> Iterator[Cluster]:
    """Connected, with the workers of this moment looked at. Raises Refused."""
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters of it is told as a refusal
    try:
        client = Client(address, timeout=CONNECT_S, set_as_default=False, name="flywheel")
    except (OSError, TimeoutError, ValueError) as e:
        why = f"no Dask scheduler answers at {address}: {e}".rstrip(": ")
        fix = f"start one (dask scheduler), correct {VARIABLE} (dask+tls:// where it asks for certificates), {HERE}"
        raise Refused(why, fix) from e
    try:
        engine = Cluster(client, address, folder, part_bytes)
        engine.look()
        yield engine
    finally:
        client.close()


class Cluster:
    def __init__(self, client: Client, address: str, folder: Path, part_bytes: int):
        self.folder, self.part_bytes = folder, part_bytes
        self._client, self._address, self._ours = client, address, likeness()
        self._seen = time.monotonic()

    def look(self) -> None:
        """Refuse a worker that would compute something else. One that comes later is looked at with its first partition."""
        for worker, there in self._client.run(likeness, on_error="return").items():
            if isinstance(there, CommClosedError):
                continue  # it died this moment
            if isinstance(there, BaseException):
                raise Refused(f"the worker {worker} can't run our code: {there}", SAME.format(address=self._address))
            _refuse_other(self._ours, there, worker, self._address)

    def run(self, work: Callable[[P], R], parts: Sequence[P]) -> Iterator[R]:
        """No more partitions are handed out than there are threads: Dask holds a worker's death against all that it was given, and
        those that only waited there had nothing to do with it."""
        step = f"{work.__name__}-{uuid.uuid4().hex[:8]}"
        waiting = deque(range(len(parts)))
        working: dict[Future, int] = {}
        done: dict[int, R] = {}
        given = 0
        try:
            while given < len(parts):
                with self._reached():
                    room = self._threads() - len(working)
                    while waiting and room > 0:
                        number, room = waiting.popleft(), room - 1
                        working[self._submit(work, parts[number], f"{step}-{number}")] = number
                    finished = self._finished(working)
                for future in finished:
                    number = working.pop(future)
                    done[number] = self._result(future, parts[number])
                while given in done:
                    yield done.pop(given)
                    given += 1
        finally:
            for future in working:
                future.cancel()

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except (OSError, TimeoutError, CancelledError) as e:
            said = (str(e) or type(e).__name__).splitlines()[0].rstrip(":")
            raise Refused(f"the Dask scheduler at {self._address} went away: {said}", AGAIN, UNEXPECTED) from e

    def _submit(self, work: Callable[[P], R], part: P, key: str) -> Future:
        return self._client.submit(
            _checked, work, part, self._ours, str(self.folder), self._address, key=key, pure=False
        )

    def _threads(self) -> int:
        """How many partitions the workers of this moment can work on at once."""
        threads = sum(self._client.nthreads().values())
        if threads:
            self._seen = time.monotonic()
        elif time.monotonic() - self._seen > NOBODY_S:
            raise Refused(f"the Dask scheduler at {self._address} has had no worker for {NOBODY_S} seconds",
                          f"start some: dask worker {self._address} --nthreads 1; {HERE}", UNEXPECTED)  # fmt: skip
        return threads

    def _finished(self, working: dict[Future, int]) -> list[Future]:
        if not working:
            time.sleep(LOOK_S)  # for workers to come
            return []
        with contextlib.suppress(TimeoutError), self._client.as_current():
            return list(wait(list(working), timeout=LOOK_S, return_when="FIRST_COMPLETED").done)
        return []

    def _result(self, future: Future, part: Part) -> Any:
        with self._reached():
            error = future.exception()
            if error is None:
                return future.result()
        if isinstance(error, KilledWorker):
            tried = error.allowed_failures + 1
            raise Refused(
                f"{tried} workers died over the partition {part.name}; it is not tried again",
                f"see the workers' logs (out of memory?): give them more, or make partitions smaller ({PART_VARIABLE}), {HERE}",
                UNEXPECTED,
            ) from error
        if isinstance(error, ImportError | AttributeError) or "deserialization" in str(error):
            why = f"the scheduler or a worker of {self._address} can't load our code: {error}"
            raise Refused(why, SAME.format(address=self._address)) from error
        if not isinstance(error, Refused):
            error.add_note(f"in the partition {part.name}")
        raise error


def _checked(work: Callable[[P], R], part: P, asked: Likeness, folder: str, address: str) -> R:
    """On the worker: what was asked for, if it is what the one who asks would do."""
    _refuse_other(asked, likeness(), socket.gethostname(), address)
    if not Path(folder).is_dir():
        raise Refused(f"the worker on {socket.gethostname()} does not see the folder {folder}",
                      "mount the workspace on every worker under the same path")  # fmt: skip
    return work(part)


def _refuse_other(ours: Likeness, there: Likeness, worker: str, address: str) -> None:
    if differs := ours.differs(there):
        raise Refused(f"the worker {worker} would give other results: it has {differs}", SAME.format(address=address))
