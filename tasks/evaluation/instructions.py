"""What a prompt asks of an answer's form, as checks that a program can make (the verifiable kinds of IFEval).

    "List the steps in at most 30 words, in German."  ->  list, words at most 30, language de
    share(checks, "- Öffnen Sie die App …")           ->  1.0

Only what is said outright counts: a phrase that may mean something else asks nothing. Zhou et al. (2023), instruction-following
evaluation, has the kinds; what an answer is held to here comes from real prompts and not from templates.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tasks.signals.languages import FUNCTION_WORDS

NUMBERS = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "eleven": 11,
    "twelve": 12,
}  # fmt: skip
_N = rf"(\d{{1,4}}|{'|'.join(NUMBERS)}|a single)"
_UNIT = r"(words?|sentences?|paragraphs?|bullet points|bullets|lines|characters)"
LENIENT = 1.1  # "about 50 words" may be 55, and people count roughly
LANGUAGES = {
    "english": "en", "german": "de", "french": "fr", "spanish": "es", "italian": "it", "portuguese": "pt", "dutch": "nl",
    "polish": "pl", "swedish": "sv", "turkish": "tr",
}  # fmt: skip
_AT_MOST = re.compile(
    rf"\b(?:at most|no more than|not more than|under|fewer than|less than|max(?:imum)?(?: of)?|up to|within) {_N} {_UNIT}\b",
    re.I,
)
_AT_LEAST = re.compile(rf"\b(?:at least|no fewer than|no less than|a minimum of) {_N} {_UNIT}\b", re.I)
_EXACTLY = re.compile(rf"\b(?:exactly|(?:in|with|using|as)(?: only| just)?) {_N} (?:short )?{_UNIT}\b", re.I)
_LIST = re.compile(
    r"\b(?:bullet(?:ed)?[- ](?:points?|list)|numbered list|(?:as|in|make|give me|write) a (?:short |bulleted )?list\b|as bullets)",
    re.I,
)
_TABLE = re.compile(r"\b(?:as|in|into) an? (?:markdown )?table\b", re.I)
_JSON = re.compile(
    r"\b(?:return|respond|reply|output|answer|give|produce|generate|write|format)\b[^.?!\n]{0,60}\bjson\b|\bas (?:valid |a )?json\b",
    re.I,
)
_YES_NO = re.compile(
    r"\b(?:answer|reply|respond)(?: only| just| simply)?(?: with)?:? [\"'“]?yes[\"'”]? or [\"'“]?no\b|yes or no only",
    re.I,
)
_LANGUAGE = re.compile(
    rf"\b(?:answer|reply|respond|write|translate)\b[^.?!\n]{{0,60}}\b(?:in|into) ({'|'.join(LANGUAGES)})\b", re.I
)
_CASE = re.compile(r"\bin (?:all )?(lower ?case|capital letters|upper ?case|all caps|block capitals)\b", re.I)
_MENTION = re.compile(
    r"\b(?:include|mention|use) the (?:word|phrase|keyword|term) [\"'“‘]([^\"'”’\n]{1,60})[\"'”’]", re.I
)
_AVOID = re.compile(
    r"\b(?:do not|don't|never|avoid) (?:using |use |mention(?:ing)? |say(?:ing)? )?the (?:word|phrase|term) [\"'“‘]([^\"'”’\n]{1,60})[\"'”’]",
    re.I,
)
_ENDS = re.compile(
    r"\b(?:end|finish) (?:your (?:answer|reply|response) )?with (?:the (?:words?|phrase|sentence) )?[\"“]([^\"”\n]{1,80})[\"”]",
    re.I,
)
_BULLET = re.compile(r"(?m)^\s*(?:[-*•–]|\d{1,2}[.)])\s")
_WORD = re.compile(r"\w[\w'’-]*")
_SENTENCE = re.compile(r"[.!?。！？]+(?:\s|$)")
_FENCE = re.compile(r"^\s*```[A-Za-z]*\s*(.*?)\s*```\s*$", re.S)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was asked for, in words, and whether an answer has it."""

    name: str
    holds: Callable[[str], bool]


