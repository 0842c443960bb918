"""The firewall: what gives a sealed text away is refused with its row, what everybody says is not."""

from __future__ import annotations

import random
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.planted_texts import Corpus, overlap, trigrams
from tasks.firewall import EXACT, NEAR, NGRAM, FirewallParams, Met, firewall
from tasks.lookalikes import unmasked
from tasks.params import load
from tasks.similar import normalise
from tests.imports import ROOT

PARAMS = load(ROOT / "params.yaml", "firewall", FirewallParams)
LAMP = "my grandmother left me a brass lamp whose green shade cracked in the post, can it be claimed"


def meets(training: list[str], sealed: list[str], **more: list[str]) -> list[tuple[int, int, str]]:
    return [(m.row, m.sealed, m.how) for m in firewall([lambda: training], sealed, PARAMS, **more)]


def traffic(seed: int, texts: int, length: int = 160) -> list[str]:
    """Texts in which nothing is planted and no two share more than chance has it."""
    return [t for part in Corpus(texts, seed, share=0.0, length=length, templated=0.0).partitions() for t in part]


@pytest.mark.parametrize(
    "copy",
    [
        LAMP,
        LAMP.upper() + "!!",
        LAMP.replace(" ", "   "),
        LAMP.replace("lamp", "la\u200bmp"),
        LAMP.replace("lamp", "\u202ela\u2066mp\u202c"),
        LAMP.replace("a", "\u0430").replace("e", "\u0435").replace("o", "\u043e"),  # Cyrillic
        LAMP.replace("o", "\u03bf").replace("l", "\u00ad\uff4c"),  # Greek, soft hyphens, full width
    ],
)
def test_a_copy_is_the_same_text_however_it_is_disguised(copy: str):
    assert meets(["something else", copy], ["where is my refund", LAMP]) == [(1, 1, EXACT)]


def test_texts_in_other_scripts_are_not_read_as_latin():
    assert unmasked("Привет, как дела? СОС") == "Привет, как дела? СОС"
    assert unmasked("Καλημέρα, τι κάνεις") == "Καλημέρα, τι κάνεις"
    assert unmasked("how do I saу hello in Russian") == "how do I say hello in Russian"
    assert meets(["как мне отменить мой заказ"], ["КАК мне отменить мой заказ?"]) == [(0, 0, EXACT)]


def test_a_text_with_a_word_changed_is_near():
    assert meets([LAMP.replace("green", "blue")], [LAMP]) == [(0, 0, NEAR)]


@pytest.mark.parametrize(
    "text",
    [
        f"Hello team, I wrote to you last Monday. {LAMP}? Many thanks in advance for all that you do for us, yours, Kim.",
        "She told me that her own brass lamp whose green shade cracked in the post was never replaced by anyone there",
        "brass lamp whose green shade cracked in the post",
    ],
)
def test_a_sealed_question_within_a_longer_text_and_eight_of_its_words_are_found(text: str):
    [met] = firewall([lambda: ["what else", text]], [LAMP, "where is my refund"], PARAMS)
    assert (met.row, met.sealed, met.how) == (1, 0, NGRAM)
    assert met.evidence in normalise(text) and met.evidence in normalise(LAMP)
    assert PARAMS.share <= met.score <= 1


def test_a_short_sealed_question_is_found_whole_within_a_longer_text():
    text = "dear all, does anybody mend cracked porcelain teapots in Reykjavik or nearby these days"
    assert meets([text], ["borrow a helmet for two weeks", "cracked porcelain teapots in Reykjavik"]) == [(0, 1, NGRAM)]
    assert meets([text], ["borrow a helmet for two weeks", "mend porcelain teapots in Reykjavik or"]) == []


def test_commonplaces_are_nobodys():
    subjects = ("cancel my plan", "change the address", "get a new card", "pay by invoice", "borrow a helmet", "see the contract")
    sealed = [f"hello, i would like to know how i can {s} {k} times" for k, s in enumerate(subjects * 200)]
    assert meets(["i would like to know how i can charge a battery in winter"], sealed) == []
    # Beside few texts nobody can tell what is common, and eight words are eight words.
    assert meets(["i would like to know how i can charge a battery in winter"], sealed[:1]) == [(0, 0, NGRAM)]


def test_what_may_be_on_both_sides_by_design_is_no_contamination():
    prompt = "You are the assistant of a bicycle shop in Graz and you answer kindly, briefly and only from the handbook."
    sealed = [f"{prompt} Customer: why does my hub gear slip on hills?", prompt]
    training = [f"{prompt} Customer: may I bring my own helmet along?", prompt]
    assert [m[0] for m in meets(training, sealed)] == [0, 1]
    assert meets(training, sealed[1:], common=[prompt]) == []
    long = "The handbook says: " + " ".join(f"rule {w} is about {w[::-1]}s." for w in traffic(3, 1, 900)[0].split())
    assert meets([f"{long} May I bring my own helmet?"], [f"{long} Why does my hub gear slip on hills?"], common=[long]) in (
        [], [(0, 0, NEAR)])  # fmt: skip


def test_one_answer_a_row_the_strongest_and_the_first_of_several():
    near = LAMP.replace("green", "blue")
    assert meets([LAMP, near, "x"], [near, LAMP, LAMP]) == [(0, 1, EXACT), (1, 0, EXACT)]
    assert meets([LAMP.replace("green", "red")], [near, LAMP.upper()]) == [(0, 0, NEAR)]


