"""Annotations of several people become one label, with how sure we may be of it.

    ana: right · ben: right · cleo: wrong -> "billing-refund-time"     =>  verdict right, p_wrong 0.02, 3 votes

Aggregation is Dawid and Skene's one-coin model (`aggregate.py`): every annotator has one skill, learned from how often they
agree with the others, so that a careless one weighs little. Agreement is Krippendorff's alpha for nominal data (`reliability.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tasks.aggregate import code, fit
from tasks.kinds import EXPERT
from tasks.records import Annotation, Approved, Label, arrow_schema
from tasks.reliability import Answer, choices

ANSWER = "answer"  # the kind of judgement that this module is about
SERVED, OTHER = "(what was served)", "(something else)"
# An alpha of so many items has an interval narrower than any decision needs; of a million it would take minutes.
ITEMS_FOR_ALPHA = 5_000


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


@dataclass(frozen=True, slots=True)
class AgreedTable:
    """The same with the labels as an Arrow table of the noun Label."""

    labels: pa.Table
    alpha: float
    skills: dict[str, float]


def aggregate(annotations: Sequence[Annotation], served: Mapping[str, str], params: AgreementParams) -> Agreement:
    """Aggregate one answer per (interaction, annotator).

    `served` maps interaction_id to the id of the approved answer that was served, '' where the text is none of them.
    Source: Dawid and Skene (1979), one-coin variant of Zhang et al. (2014); Krippendorff (2004), chapter 11.
    """
    answers = sorted((a for a in annotations if a.kind == ANSWER), key=lambda a: (a.ts, a.annotation_id))
    agreed = aggregate_table(
        pa.table(
            {
                "interaction_id": pa.array([a.interaction_id for a in answers], pa.string()),
                "annotator": pa.array([a.annotator for a in answers], pa.string()),
                "said": pa.array([meant(a, served.get(a.interaction_id, "")) for a in answers], pa.string()),
                "right": pa.array([served.get(a.interaction_id) or SERVED for a in answers], pa.string()),
                "expert": pa.array([a.role == EXPERT for a in answers], pa.bool_()),
            }
        ),
        params,
    )
    return Agreement([Label(**row) for row in agreed.labels.to_pylist()], agreed.alpha, agreed.skills)


def aggregate_table(votes: pa.Table, params: AgreementParams) -> AgreedTable:
    """The same of votes in columns, ordered by time: interaction_id, annotator, `said` (the answer that this person wants),
    `right` (that which says that the served one was right), and whether an `expert` says so.
    """
    if not votes.num_rows:
        return AgreedTable(arrow_schema(Label).empty_table(), math.nan, {})
    experts = votes.filter(votes["expert"])
    decided = dict(zip(experts["interaction_id"].to_pylist(), experts["said"].to_pylist(), strict=True))
    coded = code(votes["interaction_id"], votes["annotator"], votes["said"], decided)
    fitted = fit("one-coin", coded)
    n = len(coded.items)
    # The most probable answer of each item; of answers that tie, the first by name.
    order = np.lexsort((fitted.answer, -fitted.p, fitted.item))
    best = order[np.unique(fitted.item[order], return_index=True)[1]]
    target, p_target = fitted.answer[best], fitted.p[best]
    classes = len(coded.classes)
    said, backing = np.unique(coded.item * classes + coded.answer, return_counts=True)
    wanted = np.arange(n) * classes + target
    at = np.minimum(np.searchsorted(said, wanted), len(said) - 1)
    backed = np.where(said[at] == wanted, backing[at], 0)
    right = _right(votes, coded.items, coded.classes)
    p_right = np.zeros(n)
    is_right = fitted.answer == right[fitted.item]
    p_right[fitted.item[is_right]] = fitted.p[is_right]
    # Somebody good beside somebody bad makes a posterior, and no second opinion.
    sure = (coded.gold >= 0) | ((backed >= params.min_votes) & (p_target >= params.min_confidence))
    names = np.array([("" if c in (SERVED, OTHER) else c) for c in coded.classes], object)
    labels = pa.table(
        {
            "interaction_id": coded.items,
            "verdict": np.where(target == right, "right", "wrong"),
            "target": names[target],
            "p_wrong": np.clip(1.0 - p_right, 0.0, 1.0).round(6),
            "p_target": np.minimum(p_target, 1.0).round(6),
            "votes": np.bincount(coded.item, minlength=n),
            "state": np.where(sure, "agreed", "open"),
        },
        schema=arrow_schema(Label),
    )
    quality = {name: round(float(q), 4) for name, q in zip(coded.people, fitted.quality, strict=True)}
    some = coded.item < ITEMS_FOR_ALPHA  # items are sorted by id, and ids are hashes: a random sample
    shown = zip(coded.item[some].tolist(), coded.person[some].tolist(), coded.answer[some].tolist(), strict=True)
    answers = [Answer(coded.items[i], coded.people[w], coded.classes[a]) for i, w, a in shown]
    return AgreedTable(labels, choices(answers).value, quality)


def _right(votes: pa.Table, items: list[str], classes: list[str]) -> np.ndarray:
    """For each item the class that says that what was served was right, -1 where nobody said it of anything."""
    place = {name: k for k, name in enumerate(classes)}
    plain = pa.table({"interaction_id": votes["interaction_id"], "right": votes["right"].cast(pa.string())})
    distinct = plain.group_by("interaction_id").aggregate([("right", "min")]).sort_by("interaction_id")
    encoded = distinct["right_min"].combine_chunks().dictionary_encode()
    known = np.array([place.get(name, -1) for name in encoded.dictionary.to_pylist()], np.int64)
    return known[encoded.indices.to_numpy(zero_copy_only=False)]


def served_action(response: str, catalogue: Mapping[str, Approved]) -> str:
    """The id of the approved answer whose text was served, '' if it is none. `catalogue` is keyed by text."""
    found = catalogue.get(response.strip())
    return found.id if found else ""


def meant(annotation: Annotation, served: str) -> str:
    """The answer this person wants: 'right' means the served one, and so does a correction that names it."""
    value = annotation.parsed
    if value["verdict"] == "right":
        return served or SERVED
    return value.get("correction") or OTHER
