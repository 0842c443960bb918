"""What was answered and what users said of it, as lines of our own dialect in the spool: redacted, fsynced, for `flywheel capture`.

    data/spool/serve-1767571200123456.jsonl     {"flywheel": "interaction/1", "id": "chatcmpl-…", "model_version": "4-3f9c2a1b", …}

An answer waits for its line, but not for long: a disk that is slow or full costs a line, which is counted and told, not an answer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import anyio
import orjson

from tasks.live.serving.chat import Asked, Choice, usage
from tasks.live.spool import Full, Spool
from tasks.live.workspace import Workspace
from tasks.redact import Edge

OWNER = "serve-"
MAX_WAITING_BYTES = 32 * 1024 * 1024
PATIENCE_S = 0.25  # that an answer waits for its line to be on the disk
TELL_S = 10.0  # between two complaints
MODEL = "flywheel-policy"
log = logging.getLogger("flywheel.serve")


@dataclass(frozen=True, slots=True)
class Said:
    """One thing that a user said of an answer, as `feedback/1` has it."""

    id: str
    response_id: str
    name: str
    value: Any
    comment: str
    user: str
    tenant: str
    at: float


class Journal:
    """`run` writes, and `close` ends it once everything is on the disk. Counts lines, never shows one."""

    def __init__(self, workspace: Workspace, edge: Edge):
        self.written = 0
        self.dropped = 0
        self.error = ""
        self._edge = edge
        self._spool = Spool(workspace.spool, MAX_WAITING_BYTES, OWNER)
        self._under_way: set[asyncio.Task[bool]] = set()
        self._told = 0.0

    async def run(self) -> None:
        while True:
            try:
                await self._spool.run()
                return
            except OSError as e:  # a file could not be handed over: it stays as it is, and the next start hands it over
                self._complain(e)
                await asyncio.sleep(1)

    async def close(self, writer: asyncio.Task[None]) -> None:
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=10)
        self._spool.close()
        await writer

    async def answered(self, line: dict[str, Any]) -> None:
        """Returns when the line is on the disk, or after PATIENCE_S; then it is written when it can be."""
        task = asyncio.create_task(self.keep(line))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        await asyncio.wait({task}, timeout=PATIENCE_S)

    async def keep(self, line: dict[str, Any], scope: str | None = None) -> bool:
        """True once the line is on the disk; False where it was dropped. `scope`: the conversation that it is about."""
        try:
            data = await anyio.to_thread.run_sync(self._redacted, line, scope)
            await self._spool.put(data)
        except (Full, OSError, TypeError, RecursionError) as e:
            self.dropped += 1
            self._complain(e)
            return False
        self.written += 1
        self.error = ""
        return True

    def _redacted(self, line: dict[str, Any], scope: str | None) -> bytes:
        return orjson.dumps(self._edge.document(line, scope), option=orjson.OPT_APPEND_NEWLINE)

    def _complain(self, e: Exception) -> None:
        why = e.strerror or str(e) if isinstance(e, OSError) else type(e).__name__
        self.error = f"{why}: {self.dropped} lines lost since the start"
        if time.monotonic() - self._told > TELL_S:
            self._told = time.monotonic()
            log.error("ANSWERS ARE NOT LOGGED (%s). They are given all the same, and the loop won't learn from them.", self.error)


def interaction(
    of: Asked, made: Sequence[Choice], served_by: str, now: float, arm: str, error: str = "", tried: str = ""
) -> dict[str, Any]:
    """A line of the dialect. `served_by`: the model's name; `arm`: "older", "newer" or "" where nothing is compared.

    `tried`: another model that was asked first and failed.
    """
    counted = usage(of, made)
    return {
        "flywheel": "interaction/1", "id": of.id, "response_id": of.id, "session_id": of.session, "user_id": of.user,
        "tenant": of.tenant, "time": moment(of.started), "messages": of.messages,
        "response": made[0].text if made else "",
        "contexts": of.contexts, "finish_reason": made[0].finish_reason if made else "error",
        "provider": "flywheel", "model_requested": of.model, "model_served": MODEL, "model_version": served_by,
        "latency_ms": round((now - of.started) * 1000, 3), "error": error,
        "input_tokens": counted["prompt_tokens"], "output_tokens": counted["completion_tokens"],
        "attributes": {k: v for k, v in (("arm", arm), ("fell_back_from", tried)) if v},
    } | (
        {"confidence": made[0].reply.confidence} if made else {}
    ) | (
        {"outputs": [{"role": "assistant", "content": c.text} for c in made]} if len(made) > 1 else {}
    )  # fmt: skip


def feedback(said: Said) -> dict[str, Any]:
    return {
        "flywheel": "feedback/1", "id": said.id, "target": {"response_id": said.response_id}, "name": said.name,
        "value": said.value, "comment": said.comment, "user_id": said.user, "tenant": said.tenant, "time": moment(said.at),
    }  # fmt: skip


def moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
