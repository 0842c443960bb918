"""Collapse: what repeats is found, what is dropped is near to what is kept, and partitions change nothing."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np
import pytest

from benchmarks.planted_texts import Corpus, overlap, trigrams
from tasks.collapse import collapse
from tasks.sketch import sketch

THRESHOLD = 0.8


def corpus(length: int, seed: int, texts: int = 2500) -> tuple[list[str], Corpus]:
    made = Corpus(texts, seed, share=0.3, length=length)
    return [t for part in made.partitions() for t in part], made


def whole(texts: list[str], threshold: float = THRESHOLD) -> list[int]:
    return collapse([lambda: texts], threshold).tolist()


def test_texts_that_differ_in_case_and_punctuation_are_the_first_of_them():
    assert whole(["Cancel my plan!", "refund?", "cancel my plan", "  CANCEL  my plan", "Refund"]) == [0, 1, 0, 0, 1]


def test_texts_without_words_are_one_text_and_none_other():
    assert whole(["", "refund", "?!", "\u200b"]) == [0, 1, 0, 0]
    assert collapse([], THRESHOLD).tolist() == collapse([list], THRESHOLD).tolist() == []


@pytest.mark.parametrize("length", [60, 750])
@pytest.mark.parametrize("seed", [1, 2])
def test_planted_near_duplicates_are_found(length: int, seed: int):
    texts, made = corpus(length, seed)
    keeper = collapse([lambda: texts], THRESHOLD)
    near = [p for p in made.pairs if p.overlap >= THRESHOLD]
    assert len(near) > 300
    # A pair is also met where each of the two is near to something else that is kept.
    assert np.mean([keeper[p.left] == keeper[p.right] or keeper[p.right] != p.right for p in near]) >= 0.97


@pytest.mark.parametrize("length", [60, 750])
def test_what_is_dropped_is_near_to_what_is_kept_and_that_is_kept_for_itself(length: int):
    texts, _ = corpus(length, 3)
    keeper = whole(texts)
    dropped = [k for k, kept in enumerate(keeper) if kept != k]
    assert len(dropped) > 300
    for k in dropped:
        assert keeper[k] < k and keeper[keeper[k]] == keeper[k]
        # Two of a long text's trigrams may share one of the million columns: the overlap is exact but for one or two in 500.
        assert overlap(trigrams(texts[k]), trigrams(texts[keeper[k]])) >= THRESHOLD - 0.005


def test_how_texts_are_partitioned_changes_nothing():
    texts, _ = corpus(200, 4, 1200)
    for cuts in ([0, 1, 1, 700, 1200], [0, 1200], list(range(0, 1201, 100))):
        parts = [partial(texts.__getitem__, slice(a, b)) for a, b in pairwise(cuts)]
        assert collapse(parts, THRESHOLD).tolist() == whole(texts)


def test_a_sketch_of_a_text_does_not_depend_on_its_neighbours():
    texts, _ = corpus(200, 5, 700)
    alone = [sketch([t]).bands[0].tolist() for t in texts[::50]]
    assert sketch(texts).bands[::50].tolist() == alone


def test_hundreds_of_copies_of_one_text_leave_one():
    base = (
        "the battery of my bike was flat again this morning although it had been charging in the cellar all night long"
    )
    copies = [f"{base} {k}" for k in range(400)]
    assert set(whole(copies)) == {0}


def test_what_many_texts_share_does_not_make_them_one():
    same = "dear team i am writing to you again about "
    texts = [same + t for t in ("a puncture in the front wheel that i cannot mend on my own at home today",
                                "my last invoice which shows a fee that nobody could explain to me yet",
                                "moving house next month and where the bikes can then be picked up by us")]  # fmt: skip
    assert whole(texts * 40)[: len(texts)] == [0, 1, 2]
    assert set(whole(texts * 40)) == {0, 1, 2}
