"""Chat messages of every framework -> the canonical ones, which chat templates and trainers read as they are.

    {"role": "assistant", "content": "One is a hold.", "tool_calls": [{"id": "call_1", "type": "function",
     "function": {"name": "get_order", "arguments": "{\\"order_id\\": \\"77-B\\"}"}}]}
    {"role": "tool", "content": "{\\"holds\\": 1}", "tool_call_id": "call_1"}

`content` is always a string ('' beside tool calls alone). Optional: tool_calls, tool_call_id, name, reasoning, refusal,
media (what an image or a file was, never its bytes). Read here: OpenAI chat and Responses, OpenTelemetry parts, Anthropic
blocks, Gemini parts, LangChain constructors, Vercel AI SDK, pydantic-ai, TensorZero blocks, ShareGPT rows, plain text.
"""

from __future__ import annotations

from typing import Any

import orjson

from tasks.errors import BadRecord
from tasks.formats.fields import first, opened

ROLES = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "assistant": "assistant", "ai": "assistant",
    "model": "assistant", "gpt": "assistant", "bot": "assistant", "tool": "tool", "function": "tool",
    "observation": "tool", "function_call_output": "tool",
}  # fmt: skip
# LangChain and others name a message's role by its class.
CLASSES = {
    "HumanMessage": "user", "AIMessage": "assistant", "SystemMessage": "system", "ToolMessage": "tool",
    "FunctionMessage": "tool", "HumanMessageChunk": "user", "AIMessageChunk": "assistant",
}  # fmt: skip
MAX_DEPTH = 8  # of containers around messages, and of blocks inside blocks
MEDIA = {
    "image", "image_url", "input_image", "input_audio", "audio", "file", "input_file", "blob", "uri", "document", "video",
    "binary", "image-url", "media",
}  # fmt: skip

# Gemini's parts and the AI SDK's calls say what they are by a key instead of a type.
CALL_KEYS = (
    "functionCall",
    "functionResponse",
    "function_call",
    "function_response",
    "toolName",
    "inlineData",
    "inline_data",
)

ITEMS = (
    "function_call",
    "function_call_output",
    "reasoning",
    "custom_tool_call",
    "web_search_call",
    "file_search_call",
)

Message = dict[str, Any]


def conversation(value: Any, system: Any = None) -> list[Message]:
    """Any framework's input -> canonical messages, a system prompt given apart first. [] where there is nothing."""
    found = _messages(value, "user", 0)
    if system not in (None, "", [], {}):
        found = _messages(system, "system", 0) + found
    return found


def answers(value: Any) -> list[Message]:
    """Any framework's output -> candidate answers, all of role 'assistant'; [0] is the one that was served."""
    value = opened(value)
    choices = first(value, "choices", "generations", "candidates") if isinstance(value, dict) else None
    if isinstance(choices, list):
        while choices and isinstance(choices[0], list):  # LangChain: one list a prompt
            choices = choices[0]
        found = [joined(_messages(c, "assistant", 0)) for c in choices]
    elif isinstance(value, list) and value and all(isinstance(v, dict) and _names_role(v) for v in value):
        # A list of whole messages: candidates where all are the assistant's own, a transcript otherwise.
        flat = _messages(value, "assistant", 0)
        own = [m for m in flat if m["role"] == "assistant"]
        found = own if len(own) == len(flat) else own[-1:]
    else:
        found = [joined(_messages(value, "assistant", 0))]
    return [m | {"role": "assistant"} for m in found if m]


def spoken(messages: list[Message]) -> bool:
    """Whether anything was said at all: a list of roles without a word is no conversation."""
    return any(m["content"] or len(m) > 2 for m in messages)


def joined(messages: list[Message]) -> Message:
    """The messages of one answer as one: texts in order, all tool calls. {} for none; tools' results are left out."""
    own = [m for m in messages if m["role"] == "assistant"] or [m for m in messages if m["role"] != "tool"]
    if len(own) < 2:
        return own[0] if own else {}
    whole: Message = {"role": "assistant", "content": "\n".join(m["content"] for m in own if m["content"])}
    for key in ("tool_calls", "media"):
        if together := [x for m in own for x in m.get(key, [])]:
            whole[key] = together
    for key in ("reasoning", "refusal"):
        if said := "\n".join(m[key] for m in own if m.get(key)):
            whole[key] = said
    return whole


