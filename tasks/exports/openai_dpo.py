"""OpenAI's preference lines: a prompt and one answer each that was and was not preferred.

    {"input": {"messages": […], "tools": [], "parallel_tool_calls": true}, "preferred_output": [{…}], "non_preferred_output": [{…}]}
"""

from __future__ import annotations

from tasks.examples import TRAIN, Preference
from tasks.exports import chat
from tasks.exports.said import Said

NAME = "openai-dpo"
WHAT = "OpenAI preference fine-tuning"
READS = {TRAIN: ("preference",)}
FILE = "openai_dpo.jsonl"


def line(table: str, row: Preference) -> Said:
    prompt, better, worse = chat.messages(row.prompt), chat.answer(row.chosen), chat.answer(row.rejected)
    document = {
        "input": {"messages": chat.openai(prompt), "tools": chat.tools(row.tools), "parallel_tool_calls": True},
        "preferred_output": chat.openai([better]),
        "non_preferred_output": chat.openai([worse]),
    }
    return Said(FILE, document, chat.without(prompt, [better], [worse]))
