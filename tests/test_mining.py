"""Mining: what the lake holds becomes exchanges, each with what came after it, and signals that are written once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tasks import signals
from tasks.engine import opened
from tasks.live.detection import detected
from tasks.live.lake import Lake
from tasks.live.mining import _place
from tasks.live.workspace import Workspace
from tasks.records import Candidate, Feedback, Interaction, content_id
from tests.handmade import NOON, candidate, interaction, member, workspace

S = 1_000_000  # of microseconds


def ix(name: str) -> str:
    return content_id("ix", name)


def turn(name: str, question: str, at: float, session: str = "s-1", **changes: Any) -> Interaction:
    return interaction(name, question, interaction_id=ix(name), session_id=session, ts=NOON + int(at * S), **changes)


def event(name: str, about: str, metric: str, value: Any, **changes: Any) -> Feedback:
    kind = {bool: "boolean", str: "comment"}.get(type(value), "number")
    fields = {
        "feedback_id": content_id("fb", name), "dialect": "flywheel", "native_id": name, "target_type": "interaction",
        "target": about,
        "name": metric, "value_type": kind, "value": json.dumps(value), "comment": "", "source_kind": "user", "user": "u",
        "tenant": "",
        "ts": NOON + 900 * S, "received": NOON, "raw_segment": "", "raw_line": 0,
    }  # fmt: skip
    return Feedback(**fields | changes)


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return workspace(tmp_path)


def mined(place: Workspace, *rows: Any) -> dict[str, set[str]]:
    """Put the rows into the lake and mine; gives the detectors that fired, by the interaction's name."""
    lake = Lake(place.lake)
    for table, noun in (("interactions", Interaction), ("feedback", Feedback), ("candidates", Candidate)):
        lake.append(table, [r for r in rows if isinstance(r, noun)])
    with opened(place.state) as engine:
        detected(place, lake, engine)
    return fired(lake)


def fired(lake: Lake) -> dict[str, set[str]]:
    rows = lake.query("SELECT native_id, detector FROM signals JOIN interactions USING (interaction_id)").to_pylist()
    return {name: {r["detector"] for r in rows if r["native_id"] == name} for name in {r["native_id"] for r in rows}}


def test_an_exchange_knows_what_its_session_did_next(place: Workspace):
    found = mined(
        place,
        turn("a", "how long does a refund of my deposit take?", 0),
        turn("b", "how long does the refund of a deposit take", 60),
        turn("c", "no, I meant the deposit", 120),
        turn("d", "how long does a refund of my deposit take?", 90, session="another"),
    )
    assert found["a"] == {"rephrased"}
    assert "corrected_by_user" in found["b"]
    assert "c" not in found and "d" not in found


def test_the_same_conversation_again_is_a_retry_or_a_regeneration(place: Workspace):
    found = mined(
        place,
        turn("a", "when?", 0, response=""),
        turn("b", "when?", 5),
        turn("c", "when?", 25),
        turn("d", "and where is that written?", 90),
    )
    assert found == {"a": {"empty_answer", "retried"}, "b": {"regenerated"}}


def test_feedback_is_read_by_the_directions_that_configuration_gives(place: Workspace):
    turns = [turn(name, f"question {name}?", 0, session=name) for name in "abcdefgh"]
    found = mined(
        place,
        *turns,
        event("1", "a", "thumb", False),
        event("2", "b", "csat", 2),
        event("3", "c", "csat", 4),
        event("4", "d", "toxicity", 0.9),
        event("5", "e", "comment", "that is not what I asked"),
        event("6", "f", "copied", True),
        event("7", "g", "thumb", False, source_kind="llm_judge"),
        event("8", "h", "escalation", True),
    )
    assert found == {
        "a": {"negative_feedback"}, "b": {"low_rating"}, "d": {"low_rating"}, "e": {"negative_comment"},
        "f": {"copied"}, "h": {"escalated"},
    }  # fmt: skip


