"""make demo-llm on a handful of questions: the same path, far too short to learn anything."""

from __future__ import annotations

import pytest

from tests import tiny
from tests.tiny import needs_torch

pytestmark = [pytest.mark.slow, needs_torch]


def test_the_demo_goes_through_base_sft_reward_and_dpo_and_says_what_came_of_it(tmp_path):
    from demo import llm

    plan = llm.Plan(read=40, corrected=60, own=60, holdout=60, epochs=1.0, size=tiny.SIZE)
    told = llm.demo(tmp_path, 1, plan)
    assert set(told.right) == {"base", "sft", "dpo"} and set(told.gain) == {"sft", "dpo"}
    assert 30 < told.questions <= 60
    assert all(g.low <= g.difference <= g.high and g.n == told.questions for g in told.gain.values())
    assert 0 <= told.judge_right <= 1 and told.judge.n == told.questions
    shown = llm.shown(told)
    assert "held-out questions, seed 1" in shown and "dpo " in shown and "reward model: " in shown


def test_what_was_asked_in_the_same_words_is_not_held_out(tmp_path):
    from demo import llm

    company = llm.Company(tmp_path, 1)
    seen = company.week(1, 800)
    known = {llm._plain(a.text) for a in seen}
    held = company.unseen(3, 800, seen)
    assert held and not any(llm._plain(a.text) in known for a in held) and len(held) < 800


def test_people_find_the_right_answer_nearly_always(tmp_path):
    from demo import llm

    company = llm.Company(tmp_path, 1)
    asked = company.week(1, 200)
    labels = company.labelled("b", asked, [company.texts["escalate"]] * 200)
    right = [x.right == company.texts[x.ask.true_action] for x in labels]
    assert len(labels) > 150 and sum(right) / len(right) > 0.95
