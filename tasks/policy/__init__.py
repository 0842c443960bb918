"""The models behind one interface: learn from a dataset folder, answer conversations, live in a folder without pickle.

    policy = load(Path("data/model"))
    policy.respond([[{"role": "user", "content": "when do I see my money?"}]], [[]], n=2)
    -> [[Reply(action="billing-refund-time", text="Refunds take …", confidence=0.81), Reply(…)]]

A folder holds `policy.json` (which kind, which settings), safetensors for numbers, and JSON lines for texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tasks.errors import Refused
from tasks.records import canonical, digest, read_jsonl

Messages = Sequence[dict[str, str]]
Context = Sequence[dict[str, Any]]


KINDS = ("answers", "best_of_n", "llm", "provider", "command")


@dataclass(frozen=True, slots=True)
class TrainParams:
    """`policy` is one of KINDS: what trains it. A model folder may hold another kind (a command's script chooses)."""

    policy: str
    copies: int


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a training curve: `metric` ("loss", …) at an optimiser step."""

    step: int
    metric: str
    value: float


@dataclass(frozen=True, slots=True)
class Trained:
    """What a trainer tells of a training: a summary for data/reports/training.json (rows by table, tokens, …), and its curves."""

    summary: dict[str, Any]
    curves: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Reply:
    """One candidate answer. `action` is the id of an approved answer, or '' for free text; confidence is in [0, 1]."""

    action: str
    text: str
    confidence: float


class Policy(Protocol):
    def respond(
        self,
        conversations: Sequence[Messages],
        contexts: Sequence[Context],
        n: int = 1,
        offered: Sequence[Sequence[str]] | None = None,
    ) -> list[list[Reply]]:
        """The n best replies to each conversation, best first.

        `offered` gives, per conversation, the texts to choose from (best-of-n); a policy that brings its own answers
        needs none.
        """
        ...

    def save(self, folder: Path) -> None: ...


def load(folder: Path) -> Policy:
    """The policy in a model folder. Raises Refused where it is missing or of a kind this version does not know."""
    description = folder / "policy.json"
    if not description.is_file():
        raise Refused(f"{folder} holds no model (no policy.json)", "dvc pull, or flywheel retrain")
    kind = next(read_jsonl(description))["kind"]
    if kind == "answers":
        from tasks.policy.answers import AnswersPolicy

        return _guarded(AnswersPolicy.load(folder), folder)
    if kind == "best_of_n":
        from tasks.policy.reward import BestOfN

        return BestOfN.load(folder)
    if kind == "provider":
        from tasks.policy.provider import ProviderPolicy

        return ProviderPolicy.load(folder)
    if kind == "llm":
        from tasks.policy.llm import needed

        needed()
        from tasks.policy.llm.policy import LlmPolicy

        return LlmPolicy.load(folder)
    raise Refused(f"{description}: unknown kind of policy {kind!r}", "use the version of flywheel that trained it")


def _guarded(policy: Policy, folder: Path) -> Policy:
    """The policy behind the guard it was trained with, if it was."""
    settings = folder / "guard.json"
    if not settings.is_file():
        return policy
    from tasks.policy.reward import Guarded, GuardParams, RewardModel

    return Guarded(policy, RewardModel.load(folder), GuardParams(**next(read_jsonl(settings))))


def write_description(folder: Path, **fields: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "policy.json").write_bytes(canonical(fields) + b"\n")


def folder_digest(folder: Path) -> str:
    """One digest of a model folder: of the names and the bytes of its files, wherever it lies."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return digest(canonical([[p.relative_to(folder).as_posix(), digest(p.read_bytes())] for p in files]))
