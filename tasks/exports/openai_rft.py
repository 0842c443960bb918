"""OpenAI's reinforcement fine-tuning lines: a prompt, and what a grader reads as `item.reference_answer` and `item.checks`.

    {"messages": [{"role": "developer", …}, {"role": "user", …}], "reference_answer": "Five days.", "checks": [{"check": …}]}
"""

from __future__ import annotations

import orjson

from tasks.examples import TRAIN, Prompt
from tasks.exports import chat
from tasks.exports.said import CannotSay, Said

NAME = "openai-rft"
WHAT = "OpenAI reinforcement fine-tuning: prompts with a reference answer and checks"
READS = {TRAIN: ("prompts",)}
FILE = "openai_rft.jsonl"


def line(table: str, row: Prompt) -> Said:
    found = chat.messages(row.prompt)
    if found[-1]["role"] != "user":
        raise CannotSay("ends_without_a_question")
    document = {
        "messages": chat.openai(found, system="developer"),
        "reference_answer": row.ground_truth,
        "checks": orjson.loads(row.checks),
    }
    return Said(FILE, document, chat.without(found))
