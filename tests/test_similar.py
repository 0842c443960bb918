"""Near-duplicates: what a person would call the same question, and what not."""

from __future__ import annotations

import re
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.similar import BLOCK_ROWS, near_pairs, normalise, shingles

VARIANTS = [
    "how do i cancel my plan",
    "How do I CANCEL my plan?",
    "  how   do i\tcancel\nmy plan ",
    "how do i cancel my plan!!!",
    "h\u200bow do i can\u200dcel my plan",
    "\ufeffhow do i cancel my plan",
    "how do i c\u00adancel my plan",  # soft hyphen
    "ｈｏｗ ｄｏ ｉ ｃａｎｃｅｌ ｍｙ ｐｌａｎ",
    "how_do_i_cancel_my_plan",
    "¿how do i cancel my plan…",
]


@pytest.mark.parametrize("variant", VARIANTS)
def test_case_width_punctuation_and_invisible_characters_make_no_other_text(variant: str):
    assert normalise(variant) == "how do i cancel my plan"


def test_other_words_and_other_scripts_stay_other_texts():
    texts = ["cancel", "cancel it", "annulieren", "отменить", "取消", "5 days", "6 days"]
    assert len({normalise(t) for t in texts}) == len(texts)


@given(st.text())
def test_normalising_twice_changes_nothing_more(text: str):
    assert normalise(normalise(text)) == normalise(text)


ALPHABET = st.characters() | st.sampled_from("aZ_ -\n\t\r\x00\x0b\x1c\x1f\x7f\u00ad\u200bßİﬁＨ\u2028\u3000")


@given(st.text(ALPHABET, max_size=20))
def test_normalising_is_what_it_says_character_by_character(text: str):
    visible = "".join(
        c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) not in ("Cf", "Cc") or c in "\n\t "
    )
    words = "".join(c if c == " " or c.isalnum() or re.fullmatch(r"\w", c) else " " for c in visible.casefold())
    assert normalise(text) == " ".join(words.replace("_", " ").split())


def jaccard(left: str, right: str) -> float:
    """The definition, slowly: shared trigrams within padded words."""

    def grams(text: str) -> set[str]:
        padded = [f" {w} " for w in normalise(text).split()]
        return {w[k : k + 3] for w in padded for k in range(max(1, len(w) - 2))}

    a, b = grams(left), grams(right)
    return len(a & b) / len(a | b) if a | b else 0.0


words = st.lists(
    st.sampled_from(["cancel", "cancl", "pause", "plan", "my", "a", "the", "refund", "refunds", "5"]), max_size=5
)


@settings(max_examples=60, deadline=None)
@given(st.lists(words.map(" ".join), min_size=1, max_size=6), st.lists(words.map(" ".join), min_size=1, max_size=6))
def test_near_pairs_are_exactly_those_whose_shared_trigrams_reach_the_threshold(left: list[str], right: list[str]):
    found = set(zip(*(x.tolist() for x in near_pairs(shingles(left), shingles(right), 0.6)), strict=True))
    shares = {(i, j): jaccard(a, b) for i, a in enumerate(left) for j, b in enumerate(right)}
    assert found == {pair for pair, share in shares.items() if share >= 0.6}


def test_a_misspelling_is_near_and_another_wish_is_not():
    i, j = near_pairs(
        shingles(["how do I cancel my subscription"]),
        shingles(["how do i cancl my subscription?", "how do I pause my subscription", "my tyre is flat"]),
        0.65,
    )
    assert (i.tolist(), j.tolist()) == ([0], [0])


def test_pairs_come_in_order_and_whole_across_blocks():
    texts = [f"question number {k}" for k in range(BLOCK_ROWS + 40)]
    i, j = near_pairs(shingles(texts), shingles(texts), 1.0)
    assert sorted(zip(i.tolist(), j.tolist(), strict=True)) == list(zip(i.tolist(), j.tolist(), strict=True))
    assert set(range(len(texts))) <= {a for a, b in zip(i.tolist(), j.tolist(), strict=True) if a == b}


def test_an_empty_text_is_near_to_nothing():
    i, _ = near_pairs(shingles(["", "?!", "\u200b"]), shingles(["", "cancel"]), 0.1)
    assert np.array_equal(i, [])
