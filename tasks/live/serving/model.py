"""A model version at work: requests that come while it computes are answered together, in one thread of its own.

    future = Model(registered, policy, batch=16).answer(asked)      future.result() -> [Reply(…), …]
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import groupby

from tasks.errors import Refused
from tasks.live.registry import Registered
from tasks.live.serving.chat import Asked
from tasks.policy import Policy, Reply, folder_digest, load
from tasks.records import read_jsonl

Waiting = tuple[Asked, "Future[list[Reply]]"]


class Model:
    """Nobody waits for a batch to fill: whatever waits when the thread is free is the next batch, of `batch` at most.

    A model that is replaced answers what it was asked; its thread ends when nobody holds the model any more.
    """

    def __init__(self, registered: Registered, policy: Policy, batch: int):
        self.version, self.digest, self.folder = registered.version, registered.digest, registered.folder
        self.name = f"{registered.version}-{registered.digest[:8]}"  # as its folder is called, and as logs know it
        self.needs_candidates = next(read_jsonl(registered.folder / "policy.json"))["kind"] == "best_of_n"
        self._policy = policy
        self._batch = batch
        self._waiting: deque[Waiting] = deque()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=f"model-{self.name}")

    @classmethod
    def load(cls, registered: Registered, batch: int) -> Model:
        """Raises Refused where the files are not those that were registered, or cannot be loaded."""
        try:
            if folder_digest(registered.folder) != registered.digest:
                raise ValueError("they are not those that were registered")
            policy = load(registered.folder)
        except Exception as e:  # whatever is wrong with files that came from elsewhere: the one that serves goes on
            why = e.why if isinstance(e, Refused) else f"{type(e).__name__}: {e}"
            raise Refused(
                f"the files of model version {registered.version} cannot be served: {why}",
                f"delete {registered.folder}: it is fetched anew; if that does not help, restore the artifact store",
            ) from e
        return cls(registered, policy, batch)

    @property
    def registered(self) -> Registered:
        return Registered(self.version, self.digest, self.folder)

    def answer(self, asked: Asked) -> Future[list[Reply]]:
        """The best replies, best first: `asked.n`, or fewer where the policy has no more."""
        future: Future[list[Reply]] = Future()
        self._waiting.append((asked, future))
        self._worker.submit(self._next)
        return future

    def _next(self) -> None:
        taken: list[Waiting] = []
        with suppress(IndexError):
            while len(taken) < self._batch:
                one = self._waiting.popleft()
                if one[1].set_running_or_notify_cancel():  # not where nobody waits for it any more
                    taken.append(one)
        for _, alike in groupby(sorted(taken, key=_shape), key=_shape):
            self._respond(list(alike))

    def _respond(self, batch: Sequence[Waiting]) -> None:
        """One call for all; where it fails each is tried alone, so that a bad one fails by itself."""
        try:
            asked = [a for a, _ in batch]
            offered = [a.candidates or [] for a in asked] if asked[0].candidates is not None else None
            replies = self._policy.respond([a.messages for a in asked], [a.contexts for a in asked], asked[0].n, offered)
            if len(replies) != len(batch) or not all(replies):
                raise RuntimeError("the policy gave no reply")
        except Exception as e:
            if len(batch) == 1:
                batch[0][1].set_exception(e)
            else:
                for one in batch:
                    self._respond([one])
        else:
            for (_, future), found in zip(batch, replies, strict=True):
                future.set_result(found)


def _shape(waiting: Waiting) -> tuple[int, bool]:
    """What one call of `respond` must have in common."""
    return waiting[0].n, waiting[0].candidates is not None
