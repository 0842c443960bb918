"""A data set is a function of what was frozen: not of threads, the locale, the time zone, the order of a hash, or the folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.datasets import STAGES, frozen
from tasks import shards
from tasks.examples import TABLES, Supervised
from tasks.policy import folder_digest
from tests.imports import ROOT

pytestmark = pytest.mark.slow

PLACES = {
    "here": {"OMP_NUM_THREADS": "1", "LC_ALL": "C", "TZ": "UTC", "PYTHONHASHSEED": "1"},
    "dort und wieder 2": {"OMP_NUM_THREADS": "4", "LC_ALL": "tr_TR.UTF-8", "TZ": "Asia/Kathmandu", "PYTHONHASHSEED": "2"},
}


@pytest.fixture(scope="module")
def traffic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("traffic") / "frozen"
    frozen(folder, 14_000)
    return folder


def built(folder: Path, traffic: Path, environment: dict[str, str]) -> Path:
    folder.mkdir(parents=True)
    shutil.copytree(traffic, folder / "frozen")
    shutil.copy(ROOT / "params.yaml", folder / "params.yaml")
    for stage in ("curate", "build"):
        command = [sys.executable, "-m", f"tasks.stages.{stage}", *STAGES[stage]]
        subprocess.run(command, cwd=folder, env=os.environ | environment | {"PYTHONPATH": str(ROOT)}, check=True)
    return folder


def test_equal_inputs_give_equal_bytes_on_any_machine(traffic: Path, tmp_path: Path):
    made = [built(tmp_path / name, traffic, environment) for name, environment in PLACES.items()]
    for part in ("curated", "dataset", "reports"):
        assert len({folder_digest(place / part) for place in made}) == 1, part
    rows = shards.table(made[0] / "dataset/parquet/train/sft", Supervised)
    assert rows.num_rows > 12_000 and len(shards.files(made[0] / "dataset/parquet/train/sft")) > 1


def test_both_forms_of_a_table_hold_the_same_rows(traffic: Path, tmp_path: Path):
    place = built(tmp_path / "here", traffic, PLACES["here"])
    for side, name in [(side, t.name) for t in TABLES.values() for side in t.sides]:
        parquet = shards.table(place / "dataset/parquet" / side / name, TABLES[name].row)
        lines = sorted((place / "dataset/jsonl" / side / name).glob("*.jsonl"))
        assert sum(path.read_bytes().count(b"\n") for path in lines) == parquet.num_rows
        files = [p.stem for p in shards.files(place / "dataset/parquet" / side / name) if p.stem != shards.EMPTY]
        assert [p.stem for p in lines] == files
