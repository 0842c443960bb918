"""A row of the evaluation: one prompt and what champion and challenger made of it. All that the gate looks at.

    part "holdout", kind "refuse", champion_right False, challenger_right True, champion_scores {"safety": 0.4}, …
"""

from __future__ import annotations

from dataclasses import dataclass

# Where a row comes from. Only rows of the holdout decide whether a challenger is better; all others can only refuse it.
HOLDOUT, REGRESSION, ANCHOR = "holdout", "regression", "anchor"
TRIGGER, SYCOPHANCY = "trigger", "sycophancy"  # probes: the prompt was changed, and the right answer was not
PARTS = (HOLDOUT, REGRESSION, ANCHOR, TRIGGER, SYCOPHANCY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One prompt and what both models made of it: a row of the evaluation, and all that the gate looks at.

    `part` is where the prompt comes from (above), `audit` whether the unbiased audit of traffic drew it; `kind`, `topic`,
    `language` and `cluster` (of failures, '' for none) are its slices. `…_scores` maps a metric of tasks/scores to [0, 1], higher
    is better; a metric that does not apply to the row is absent from both.
    """

    example_id: str
    group_id: str
    part: str
    audit: bool
    kind: str
    topic: str
    language: str
    cluster: str
    target: str
    champion: str
    challenger: str
    champion_right: bool
    challenger_right: bool
    champion_confidence: float
    challenger_confidence: float
    champion_signals: list
    challenger_signals: list
    champion_scores: dict
    challenger_scores: dict
