"""The assistant's search: the three approved answers whose words are nearest to what the user wrote.

in    "when do i get my mnoey back"
out   [{"id": "billing-refund", "text": "Refunds take ...", "score": 0.4127}, {...}, {...}]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from demo.knowledge import Knowledge

TOP = 3
SCORE_DIGITS = 4


class Retrieval:
    """TF-IDF over title and text of the answers; the exits (escalate, refuse) are not documents."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._answers = knowledge.answers
        self._vectorizer = TfidfVectorizer(stop_words="english", sublinear_tf=True)
        self._index = self._vectorizer.fit_transform(f"{a.title} {a.text}" for a in self._answers)

    def documents(self, queries: Sequence[str]) -> list[list[dict[str, Any]]]:
        """The nearest answers of each query, best first, with the cosine as score."""
        if not queries:
            return []
        cosines = (self._vectorizer.transform(queries) @ self._index.T).toarray()
        # Rounded before it is ranked, and ties by position: the last bits of a float differ between machines.
        scores = np.round(cosines, SCORE_DIGITS)
        ranked = np.argsort(-scores, axis=1, kind="stable")[:, :TOP]
        return [
            [{"id": self._answers[i].id, "text": self._answers[i].text, "score": float(row[i])} for i in best]
            for row, best in zip(scores, ranked, strict=True)
        ]
