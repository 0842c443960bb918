"""Labels become examples in the field's own shapes (TRL's words): supervised, preference, and the sealed holdout.

    label {"interaction_id": "ix_1", "verdict": "wrong", "target": "billing-refund-time", …}
    ->  sft        {"messages": [… the user, the assistant with the target's text], "action": "billing-refund-time", …}
    ->  preference {"prompt": […], "chosen": target's text, "rejected": what was served, …}

A served answer becomes a target only where people confirmed it; a thumb alone never does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from tasks.records import Approved, content_id


@dataclass(frozen=True, slots=True)
class Curated:
    """An agreed label with its place: what was asked, what was served, where it came from, and its side of the wall."""

    interaction_id: str
    group_id: str
    side: str
    part: str
    propensity: float
    messages: str
    contexts: str
    question: str
    response: str
    served: str
    verdict: str
    target: str
    target_text: str
    p_wrong: float
    p_target: float
    votes: int
    kind: str
    topic: str


@dataclass(frozen=True, slots=True)
class CuratedJudgement:
    """An agreed judgement of another kind than `answer`, with its place. `answers` are what a ranking ranks."""

    interaction_id: str
    kind: str
    group_id: str
    side: str
    part: str
    propensity: float
    messages: str
    contexts: str
    question: str
    response: str
    answers: list
    value: str
    confidence: float
    votes: int
    guideline: str


@dataclass(frozen=True, slots=True)
class JudgementExample:
    """What people judged about one answer: spans, grades, policies, scores, an intent … `value` has the shape of its kind.

    `split` is 'train' or 'holdout'; a judgement about the holdout evaluates, and never trains.
    """

    example_id: str
    interaction_id: str
    group_id: str
    split: str
    kind: str
    messages: list
    contexts: list
    response: str
    value: dict
    confidence: float
    votes: int
    guideline: str


@dataclass(frozen=True, slots=True)
class Supervised:
    """`messages` end with the assistant's right answer."""

    example_id: str
    interaction_id: str
    group_id: str
    messages: list
    action: str
    weight: float
    origin: str


@dataclass(frozen=True, slots=True)
class Preference:
    """`prompt`, `chosen`, `rejected` as TRL's explicit-prompt preference rows; the actions where both are approved answers."""

    example_id: str
    interaction_id: str
    group_id: str
    prompt: list
    contexts: list
    chosen: list
    rejected: list
    chosen_action: str
    rejected_action: str
    origin: str


@dataclass(frozen=True, slots=True)
class HoldoutRow:
    """A prompt with its right answer, or, where only verdicts exist, with rated answers to choose from."""

    example_id: str
    interaction_id: str
    group_id: str
    messages: list
    contexts: list
    target: str
    target_text: str
    kind: str
    topic: str
    offered: list


@dataclass(frozen=True, slots=True)
class Dropped:
    """What did not become an example, and why."""

    interaction_id: str
    stage: str
    reason: str


def served_action(response: str, catalogue: Mapping[str, Approved]) -> str:
    """The id of the approved answer whose text was served, '' if it is none. `catalogue` is keyed by text."""
    found = catalogue.get(response.strip())
    return found.id if found else ""


def supervised(rows: Sequence[Curated]) -> list[Supervised]:
    """One row per training-side label with a known right answer: a confirmed answer, or a correction."""
    examples = []
    for row in rows:
        text = row.target_text or (row.response if row.verdict == "right" else "")
        if not text:
            continue
        messages = [*orjson.loads(row.messages), {"role": "assistant", "content": text}]
        origin = "confirmed" if row.verdict == "right" else "correction"
        example_id = content_id("ex", "sft", row.interaction_id)
        examples.append(
            Supervised(
                example_id, row.interaction_id, row.group_id, messages, row.target, round(row.p_target, 6), origin
            )
        )
    return examples


def written(rows: Sequence[CuratedJudgement]) -> tuple[list[Supervised], list[Preference]]:
    """Answers that people wrote: one supervised row each, and a pair against what was served where that was another text."""
    sft, pairs = [], []
    for row in (r for r in rows if r.kind == "correction"):
        text, messages = orjson.loads(row.value)["text"], orjson.loads(row.messages)
        example_id = content_id("ex", "sft", row.interaction_id, "written")
        wanted = {"role": "assistant", "content": text}
        sft.append(
            Supervised(example_id, row.interaction_id, row.group_id, [*messages, wanted], "", row.confidence, "written")
        )
        if row.response.strip() and text.strip() != row.response.strip():
            pairs.append(_judged_pair(row, row.interaction_id, text, row.response, "written"))
    return sft, pairs