def question(messages: list[Message]) -> str:
    """The last thing that the user said; '' where no user spoke (an agent's own step)."""
    return next((m["content"] for m in reversed(messages) if m["role"] == "user" and m["content"]), "")


def tool_call(id: Any, name: Any, arguments: Any) -> dict[str, Any]:
    """Arguments stay text: objects of different tools do not fit one column, and text keeps what the model wrote."""
    if not isinstance(arguments, str):
        arguments = "{}" if arguments is None else _dumped(arguments)
    return {"id": as_text(id), "type": "function", "function": {"name": as_text(name), "arguments": arguments}}


def as_text(value: Any) -> str:
    """Text as it is, None as '', anything else as JSON."""
    return value if isinstance(value, str) else "" if value is None else _dumped(value)


def _messages(value: Any, role: str, depth: int) -> list[Message]:
    """Messages, messages in a container, blocks of one message, or plain text of `role`."""
    value = opened(value)
    if value in (None, "", [], {}):
        return []
    if depth > MAX_DEPTH:
        raise BadRecord("too_deep", "messages are nested too deeply")
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    if isinstance(value, list):
        blocks = [isinstance(v, dict) and not _is_message(v) and _is_block(v) for v in value]
        if all(blocks) and not any(_is_item(v) for v in value):
            return _of_blocks(value, role, {}, depth + 1)
        # The Responses API lists messages, calls and results as items of one kind: calls and thoughts are the assistant's.
        found: list[Message] = []
        for v, block in zip(value, blocks, strict=True):
            if _is_pair(v):
                found.append({"role": ROLES[v[0].lower()], "content": v[1]})
                continue
            of = "assistant" if block and _is_item(v) else role
            found += _of_blocks([v], of, {}, depth + 1) if block else _messages(v, role, depth + 1)
        return found
    if not isinstance(value, dict):
        return [{"role": role, "content": as_text(value)}]
    if _is_message(value):
        return _message(value, role, depth)
    if _is_block(value):
        return _of_blocks([value], role, {}, depth + 1)
    if role == "assistant" and first(value, "tool_calls", "toolCalls", "function_call") is not None:
        return _message(value, role, depth)
    if value.keys() <= {"args", "kwargs"} and "kwargs" in value:
        return _of_a_call(value, role, depth)
    inner = first(
        value, "messages", "input_messages", "output_messages", "contents", "content", "message", "prompt", "prompts", "input",
        "question", "query", "output", "answer", "response", "completion", "result", "text", "generations", "choices",
    )  # fmt: skip
    if inner is None:
        return [{"role": role, "content": _dumped(value)}]
    instructions = first(value, "system", "system_instruction", "systemInstruction", "instructions") or first(
        value.get("config"), "system_instruction", "systemInstruction"
    )
    before = _messages(instructions, "system", depth + 1) if instructions and role == "user" else []
    history = first(value, "chat_history", "history", "conversation_history") if role == "user" else None
    if isinstance(opened(history), list):
        before += _messages(history, role, depth + 1)
    return before + _messages(inner, role, depth + 1)


