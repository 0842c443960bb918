"""A text of somebody else's in which something of theirs stands (evidence, a log, a preview), without it.

    {"negative_feedback":[0.9,"my bike is gone"],"short":[0.1,""]}   ->  {"negative_feedback":[0.9,"[erased]"],"short":[0.1,""]}
    INFO example: my bike is gone                                    ->  [erased]

Of JSON the whole string goes, of any other text the whole line: what stands beside a piece of theirs is the rest of the same words.
"""

from __future__ import annotations

import json
from typing import Any

from tasks.live.erasure.needles import Needles

ERASED = "[erased]"


def blanked(text: str, needles: Needles) -> str:
    """The same object where nothing of theirs stands in it."""
    if not needles.any(_bytes(text)):
        return text
    if text.lstrip()[:1] in ("{", "["):
        try:
            return json.dumps(_walked(json.loads(text), needles), ensure_ascii=False, separators=(",", ":"))
        except (ValueError, RecursionError):
            pass
    for whole in needles.whole:
        text = text.replace(whole, ERASED)
    return "\n".join(ERASED if needles.any(_bytes(line)) else line for line in text.split("\n"))


def _walked(value: Any, needles: Needles) -> Any:
    if isinstance(value, str):
        inner = blanked(value, needles) if value.lstrip()[:1] in ("{", "[") else value
        return ERASED if needles.any(_bytes(inner)) else inner
    if isinstance(value, dict):
        return {_walked(k, needles): _walked(v, needles) for k, v in value.items()}
    if isinstance(value, list):
        return [_walked(v, needles) for v in value]
    return value


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
