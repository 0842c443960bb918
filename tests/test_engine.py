"""The engine: on a cluster as here, to the row; a lost worker loses nothing, and one that would compute otherwise is refused."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from benchmarks.datasets import frozen
from benchmarks.made_lake import write_lake
from benchmarks.planted_texts import Corpus
from tasks import shards
from tasks.collapse import collapse
from tasks.curating import partitions
from tasks.engine import InProcess, opened, whole
from tasks.engine.alike import Likeness, likeness
from tasks.errors import Refused
from tasks.live.detection import detected
from tasks.live.lake import Lake
from tasks.live.mining import mine
from tasks.live.workspace import HERE, TEMPORARY
from tasks.policy import folder_digest
from tasks.stages.curate import curate
from tests.dask_cluster import Cluster, Deadly, Squaring, free_port, running, square, texts_or_death
from tests.handmade import workspace
from tests.imports import ROOT


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("FLYWHEEL_ENGINE", "FLYWHEEL_PART_MB"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FLYWHEEL_SCRATCH", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("cluster"), workers=2) as cluster:
        yield cluster


def test_without_a_setting_parts_are_worked_on_here_one_after_another(scratch: Path):
    with opened() as engine:
        assert isinstance(engine, InProcess)
        assert list(engine.run(square, [Squaring(k) for k in range(4)])) == [0, 1, 4, 9]


def test_scratch_is_private_goes_with_the_engine_and_is_known_to_an_erasure(scratch: Path):
    with opened() as engine:
        (engine.folder / "x").touch()
        assert engine.folder.stat().st_mode & 0o777 == 0o700
        assert TEMPORARY.fullmatch(engine.folder.name).groups() == (HERE, str(os.getpid()))
    assert list(scratch.iterdir()) == []


def test_a_file_is_there_whole_or_not_at_all(scratch: Path):
    with pytest.raises(ZeroDivisionError), whole(scratch / "made") as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert list(scratch.iterdir()) == []
    with whole(scratch / "made") as temporary:
        temporary.write_text("all of it")
    assert (scratch / "made").read_text() == "all of it"


@pytest.mark.parametrize("named", ["dask", "dask://", "dask://host", "spark://host:1", "dask://a b:1"])
def test_an_engine_that_is_none_is_refused_with_what_to_set(named: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FLYWHEEL_ENGINE", named)
    with pytest.raises(Refused, match="names no engine") as refused, opened():
        pass
    assert "dask://HOST:8786" in refused.value.what_to_do


@pytest.mark.parametrize("size", ["0", "-1", "large", "nan", "inf"])
def test_a_size_of_parts_that_is_none_is_refused(size: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FLYWHEEL_PART_MB", size)
    with pytest.raises(Refused, match="is no size"), opened():
        pass


def test_what_differs_on_a_worker_is_said_in_words():
    ours = Likeness("aaa", "3.11.2", ("duckdb 1.5.6", "pyarrow 25.0.1"))
    assert ours.differs(ours) == ""
    there = Likeness("bbb", "3.11.2", ("duckdb 2.0.0", "pyarrow 25.0.1"))
    assert ours.differs(there) == "duckdb 2.0.0, not duckdb 1.5.6; code bbb, not aaa"


def test_a_refusal_comes_whole_from_another_process():
    there = pickle.loads(pickle.dumps(Refused("this", "do that", 6)))
    assert (there.why, there.what_to_do, there.exit_code, str(there)) == ("this", "do that", 6, "this\n  fix: do that")


@pytest.mark.slow
def test_a_scheduler_that_does_not_answer_is_told_with_the_fix(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FLYWHEEL_ENGINE", f"dask://127.0.0.1:{free_port()}")
    monkeypatch.setattr("tasks.engine.cluster.CONNECT_S", 1)
    with pytest.raises(Refused, match="no Dask scheduler answers") as refused, opened():
        pass
    assert "unset FLYWHEEL_ENGINE" in refused.value.what_to_do


@pytest.mark.slow
def test_mining_on_a_cluster_finds_what_it_finds_here(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("FLYWHEEL_SCRATCH")
    found = {}
    for name, engine in (("here", ""), ("there", cluster.engine)):
        place = workspace(tmp_path / name)
        write_lake(place.lake, 600, files=3, group_rows=100)
        monkeypatch.setattr("tasks.live.mining._reward", lambda _: None)
        monkeypatch.setenv("FLYWHEEL_ENGINE", engine)
        monkeypatch.setenv("FLYWHEEL_PART_MB", "0.2")
        mine(place)
        lake = Lake(place.lake)
        found[name] = [lake.query(f"SELECT * FROM {t} ORDER BY ALL").to_pylist() for t in ("signals", "members")]
        assert [p.name for p in place.state.iterdir() if ".tmp" in p.name] == []
    assert found["here"] == found["there"]
    assert len(found["here"][0]) > 300 and len(found["here"][1]) == 600


@pytest.mark.slow
def test_near_duplicates_on_a_cluster_are_those_found_here_though_a_worker_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    parts = list(Corpus(1200, 4, share=0.3, length=200, size=200).partitions())
    here = collapse([partial(list, p) for p in parts], 0.8)
    with running(tmp_path / "cluster", workers=2) as cluster:
        monkeypatch.setenv("FLYWHEEL_ENGINE", cluster.engine)
        mark = tmp_path / "died"
        dying = [partial(texts_or_death, p, mark) if k == 3 else partial(list, p) for k, p in enumerate(parts)]
        assert collapse(dying, 0.8).tolist() == here.tolist()
        assert mark.exists()
        assert [p.poll() for p in cluster.processes].count(None) == 2, "a worker died, the other one did its work"


@pytest.mark.slow
def test_curation_on_a_cluster_gives_the_bytes_of_here(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    frozen(tmp_path / "frozen", 14_000)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    for name, engine, megabytes in (("whole", "", "256"), ("here", "", "0.01"), ("there", cluster.engine, "0.01")):
        monkeypatch.setenv("FLYWHEEL_ENGINE", engine)
        monkeypatch.setenv("FLYWHEEL_PART_MB", megabytes)
        assert (len(partitions(tmp_path / "frozen", int(float(megabytes) * 2**20))) > 2) == (name != "whole")
        curate(tmp_path / "frozen", tmp_path / name / "out", tmp_path / name / "report.json")
    assert len({folder_digest(tmp_path / name) for name in ("whole", "here", "there")}) == 1
    assert len(shards.files(tmp_path / "whole" / "out" / "labels")) > 1


@pytest.fixture(scope="module")
def reviving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two workers that come back when they die."""
    with running(tmp_path_factory.mktemp("reviving"), workers=2, nanny=True) as cluster:
        yield cluster