def _is_pair(value: Any) -> bool:
    """LangChain's shorthand in a list of messages: ["human", "when?"]."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(v, str) for v in value)
        and value[0].lower() in ROLES
    )


def _of_a_call(value: dict[str, Any], role: str, depth: int) -> list[Message]:
    """The arguments of a traced function: what its keywords say, or the only argument that it was given."""
    args, kwargs = value.get("args"), opened(value["kwargs"])
    if isinstance(kwargs, dict) and first(
        kwargs, "messages", "input", "prompt", "question", "query", "contents", "message"
    ):
        return _messages(kwargs, role, depth + 1)
    given = [*(args if isinstance(args, list) else []), *(kwargs.values() if isinstance(kwargs, dict) else [])]
    if len(given) == 1:
        return _messages(given[0], role, depth + 1)
    return [{"role": role, "content": _dumped(value)}]


def _names_role(value: dict[str, Any]) -> bool:
    return _role(value, "") != ""


def _is_message(value: dict[str, Any]) -> bool:
    role = value.get("role")
    # {"role": "billing assistant"} alone is the variable of somebody's prompt template, not a message.
    return (isinstance(role, str) and (role.lower() in ROLES or "content" in value or "parts" in value)) or (
        _names_role(value)
        and any(
            k in value
            for k in ("content", "parts", "kwargs", "value", "tool_calls", "text", "refusal", "function_call", "data")
        )
    )


def _is_block(value: dict[str, Any]) -> bool:
    kind = value.get("type") or value.get("part_kind")
    return isinstance(kind, str) or any(k in value for k in CALL_KEYS)


def _is_item(value: dict[str, Any]) -> bool:
    return value.get("type") in ITEMS


def _role(value: dict[str, Any], otherwise: str) -> str:
    kwargs = value.get("kwargs")
    if value.get("type") == "constructor" and isinstance(kwargs, dict):
        path = value.get("id")
        named = CLASSES.get(path[-1]) if isinstance(path, list) and path and isinstance(path[-1], str) else None
        return named or ROLES.get(str(kwargs.get("type")), otherwise)
    for key in ("role", "from", "speaker", "author"):
        if isinstance(value.get(key), str):
            return ROLES.get(value[key].lower(), otherwise)
    kind = value.get("kind")  # pydantic-ai
    if kind in ("request", "response") and isinstance(value.get("parts"), list):
        return "user" if kind == "request" else "assistant"
    if value.get("type") in ("human", "ai", "system", "tool") and ("content" in value or "data" in value):
        return ROLES[value["type"]]
    return CLASSES.get(str(value.get("type")), otherwise)


def _message(value: dict[str, Any], role: str, depth: int) -> list[Message]:
    role = _role(value, role)
    if value.get("type") == "constructor":
        value = value["kwargs"]
    elif isinstance(value.get("data"), dict) and "content" in value["data"]:
        value = value["data"]
    extra: Message = {}
    name = value.get("name")
    if isinstance(name, str) and name and role in ("tool", "user"):
        extra["name"] = name
    id = first(value, "tool_call_id", "toolCallId", "call_id")
    if id is not None and role == "tool":
        extra["tool_call_id"] = as_text(id)
    for ours, theirs in (("reasoning", ("reasoning", "reasoning_content", "thinking")), ("refusal", ("refusal",))):
        if isinstance(said := first(value, *theirs), str):
            extra[ours] = said
    calls = [_openai_call(c) for c in _list(first(value, "tool_calls", "toolCalls")) if isinstance(c, dict)]
    legacy = value.get("function_call")
    if isinstance(legacy, dict) and not calls:
        calls = [tool_call("", legacy.get("name"), legacy.get("arguments"))]
    kwargs = value.get("additional_kwargs")
    if not calls and isinstance(kwargs, dict):
        calls = [_openai_call(c) for c in _list(kwargs.get("tool_calls")) if isinstance(c, dict)]
    if calls:
        extra["tool_calls"] = calls
    content = next((value[k] for k in ("content", "parts", "value", "text") if value.get(k) not in (None, [])), "")
    if isinstance(content, list):
        return _of_blocks(content, role, extra, depth + 1)
    if isinstance(content, dict) and _is_block(content):
        return _of_blocks([content], role, extra, depth + 1)
    if isinstance(content, dict) and isinstance(said := first(content, "text", "content"), str):
        content = said
    audio = value.get("audio")
    if content == "" and isinstance(audio, dict) and isinstance(audio.get("transcript"), str):
        content = audio["transcript"]
    return [{"role": role, "content": as_text(content), **extra}]


def _openai_call(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function") if isinstance(call.get("function"), dict) else call
    arguments = first(function, "arguments", "args", "input", "raw_arguments")
    return tool_call(first(call, "id", "toolCallId", "tool_call_id"), first(function, "name", "toolName"), arguments)


def _of_blocks(blocks: list[Any], role: str, extra: Message, depth: int) -> list[Message]:
    """The blocks of one message -> one canonical message, and one more for each tool result or change of role in it."""
    if depth > MAX_DEPTH:
        raise BadRecord("too_deep", "content blocks are nested too deeply")
    before: list[Message] = []
    texts: list[str] = []
    calls = list(extra.get("tool_calls", []))
    reasoning = [extra["reasoning"]] if "reasoning" in extra else []
    refusals = [extra["refusal"]] if "refusal" in extra else []
    media: list[dict[str, str]] = []
    for block in blocks:
        if isinstance(block, str):
            texts.append(block)
            continue
        if not isinstance(block, dict):
            texts.append(as_text(block))
            continue
        kind = str(block.get("type") or block.get("part_kind") or "").replace("-", "_")
        if _is_message(block) and kind in ("", "message", "constructor", "human", "ai", "system", "tool"):
            before += _message(block, role, depth)
        elif (
            kind in ("tool_call", "tool_use", "function_call", "builtin_tool_call")
            or isinstance(first(block, "functionCall", "function_call"), dict)
            or ("toolName" in block and not kind and "result" not in block and "output" not in block)
        ):
            inner = first(block, "functionCall", "function_call")
            inner = inner if isinstance(inner, dict) else block
            arguments = first(inner, "arguments", "args", "input", "raw_arguments", "parsed_arguments")
            id = first(inner, "call_id", "toolCallId", "tool_call_id", "id")
            calls.append(tool_call(id, first(inner, "name", "toolName", "tool_name", "raw_name"), arguments))
        elif kind in (
            "tool_result", "tool_call_response", "tool_return", "function_call_output", "tool_response", "retry_prompt",
        ) or isinstance(first(block, "functionResponse", "function_response"), dict) or "toolName" in block:  # fmt: skip
            inner = first(block, "functionResponse", "function_response")
            inner = inner if isinstance(inner, dict) else block
            given = first(inner, "response", "result", "output", "content", "value")
            id = first(inner, "tool_use_id", "tool_call_id", "toolCallId", "call_id", "id")
            result: Message = {"role": "tool", "content": _plain(given, depth)}
            if id is not None:
                result["tool_call_id"] = as_text(id)
            if isinstance(name := first(inner, "name", "toolName", "tool_name"), str):
                result["name"] = name
            before.append(result)
        elif kind in ("reasoning", "thinking", "thought", "redacted_thinking"):
            said = _plain(first(block, "content", "text", "thinking", "reasoning", "summary"), depth)
            reasoning += [said] if said else []
        elif kind == "refusal":
            refusals.append(as_text(block.get("refusal")))
        elif kind == "system_prompt":
            before.append({"role": "system", "content": as_text(block.get("content"))})
        elif kind in MEDIA or "inlineData" in block or "inline_data" in block or "fileData" in block:
            media.append(_media(kind, block))
        else:
            inner = first(block, "text", "content", "value", "data", "output")
            texts.append(
                _plain(inner, depth) if inner is not None or "text" in block or "content" in block else _dumped(block)
            )
    message: Message = {k: v for k, v in extra.items() if k not in ("tool_calls", "reasoning", "refusal")}
    message = {"role": role, "content": "\n".join(t for t in texts if t), **message}
    for key, found in (("tool_calls", calls), ("media", media)):
        if found:
            message[key] = found
    for key, said in (("reasoning", reasoning), ("refusal", refusals)):
        if said:
            message[key] = "\n".join(said)
    own = bool(texts or calls or media or reasoning or refusals)
    if role == "tool" and before and not own:
        return [
            {**b, **{k: v for k, v in message.items() if k in ("tool_call_id", "name") and k not in b}} for b in before
        ]
    return [*before, message] if own or not before else before


def _plain(value: Any, depth: int) -> str:
    """The text of a block's content, which may be text, blocks of text, or any JSON."""
    if (
        isinstance(value, list)
        and value
        and all(isinstance(v, dict) and ("text" in v or "content" in v) for v in value)
    ):
        if depth > MAX_DEPTH:
            raise BadRecord("too_deep", "content blocks are nested too deeply")
        return "\n".join(_plain(first(v, "text", "content"), depth + 1) for v in value)
    return as_text(value)


def _media(kind: str, block: dict[str, Any]) -> dict[str, str]:
    """What a picture or a file was. Bytes and data: URLs are left out; a link stays a text and is never followed."""
    inner = first(block, "image_url", "source", "inlineData", "inline_data", "fileData", "input_audio", "file")
    inner = inner if isinstance(inner, dict) else {"url": inner}
    uri = first(inner, "url", "uri", "fileUri", "file_id") or first(block, "url", "uri", "file_id")
    mime = first(inner, "media_type", "mimeType", "mime_type", "format") or first(
        block, "mime_type", "mimeType", "mediaType"
    )
    shown = {"type": kind or "media"}
    if isinstance(mime, str):
        shown["mime"] = mime
    if isinstance(uri, str) and not uri.startswith("data:"):
        shown["uri"] = uri
    return shown


def _list(value: Any) -> list[Any]:
    value = opened(value)
    return value if isinstance(value, list) else []


def _dumped(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError as e:
        raise BadRecord("bad_message", f"a message cannot be written as JSON: {e}") from None
