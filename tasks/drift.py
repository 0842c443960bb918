"""Drift: which columns of a window are no longer as they were in a reference window, by a test and by an effect size.

    question     text      classifier AUC 0.81   p = 1e-40   drifted: more "helmet, sizes", less "refund"
    latency_ms   number    KS distance 0.04      p = 2e-05   not: real, and too small to matter
    language     category  Cramér's V 0.31       p = 1e-22   drifted: de 2% -> 24%

Large windows make everything significant and small ones make everything look large; only both together are drift.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from tasks.similar import normalise

NUMBER, CATEGORY, TEXT = "number", "category", "text"
CATEGORIES = 30  # the commonest are compared one by one, the rest together
FOLDS = 5
LEAST_ROWS = 30  # on either side: below, nothing is compared


@dataclass(frozen=True, slots=True)
class DriftParams:
    """`alpha`: false discovery rate over all columns; the others are the least effect of each kind that counts.

    `ks`: distance of distributions, 0 to 1; `v`: Cramér's V, 0 to 1; `auc`: of a classifier that tells the windows apart,
    0.5 to 1; `reference`: how many earlier windows are the reference; `sample`: texts a side.
    """

    alpha: float
    ks: float
    v: float
    auc: float
    reference: int
    sample: int


@dataclass(frozen=True, slots=True)
class Drift:
    """One column's comparison. `p_value` is corrected for the number of columns; `effect` in the unit of `measure`."""

    column: str
    kind: str
    measure: str
    effect: float
    p_value: float
    reference: int
    current: int
    drifted: bool
    evidence: str


Column = Sequence[float | None] | Sequence[str | None]


def drift(
    reference: Mapping[str, Column], current: Mapping[str, Column], kinds: Mapping[str, str], params: DriftParams
) -> list[Drift]:
    """Compare the columns named in `kinds`; the clearest first. Rows of a window are interactions; their order is nothing.

    Too few rows on a side: the column is left out. Missing values are a category of their own, and no number.
    """
    compare = {NUMBER: _numbers, CATEGORY: _categories, TEXT: _texts}
    found = []
    for column, kind in kinds.items():
        made = compare[kind](column, reference[column], current[column], params)
        if made is not None:
            found.append(made)
    if not found:
        return []
    corrected = stats.false_discovery_control([d.p_value for d in found])
    judged = [
        replace(d, p_value=float(p), drifted=d.drifted and bool(p <= params.alpha))
        for d, p in zip(found, corrected, strict=True)
    ]
    return sorted(judged, key=lambda d: (not d.drifted, d.p_value, d.column))


def _numbers(column: str, before: Column, now: Column, params: DriftParams) -> Drift | None:
    """Two-sample Kolmogorov-Smirnov; the effect is its distance."""
    old, new = (np.array([v for v in values if v is not None and not math.isnan(v)], float) for values in (before, now))
    if min(len(old), len(new)) < LEAST_ROWS:
        return None
    test = stats.ks_2samp(old, new, method="auto")
    effect = float(test.statistic)
    said = f"median {np.median(old):.4g} -> {np.median(new):.4g}"
    return Drift(
        column, NUMBER, "KS distance", effect, float(test.pvalue), len(old), len(new), effect >= params.ks, said
    )


def _categories(column: str, before: Column, now: Column, params: DriftParams) -> Drift | None:
    """Chi-squared test of homogeneity; the effect is Cramér's V as it would be were both windows of one size.

    With shares p and q that is sqrt(sum((p - q)² / (p + q)) / 2): a small window beside a large one does not shrink it.
    """
    if min(len(before), len(now)) < LEAST_ROWS:
        return None
    old, new = (Counter("(none)" if v in (None, "") else str(v) for v in values) for values in (before, now))
    both = old + new
    common = [c for c, n in sorted(both.items(), key=lambda x: (-x[1], x[0]))[:CATEGORIES] if n >= 10]
    table = np.array([[side[c] for c in common] + [side.total() - sum(side[c] for c in common)] for side in (old, new)])
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2:
        return Drift(column, CATEGORY, "Cramér's V", 0.0, 1.0, len(before), len(now), False, "one value")
    test = stats.chi2_contingency(table, correction=False)
    old_share, new_share = table / table.sum(axis=1, keepdims=True)
    effect = math.sqrt(float(np.sum((old_share - new_share) ** 2 / (old_share + new_share))) / 2)
    moved = sorted(common, key=lambda c: -abs(new[c] / len(now) - old[c] / len(before)))[:3]
    said = ", ".join(f"{c} {old[c] / len(before):.1%} -> {new[c] / len(now):.1%}" for c in moved)
    return Drift(
        column, CATEGORY, "Cramér's V", effect, float(test.pvalue), len(before), len(now), effect >= params.v, said
    )


def _texts(column: str, before: Column, now: Column, params: DriftParams) -> Drift | None:
    """Classifier two-sample test (Lopez-Paz and Oquab, 2017): can one tell, of a text not seen, from which window it is?

    The same text is always in the same fold: a question that everybody asks would otherwise be learnt by heart. The test
    is Mann and Whitney's on the out-of-fold scores; the effect the AUC, which it counts.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    sides = [_sampled(values, params.sample) for values in (before, now)]
    if min(map(len, sides)) < LEAST_ROWS:
        return None
    texts = [t for side in sides for t in side]
    is_new = np.repeat([0, 1], [len(s) for s in sides])
    fold = np.array([_number(t) % FOLDS for t in texts])
    weighing = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    try:
        vectors = weighing.fit_transform(texts)
    except ValueError:  # no word twice
        return None
    scores = np.full(len(texts), np.nan)
    model = LogisticRegression(class_weight="balanced", max_iter=200)
    for k in range(FOLDS):
        inside = fold == k
        if inside.any() and len(set(is_new[~inside].tolist())) == 2:
            model.fit(vectors[~inside], is_new[~inside])
            # Within a fold only ranks are compared: models of different folds have different offsets.
            scores[inside] = stats.rankdata(model.decision_function(vectors[inside])) / inside.sum()
    known = ~np.isnan(scores)
    new, old = scores[known & (is_new == 1)], scores[known & (is_new == 0)]
    if min(len(new), len(old)) < LEAST_ROWS:
        return None
    test = stats.mannwhitneyu(new, old, alternative="greater")
    effect = float(test.statistic) / (len(new) * len(old))
    ranked = np.argsort(model.fit(vectors, is_new).coef_[0], kind="stable")
    words = weighing.get_feature_names_out()
    said = f"more {', '.join(words[ranked[:-4:-1]])}; less {', '.join(words[ranked[:3]])}"
    return Drift(
        column, TEXT, "classifier AUC", effect, float(test.pvalue), len(old), len(new), effect >= params.auc, said
    )


def _sampled(values: Column, most: int) -> list[str]:
    """Normalised texts, at most so many: which ones depends on the texts alone."""
    texts = [normalise(str(v)) for v in values if v]
    return sorted((t for t in texts if t), key=lambda t: (_number(t), t))[:: max(1, math.ceil(len(texts) / most))]


def _number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=6).digest())
