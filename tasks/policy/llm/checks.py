"""The right answers of the table `prompts` as a reward for policy optimisation, told from the text alone, without a model.

    verified([[{"role": "assistant", "content": "Refunds take five days."}]], ["Refunds take 5 working days."])   ->   [0.51]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks.words import content_words

NEARLY = 0.9  # an answer of all the right words, which is yet not the right text


def verified(completions: Sequence[Sequence[dict[str, Any]]], ground_truth: Sequence[str], **_: Any) -> list[float]:
    """In [0, 1]: 1 for the right answer's text (the check `action`), else NEARLY times how much of its words an answer shares.

    A share and not right or wrong, because a policy that never hits the exact text would learn nothing. The checks `grounded` and
    `language` are left to the evaluation: a trainer is given no documents, and both are passed by the right answer.
    """
    return [_worth(said[0].get("content") or "", right) for said, right in zip(completions, ground_truth, strict=True)]


def _worth(text: str, right: str) -> float:
    return 1.0 if text.strip() == right.strip() else NEARLY * _alike(text, right)


def _alike(one: str, other: str) -> float:
    """Words of content in common, as the harmonic mean of both shares (F1)."""
    a, b = content_words(one), content_words(other)
    return 2 * len(a & b) / (len(a) + len(b)) if a and b else 0.0
