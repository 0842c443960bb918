"""What users said of answers -> unpaired rows, of those thumbs that the screen and the caps let through.

    two thumbs up, one down, by three users  ->  {"prompt": […], "completion": [the served answer], "label": true, "copies": 2}

A thumb is a hint: the row weighs little, and where people gave a verdict there is none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from tasks.examples import MODEL, Unpaired, example_id
from tasks.frozen import Exchange
from tasks.records import canonical

WEIGHT = 0.25  # of a thumb beside a verdict that several people agree on
ORIGIN = "thumbs"


def examples(votes: Iterable[Mapping[str, Any]], exchanges: Mapping[str, Exchange], judged: set[str]) -> list[Unpaired]:
    """One row an interaction whose users mostly point one way, and about which nobody else was asked (`judged`). `votes` are rows
    of the noun Vote (tasks/hygiene/votes.py)."""
    said: dict[str, Counter[int]] = {}
    for vote in votes:
        said.setdefault(vote["interaction_id"], Counter())[vote["polarity"]] += 1
    rows = []
    for interaction_id, counts in sorted(said.items()):
        e = exchanges[interaction_id]
        if interaction_id in judged or counts[1] == counts[-1] or not e.response.strip():
            continue
        good = counts[1] > counts[-1]
        rows.append(
            Unpaired(
                example_id=example_id("unpaired", ORIGIN, interaction_id), interaction_id=interaction_id, beside="",
                group_id=e.group_id, arrived=e.arrived, origin=ORIGIN, author=MODEL, weight=WEIGHT,
                copies=counts[1 if good else -1], topic="", language=e.language, guideline="", prompt=e.messages,
                completion=canonical([{"role": "assistant", "content": e.response}]).decode(), label=good,
            )
        )  # fmt: skip
    return rows