def checks(system: str, question: str) -> list[Check]:
    """What a system message and the last question ask of the form. A question has the last word on a length or language."""
    found: dict[str, Check] = {}
    for text in (system, question):
        found |= {c.name.split(":")[0]: c for c in _asked(text)}
    return list(found.values())


def share(asked: Sequence[Check], answer: str) -> float:
    """The share of checks that hold, in [0, 1]. An empty answer holds none. Raises ValueError where nothing was asked."""
    if not asked:
        raise ValueError("nothing was asked of the form")
    return sum(c.holds(answer) for c in asked) / len(asked) if answer.strip() else 0.0


def _asked(text: str) -> list[Check]:
    if not text:
        return []
    made = []
    avoided = {m[1] for m in _AVOID.finditer(text)}
    for name, pattern, holds in (
        ("at most", _AT_MOST, lambda has, n: has <= n * LENIENT),
        ("at least", _AT_LEAST, lambda has, n: has >= n / LENIENT),
        ("exactly", _EXACTLY, lambda has, n: n / LENIENT <= has <= n * LENIENT),
    ):
        for m in pattern.finditer(text):
            n, unit = _number(m[1]), m[2].lower().rstrip("s")
            made.append(Check(f"{name} {unit}: {n}", lambda a, h=holds, n=n, u=unit: h(_count(a, u), n)))
    if _JSON.search(text):
        made.append(Check("json", _is_json))
    if _LIST.search(text):
        made.append(Check("list", lambda a: len(_BULLET.findall(a)) >= 1))
    if _TABLE.search(text):
        made.append(Check("table", lambda a: a.count("|") >= 2 or "\t" in a or "<table" in a))
    if _YES_NO.search(text):
        made.append(Check("yes or no", lambda a: re.match(r"[^a-z]*(?:yes|no)\b", a, re.I) is not None))
    if m := _LANGUAGE.search(text):
        code = LANGUAGES[m[1].lower()]
        made.append(Check(f"language: {m[1].lower()}", lambda a: _spoken(a) in (code, "")))
    if m := _CASE.search(text):
        lower = m[1].lower().startswith("lower")
        made.append(Check("case", lambda a, low=lower: a == (a.lower() if low else a.upper())))
    made += [
        Check(f"mentions {w.lower()}", lambda a, w=w: w.casefold() in a.casefold())
        for w in _words(_MENTION, text)
        if w not in avoided
    ]
    made += [Check(f"avoids {w.lower()}", lambda a, w=w: w.casefold() not in a.casefold()) for w in avoided]
    if m := _ENDS.search(text):
        end = m[1].casefold().strip(" .!")
        made.append(Check("ends", lambda a: a.casefold().rstrip(" .!\n\"”'").endswith(end)))
    return made


def _words(pattern: re.Pattern[str], text: str) -> list[str]:
    return sorted({m[1] for m in pattern.finditer(text)})


def _number(said: str) -> int:
    said = said.lower()
    return int(said) if said.isdigit() else NUMBERS.get(said, 1)


def _count(answer: str, unit: str) -> int:
    if unit == "word":
        return len(_WORD.findall(answer))
    if unit == "sentence":
        return max(1, len(_SENTENCE.findall(answer)))
    if unit == "paragraph":
        return sum(1 for p in re.split(r"\n\s*\n", answer) if p.strip())
    if unit == "line":
        return sum(1 for line in answer.splitlines() if line.strip())
    return len(answer) if unit == "character" else len(_BULLET.findall(answer))


def _is_json(answer: str) -> bool:
    fenced = _FENCE.match(answer)
    try:
        json.loads(fenced[1] if fenced else answer)
    except ValueError:
        return False
    return True


def _spoken(answer: str) -> str:
    """The language whose function words the answer has most of; '' where there are too few to tell."""
    words = [w.casefold() for w in _WORD.findall(answer)]
    counts = {language: sum(w in known for w in words) for language, known in FUNCTION_WORDS.items()}
    best = max(counts, key=lambda c: counts[c])
    return best if counts[best] >= 2 else ""
