"""The wall between training and holdout: which side an interaction is on, decided once and for ever.

A group is a conversation together with all conversations that open with a near-duplicate question. Its side is a
keyed hash of its id, so that nobody chooses it and nothing moves it. An interaction whose own question is near to one
on the other side *straddles* the wall: it may be counted, but it is neither trained on nor judged on. With
`by_document`, conversations that open with the same retrieved document are a group as well, and an interaction whose first
document is on the other side straddles.

    members(new, known, params) -> [Member("ix_5c0…", group_id="gr_91a…", side="train", question_key="qk_77…"), …]
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from tasks.engine import Engine
from tasks.records import Member, content_id
from tasks.similar import near_pairs, normalise, shingles

TRAIN, HOLDOUT, STRADDLES = "train", "holdout", "straddles"
BLOCK = 20_000  # distinct questions that are compared with as many at a time: some megabytes


@dataclass(frozen=True, slots=True)
class SplitParams:
    key: str
    holdout_share: float
    near_duplicate: float
    by_document: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """What the wall looks at: who asked what, in which conversation. `opens` marks a conversation's first question, `document`
    is the first one that was retrieved for it ('' none)."""

    interaction_id: str
    session_id: str
    question: str
    opens: bool
    document: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """What was decided before: the side and group of every distinct question, and the group of every session."""

    questions: dict[str, tuple[str, str]]  # question_key -> (a question with that key, its side)
    groups: dict[str, str]  # question_key -> group_id of the conversation that asked it first
    sessions: dict[str, tuple[str, bool]]  # session_id -> (group_id, whether any of its turns straddles)
    # document -> (group_id and side of the first that used it and did not straddle); only looked at with `by_document`
    documents: dict[str, tuple[str, str]] = field(default_factory=dict)


def side_of(group_id: str, params: SplitParams) -> str:
    """HMAC-SHA256 under the key of params.yaml, as a number in [0, 1): below the holdout share is holdout."""
    mac = hmac.digest(params.key.encode(), group_id.encode(), "sha256")
    return HOLDOUT if int.from_bytes(mac[:8], "big") / 2**64 < params.holdout_share else TRAIN


def members(new: Sequence[Asked], known: Known, params: SplitParams, engine: Engine | None = None) -> list[Member]:
    """Place new interactions, in the order given (oldest first). Earlier decisions are never changed.

    The `engine` looks for near-duplicates, block by block; without one that is done here.
    """
    keys = [content_id("qk", normalise(a.question)) for a in new]
    fresh = {key: a.question for key, a in zip(keys, new, strict=True) if key not in known.questions}
    before = {k: text for k, (text, _) in known.questions.items()}
    neighbours = _neighbours(before, fresh, params.near_duplicate, engine.run if engine else map)

    sides = {key: side for key, (_, side) in known.questions.items()}
    groups, sessions, documents = dict(known.groups), dict(known.sessions), dict(known.documents)
    placed = []
    for asked, key in zip(new, keys, strict=True):
        # A straddling neighbour is in neither data set, so nearness to it leaks nothing; the very same question does.
        near = [k for k in neighbours.get(key, ()) if sides.get(k, STRADDLES) != STRADDLES]
        met = [k for k in (key, *near) if k in groups]
        home = documents.get(asked.document) if params.by_document and asked.document else None
        default = content_id("gr", key)
        if asked.opens and (home or met):
            default = home[0] if home else groups[met[0]]
        group, straddled = sessions.get(asked.session_id, (default, False))
        touched = {side_of(group, params), *(sides[k] for k in near), *([sides[key]] if key in sides else [])}
        touched |= {home[1]} if home else set()
        # Earlier turns are part of the prompt: after one that straddles, the rest of the conversation does too.
        side = STRADDLES if straddled or len(touched) > 1 else touched.pop()
        sessions[asked.session_id] = (group, side == STRADDLES)
        # The first to ask a question decides whose it is; later ones are compared with that.
        sides.setdefault(key, side)
        groups.setdefault(key, group)
        if asked.document and side != STRADDLES:
            documents.setdefault(asked.document, (group, side))
        placed.append(Member(asked.interaction_id, group, side, key))
    return placed


@dataclass(frozen=True, slots=True)
class Comparing:
    """Two blocks of questions, and the numbers that their first ones have."""

    name: str
    left: Sequence[str]
    right: Sequence[str]
    left_from: int
    right_from: int
    threshold: float


def compare(part: Comparing) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of all near pairs of one question of the left block and one of the right."""
    i, j = near_pairs(shingles(part.left), shingles(part.right), part.threshold)
    return i + part.left_from, j + part.right_from


def _neighbours(
    texts: dict[str, str], fresh: dict[str, str], threshold: float, run: Callable[..., Iterable]
) -> dict[str, list[str]]:
    """For each fresh question: the keys of near-duplicate questions, known ones first, then the other fresh ones."""
    if not fresh:
        return {}
    fresh_keys = list(fresh)
    all_keys = list(texts) + fresh_keys
    new, everything = list(fresh.values()), [*texts.values(), *fresh.values()]
    blocks = [(a, b) for a in range(0, len(new), BLOCK) for b in range(0, len(everything), BLOCK)]
    parts = [
        Comparing(f"questions from {a} against those from {b}", new[a : a + BLOCK], everything[b : b + BLOCK], a, b, threshold)
        for a, b in blocks
    ]
    # No pair is in two blocks, and every one is in one: put in order, they are what one look at everything gives.
    met = list(run(compare, parts))
    i, j = np.concatenate([m[0] for m in met]), np.concatenate([m[1] for m in met])
    order = np.lexsort((j, i))
    found: dict[str, list[str]] = {}
    for a, b in zip(i[order].tolist(), j[order].tolist(), strict=True):
        if all_keys[b] != fresh_keys[a]:
            found.setdefault(fresh_keys[a], []).append(all_keys[b])
    return found