@pytest.mark.slow
def test_detection_loses_nothing_though_a_worker_dies_in_each_of_its_steps(
    reviving: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    found = []
    for k, address in enumerate(("", reviving.engine)):
        monkeypatch.setenv("FLYWHEEL_ENGINE", address)
        monkeypatch.setenv("FLYWHEEL_PART_MB", "0.2")
        place = workspace(tmp_path / str(k))
        write_lake(place.lake, 400, files=2, group_rows=100)
        with opened() as engine:
            detected(place, Lake(place.lake), Deadly(engine, tmp_path) if address else engine)
        found.append(Lake(place.lake).query("SELECT * FROM signals ORDER BY signal_id").to_pylist())
    assert found[0] == found[1] and len(found[0]) > 200
    assert {p.name for p in tmp_path.glob("*-0")} == {"glance-0", "lend-0", "detect-0"}, "each step did lose a worker"


@pytest.mark.slow
def test_a_part_that_kills_every_worker_is_named_and_not_tried_for_ever(
    reviving: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FLYWHEEL_ENGINE", reviving.engine)
    parts = [Squaring(0), Squaring(1), Squaring(2, tmp_path / "mark", always=True), Squaring(3)]
    with opened() as engine:
        with pytest.raises(Refused, match="2 workers died over the partition number 2;") as refused:
            list(engine.run(square, parts))
        assert "FLYWHEEL_PART_MB" in refused.value.what_to_do
        # And the cluster goes on with others.
        assert list(engine.run(square, [Squaring(k) for k in range(5, 9)])) == [25, 36, 49, 64]


@pytest.mark.slow
@pytest.mark.parametrize(("process", "told"), [(0, "went away"), (1, "has had no worker for 1 seconds")])
def test_who_is_gone_for_good_is_told_and_not_waited_for(process: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tasks.engine.cluster.NOBODY_S", 1)
    with running(tmp_path / "cluster", workers=1) as cluster:
        monkeypatch.setenv("FLYWHEEL_ENGINE", cluster.engine)
        with opened() as engine:
            results = engine.run(square, [Squaring(k) for k in range(3000)])
            assert next(results) == 0
            cluster.processes[process].kill()
            with pytest.raises(Refused, match=told):
                list(results)


@pytest.mark.slow
def test_a_worker_that_does_not_see_the_folder_says_so(cluster: Cluster, scratch: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FLYWHEEL_ENGINE", cluster.engine)
    with opened() as engine:
        engine.folder.rename(scratch / "elsewhere")
        with pytest.raises(Refused, match="does not see the folder") as refused:
            list(engine.run(square, [Squaring(1)]))
    assert "mount the workspace" in refused.value.what_to_do


@pytest.mark.slow
def test_a_worker_with_other_code_is_refused_when_it_is_there_and_when_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    other = tmp_path / "other"
    for room in ("tasks", "tests", "benchmarks"):
        shutil.copytree(ROOT / room, other / room, ignore=shutil.ignore_patterns("__pycache__", "demo", "consumers"))
    changed = other / "tasks" / "similar.py"
    changed.write_text(changed.read_text(encoding="utf-8") + "# of another commit\n", encoding="utf-8")
    with running(tmp_path / "cluster", workers=1) as cluster:
        monkeypatch.setenv("FLYWHEEL_ENGINE", cluster.engine)
        with opened() as engine:
            cluster.worker(other)
            cluster.wait_for(2)
            with pytest.raises(Refused, match=rf"would give other results: it has code \w+, not {likeness().code}"):
                list(engine.run(square, [Squaring(k) for k in range(40)]))
        with pytest.raises(Refused, match="would give other results") as refused, opened():
            pass
        assert "requirements.lock" in refused.value.what_to_do


@pytest.mark.slow
def test_an_error_of_the_work_itself_comes_with_the_name_of_its_part(cluster: Cluster, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FLYWHEEL_ENGINE", cluster.engine)
    with opened() as engine, pytest.raises(TypeError) as error:
        list(engine.run(square, [Squaring(1), Squaring("two")]))  # type: ignore[arg-type]
    assert "in the partition number two" in error.value.__notes__
