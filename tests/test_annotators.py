"""A card for each annotator: spammers and careless people are named, good ones are not, and few answers say nothing."""

from __future__ import annotations

import math
import random

import pytest

from benchmarks.crowd import PEOPLE, batches
from tasks.aggregate import Vote
from tasks.annotators import Card, cards

NAMED = ("careless", "spam")


def card(found: tuple[Card, ...], who: str) -> Card:
    return next(c for c in found if c.annotator == who)


def test_the_order_of_votes_does_not_matter():
    votes = batches(0, 2, False)
    expected = cards(votes)
    random.Random(2).shuffle(votes)
    assert cards(votes) == expected


@pytest.mark.parametrize("constant", [False, True])
def test_a_spammer_and_a_careless_one_are_named_after_two_batches_over_seventy_classes(constant: bool):
    verdict = {c.annotator: c.verdict for c in cards(batches(1, 70, constant))}
    assert verdict["spam"] == "spam" and verdict["careless"] == "careless"
    assert all(verdict[who] not in NAMED for who in PEOPLE)


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 70])
@pytest.mark.parametrize("constant", [False, True])
def test_the_bad_are_named_and_the_good_are_not_in_nineteen_of_twenty_seeds(classes: int, constant: bool):
    seeds, good_named, spam, careless = 60, 0, 0, 0
    for seed in range(seeds):
        verdict = {c.annotator: c.verdict for c in cards(batches(seed, classes, constant))}
        good_named += any(verdict[who] in NAMED for who in PEOPLE)
        spam += verdict["spam"] in NAMED
        careless += verdict["careless"] in NAMED
    assert good_named <= 0.05 * seeds
    assert spam >= 0.95 * seeds
    # Two answers an item in two classes say little of somebody who is still right four times in five.
    assert careless >= (0.95 if classes == 70 else 0.5) * seeds


def test_always_the_most_common_answer_is_no_skill():
    draw = random.Random(4)
    votes = []
    for k in range(300):
        true = "yes" if draw.random() < 0.12 else "no"
        other = {"yes": "no", "no": "yes"}[true]
        votes += [Vote(f"i{k}", w, true if draw.random() < 0.95 else other) for w in ("ana", "ben", "cas")]
        votes.append(Vote(f"i{k}", "lazy", "no"))
    lazy = card(cards(votes), "lazy")
    assert lazy.verdict == "spam" and lazy.skill < 0.1
    assert lazy.agreement > 0.8, "which is why agreement alone names nobody"
    assert (lazy.bias, lazy.straight_line) == ("no", 1.0) and lazy.log_odds > 2


def test_few_answers_are_unknown():
    found = cards([Vote(f"i{k}", w, "x") for k in range(10) for w in "ab"])
    assert {c.verdict for c in found} == {"unknown"}
    assert "too few" in found[0].why[0]


def test_misses_on_gold_name_somebody_whom_nobody_overlaps():
    votes = [Vote(f"i{k}", "solo", "right" if k % 2 else "wrong") for k in range(40)]
    solo = card(cards(votes, gold={f"i{k}": "right" for k in range(40)}), "solo")
    assert (solo.gold_seen, solo.gold_right, solo.verdict) == (40, 20, "careless")
    assert "20 of 40 gold items right" in solo.why[0]
    assert solo.gold_low < 0.5 < solo.gold_high
    assert math.isnan(solo.agreement)


def test_a_person_who_is_right_on_gold_is_good():
    votes = [Vote(f"i{k}", "solo", "right" if k % 10 else "wrong") for k in range(40)]
    votes += [Vote(f"i{k}", "two", "right") for k in range(40)]
    assert card(cards(votes, gold={f"i{k}": "right" for k in range(40)}), "two").verdict == "good"


def test_hasty_answers_are_watched():
    votes = batches(2, 70, False)
    seconds = {(v.item, v.annotator): 2.0 if v.annotator == "ada" and int(v.item[1:]) % 3 == 0 else 30.0 for v in votes}
    found = cards(votes, seconds=seconds)
    ada = card(found, "ada")
    assert ada.median_seconds == 30.0 and card(found, "bruno").fast_share == 0
    assert ada.verdict == "watch" and "answers in less than" in ada.why[0]


def test_who_takes_what_is_shown_first_is_watched():
    draw = random.Random(3)
    votes, shown = [], {}
    for k in range(200):
        true = draw.choice("AB")
        for who in ("ana", "ben", "top"):
            order = draw.sample("AB", 2)
            first = who == "top" and draw.random() < 0.3
            votes.append(Vote(f"i{k}", who, order[0] if first else true))
            shown[f"i{k}", who] = order
    top = card(cards(votes, shown=shown), "top")
    assert top.first_share > 0.58 and top.verdict != "good"
    assert any("shown first" in why for why in top.why)
    assert not any("shown first" in why for why in card(cards(votes, shown=shown), "ana").why)


def test_where_nobody_is_good_nobody_is_singled_out():
    """Hard questions: everybody is right three times in five, and the typical is what people are measured by."""
    draw = random.Random(7)
    votes = []
    for k in range(400):
        true = draw.choice("AB")
        for who in draw.sample("abcdef", 4):
            votes.append(Vote(f"i{k}", who, true if draw.random() < 0.7 else {"A": "B", "B": "A"}[true]))
    assert sum(c.verdict in NAMED for c in cards(votes)) <= 1
