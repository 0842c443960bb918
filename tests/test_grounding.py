"""What a sentence rests on: its source's words, numbers and times, and the fields of a record."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest

from tasks.grounding_model import Verdicts, grounding_model
from tasks.signals.grounding_features import SENTENCE, Rarity, sentence_features, spans

pytestmark = pytest.mark.slow

HOUSE = "The house opened in 1962. Its architect was Anna Berg. It does not sell tickets at the door. Lunch is served at 7:30."
RECORD = "\n".join(
    ("name: Corner", "hours Monday: 7:0-14:0", "hours Tuesday: 9:0-17:30", "attributes OutdoorSeating: False",
     "attributes WiFi: None", "attributes RestaurantsDelivery: True", "business_stars: 3.5")
)  # fmt: skip


def seen(response: str, source: str = HOUSE, question: str = "when did the house open?") -> list[dict[str, Any]]:
    """The features of each sentence of a response."""
    contexts = orjson.dumps([{"id": "a", "text": source}]).decode()
    exchange = pd.DataFrame({"question": [question], "response": [response], "contexts": [contexts]})
    return sentence_features(exchange, Rarity.of([source, "other words of another text"])).to_dict("records")


def test_a_sentence_of_the_source_rests_on_it_wholly():
    (row,) = seen("Its architect was Anna Berg.")
    assert (row["found"], row["pairs"], row["run_share"], row["new_words"], row["cosine"]) == pytest.approx(
        (1, 1, 1, 0, 1)
    )


def test_what_is_made_up_is_counted_by_kind():
    (row,) = seen("The house opened in 1999 after Peter Holm gave money.")
    assert (row["numbers"], row["new_numbers"], row["names"], row["new_names"]) == (1, 1, 2, 2)
    assert row["new_words"] >= 4
    assert row["rarest_new"] > 0


def test_each_sentence_is_seen_by_itself():
    good, bad = seen("The house opened in 1962. Visitors love its wonderful rooftop bar.")
    assert good["found"] == 1.0 > 0.5 > bad["found"]
    assert (good["is_last"], bad["is_last"]) == (0, 1)


@pytest.mark.parametrize("said", ["7:30 am", "7:30 a.m.", "07:30", "7:30"])
def test_a_time_is_the_same_however_it_is_written(said: str):
    (row,) = seen(f"Lunch is served at {said} there")
    assert row["new_numbers"] == 0


def test_half_a_day_later_is_another_time():
    (row,) = seen("Lunch is served at 7:30 pm")
    assert row["new_numbers"] == 1


def test_what_the_source_denies_is_told_from_what_it_says():
    (row,) = seen("It does sell tickets at the door.")
    assert row["negation_differs"] == 1
    (row,) = seen("It does not sell tickets at the door.")
    assert row["negation_differs"] == 0


@pytest.mark.parametrize(
    ("response", "feature"),
    [
        ("There is outdoor seating.", "said_of_false"),
        ("There is no outdoor seating.", "false_denied"),
        ("They offer WiFi.", "said_of_unknown"),
        ("They do not offer WiFi.", "unknown_denied"),
        ("Delivery is possible.", "true_said"),
        ("Delivery is not possible.", "true_denied"),
        ("Open Monday from 7 am to 2 pm.", "hours_right"),
        ("Open Monday from 8 am to 2 pm.", "hours_off"),
        ("It has 4.5 stars.", "stars_off"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_a_record_is_held_against_the_sentence(response: str, feature: str, as_json: bool):
    fields = dict(line.split(": ", 1) for line in RECORD.splitlines())
    (row,) = seen(response, orjson.dumps(fields).decode() if as_json else RECORD)
    assert row[feature] == 1
    opposite = {"hours_right": "hours_off", "hours_off": "hours_right"}.get(feature)
    assert opposite is None or row[opposite] == 0


def test_days_from_one_to_another_are_all_meant():
    (row,) = seen("Open Monday to Tuesday from 7 am to 2 pm.", RECORD)
    assert (row["hours_right"], row["hours_off"]) == (1, 1)


def test_prose_has_no_fields():
    (row,) = seen("There is outdoor seating.")
    assert (row["record"], row["said_of_false"]) == (0, 0)


@pytest.mark.parametrize(
    "text", ["", " \n ", "One. Two! Three?", "1. First thing.\n2. Second\n\n- third", "no end", "a\nb", "3.5 stars."]
)
def test_sentences_cover_the_text_and_never_overlap(text: str):
    found = spans(text)
    covered = "".join(text[a:b] for a, b in found)
    assert "".join(covered.split()) == "".join(text.split())
    assert all(b <= c for (_, b), (c, _) in pairwise(found))


@pytest.mark.parametrize("response", ["", "?!", "x " * 3000, "“", "日本語。"])
@pytest.mark.parametrize("contexts", [None, "[]", '[{"id":"a","text":""}]', '[{"id":"a","text":"{broken json"}]'])
def test_odd_texts_have_finite_features(response: str, contexts: str | None):
    exchange = pd.DataFrame({"question": [None], "response": [response], "contexts": [contexts]})
    features = sentence_features(exchange, Rarity.of([]))
    assert np.isfinite(features[list(SENTENCE)].to_numpy()).all()


def made_up(n: int, marked_share: float) -> tuple[pd.DataFrame, list[str], Verdicts]:
    """n answers of three sentences with one feature; where it is high, the sentence is wrong. Few have marks."""
    random = np.random.default_rng(0)
    new = random.normal(size=3 * n)
    sentences = pd.DataFrame(
        {"row": np.repeat(np.arange(n), 3), "start": 0, "end": 1, "new": new, "noise": random.normal(size=3 * n)}
    )
    wrong = new > 1.2
    answers = wrong.reshape(n, 3).any(axis=1).astype(float)
    verdicts = Verdicts(answers, np.ones(n), [str(k // 2) for k in range(n)], np.arange(n) < marked_share * n, wrong)
    return sentences, [f"words number {k % 5}" for k in range(n)], verdicts


def test_marks_of_some_and_verdicts_of_the_rest_tell_which_sentence_is_wrong():
    sentences, responses, verdicts = made_up(300, marked_share=0.2)
    model = grounding_model(sentences, responses, verdicts)
    p = model.sentence_probability(sentences)
    assert p[verdicts.wrong_sentence].min() > np.median(p)
    assert p[verdicts.wrong_sentence].mean() > 0.6 > 0.1 > p[~verdicts.wrong_sentence].mean()


def test_answers_are_described_out_of_fold_in_training_and_alike_afterwards():
    sentences, responses, verdicts = made_up(300, marked_share=0.5)
    model = grounding_model(sentences, responses, verdicts)
    later = model.answer_features(sentences, responses)
    assert list(model.out_of_fold.columns) == list(later.columns)
    assert len(model.out_of_fold) == len(later) == 300
    assert np.corrcoef(model.out_of_fold["both_worst"], verdicts.p_wrong)[0, 1] > 0.7


def test_without_a_mark_there_is_nothing_to_learn_sentences_from():
    sentences, responses, verdicts = made_up(30, marked_share=0.0)
    with pytest.raises(ValueError, match="marked"):
        grounding_model(sentences, responses, verdicts)


@pytest.mark.parametrize("options", [["--train", "{}", "--test", "{}"], ["--data", "{}"]])
def test_the_benchmark_says_which_data_it_lacks(options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from benchmarks.mining import main

    assert main([o.format(tmp_path) for o in options]) == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_a_source_is_never_learned_from_and_measured_on():
    from benchmarks.rag_ranking import Answers, ranked

    answers = Answers(pd.DataFrame({"source_id": ["1"]}), pd.DataFrame(), np.zeros(0))
    with pytest.raises(ValueError, match="both sides"):
        ranked(answers, answers)
