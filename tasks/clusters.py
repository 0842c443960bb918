"""Failures that look alike: groups the questions of suspicious interactions, so that a batch covers every kind.

["charged twice", "double charge", "tyre flat again"]  ->  [0, 0, 1]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from tasks.similar import normalise

DIMENSIONS = 48
FIXED = 0  # the same questions must give the same clusters


def cluster(questions: Sequence[str], count: int) -> np.ndarray:
    """One cluster number per question, 0 to count - 1 (fewer when there are fewer distinct questions)."""
    texts = [normalise(q) or "(empty)" for q in questions]
    distinct = len(set(texts))
    count = max(1, min(count, distinct))
    if count == 1:
        return np.zeros(len(texts), int)
    tfidf = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), sublinear_tf=True)
    weights = tfidf.fit_transform(texts)
    dimensions = min(DIMENSIONS, min(weights.shape) - 1)
    embed = make_pipeline(TruncatedSVD(dimensions, random_state=FIXED), Normalizer(copy=False))
    return KMeans(count, n_init=1, random_state=FIXED).fit_predict(embed.fit_transform(weights))
