"""The lake in a bucket, behind a real HTTP server that speaks S3: the same promises as in a folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.errors import Refused
from tasks.live.capture import capture, rebuild
from tasks.live.erasure.erase import erase
from tasks.live.erasure.subject import Wish
from tasks.live.lake import TABLES, UNCOMMITTED, Lake, Pending, sweep
from tasks.live.workspace import Workspace
from tasks.records import Signal, to_arrow
from tests.handmade import asked, interaction, log, said, workspace
from tests.imports import ROOT
from tests.stores import KEYS, free_port, s3, s3_get, s3_objects
from tests.test_lake import WRITER

pytestmark = pytest.mark.slow
EVERYTHING = "SELECT * FROM interactions ORDER BY interaction_id"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a store; AWS_* name it to this process and its children."""
    with s3(tmp_path_factory.mktemp("s3") / "log", "lakes") as url, pytest.MonkeyPatch.context() as environment:
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": url}.items():
            environment.setenv(name, value)
        yield url


@pytest.fixture
def bucket(store: str, request: pytest.FixtureRequest) -> str:
    return f"s3://lakes/it's {request.node.name}/lake"


@pytest.fixture(params=["folder", "bucket"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake" if request.param == "folder" else request.getfixturevalue("bucket"))


def some(name: str, n: int = 20) -> list:
    return [interaction(f"{name}-{k}", question=f"{name} asks {k}") for k in range(n)]


def test_a_query_answers_the_same_from_a_bucket_as_from_a_folder(bucket: str, tmp_path: Path):
    answers = []
    for lake in (Lake(tmp_path / "lake"), Lake(bucket)):
        assert lake.append("interactions", some("a")) == (20, 0)
        assert lake.append("interactions", [*some("a", 5), *some("b", 5)]) == (5, 5)
        lake.append("signals", [Signal(f"sg_{n}", f"ix_{n}", "rephrased", n / 4, "again") for n in range(4)])
        answers.append([
            lake.query(EVERYTHING).to_pylist(),
            lake.query("SELECT dialect, count(*) AS n FROM interactions WHERE question < $q GROUP BY ALL", {"q": "b"}).to_pylist(),
            sorted(r for t in lake.stream(EVERYTHING, 7) for r in t["native_id"].to_pylist()),
            lake.rows(Signal, "SELECT * FROM signals WHERE score > 0.2 ORDER BY signal_id"),
            lake.query("SELECT * FROM feedback").schema.names,
            lake.query("SELECT count(*) AS n FROM interactions i JOIN interactions j USING (question)").to_pylist(),
        ])  # fmt: skip
    assert answers[0] == answers[1] and len(answers[0][0]) == 25


def test_processes_that_append_to_a_bucket_at_once_lose_nothing(bucket: str):
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, bucket, name], cwd=ROOT) for name in "ab"]
    assert [w.wait(120) for w in writers] == [0, 0]
    ids = Lake(bucket).query("SELECT native_id FROM interactions")["native_id"].to_pylist()
    assert sorted(ids) == sorted(f"{w}-{k}-{n}" for w in "ab" for k in range(6) for n in range(5))


def test_what_a_process_wrote_and_did_not_commit_is_seen_by_nobody_and_swept(lake: Lake):
    lake.append("interactions", some("a"))
    died = Pending(lake.root, "interactions")
    died.write(to_arrow(TABLES["interactions"], some("never committed", 3)))
    died._writer.close()
    died._sink.close()
    assert lake.count("interactions") == 20
    assert sweep(lake.root, TABLES, older_than_s=3600) == 0, "somebody may be writing it"
    assert sweep(lake.root, TABLES) == 1
    assert not [name for name, _ in lake.contents() if UNCOMMITTED in name] and lake.count("interactions") == 20


def test_rows_that_are_appended_while_a_table_is_written_anew_stay(lake: Lake):
    lake.append("interactions", some("a"))

    def change(rows):
        lake.append("interactions", some("meanwhile", 2))
        return rows.slice(4)

    assert lake.rewrite("interactions", change) == 4
    assert lake.count("interactions") == 18


def test_of_two_who_write_the_same_file_anew_one_is_told(lake: Lake):
    """Neither may bring back what the other took out."""
    lake.append("interactions", some("a"))

    def change(rows):
        Lake(lake.root).rewrite("interactions", lambda r: r.slice(1))
        return rows.slice(0, 19)

    with pytest.raises(OSError, match="deleted data this operation read"):
        lake.rewrite("interactions", change)
    assert lake.count("interactions") == 19


