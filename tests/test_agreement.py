"""Several people become one label: who errs weighs little, and nothing depends on order."""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Mapping
from pathlib import Path

import krippendorff
import numpy as np
import pytest

from tasks.agreement import AgreementParams, aggregate
from tasks.records import Annotation
from tests.handmade import SHARED, annotation

PARAMS = AgreementParams(2, 0.7)
ANSWERS = ("refund", "invoice", "battery", "puncture", "escalate")


def crowd(
    right: Mapping[str, float], interactions: int = 120, overlap: int = 3, seed: int = 1
) -> tuple[list[Annotation], dict[str, str], dict[str, str]]:
    """Annotations by people who are right with the given probability; what was served; and the truth."""
    draw = random.Random(seed)
    served, truth, answers = {}, {}, []
    for k in range(interactions):
        name = f"{k:03d}"
        served[f"ix_{name}"] = draw.choice(ANSWERS)
        truth[f"ix_{name}"] = wanted = draw.choice(ANSWERS)
        for who in draw.sample(sorted(right), overlap):
            said = wanted if draw.random() < right[who] else draw.choice([a for a in ANSWERS if a != wanted])
            same = said == served[f"ix_{name}"]
            answers.append(annotation(name, who, "right" if same else "wrong", "" if same else said))
    return answers, served, truth


def test_three_who_agree_make_a_label():
    found = aggregate([annotation("1", w) for w in "abc"], {"ix_1": "refund"}, PARAMS)
    (label,) = found.labels
    assert (label.verdict, label.target, label.votes, label.state) == ("right", "refund", 3, "agreed")
    assert label.p_wrong < 0.1 and label.p_target > 0.9


def test_a_correction_that_most_want_becomes_the_target():
    answers = [annotation("1", "a", "wrong", "invoice"), annotation("1", "b", "wrong", "invoice"), annotation("1", "c")]
    (label,) = aggregate(answers, {"ix_1": "refund"}, PARAMS).labels
    assert (label.verdict, label.target) == ("wrong", "invoice")
    assert label.p_wrong > 0.5


def test_a_correction_that_names_what_was_served_says_right():
    (label,) = aggregate([annotation("1", w, "wrong", "refund") for w in "ab"], {"ix_1": "refund"}, PARAMS).labels
    assert (label.verdict, label.target) == ("right", "refund")


def test_wrong_without_a_correction_has_no_target():
    (label,) = aggregate([annotation("1", w, "wrong") for w in "abc"], {"ix_1": "refund"}, PARAMS).labels
    assert (label.verdict, label.target, label.state) == ("wrong", "", "agreed")


def test_right_about_a_text_that_is_no_approved_answer_has_no_target():
    (label,) = aggregate([annotation("1", w) for w in "abc"], {"ix_1": ""}, PARAMS).labels
    assert (label.verdict, label.target) == ("right", "")


def test_too_few_votes_leave_a_label_open():
    (label,) = aggregate([annotation("1", "a")], {"ix_1": "refund"}, PARAMS).labels
    assert label.state == "open"


def test_two_who_disagree_leave_a_label_open():
    (label,) = aggregate(
        [annotation("1", "a"), annotation("1", "b", "wrong", "invoice")], {"ix_1": "refund"}, PARAMS
    ).labels
    assert label.state == "open"
    assert 0.3 < label.p_wrong < 0.7


def test_nobody_said_anything():
    found = aggregate([], {}, PARAMS)
    assert found.labels == [] and found.skills == {} and math.isnan(found.alpha)


def test_two_careful_people_outvote_two_careless_ones():
    answers, served, _ = crowd({"ana": 0.97, "ben": 0.97, "cas": 0.45, "dot": 0.45}, 150, 3)
    contested = [
        annotation("zzz", "ana", "wrong", "invoice"),
        annotation("zzz", "ben", "wrong", "invoice"),
        annotation("zzz", "cas", "wrong", "battery"),
        annotation("zzz", "dot", "wrong", "battery"),
    ]
    found = aggregate([*answers, *contested], served | {"ix_zzz": "refund"}, PARAMS)
    label = next(x for x in found.labels if x.interaction_id == "ix_zzz")
    assert (label.target, label.state) == ("invoice", "agreed")


def test_skills_come_in_the_order_of_the_truth_and_near_it():
    right = {"ana": 0.95, "ben": 0.85, "cas": 0.7, "dot": 0.5}
    answers, served, _ = crowd(right, 400)
    skills = aggregate(answers, served, PARAMS).skills
    assert sorted(skills, key=skills.__getitem__, reverse=True) == list(right)
    assert all(abs(skills[w] - right[w]) < 0.08 for w in right)


def test_it_is_right_more_often_than_counting_votes_where_skills_differ():
    answers, served, truth = crowd({"ana": 0.95, "ben": 0.95, "cas": 0.35, "dot": 0.35, "eve": 0.35}, 400)
    labels = aggregate(answers, served, PARAMS).labels
    votes: dict[str, list[str]] = {}
    for a in answers:
        votes.setdefault(a.interaction_id, []).append(a.parsed.get("correction") or served[a.interaction_id])
    majority = sum(max(sorted(set(v)), key=v.count) == truth[i] for i, v in votes.items())
    assert sum(x.target == truth[x.interaction_id] for x in labels) > majority + 20


