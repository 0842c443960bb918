"""Velora's assistant: looks up three documents, asks the model, answers - and sometimes something breaks on the way.

    in    Request(turn=3, session_id="s-3-12", position=0, user_id="u-0031", time_ns=.., messages=({"role": ..},))
    out   Interaction(request, documents=[{"id", "text", "score"}], text="Refunds take ...", finish_reason="stop", ...)

The model is whatever the loop calls its champion: anything with the `respond` of `Policy`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from demo.chance import chance, digest
from demo.knowledge import Knowledge
from demo.retrieval import Retrieval
from demo.week import SECOND

TRUNCATED_SHARE = 0.01
EMPTY_SHARE = 0.005
SLOWEST_MS = 30_000
TOKENS_PER_WORD = 1.3

Message = dict[str, str]
Document = dict[str, Any]


class Reply(Protocol):
    """One answer of a model: the approved action that it stands for, its words, and how sure the model is (0..1)."""

    @property
    def action(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def confidence(self) -> float: ...


class Policy(Protocol):
    """The models behind one interface: `n` replies a conversation, best first."""

    def respond(
        self, conversations: list[list[Message]], contexts: list[list[Document]], n: int
    ) -> Sequence[Sequence[Reply]]: ...


@dataclass(frozen=True, slots=True)
class Request:
    """One message of a user with all that was said before it; `position` counts the asks of the session from 0."""

    turn: int
    session_id: str
    position: int
    user_id: str
    time_ns: int
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Interaction:
    """One request as it was served. Times are nanoseconds since 1970; `text` is what the user saw."""

    request: Request
    response_id: str
    trace_id: str
    query: str
    documents: list[Document]
    text: str
    finish_reason: str
    confidence: float
    model_version: str
    searched_ns: int
    answered_ns: int
    input_tokens: int
    output_tokens: int


class App:
    """One deployment of the assistant with one version of the model."""

    def __init__(self, policy: Policy, model_version: str, knowledge: Knowledge, seed: int) -> None:
        self._policy = policy
        self._model_version = model_version
        self._seed = seed
        self._retrieval = Retrieval(knowledge)

    def answer(self, requests: Sequence[Request]) -> list[Interaction]:
        """Serve a wave of requests as one batch: a model answers a thousand at once far faster than one by one."""
        if not requests:
            return []
        queries = [user_text(request.messages) for request in requests]
        documents = self._retrieval.documents(queries)
        conversations = [list(request.messages) for request in requests]
        replies = self._policy.respond(conversations, documents, 1)
        return [
            self._serve(request, query, found, ranked[0])
            for request, query, found, ranked in zip(requests, queries, documents, replies, strict=True)
        ]

    def _serve(self, request: Request, query: str, documents: list[Document], reply: Reply) -> Interaction:
        # The network's mood belongs to the request, not to the model: two models meet the same faults.
        rng = chance(self._seed, request.turn, "transport", request.session_id, request.position)
        fault, cut = rng.random(), rng.uniform(0.3, 0.7)
        search_ms, answer_ms = rng.lognormal(3.2, 0.4), rng.lognormal(6.3, 0.5)
        text, finish_reason = reply.text, "stop"
        if fault < TRUNCATED_SHARE:
            text, finish_reason = text[: int(len(text) * cut)], "length"
        elif fault < TRUNCATED_SHARE + EMPTY_SHARE:
            text, finish_reason = "", "error"
        searched_ns = request.time_ns + _milliseconds(search_ms)
        # The model's version is part of the name: the same week served again by another model is other responses.
        name = digest(self._seed, request.turn, request.session_id, request.position, self._model_version)
        return Interaction(
            request=request,
            response_id=f"resp-{name[:24]}",
            trace_id=name[32:],
            query=query,
            documents=documents,
            text=text,
            finish_reason=finish_reason,
            confidence=round(float(reply.confidence), 6),
            model_version=self._model_version,
            searched_ns=searched_ns,
            answered_ns=searched_ns + _milliseconds(answer_ms),
            input_tokens=_tokens(*(m["content"] for m in request.messages), *(d["text"] for d in documents)),
            output_tokens=_tokens(text),
        )


def user_text(messages: Sequence[Message]) -> str:
    """All that the user wrote in a conversation: what the assistant searches for."""
    return "\n".join(message["content"] for message in messages if message["role"] == "user")


def _milliseconds(duration: float) -> int:
    return int(min(duration, SLOWEST_MS)) * (SECOND // 1000)


def _tokens(*texts: str) -> int:
    return int(sum(len(text.split()) for text in texts) * TOKENS_PER_WORD)
