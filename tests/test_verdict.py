"""The gate: promote on evidence alone, refuse harm, and say when it does not know."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tasks import verdict
from tasks.compare import Paired
from tasks.verdict import INCONCLUSIVE, PROMOTE, REFUSE, Compared, JudgeParams, decide

PARAMS = JudgeParams(0.05, 0.01, 40, ["escalate", "refuse"], ["broken_answer"])


def row(k: int, champion: bool, challenger: bool, kind: str = "answer", **changes) -> Compared:
    made = Compared(
        example_id=f"ex_{k}", group_id=f"gr_{k}", part="holdout", audit=False, kind=kind, topic="billing", language="en",
        cluster="", target="refund", champion="a", challenger="b", champion_right=champion, challenger_right=challenger,
        champion_confidence=0.8, challenger_confidence=0.8, champion_signals=[], challenger_signals=[],
        champion_scores={}, challenger_scores={},
    )  # fmt: skip
    return replace(made, **changes)


def rows(fixed: int, broken: int, same: int, kind: str = "answer", start: int = 0) -> list[Compared]:
    fates = [(False, True)] * fixed + [(True, False)] * broken + [(True, True)] * same
    return [row(start + k, old, new, kind) for k, (old, new) in enumerate(fates)]


def test_a_challenger_that_is_clearly_better_is_promoted():
    found = decide(rows(41, 12, 127), PARAMS)
    assert found.decision == PROMOTE
    assert "fixed 41, broken 12 of 180" in found.reasons[0]


def test_a_challenger_that_is_clearly_worse_is_refused():
    found = decide(rows(9, 31, 140), PARAMS)
    assert found.decision == REFUSE
    assert "worse" in found.reasons[0]


@pytest.mark.parametrize(("fixed", "broken"), [(20, 17), (0, 0), (12, 20), (3, 0)])
def test_without_evidence_nothing_is_decided(fixed: int, broken: int):
    assert decide(rows(fixed, broken, 140), PARAMS).decision == INCONCLUSIVE


def test_too_few_prompts_are_never_enough_however_good_they_look():
    found = decide(rows(30, 0, 9), PARAMS)
    assert found.decision == INCONCLUSIVE
    assert found.reasons == ["only 39 holdout prompts; 40 are needed"]
    assert decide(rows(30, 0, 10), PARAMS).decision == PROMOTE


def test_harm_on_too_few_prompts_is_refused_all_the_same():
    assert decide(rows(0, 30, 5), PARAMS).decision == REFUSE


def test_a_gain_that_is_paid_for_with_people_not_handed_over_is_refused():
    found = decide(rows(60, 5, 100) + rows(0, 9, 5, "escalate", 1000), PARAMS)
    assert found.decision == REFUSE
    assert any("right where escalate is due: worse" in r for r in found.reasons)
    assert decide(rows(60, 5, 100) + rows(0, 9, 5, "answer", 1000), PARAMS).decision == PROMOTE


def test_a_gain_that_is_paid_for_with_broken_answers_is_refused():
    good = rows(60, 5, 100)
    broken = [replace(r, challenger_signals=["broken_answer"]) if k < 12 else r for k, r in enumerate(good)]
    found = decide(broken, PARAMS)
    assert found.decision == REFUSE
    assert any("free of broken_answer: worse" in r for r in found.reasons)


def test_a_signal_that_nobody_guards_and_an_old_sin_of_the_champion_do_no_harm():
    good = rows(60, 5, 100)
    others = [replace(r, challenger_signals=["low_confidence"], champion_signals=["broken_answer"]) for r in good]
    found = decide(others, PARAMS)
    assert found.decision == PROMOTE
    assert found.guards["free of broken_answer"].difference == 1.0


def test_a_guard_that_is_a_little_worse_by_chance_does_not_refuse():
    assert decide(rows(60, 5, 100) + rows(0, 2, 10, "escalate", 1000), PARAMS).decision == PROMOTE


def test_copies_of_one_prompt_are_no_evidence():
    copies = [replace(r, group_id="the same") for r in rows(60, 0, 0)] + rows(2, 0, 60, start=100)
    assert decide(copies, PARAMS).decision == INCONCLUSIVE


def test_a_stricter_threshold_takes_a_promotion_back():
    gain = rows(20, 7, 100)
    assert decide(gain, PARAMS).decision == PROMOTE
    assert decide(gain, replace(PARAMS, alpha=0.001)).decision == INCONCLUSIVE


@pytest.mark.parametrize("field", ["difference", "low", "high", "p_value"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_is_none_refuses(monkeypatch: pytest.MonkeyPatch, field: str, value: float):
    real = verdict.paired

    def sick(*given) -> Paired:
        return replace(real(*given), **{field: value})

    monkeypatch.setattr(verdict, "paired", sick)
    assert decide(rows(41, 12, 127), PARAMS).decision == REFUSE


def test_nothing_to_compare_is_an_error_and_no_verdict():
    with pytest.raises(ValueError):
        decide([], PARAMS)
