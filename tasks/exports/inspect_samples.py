"""Samples for inspect_ai's `json_dataset`: one file a table.

    {"id": "ex_1", "input": [{"role": "user", …}], "target": "Refunds take five days.", "metadata": {"language": "en", …}}
    {"id": "ex_2", "input": [{"role": "user", …}], "choices": ["Five days.", "Never."], "target": ["A"], "metadata": {…}}
"""

from __future__ import annotations

from typing import Any

import orjson

from tasks.exports import chat
from tasks.exports.chat import Message
from tasks.exports.said import CannotSay, Said
from tasks.exports.sealed import READS, Sealed, about, choices

NAME = "inspect"
WHAT = "inspect_ai samples, with targets or choices"
__all__ = ["READS"]
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def line(table: str, row: Sealed) -> Said:
    found = chat.messages(row.messages)
    metadata: dict[str, Any] = about(table, row)
    contexts = orjson.loads(row.contexts)
    if contexts:
        metadata["contexts"] = contexts
    if rubric := getattr(row, "rubric", ""):
        metadata["rubric"] = rubric
    document: dict[str, Any] = {"id": row.example_id, "input": [_message(m) for m in chat.openai(found)]}
    if row.target_text:
        document["target"] = row.target_text
    else:
        offered, right = choices(row)
        if not right:
            raise CannotSay("no_reference_answer")
        if len(offered) > len(LETTERS):
            raise CannotSay("too_many_choices")
        document |= {"choices": offered, "target": [LETTERS[k] for k in right]}
    return Said(f"{table}.jsonl", document | {"metadata": metadata}, chat.without(found))


def _message(message: Message) -> Message:
    """Its own shape of a call: the function's name, and its arguments as an object."""
    said = {"role": message["role"], "content": message["content"] or ""}
    if calls := message.get("tool_calls"):
        said["tool_calls"] = [
            {"id": c["id"], "type": "function", "function": c["function"]["name"], "arguments": chat.arguments(c)} for c in calls
        ]
    return said | ({"tool_call_id": message["tool_call_id"]} if "tool_call_id" in message else {})
