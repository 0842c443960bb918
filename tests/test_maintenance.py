"""Maintenance: fewer and no superfluous files, the same rows, and nobody else's work touched."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from tasks.live.capture import capture
from tasks.live.lake import TABLES, UNCOMMITTED, Lake
from tasks.live.maintenance import Maintained, maintain
from tasks.live.workspace import Workspace
from tests.conftest import flywheel
from tests.handmade import asked, interaction, log, workspace

LONG_AGO = time.time() - 90 * 86_400


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return workspace(tmp_path / "work")


def aged(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (LONG_AGO, LONG_AGO))
    os.utime(path.parent, (LONG_AGO, LONG_AGO))
    return path


def filled(place: Workspace, commits: int) -> Lake:
    lake = Lake(place.lake)
    for k in range(commits):
        lake.append("interactions", [interaction(f"{k}-{n}") for n in range(3)])
    return lake


def rows(lake: Lake) -> list:
    return lake.query("SELECT * FROM interactions ORDER BY interaction_id").to_pylist()


def test_a_table_of_many_small_files_becomes_one_of_the_same_rows(place: Workspace):
    lake = filled(place, 16)
    before = rows(lake)
    assert maintain(place) == Maintained(joined={"interactions": 15})
    assert lake.number_of_files("interactions") == 1 and rows(lake) == before
    assert maintain(place) == Maintained(), "a second time there is nothing to do"


def test_what_a_process_joined_that_died_before_the_commit_goes_with_the_next_joining(place: Workspace):
    lake = filled(place, 16)
    folder = place.lake / "interactions"
    shutil.copytree(folder, place.root / "before")
    maintain(place)
    before = rows(lake)
    (joined,) = {p.name for p in folder.glob("part-*")}
    shutil.rmtree(folder / "_delta_log")
    shutil.copytree(place.root / "before" / "_delta_log", folder / "_delta_log")  # as if that commit had never been
    assert lake.number_of_files("interactions") == 16 and lake.litter("interactions") == ([], [joined])
    assert maintain(place) == Maintained(joined={"interactions": 15})
    assert lake.litter("interactions") == ([], []) and not (folder / joined).exists() and rows(lake) == before


def test_a_table_of_few_files_is_left_as_it_is(place: Workspace):
    lake = filled(place, 3)
    assert maintain(place) == Maintained() and lake.number_of_files("interactions") == 3


def test_files_that_no_version_needs_go_after_their_time_and_not_before(place: Workspace):
    filled(place, 16)
    maintain(place)
    files = list((place.lake / "interactions").glob("*.parquet"))
    assert len(files) == 17, "who began to read before still needs them"
    log_ = place.lake / "interactions" / "_delta_log"
    for path in files:
        os.utime(path, (LONG_AGO, LONG_AGO))
    assert maintain(place).deleted == {}, "what counts is since when no table names them"
    for path in (log_ / "00000000000000000016.json", *log_.glob("*.checkpoint.parquet"), log_ / "_last_checkpoint"):
        if path.suffix == ".json":
            actions = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            for action in (a["remove"] for a in actions if "remove" in a):
                action["deletionTimestamp"] = int(LONG_AGO * 1000)
            path.write_text("\n".join(map(json.dumps, actions)), encoding="utf-8")
        else:
            path.unlink()
    pending = aged(place.lake / "interactions" / f"{UNCOMMITTED}1.parquet")
    young = place.lake / "interactions" / f"{UNCOMMITTED}2.parquet"
    young.write_bytes(b"somebody is writing it")
    done = maintain(place)
    assert (done.deleted, done.swept) == ({"interactions": 16}, 1)
    assert not pending.exists() and young.exists()
    assert Lake(place.lake).count("interactions") == 48


def test_what_is_old_and_nobodys_goes_and_what_is_paid_waited_for_or_young_stays(place: Workspace):
    log(place.inbox / "a.jsonl", asked("r-1"))
    capture(place)
    old = [
        aged(place.data / "checkpoints" / "llm-5c0e" / "0-sft" / "weights"),
        aged(place.state / "serve" / "trial-81f3.jsonl"),
        aged(place.state / "serve" / "shadow.jsonl"),
        aged(place.raw / ".00000009-ab.jsonl.zst.4711.tmp"),
    ]
    os.utime(place.data / "checkpoints" / "llm-5c0e", (LONG_AGO, LONG_AGO))
    kept = [
        aged(place.data / "checkpoints" / "provider" / "order.json"),
        aged(place.spool / "1767571200123456.jsonl", b"{}\n"),  # capture has not read it
        aged(place.state / "serve" / "decisions.jsonl"),
        aged(place.state / "serve" / "state.json"),
        *place.raw.glob("0*.jsonl.zst"),
    ]
    young = place.data / "checkpoints" / "llm-77aa" / "0-sft" / "weights"
    young.parent.mkdir(parents=True)
    young.write_bytes(b"x")
    done = maintain(place)
    assert (done.dropped, done.swept) == ({"checkpoints": 1, "serve": 2}, 1)
    assert not any(p.exists() for p in old) and all(p.exists() for p in [*kept, young])


def test_what_capture_has_read_of_the_spool_and_could_not_remove_goes(place: Workspace):
    read = place.spool / "1767571200123456.jsonl"
    log(read, asked("r-1"))
    content = read.read_bytes()
    capture(place, [read])
    assert not read.exists()
    read.write_bytes(content)  # as if it had died before removing it
    from tasks.live.sources import Offsets

    offsets = Offsets(place)
    os.utime(read, (LONG_AGO, LONG_AGO))
    offsets.read(read, len(content))
    offsets.save()
    assert maintain(place).dropped == {"spool": 1} and not read.exists()


def test_what_another_process_holds_is_left_and_named(place: Workspace):
    filled(place, 16)
    weights = aged(place.data / "checkpoints" / "llm-5c0e" / "weights")
    with place.lock("lake"), place.lock("snapshot"):
        done = maintain(place)
    assert done.joined == {} and weights.exists()
    assert len(done.left) == 2 and all("is busy: process" in why for why in done.left)
    assert maintain(place).joined == {"interactions": 15} and not weights.exists()


@pytest.mark.slow
def test_the_command_says_what_it_did(place: Workspace):
    filled(place, 16)
    done = flywheel("maintain", "--json", "--workspace", place.root)
    assert done.code == 0 and done.document()["joined"] == {"interactions": 15}, done.err
    told = flywheel("maintain", "--workspace", place.root)
    assert told.out.splitlines()[0].split() == ["joined", "nothing"]
    assert Lake(place.lake).number_of_files("interactions") == 1 and set(TABLES) >= {"interactions"}
