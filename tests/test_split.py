"""The wall: an old group never changes side, and no two sides ever hold the same question."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.records import Member
from tasks.similar import near_pairs, shingles
from tasks.split import HOLDOUT, STRADDLES, TRAIN, Asked, Known, SplitParams, members, side_of

PARAMS = SplitParams("a key", 0.25, 0.65)
NOBODY = Known({}, {}, {})
SUBJECTS = ("refund", "invoice", "battery", "puncture", "brakes", "deposit", "insurance", "address", "voucher", "helmet",
            "delivery", "password")  # fmt: skip
FORMS = ("where is my {}", "how do I get the {}", "the {} never came, what now", "{}", "WHERE is my {}??", "where's my {} please",
         "please tell me about the {} of my sister", "i was charged twice for one {}")  # fmt: skip


def traffic(seed: int, sessions: int = 60) -> list[Asked]:
    """Conversations of one to three turns, interleaved in time, with questions that repeat and almost repeat; most with a
    document."""
    draw = random.Random(seed)
    turns = []
    for s in range(sessions):
        at = draw.random()
        for turn in range(draw.choice((1, 1, 2, 3))):
            question = draw.choice(FORMS).format(draw.choice(SUBJECTS))
            document = draw.choice(("", *(f"kb-{k}" for k in range(9))))
            turns.append((at + turn * 0.05, Asked(f"ix_{s}_{turn}", f"s-{s}", question, turn == 0, document)))
    return [asked for _, asked in sorted(turns, key=lambda t: t[0])]


def known_from(asked: Iterable[Asked], placed: Iterable[Member]) -> Known:
    """What the lake hands back of earlier decisions: the first of each question, and each conversation's group."""
    questions: dict[str, tuple[str, str]] = {}
    groups: dict[str, str] = {}
    sessions: dict[str, tuple[str, bool]] = {}
    documents: dict[str, tuple[str, str]] = {}
    for a, m in zip(asked, placed, strict=True):
        if a.document and m.side != STRADDLES:
            documents.setdefault(a.document, (m.group_id, m.side))
        questions.setdefault(m.question_key, (a.question, m.side))
        groups.setdefault(m.question_key, m.group_id)
        group, straddled = sessions.get(a.session_id, (m.group_id, False))
        sessions[a.session_id] = (group, straddled or m.side == STRADDLES)
    return Known(questions, groups, sessions, documents)


def placed_in(asked: list[Asked], cuts: list[int], params: SplitParams = PARAMS) -> list[Member]:
    """Place the traffic batch by batch, each knowing only what was decided before."""
    placed: list[Member] = []
    for start, end in zip([0, *cuts], [*cuts, len(asked)], strict=True):
        placed += members(asked[start:end], known_from(asked[:start], placed), params)
    return placed


def in_batches(asked: list[Asked], cuts: list[float], draw: random.Random) -> tuple[list[Asked], list[int]]:
    """The same traffic in batches that arrive in any order: whole parts of it come late, or early."""
    edges = [0, *sorted(int(c * len(asked)) for c in cuts), len(asked)]
    batches = [asked[a:b] for a, b in pairwise(edges)]
    draw.shuffle(batches)
    return [a for batch in batches for a in batch], list(accumulate(map(len, batches)))[:-1]


BY_DOCUMENT = replace(PARAMS, by_document=True)
walls = pytest.mark.parametrize("params", [PARAMS, BY_DOCUMENT], ids=["questions", "documents too"])


