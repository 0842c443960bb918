"""Annotations of several people become one label, with how sure we may be of it.

    ana: right · ben: right · cleo: wrong -> "billing-refund-time"     =>  verdict right, p_wrong 0.02, 3 votes

Aggregation is Dawid and Skene's one-coin model (`aggregate.py`): every annotator has one skill, learned from how often they
agree with the others, so that a careless one weighs little. Agreement is Krippendorff's alpha for nominal data (`reliability.py`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tasks.aggregate import Vote, consensus
from tasks.kinds import EXPERT
from tasks.records import Annotation, Label
from tasks.reliability import Answer, choices

ANSWER = "answer"  # the kind of judgement that this module is about
SERVED, OTHER = "(what was served)", "(something else)"


@dataclass(frozen=True, slots=True)
class AgreementParams:
    min_votes: int
    min_confidence: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """Labels by interaction id order; alpha (NaN when nobody overlaps) and each annotator's learned skill in [0, 1]."""

    labels: list[Label]
    alpha: float
    skills: dict[str, float]


def aggregate(annotations: Sequence[Annotation], served: Mapping[str, str], params: AgreementParams) -> Agreement:
    """Aggregate one answer per (interaction, annotator).

    `served` maps interaction_id to the id of the approved answer that was served, '' where the text is none of them.
    Source: Dawid and Skene (1979), one-coin variant of Zhang et al. (2014); Krippendorff (2004), chapter 11.
    """
    answers = [a for a in annotations if a.kind == ANSWER]
    if not answers:
        return Agreement([], math.nan, {})
    said = {a.annotation_id: meant(a, served.get(a.interaction_id, "")) for a in answers}
    votes = sorted(Vote(a.interaction_id, a.annotator, said[a.annotation_id]) for a in answers)
    decided = {a.interaction_id: said[a.annotation_id] for a in sorted(answers, key=lambda a: a.ts) if a.role == EXPERT}
    agreed = consensus(votes, gold=decided, method="one-coin")
    counts = Counter(v.item for v in votes)
    votes_for = Counter((v.item, v.label) for v in votes)
    labels = []
    for interaction_id, n in counts.items():
        right = served.get(interaction_id) or SERVED
        shares = agreed.posterior[interaction_id]
        target = max(sorted(shares), key=shares.__getitem__)
        # Somebody good beside somebody bad makes a posterior, and no second opinion.
        backed = votes_for[interaction_id, target] >= params.min_votes
        sure = interaction_id in decided or (backed and shares[target] >= params.min_confidence)
        labels.append(
            Label(
                interaction_id=interaction_id,
                verdict="right" if target == right else "wrong",
                target="" if target in (SERVED, OTHER) else target,
                p_wrong=round(min(1.0, max(0.0, 1.0 - shares.get(right, 0.0))), 6),
                p_target=round(min(1.0, shares[target]), 6),
                votes=n,
                state="agreed" if sure else "open",
            )
        )
    return Agreement(labels, choices(Answer(*v) for v in votes).value, agreed.quality)


def meant(annotation: Annotation, served: str) -> str:
    """The answer this person wants: 'right' means the served one, and so does a correction that names it."""
    value = annotation.parsed
    if value["verdict"] == "right":
        return served or SERVED
    return value.get("correction") or OTHER
