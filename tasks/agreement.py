"""Annotations of several people become one label, with how sure we may be of it.

    ana: right · ben: right · cleo: wrong -> "billing-refund-time"     =>  verdict right, p_wrong 0.02, 3 votes

Aggregation is Dawid and Skene's one-coin model: every annotator has one skill, learned from how often they agree with the
others, so that a careless one weighs little. Agreement is Krippendorff's alpha for nominal data (library `krippendorff`).
The model stands here because crowd-kit's takes ten times as long at 1,800 answers over 70 classes (benchmarks/aggregation.py),
and needs transformers and nltk installed; it is the test's oracle (tests/test_agreement.py). Unlike crowd-kit's, it does not
learn how common each answer is, and gives skills a prior.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tasks.records import Annotation, Label

ITERATIONS, CONVERGED = 200, 1e-9
PRIOR_RIGHT, PRIOR_WRONG = 4.0, 1.0  # as if everybody had given four right answers and a wrong one before
EXPERT = "expert"  # decides what the others disagree about
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
    votes = sorted((a.interaction_id, a.annotator, said[a.annotation_id]) for a in answers)
    decided = {a.interaction_id: said[a.annotation_id] for a in sorted(answers, key=lambda a: a.ts) if a.role == EXPERT}
    posterior, skills = _one_coin(votes)
    posterior |= {interaction_id: {target: 1.0} for interaction_id, target in decided.items()}
    counts: dict[str, int] = {}
    for interaction_id, _, _ in votes:
        counts[interaction_id] = counts.get(interaction_id, 0) + 1
    labels = []
    for interaction_id, n in counts.items():
        right = served.get(interaction_id) or SERVED
        shares = posterior[interaction_id]
        target = max(sorted(shares), key=shares.__getitem__)
        agreed = interaction_id in decided or (n >= params.min_votes and shares[target] >= params.min_confidence)
        labels.append(
            Label(
                interaction_id=interaction_id,
                verdict="right" if target == right else "wrong",
                target="" if target in (SERVED, OTHER) else target,
                p_wrong=round(min(1.0, max(0.0, 1.0 - shares.get(right, 0.0))), 6),
                p_target=round(min(1.0, shares[target]), 6),
                votes=n,
                state="agreed" if agreed else "open",
            )
        )
    return Agreement(labels, _alpha(votes), skills)


def meant(annotation: Annotation, served: str) -> str:
    """The answer this person wants: 'right' means the served one, and so does a correction that names it."""
    value = annotation.parsed
    if value["verdict"] == "right":
        return served or SERVED
    return value.get("correction") or OTHER


def _one_coin(votes: Sequence[tuple[str, str, str]]) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Expectation-maximisation: (posterior of each answer that was given per interaction, skill per annotator).

    An annotator is right with their skill and otherwise picks any other answer alike. Skills carry a Beta prior, so that
    nobody is certain after a handful of answers (without it EM runs to 0 and 1).
    """
    tasks, task = np.unique([v[0] for v in votes], return_inverse=True)
    people, person = np.unique([v[1] for v in votes], return_inverse=True)
    answers, answer = np.unique([v[2] for v in votes], return_inverse=True)
    # Only answers that somebody gave to an interaction can be its label: pairs (task, answer), numbered.
    pairs, pair = np.unique(task * len(answers) + answer, return_inverse=True)
    pair_task = pairs // len(answers)
    wrong_choices = max(1, len(answers) - 1)
    shares = _normalised(np.bincount(pair, minlength=len(pairs)).astype(float), pair_task)
    answered = np.bincount(person)
    skill = np.zeros(len(people))
    for _ in range(ITERATIONS):
        before = skill
        skill = (np.bincount(person, weights=shares[pair]) + PRIOR_RIGHT) / (answered + PRIOR_RIGHT + PRIOR_WRONG)
        # log P(votes | answer): everybody who voted missed it, but for those who said it.
        hit, miss = np.log(skill), np.log((1 - skill) / wrong_choices)
        score = np.bincount(task, weights=miss[person])[pair_task]
        score += np.bincount(pair, weights=(hit - miss)[person], minlength=len(pairs))
        best = np.full(len(tasks), -np.inf)
        np.maximum.at(best, pair_task, score)
        shares = _normalised(np.exp(score - best[pair_task]), pair_task)
        if np.abs(skill - before).max() < CONVERGED:
            break
    posterior: dict[str, dict[str, float]] = {}
    for number, share in zip(pairs, shares, strict=True):
        posterior.setdefault(str(tasks[number // len(answers)]), {})[str(answers[number % len(answers)])] = float(share)
    return posterior, {str(p): round(float(s), 4) for p, s in zip(people, skill, strict=True)}


def _normalised(weights: np.ndarray, group: np.ndarray) -> np.ndarray:
    return weights / np.bincount(group, weights=weights)[group]


def _alpha(votes: Sequence[tuple[str, str, str]]) -> float:
    """Krippendorff's alpha from the counts of each answer per interaction; NaN where no interaction has two answers."""
    import krippendorff

    rows = {t: i for i, t in enumerate(dict.fromkeys(v[0] for v in votes))}
    columns = {c: i for i, c in enumerate(dict.fromkeys(v[2] for v in votes))}
    counts = np.zeros((len(rows), len(columns)), dtype=int)
    for task, _, answer in votes:
        counts[rows[task], columns[answer]] += 1
    if (counts.sum(axis=1) >= 2).sum() == 0 or len(columns) < 2:
        return math.nan
    return float(krippendorff.alpha(value_counts=counts, level_of_measurement="nominal"))
