"""A policy over the approved answers of a catalogue, with *escalate* and *refuse* as answers among them.

A linear softmax over encoded conversations. Without labels it knows only the catalogue's own words (the base model);
a supervised step fits it to corrections and confirmed answers; a preference step (the DPO objective) pushes what people
rejected below what they chose. Its confidence is calibrated on rows that it was not fitted to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_softmax, softmax

from tasks.policy import Context, Messages, Reply, write_description
from tasks.policy.encoder import Encoder
from tasks.records import Approved, read_records, write_jsonl


@dataclass(frozen=True, slots=True)
class AnswersParams:
    sharpness: float
    pull_to_base: float
    dpo_beta: float
    dpo_share: float
    folds: int
    seed: int


@dataclass(frozen=True, slots=True)
class Taught:
    """A supervised row: what was asked, which approved answer is right, and how much the row weighs."""

    messages: Messages
    action: str
    weight: float
    group_id: str


@dataclass(frozen=True, slots=True)
class Preferred:
    """A preference pair over approved answers."""

    messages: Messages
    chosen: str
    rejected: str


@dataclass(frozen=True, slots=True)
class AnswersPolicy:
    """`weights` (answers, dimensions + 1), the last column a bias; `temperature` calibrates the softmax."""

    catalogue: tuple[Approved, ...]
    encoder: Encoder
    weights: np.ndarray
    temperature: float

    def respond(
        self,
        conversations: Sequence[Messages],
        contexts: Sequence[Context],
        n: int = 1,
        offered: Sequence[Sequence[str]] | None = None,
    ) -> list[list[Reply]]:
        if not conversations:
            return []
        chances = softmax(self.logits(conversations) / self.temperature, axis=1)
        replies = []
        for row in chances:
            best = np.argsort(-row, kind="stable")[:n]
            replies.append([Reply(self.catalogue[k].id, self.catalogue[k].text, round(float(row[k]), 6)) for k in best])
        return replies

    def logits(self, conversations: Sequence[Messages]) -> np.ndarray:
        return _with_bias(self.encoder.conversations(conversations)) @ self.weights.T

    def save(self, folder: Path) -> None:
        write_description(folder, kind="answers", temperature=self.temperature)
        write_jsonl(folder / "catalogue.jsonl", self.catalogue)
        self.encoder.save(folder)
        save_file({"weights": np.ascontiguousarray(self.weights)}, folder / "head.safetensors")

    @classmethod
    def load(cls, folder: Path) -> AnswersPolicy:
        from tasks.records import read_jsonl

        description = next(read_jsonl(folder / "policy.json"))
        catalogue = tuple(read_records(folder / "catalogue.jsonl", Approved))
        weights = load_file(folder / "head.safetensors")["weights"]
        return cls(catalogue, Encoder.load(folder), weights, description["temperature"])


def base(catalogue: Sequence[Approved], encoder: Encoder, params: AnswersParams) -> AnswersPolicy:
    """The model before any label: an answer's weights are the encoding of its own title and text."""
    texts = described(catalogue)
    prototypes = params.sharpness * (encoder.texts(texts) + encoder.texts([a.title for a in catalogue])) / 2
    weights = np.hstack([prototypes, np.zeros((len(texts), 1))]).astype(np.float32)
    return AnswersPolicy(tuple(catalogue), encoder, weights, 1.0)


def described(catalogue: Sequence[Approved]) -> list[str]:
    """An approved answer as one text."""
    return [f"{a.title}. {a.text}" for a in catalogue]


def train(
    catalogue: Sequence[Approved],
    encoder: Encoder,
    taught: Sequence[Taught],
    preferred: Sequence[Preferred],
    params: AnswersParams,
) -> AnswersPolicy:
    """Base, then the supervised step, then the preference step, then calibration. Rows of unknown answers are an error."""
    start = base(catalogue, encoder, params)
    if not taught:
        return start
    rows = encoded(start, taught, preferred)
    _, weights = learned(start.weights, rows, params)
    temperature = _calibrated(rows.x, rows.y, rows.weight, [t.group_id for t in taught], start.weights, params)
    return AnswersPolicy(start.catalogue, start.encoder, weights.astype(np.float32), temperature)


@dataclass(frozen=True, slots=True)
class Encoded:
    """The rows as numbers: `x` what was asked, `y` the right answer's place in the catalogue, `weight`; `pairs` what was asked of
    the preference pairs, with the places of what was `chosen` and `rejected`."""

    x: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    pairs: np.ndarray
    chosen: np.ndarray
    rejected: np.ndarray

    def only(self, rows: np.ndarray, pairs: np.ndarray) -> Encoded:
        """The rows and pairs that the masks keep."""
        return Encoded(self.x[rows], self.y[rows], self.weight[rows], self.pairs[pairs], self.chosen[pairs], self.rejected[pairs])