def test_the_posterior_is_calibrated_on_a_simulated_crowd():
    answers, served, truth = crowd({w: 0.8 for w in "abcdef"}, 600)
    labels = aggregate(answers, served, PARAMS).labels
    hit = np.mean([x.target == truth[x.interaction_id] for x in labels])
    assert abs(np.mean([x.p_target for x in labels]) - hit) < 0.05
    wrong = np.mean([served[i] != t for i, t in truth.items()])
    assert abs(np.mean([x.p_wrong for x in labels]) - wrong) < 0.05


def test_the_order_of_annotations_does_not_matter():
    answers, served, _ = crowd({"ana": 0.9, "ben": 0.8, "cas": 0.6, "dot": 0.5})
    expected = aggregate(answers, served, PARAMS)
    for seed in range(5):
        random.Random(seed).shuffle(answers)
        assert aggregate(answers, served, PARAMS) == expected


def test_probabilities_are_probabilities():
    answers, served, _ = crowd({"ana": 0.99, "ben": 0.2, "cas": 0.6})
    for label in aggregate(answers, served, PARAMS).labels:
        assert 0 <= label.p_wrong <= 1 and 0 < label.p_target <= 1


def test_alpha_is_the_one_of_a_worked_example():
    # Krippendorff (2011), "Computing Krippendorff's alpha-reliability", example C: four observers, nominal, alpha .743.
    rows = {
        "A": [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        "B": [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        "C": [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        "D": [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    }
    answers = [
        annotation(f"{k:02d}", who, "wrong", f"answer-{said}")
        for who, said_of in rows.items()
        for k, said in enumerate(said_of)
        if said
    ]
    assert aggregate(answers, {}, PARAMS).alpha == pytest.approx(0.743, abs=5e-4)


def test_alpha_agrees_with_the_library_on_a_simulated_crowd():
    answers, served, _ = crowd({"ana": 0.9, "ben": 0.8, "cas": 0.6})
    ids, people = sorted({a.interaction_id for a in answers}), sorted({a.annotator for a in answers})
    table = np.full((len(people), len(ids)), np.nan)
    for a in answers:
        said = a.parsed.get("correction") or served[a.interaction_id]
        table[people.index(a.annotator), ids.index(a.interaction_id)] = ANSWERS.index(said)
    expected = krippendorff.alpha(reliability_data=table, level_of_measurement="nominal")
    assert aggregate(answers, served, PARAMS).alpha == pytest.approx(expected, abs=1e-9)


def test_alpha_is_unknown_where_nobody_overlaps_or_nobody_could_differ():
    assert math.isnan(aggregate([annotation("1", "a"), annotation("2", "b")], {}, PARAMS).alpha)
    assert math.isnan(aggregate([annotation("1", "a"), annotation("1", "b")], {}, PARAMS).alpha)


CROWDS = sorted((SHARED / "data" / "crowd").glob("*__label.csv"))


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as rows:
        return list(csv.DictReader(rows))


def accuracy(found: Mapping[str, str], truth: Mapping[str, str]) -> float:
    return sum(found[i] == t for i, t in truth.items() if i in found) / sum(i in found for i in truth)


@pytest.mark.slow
@pytest.mark.skipif(not CROWDS, reason="../shared/data/crowd is not here")
@pytest.mark.parametrize("path", CROWDS, ids=lambda p: p.name.split("__")[2])
def test_it_is_as_right_as_crowd_kit_on_a_real_crowd(path: Path):
    import pandas as pd
    from crowdkit.aggregation import DawidSkene, OneCoinDawidSkene

    class Oracle(OneCoinDawidSkene):
        """Without a prior from how common an answer is, as Zhang et al. (2014) write the model and as ours is."""

        @staticmethod
        def _e_step(data, priors, errors):
            return DawidSkene._e_step(data, priors * 0 + 1 / len(priors), errors)

    answers = list({(r["item"], r["worker"]): r["label"] for r in table(path)}.items())
    truth = {r["item"]: r["truth"] for r in table(path.with_name(path.name.replace("__label", "__truth")))}
    frame = pd.DataFrame([(i, w, x) for (i, w), x in answers], columns=["task", "worker", "label"])
    oracle = Oracle(n_iter=100).fit_predict(frame)
    made = [annotation(i, w, "wrong", f"says {x}") for (i, w), x in answers]
    labels = aggregate(made, {}, PARAMS).labels
    ours = {x.interaction_id.removeprefix("ix_"): x.target.removeprefix("says ") for x in labels}
    theirs = {str(i): str(x) for i, x in oracle.items()}
    assert set(ours) == set(theirs)
    assert accuracy(ours, truth) == pytest.approx(accuracy(theirs, truth), abs=0.02)
    same = sum(ours[i] == theirs[i] for i in ours) / len(ours)
    assert same >= 0.95, f"only {same:.1%} of the labels are the same"