def test_models_that_answer_the_same_conversation_differently_are_seen(place: Workspace):
    answers = {
        "m-1": "It takes five working days.",
        "m-2": "Five working days, it takes.",
        "m-3": "Never ever again, sorry.",
    }
    rows = [turn(m, "when?", 0, session=m, model_served=m, response=text) for m, text in answers.items()]
    assert mined(place, *rows)["m-3"] >= {"models_disagree"}
    assert "models_disagree" not in fired(Lake(place.lake)).get("m-1", set())


def test_an_answer_is_looked_at_once_and_its_user_for_as_long_as_it_may_be_sent(place: Workspace):
    lake = Lake(place.lake)
    assert mined(place, turn("a", "when?", 0, response="", session="x"), turn("b", "where?", 1, session="y")) == {
        "a": {"empty_answer"}
    }
    before = lake.count("signals")
    lake.append("members", [replace(member(n), interaction_id=ix(n)) for n in "ab"])
    assert mined(place) == {"a": {"empty_answer"}}
    assert lake.count("signals") == before, "mining again finds the same and writes nothing"
    # b was placed, so its answer is old; a thumb that comes now is new.
    assert mined(place, event("late", "b", "thumb", False))["b"] == {"negative_feedback"}


def test_what_a_batch_passed_over_is_looked_at_again_only_after_a_complaint(place: Workspace):
    passed = [replace(candidate(n, part=""), candidate_id=content_id("cd", n), interaction_id=ix(n)) for n in "ab"]
    rows = [turn(n, f"question {n}?", 0, session=n, response="") for n in "ab"]
    assert mined(place, *rows, *passed) == {}
    assert set(mined(place, event("1", "b", "thumb", False))) == {"b"}


def test_a_window_larger_than_a_chunk_loses_no_row(place: Workspace, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(signals, "ROWS", 40)
    rows = [turn(f"n{k}", f"question {k}?", k, session=f"s{k}", response="" if k % 3 else "Yes.") for k in range(100)]
    found = mined(place, *rows)
    assert set(found) == {f"n{k}" for k in range(100) if k % 3}
    assert Lake(place.lake).query("SELECT DISTINCT detector FROM signals")["detector"].to_pylist() == ["empty_answer"]
    ids = Lake(place.lake).query("SELECT signal_id FROM signals")["signal_id"]
    assert len(set(ids.to_pylist())) == len(ids)


def test_the_stream_hands_over_small_tables(place: Workspace):
    lake = Lake(place.lake)
    lake.append("interactions", [turn(f"n{k}", "q", k) for k in range(5000)])
    batches = list(lake.stream("SELECT interaction_id FROM interactions", 1024))
    assert sum(b.num_rows for b in batches) == 5000
    assert len(batches) > 2
    assert all(isinstance(b, pa.Table) for b in batches)


def test_with_by_document_the_first_retrieved_document_is_a_place_at_the_wall(place: Workspace):
    settings = place.root / "params.yaml"
    settings.write_text(settings.read_text(encoding="utf-8").replace("by_document: false", "by_document: true"), encoding="utf-8")

    def asked(name: str, at: float, document: dict[str, str], **changes: Any) -> Interaction:
        return turn(name, f"{name} and {name} once more", at, f"s-{name}", contexts=json.dumps([document]), **changes)

    lake = Lake(place.lake)
    lake.append("interactions", [
        asked("apples", 0, {"id": "kb-1", "text": "Apples."}), asked("pears", 1, {"id": "kb-1", "text": "Pears."}),
        asked("plums", 2, {"id": "", "text": "Fruit."}), asked("abroad", 3, {"id": "kb-1", "text": ""}, tenant="another"),
    ])  # fmt: skip
    with opened(place.state) as engine:
        _place(place, lake, engine)
    lake.append("interactions", [asked("grapes", 9, {"id": "kb-1", "text": "?"}), asked("cherries", 9, {"text": "Fruit."})])
    with opened(place.state) as engine:
        _place(place, lake, engine)
    rows = lake.query("SELECT native_id, group_id FROM members JOIN interactions USING (interaction_id)").to_pylist()
    group = {r["native_id"]: r["group_id"] for r in rows}
    assert group["apples"] == group["pears"] == group["grapes"]
    assert group["plums"] == group["cherries"]
    assert len(set(group.values())) == 3
