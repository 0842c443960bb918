"""What a record says, field by field, and whether a sentence says the same.

    "attributes OutdoorSeating: False" · "There is outdoor seating."   ->  said_of_false 1
    "hours Monday: 7:0-14:0"           · "Open Mondays from 8 am."     ->  hours_off 1

A record is a document of `path: value` lines or a JSON object. Prose has no facts of this kind, and all features are zero.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

FACTS = (
    "true_said", "true_denied", "said_of_false", "false_denied", "said_of_unknown", "unknown_denied",
    "hours_right", "hours_off", "days_said", "stars_said", "stars_off", "record",
)  # fmt: skip
_LINE = re.compile(r"^([A-Za-z][\w .()'&/-]{0,80}?): (.*)$")
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_CLAUSE = re.compile(r"[,;:]|\b(?:but|while|although|however|whereas|though)\b")
_NEGATED = re.compile(r"\b(?:not?|never|without|neither|nor|none|lacks?|cannot|unavailable|absent)\b|n't\b", re.I)
_HOURS = re.compile(r"^(\d{1,2}):(\d{1,2})\s*-\s*(\d{1,2}):(\d{1,2})$")
_STARS = re.compile(r"(\d(?:\.\d+)?)(?:[ -]|\s+out of \d\s+)(?:stars?\b|/\s?5)|\brating of (\d(?:\.\d+)?)", re.I)
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_DAY_RANGE = re.compile(rf"({'|'.join(DAYS)})s?\s*(?:to|through|thru|until|till|-|–)\s*({'|'.join(DAYS)})", re.I)
_EVERY_DAY = re.compile(
    r"\bevery ?day\b|\bdaily\b|\bseven days\b|\b7 days\b|\ball week\b|\bthroughout the week\b|\bthe same\b.*\bhours\b",
    re.I,
)
# Words of field names that name no property by themselves.
_GENERAL = frozenset((
    "restaurants", "restaurant", "business", "good", "for", "by", "is", "has", "the", "attributes", "accepts",
))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fact:
    """`words` stems that name the field; `value` True, False, None (unknown) or a text."""

    words: frozenset[str]
    value: bool | str | None
    day: int = -1
    hours: tuple[str, ...] = ()
    stars: bool = False


def facts_of(texts: Sequence[str]) -> tuple[Fact, ...]:
    """The facts of all documents that are records; () where none is."""
    found = []
    for text in texts:
        fields = list(_fields(text))
        if len(fields) >= 5:
            found += [f for f in (_fact(path, value) for path, value in fields) if f]
    return tuple(found)


def _fields(text: str) -> Iterator[tuple[str, str]]:
    if text.lstrip().startswith("{"):
        try:
            yield from _flat(orjson.loads(text))
            return
        except orjson.JSONDecodeError:
            pass
    for line in text.splitlines():
        if match := _LINE.match(line):
            yield match[1], match[2]


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{path} {key}".strip())
    elif isinstance(value, list):
        for inner in value:
            yield from _flat(inner, path)
    else:
        yield path, str(value)


def _fact(path: str, value: str) -> Fact | None:
    last = path.split()[-1]
    if last.lower() in DAYS:
        hours = _HOURS.match(value.strip())
        times = (f"{int(hours[1])}:{int(hours[2])}", f"{int(hours[3])}:{int(hours[4])}") if hours else ()
        return Fact(frozenset(), value, DAYS.index(last.lower()), times)
    if last.lower() == "business_stars" or last.lower() == "rating":
        return Fact(frozenset(), value.removesuffix(".0"), stars=True)
    words = frozenset(p.lower()[:6] for p in _PARTS.findall(last) if p.lower() not in _GENERAL)
    if not words:
        return None
    lowered = value.strip().lower()
    if lowered in ("none", "null", ""):
        return Fact(words, None)
    if lowered in ("false", "no"):
        return Fact(words, False)
    if lowered in ("true", "yes", "free"):
        return Fact(words, True)
    return None


def fact_features(text: str, words: Sequence[Any], facts: Sequence[Fact]) -> list[float]:
    """The FACTS of one sentence; `words` are its tokens."""
    if not facts:
        return [0.0] * len(FACTS)
    counts = dict.fromkeys(FACTS, 0.0)
    counts["record"] = 1.0
    for clause in _CLAUSE.split(text):
        stems = {w.lower()[:6] for w in re.findall(r"[A-Za-z]+", clause)}
        joined = re.sub(r"[^a-z]", "", clause.lower())
        denied = _NEGATED.search(clause) is not None
        for fact in facts:
            if not fact.words or isinstance(fact.value, str):
                continue
            if fact.words <= stems or (len(fact.words) > 1 and all(w in joined for w in fact.words)):
                kind = {True: "true", False: "false", None: "unknown"}[fact.value]
                if kind == "true":
                    counts["true_denied" if denied else "true_said"] += 1
                elif denied:
                    counts[f"{kind}_denied"] += 1
                else:
                    counts[f"said_of_{kind}"] += 1
    days = _days(text)
    times = [w.stem for w in words if w.number and ":" in w.stem]
    if days and times:
        for fact in facts:
            if fact.day in days:
                right = bool(fact.hours) and all(t in times or t == "0:0" for t in fact.hours)
                counts["hours_right" if right else "hours_off"] += 1
        known = {f.day for f in facts if f.day >= 0}
        counts["hours_off"] += len(days - known)
    counts["days_said"] = float(len(days))
    stars = [a or b for a, b in _STARS.findall(text)]
    rated = {f.value for f in facts if f.stars}
    counts["stars_said"] = float(len(stars))
    counts["stars_off"] = float(sum(s.removesuffix(".0") not in rated for s in stars))
    return list(counts.values())


def _days(text: str) -> set[int]:
    found = {k for k, day in enumerate(DAYS) if day in text.lower()}
    for first, last in _DAY_RANGE.findall(text):
        a, b = DAYS.index(first.lower()), DAYS.index(last.lower())
        found |= set(range(a, b + 1)) if a <= b else set(range(a, 7)) | set(range(b + 1))
    if _EVERY_DAY.search(text):
        found |= set(range(7))
    if re.search(r"\bweekends?\b", text, re.I):
        found |= {5, 6}
    if re.search(r"\bweekdays?\b", text, re.I):
        found |= {0, 1, 2, 3, 4}
    return found
