"""Is what the answer says in the text that was retrieved for it?

response "Refunds take 5 days"  contexts [{"text": "Refunds take 5 days …"}]   -> no finding
response "We ship to Norway"    contexts [{"text": "Refunds take 5 days …"}]   -> 1.0, "2 of 2 content words …"
"""

from __future__ import annotations

import re
from functools import lru_cache

import orjson
import pandas as pd
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from tasks.signals.rows import findings

TOLERATED = 0.35  # paraphrase: this share of unsupported words is ordinary
_WORD = re.compile(r"\w[\w'.-]*\w|\w")


def ungrounded(exchanges: pd.DataFrame) -> pd.DataFrame:
    """The share of the answer's content words and numbers that the best single document does not contain.

    No retrieved text means nothing to be grounded in: no finding (that is the retrieval's failure, not the answer's).
    """
    scores, evidence = [], []
    for response, contexts in zip(exchanges["response"], exchanges["contexts"], strict=True):
        missing, words = unsupported_words(str(response or ""), contexts)
        scores.append(len(missing) / len(words) if words else 0.0)
        shown = ", ".join(sorted(missing)[:6])
        evidence.append(f"{len(missing)} of {len(words)} content words are in no retrieved text: {shown}")
    index = exchanges.index
    return findings(exchanges, pd.Series(scores, index=index), pd.Series(evidence, index=index), TOLERATED)


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
