"""The traffic: the right mixture, a long tail, wordings that vary, and nothing that depends on the run."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from demo.chance import chance
from demo.knowledge import KNOWLEDGE
from demo.wording import wording
from demo.world import World, approved_answers, load_knowledge


def test_the_same_seed_is_the_same_world_and_another_is_not(knowledge):
    assert World(7, knowledge).traffic(3, 50) == World(7, knowledge).traffic(3, 50)
    assert World(7, knowledge).traffic(3, 50) != World(8, knowledge).traffic(3, 50)
    assert World(7, knowledge).traffic(3, 50) != World(7, knowledge).traffic(4, 50)


def test_more_sessions_only_add_to_the_end(knowledge):
    world = World(7, knowledge)
    assert world.traffic(3, 100)[:40] == world.traffic(3, 40)


def test_shares_are_near_their_targets(knowledge):
    conversations = World(7, knowledge).traffic(0, 6000)
    opening = Counter(c.asks[0].true_action for c in conversations)
    assert opening["refuse"] / 6000 == pytest.approx(0.09, abs=0.015)
    assert opening["escalate"] / 6000 == pytest.approx(0.06, abs=0.015)
    answered = [c for c in conversations if c.asks[0].true_action not in ("refuse", "escalate")]
    assert sum(len(c.asks) == 2 for c in answered) / len(answered) == pytest.approx(0.25, abs=0.03)
    assert sum(c.malicious for c in conversations) / 6000 == pytest.approx(0.02, abs=0.015)
    assert len({c.user_id for c in conversations if c.malicious}) == 8


def test_intents_have_a_long_tail(knowledge):
    counts = Counter(c.asks[0].true_action for c in World(7, knowledge).traffic(0, 4000))
    ranked = [n for action, n in counts.most_common() if action not in ("refuse", "escalate")]
    assert len(ranked) == 12
    assert ranked[0] / ranked[-1] > 8


def test_a_follow_up_deserves_the_answer_that_it_points_at(knowledge):
    targets = {a.id: {f.answer for f in a.follow_ups} for a in knowledge.answers}
    pairs = [c.asks for c in World(7, knowledge).traffic(0, 500) if len(c.asks) == 2]
    assert pairs
    assert all(second.true_action in targets[first.true_action] for first, second in pairs)


def test_a_rephrase_is_another_question_of_the_same_intent(knowledge):
    world = World(7, knowledge)
    for number, conversation in enumerate(world.traffic(0, 100)):
        ask = conversation.asks[0]
        again = world.rephrase(ask, chance(7, number))
        assert (again.true_action, again.intent) == (ask.true_action, ask.intent)
        assert again.question != ask.question


def test_wordings_vary_and_leave_no_brackets(knowledge):
    question = "[how|where] do I get the refund [for my bike|]?"
    texts = [wording(question, chance(1, n)) for n in range(300)]
    assert len(set(texts)) > 60
    assert not any(set("[|]") & set(text) or "  " in text or text != text.strip() for text in texts)


def test_about_one_message_in_six_has_a_typo():
    # A question without alternation, capitals and final mark, so that only typos can change its words.
    words = "please refund money quickly"
    texts = [wording(words, chance(2, n)).lower().rstrip("?.!") for n in range(3000)]
    assert sum(words not in text for text in texts) / 3000 == pytest.approx(0.175, abs=0.03)


def test_the_catalogue_holds_no_questions(knowledge):
    rows = approved_answers(knowledge)
    assert Counter(row["kind"] for row in rows) == {"answer": 12, "escalate": 1, "refuse": 1}
    assert all(set(row) == {"id", "kind", "topic", "title", "text", "source"} for row in rows)


def test_a_knowledge_base_that_contradicts_itself_is_refused(sample_rows, tmp_path):
    rows = sample_rows
    rows["answers"][0]["follow_ups"][0]["answer"] = "nowhere"
    rows["answers"][1]["text"] = rows["answers"][2]["text"]
    path = tmp_path / "knowledge.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    with pytest.raises(ValueError, match=r"share the text.*nowhere"):
        load_knowledge(path)


@pytest.mark.skipif(not KNOWLEDGE.exists(), reason="demo/knowledge.json is not written yet")
def test_velora_has_a_knowledge_base_that_fits_itself():
    knowledge = load_knowledge()
    messages = [ask.text for c in World(7, knowledge).traffic(0, 300) for ask in c.asks]
    assert len(knowledge.answers) >= 20
    assert not any(set("[|]") & set(text) for text in messages)
