"""An order to a provider: the lines of one table in its dialect, and the settings. Its digest is its key, in notes that outlive a
killed training.

    order_of(url, "supervised", "gpt-4.1-nano", Path("data/dataset"), params)   ->   Order(rows=812, key="5c0e…", usd=8.9, …)
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from tasks import shards
from tasks.errors import INVALID, Refused
from tasks.examples import TABLES, TRAIN
from tasks.exports import openai_dpo, openai_sft
from tasks.exports.said import CannotSay
from tasks.records import canonical, digest

SUPERVISED, DPO = "supervised", "dpo"
DIALECTS = {SUPERVISED: ("sft", openai_sft), DPO: ("preference", openai_dpo)}
BYTES_PER_TOKEN = 3.0  # few texts have fewer; a bound on the price must not be too low


@dataclass(frozen=True, slots=True)
class ProviderParams:
    """`steps`: supervised and dpo, each from the model of the one before. `usd_per_million`: the price of a trained token, by which
    `max_cost` (USD of all steps) refuses an order before it is sent. `max_tokens`: of a reply."""

    url: str
    base: str
    steps: list[str]
    epochs: int
    beta: float
    seed: int
    suffix: str
    max_examples: int
    usd_per_million: float
    max_cost: float
    wait_hours: float
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked of the provider. `left_out` counts, by reason, the rows that its dialect can't say."""

    url: str
    step: str
    base: str
    lines: bytes
    rows: int
    left_out: dict[str, int]
    params: ProviderParams

    @property
    def data(self) -> str:
        return hashlib.sha256(self.lines).hexdigest()

    @property
    def key(self) -> str:
        return digest(canonical([self.url, self.data, self.body("")]))

    @property
    def usd(self) -> float:
        """What it costs at most, about."""
        tokens = len(self.lines) / BYTES_PER_TOKEN * self.params.epochs
        return tokens * self.params.usd_per_million / 1e6

    def body(self, file: str) -> dict[str, Any]:
        p = self.params
        settings: dict[str, Any] = {"n_epochs": p.epochs} | ({"beta": p.beta} if self.step == DPO else {})
        method = {"type": self.step, self.step: {"hyperparameters": settings}}
        body = {"model": self.base, "training_file": file, "method": method, "seed": p.seed}
        return body | ({"suffix": p.suffix} if p.suffix else {})


@dataclass(frozen=True, slots=True)
class Note:
    """What the checkpoints folder remembers of an order: no text of it, so that an erasure finds nothing there."""

    key: str
    url: str
    step: str
    job: str
    status: str


@dataclass(frozen=True, slots=True)
class Notes:
    """The orders of a workspace: one small file each, put in place whole."""

    folder: Path

    def all(self) -> list[Note]:
        return [Note(**orjson.loads(p.read_bytes())) for p in sorted(self.folder.glob("*.json"))]

    def read(self, key: str) -> Note | None:
        return next((n for n in self.all() if n.key == key), None)

    def write(self, note: Note) -> Note:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{note.key[:16]}.json"
        half = path.with_suffix(".half")
        half.write_bytes(canonical(asdict(note)) + b"\n")
        half.replace(path)
        return note


def order_of(url: str, step: str, base: str, dataset: Path, params: ProviderParams) -> Order:
    table, dialect = DIALECTS[step]
    left_out: Counter[str] = Counter()
    lines: list[bytes] = []
    for row in shards.read(dataset / "parquet" / TRAIN / table, TABLES[table].row):
        try:
            lines.append(orjson.dumps(dialect.line(table, row).document) + b"\n")
        except CannotSay as e:
            left_out[e.reason] += 1
    if not lines:
        raise Refused(f"no row of {table} can be sent to a provider", "flywheel advise says what is missing", INVALID)
    if len(lines) > params.max_examples:
        raise Refused(
            f"{len(lines)} examples of {table} are more than provider.max_examples ({params.max_examples})",
            "raise it in params.yaml, or lower hygiene's caps",
        )
    return Order(url, step, base, b"".join(lines), len(lines), dict(sorted(left_out.items())), params)
