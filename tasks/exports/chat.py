"""Canonical chat messages -> those of OpenAI's dialects, and the questions that every dialect asks of a conversation.

    {"role": "assistant", "content": "", "tool_calls": [{"id": "", "function": {"name": "find", …}}], "weight": 0}
    ->  {"role": "assistant", "content": None, "tool_calls": [{"id": "call_1", …}], "weight": 0}
"""

from __future__ import annotations

from typing import Any

import orjson

from tasks.exports.said import CannotSay

Message = dict[str, Any]
UNSAID = ("reasoning", "refusal")  # what no trainer's dialect has a place for


def messages(text: str) -> list[Message]:
    """The messages of a column. Raises CannotSay where they hold an image, a file or a sound: only its name was kept."""
    found = orjson.loads(text)
    if any(m.get("media") for m in found):
        raise CannotSay("media")
    if not found:
        raise CannotSay("no_messages")
    return found


def without(*conversations: list[Message]) -> tuple[str, ...]:
    """What the messages hold and a plain dialect does not say."""
    return tuple(key for key in UNSAID if any(m.get(key) for c in conversations for m in c))


def answer(text: str) -> Message:
    """The one message of an answer that says something. Raises CannotSay where there is another number of them, or nothing."""
    found = messages(text)
    if len(found) != 1 or found[0]["role"] != "assistant":
        raise CannotSay("answer_of_several_messages")
    return speaking(found[0])


def speaking(message: Message) -> Message:
    if message["role"] != "assistant":
        raise CannotSay("ends_without_an_answer")
    if not message["content"] and not message.get("tool_calls"):
        raise CannotSay("empty_answer")
    return message


def openai(conversation: list[Message], weights: bool = False, system: str = "system") -> list[Message]:
    """OpenAI's messages, without a key that its dialects do not know. With `weights` each turn of the assistant has one."""
    done, waiting, number = [], [], 0
    for m in conversation:
        said: Message = {"role": system if m["role"] == "system" else m["role"], "content": m["content"]}
        if m["role"] == "user" and m.get("name"):
            said["name"] = m["name"]
        if calls := m.get("tool_calls"):
            said["content"] = m["content"] or None
            waiting = []
            said["tool_calls"] = []
            for call in calls:
                number += 1
                id = call.get("id") or f"call_{number}"
                waiting.append(id)
                function = {"name": call["function"]["name"], "arguments": _as_text(call["function"]["arguments"])}
                said["tool_calls"].append({"id": id, "type": "function", "function": function})
        if m["role"] == "tool":
            id = m.get("tool_call_id") or (waiting[0] if waiting else "")
            if id not in waiting:
                raise CannotSay("result_without_a_call")
            waiting.remove(id)
            said["tool_call_id"] = id
        elif waiting and m["role"] != "assistant":
            raise CannotSay("call_without_a_result")
        if weights and m["role"] == "assistant":
            said["weight"] = learned(m)
        done.append(said)
    return done


def learned(message: Message) -> int:
    """Whether a turn of the assistant is to be learned, 0 or 1."""
    return int(bool(message.get("weight", 1)))


def arguments(call: Message) -> dict[str, Any]:
    """The arguments of a call as an object. Raises CannotSay where they are none."""
    given = call["function"]["arguments"]
    try:
        found = orjson.loads(given) if isinstance(given, str) else given
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise CannotSay("arguments_are_no_object")
    return found


def tools(text: str) -> list[Any]:
    return orjson.loads(text) if text else []


def call_free(conversation: list[Message]) -> list[Message]:
    """Raises CannotSay where tools are called."""
    if any(m["role"] == "tool" or m.get("tool_calls") for m in conversation):
        raise CannotSay("tool_calls")
    return conversation


def _as_text(given: Any) -> str:
    return given if isinstance(given, str) else orjson.dumps(given).decode()
