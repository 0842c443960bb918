"""The lake: upserts by id, several writers, and SQL over tables that need not exist yet."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tasks.live.lake import TABLES, Lake
from tasks.records import Interaction, Reject, Signal, arrow_schema
from tests.handmade import annotation, interaction
from tests.imports import ROOT


def test_appending_twice_stores_once(tmp_path: Path):
    lake = Lake(tmp_path / "lake")
    rows = [interaction(str(k)) for k in range(5)]
    assert lake.append("interactions", rows) == (5, 0)
    assert lake.append("interactions", rows) == (0, 5)
    assert lake.append("interactions", [*rows, interaction("6"), interaction("6")]) == (1, 6)
    assert lake.count("interactions") == 6


def test_the_first_row_of_an_id_wins(tmp_path: Path):
    lake = Lake(tmp_path / "lake")
    lake.append("interactions", [interaction("1", response="first"), interaction("1", response="second")])
    lake.append("interactions", [interaction("1", response="third")])
    assert lake.query("SELECT response FROM interactions")["response"].to_pylist() == ["first"]


def test_rows_come_back_as_they_went_in(tmp_path: Path):
    lake = Lake(tmp_path / "it's a lake")
    rows = [
        interaction("1", 'it\'s "quoted"\n\u2028 𝔸 \x01', confidence=None, latency_ms=0.1, input_tokens=2**52),
        interaction("2", "", response=""),
    ]
    lake.append("interactions", rows)
    assert lake.rows(Interaction, "SELECT * FROM interactions ORDER BY interaction_id") == rows


@pytest.mark.parametrize("table", sorted(TABLES))
def test_a_table_that_nobody_wrote_is_empty_and_has_its_columns(tmp_path: Path, table: str):
    lake = Lake(tmp_path / "lake")
    found = lake.query(f"SELECT * FROM {table}")
    assert found.num_rows == 0 and found.column_names == arrow_schema(TABLES[table]).names
    assert not (tmp_path / "lake").exists()  # nothing is created by looking


def test_nothing_appended_is_nothing_written(tmp_path: Path):
    lake = Lake(tmp_path / "lake")
    assert lake.append("signals", []) == (0, 0)
    assert not (tmp_path / "lake").exists()


def test_a_written_and_an_empty_table_can_be_joined(tmp_path: Path):
    lake = Lake(tmp_path / "lake")
    lake.append("interactions", [interaction("1"), interaction("2")])
    sql = "SELECT count(*) AS n FROM interactions LEFT JOIN annotations USING (interaction_id) WHERE annotator IS NULL"
    assert lake.query(sql)["n"][0].as_py() == 2


def test_parameters_are_values_and_never_sql(tmp_path: Path):
    lake = Lake(tmp_path / "lake")
    lake.append("annotations", [annotation("1", "ana", note="'; DROP TABLE annotations; --")])
    sql = "SELECT annotator FROM annotations WHERE note = $note"
    assert lake.query(sql, {"note": "'; DROP TABLE annotations; --"})["annotator"].to_pylist() == ["ana"]
    assert lake.count("annotations") == 1


def test_every_table_takes_the_noun_it_is_declared_for(tmp_path: Path):
    lake = Lake(tmp_path / "lake")
    assert lake.append("rejects", [Reject("rj_1", "a.jsonl", "bad_json", "no", "seg", 3)]) == (1, 0)
    assert lake.append("signals", [Signal("sg_1", "ix_1", "rephrased", 0.5, "again")]) == (1, 0)
    assert lake.rows(Signal, "SELECT * FROM signals") == [Signal("sg_1", "ix_1", "rephrased", 0.5, "again")]


WRITER = """
import sys
from tasks.live.lake import Lake
from tests.handmade import interaction
lake = Lake(sys.argv[1])
for k in range(6):
    assert lake.append("interactions", [interaction(f"{sys.argv[2]}-{k}-{n}") for n in range(5)]) == (5, 0)
"""


@pytest.mark.slow
def test_two_processes_that_append_at_once_lose_nothing(tmp_path: Path):
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "lake"), name], cwd=ROOT) for name in "ab"
    ]
    assert [w.wait(120) for w in writers] == [0, 0]
    ids = Lake(tmp_path / "lake").query("SELECT native_id FROM interactions")["native_id"].to_pylist()
    assert sorted(ids) == sorted(f"{w}-{k}-{n}" for w in "ab" for k in range(6) for n in range(5))


def test_a_long_query_draws_nothing_on_stdout(tmp_path: Path):
    shown = Lake(tmp_path).query("SELECT current_setting('enable_progress_bar') AS shown")
    assert shown["shown"].to_pylist() == [False]
