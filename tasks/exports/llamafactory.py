"""LLaMA-Factory's ShareGPT lines, and the dataset_info.json by which it finds them.

    {"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}], "system": "…", "tools": "[…]"}

It learns every answer of a conversation unless told `mask_history: true`. So conversations with an answer that must not be learned
are a dataset of their own, which is to be trained with that setting: flywheel_sft_mask_history.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from tasks.examples import TRAIN, Example
from tasks.exports import chat
from tasks.exports.said import Said
from tasks.exports.turns import only_the_last_is_learned, opening, turn, turns

NAME = "llamafactory"
WHAT = "LLaMA-Factory: ShareGPT lines for supervised training and DPO, with dataset_info.json"
READS = {TRAIN: ("sft", "preference")}
SFT, MASKED, DPO = "flywheel_sft", "flywheel_sft_mask_history", "flywheel_dpo"
LEARNS = {"messages": "conversations", "system": "system", "tools": "tools"}
INFO: dict[str, dict[str, Any]] = {
    SFT: {"formatting": "sharegpt", "columns": LEARNS},
    MASKED: {"formatting": "sharegpt", "columns": LEARNS},
    DPO: {"formatting": "sharegpt", "ranking": True, "columns": LEARNS | {"chosen": "chosen", "rejected": "rejected"}},
}


def line(table: str, row: Example) -> Said:
    return _pair(row) if table == "preference" else _learned(row)


def beside(files: Mapping[str, int]) -> dict[str, bytes]:
    info = {name: {"file_name": f"{name}.jsonl"} | said for name, said in INFO.items() if f"{name}.jsonl" in files}
    return {"dataset_info.json": orjson.dumps(info, option=orjson.OPT_INDENT_2) + b"\n"}


def _learned(row: Any) -> Said:
    found = chat.messages(row.messages)
    chat.speaking(found[-1])
    system, rest = opening(found)
    document = {"conversations": turns(rest), "system": system, "tools": _tools(row.tools)}
    return Said(f"{MASKED if only_the_last_is_learned(rest) else SFT}.jsonl", document, chat.without(found))


def _pair(row: Any) -> Said:
    found, better, worse = chat.messages(row.prompt), chat.answer(row.chosen), chat.answer(row.rejected)
    system, rest = opening(found)
    turns([*rest, better])  # whoever answers must be next
    document = {
        "conversations": turns(rest),
        "chosen": turn(better),
        "rejected": turn(worse),
        "system": system,
        "tools": _tools(row.tools),
    }
    return Said(f"{DPO}.jsonl", document, chat.without(found, [better], [worse]))


def _tools(text: str) -> str:
    """The functions themselves, as its templates take them; '' without."""
    tools = [t.get("function", t) for t in chat.tools(text)]
    return orjson.dumps(tools).decode() if tools else ""
