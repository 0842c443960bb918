"""What a dialect makes of one row: a line of a file, or the reason why it can't say the row.

    Said("sft.jsonl", {"messages": […]}, ("reasoning",))        CannotSay("several_tool_results")
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Said:
    """`without`: what the row held and the line does not, as codes."""

    file: str
    document: dict[str, Any]
    without: tuple[str, ...] = ()


class CannotSay(Exception):
    """The target has no way to say this row. `reason` is a lower_snake_case code (docs/exports.md lists them)."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason
