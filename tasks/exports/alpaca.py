"""Alpaca's lines: a question, its answer, and what was said before as pairs.

    {"instruction": "Which line?", "input": "", "output": "The second.", "system": "", "history": [["Why?", "One is a hold."]]}

It can't say which answer of the history must not be learned (its readers differ in what they learn of it), nor tools.
"""

from __future__ import annotations

from tasks.examples import TRAIN, Supervised
from tasks.exports import chat
from tasks.exports.said import CannotSay, Said
from tasks.exports.turns import only_the_last_is_learned, opening, turns

NAME = "alpaca"
WHAT = "Alpaca instructions, for conversations without tools"
READS = {TRAIN: ("sft",)}
FILE = "alpaca.jsonl"


def line(table: str, row: Supervised) -> Said:
    found = chat.call_free(chat.messages(row.messages))
    chat.speaking(found[-1])
    system, rest = opening(found)
    if only_the_last_is_learned(rest):
        raise CannotSay("turn_not_to_be_learned")
    said = [t["value"] for t in turns(rest)]
    if len(said) < 2:
        raise CannotSay("speakers_not_in_turn")
    history = [list(pair) for pair in zip(said[:-2:2], said[1:-2:2], strict=True)]
    document = {"instruction": said[-2], "input": "", "output": said[-1], "system": system, "history": history}
    return Said(FILE, document, (*chat.without(found), *(["tools"] if chat.tools(row.tools) else [])))
