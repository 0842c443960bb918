"""How an answer meets its question, in numbers, where there is no source to rest on.

question "how do I get a refund?"  response "Refunds take 5 days."   ->   asked_found 1.0, cosine 0.4, answer_words 4, …
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import HashingVectorizer

from tasks.signals.grounding_features import Rarity, spans, tokens

RELEVANCE = (
    "asked_found", "asked_found_rare", "rarest_missing", "best_sentence", "best_sentence_rare", "best_place", "cosine",
    "best_cosine", "question_words", "answer_words", "answer_sentences", "question_mark", "repeats_question", "numbers",
)  # fmt: skip
_GRAMS = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 5), n_features=2**18, alternate_sign=False)


def relevance_features(questions: Sequence[str], responses: Sequence[str], rarity: Rarity) -> pd.DataFrame:
    """(n, RELEVANCE): shares of the question's content words in the answer and in its best sentence, plain and by rarity;
    cosine of character n-grams; lengths in words and sentences.
    """
    rows = [_row(q, r, rarity) for q, r in zip(questions, responses, strict=True)]
    return pd.DataFrame(np.array(rows, float).reshape(len(rows), len(RELEVANCE)), columns=list(RELEVANCE))


def _row(question: str, response: str, rarity: Rarity) -> list[float]:
    asked = {t.stem for t in tokens(question) if t.content}
    weights = {s: rarity(s) for s in asked}
    heavy, many = max(sum(weights.values()), 1e-9), max(len(asked), 1)
    lines = [response[a:b] for a, b in spans(response)] or [""]
    found = [{t.stem for t in tokens(line)} & asked for line in lines]
    all_found = set().union(*found)
    rare = [sum(weights[s] for s in f) / heavy for f in found]
    best = int(np.argmax(rare))
    grams = _GRAMS.transform([question, response, *lines])
    cosines = (grams[0] @ grams[1:].T).toarray().ravel()
    words = tokens(response)
    return [
        len(all_found) / many,
        sum(weights[s] for s in all_found) / heavy,
        max((w for s, w in weights.items() if s not in all_found), default=0.0),
        len(found[best]) / many,
        rare[best],
        best / len(lines),
        cosines[0],
        cosines[1:].max(),
        len(tokens(question)),
        len(words),
        len(lines),
        float("?" in response),
        float(question.strip().casefold() in response.casefold()) if question.strip() else 0.0,
        sum(t.number for t in words),
    ]