def ranked(rows: Sequence[CuratedJudgement]) -> list[Preference]:
    """A pair of each two answers of which one was ranked above the other; an unacceptable answer is never chosen."""
    pairs = []
    for row in (r for r in rows if r.kind == "ranking"):
        value, texts = orjson.loads(row.value), {a["id"]: a["text"] for a in row.answers}
        places = [(place, answer) for place, group in enumerate(value["ranks"]) for answer in group]
        for place, better in places:
            for lower, worse in places:
                if place < lower and better not in value["unacceptable"] and {better, worse} <= texts.keys():
                    ids = f"{row.interaction_id}/{better}+{worse}"
                    pairs.append(_judged_pair(row, ids, texts[better], texts[worse], "ranked"))
    return pairs


def judgement_examples(rows: Sequence[CuratedJudgement]) -> list[JudgementExample]:
    """Every judgement as an example of its own kind, on its side of the wall."""
    return [
        JudgementExample(
            content_id("ex", row.kind, row.interaction_id),
            row.interaction_id,
            row.group_id,
            row.side,
            row.kind,
            orjson.loads(row.messages),
            orjson.loads(row.contexts),
            row.response,
            orjson.loads(row.value),
            row.confidence,
            row.votes,
            row.guideline,
        )
        for row in rows
    ]


def preferences(rows: Sequence[Curated], catalogue: Mapping[str, Approved]) -> list[Preference]:
    """Pairs from three sources; `catalogue` is the approved answers by text.

    A correction against what was served; a confirmed answer against the approved answer that was retrieved beside it (to
    confirm one is to prefer it to the others); and two answers of opposite verdict to the very same prompt.
    """
    pairs = [_correction_pair(r) for r in rows if r.verdict == "wrong" and r.target_text and r.response.strip()]
    pairs += [p for r in rows if r.verdict == "right" and r.target for p in _confirmed_pair(r, catalogue)]
    by_prompt: dict[str, list[Curated]] = {}
    for row in rows:
        if not row.target_text:
            by_prompt.setdefault(row.messages + row.contexts, []).append(row)
    for same in by_prompt.values():
        right = [r for r in same if r.verdict == "right"]
        wrong = [r for r in same if r.verdict == "wrong"]
        pairs += [_verdict_pair(r, w) for r in right for w in wrong if r.response != w.response]
    return pairs


def holdout(rows: Sequence[Curated]) -> list[HoldoutRow]:
    """Holdout-side labels: one row each where the right answer is known; one row a prompt where only verdicts are."""
    examples, rated = [], {}
    for row in rows:
        if row.target:
            examples.append(_holdout_row(row, []))
        else:
            rated.setdefault(row.messages + row.contexts, []).append(row)
    for same in rated.values():
        offered = [{"text": r.response, "right": r.verdict == "right"} for r in same]
        # Where all answers are right, or all wrong, no choice can show anything.
        if len({o["right"] for o in offered}) == 2:
            examples.append(_holdout_row(same[0], offered))
    return examples


def _holdout_row(row: Curated, offered: list) -> HoldoutRow:
    messages, contexts = orjson.loads(row.messages), orjson.loads(row.contexts)
    example_id = content_id("ex", "holdout", row.interaction_id)
    target_text = row.target_text if row.target else ""
    return HoldoutRow(
        example_id,
        row.interaction_id,
        row.group_id,
        messages,
        contexts,
        row.target,
        target_text,
        row.kind,
        row.topic,
        offered,
    )


def _correction_pair(row: Curated) -> Preference:
    return _pair(row, row.interaction_id, row.target_text, row.response, row.target, row.served, "correction")


def _confirmed_pair(row: Curated, catalogue: Mapping[str, Approved]) -> list[Preference]:
    """At most one: without the best retrieved other answer there is nothing that it was preferred to."""
    retrieved = [catalogue.get(str(d["text"]).strip()) for d in orjson.loads(row.contexts)]
    others = [a for a in retrieved if a is not None and a.id != row.target]
    if not others:
        return []
    return [_pair(row, row.interaction_id, row.target_text, others[0].text, row.target, others[0].id, "confirmed")]


def _verdict_pair(right: Curated, wrong: Curated) -> Preference:
    ids = f"{right.interaction_id}+{wrong.interaction_id}"
    return _pair(right, ids, right.response, wrong.response, right.served, wrong.served, "opposite_verdicts")


def _judged_pair(row: CuratedJudgement, ids: str, chosen: str, rejected: str, origin: str) -> Preference:
    return _pair(row, ids, chosen, rejected, "", "", origin)


def _pair(
    row: Curated | CuratedJudgement, ids: str, chosen: str, rejected: str, chosen_action: str, rejected_action: str, origin: str
) -> Preference:
    return Preference(
        example_id=content_id("ex", "preference", ids),
        interaction_id=row.interaction_id,
        group_id=row.group_id,
        prompt=orjson.loads(row.messages),
        contexts=orjson.loads(row.contexts),
        chosen=[{"role": "assistant", "content": chosen}],
        rejected=[{"role": "assistant", "content": rejected}],
        chosen_action=chosen_action,
        rejected_action=rejected_action,
        origin=origin,
    )
