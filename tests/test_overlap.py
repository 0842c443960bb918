"""How many people an item needs: no more than make it sure, no more than the budget, and never more than the most."""

from __future__ import annotations

from benchmarks.crowd import adaptive
from tasks.aggregate import Vote
from tasks.overlap import Decision, Limits, choice, labels, next_round, ranking, rating, spans, text
from tests.test_aggregate import crowd

ENOUGH, ASK, ADJUDICATE = Decision.ENOUGH, Decision.ASK_AGAIN, Decision.ADJUDICATE


def test_a_sure_posterior_of_two_is_enough_and_an_unsure_one_is_not():
    assert choice({"yes": 0.99, "no": 0.01}, 2) is ENOUGH
    assert choice({"yes": 0.6, "no": 0.4}, 2) is ASK


def test_one_is_never_enough_and_after_five_an_adjudicator_decides():
    assert choice({"yes": 1.0}, 1) is ASK
    assert choice({"yes": 0.6, "no": 0.4}, 5) is ADJUDICATE


def test_a_round_asks_new_items_first_and_then_the_least_sure():
    posterior = {"sure": {"x": 0.99}, "torn": {"x": 0.5, "y": 0.5}, "leaning": {"x": 0.8, "y": 0.2}}
    answers = {"sure": 2, "torn": 2, "leaning": 2, "new": 0}
    found = next_round(posterior, answers, Limits(budget=0.55))  # 11 answers: 6 given, 2 for the new one, 3 left
    assert found.ask == ("new", "torn", "leaning")
    assert found.enough == ("sure",) and found.wait == () and found.adjudicate == ()
    tight = next_round(posterior, answers, Limits(budget=0.45))  # one left
    assert tight.ask == ("new", "torn") and tight.wait == ("leaning",)


def test_who_is_not_sure_when_the_budget_is_spent_is_adjudicated():
    found = next_round({"torn": {"x": 0.5, "y": 0.5}}, {"torn": 3})
    assert found.ask == () and found.adjudicate == ("torn",)


def test_every_item_is_in_exactly_one_place():
    posterior = {f"i{k}": {"x": 0.5 + k / 40, "y": 0.5 - k / 40} for k in range(20)}
    answers = {f"i{k}": 2 + k % 4 for k in range(20)}
    found = next_round(posterior, answers, Limits(budget=0.9))
    assert sorted([*found.ask, *found.wait, *found.enough, *found.adjudicate]) == sorted(answers)


def test_good_people_are_asked_less_than_the_budget_and_poor_ones_never_more():
    for right, at_most in ((0.97, 2.4), (0.65, 3.0)):
        given, _ = crowd(dict.fromkeys("abcdefgh", right), 150, 2, 5)
        lot: dict[str, list[Vote]] = {}
        for vote in given:
            lot.setdefault(vote.item, []).append(vote)
        taken = adaptive(lot, choose=True)
        assert 2 <= len(taken) / len(lot) <= at_most
        assert len(set(taken)) == len(taken)


def test_ratings_within_a_step_are_enough():
    assert rating([4, 5]) is ENOUGH
    assert rating([2, 5]) is ASK
    assert rating([2, 5, 4]) is ADJUDICATE
    assert rating([4]) is ASK


def test_spans_that_mostly_overlap_are_enough():
    assert spans([[(0, 10, "bad")], [(0, 9, "bad")]]) is ENOUGH
    assert spans([[(0, 10, "bad")], [(8, 20, "bad")]]) is ASK
    assert spans([[(0, 10, "bad")], [(8, 20, "bad")], []]) is ADJUDICATE
    assert spans([[], []]) is ENOUGH


def test_sets_and_rankings():
    assert labels([{"rude", "long"}, {"rude", "long"}]) is ENOUGH
    assert labels([{"rude"}, {"long"}]) is ASK
    assert labels([{"rude"}, {"long"}, set()]) is ADJUDICATE
    assert ranking([[["x"], ["y"], ["z"]], [["x"], ["y", "z"]]]) is ENOUGH
    assert ranking([[["x"], ["y"], ["z"]], [["z"], ["y"], ["x"]]]) is ASK
    assert ranking([[["x"]], [["x"]]]) is ASK, "one name ranks nothing"


def test_a_text_is_enough_when_a_reviewer_accepts_it():
    assert text([], 0) is ASK
    assert text([], 1) is ADJUDICATE
    assert text([True], 1) is ENOUGH
    assert text([False], 1) is ASK
    assert text([False, False], 2) is ADJUDICATE
