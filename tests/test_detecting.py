"""Partitions: however the lake is cut, and in whatever order and how often its parts are worked on, the same signals are found."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.made_lake import write_lake
from tasks import addressed
from tasks.engine import InProcess, opened
from tasks.live import detection
from tasks.live.detection import detected
from tasks.live.lake import Lake
from tasks.live.workspace import Workspace
from tasks.pieces import Partition, cut, read
from tests import one_query
from tests.handmade import candidate, interaction, member, workspace

ROWS, FILES = 900, 4
Rows = list[dict[str, Any]]


class Shuffled(InProcess):
    """Works on parts in a random order, and on each of them twice: as a cluster does that lost a worker and found it again."""

    def run(self, work, parts) -> Iterator:
        order = random.Random(1).sample([*range(len(parts)), *range(len(parts))], 2 * len(parts))
        done = {k: work(parts[k]) for k in order}
        return (done[k] for k in range(len(parts)))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Made traffic, of which a third was looked at before and a tenth has been in a batch."""
    place = workspace(tmp_path_factory.mktemp("lake"))
    write_lake(place.lake, ROWS, FILES, group_rows=60)
    lake = Lake(place.lake)
    ids = lake.query("SELECT interaction_id FROM interactions ORDER BY interaction_id")["interaction_id"].to_pylist()
    lake.append("members", [replace(member(i), interaction_id=i) for i in ids[::3]])
    parts = {i: "mined" if k % 2 else "" for k, i in enumerate(ids[::10])}
    lake.append("candidates", [replace(candidate(i, part=p), candidate_id=f"cd_{i}", interaction_id=i) for i, p in parts.items()])
    return place


@pytest.fixture(scope="module")
def all_at_once(place: Workspace) -> Rows:
    return one_query.signals(place)


def signals_of(place: Workspace, part_bytes: int, kind: type[InProcess] = InProcess) -> Rows:
    lake = Lake(place.lake)
    with opened(place.state) as engine:
        before = lake.count("signals")
        detected(place, lake, kind(engine.folder, part_bytes))
        found = lake.query("SELECT * FROM signals ORDER BY signal_id")
        assert before == 0
    lake.rewrite("signals", lambda rows: rows.slice(0, 0))  # for the next one
    return found.to_pylist()


def part_bytes_for(place: Workspace, wanted: int) -> int:
    """The size at which the lake is cut into so many partitions."""
    files = Lake(place.lake).files("interactions")
    return next(b for b in range(2_000_000, 0, -2_000) if len(cut(files, b)) == wanted)


@pytest.mark.parametrize("parts", [1, 3, 7])  # seven are more than there are files
def test_any_partitioning_finds_what_one_query_over_everything_finds(place: Workspace, all_at_once: Rows, parts: int):
    # Detectors that look at other rows: at the conversation's next one, at other models' answers, at what people said.
    assert {"rephrased", "models_disagree", "negative_feedback"} <= {s["detector"] for s in all_at_once}
    assert signals_of(place, part_bytes_for(place, parts)) == all_at_once


def test_the_order_in_which_parts_end_and_how_often_they_are_tried_changes_nothing(place: Workspace, all_at_once: Rows):
    assert signals_of(place, part_bytes_for(place, 7), Shuffled) == all_at_once


def test_conversations_and_other_models_answers_do_reach_over_partitions(place: Workspace, monkeypatch: pytest.MonkeyPatch):
    """Or the tests above would prove nothing: without what is lent, signals are missing."""
    everything = signals_of(place, part_bytes_for(place, 7))
    monkeypatch.setattr(detection, "_lent", lambda *_: ())
    alone = signals_of(place, part_bytes_for(place, 7))
    assert len(alone) < len(everything)


def test_nothing_of_the_work_is_left_behind(place: Workspace):
    signals_of(place, part_bytes_for(place, 3))
    assert [p.name for p in place.state.iterdir() if p.name.startswith(".scratch")] == []


def test_a_part_without_anything_open_is_not_read(place: Workspace, tmp_path: Path):
    other = workspace(tmp_path)
    lake = Lake(other.lake)
    for name in "ab":
        lake.append("interactions", [interaction(name, response="")])
    lake.append("candidates", [candidate("a")])
    looked: list[str] = []

    class Noting(InProcess):
        def run(self, work, parts):
            looked.extend(f"{work.__name__} {p.partition.rows}" for p in parts)
            return super().run(work, parts)

    with opened(other.state) as engine:
        assert detected(other, lake, Noting(engine.folder, 1)) == {"empty_answer": 1}
    assert looked == ["glance 1", "glance 1", "detect 1"]


@pytest.mark.parametrize("part_bytes", [1, 5000, 40_000, 10**9])
def test_every_row_is_in_exactly_one_partition_and_is_read_in_order(place: Workspace, part_bytes: int):
    files = Lake(place.lake).files("interactions")
    parts: list[Partition] = cut(files, part_bytes)
    assert len({p.name for p in parts}) == len(parts)
    for rows in (7, 10_000):
        found = [t for p in parts for t in read(p, ["interaction_id"], rows)]
        ids = [i for t in found for i in t["interaction_id"].to_pylist()]
        assert ids == [i for f in files for i in pq.read_table(f)["interaction_id"].to_pylist()]
        assert max(t.num_rows for t in found) <= rows
    assert sum(p.rows for p in parts) == ROWS


def test_what_is_addressed_comes_to_whom_it_is_meant_for(tmp_path: Path):
    schema = pa.schema([("text", pa.string())])
    tables = [pa.table({"part": [0, 0, 2], "text": ["a", "b", "c"]}), pa.table({"part": [2, 5], "text": ["d", "e"]})]
    path, meant = addressed.write(tmp_path / "x.parquet", tables)
    assert meant == {0, 2, 5}
    assert {k: addressed.read([path, path], k, schema)["text"].to_pylist() for k in (0, 1, 2, 5)} == {
        0: ["a", "b"] * 2, 1: [], 2: ["c", "d"] * 2, 5: ["e"] * 2,
    }  # fmt: skip
    assert addressed.write(tmp_path / "nothing.parquet", []) == ("", set())
