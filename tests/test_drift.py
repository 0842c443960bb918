"""Drift: found where something moved, silent where chance moves things or where they move too little to matter."""

from __future__ import annotations

import random

import pytest

from tasks.drift import CATEGORY, NUMBER, TEXT, DriftParams, drift

PARAMS = DriftParams(alpha=0.01, ks=0.1, v=0.1, auc=0.6, reference=4, sample=3000)
KINDS = {"question": TEXT, "latency_ms": NUMBER, "language": CATEGORY}
SUBJECTS = ("refund", "invoice", "battery", "puncture", "deposit", "voucher")
NEW = ("helmet", "gloves")
FORMS = ("where is my {}", "how do I get the {}", "the {} never came, what now", "tell me about the {} of {}", "{} {}")


def window(seed: int, n: int = 600, subjects=SUBJECTS, slower: float = 0.0, german: float = 0.1) -> dict[str, list]:
    draw = random.Random(seed)
    return {
        "question": [draw.choice(FORMS).format(*draw.choices(subjects, k=2)) for _ in range(n)],
        "latency_ms": [draw.gauss(100 + slower, 20) for _ in range(n)],
        "language": ["de" if draw.random() < german else "en" for _ in range(n)],
    }


def moved(reference: dict[str, list], current: dict[str, list]) -> set[str]:
    return {d.column for d in drift(reference, current, KINDS, PARAMS) if d.drifted}


@pytest.mark.parametrize(
    ("change", "column"),
    [({"subjects": SUBJECTS + NEW * 3}, "question"), ({"slower": 15}, "latency_ms"), ({"german": 0.3}, "language")],
)
def test_the_column_that_moved_is_named_and_no_other(change: dict, column: str):
    for seed in range(2):
        assert moved(window(seed), window(100 + seed, **change)) == {column}


def test_windows_of_the_same_traffic_do_not_drift():
    found = [d for seed in range(8) for d in drift(window(seed, 200), window(500 + seed, 200), KINDS, PARAMS)]
    assert len(found) == 24 and not any(d.drifted for d in found)
    # And that is not for the effect sizes alone: the tests keep their level.
    assert sum(d.p_value <= 0.05 for d in found) <= 0.05 * 24 + 3


def test_a_change_that_is_real_and_small_is_no_drift():
    kinds = {"latency_ms": NUMBER, "language": CATEGORY}
    found = {d.column: d for d in drift(window(1, 20_000), window(2, 20_000, slower=2, german=0.12), kinds, PARAMS)}
    assert found["latency_ms"].p_value < 0.01 and found["language"].p_value < 0.01
    assert not any(d.drifted for d in found.values())


def test_a_large_change_in_a_handful_of_rows_is_no_drift():
    found = {d.column: d for d in drift(window(1), window(2, 35, german=0.2), KINDS, PARAMS)}
    assert found["language"].effect > PARAMS.v and not found["language"].drifted
    assert drift(window(1), window(2, 10, slower=500), KINDS, PARAMS) == []


def test_a_question_that_everybody_repeats_is_not_learnt_by_heart():
    same = ["where is my refund"] * 300 + [f"{a} {b}" for a in SUBJECTS for b in SUBJECTS]
    reference = {"question": same, "latency_ms": [], "language": []}
    found = drift(reference, {**reference, "question": same[::-1]}, {"question": TEXT}, PARAMS)
    assert [d.drifted for d in found] == [False] and abs(found[0].effect - 0.5) < 0.1


def test_the_evidence_names_what_came_and_what_went():
    found = {d.column: d for d in drift(window(1), window(2, subjects=NEW, german=0.5), KINDS, PARAMS)}
    more, less = found["question"].evidence.split("; less ")
    assert any(w in more for w in NEW) and any(w in less for w in SUBJECTS)
    assert "de " in found["language"].evidence and "->" in found["language"].evidence


def test_missing_values_are_a_category_and_no_number():
    old = window(1)
    new = {**window(2), "language": [None] * 600, "latency_ms": [*window(3)["latency_ms"][:300], *[None] * 300]}
    found = {d.column: d for d in drift(old, new, KINDS, PARAMS)}
    assert found["language"].drifted and "(none) 0.0% -> 100.0%" in found["language"].evidence
    assert not found["latency_ms"].drifted and found["latency_ms"].current == 300


def test_the_order_of_rows_changes_nothing():
    old, new = window(1), window(2, subjects=(*SUBJECTS, *NEW))
    turned = {c: v[::-1] for c, v in new.items()}
    one, other = drift(old, new, KINDS, PARAMS), drift(old, turned, KINDS, PARAMS)
    assert [(d.column, round(d.effect, 6), d.drifted) for d in one] == [
        (d.column, round(d.effect, 6), d.drifted) for d in other
    ]