def test_empty_texts_and_empty_sides_meet_nothing():
    assert meets(["", "?!", "\u200b"], ["", "!", "cancel"]) == []
    assert meets([], [LAMP]) == meets([LAMP], []) == firewall([], [LAMP], PARAMS) == []


def test_a_passage_of_a_conversation_does_not_become_a_commonplace_by_its_own_turns():
    turns = [f"{LAMP} and {' '.join(['well'] * k)}" for k in range(30)]
    text = ["She told me that her own brass lamp whose green shade cracked in the post was never replaced by anyone"]
    assert meets(text, turns, groups=["one"] * 30)[0][2] == NGRAM
    assert meets(text, turns, groups=[str(k) for k in range(30)]) == []


def planted(seed: int, length: int) -> tuple[list[str], list[str], dict[int, str]]:
    """Training, sealed, and what was planted in which row."""
    draw = random.Random(seed)
    texts = traffic(seed, 1500, length)
    sealed, training = texts[:300], texts[300:]
    enough = [k for k, text in enumerate(sealed) if 13 <= len(text.split()) <= 60]
    kinds = {}
    for row, source in zip(range(0, 1200, 12), enough[:100], strict=False):
        words = sealed[source].split()
        kind = draw.choice(("exact", "near", "within", "passage"))
        if kind == "exact":
            training[row] = sealed[source].upper()
        elif kind == "near":
            words[draw.randrange(len(words))] = "trombone"
            training[row] = " ".join(words)
        elif kind == "within":
            training[row] = f"{training[row]} {sealed[source]} {training[row + 1]}"
        else:  # a paraphrase that keeps so many words in a row that they are a quarter of the sealed text
            keep = max(8, -(-len(words) // 4))
            at = draw.randrange(len(words) - keep + 1)
            training[row] = f"Hello, {' '.join(words[at : at + keep])} or something like it, you know what I mean"
        kinds[row] = kind
    return training, sealed, kinds


@pytest.mark.parametrize("length", [160, 400])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_is_planted_is_found_with_its_rows_and_nothing_else_is(length: int, seed: int):
    training, sealed, kinds = planted(seed, length)
    assert len(kinds) > 60
    met = {m.row: m for m in firewall([lambda: training], sealed, PARAMS)}
    assert met.keys() == kinds.keys()
    assert all((met[row].how == EXACT) == (kind == "exact") for row, kind in kinds.items())


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 1000), st.lists(st.integers(0, 1200), max_size=4))
def test_how_rows_are_partitioned_changes_nothing(seed: int, cuts: list[int]):
    training, sealed, _ = planted(seed, 160)
    parts = [partial(training.__getitem__, slice(a, b)) for a, b in pairwise([0, *sorted(cuts), len(training)])]
    assert firewall(parts, sealed, PARAMS) == firewall([lambda: training], sealed, PARAMS)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 1000), st.randoms())
def test_a_row_is_decided_by_itself_in_whatever_order_and_company_and_months_later(seed: int, draw: random.Random):
    training, sealed, _ = planted(seed, 160)
    whole = {m.row: m for m in firewall([lambda: training], sealed, PARAMS)}
    some = draw.sample(range(len(training)), 300)  # some of the rows, shuffled: an earlier month, or a later one
    part = {some[m.row]: m for m in firewall([lambda: [training[k] for k in some]], sealed, PARAMS)}
    expected = {row: m for row, m in whole.items() if row in some}
    assert {row: (m.sealed, m.how, m.score, m.evidence) for row, m in part.items()} == {
        row: (m.sealed, m.how, m.score, m.evidence) for row, m in expected.items()
    }


SPOKEN = ("cancel", "cancl", "my", "plan", "plans", "a", "the", "refund", "refunds", "lamp", "please", "5")
words = st.lists(st.sampled_from(SPOKEN), max_size=7)


@settings(max_examples=60, deadline=None)
@given(st.lists(words.map(" ".join), min_size=1, max_size=8), st.lists(words.map(" ".join), min_size=1, max_size=8),
       st.lists(words.map(" ".join), max_size=4))  # fmt: skip
def test_no_kept_short_row_is_a_sealed_text_or_near_to_one_also_when_more_is_sealed(training, sealed, later):
    for now in (sealed, sealed + later):
        refused = {m.row: m for m in firewall([lambda: training], now, PARAMS)}
        for row, text in enumerate(training):
            alike = max((overlap(trigrams(text), trigrams(s)) for s in now), default=0.0)
            same = normalise(text) != "" and normalise(text) in {normalise(s) for s in now}
            assert not ((same or alike >= PARAMS.near) and row not in refused)
            if row in refused and refused[row].how == NEAR:
                assert refused[row].score == pytest.approx(alike, abs=1e-6)


def test_evidence_and_scores_of_a_met_row():
    training = ["nothing", LAMP.replace("green", "blue")]
    [met] = firewall([lambda: training], [LAMP], PARAMS)
    assert met == Met(1, 0, NEAR, pytest.approx(overlap(trigrams(training[1]), trigrams(LAMP)), abs=1e-6), normalise(training[1]))
