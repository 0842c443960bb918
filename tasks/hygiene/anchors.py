"""Anchors: vetted rows, the same in every dataset, that keep a model from forgetting what production never asks.

    {"id": "a-1", "messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}], "source": "math/1"}
      ->  Supervised(origin="anchor", author="person", weight=1.0, messages=…)

They stand in data/anchors.jsonl of the workspace. Which of them are taken is a prefix of one order for ever, so that a larger
dataset takes more of them and never others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import orjson

from tasks.errors import Refused
from tasks.examples import PERSON, Supervised, example_id
from tasks.hygiene.lots import lot
from tasks.records import canonical

ORIGIN = "anchor"
ROLES = ("system", "user", "assistant", "tool")
FIX = 'a line is {"id": "a-1", "messages": [{"role": "user", …}, {"role": "assistant", …}], "source": "where it is from"}'


@dataclass(frozen=True, slots=True)
class Anchor:
    """A vetted chat that ends with the assistant's answer (`messages` as canonical JSON), and where it is from."""

    id: str
    messages: str
    source: str


def read(path: Path) -> list[Anchor]:
    """The anchors of a file, by id; none where there is no file. Raises Refused, with file and line, for one that is malformed."""
    if not path.exists():
        return []
    found: dict[str, Anchor] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        wrong, anchor = _parsed(line)
        if anchor and anchor.id in found:
            wrong = f"id {anchor.id!r} is there already"
        if wrong or anchor is None:
            raise Refused(f"{path}:{number}: {wrong}", FIX)
        found[anchor.id] = anchor
    return [found[k] for k in sorted(found)]


def choose(anchors: Sequence[Anchor], rows: int, share: float, key: str) -> list[Supervised]:
    """Anchors to be mixed with `rows` other rows, so that they are `share` of all, or as many as there are."""
    if not 0 <= share < 1:
        raise Refused(f"params.yaml: hygiene.anchor_share is {share}", "write a share from 0 up to, but not, 1")
    wanted = min(int(rows * share / (1 - share) + 1e-9), len(anchors))
    order = np.lexsort((np.array([a.id for a in anchors], str), lot([a.id for a in anchors], key)))
    return [_supervised(anchors[k]) for k in sorted(order[:wanted].tolist())]


def _supervised(anchor: Anchor) -> Supervised:
    """As the first rows of a table (`arrived` 0), so that new ones don't move the others; no interaction is behind them."""
    return Supervised(
        example_id=example_id("sft", ORIGIN, anchor.id),
        interaction_id="",
        beside="",
        group_id=f"{ORIGIN}_{anchor.id}",
        arrived=0,
        origin=ORIGIN,
        author=PERSON,
        weight=1.0,
        copies=1,
        topic="",
        language="",
        guideline="",
        messages=anchor.messages,
        tools="[]",
        action="",
    )


def _parsed(line: bytes) -> tuple[str, Anchor | None]:
    """(what is wrong, '' nothing; the anchor)."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as e:
        return f"not JSON ({e})", None
    if not isinstance(row, dict) or set(row) != {"id", "messages", "source"}:
        return "not an object with exactly id, messages and source", None
    if not all(isinstance(row[k], str) and row[k].strip() for k in ("id", "source")):
        return "id and source must be texts", None
    messages = row["messages"]
    if not isinstance(messages, list) or not messages or not all(map(_is_message, messages)):
        return "messages must be a list of {role, content} with a role of " + ", ".join(ROLES), None
    roles = [m["role"] for m in messages]
    turns = [r for r in roles if r not in ("system", "tool")]
    if roles[-1] != "assistant" or turns[0] != "user" or any(r == "system" for r in roles[1:]):
        return "messages must begin with the user (after a system message, if any) and end with the assistant", None
    if any(a == b == "user" for a, b in pairwise(turns)):
        return "two messages of the user follow each other", None
    return "", Anchor(row["id"], canonical(messages).decode(), row["source"])


def _is_message(message: object) -> bool:
    return (
        isinstance(message, dict)
        and set(message) == {"role", "content"}
        and message["role"] in ROLES
        and isinstance(message["content"], str)
        and bool(message["content"].strip())
    )
