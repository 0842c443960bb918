"""What users meet from each model version: shares with intervals, and an alarm only where the newest is plainly worse."""

from __future__ import annotations

import time
from pathlib import Path

import orjson
import pytest

from tasks.live.lake import Lake
from tasks.live.live_champion import live_champion
from tasks.live.workspace import Workspace
from tasks.records import Feedback, Signal
from tests.handmade import interaction, workspace

DAY = 86_400_000_000


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return workspace(tmp_path / "work")


def served(place: Workspace, version: str, answers: int, bad: int, days_ago: float) -> None:
    """Answers of a version, all of them rated."""
    now = time.time_ns() // 1000 - int(days_ago * DAY)
    lake = Lake(place.lake)
    names = [f"{version}-{k}" for k in range(answers)]
    lake.append("interactions", [interaction(n, model_version=version, ts=now + k) for k, n in enumerate(names)])
    lake.append("feedback", [thumb(n, k >= bad, now + answers + k) for k, n in enumerate(names)])
    lake.append("signals", [Signal(f"sg_{n}", f"ix_{n}", "truncated", 0.9, "e") for n in names[: bad // 2]])


def thumb(name: str, good: bool, ts: int) -> Feedback:
    return Feedback(
        feedback_id=f"fb_{name}", dialect="flywheel", native_id=f"f-{name}", target_type="response", target=name, name="thumb",
        value_type="bool", value=orjson.dumps(good).decode(), comment="", source_kind="user", user=f"u-{name}", tenant="", ts=ts,
        received=ts, raw_segment="", raw_line=0,
    )  # fmt: skip


def test_each_version_has_its_share_of_bad_feedback_newest_first(place: Workspace):
    served(place, "1", 100, 20, 8)
    served(place, "2", 50, 5, 1)
    live = live_champion(place)
    counted = [(v.version, v.answers, v.rated, v.bad, v.flagged) for v in live.versions]
    assert counted == [("2", 50, 50, 5, 2), ("1", 100, 100, 20, 10)]
    assert all(v.low < v.bad / v.rated < v.high for v in live.versions)
    assert live.alarms == []


def test_a_champion_that_users_rate_plainly_worse_raises_an_alarm_and_one_that_is_a_little_does_not(place: Workspace):
    served(place, "1", 200, 20, 8)
    served(place, "2", 60, 9, 3)
    assert live_champion(place).alarms == []
    served(place, "3", 60, 30, 1)
    (alarm,) = live_champion(place).alarms
    assert "version 3" in alarm and "50.0%" in alarm and "flywheel rollback" in alarm


def test_old_traffic_and_answers_that_nobody_rated_say_nothing(place: Workspace):
    served(place, "1", 100, 90, 60)
    Lake(place.lake).append("interactions", [interaction("x", model_version="2", ts=time.time_ns() // 1000)])
    (only,) = live_champion(place).versions
    assert (only.version, only.rated, only.low, only.high) == ("2", 0, 0.0, 1.0)


def test_what_was_taken_back_by_itself_is_told(place: Workspace):
    (place.state / "serve").mkdir()
    made = {"at": "2026-11-28T08:00:00Z", "decision": "breach", "newer": {"version": "4"}, "reason": "12 of 80 against 2 of 80"}
    (place.state / "serve" / "decisions.jsonl").write_bytes(orjson.dumps(made) + b"\n")
    assert ["12 of 80" in a and "version 4" in a for a in live_champion(place).alarms] == [True]
