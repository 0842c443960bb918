"""The workspace's locks, and what processes that died leave where they wrote."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tasks.engine import opened
from tasks.errors import BUSY, Refused
from tasks.live.workspace import Workspace, write_durably


def _of_a_dead_process(path: Path) -> Path:
    ended = subprocess.Popen(["true"])
    ended.wait()
    left = path.with_name(f".{path.name}.{ended.pid}.tmp")
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_bytes(b"half")
    return left


@pytest.mark.parametrize(("lock", "where"), [
    ("capture", "data/raw/00000001-a.jsonl.zst"), ("capture", ".flywheel/offsets-logs.json"), ("lake", "data/raw/answers/a.zst"),
    ("snapshot", "data/reports/freeze.json"), ("registry", ".flywheel/registry/journal.jsonl"),
])  # fmt: skip
def test_who_takes_a_lock_sweeps_what_a_dead_process_was_writing(tmp_path: Path, lock: str, where: str):
    left = _of_a_dead_process(tmp_path / where)
    with Workspace(tmp_path).lock(lock):
        assert not left.exists()


def test_scratch_of_a_dead_process_goes_and_what_another_machine_may_be_writing_stays_for_a_day(tmp_path: Path):
    place = Workspace(tmp_path)
    scratch = _of_a_dead_process(place.state / "glance")
    scratch.unlink()
    scratch.mkdir(parents=True)
    (scratch / "texts.parquet").write_bytes(b"half")
    elsewhere, long_ago = (place.state / f".scratch-{n}.elsewhere-4711.tmp" for n in (1, 2))
    elsewhere.mkdir()
    long_ago.mkdir()
    os.utime(long_ago, (1, 1))
    with place.lock("lake"):
        assert not scratch.exists() and not long_ago.exists() and elsewhere.exists()


def test_an_open_engine_keeps_its_scratch_whatever_locks_its_process_takes(tmp_path: Path):
    place = Workspace(tmp_path)
    place.state.mkdir()
    with opened(place.state) as engine, place.lock("registry"):
        assert engine.folder.is_dir()


def test_what_a_living_process_writes_and_what_only_looks_alike_stays(tmp_path: Path):
    place = Workspace(tmp_path)
    write_durably(place.raw / "whole.zst", b"whole")
    living = place.raw / f".a.zst.{os.getppid()}.tmp"
    alike = place.raw / ".a.zst.new.tmp"
    for path in (living, alike):
        path.write_bytes(b"half")
    with place.lock("capture"):
        assert living.exists() and alike.exists() and (place.raw / "whole.zst").read_bytes() == b"whole"


def test_a_lock_that_is_held_is_told_with_its_holder_and_free_again_after_it(tmp_path: Path):
    place = Workspace(tmp_path)
    with place.lock("lake"), pytest.raises(Refused, match=f"process {os.getpid()}") as busy, place.lock("lake"):
        pass
    assert busy.value.exit_code == BUSY
    with place.lock("lake"):
        pass
