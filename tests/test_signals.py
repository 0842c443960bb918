"""Detectors fire on what they are for, stay silent otherwise, and take the unknown for unknown."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from tasks.records import Signal
from tasks.signals import ANSWER_SIDE, DETECTORS, detect

KNOWN = '[{"id":"kb-1","text":"Refunds take five working days to reach your bank account."}]'
GOOD: dict[str, Any] = {
    "interaction_id": "ix_1",
    "question": "when do I see my money?",
    "response": "Refunds take five working days.",
    "contexts": KNOWN,
    "finish_reason": "stop",
    "confidence": 0.9,
    "reward": 0.9,
    "thumb": True,
    "comment": None,
    "edit": None,
    "escalation": None,
    "next_question": None,
    "next_contexts": None,
    "next_after_s": None,
}


def found(detector: str, **changes: Any) -> list[Signal]:
    return detect(pd.DataFrame([GOOD | changes]), [detector])


@pytest.mark.parametrize("detector", sorted(DETECTORS))
def test_a_good_exchange_fires_nothing(detector: str):
    assert found(detector) == []


@pytest.mark.parametrize(
    ("detector", "changes", "score", "evidence"),
    [
        ("negative_feedback", {"thumb": False}, 1.0, "thumb down"),
        ("negative_feedback", {"thumb": False, "comment": "no!"}, 1.0, "thumb down: no!"),
        ("negative_feedback", {"thumb": None, "comment": "hm"}, 0.5, "comment: hm"),
        ("escalated_or_edited", {"escalation": True}, 1.0, "asked for a person"),
        ("escalated_or_edited", {"edit": "Ten days."}, 1.0, "replaced by: Ten days."),
        ("rephrased", {"next_question": "When do I see my money?", "next_after_s": 60}, 1.0, "asked again"),
        (
            "rephrased",
            {"next_question": "and what now", "next_after_s": 60, "next_contexts": KNOWN},
            1.0,
            "asked again",
        ),
        ("broken_answer", {"response": " \n"}, 1.0, "empty answer"),
        ("broken_answer", {"response": None}, 1.0, "empty answer"),
        ("broken_answer", {"finish_reason": "length"}, 0.9, "cut off"),
        ("broken_answer", {"response": "I'm sorry, but I can't help with that."}, 0.4, "refusal"),
        ("ungrounded", {"response": "We ship helmets to Norway."}, 1.0, "in no retrieved text"),
        ("ungrounded", {"response": "Refunds take 45 working weeks."}, 0.5, "45, weeks"),
        ("low_confidence", {"confidence": 0.2}, 0.8, "confidence 0.20"),
        ("low_reward", {"reward": 0.1}, 0.9, "reward 0.10"),
    ],
)
def test_a_detector_fires_with_its_score_and_its_evidence(detector: str, changes: dict, score: float, evidence: str):
    (signal,) = found(detector, **changes)
    assert (signal.interaction_id, signal.detector) == ("ix_1", detector)
    assert signal.score == pytest.approx(score, abs=0.01)
    assert evidence in signal.evidence


@pytest.mark.parametrize(
    ("detector", "changes"),
    [
        ("negative_feedback", {"comment": "thanks!"}),  # with a thumb up
        ("negative_feedback", {"thumb": None}),
        ("escalated_or_edited", {"escalation": False}),
        ("rephrased", {"next_question": "when do I see my money", "next_after_s": 3600}),  # an hour later
        ("rephrased", {"next_question": "my tyre is flat", "next_after_s": 60, "next_contexts": '[{"id":"kb-9"}]'}),
        ("broken_answer", {"response": "You can cancel in the app."}),
        ("ungrounded", {"contexts": "[]", "response": "We ship helmets to Norway."}),  # the retrieval's failure
        ("ungrounded", {"response": ""}),
        ("ungrounded", {"response": "Your refunds reach you in five working days."}),
        ("low_confidence", {"confidence": 0.75}),
        ("low_reward", {"reward": 0.75}),
    ],
)
def test_a_detector_stays_silent_on_what_is_ordinary(detector: str, changes: dict):
    assert found(detector, **changes) == []


@pytest.mark.parametrize("detector", sorted(DETECTORS))
def test_what_is_unknown_is_no_finding(detector: str):
    unknown = pd.DataFrame([{"interaction_id": "ix_1", "question": "q", "response": "Refunds take five working days."}])
    assert detect(unknown, [detector]) == []


def test_a_score_that_is_no_number_is_no_finding():
    assert found("low_confidence", confidence=float("nan")) == []
    assert found("low_reward", reward=None) == []


@pytest.mark.parametrize("detector", sorted(DETECTORS))
def test_nothing_to_look_at_gives_nothing(detector: str):
    assert detect(pd.DataFrame(columns=list(GOOD)), [detector]) == []


def test_a_holdout_replay_can_run_every_answer_side_detector():
    answer_side = ("interaction_id", "question", "response", "contexts", "finish_reason", "confidence", "reward")
    replay = pd.DataFrame([{column: GOOD[column] for column in answer_side}])
    assert detect(replay.assign(response="", confidence=0.1), ANSWER_SIDE) != []


def test_each_row_is_judged_by_itself_and_once():
    rows = [GOOD | {"interaction_id": f"ix_{k}", "thumb": k % 2 == 0} for k in range(10)]
    signals = detect(pd.DataFrame(rows))
    assert [s.interaction_id for s in signals] == [f"ix_{k}" for k in range(1, 10, 2)]
    assert len({s.signal_id for s in signals}) == len(signals)


def test_the_same_evidence_is_the_same_signal():
    assert found("low_confidence", confidence=0.2) == found("low_confidence", confidence=0.2)
    assert found("low_confidence", confidence=0.2)[0].signal_id != found("low_confidence", confidence=0.3)[0].signal_id


@pytest.mark.parametrize("detector", sorted(DETECTORS))
def test_scores_are_between_nothing_and_one(detector: str):
    odd = [
        GOOD
        | {
            "confidence": -3.0,
            "reward": 7.0,
            "next_after_s": -5,
            "next_question": "when do I see my money",
            "thumb": False,
        },
        GOOD | {"confidence": 2.0, "reward": -1.0, "response": "x " * 5000, "edit": ""},
        GOOD | {"question": "", "response": "?!", "contexts": '[{"id":"a","text":""}]', "comment": ""},
    ]
    assert all(0 < s.score <= 1 for s in detect(pd.DataFrame(odd), [detector]))
