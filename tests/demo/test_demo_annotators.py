"""The annotators: their skill is what it says, they share the work, and a batch answered again is the same files."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from demo.annotators import CARELESS, CARELESS_SHARE, EXPERT, SKILLS, SPAMMER, answer_batch
from demo.chance import chance
from demo.world import approved_answers

CANDIDATES = 1500


def _write(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _row(number: int, response: str, **more: object) -> dict:
    return {
        "batch_id": "b-1",
        "candidate_id": f"ix_{number:05d}",
        "kind": "answer",
        "content_hash": f"h{number}",
        "question": "how?",
        "history": [],
        "contexts": [],
        "response": response,
        "wanted": 3,
        "answered_by": [],
        "role": "annotator",
        "guideline": "answer/1",
    } | more


def _answers(folder: Path) -> list[dict]:
    return [json.loads(line) for p in sorted(folder.glob("*.jsonl")) for line in p.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def batch(tmp_path_factory, knowledge):
    """A batch where about half of what was served is right: its folder, the truth and the texts."""
    folder = tmp_path_factory.mktemp("batch")
    rows = approved_answers(knowledge)
    actions = [row["id"] for row in rows]
    rng = chance(5, "batch")
    truth, sent = {}, []
    for number in range(CANDIDATES):
        true_action = actions[rng.integers(len(actions))]
        served = true_action if rng.random() < 0.5 else actions[rng.integers(len(actions))]
        sent.append(_row(number, knowledge.texts[served]))
        truth[sent[-1]["candidate_id"]] = true_action
    _write(folder / "batch.jsonl", sent)
    _write(folder / "catalogue.jsonl", rows)
    return folder, truth, {row["candidate_id"]: row["response"] for row in sent}


def test_measured_skill_is_near_the_known_one(batch, knowledge, tmp_path):
    folder, truth, response = batch
    assert answer_batch(folder, tmp_path, truth, seed=7) == 3 * CANDIDATES
    agreed, asked = Counter(), Counter()
    for row in _answers(tmp_path):
        true_action, served = truth[row["candidate_id"]], response[row["candidate_id"]]
        right = served == knowledge.texts[true_action]
        asked[row["annotator"]] += 1
        agreed[row["annotator"]] += row["value"] == (
            {"verdict": "right"} if right else {"verdict": "wrong", "correction": true_action}
        )
    assert set(asked) == set(SKILLS)
    expected = SKILLS | {CARELESS: SKILLS[CARELESS] * (1 - CARELESS_SHARE), SPAMMER: 0.5}  # who finds all right is right by half
    for annotator, skill in expected.items():
        assert agreed[annotator] / asked[annotator] == pytest.approx(skill, abs=0.05)
        assert asked[annotator] == pytest.approx(3 * CANDIDATES / len(SKILLS), rel=0.1)


def test_answers_have_the_agreed_shape(batch, knowledge, tmp_path):
    folder, truth, _ = batch
    answer_batch(folder, tmp_path, truth, seed=7)
    per_candidate = defaultdict(set)
    for row in _answers(tmp_path):
        per_candidate[row["candidate_id"]].add(row["annotator"])
        value = row["value"]
        assert ("correction" in value) == (value["verdict"] == "wrong")
        assert value.get("correction", "refuse") in knowledge.texts
        assert (row["batch_id"], row["kind"], row["guideline"]) == ("b-1", "answer", "answer/1")
    assert all(len(people) == 3 for people in per_candidate.values())
    assert answer_batch(folder, tmp_path, truth, seed=7) == 0  # once


def test_an_expert_answers_what_experts_are_asked_and_every_kind_by_what_they_think(knowledge, tmp_path):
    contexts = [{"text": knowledge.texts["refuse"]}, {"text": "something else"}]
    rows = [_row(1, "x", role="expert", wanted=1, kind=kind, contexts=contexts) for kind in ("answer", "action", "relevance")]
    _write(tmp_path / "batch" / "batch-2.jsonl", rows)
    _write(tmp_path / "batch" / "catalogue.jsonl", approved_answers(knowledge))
    assert answer_batch(tmp_path / "batch", tmp_path / "answers", {"ix_00001": "refuse"}, seed=7) == 3
    said = {row["kind"]: (row["annotator"], row["value"]) for row in _answers(tmp_path / "answers")}
    assert said == {
        "answer": (EXPERT, {"verdict": "wrong", "correction": "refuse"}),
        "action": (EXPERT, {"action": "refuse"}),
        "relevance": (EXPERT, {"grades": {"0": 3, "1": 0}}),
    }


def test_the_same_batch_gives_the_same_bytes_and_another_seed_others(batch, tmp_path):
    folder, truth, _ = batch
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        answer_batch(folder, tmp_path / name, truth, seed=seed)
    a, b, c = ([p.read_bytes() for p in sorted((tmp_path / name).glob("*.jsonl"))] for name in "abc")
    assert a == b
    assert a != c


def test_who_has_answered_is_not_asked_again(knowledge, tmp_path):
    text = knowledge.texts["refuse"]
    sent = [_row(n, text, answered_by=["ada", "bruno", "fritz"], wanted=2) for n in range(20)]
    _write(tmp_path / "batch" / "batch.jsonl", sent)
    _write(tmp_path / "batch" / "catalogue.jsonl", approved_answers(knowledge))
    truth = {row["candidate_id"]: "refuse" for row in sent}
    assert answer_batch(tmp_path / "batch", tmp_path / "answers", truth, seed=7) == 40
    assert {row["annotator"] for row in _answers(tmp_path / "answers")} <= set(SKILLS) - {"ada", "bruno", "fritz"}


def test_an_unknown_kind_is_refused(knowledge, tmp_path):
    _write(tmp_path / "batch.jsonl", [_row(1, "text", kind="pair")])
    _write(tmp_path / "catalogue.jsonl", approved_answers(knowledge))
    with pytest.raises(ValueError, match="'pair'"):
        answer_batch(tmp_path, tmp_path / "answers", {"ix_00001": "refuse"}, seed=7)


def test_the_company_answers_a_batch_by_what_it_knows(settle, knowledge):
    town = settle()
    facts = [fact for fact in town.company.truth.facts(1) if not fact.right][:30]
    sent = [_row(n, "half an ans") for n in range(len(facts))]
    folder = town.workspace / "data" / "outbox" / "b-1"
    _write(folder / "batch.jsonl", sent)
    _write(folder / "catalogue.jsonl", approved_answers(knowledge))
    of = {row["candidate_id"]: fact.response_id for row, fact in zip(sent, facts, strict=True)}
    true_action = {row["candidate_id"]: fact.true_action for row, fact in zip(sent, facts, strict=True)}
    assert town.company.annotate(folder, of) == 3 * len(facts)
    rows = _answers(town.workspace / "data" / "answers")
    assert all(row["value"]["verdict"] == "wrong" for row in rows)
    assert all(row["time"].startswith("2026-01-19T") for row in rows)
    assert sum(row["value"]["correction"] == true_action[row["candidate_id"]] for row in rows) / len(rows) > 0.7
