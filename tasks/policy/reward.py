"""A reward model on (prompt, context, response), and its uses: best-of-n policy, guard, and detector in the next turn.

    reward.score([prompt], [context], ["We ship to Norway"])  ->  [-1.3]      (higher is better; only differences matter)

Bradley and Terry: the chance that `chosen` beats `rejected` is the logistic function of the difference of their scores,
which are linear in the features below. Trained on preference pairs only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy.optimize import minimize
from scipy.special import expit, softmax

from tasks.policy import Context, Messages, Policy, Reply, write_description
from tasks.policy.encoder import Encoder
from tasks.records import canonical, read_jsonl
from tasks.words import content_words

_NUMBER = re.compile(r"\d[\d.,:/%-]*")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
SURFACE = (
    "length",
    "overlap_with_question",
    "grounded_words",
    "worst_sentence",
    "grounded_pairs",
    "grounded_numbers",
    "new_words",
)


@dataclass(frozen=True, slots=True)
class RewardParams:
    """`pull_to_zero` is the L2 on the surface features; `pull_meeting` that on the many where prompt and response meet,
    which would else outvote the few that mean something.
    """

    pull_to_zero: float
    pull_meeting: float
    min_pairs: int


@dataclass(frozen=True, slots=True)
class Pair:
    messages: Messages
    context: Context
    chosen: str
    rejected: str


@dataclass(frozen=True, slots=True)
class RewardModel:
    """`weights` over [similarity of prompt and response per dimension, the surface features], each divided by `scale`.

    `midpoint` is the median score of rejected answers in training: the detector measures against it.
    """

    encoder: Encoder
    scale: np.ndarray
    weights: np.ndarray
    midpoint: float

    def score(
        self, conversations: Sequence[Messages], contexts: Sequence[Context], responses: Sequence[str]
    ) -> np.ndarray:
        """(n,) scores; higher is better."""
        if not conversations:
            return np.zeros(0)
        return features(self.encoder, conversations, contexts, responses) / self.scale @ self.weights

    def goodness(
        self, conversations: Sequence[Messages], contexts: Sequence[Context], responses: Sequence[str]
    ) -> np.ndarray:
        """(n,) in [0, 1]: the chance of beating a typical rejected answer."""
        return expit(self.score(conversations, contexts, responses) - self.midpoint)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.encoder.save(folder)
        save_file(
            {"scale": self.scale, "weights": self.weights, "midpoint": np.array([self.midpoint])},
            folder / "reward.safetensors",
        )

    @classmethod
    def load(cls, folder: Path) -> RewardModel:
        stored = load_file(folder / "reward.safetensors")
        return cls(Encoder.load(folder), stored["scale"], stored["weights"], float(stored["midpoint"][0]))


def is_in(folder: Path) -> bool:
    """Whether a model folder holds a reward model (beside, or as, its policy; they share the encoder)."""
    return (folder / "reward.safetensors").is_file()


@dataclass(frozen=True, slots=True)
class GuardParams:
    """`floor`: the chance of beating a typical rejected answer below which a reply is doubted."""

    floor: float


@dataclass(frozen=True, slots=True)
class Guarded:
    """A policy whose replies lose confidence where they look like what people reject.

    The guard never changes an answer, so that it can do no harm by itself; what a low confidence means (a hand-over, a
    caveat) is the application's to decide. Letting it pick the next proposal instead cost right answers (docs/architecture.md).
    """

    policy: Policy
    model: RewardModel
    params: GuardParams

    def respond(
        self,
        conversations: Sequence[Messages],
        contexts: Sequence[Context],
        n: int = 1,
        offered: Sequence[Sequence[str]] | None = None,
    ) -> list[list[Reply]]:
        proposed = self.policy.respond(conversations, contexts, n, offered)
        flat = [(c, d, r.text) for c, d, rs in zip(conversations, contexts, proposed, strict=True) for r in rs]
        goodness = iter(self.model.goodness([f[0] for f in flat], [f[1] for f in flat], [f[2] for f in flat]))
        return [[self._doubted(r, float(next(goodness))) for r in replies] for replies in proposed]

    def _doubted(self, reply: Reply, goodness: float) -> Reply:
        if goodness >= self.params.floor:
            return reply
        return replace(reply, confidence=round(min(reply.confidence, goodness), 6))

    def save(self, folder: Path) -> None:
        """The policy's own files, the reward model beside them, and the guard's settings."""
        self.policy.save(folder)
        self.model.save(folder)
        (folder / "guard.json").write_bytes(canonical(asdict(self.params)) + b"\n")


@dataclass(frozen=True, slots=True)
class BestOfN:
    """Picks the best of the texts that are offered to it. `model` None is the base: the first text offered."""

    model: RewardModel | None

    def respond(
        self,
        conversations: Sequence[Messages],
        contexts: Sequence[Context],
        n: int = 1,
        offered: Sequence[Sequence[str]] | None = None,
    ) -> list[list[Reply]]:
        if offered is None:
            raise ValueError("best-of-n needs the texts to choose from")
        replies = []
        for messages, context, texts in zip(conversations, contexts, offered, strict=True):
            if self.model is None:
                scores = np.zeros(len(texts))
            else:
                scores = self.model.score([messages] * len(texts), [context] * len(texts), texts)
            chances = softmax(scores)
            best = np.argsort(-scores, kind="stable")[:n]
            replies.append([Reply("", texts[k], round(float(chances[k]), 6)) for k in best])
        return replies

    def save(self, folder: Path) -> None:
        write_description(folder, kind="best_of_n", trained=self.model is not None)
        if self.model is not None:
            self.model.save(folder)

    @classmethod
    def load(cls, folder: Path) -> BestOfN:
        trained = next(read_jsonl(folder / "policy.json"))["trained"]
        return cls(RewardModel.load(folder) if trained else None)


def train(pairs: Sequence[Pair], encoder: Encoder, params: RewardParams) -> RewardModel:
    """Fit the Bradley-Terry model with L2. Raises ValueError for fewer pairs than `min_pairs`."""
    if len(pairs) < params.min_pairs:
        raise ValueError(f"{len(pairs)} preference pairs; a reward model needs {params.min_pairs}")
    conversations, contexts = [p.messages for p in pairs], [p.context for p in pairs]
    chosen = features(encoder, conversations, contexts, [p.chosen for p in pairs])
    rejected = features(encoder, conversations, contexts, [p.rejected for p in pairs])
    scale = np.maximum(np.vstack([chosen, rejected]).std(axis=0), 1e-6)
    gap = (chosen - rejected) / scale

    pull = np.full(gap.shape[1], params.pull_meeting)
    pull[-len(SURFACE) :] = params.pull_to_zero

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        margin = gap @ w
        return np.logaddexp(0, -margin).sum() + (pull * w**2).sum() / 2, -gap.T @ expit(-margin) + pull * w

    weights = minimize(loss, np.zeros(gap.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 300}).x
    midpoint = float(np.median(rejected / scale @ weights))
    return RewardModel(encoder, scale, weights, midpoint)


def features(
    encoder: Encoder, conversations: Sequence[Messages], contexts: Sequence[Context], responses: Sequence[str]
) -> np.ndarray:
    """(n, dimensions + surface): where prompt and response point the same way, and how the response rests on the context."""
    meeting = encoder.conversations(conversations) * encoder.texts(responses)
    surface = [_surface(c, d, r) for c, d, r in zip(conversations, contexts, responses, strict=True)]
    return np.hstack([meeting, np.array(surface)]).astype(float)


def _surface(messages: Messages, context: Context, response: str) -> list[float]:
    """The features named in SURFACE, each a share in [0, 1] but the first (log of the length)."""
    question = next((m["content"] for m in reversed(messages) if m["role"] == "user"), "")
    source = "\n".join(d["text"] for d in context) or question
    words, known, asked = content_words(response), content_words(source), content_words(question)
    sentences = [content_words(s) for s in _SENTENCE.split(response) if s.strip()]
    supported = [len(s & known) / len(s) for s in sentences if s] or [0.0]
    ordered, ordered_source = response.casefold().split(), source.casefold().split()
    pairs = set(pairwise(ordered))
    known_pairs = set(pairwise(ordered_source))
    numbers, known_numbers = set(_NUMBER.findall(response)), set(_NUMBER.findall(source))
    return [
        float(np.log1p(len(ordered))),
        len(words & asked) / max(len(asked), 1),
        len(words & known) / max(len(words), 1),
        min(supported),
        len(pairs & known_pairs) / max(len(pairs), 1),
        len(numbers & known_numbers) / len(numbers) if numbers else 1.0,
        float(np.log1p(len(words - known))),
    ]
