"""An audit of preference pairs: what beside being right tells the chosen answer from the rejected one.

    40 of 50 chosen answers are longer  ->  Finding("longer", 50, 0.8, 0.67, 0.89, "warning", "the longer answer is chosen …")

A reward model learns whatever predicts the choice, so a share far from a half is a bias that it will learn. Markers are lists of
words: they see flattery that uses them and miss all other, so `ok` says that these were not found and no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import binomtest
from threadpoolctl import threadpool_limits

from tasks.hygiene.lots import lot
from tasks.hygiene.params import HygieneParams

OK, WARNING = "ok", "warning"
LEVEL = 0.95
LEAST_PAIRS = 20  # of which one side has what the other lacks: fewer prove nothing
LEAST_FITTED, FOLDS = 100, 5
# Of answers. Sycophancy: agreement, flattery, apology; format: what readers like to see whatever it says.
MARKERS = {
    "agrees_at_once": (
        "agrees at once",
        r"(?i)^\W*(?:yes\b|yeah|exactly|absolutely|of course"
        r"|you(?:'|’)?(?:re| are) (?:absolutely |completely |quite )?(?:right|correct)|i (?:completely |totally )?agree"
        r"|ja\b|genau|stimmt|sí\b|tienes razón|oui\b|tout à fait|vous avez raison)",
    ),
    "flatters": (
        "flatters",
        r"(?i)\b(?:(?:great|excellent|good|wonderful|fantastic|brilliant|insightful|interesting) "
        r"(?:question|point|idea|observation)|what a (?:great|wonderful|lovely)|gute frage|buena pregunta|bonne question)",
    ),
    "apologises": (
        "apologises",
        r"(?i)\b(?:i apologi[sz]e|my apologies|(?:i(?:'|’)?m|i am|we are|we(?:'|’)?re) (?:so |very |really |truly )?sorry|sorry for"
        r"|entschuldig|tut mir leid|lo siento|disculpa|désolée?|toutes mes excuses)",
    ),
    "has_list": ("has a list", r"(?m)^\s*(?:[-*•]|\d+[.)])\s+\S"),
    "has_bold": ("has bold words", r"\*\*[^*\n]+\*\*"),
    "has_heading": ("has a heading", r"(?m)^#{1,6}\s+\S"),
    "has_table": ("has a table", r"(?m)^\s*\|.+\|\s*$"),
    "has_code": ("has a block of code", r"```"),
    "has_emoji": ("has an emoji", r"[\x{1f300}-\x{1faff}\x{2600}-\x{27bf}]"),
    "exclaims": ("has an exclamation mark", r"!"),
}
# Of what the user said: a claim to be agreed with.
CLAIM = (
    r"(?i)\b(?:i (?:think|believe|am (?:sure|certain|convinced)|know that|feel (?:that|like)|would say)"
    r"|i(?:'|’)m (?:sure|certain|convinced)|in my opinion"
    r"|(?:isn|aren|doesn|don|wasn)(?:'|’)t (?:it|they|that|you)\b"
    r"|ich (?:denke|glaube|finde)|meiner meinung|creo que|pienso que|je (?:pense|crois))|, right\?|, correct\?"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """Of `pairs` pairs in which one side has more of something, the `share` in which it was chosen, with its interval
    (Wilson, 95%). `level` is 'warning' where the interval lies wholly beyond what the audit's level allows, on either side."""

    name: str
    pairs: int
    share: float
    low: float
    high: float
    level: str
    says: str


