"""A model that a provider tuned and keeps: ours is only its name, where it is asked, and what it was made of.

    ProviderPolicy("ft:gpt-4.1-nano:acme:flywheel:9aB", …).respond([[{"role": "user", "content": "when do I see my money?"}]], [[]])
    -> [[Reply(action="refund-time", text="Refunds take …", confidence=0.93)]]

The one kind of policy that needs the network; tasks/policy/provider/api.py is its door. It is asked with the messages as the
dataset's rows have them (tasks/exports/openai_sft.py wrote those that it learned from), so contexts count as far as the application
put them into its messages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.errors import Refused
from tasks.exports import chat
from tasks.policy import Context, Messages, Reply, write_description
from tasks.policy.provider.api import Api, endpoint
from tasks.records import Approved, read_jsonl, read_records, write_jsonl
from tasks.similar import jaccard, shingles

KIND = "provider"
AT_ONCE = 8  # requests under way


@dataclass(frozen=True, slots=True)
class Tuned:
    """What a model folder says of the model: its name at the provider, what it was tuned from, by which jobs, on which lines
    (`data`: the SHA-256 of each job's training file), and how it is asked."""

    model: str
    base: str
    url: str
    jobs: list[str]
    data: list[str]
    seed: int
    max_tokens: int


@dataclass(frozen=True, slots=True)
class ProviderPolicy:
    """`catalogue`: an answer that is word for word an approved one counts as it."""

    tuned: Tuned
    catalogue: tuple[Approved, ...]

    def respond(
        self,
        conversations: Sequence[Messages],
        contexts: Sequence[Context],
        n: int = 1,
        offered: Sequence[Sequence[str]] | None = None,
    ) -> list[list[Reply]]:
        """The best answers by the model's own probability. Where texts are on offer, the one most like what it would say.

        Raises Refused where the provider does not answer, or gives no probabilities: without them there is no confidence.
        """
        with Api(endpoint(self.tuned.url)) as api, ThreadPoolExecutor(AT_ONCE) as pool:
            found = list(pool.map(lambda c: self._answers(api, c, n), conversations))
        if offered is None:
            return found
        return [[_picked(replies[0], texts)] for replies, texts in zip(found, offered, strict=True)]

    def _answers(self, api: Api, conversation: Messages, n: int) -> list[Reply]:
        body = {
            "model": self.tuned.model,
            "messages": chat.openai(list(conversation)),
            "n": n,
            "temperature": 0 if n == 1 else 1,
            "seed": self.tuned.seed,
            "max_tokens": self.tuned.max_tokens,
            "logprobs": True,
        }
        said = api.ask("POST", "chat/completions", json=body)
        best: dict[str, Reply] = {}
        for choice in said["choices"]:
            reply = self._reply(choice)
            if reply.text not in best or best[reply.text].confidence < reply.confidence:
                best[reply.text] = reply
        return sorted(best.values(), key=lambda r: (-r.confidence, r.text))

    def _reply(self, choice: dict[str, Any]) -> Reply:
        text = choice["message"].get("content") or ""
        action = next((a.id for a in self.catalogue if a.text.strip() == text.strip()), "")
        return Reply(action, text, _confidence(choice, self.tuned.model) if text else 0.0)

    def save(self, folder: Path) -> None:
        write_description(folder, kind=KIND, **asdict(self.tuned))
        write_jsonl(folder / "catalogue.jsonl", self.catalogue)

    @classmethod
    def load(cls, folder: Path) -> ProviderPolicy:
        said = {k: v for k, v in next(read_jsonl(folder / "policy.json")).items() if k != "kind"}
        return cls(Tuned(**said), tuple(read_records(folder / "catalogue.jsonl", Approved)))


def _confidence(choice: dict[str, Any], model: str) -> float:
    """The geometric mean of the probabilities of the answer's tokens: its likelihood, whatever its length (Malinin and Gales
    2021, "Uncertainty estimation in autoregressive structured prediction", section 3)."""
    tokens = (choice.get("logprobs") or {}).get("content")
    if not tokens:
        raise Refused(
            f"the provider gives no probabilities (logprobs) with the answers of {model}",
            "name a provider or a base model that does, in params.yaml: provider",
        )
    return round(math.exp(min(0.0, sum(t["logprob"] for t in tokens) / len(tokens))), 6)


def _picked(reply: Reply, texts: Sequence[str]) -> Reply:
    """The text on offer that is most like the reply, and as sure as it is alike."""
    place = np.arange(len(texts))
    alike = jaccard(shingles([reply.text]), shingles(texts), np.zeros_like(place), place)
    best = int(np.argmax(alike))
    return Reply("", texts[best], round(reply.confidence * float(alike[best]), 6))