@walls
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), cuts=st.lists(st.floats(0, 1), max_size=5), draw=st.randoms())
def test_no_group_ever_changes_side_in_whatever_order_batches_arrive(params, seed, cuts, draw):
    asked, ends = in_batches(traffic(seed), cuts, draw)
    placed = placed_in(asked, ends, params)
    # What was decided after each batch is what is decided at the end; and a group has the side of its id, or straddles.
    for end in ends:
        assert placed_in(asked[:end], [e for e in ends if e < end], params) == placed[:end]
    assert all(m.side in (STRADDLES, side_of(m.group_id, params)) for m in placed)
    kept = [(a, m) for a, m in zip(asked, placed, strict=True) if m.side != STRADDLES]
    for sides in (
        by_key((m.group_id, m.side) for _, m in kept),
        by_key((a.session_id, m.side) for a, m in kept),
        by_key((m.question_key, m.side) for _, m in kept),
        by_key((a.document, m.side) for a, m in kept if a.document) if params.by_document else {},
    ):
        assert all(len(s) == 1 for s in sides.values())
    train, sealed = ([a.question for a, m in kept if m.side == side] for side in (TRAIN, HOLDOUT))
    assert near_pairs(shingles(train), shingles(sealed), params.near_duplicate)[0].tolist() == []


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_conversations_that_open_with_the_same_document_are_a_group(seed: int):
    asked = traffic(seed)
    placed = members(asked, NOBODY, BY_DOCUMENT)
    group: dict[str, str] = {}  # of whoever used a document first and did not straddle
    for a, m in zip(asked, placed, strict=True):
        if a.document and m.side != STRADDLES:
            assert not a.opens or m.group_id == group.get(a.document, m.group_id)
            group.setdefault(a.document, m.group_id)


def test_documents_count_only_where_asked_and_an_unknown_one_joins_nobody():
    asked = [Asked(f"ix_{k}", f"s-{k}", f"{word} and nothing but {word}", True, "kb-1") for k, word in enumerate(SUBJECTS)]
    assert len({m.group_id for m in members(asked, NOBODY, PARAMS)}) == len(SUBJECTS)
    assert len({m.group_id for m in members(asked, NOBODY, BY_DOCUMENT)}) == 1
    without = [replace(a, document="") for a in asked]
    assert members(without, NOBODY, BY_DOCUMENT) == members(asked, NOBODY, PARAMS)


def test_a_later_turn_with_a_document_of_the_other_side_straddles():
    opening = [Asked(f"ix_{k}", f"s-{k}", f"{w} and nothing but {w}", True, f"kb-{k}") for k, w in enumerate(SUBJECTS)]
    placed = members(opening, NOBODY, BY_DOCUMENT)
    train = next(k for k, m in enumerate(placed) if m.side == TRAIN)
    sealed = next(k for k, m in enumerate(placed) if m.side == HOLDOUT)
    more = [
        Asked("ix_a", f"s-{train}", "what nobody else ever said", False, f"kb-{sealed}"),
        Asked("ix_b", f"s-{train}", "nor this, on my honour", False, f"kb-{train}"),
        Asked("ix_c", f"s-{sealed}", "thank you so very much", False, f"kb-{sealed}"),
    ]
    found = members(more, known_from(opening, placed), BY_DOCUMENT)
    assert [m.side for m in found] == [STRADDLES, STRADDLES, HOLDOUT]


def by_key(pairs: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for key, value in pairs:
        found.setdefault(key, set()).add(value)
    return found


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.floats(0, 1), max_size=5))
def test_sides_are_the_same_however_the_data_came_in_batches(seed: int, cuts: list[float]):
    asked = traffic(seed)
    assert placed_in(asked, sorted(int(c * len(asked)) for c in cuts)) == placed_in(asked, [])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1))
def test_an_old_group_never_changes_side_as_data_grows(seed: int, cut: float):
    asked = traffic(seed)
    early = members(asked[: int(cut * len(asked))], NOBODY, PARAMS)
    late = placed_in(asked, [len(early)])
    assert late[: len(early)] == early
    sides: dict[str, set[str]] = {}
    for m in late:
        sides.setdefault(m.group_id, set()).add(m.side)
    assert all(len(s - {STRADDLES}) <= 1 for s in sides.values())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.floats(0, 1), max_size=3))
