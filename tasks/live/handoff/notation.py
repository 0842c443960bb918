"""How an answer is written in the cells of a spreadsheet, one cell a field, and read back without loss.

    choice     wrong                         choices   billing; delivery            none
    rating     4                             grades    3; 0; 1                      one a document, in their order
    spans      contradicted: 30 days <- [1] possible for 14 days                    one a line; none
    ranking    b > a = c ! c                 by the letters shown; what stands after the ! is unacceptable

A passage is found in the text, so that nobody counts characters; where it occurs more than once, the place of its first
character says which: `contradicted@28: 30 days`. What would be misread (a passage over two lines, an option with a ;) is
written as a JSON string. An empty cell is no answer, and `none` an empty list.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.errors import BadRecord
from tasks.kinds import APPROVED, CHOICE, CHOICES, RANKING, RATING, SPANS, TEXT, Ask, Field, Kind

NONE = "none"
NUMBER = re.compile(r"([+-]?\d{1,9})(?:[.,]0+)?")  # 4, and 4.0 or 4,0 as a spreadsheet may show it
PLACE = re.compile(r"@(\d{1,9})")
SOURCE = re.compile(r"<-\s*\[(\d{1,9})\]")
CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")


def written(kind: Kind, value: Mapping[str, Any], ask: Ask) -> dict[str, str]:
    """A checked value -> field -> cell. Answers have letters in the order of `ask.answers`, which is the order shown."""
    cells = {f.name: _WRITTEN[f.type](f, value[f.name], ask) for f in kind.fields if f.name in value}
    if value.get("unacceptable"):
        cells[kind.main.name] += " ! " + " ".join(_letters(ask)[a] for a in value["unacceptable"])
    return cells


def read(kind: Kind, cells: Mapping[str, str], ask: Ask) -> dict[str, Any]:
    """Field -> cell, as people filled them in -> the value, to be checked like any other.

    Raises BadRecord: bad_value (no number, a passage that occurs twice), changed_text (a passage that is not in the text),
    unknown_answer (a letter that no answer has).
    """
    value: dict[str, Any] = {}
    for field in kind.fields:
        cell = cells.get(field.name, "")
        if cell.strip():
            value[field.name] = _READ[field.type](field, cell, ask)
    if kind.main.type == RANKING and kind.main.name in value:
        value[kind.main.name], value["unacceptable"] = value[kind.main.name]
    return value


def allowed(kind: Kind, ask: Ask) -> str:
    """What may be written in which column, in one line for people."""
    return " · ".join(f"{f.name}{_asked_when(f)}: {_allowed(f, ask)}" for f in kind.fields)


def _asked_when(field: Field) -> str:
    if field.when is not None:
        return f" (if {field.when[0]} is {field.when[1]})"
    return "" if field.required else " (may stay empty)"


def _allowed(field: Field, ask: Ask) -> str:
    if field.source == APPROVED:
        return "the id of an approved answer"
    options = "; ".join(_quoted(o, ";") for o in field.options)
    if field.type == CHOICE:
        return f"one of {options}"
    if field.type == CHOICES:
        return f"any of {options}, with ; between; or {_nothing(field)}"
    if field.type == RATING and field.each:
        return f"{len(ask.contexts)} numbers from {field.low} to {field.high}, one a document, with ; between"
    if field.type == RATING:
        return f"a number from {field.low} to {field.high}"
    if field.type == SPANS:
        source = " <- [1] passage of source 1" if field.evidence else ""
        return f"one a line, label: passage{source}; labels: {options}; or {NONE}"
    if field.type == RANKING:
        return "best first, as in b > a = c; then ! and the letters of those that are unacceptable, if any"
    return "your text"


def _nothing(field: Field) -> str:
    return "[]" if NONE in field.options else NONE


def _quoted(text: str, *separators: str) -> str:
    """The text as it is, or as a JSON string where it would be read as something else."""
    plain = text == text.strip() and text and text[0] not in '"[' and not CONTROL.search(text)
    return text if plain and not any(s in text for s in separators) else json.dumps(text, ensure_ascii=False)


def _choice(field: Field, cell: str, ask: Ask) -> str:
    return _unquoted(field, cell.strip())


def _choices(field: Field, cell: str, ask: Ask) -> list[str]:
    cell = cell.strip()
    if cell in ("[]", _nothing(field)):
        return []
    chosen, at = [], 0
    while at < len(cell):
        if cell[at] == '"':
            option, at = _string(field, cell, at)
            end = at
        else:
            end = cell.find(";", at)
            end = len(cell) if end < 0 else end
            option = cell[at:end].strip()
        if option:
            chosen.append(option)
        at = end
        while at < len(cell) and cell[at] in "; \t\r\n":
            at += 1
    return chosen


def _rating(field: Field, cell: str, ask: Ask) -> Any:
    if not field.each:
        return _number(field, cell)
    given = [_number(field, c) for c in re.split(r"[;\s]+", cell.strip()) if c]
    if len(given) != len(ask.contexts):
        raise BadRecord("bad_value", f"{field.name} has {len(given)} numbers for {len(ask.contexts)} documents")
    return {str(place): grade for place, grade in enumerate(given)}


def _number(field: Field, cell: str) -> int:
    found = NUMBER.fullmatch(cell.strip())
    if found is None:
        raise BadRecord("bad_value", f"{field.name} is {cell.strip()[:40]!r}, not a whole number")
    return int(found[1])


def _spans(field: Field, cell: str, ask: Ask) -> list[dict[str, Any]]:
    if cell.strip() in (NONE, "[]"):
        return []
    over = ask.response if field.over == "response" else ask.question
    return [_span(field, line.strip(), over, ask) for line in cell.split("\n") if line.strip()]


def _span(field: Field, line: str, over: str, ask: Ask) -> dict[str, Any]:
    label, at = _label(field, line)
    place, at = _place(line, at)
    if not line.startswith(":", at):
        raise BadRecord("bad_value", f"{field.name}: {line[:60]!r} is not label: passage")
    passage, at = _passage(field, line, at + 1)
    span: dict[str, Any] = {**_found(field, passage, place, over, label), "label": label}
    source = SOURCE.match(line, _after_spaces(line, at))
    if source is not None and field.evidence:
        number = int(source[1])
        if not 1 <= number <= len(ask.contexts):
            raise BadRecord("bad_value", f"{field.name}: there is no source [{number}]")
        place, at = _place(line, source.end())
        passage, at = _passage(field, line, at)
        text = str(ask.contexts[number - 1].get("text", ""))
        span["evidence"] = {"context": number - 1, **_found(field, passage, place, text, f"<- [{number}]")}
    if line[at:].strip():
        raise BadRecord("bad_value", f"{field.name}: {line[at:][:60]!r} after the passage is not understood")
    return span


def _label(field: Field, line: str) -> tuple[str, int]:
    if line.startswith('"'):
        return _string(field, line, 0)
    end = re.search(r"[:@]|$", line).start()  # type: ignore[union-attr]
    return line[:end].strip(), end


def _place(line: str, at: int) -> tuple[int | None, int]:
    found = PLACE.match(line, at)
    return (int(found[1]), found.end()) if found else (None, at)


def _passage(field: Field, line: str, at: int) -> tuple[str, int]:
    """A passage from here on: a JSON string, or all that stands before the arrow to a source."""
    at = _after_spaces(line, at)
    if line.startswith('"', at):
        return _string(field, line, at)
    arrow = SOURCE.search(line, at) if field.evidence else None
    end = arrow.start() if arrow else len(line)
    return line[at:end].strip(), end


def _after_spaces(line: str, at: int) -> int:
    while at < len(line) and line[at].isspace():
        at += 1
    return at


def _string(field: Field, line: str, at: int) -> tuple[str, int]:
    try:
        text, end = json.JSONDecoder().raw_decode(line, at)
        text.encode()  # half a surrogate pair is no text
        return text, end
    except (json.JSONDecodeError, UnicodeEncodeError):
        raise BadRecord("bad_value", f"{field.name}: {line[at : at + 60]!r} is no JSON string") from None


def _unquoted(field: Field, cell: str) -> str:
    return _string(field, cell, 0)[0] if cell.startswith('"') else cell


def _found(field: Field, passage: str, place: int | None, text: str, mark: str) -> dict[str, Any]:
    """The passage's place in the text, as characters."""
    first = text.find(passage) if passage else -1
    if first < 0:
        raise BadRecord("changed_text", f"{field.name}: {passage[:60]!r} is not in the text")
    if place is None:
        second = text.find(passage, first + 1)
        if second >= 0:
            raise BadRecord(
                "bad_value", f"{field.name}: {passage[:60]!r} occurs more than once; write {mark}@{first} or {mark}@{second}"
            )
        place = first
    if not text.startswith(passage, place):
        raise BadRecord("changed_text", f"{field.name}: {passage[:60]!r} does not stand at character {place}")
    return {"start": place, "end": place + len(passage), "text": passage}


