"""A crowd becomes one consensus: by the evidence of its own votes, in any order, with ties in sight and gold above all."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from benchmarks.crowd import accuracy, read
from tasks.aggregate import METHODS, Vote, consensus
from tests.handmade import SHARED

SETS = sorted((SHARED / "data" / "crowd").glob("*__label.csv"))
real = pytest.mark.skipif(not SETS, reason="../shared/data/crowd is not here")


def crowd(
    right: dict[str, float], items: int = 200, classes: int = 3, overlap: int = 3, seed: int = 1
) -> tuple[list[Vote], dict[str, str]]:
    """Votes by people who are right with the given probability and otherwise pick any other class; and the truth."""
    draw = random.Random(seed)
    votes, truth = [], {}
    for k in range(items):
        true = draw.randrange(classes)
        truth[f"i{k:03d}"] = f"c{true}"
        for who in draw.sample(sorted(right), overlap):
            said = true if draw.random() < right[who] else draw.choice([c for c in range(classes) if c != true])
            votes.append(Vote(f"i{k:03d}", who, f"c{said}"))
    return votes, truth


def one_sided(items: int = 300, seed: int = 3) -> tuple[list[Vote], dict[str, str]]:
    """Two classes, one rare, and people who each see one of the two badly: what a single skill cannot say."""
    draw = random.Random(seed)
    people = {f"p{k}": (0.95, 0.35) if k % 3 else (0.5, 0.95) for k in range(12)}
    votes, truth = [], {}
    for k in range(items):
        true = draw.random() < 0.35
        truth[f"i{k:03d}"] = "yes" if true else "no"
        for who in draw.sample(sorted(people), 9):
            no_right, yes_right = people[who]
            right = draw.random() < (yes_right if true else no_right)
            votes.append(Vote(f"i{k:03d}", who, "yes" if right == true else "no"))
    return votes, truth


@pytest.mark.parametrize("method", ["auto", *METHODS])
def test_the_order_of_votes_does_not_matter(method: str):
    votes, _ = crowd({"ana": 0.9, "ben": 0.8, "cas": 0.6, "dot": 0.5})
    expected = consensus(votes, method=method)
    for seed in range(3):
        random.Random(seed).shuffle(votes)
        assert consensus(votes, method=method) == expected


@pytest.mark.parametrize("method", METHODS)
def test_a_posterior_is_a_probability_and_so_is_a_quality(method: str):
    votes, _ = crowd({"ana": 0.99, "ben": 0.2, "cas": 0.6})
    found = consensus(votes, method=method)
    for shares in found.posterior.values():
        assert all(0 <= p <= 1 for p in shares.values())
        # With one coin, labels that nobody gave have a share that is not listed.
        assert sum(shares.values()) <= 1 + 1e-9 and (method == "one-coin" or sum(shares.values()) > 0.999)
    assert all(0 < q < 1 for q in found.quality.values())


def test_nobody_voted():
    found = consensus([])
    assert (found.posterior, found.quality) == ({}, {})


def test_an_unknown_method_is_refused_by_name():
    with pytest.raises(ValueError, match="no method 'mace'"):
        consensus([Vote("1", "a", "x")], method="mace")


def test_one_vote_an_item_leaves_nothing_to_compare_and_the_majority_stays():
    found = consensus([Vote("1", "a", "x"), Vote("2", "b", "y")])
    assert (found.method, found.evidence) == ("majority", ())
    assert "no item has two votes" in found.why


def test_a_tie_stays_a_tie_with_equal_shares_and_is_broken_by_name():
    found = consensus([Vote("1", "a", "yes"), Vote("1", "b", "no")], method="majority")
    assert found.posterior["1"] == {"no": 0.5, "yes": 0.5}
    assert found.label("1") == "no"


def test_the_same_answer_twice_counts_once():
    once = [Vote("1", "a", "x"), Vote("1", "b", "y"), Vote("1", "c", "y")]
    assert consensus([*once, once[0], once[0]], method="majority") == consensus(once, method="majority")


@pytest.mark.parametrize("method", METHODS)
def test_one_more_vote_for_a_label_never_makes_it_less_probable(method: str):
    votes, _ = crowd({"ana": 0.9, "ben": 0.85, "cas": 0.8, "dot": 0.75, "eve": 0.9}, 120, 2)
    for item in ("i003", "i050", "i100"):
        silent = min({"ana", "ben", "cas", "dot", "eve"} - {v.annotator for v in votes if v.item == item})
        before = consensus(votes, method=method)
        label = before.label(item)
        after = consensus([*votes, Vote(item, silent, label)], method=method)
        assert after.posterior[item][label] >= before.posterior[item][label] - 1e-3


@pytest.mark.parametrize("method", METHODS[1:])
def test_a_spammers_weight_falls(method: str):
    """Two careful people and three who answer at random: the two are believed."""
    people = {"ana": 0.95, "ben": 0.95, "r1": 1 / 3, "r2": 1 / 3, "r3": 1 / 3}
    votes, truth = crowd(people, 400, 3, 5)
    found = consensus(votes, method=method)
    assert min(found.quality["ana"], found.quality["ben"]) > max(found.quality[f"r{k}"] for k in (1, 2, 3)) + 0.2
    assert accuracy(found, truth)[0] > accuracy(consensus(votes, method="majority"), truth)[0] + 0.03


@pytest.mark.parametrize("method", METHODS)
def test_gold_is_what_it_is(method: str):
    votes, truth = crowd({"ana": 0.9, "ben": 0.9, "cas": 0.9}, 80)
    item = "i007"
    other = next(c for c in ("c0", "c1", "c2") if c != truth[item])
    found = consensus(votes, gold={item: other, "i008": "said by nobody"}, method=method)
    assert found.posterior[item][other] == pytest.approx(1)
    assert found.label("i008") == "said by nobody"


def test_two_careless_people_who_agree_are_not_certain():
    votes, _ = crowd(dict.fromkeys("abcdef", 0.65), 300, 2, 2)
    found = consensus(votes, method="one-coin")
    agreed = [max(s.values()) for s in found.posterior.values() if len(s) == 1]
    assert agreed and 0.6 < np.mean(agreed) < 0.98


def test_gold_teaches_who_is_right():
    """Two camps of equal size contradict each other on everything; three gold items in ten decide."""
    votes, truth = [], {}
    for k in range(60):
        truth[f"i{k:02d}"] = "yes" if k % 2 else "no"
        for who in ("ana", "ben"):
            votes.append(Vote(f"i{k:02d}", who, truth[f"i{k:02d}"]))
        for who in ("xia", "yan"):
            votes.append(Vote(f"i{k:02d}", who, "no" if k % 2 else "yes"))
    gold = {item: truth[item] for item in list(truth)[:18]}
    found = consensus(votes, gold, "one-coin")
    assert accuracy(found, truth)[0] == 1
    assert found.quality["ana"] > 0.9 and found.quality["xia"] < 0.2


def test_a_method_that_loses_to_the_majority_on_gold_is_put_aside():
    """A clique that answers alike, and wrongly, on part of the items fools every model; gold does not let it."""
    draw = random.Random(5)
    votes, truth = [], {}
    for k in range(300):
        truth[f"i{k:03d}"] = true = draw.choice(["no", "yes"])
        wrong = "no" if true == "yes" else "yes"
        for who in ("x1", "x2"):  # always of one mind, and no better than a coin
            votes.append(Vote(f"i{k:03d}", who, true if k % 2 else wrong))
        for who in ("a", "b", "c"):
            votes.append(Vote(f"i{k:03d}", who, true if draw.random() < 0.75 else wrong))
    alone = consensus(votes)
    assert alone.method != "majority"
    told = consensus(votes, gold={f"i{k:03d}": truth[f"i{k:03d}"] for k in range(0, 300, 2)})
    assert told.method == "majority" and "gold items" in told.why


def test_sixty_gold_items_are_not_enough_to_overrule_by_luck():
    votes, truth = one_sided()
    gold = dict(list(truth.items())[:60])
    assert consensus(votes, gold).method == consensus(votes).method


def test_open_answers_of_six_people_take_one_coin():
    people = {"ada": 0.97, "bo": 0.96, "chi": 0.95, "dmi": 0.93, "eme": 0.9, "fri": 0.55}
    votes, truth = crowd(people, 300, 70, 3)
    found = consensus(votes)
    assert found.method == "one-coin"
    assert accuracy(found, truth)[0] >= accuracy(consensus(votes, method="majority"), truth)[0]
    assert found.quality["fri"] < 0.7


def test_people_who_see_one_class_badly_take_dawid_skene():
    votes, truth = one_sided()
    found = consensus(votes)
    assert found.method == "dawid-skene"
    assert accuracy(found, truth)[0] > accuracy(consensus(votes, method="one-coin"), truth)[0] + 0.02


def test_the_evidence_says_why():
    found = consensus(one_sided()[0])
    gains = {e.method: (e.gain, e.error) for e in found.evidence}
    assert gains["dawid-skene"][0] > 3 * gains["dawid-skene"][1]
    assert "nats a held-out vote" in found.why


def test_open_classes_need_no_table():
    votes = [Vote(f"i{k}", who, f"said {k} {who}") for k in range(3000) for who in ("a", "b")]
    assert consensus(votes).method in ("one-coin", "majority")


@real
@pytest.mark.parametrize("path", SETS, ids=lambda p: p.name.split("__")[2])
def test_the_default_is_never_worse_than_the_majority_on_a_real_crowd(path: Path):
    votes, truth = read(path, path.with_name(path.name.replace("__label", "__truth")))
    found = consensus(votes)
    assert accuracy(found, truth)[0] >= accuracy(consensus(votes, method="majority"), truth)[0] - 0.005
    floor = {"bluebird": 0.8885, "dog": 0.8425, "ZenCrowd_us": 0.91}.get(path.name.split("__")[2], 0)
    assert accuracy(found, truth)[0] >= floor


@pytest.mark.slow
@real
@pytest.mark.parametrize("path", SETS, ids=lambda p: p.name.split("__")[2])
def test_dawid_skene_agrees_with_crowd_kit(path: Path):
    import pandas as pd
    from crowdkit.aggregation import DawidSkene

    votes, truth = read(path, path.with_name(path.name.replace("__label", "__truth")))
    table = pd.DataFrame(votes, columns=["task", "worker", "label"])
    oracle = DawidSkene(n_iter=100).fit_predict(table)
    found = consensus(votes, method="dawid-skene")
    assert np.mean([found.label(i) == oracle[i] for i in found.posterior]) >= 0.95
    theirs = np.mean([oracle[i] == t for i, t in truth.items() if i in found.posterior])
    assert accuracy(found, truth)[0] >= theirs - 0.02
