"""The dataset's JSON lines as what TRL's trainers take.

    {"example_id":"ex…","prompt":[{"role":"user",…}],"completion":[{"role":"assistant",…}],"tools":"[]"}   ->   a row of `datasets`

Messages are kept as JSON inside Arrow: as structs, every call of a tool would get the arguments of all others, as nulls.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
from datasets import Dataset, Features, Json, List, Value
from transformers import PreTrainedTokenizerBase

from tasks import shards
from tasks.examples import TABLES, TRAIN
from tasks.policy.llm import SFT
from tasks.records import read_jsonl

Row = dict[str, Any]
FEATURES = {
    "prompt": List(Json()), "completion": List(Json()), "chosen": List(Json()), "rejected": List(Json()), "checks": List(Json()),
    "tools": Value("string"), "ground_truth": Value("string"), "label": Value("bool"), "margin": Value("float64"),
}  # fmt: skip


def read(dataset: Path, table: str, copies: int = 1) -> list[Row]:
    """The rows of a table, in order. Of `sft`, a row that stands for several near-identical ones comes as often as they were,
    up to `copies` times."""
    folder = dataset / "jsonl" / TRAIN / table
    found = [row for shard in sorted(folder.glob("*.jsonl")) for row in read_jsonl(shard)]
    if table != SFT or copies <= 1:
        return found
    whole = shards.table(dataset / "parquet" / TRAIN / table, TABLES[table].row, ["example_id", "copies"])
    times = dict(zip(whole["example_id"].to_pylist(), whole["copies"].to_pylist(), strict=True))
    return [row for row in found for _ in range(max(1, min(times[row["example_id"]], copies)))]


def too_long(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, limit: int) -> int:
    """How many rows have more tokens than a trainer reads of one: it cuts their end off, or leaves a pair out."""
    return sum(any(len(ids) > limit for ids in _shown(row, tokenizer)) for row in rows)


def _shown(row: Row, tokenizer: PreTrainedTokenizerBase) -> Iterator[list[int]]:
    tools = orjson.loads(row.get("tools", "[]"))
    for name in ("completion", "chosen", "rejected"):
        if name in row:
            said = [*row.get("prompt", ()), *row[name]]
            yield tokenizer.apply_chat_template(said, tools=tools or None, return_dict=True)["input_ids"]


def taught(rows: Sequence[Row]) -> Dataset:
    """Rows as a trainer's data set, without what it does not learn from (`example_id`)."""
    columns = {name: kind for name, kind in FEATURES.items() if name in rows[0]}
    return Dataset.from_dict({name: [row[name] for row in rows] for name in columns}, features=Features(columns))