def test_compaction_changes_no_row_and_disturbs_nobody_who_reads_or_appends(lake: Lake):
    for day in range(6):
        lake.append("interactions", some(f"day {day}"))
    reader = Lake(lake.root).pin("interactions")
    rows, slowly = lake.query(EVERYTHING), reader.stream(EVERYTHING, 16)
    next(slowly)
    assert lake.number_of_files("interactions") == 6
    assert lake.compact("interactions") == 5 and lake.compact("interactions") == 0
    assert lake.number_of_files("interactions") == 1 and lake.query(EVERYTHING).equals(rows)
    assert lake.vacuum("interactions", older_than_s=3600) == 0, "who began before still reads those files"
    assert reader.query(EVERYTHING).equals(rows) and sum(t.num_rows for t in slowly) == 120 - 16
    assert lake.append("interactions", [*some("day 5"), *some("day 6")]) == (20, 20)
    assert lake.vacuum("interactions") == 6 and lake.count("interactions") == 140


def test_compaction_writes_nobodys_words_into_the_log_where_no_erasure_looks(lake: Lake):
    for n in range(3):
        lake.append("rejects", [TABLES["rejects"](f"rj_{n}", "a.jsonl", "bad", "my secret words", "seg", n)])
        lake.append("interactions", [interaction(f"n-{n}", question="my secret words")])
    for table in ("rejects", "interactions"):
        assert lake.compact(table) == 2
        lake.rewrite(table, lambda rows: rows.slice(0, 0))
        lake.vacuum(table)
    if isinstance(lake.root, Path):
        left = [p.read_bytes() for p in lake.root.rglob("*") if p.is_file()]
    else:
        left = list(s3_get(lake.root).values())
    assert left and not [data for data in left if b"secret" in data]


def test_a_store_that_would_lose_commits_is_refused_before_it_holds_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with s3(tmp_path / "log", "lakes", heedless=True) as url:
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": url}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(Refused, match="ignores If-None-Match") as refused:
            Lake("s3://lakes/lake").append("interactions", some("a"))
        assert "FLYWHEEL_LAKE" in refused.value.what_to_do
        assert Lake("s3://lakes/lake").count("interactions") == 0


@pytest.mark.parametrize("wrong", ["nobody there", "no such bucket"])
def test_a_store_that_does_not_answer_is_told_soon_and_with_what_to_look_at(
    store, wrong: str, monkeypatch: pytest.MonkeyPatch
):
    if wrong == "nobody there":
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    began = time.monotonic()
    with pytest.raises(Refused, match=r"answer|NoSuchBucket") as told:
        Lake(f"s3://{'lakes' if wrong == 'nobody there' else 'elsewhere'}/lake").append("interactions", some("a"))
    assert time.monotonic() - began < 60
    assert "aws s3 ls s3://" in told.value.what_to_do and told.value.exit_code == 1


def test_a_workspace_whose_lake_is_in_a_bucket_captures_rebuilds_and_erases(
    bucket: str, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made = workspace(tmp_path / "work")
    log(made.inbox / "a.jsonl", *(asked(f"r-{k}", response="so it is") for k in range(9)), said("f-1", "r-1"), b"junk")
    log(
        made.inbox / "b.jsonl",
        asked("z-1", session_id="s-2", user_id="u-2", response="what nobody else was ever told here"),
    )
    capture(made)
    here = {
        t: Lake(made.lake).query(f"SELECT COLUMNS(c -> c <> 'received') FROM {t} ORDER BY ALL").to_pylist()
        for t in TABLES
    }
    shutil.rmtree(made.lake)
    monkeypatch.setenv("FLYWHEEL_LAKE", bucket)
    assert Workspace(made.root).lake == bucket
    rebuild(made)
    there = {
        t: Lake(bucket).query(f"SELECT COLUMNS(c -> c <> 'received') FROM {t} ORDER BY ALL").to_pylist() for t in TABLES
    }
    assert there == here and len(there["interactions"]) == 10
    rebuild(made)
    assert Lake(bucket).number_of_files("interactions") == 1, "the second took the place of the first"
    assert len([n for n, _ in Lake(bucket).contents() if n.startswith("interactions/")]) == 1

    done = erase(made, Wish(user="u-2"))
    assert done.hits == 0 and done.proof["data/lake"].files >= 3
    assert Lake(bucket).count("interactions") == 9
    assert not [name for name, data in s3_get(bucket).items() if b"nobody else was" in data]
    assert s3_objects(store, "lakes")


@pytest.mark.parametrize("place", ["gs://bucket/lake", "s3://bucket", "http://127.0.0.1/lake"])
def test_a_place_that_is_no_lake_is_refused(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FLYWHEEL_LAKE", place)
    with pytest.raises(Refused, match="no place for a lake"):
        _ = Workspace(tmp_path).lake


def test_a_lake_may_be_a_folder_on_another_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FLYWHEEL_LAKE", str(tmp_path / "disk"))
    assert Workspace(tmp_path / "w").lake == tmp_path / "disk"
    monkeypatch.setenv("FLYWHEEL_LAKE", "other/lake")
    assert Workspace(tmp_path / "w").lake == tmp_path / "w" / "other" / "lake"
