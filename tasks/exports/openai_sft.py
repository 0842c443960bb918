"""OpenAI's supervised fine-tuning lines, as Azure, Fireworks and Together read them too.

    {"messages": [{"role": "user", …}, {"role": "assistant", "content": "One is a hold.", "weight": 0}, …], "tools": […]}

Each turn of the assistant has its weight: 0 is not learned.
"""

from __future__ import annotations

from tasks.examples import TRAIN, Supervised
from tasks.exports import chat
from tasks.exports.said import CannotSay, Said

NAME = "openai-sft"
WHAT = "OpenAI supervised fine-tuning: messages with weights, and tools"
READS = {TRAIN: ("sft",)}
FILE = "openai_sft.jsonl"


def line(table: str, row: Supervised) -> Said:
    found = chat.messages(row.messages)
    chat.speaking(found[-1])
    said = chat.openai(found, weights=True)
    if not any(m.get("weight") for m in said):
        raise CannotSay("nothing_to_learn")
    tools = chat.tools(row.tools)
    return Said(FILE, {"messages": said} | ({"tools": tools} if tools else {}), chat.without(found))
