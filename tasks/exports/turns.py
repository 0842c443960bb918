"""Conversations of two speakers in turn, as ShareGPT's readers take them.

    user · assistant (calls a tool) · tool · assistant   ->   human · function_call · observation · gpt
"""

from __future__ import annotations

from typing import Any

import orjson

from tasks.exports import chat
from tasks.exports.chat import Message
from tasks.exports.said import CannotSay


def opening(conversation: list[Message]) -> tuple[str, list[Message]]:
    """The system prompt ('' without one), and the rest."""
    if conversation[0]["role"] == "system":
        return conversation[0]["content"], conversation[1:]
    return "", conversation


def turns(conversation: list[Message]) -> list[dict[str, str]]:
    """Whoever asks at even places, whoever answers at odd ones. Raises CannotSay where the two do not take turns."""
    said = [turn(m) for m in conversation]
    for place, one in enumerate(said):
        if (one["from"] in ("human", "observation")) != (place % 2 == 0):
            several = place > 0 and said[place - 1]["from"] == one["from"] == "observation"
            raise CannotSay("several_tool_results" if several else "speakers_not_in_turn")
    return said


def turn(message: Message) -> dict[str, str]:
    if message["role"] == "system":
        raise CannotSay("system_prompt_inside")
    if calls := message.get("tool_calls"):
        if message["content"]:
            raise CannotSay("text_beside_a_call")
        said: list[Any] = [{"name": c["function"]["name"], "arguments": chat.arguments(c)} for c in calls]
        return {"from": "function_call", "value": orjson.dumps(said[0] if len(said) == 1 else said).decode()}
    return {"from": {"user": "human", "tool": "observation"}.get(message["role"], "gpt"), "value": message["content"]}


def only_the_last_is_learned(conversation: list[Message]) -> bool:
    """Whether an earlier turn of the assistant must not be learned."""
    return any(m["role"] == "assistant" and not chat.learned(m) for m in conversation[:-1])
