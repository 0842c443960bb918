"""How a person types a question: one wording out of many, a greeting, a slip of the finger, odd capitals.

in    "[how|when] do I get [my money|a refund] back?"
out   "hi, when do i get my mnoey back"
"""

from __future__ import annotations

import re

from numpy.random import Generator

ALTERNATION = re.compile(r"\[([^\[\]]*)\]")
BEFORE = (
    "hi,",
    "hello,",
    "hey,",
    "hi there!",
    "good morning,",
    "quick question:",
    "sorry to bother you,",
    "one thing:",
)
AFTER = ("thanks", "thank you!", "thanks in advance", "thx", "please help", "cheers", "kind regards")
BEFORE_SHARE = 0.25
AFTER_SHARE = 0.18
TYPO_SHARE = 0.18
SECOND_TYPO_SHARE = 0.25
LOWER_SHARE = 0.35
UPPER_SHARE = 0.02
NO_MARK_SHARE = 0.30
LOUD_MARK_SHARE = 0.04
NEIGHBOURS = {
    "a": "sq", "b": "vn", "c": "xv", "d": "sf", "e": "wr", "f": "dg", "g": "fh", "h": "gj", "i": "uo", "j": "hk",
    "k": "jl", "l": "k", "m": "n", "n": "bm", "o": "ip", "p": "o", "q": "wa", "r": "et", "s": "ad", "t": "ry",
    "u": "yi", "v": "cb", "w": "qe", "x": "zc", "y": "tu", "z": "x",
}  # fmt: skip
SHORTEST_MISTYPED_WORD = 4


def wording(question: str, rng: Generator) -> str:
    """One message that asks `question`, as somebody would type it."""
    text = _expand(question, rng)
    if rng.random() < BEFORE_SHARE:
        text = f"{_one_of(BEFORE, rng)} {text}"
    if rng.random() < AFTER_SHARE:
        text = f"{text} {_one_of(AFTER, rng)}"
    if rng.random() < TYPO_SHARE:
        text = _mistype(text, rng)
        if rng.random() < SECOND_TYPO_SHARE:
            text = _mistype(text, rng)
    return _punctuate(_recase(text, rng), rng)


def _expand(question: str, rng: Generator) -> str:
    text = ALTERNATION.sub(lambda match: _one_of(tuple(match.group(1).split("|")), rng), question)
    # An empty option leaves its spaces behind.
    return re.sub(r"\s+([?.,!])", r"\1", " ".join(text.split()))


def _mistype(text: str, rng: Generator) -> str:
    words = [match.span() for match in re.finditer(rf"[A-Za-z]{{{SHORTEST_MISTYPED_WORD},}}", text)]
    if not words:
        return text
    start, end = words[rng.integers(len(words))]
    # Not the first letter: people rarely miss it.
    at = int(rng.integers(start + 1, end - 1))
    letter, following = text[at], text[at + 1]
    slip = _one_of(
        (following + letter, following, letter + letter + following, _neighbour(letter, rng) + following), rng
    )
    return text[:at] + slip + text[at + 2 :]


def _neighbour(letter: str, rng: Generator) -> str:
    near = _one_of(tuple(NEIGHBOURS.get(letter.lower(), letter)), rng)
    return near.upper() if letter.isupper() else near


def _recase(text: str, rng: Generator) -> str:
    draw = rng.random()
    if draw < LOWER_SHARE:
        return text.lower()
    if draw < LOWER_SHARE + UPPER_SHARE:
        return text.upper()
    return text[:1].upper() + text[1:]


def _punctuate(text: str, rng: Generator) -> str:
    draw = rng.random()
    if draw < NO_MARK_SHARE:
        return text.rstrip("?.!")
    if draw < NO_MARK_SHARE + LOUD_MARK_SHARE:
        return text.rstrip("?.!") + _one_of(("??", "?!", "..."), rng)
    return text


def _one_of(options: tuple[str, ...], rng: Generator) -> str:
    return options[rng.integers(len(options))]