def encoded(start: AnswersPolicy, taught: Sequence[Taught], preferred: Sequence[Preferred]) -> Encoded:
    """Rows as a policy's encoder and catalogue have them."""
    index = {a.id: k for k, a in enumerate(start.catalogue)}
    asked, pairs = (
        _with_bias(start.encoder.conversations([r.messages for r in rows])) if rows else np.zeros((0, start.weights.shape[1]))
        for rows in (taught, preferred)
    )
    return Encoded(
        asked, np.array([index[t.action] for t in taught], int), np.array([t.weight for t in taught], float), pairs,
        np.array([index[p.chosen] for p in preferred], int), np.array([index[p.rejected] for p in preferred], int),
    )  # fmt: skip


def learned(
    base_weights: np.ndarray, rows: Encoded, params: AnswersParams, near: tuple[np.ndarray, np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The weights after the supervised step, and after the preference step. `near` are those of almost the same rows, to begin at:
    both objectives are convex, so that the end is the same and only the way there is shorter."""
    supervised = _supervised(rows.x, rows.y, rows.weight, base_weights, params.pull_to_base)
    first = _minimise(supervised, base_weights if near is None else near[0])
    if not len(rows.pairs):
        return first, first
    # The supervised loss stays in: DPO alone lowers the rejected answer, and with it every answer that resembles the
    # chosen one (likelihood displacement). Pang et al. (2024), iterative reasoning preference optimisation.
    preference = _preference(rows.pairs, rows.chosen, rows.rejected, first, params.dpo_beta)
    return first, _minimise(_both(supervised, preference, params.dpo_share), first if near is None else near[1])


Loss = Callable[[np.ndarray], tuple[float, np.ndarray]]


def _supervised(x: np.ndarray, y: np.ndarray, weight: np.ndarray, base_weights: np.ndarray, pull: float) -> Loss:
    """Cross-entropy with an L2 pull to the base: an answer that nobody taught keeps what the catalogue says of it."""
    picked = np.zeros((len(y), len(base_weights)))
    picked[np.arange(len(y)), y] = 1

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        log_p = log_softmax(x @ w.T, axis=1)
        away = w - base_weights
        value = -(weight * log_p[np.arange(len(y)), y]).sum() + pull * (away**2).sum() / 2
        return value, ((np.exp(log_p) - picked) * weight[:, None]).T @ x + pull * away

    return loss


def _preference(x: np.ndarray, chosen: np.ndarray, rejected: np.ndarray, reference: np.ndarray, beta: float) -> Loss:
    """Direct preference optimisation: -log sigmoid(beta (margin - reference margin)), Rafailov et al. (2023).

    For a softmax policy the partition function cancels from the margin, so the objective is convex in the weights.
    """
    rows = np.arange(len(x))
    logits = x @ reference.T
    reference_margin = logits[rows, chosen] - logits[rows, rejected]

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        logits = x @ w.T
        margin = beta * (logits[rows, chosen] - logits[rows, rejected] - reference_margin)
        push = -beta * expit(-margin)
        gradient = np.zeros_like(w)
        np.add.at(gradient, chosen, push[:, None] * x)
        np.add.at(gradient, rejected, -push[:, None] * x)
        return np.logaddexp(0, -margin).sum(), gradient

    return loss


def _both(first: Loss, second: Loss, share: float) -> Loss:
    """first + share * second."""

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        (a, da), (b, db) = first(w), second(w)
        return a + share * b, da + share * db

    return loss


def _calibrated(
    x: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray,
    groups: Sequence[str],
    base_weights: np.ndarray,
    params: AnswersParams,
) -> float:
    """Temperature scaling (Guo et al., 2017) on out-of-fold logits; a group of near-duplicates is never in two folds."""
    _, member = np.unique(np.asarray(groups), return_inverse=True)
    if member.max() + 1 < params.folds:
        return 1.0
    fold = np.random.default_rng(params.seed).permutation(member.max() + 1)[member] % params.folds
    logits = np.zeros((len(y), len(base_weights)))
    for k in range(params.folds):
        held = fold == k
        loss_without = _supervised(x[~held], y[~held], weight[~held], base_weights, params.pull_to_base)
        fitted = _minimise(loss_without, base_weights)
        logits[held] = x[held] @ fitted.T

    def loss(log_t: float) -> float:
        return float(-(weight * log_softmax(logits / np.exp(log_t), axis=1)[np.arange(len(y)), y]).sum())

    return round(float(np.exp(minimize_scalar(loss, bounds=(-2.5, 2.5), method="bounded").x)), 6)


def _minimise(loss: Loss, start: np.ndarray) -> np.ndarray:
    def flat(w: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = loss(w.reshape(start.shape))
        return value, gradient.ravel()

    found = minimize(flat, start.astype(float).ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 100})
    return found.x.reshape(start.shape)


def _with_bias(x: np.ndarray) -> np.ndarray:
    return np.hstack([x, np.ones((len(x), 1), x.dtype)])
