"""Agreement by type of answer: the library's alpha, an interval over items, and raw agreement where alpha knows nothing."""

from __future__ import annotations

import math
import random

import krippendorff
import numpy as np
import pytest

from tasks.reliability import (
    Answer,
    choices,
    jaccard,
    likeness,
    masi,
    rankings,
    ratings,
    sets,
    soft_f1,
    spans,
    strict_f1,
    tau,
    texts,
)

# Krippendorff (2011), "Computing Krippendorff's alpha-reliability", example C: four observers, some silent.
OBSERVED = {
    "A": [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    "B": [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    "C": [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    "D": [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
}
PUBLISHED = [
    Answer(f"u{k:02d}", who, said) for who, row in OBSERVED.items() for k, said in enumerate(row) if said is not None
]


def rated(items: int, spread: float, seed: int = 1, people: str = "abc") -> list[Answer]:
    """Ratings 1 to 5 that differ from an item's own by a normal error, rounded."""
    draw = random.Random(seed)
    answers = []
    for k in range(items):
        own = draw.randint(1, 5)
        answers += [Answer(f"i{k}", w, min(5, max(1, round(draw.gauss(own, spread))))) for w in people]
    return answers


@pytest.mark.parametrize(("level", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_is_the_published_one(level: str, published: float):
    found = choices(PUBLISHED) if level == "nominal" else ratings(PUBLISHED, level)
    assert found.value == pytest.approx(published, abs=1.5e-3)
    assert found.low <= found.value <= found.high
    assert (found.items, found.answers) == (11, 40)


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
def test_the_resamples_have_the_alpha_of_the_library(level: str):
    """A bootstrap of one kind of item only cannot differ from the value; so the vectorised formula is the library's."""
    answers = [a for k in range(3) for a in (Answer(f"{k}", "a", 1), Answer(f"{k}", "b", 2), Answer(f"{k}", "c", 2))]
    found = choices(answers) if level == "nominal" else ratings(answers, level)
    assert found.low == pytest.approx(found.value) and found.high == pytest.approx(found.value)


def test_the_interval_narrows_with_items_and_holds_the_value_of_many():
    many = ratings(rated(3000, 0.9)).value
    few, more = ratings(rated(60, 0.9, 2)), ratings(rated(600, 0.9, 2))
    assert more.high - more.low < (few.high - few.low) / 2
    assert few.low < many < few.high and more.low < many < more.high


@pytest.mark.slow
def test_the_interval_covers_about_as_often_as_it_says():
    many = ratings(rated(20000, 0.9)).value
    covered = sum(r.low <= many <= r.high for r in (ratings(rated(100, 0.9, s)) for s in range(100, 300)))
    assert 176 <= covered <= 200  # 95% of 200, less four standard errors and what percentiles lack on small samples


def test_equal_answers_have_an_equal_interval_in_any_order():
    answers = rated(50, 0.8)
    expected = ratings(answers)
    random.Random(3).shuffle(answers)
    assert ratings(answers) == expected


def test_one_class_only_leaves_alpha_unknown_and_raw_agreement_whole():
    found = choices([Answer(f"i{k}", w, "fine") for k in range(9) for w in "ab"])
    assert math.isnan(found.value) and math.isnan(found.low)
    assert found.raw == 1.0


def test_nobody_overlaps():
    found = choices([Answer("1", "a", "x"), Answer("2", "b", "y")])
    assert math.isnan(found.value) and math.isnan(found.raw)
    assert (found.items, found.answers) == (0, 0)


def test_a_common_class_has_high_raw_agreement_and_low_alpha():
    draw = random.Random(1)
    answers = [Answer(f"i{k}", w, "yes" if draw.random() < 0.05 else "no") for k in range(300) for w in "ab"]
    found = choices(answers)
    assert found.raw > 0.85 and abs(found.value) < 0.15


def test_a_step_apart_is_less_than_four_steps_apart():
    pairs = {"near": [(1, 2), (4, 5), (1, 1), (5, 5)], "far": [(1, 5), (5, 1), (1, 1), (5, 5)]}
    alpha = {
        name: ratings(Answer(f"{k}", w, v[w == "b"]) for k, v in enumerate(made * 9) for w in "ab").value
        for name, made in pairs.items()
    }
    assert alpha["near"] > 0.7 > 0.1 > alpha["far"]


def test_spans_over_characters_are_the_librarys_alpha_and_two_f1():
    marked = {"a": [(0, 4, "name"), (10, 14, "place")], "b": [(0, 4, "name"), (12, 16, "place")]}
    alpha, soft, strict = spans([Answer("t", w, m) for w, m in marked.items()], {"t": 20})
    coded = [[0] * 20, [0] * 20]
    for row, marks in zip(coded, marked.values(), strict=True):
        for start, end, label in marks:
            row[start:end] = [{"name": 1, "place": 2}[label]] * (end - start)
    expected = krippendorff.alpha(reliability_data=np.array(coded), level_of_measurement="nominal")
    assert alpha.value == pytest.approx(expected)
    assert alpha.raw == pytest.approx(16 / 20)
    assert soft.value == pytest.approx(2 * 6 / 16)
    assert strict.value == pytest.approx(0.5)


def test_spans_that_nobody_marked_agree():
    alpha, soft, strict = spans([Answer("t", "a", []), Answer("t", "b", [])], {"t": 30})
    assert (soft.value, strict.value, alpha.raw) == (1.0, 1.0, 1.0)
    assert math.isnan(alpha.value)


def test_overlap_with_another_label_is_no_agreement():
    assert soft_f1([(0, 5, "name")], [(0, 5, "place")]) == 0
    assert soft_f1([(0, 5, "name")], [(0, 10, "name")]) == pytest.approx(2 / 3)
    assert strict_f1([(0, 5, "name")], [(0, 10, "name")]) == 0


def test_sets():
    assert jaccard({"a", "b"}, {"b", "c"}) == pytest.approx(1 / 3)
    assert jaccard(set(), set()) == masi(set(), set()) == 1
    assert masi({"a"}, {"a", "b"}) == pytest.approx(1 / 2 * 2 / 3)
    assert masi({"a", "b"}, {"b", "c"}) == pytest.approx(1 / 3 * 1 / 3)
    assert masi({"a"}, {"b"}) == 0
    found = sets([Answer(f"{k}", w, {"rude"} if k % 2 else {"rude", "long"}) for k in range(6) for w in "ab"])
    by_name = {r.measure: r for r in found}
    assert by_name["Jaccard"].value == by_name["alpha of long"].value == 1
    assert math.isnan(by_name["alpha of rude"].value) and by_name["alpha of rude"].raw == 1


def test_rankings_with_ties():
    assert tau([["x"], ["y"], ["z"]], [["x"], ["y"], ["z"]]) == pytest.approx(1)
    assert tau([["x"], ["y"], ["z"]], [["z"], ["y"], ["x"]]) == pytest.approx(-1)
    assert tau([["x"], ["y", "z"]], [["x"], ["y"], ["z"]]) == pytest.approx(2 / math.sqrt(6))
    assert tau([["x", "y"]], [["x", "y"]]) == 1 and tau([["x", "y"]], [["x"], ["y"]]) == 0
    assert math.isnan(tau([["x"]], [["x"]]))
    found = rankings([Answer("1", "a", [["x"], ["y"]]), Answer("1", "b", [["x"], ["y"]]), Answer("2", "a", [["x"]])])
    assert (found.value, found.items, found.answers) == (pytest.approx(1), 1, 2)


def test_texts():
    assert likeness("the same words", "the same words") == 1
    assert likeness("a b c", "c a") == likeness("c a", "a b c")
    found = texts([Answer("1", "a", "refunds take five days"), Answer("1", "b", "refunds take a week")])
    assert found.value == pytest.approx(0.5)
    assert found.raw == 0
