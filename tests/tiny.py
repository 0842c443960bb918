"""A language model of no size and a dataset for it, and whether there is torch at all (`make llm`)."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from demo import tiny_llm
from demo.world import World, load_knowledge
from tasks import shards
from tasks.examples import TABLES, example_id
from tasks.params import load
from tasks.policy.llm import NEEDS, LlmParams
from tasks.records import canonical
from tests.imports import ROOT

ABSENT = "torch and TRL are not there: run `make llm` (it needs the package registry)"
SIZE = tiny_llm.Size(vocabulary=500, hidden=32, layers=2, heads=2, length=256)
TOOL = {"type": "function", "function": {"name": "find", "description": "Find it", "parameters": {"type": "object"}}}
ROWS = 48


def installed() -> bool:
    there = all(find_spec(name) for name in NEEDS)
    if not there and os.environ.get("FLYWHEEL_REQUIRE_LLM") == "1":
        raise RuntimeError(ABSENT)
    return there


needs_torch = pytest.mark.skipif(not installed(), reason=ABSENT)


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def questions(n: int) -> list[tuple[str, str, str]]:
    """(what a user of the demo asks, the right answer, a wrong one), all short."""
    knowledge = load_knowledge()
    texts = {action: text.split(". ")[0] for action, text in knowledge.texts.items()}
    other = list(texts.values())
    asked = [c.asks[0] for c in World(1, knowledge).traffic(1, n)]
    return [(a.text, texts[a.true_action], other[k % len(other)]) for k, a in enumerate(asked)]


def base(folder: Path, seed: int = 1) -> Path:
    rows = questions(400)
    tiny_llm.base(folder, [*(q for q, _, _ in rows), *{a for _, a, _ in rows}], SIZE, seed)
    return folder


def dataset(folder: Path, n: int = ROWS) -> Path:
    """The five tables that train, as the build stage writes them."""
    rows: dict[str, list[Any]] = {name: [] for name in ("sft", "preference", "reward", "unpaired", "prompts")}
    for k, (asked, right, wrong) in enumerate(questions(n)):
        tools = canonical([TOOL] if k == 0 else []).decode()
        values = {
            "sft": {"messages": user(asked) + said(right), "tools": tools, "action": ""},
            "preference": {
                "prompt": user(asked), "contexts": [], "chosen": said(right), "rejected": said(wrong), "tools": tools,
                "chosen_action": "", "rejected_action": "",
            },
            "reward": {"chosen": user(asked) + said(right), "rejected": user(asked) + said(wrong), "margin": 0.9},
            "unpaired": {"prompt": user(asked), "completion": said(right if k % 2 else wrong), "label": bool(k % 2)},
            "prompts": {
                "prompt": user(asked), "contexts": [], "checks": [{"check": "action", "value": "x"}], "ground_truth": right,
            },
        }  # fmt: skip
        for table, own in values.items():
            rows[table].append(example(table, k, **own))
    for table, made in rows.items():
        spec = TABLES[table]
        shards.write_rows(
            folder / "parquet" / "train" / table, spec.row, made, folder / "jsonl" / "train" / table, spec.trains
        )
    return folder


def example(table: str, k: int, copies: int = 1, **own: Any) -> Any:
    nested = {name: canonical(v).decode() if isinstance(v, (list, dict)) else v for name, v in own.items()}
    return TABLES[table].row(
        example_id=example_id(table, str(k)), interaction_id=f"in_{k}", beside="", group_id=f"g{k}", arrived=k, origin="correction",
        author="person", weight=1.0, copies=copies, topic="", language="en", guideline="answer-1", **nested,
    )  # fmt: skip


def params(**changes: Any) -> LlmParams:
    """The shipped parameters, with everything small."""
    shipped = load(ROOT / "params.yaml", "llm", LlmParams)
    small = {
        "max_length": 256, "max_new_tokens": 16, "lora_rank": 4, "min_rows": 4, "batch": 8, "checkpoint_every": 2,
        "sft_epochs": 1.0, "sft_rate": 3e-3, "reward_rate": 3e-3, "dpo_rate": 1e-3, "kto_rate": 1e-3, "grpo_steps": 2,
        "grpo_generations": 4, "grpo_rate": 1e-3,
    }  # fmt: skip
    return LlmParams(**{**{name: getattr(shipped, name) for name in LlmParams.__slots__}, **small, **changes})


def weights(folder: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(next(folder.glob("*.safetensors")))
