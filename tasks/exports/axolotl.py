"""Axolotl's configurations for supervised training and DPO, and the lines that they name.

    sft.yaml  datasets: [{path: sft.jsonl, type: chat_template, message_field_training: train, …}]
    sft.jsonl {"messages": [{"role": "assistant", "content": "One is a hold.", "train": false}, …], "tools": "[…]"}

Tools and arguments are JSON text, which it opens: as objects, `datasets` could give each the keys of all others. A configuration
says what is read and how; the model and the optimiser are yours to add. Run it inside the folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from tasks.examples import TRAIN, Example
from tasks.exports import chat
from tasks.exports.said import CannotSay, Said

NAME = "axolotl"
WHAT = "Axolotl: configurations for supervised training and DPO, with their lines"
READS = {TRAIN: ("sft", "preference")}
SFT, DPO = "sft.jsonl", "dpo.jsonl"
CONFIGS: dict[str, dict[str, Any]] = {
    SFT: {
        "datasets": [
            {
                "path": SFT,
                "ds_type": "json",
                "type": "chat_template",
                "field_messages": "messages",
                "message_field_training": "train",
                "roles_to_train": [],
                "train_on_eos": "turn",
            }
        ]
    },
    DPO: {
        "rl": "dpo",
        "datasets": [
            {
                "path": DPO,
                "ds_type": "json",
                "split": "train",
                "type": "chat_template.default",
                "field_messages": "prompt",
                "field_chosen": "chosen",
                "field_rejected": "rejected",
            }
        ],
    },
}


def line(table: str, row: Example) -> Said:
    return _pair(row) if table == "preference" else _learned(row)


def beside(files: Mapping[str, int]) -> dict[str, bytes]:
    return {
        f"{name.removesuffix('.jsonl')}.yaml": yaml.safe_dump(said, sort_keys=False).encode()
        for name, said in CONFIGS.items()
        if name in files
    }


def _learned(row: Any) -> Said:
    found = chat.messages(row.messages)
    chat.speaking(found[-1])
    said = [{k: v for k, v in m.items() if k != "weight"} for m in chat.openai(found, weights=True)]
    for there, here in zip(said, found, strict=True):
        there["train"] = here["role"] == "assistant" and bool(chat.learned(here))
        there["content"] = there["content"] or ""
        for call in here.get("tool_calls", ()):
            chat.arguments(call)  # it opens their text itself, and stops at one that is no JSON
    return Said(SFT, {"messages": said, "tools": row.tools or "[]"}, chat.without(found))


def _pair(row: Any) -> Said:
    """Its DPO reads role and content and nothing else."""
    found, better, worse = chat.messages(row.prompt), chat.answer(row.chosen), chat.answer(row.rejected)
    chat.call_free([*found, better, worse])
    if chat.tools(row.tools):
        raise CannotSay("tools")
    document = {"prompt": _plain(found), "chosen": _plain([better]), "rejected": _plain([worse])}
    return Said(DPO, document, chat.without(found, [better], [worse]))


def _plain(conversation: list[chat.Message]) -> list[dict[str, str]]:
    return [{"role": m["role"], "content": m["content"]} for m in conversation]
