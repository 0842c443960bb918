"""The taxonomy in the lake: a turn a batch, written once, and told by `flywheel status`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tasks.live.drift import drifts
from tasks.live.lake import Lake
from tasks.live.status import as_text, read
from tasks.live.taxonomy import alarmed, classify, newest
from tasks.live.workspace import Workspace
from tasks.records import Candidate, Cluster, Signal
from tests.handmade import interaction, member, workspace
from tests.test_taxonomy import AROUND, Play

WEEK = 7 * 86_400_000_000
WINDOW = 300


def batch(lake: Lake, play: Play, number: int, counts: dict[str, int]) -> None:
    """One window: its failures, each with a signal, among as many ordinary questions, all of them candidates."""
    play.turn = number
    failed = [f.text for f in play.failures(counts)]
    texts = failed + [f"how much is a month of plan {k}" for k in range(WINDOW - len(failed))]
    names = [f"{number}-{k:03d}" for k in range(WINDOW)]
    lake.append(
        "interactions",
        [interaction(n, t, ts=number * WEEK + k) for k, (n, t) in enumerate(zip(names, texts, strict=True))],
    )
    lake.append("members", [member(n, "train") for n in names])
    lake.append("signals", [Signal(f"sg_{n}", f"ix_{n}", "rephrased", 0.8, "") for n in names[: len(failed)]])
    lake.append(
        "candidates",
        [Candidate(f"cd_{n}", f"bt_{number}", f"ix_{n}", "", "train", 0.1, WINDOW, 0.5, -1, "{}") for n in names],
    )


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    made = workspace(tmp_path / "work")
    for arguments in (["init", "--quiet"], ["commit", "--quiet", "--allow-empty", "--message", "begun"]):
        subprocess.run(
            ["git", "-C", str(made.root), "-c", "user.name=t", "-c", "user.email=t@t", *arguments], check=True
        )
    return made


def test_a_failure_that_comes_back_raises_an_alarm_in_status(place: Workspace):
    lake, play = Lake(place.lake), Play(0, window=WINDOW)
    for number, planted in enumerate((0, 40, 0, 0, 40), 1):
        batch(lake, play, number, {**AROUND, "battery": planted})
        assert classify(place, lake) > 0
        assert bool(alarmed(lake)) == (number == 5)
    states = lake.query("SELECT turn, state FROM clusters WHERE name LIKE '%battery%' ORDER BY turn").to_pylist()
    assert [(r["turn"], r["state"]) for r in states] == [(2, "born"), (3, "fixed"), (5, "regressed")]
    document = read(place)
    assert len(document["alarms"]) == 1 and len(document["clusters"]) == 3
    assert "ALARM: " in as_text(document) and "was fixed and is back in turn 5" in as_text(document)
    shown, alarms = newest(place)
    assert alarms == document["alarms"]
    assert all(c.text and c.row.turn == 5 for c in shown)


def test_a_turn_is_written_once_however_often_it_is_asked_for(place: Workspace):
    lake, play = Lake(place.lake), Play(1, window=WINDOW)
    assert classify(place, lake) == 0
    batch(lake, play, 1, AROUND)
    batch(lake, play, 2, AROUND)
    assert classify(place, lake) >= 2 * len(AROUND)
    before = sorted(lake.rows(Cluster, "SELECT * FROM clusters"), key=lambda r: r.cluster_turn_id)
    assert {(r.turn, r.batch_id) for r in before} == {(1, "bt_1"), (2, "bt_2")}
    assert classify(place, lake) == 0
    assert sorted(lake.rows(Cluster, "SELECT * FROM clusters"), key=lambda r: r.cluster_turn_id) == before


def test_a_window_that_happened_before_a_judged_one_changes_no_history(place: Workspace):
    lake, play = Lake(place.lake), Play(2, window=WINDOW)
    batch(lake, play, 5, AROUND)
    classify(place, lake)
    batch(lake, play, 3, {"battery": 40})
    assert classify(place, lake) == 0


def test_what_no_detector_saw_is_in_no_cluster(place: Workspace):
    lake, play = Lake(place.lake), Play(3, window=WINDOW)
    batch(lake, play, 1, AROUND)
    classify(place, lake)
    assert lake.query("SELECT * FROM clusters WHERE name LIKE '%month%'").num_rows == 0


def test_drift_is_told_of_the_newest_window_against_those_before(place: Workspace):
    lake, play = Lake(place.lake), Play(4, window=WINDOW)
    batch(lake, play, 1, AROUND)
    assert drifts(place) == []
    batch(lake, play, 2, AROUND)
    assert not any(d.drifted for d in drifts(place))
    batch(lake, play, 3, {"insurance": 250})
    moved = {d.column for d in drifts(place) if d.drifted}
    assert {"question", "question_length"} <= moved and "response" not in moved
