"""What freeze hands to the stages, and what curate makes of it: the rows of data/frozen and data/curated, in shards.

    data/frozen/exchanges/    one Exchange an interaction that people answered or rated: what was said, and its place
    data/frozen/annotations/  one Given an answer of a person
    data/frozen/thumbs/       one Thumb an event of a user about an answer (training side only)
    data/curated/labels/      one Curated an agreed verdict
    data/curated/judgements/  one CuratedJudgement an agreed judgement
    data/curated/dropped/     one Dropped a thing that came no further, with its reason

Beside them in data/frozen: catalogue.jsonl, questions.jsonl, answers.jsonl (what was ranked), anchors.jsonl,
regression.jsonl (fixed clusters), clusters.jsonl (all clusters, with exemplars), baseline.json (the profile of the snapshot
before), looks.jsonl (the verdicts before), guidelines/, champion/.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.records import Annotation, Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """An interaction with its place. `arrived` (µs): the time of the batch in which people were first asked about it, of one
    that nobody was asked about its own; `batch_id`, `part` and `propensity` as it was drawn ('' and 0.0 where nobody was asked)."""

    interaction_id: str
    arrived: int
    group_id: str
    side: str
    batch_id: str
    part: str
    propensity: float
    session_id: str
    user: str
    tenant: str
    ts: int
    language: str
    model_version: str
    prompt_name: str
    messages: Json
    question: str
    response: str
    outputs: Json
    contexts: Json
    tools: str


@dataclass(frozen=True, slots=True)
class Given(Annotation):
    """An annotation, with the time that its exchange `arrived`."""

    arrived: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Thumb:
    """What one user said of one answer, of several times the last: `polarity` 1 or -1. `user` is a pseudonym, '' unknown;
    `user_since` (µs) is when that user was first seen at all."""

    feedback_id: str
    interaction_id: str
    arrived: int
    user: str
    tenant: str
    name: str
    polarity: int
    comment: str
    ts: int
    user_since: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Curated:
    """An agreed label of kind `answer`, with its exchange and its place. `annotators` is a JSON list of who gave it."""

    interaction_id: str
    arrived: int
    group_id: str
    side: str
    part: str
    propensity: float
    session_id: str
    user: str
    tenant: str
    language: str
    messages: Json
    contexts: Json
    tools: str
    question: str
    response: str
    outputs: Json
    served: str
    verdict: str
    target: str
    target_text: str
    p_wrong: float
    p_target: float
    votes: int
    kind: str
    topic: str
    annotators: Json
    guideline: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CuratedJudgement:
    """An agreed judgement of another kind than `answer`. `answers` are what a ranking ranks; `value` has the shape of its kind."""

    judgement_id: str
    interaction_id: str
    arrived: int
    kind: str
    group_id: str
    side: str
    part: str
    propensity: float
    session_id: str
    user: str
    tenant: str
    language: str
    messages: Json
    contexts: Json
    tools: str
    question: str
    response: str
    answers: Json
    value: Json
    confidence: float
    votes: int
    annotators: Json
    guideline: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """What did not become an example: at which stage, why (a code), and what it `met`: the holdout row that it would have given
    away, the row that stands for it, or the words that speak against it ('' nothing)."""

    dropped_id: str
    arrived: int
    interaction_id: str
    stage: str
    reason: str
    met: str
