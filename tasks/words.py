"""The words of one text that carry meaning, and those that no document holds. For tables of texts: tasks/signals/bags.py."""

from __future__ import annotations

import re
from functools import lru_cache

import orjson
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

_WORD = re.compile(r"\w[\w'.-]*\w|\w")


def unsupported_words(response: str, contexts: object) -> tuple[frozenset[str], frozenset[str]]:
    """(content words of the response that its best document lacks, all its content words); both empty without documents."""
    documents = [content_words(d["text"]) for d in orjson.loads(contexts)] if isinstance(contexts, str) else []
    words = content_words(response)
    documents = [d for d in documents if d]
    if not words or not documents:
        return frozenset(), frozenset()
    return min((words - d for d in documents), key=len), words


@lru_cache(maxsize=20_000)
def content_words(text: str) -> frozenset[str]:
    """The words of a text that carry meaning, lower-cased. Remembered: the same documents come back all day."""
    return frozenset(w for w in _WORD.findall(text.casefold()) if w not in ENGLISH_STOP_WORDS)
