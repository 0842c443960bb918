"""What Label Studio stored of an answer -> the values of the kinds that were asked.

    values([{"from_name": "answer__verdict__choice", "type": "choices", "value": {"choices": ["wrong"]}}, …], ["answer"], …)
    ->  {"answer": {"verdict": "wrong", "correction": "refund"}}

Label Studio takes any result from whoever posts one: unknown controls, unknown options, offsets that are not those of the text.
Nothing is judged here. What does not fit stays as near to what was stored as can be, and `tasks.kinds.checked` tells why it is
refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.kinds import CHOICE, CHOICES, RANKING, RATING, SPANS, TEXT
from tasks.live.handoff.labelstudio.config import NONE, NOTHING, UNACCEPTABLE, parts

TYPES = {CHOICE, CHOICES, RATING, TEXT, SPANS, RANKING}
BREAK = r"(?:\r\n|\r|\n)"


def values(results: Any, kinds: Sequence[str], data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The value of each kind. `data` is what the task was sent with: its texts, and the answers in the order shown.

    Raises KeyError or TypeError where it is not that.
    """
    given: dict[str, dict[str, list[tuple[list[str], dict]]]] = {kind: {} for kind in kinds}
    made: dict[str, dict[str, Any]] = {kind: {} for kind in kinds}
    for item in results if isinstance(results, list) else [results]:
        name = str(item.get("from_name")) if isinstance(item, dict) else "?"
        kind, *rest = parts(name)
        if item and isinstance(item, dict) and item.get("type") == "relation":
            continue  # an arrow between regions, which nothing asks for
        if kind in given and len(rest) >= 2 and rest[1] in TYPES:
            given[kind].setdefault(rest[0], []).append((rest[1:], item))
        else:  # of no control that was shown: no answer is taken out of such a result
            for value in made.values():
                value[name] = item
    for kind, fields in given.items():
        for field, items in fields.items():
            made[kind] |= _field(field, items, data)
    return made


def _field(field: str, items: list[tuple[list[str], dict]], data: Mapping[str, Any]) -> dict[str, Any]:
    type = items[0][0][0]
    if type == SPANS:
        return _spans(field, items, data)
    if type == RANKING:
        return _ranking(field, items, [a["id"] for a in data["answers"]])
    if type == RATING and len(items[0][0]) > 1:
        return {field: {rest[-1]: _number(_one(_chosen(item))) for rest, item in items}}
    read = [_READ[type](item) for _, item in items]
    return {field: read[0] if len(read) == 1 else read}  # answered twice: a list, which no such field is


def _chosen(item: dict) -> Any:
    value = item.get("value")
    return value.get("choices", value.get("rating", value)) if isinstance(value, dict) else value


def _one(chosen: Any) -> Any:
    return chosen[0] if isinstance(chosen, list) and len(chosen) == 1 else chosen


def _number(chosen: Any) -> Any:
    return int(chosen) if isinstance(chosen, str) and re.fullmatch(r"-?[0-9]{1,4}", chosen) else chosen


def _several(item: dict) -> Any:
    chosen = _chosen(item)
    return [] if chosen == [NONE] else chosen


def _written(item: dict) -> Any:
    value = item.get("value")
    text = value.get("text", value) if isinstance(value, dict) else value
    return "\n".join(text) if isinstance(text, list) and all(isinstance(t, str) for t in text) else text


_READ = {CHOICE: lambda item: _one(_chosen(item)), CHOICES: _several, TEXT: _written,
         RATING: lambda item: _number(_one(_chosen(item)))}  # fmt: skip


def _spans(field: str, items: list[tuple[list[str], dict]], data: Mapping[str, Any]) -> dict[str, Any]:
    regions: dict[str, dict[str, dict]] = {}
    whole = None
    for (_, *rest), item in items:
        part = rest[0] if rest else "labels"
        if part == "whole":
            whole = _one(_chosen(item))
        else:
            regions.setdefault(str(item.get("id")), {})[part] = item
    spans = [_span(region, data) for region in regions.values()]
    if whole == NOTHING and spans:
        return {field: {"whole": whole, "spans": spans}}  # a contradiction, which is no list of spans
    return {field: spans} if spans or whole == NOTHING else {}


def _span(region: dict[str, dict], data: Mapping[str, Any]) -> dict[str, Any]:
    item = region.get("labels", {})
    value = item.get("value")
    value = value if isinstance(value, dict) else {}
    span = {name: value.get(name) for name in ("start", "end", "text")} | {"label": _one(value.get("labels"))}
    over = data["question"] if item.get("to_name") == "question" else data["response"]
    if type(span["start"]) is int and type(span["end"]) is int:
        marked = over[max(0, span["start"]) : max(0, span["end"])]
        # Label Studio writes every character of a line break as a backslash and an n (seen in 1.23.2). The slice is the text
        # only where nothing else differs: offsets that were moved are still found out.
        if span["text"] == re.sub(r"[\r\n]", r"\\n", marked):
            span["text"] = marked
    said = _written(region["evidence"]) if "evidence" in region else None
    document = _number(_one(_chosen(region["document"]))) if "document" in region else None
    if said is not None or document is not None:
        span["evidence"] = _evidence(said, document, [c["text"] for c in data["contexts"]])
    return span


def _evidence(said: Any, document: Any, contexts: Sequence[str]) -> dict[str, Any]:
    """The first place where the sentence stands, in the document that was named if one was.

    A browser's text field turns every line break into one character, so line breaks are any line breaks.
    """
    places = range(len(contexts)) if type(document) is not int else [document - 1]
    sentence = said.strip() if isinstance(said, str) else ""
    pattern = re.compile(BREAK.join(map(re.escape, re.split(BREAK, sentence))))
    for place in places:
        found = pattern.search(contexts[place]) if sentence and 0 <= place < len(contexts) else None
        if found:
            return {"context": place, "start": found.start(), "end": found.end(), "text": found.group()}
    return {"context": places[0] if len(places) else 0, "start": 0, "end": max(1, len(sentence)), "text": said}


def _ranking(field: str, items: list[tuple[list[str], dict]], answers: Sequence[str]) -> dict[str, Any]:
    ranks: dict[Any, list[str]] = {}
    unacceptable: list[str] = []
    for (_, *rest), item in items:
        place = int(rest[1]) if len(rest) == 2 and rest[1].isdecimal() else -1
        answer = answers[place] if 0 <= place < len(answers) else f"answer {rest[1:]}"
        if rest[:1] == [UNACCEPTABLE]:
            unacceptable += [answer] if _chosen(item) == [UNACCEPTABLE] else [str(_chosen(item))]
        else:
            rank = _number(_one(_chosen(item)))
            ranks.setdefault(rank if type(rank) is int else str(rank), []).append(answer if type(rank) is int else str(rank))
    order = sorted(ranks, key=lambda rank: (isinstance(rank, str), rank))
    return {field: [sorted(ranks[rank]) for rank in order], UNACCEPTABLE: sorted(unacceptable)}