def test_no_question_has_a_near_duplicate_on_the_other_side(seed: int, cuts: list[float]):
    asked = traffic(seed)
    placed = placed_in(asked, sorted(int(c * len(asked)) for c in cuts))
    by_side = {
        side: [a.question for a, m in zip(asked, placed, strict=True) if m.side == side] for side in (TRAIN, HOLDOUT)
    }
    if not by_side[TRAIN] or not by_side[HOLDOUT]:
        return
    i, j = near_pairs(shingles(by_side[TRAIN]), shingles(by_side[HOLDOUT]), PARAMS.near_duplicate)
    assert [(by_side[TRAIN][a], by_side[HOLDOUT][b]) for a, b in zip(i, j, strict=True)] == []


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_a_conversation_stays_on_one_side_but_for_the_turns_that_straddle(seed: int):
    asked = traffic(seed)
    sides: dict[str, list[str]] = {}
    for a, m in zip(asked, members(asked, NOBODY, PARAMS), strict=True):
        sides.setdefault(a.session_id, []).append(m.side)
    for turns in sides.values():
        assert len(set(turns) - {STRADDLES}) <= 1
        # What was said before is part of the prompt: after a turn that straddles, all later ones do.
        if STRADDLES in turns:
            assert set(turns[turns.index(STRADDLES) :]) == {STRADDLES}


@pytest.mark.parametrize(
    "variant",
    [
        "WHERE is my refund",
        "where is my refund?!",
        "  where  is my refund",
        "where is my re\u200bfund",
        "ｗhere is my refund",
    ],
)
def test_a_variant_of_a_question_is_the_same_question(variant: str):
    asked = [Asked("ix_1", "s-1", "where is my refund", True), Asked("ix_2", "s-2", variant, True)]
    first, second = members(asked, NOBODY, PARAMS)
    assert (first.question_key, first.group_id, first.side) == (second.question_key, second.group_id, second.side)


def test_a_near_duplicate_joins_the_group_of_the_first():
    asked = [Asked("ix_1", "s-1", "where is my refund", True), Asked("ix_2", "s-2", "where is my refunds", True)]
    first, second = members(asked, NOBODY, PARAMS)
    assert first.question_key != second.question_key
    assert (first.group_id, first.side) == (second.group_id, second.side)


def test_a_later_turn_that_asks_what_is_asked_on_the_other_side_straddles():
    questions = [f"{word} and nothing but {word}" for word in SUBJECTS]
    openers = members([Asked(f"ix_{k}", f"s-{k}", q, True) for k, q in enumerate(questions)], NOBODY, PARAMS)
    train = next(k for k, m in enumerate(openers) if m.side == TRAIN)
    sealed = next(k for k, m in enumerate(openers) if m.side == HOLDOUT)
    both = [
        Asked("ix_a", "s-a", questions[train], True),
        Asked("ix_b", "s-b", questions[sealed], True),
        Asked("ix_c", "s-a", questions[sealed], False),
        Asked("ix_d", "s-a", "something that nobody else ever said", False),
    ]
    assert [m.side for m in members(both, NOBODY, PARAMS)] == [TRAIN, HOLDOUT, STRADDLES, STRADDLES]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5, 1.0])
def test_the_share_of_holdout_groups_is_near_the_parameter(share: float):
    params = SplitParams("a key", share, 0.65)
    sides = [side_of(f"gr_{k}", params) for k in range(4000)]
    # Four standard deviations of a coin with that bias.
    assert abs(sides.count(HOLDOUT) / 4000 - share) <= 4 * (share * (1 - share) / 4000) ** 0.5


def test_a_larger_holdout_keeps_what_was_in_the_smaller_one():
    groups = [f"gr_{k}" for k in range(500)]
    small = {g for g in groups if side_of(g, SplitParams("a key", 0.2, 0.65)) == HOLDOUT}
    large = {g for g in groups if side_of(g, SplitParams("a key", 0.4, 0.65)) == HOLDOUT}
    assert small < large


def test_nobody_can_tell_the_side_without_the_key():
    groups = [f"gr_{k}" for k in range(500)]
    one = [side_of(g, SplitParams("one", 0.5, 0.65)) for g in groups]
    other = [side_of(g, SplitParams("other", 0.5, 0.65)) for g in groups]
    assert 150 < sum(a == b for a, b in zip(one, other, strict=True)) < 350