def audit(
    said: pa.ChunkedArray,
    chosen: pa.ChunkedArray,
    rejected: pa.ChunkedArray,
    ids: Sequence[str],
    params: HygieneParams,
    chosen_first: np.ndarray | None = None,
) -> list[Finding]:
    """Texts of the users, of the chosen and of the rejected answers, by the pairs' ids -> findings, in one order always.

    `chosen_first`: 1 where the chosen answer was shown first, 0 where last, -1 where nobody knows. Of more than `audit_rows` pairs
    as many are drawn by lot.
    """
    # In the order of the lot, so that neither the sample nor the folds depend on the order of rows.
    rows = np.argsort(lot(ids, params.key), kind="stable")[: params.audit_rows]
    said, chosen, rejected = (_texts(c, rows) for c in (said, chosen, rejected))
    lengths = [pc.utf8_length(c).to_numpy(zero_copy_only=False).astype(np.int64) for c in (chosen, rejected)]
    longer = np.sign(lengths[0] - lengths[1])
    found = [_finding("longer", longer, params, "the longer answer is chosen")]
    much = np.where(np.maximum(*lengths) >= 1.5 * np.maximum(np.minimum(*lengths), 1), longer, 0)
    found.append(_finding("much_longer", much, params, "an answer half as long again, or longer, is chosen"))
    has = {name: [_flags(pc.match_substring_regex(c, p)) for c in (chosen, rejected)] for name, (_, p) in MARKERS.items()}
    for name, (good, bad) in has.items():
        found.append(_finding(name, good.astype(int) - bad, params, f"the answer that {MARKERS[name][0]} is chosen"))
    claims = _flags(pc.match_substring_regex(said, CLAIM))
    good, bad = has["agrees_at_once"]
    found.append(_finding("agrees_with_claim", (good.astype(int) - bad) * claims, params, "where the user claims something, "
                          "the answer that agrees at once is chosen"))  # fmt: skip
    surface = [np.log1p(lengths[0]) - np.log1p(lengths[1]), *(good.astype(float) - bad for good, bad in has.values())]
    found.append(_surface(np.column_stack(surface), params))
    if chosen_first is not None:
        place = np.asarray(chosen_first)[rows]
        shown = np.where(place == 1, 1, np.where(place == 0, -1, 0))
        found.append(_finding("shown_first", shown, params, "the answer that was shown first is chosen"))
    return found


def _finding(name: str, sign: np.ndarray, params: HygieneParams, what: str) -> Finding:
    """`sign`: 1 where the chosen answer has more of it, -1 where the rejected one has, 0 where there is no difference."""
    wins, pairs = int((sign > 0).sum()), int((sign != 0).sum())
    if not pairs:
        return Finding(name, 0, 0.5, 0.0, 1.0, OK, "no pair differs in it")
    low, high = binomtest(wins, pairs).proportion_ci(LEVEL, method="wilson")
    biased = pairs >= LEAST_PAIRS and (low > params.audit_level or high < 1 - params.audit_level)
    says = f"{what} in {wins / pairs:.0%} of {pairs:,} pairs ({low:.0%} to {high:.0%})"
    return Finding(name, pairs, wins / pairs, float(low), float(high), WARNING if biased else OK, says)


def _surface(differences: np.ndarray, params: HygieneParams) -> Finding:
    """How often a model of length and markers alone picks the chosen answer, each fifth of the pairs by the others."""
    n = len(differences)
    if n < LEAST_FITTED:
        return Finding("surface", 0, 0.5, 0.0, 1.0, OK, "too few pairs to learn from")
    # Only here, because it takes a second to import.
    from sklearn.linear_model import LogisticRegression

    scaled = differences / np.maximum(differences.std(axis=0), 1e-9)
    right = np.zeros(n)
    for fold in range(FOLDS):
        out = np.arange(n) % FOLDS == fold
        # Each pair both ways round, so that the model has nothing to learn but the differences.
        both = np.concatenate([scaled[~out], -scaled[~out]])
        which = np.repeat([1, 0], int((~out).sum()))
        with threadpool_limits(1):  # the same sums on every machine
            model = LogisticRegression(fit_intercept=False).fit(both, which)
            right[out] = np.sign(model.decision_function(scaled[out]))
    return _finding("surface", right, params, "what length and markers alone foretell is chosen")


def _texts(column: pa.ChunkedArray, rows: np.ndarray) -> pa.Array:
    taken = column.take(pa.array(rows))
    return (taken.combine_chunks() if isinstance(taken, pa.ChunkedArray) else taken).fill_null("")


def _flags(values: pa.Array) -> np.ndarray:
    return values.to_numpy(zero_copy_only=False).astype(bool)
