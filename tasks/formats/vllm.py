"""vLLM's text log, the last resort: prompts are printed at DEBUG only, already put through the chat template.

    DEBUG 11-20 10:00:00 [logger.py:51] Request chatcmpl-9 details: prompt: '<|user|>…', prompt_token_ids: None, …
    INFO 11-20 10:00:00 [logger.py:75] Generated response chatcmpl-9: output: '…', output_token_ids: None, finish_reason: stop

Capture hands a line on as {"vllm": "<the line>"}. Its times have neither year nor zone, so they are not kept.
"""

from __future__ import annotations

import ast
import re
from typing import Any

from msgspec.structs import replace

from tasks.formats.fields import Parsed, RawInteraction, RawPart, Want

PROMPT = "vllm_prompt"
_HEAD = re.compile(rb"^(?:INFO|DEBUG|WARNING|ERROR)[: ]")
_LOGGER = re.compile(rb"logger\.py:\d+\]|\" \d{3} |HTTP/1\.\d")
_ASKED = re.compile(
    r"(?:Request|request) (?P<id>\S+?)(?: details)?: prompt: (?P<text>'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")"
)
_ANSWERED = re.compile(
    r"Generated response (?P<id>\S+?)(?: \([^)]*\))?: output: (?P<text>'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")(?:.*finish_reason: (?P<reason>\w+))?"
)


def recognises(document: dict[str, Any]) -> bool:
    return document.keys() == {"vllm"} and isinstance(document["vllm"], str)


def recognises_line(line: bytes) -> bool:
    """Whether a line that is no JSON is one of vLLM's."""
    return _HEAD.match(line) is not None and _LOGGER.search(line) is not None


def parse(document: dict[str, Any], origin: str = "") -> Parsed:
    line = document["vllm"]
    if asked := _ASKED.search(line):
        return Parsed(parts=[RawPart(PROMPT, asked["id"], _text(asked["text"]))], attached=1)
    answered = _ANSWERED.search(line)
    if not answered:
        return Parsed(attached=1)
    return Parsed(
        interactions=[
            RawInteraction(
                dialect="vllm_log",
                native_id=answered["id"],
                ts=0,
                messages=[],
                outputs=[{"role": "assistant", "content": _text(answered["text"])}],
                response_id=answered["id"],
                kind="completion",
                finish_reason=answered["reason"] or "",
                attributes={"templated_prompt": True, "no_time": True},
                wants=(Want(PROMPT, answered["id"], True),),
            )
        ]
    )


def _merge_prompt(raw: RawInteraction, found: list[Any]) -> RawInteraction:
    return replace(raw, messages=[{"role": "user", "content": found[-1]}])


MERGE = {PROMPT: _merge_prompt}


def _text(quoted: str) -> str:
    """The text of a Python string literal, which is how the log prints it."""
    try:
        return str(ast.literal_eval(quoted))
    except (SyntaxError, ValueError):
        return quoted[1:-1]
