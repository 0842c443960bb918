"""One request from the question to the answer: whose turn it is, what is logged, what the comparison and the shadow get to know.

    Answering(lineup, journal, shadow).answer(asked)  ->  Answered(model, choices)
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.live.serving.chat import ApiError, Asked, Choice, choices
from tasks.live.serving.feedback import is_bad
from tasks.live.serving.journal import Journal, Said, feedback, interaction
from tasks.live.serving.lineup import LineUp
from tasks.live.serving.model import Model
from tasks.live.serving.shadow import Shadow
from tasks.live.serving.trial import NEWER, Trial
from tasks.metrics import Metric
from tasks.policy import Reply

CHAMPION, CHALLENGER = "champion", "challenger"
REMEMBERED = 100_000  # answers whose conversation is known, so that a comment gets the same surrogates
log = logging.getLogger("flywheel.serve")


@dataclass(frozen=True, slots=True)
class Answered:
    model: Model
    choices: list[Choice]


class Answering:
    """Only used on the event loop."""

    def __init__(self, lineup: LineUp, journal: Journal, shadow: Shadow | None, metrics: Sequence[Metric]):
        self.answered = self.failed = self.fell_back = 0
        self._lineup, self._journal, self._shadow, self._metrics = lineup, journal, shadow, metrics
        self._scopes: OrderedDict[str, str] = OrderedDict()

    async def answer(self, asked: Asked) -> Answered:
        """Raises ApiError: 404 for a model that is not there, 503 while there is none, 500 where it fails."""
        model, arm, trial = self._whose_turn(asked)
        if model.needs_candidates and asked.candidates is None:
            raise ApiError(400, "this model chooses among texts: send them as 'candidates'", "missing_required_parameter",
                           "candidates")  # fmt: skip
        tried = ""
        try:
            replies = await self._replies(model, asked)
        except Exception as e:  # whatever a model may raise
            if trial is not None and asked.actor:
                trial.answered(asked.actor, asked.id, asked.started, failed=True)
            if arm != NEWER or trial is None:
                await self._failed(asked, model, arm, e)
            tried, model, arm = model.name, trial.older, ""
            self.fell_back += 1
            try:
                replies = await self._replies(model, asked)
            except Exception as again:
                await self._failed(asked, model, arm, again)
        else:
            if trial is not None:
                trial.answered(asked.actor, asked.id, asked.started)
        made = choices(asked, replies)
        self.answered += 1
        self._remember(asked)
        await self._journal.answered(interaction(asked, made, model.name, time.time(), arm, tried=tried))
        challenger = self._lineup.challenger
        if self._shadow is not None and challenger is not None and challenger is not model:
            self._shadow.offer(model, challenger, asked, replies[0])
        return Answered(model, made)

    async def said(self, events: Sequence[Said]) -> tuple[bool, bool]:
        """Keep what was said: whether all of it is on the disk, and whether some of it counts in the trial."""
        kept = [await self._journal.keep(feedback(e), self._scopes.get(e.response_id)) for e in events]
        trial, counts = self._lineup.trial, False
        if trial is not None:
            for e in events:
                if is_bad(e, self._metrics):
                    actor = f"{e.tenant}\0u\0{e.user}" if e.user else ""
                    counts = trial.said_bad(e.response_id, actor, e.at) or counts
        return all(kept), counts

    def _whose_turn(self, asked: Asked) -> tuple[Model, str, Trial | None]:
        """The model, its arm ("" outside of a comparison), and the trial that counts this request."""
        trial, champion = self._lineup.trial, self._lineup.champion
        if asked.model == CHALLENGER:
            if self._lineup.challenger is None:
                raise ApiError(404, "there is no challenger at work now", "model_not_found", "model")
            return self._lineup.challenger, "", None
        if asked.model != CHAMPION:
            raise ApiError(404, "there is no such model; GET /v1/models lists them", "model_not_found", "model")
        if champion is None:
            raise ApiError(503, "there is no champion yet", "no_champion")
        arm = trial.arm(asked.actor) if trial is not None else ""
        if trial is None or not arm:
            return champion, "", None
        return trial.model(arm), arm, trial

    async def _replies(self, model: Model, asked: Asked) -> list[Reply]:
        return await asyncio.wrap_future(model.answer(asked))

    async def _failed(self, asked: Asked, model: Model, arm: str, e: Exception) -> None:
        """Logged as an error of production; told without what was asked, which an exception's text may hold."""
        self.failed += 1
        frame = traceback.extract_tb(e.__traceback__)[-1]
        log.error("version %s failed: %s at %s:%s", model.version, type(e).__name__, Path(frame.filename).name, frame.lineno)
        await self._journal.answered(interaction(asked, [], model.name, time.time(), arm, error=type(e).__name__))
        raise ApiError(500, "the model could not answer", "model_error") from None

    def _remember(self, asked: Asked) -> None:
        self._scopes[asked.id] = asked.session or asked.id
        if len(self._scopes) > REMEMBERED:
            self._scopes.popitem(last=False)