def _ranking(field: Field, cell: str, ask: Ask) -> tuple[list[list[str]], list[str]]:
    ids = {letter: answer for answer, letter in _letters(ask).items()}

    def named(letters: Sequence[str]) -> list[str]:
        for letter in letters:
            if letter not in ids:
                raise BadRecord("unknown_answer", f"{field.name}: no answer is called {letter[:20]!r}")
        return [ids[letter] for letter in letters]

    ranks, _, unacceptable = cell.lower().partition("!")
    groups = [named([x.strip() for x in group.split("=")]) for group in ranks.split(">")]
    return groups, named(re.findall(r"[^\s,;=]+", unacceptable))


def _letters(ask: Ask) -> dict[str, str]:
    """The answers' letters in the order shown: a to z, then aa, ab and so on."""
    return {answer["id"]: letter(place) for place, answer in enumerate(ask.answers)}


def letter(place: int) -> str:
    return (letter(place // 26 - 1) if place >= 26 else "") + chr(ord("a") + place % 26)


def _written_spans(field: Field, given: list[dict[str, Any]], ask: Ask) -> str:
    over = ask.response if field.over == "response" else ask.question
    lines = []
    for span in given:
        line = f"{_quoted(span['label'], ':', '@')}{_at(span, over)}: {_quoted(span['text'], '<-')}"
        if "evidence" in span:
            source = span["evidence"]
            text = str(ask.contexts[source["context"]].get("text", ""))
            line += f" <- [{source['context'] + 1}]{_at(source, text)} {_quoted(source['text'], '<-')}"
        lines.append(line)
    return "\n".join(lines) or NONE


def _at(span: Mapping[str, Any], text: str) -> str:
    first = text.find(span["text"])
    return "" if text.find(span["text"], first + 1) < 0 else f"@{span['start']}"


def _written_ranking(field: Field, given: list[list[str]], ask: Ask) -> str:
    return " > ".join(" = ".join(_letters(ask)[a] for a in group) for group in given)


_WRITTEN = {
    CHOICE: lambda field, given, ask: _quoted(given),
    CHOICES: lambda field, given, ask: "; ".join(_quoted(g, ";") for g in given) or _nothing(field),
    RATING: lambda field, given, ask: "; ".join(str(g) for g in given.values()) if field.each else str(given),
    TEXT: lambda field, given, ask: given,
    SPANS: _written_spans,
    RANKING: _written_ranking,
}
_READ = {
    CHOICE: _choice,
    CHOICES: _choices,
    RATING: _rating,
    TEXT: lambda field, cell, ask: cell,
    SPANS: _spans,
    RANKING: _ranking,
}
