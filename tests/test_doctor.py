"""The doctor finds each fault that was made, names the command that mends it, and is silent about a workspace that is well."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.live import doctor
from tasks.live.finding import FAULT, OK, WARNING, Finding
from tasks.live.known_bad import installed, known_bad
from tasks.live.workspace import Workspace, new_key
from tests import small
from tests.conftest import FLYWHEEL, git
from tests.imports import ROOT


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace that is well: a git clone with settings, a key, private folders and a remote."""
    before = os.umask(0o077)
    try:
        place = small.workspace(tmp_path_factory.mktemp("doctor") / "w")
        shutil.copy(ROOT / "params.yaml", place.root)
        git(place.root, "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "-am", "all settings")
        new_key(place.state / "pseudonym.key")
        for folder in (place.raw, place.lake, place.inbox, place.answers, place.outbox):
            folder.mkdir(parents=True)
    finally:
        os.umask(before)
    return place.root


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A copy to do with as one likes, on a machine where nobody listens and nothing is set."""
    for name in ("PREFECT_API_URL", "FLYWHEEL_TRACKING_URI", "FLYWHEEL_PSEUDONYM_KEY", *doctor.TELEMETRY):
        monkeypatch.delenv(name, raising=False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(doctor, "PORTS", {"prefect": free.getsockname()[1]})
    monkeypatch.setattr(doctor, "WARN_FREE", 0)
    return Workspace(shutil.copytree(made, tmp_path / "w", symlinks=True))


def bad(place: Workspace) -> list[Finding]:
    return [f for f in doctor.examine(place) if f.level != OK]


def test_a_workspace_that_is_well_has_no_finding_but_ok(place: Workspace):
    found = doctor.examine(place)
    assert [f for f in found if f.level != OK] == []
    assert {f.check for f in found} == set(doctor.CHECKS), "each check says that it looked"


def _write(name: str, text: str) -> Callable[[Workspace], None]:
    def write(place: Workspace) -> None:
        (place.root / name).parent.mkdir(parents=True, exist_ok=True)
        (place.root / name).write_text(text, encoding="utf-8")

    return write


def _change(name: str, old: str, new: str) -> Callable[[Workspace], None]:
    def change(place: Workspace) -> None:
        path = place.root / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    return change


def _do(*command: str) -> Callable[[Workspace], None]:
    return lambda place: subprocess.run(command, cwd=place.root, check=True, capture_output=True) and None


def _commit_of_tomorrow(place: Workspace) -> None:
    at = int((time.time() + 86_400) * 1000)
    _write("data/lake/interactions/_delta_log/00000000000000000000.json", json.dumps({"commitInfo": {"timestamp": at}}))(place)


def _dead_supervisor(place: Workspace) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    document = {"pid": ended.pid, "started": time.time(), "services": {}}
    (place.state / "up.json").write_text(json.dumps(document), encoding="utf-8")


def _dead_lock(place: Workspace) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    note = {"pid": ended.pid, "command": "flywheel turn", "since": time.time()}
    _write(".flywheel/locks/capture.json", json.dumps(note))(place)


FAULTS: dict[str, tuple[Callable[[Workspace], None], str, str, str]] = {
    # what is done to it: (how, the check that tells, what it says, what its command has)
    "a git process died": (_write(".git/index.lock", ""), "clone", "index.lock", "rm .git/index.lock"),
    "no branch": (_do("git", "checkout", "--quiet", "--detach"), "clone", "no branch", "git switch main"),
    "code that is not committed": (_write("stage.py", "changed"), "clone", "stage.py", "git checkout -- stage.py"),
    "settings are gone": (lambda p: (p.root / "params.yaml").unlink(), "settings", "is missing", "git checkout"),
    "settings can't be read": (_write("params.yaml", "a: [1"), "settings", "not valid YAML", "git checkout"),
    "a section is gone": (_change("params.yaml", "\nearning:", "\nlearning:"), "settings", "'earning'", "add it"),
    "a key is mistyped": (_change("params.yaml", "wait_days:", "wait_dais:"), "settings", "capture.wait_dais", "wait_days"),
    "a word for a number": (_change("params.yaml", "wait_days: 2.0", "wait_days: long"), "settings", "capture.wait_days", "float"),
    "no key": (lambda p: (p.state / "pseudonym.key").unlink(), "keys", "pseudonym.key is missing", "restore it"),
    "a key for all": (lambda p: (p.state / "pseudonym.key").chmod(0o644), "keys", "read by others", "chmod 600"),
    "an empty key": (lambda p: (p.state / "pseudonym.key").write_text(""), "keys", "is empty", "restore it"),
    "raw data for all": (lambda p: p.raw.chmod(0o755), "folders", "data/raw", "chmod 700 data/raw"),
    "no remote": (_write(".dvc/config", ""), "remotes", "no remote", "dvc remote add"),
    "a remote that is gone": (_write("dvc.lock", "stages: {}"), "remotes", "is not there", "mount it"),
    "a torn note of what is owed": (_write(".flywheel/unpushed.json", '["sna'), "remotes", "is torn", "dvc push"),
    "MLflow's database is none": (_write(".flywheel/mlflow.db", "x" * 50), "mlflow", "no SQLite database", "mv "),
    "another tool": (_change("params.yaml", "tool: files", "tool: paper"), "annotation tool", "'paper'", "labelstudio"),
    "Label Studio without an address": (
        _change("params.yaml", "tool: files", "tool: labelstudio"), "annotation tool", "FLYWHEEL_LABELSTUDIO_URL", "export",
    ),
    "the clock was put back": (_commit_of_tomorrow, "clock", "ahead of this machine's clock", "timedatectl"),
}  # fmt: skip
WARNINGS: dict[str, tuple[Callable[[Workspace], None], str, str, str]] = {
    "a snapshot that is owed": (_write(".flywheel/unpushed.json", '["snapshot-1"]'), "remotes", "snapshot-1", "flywheel turn"),
    "a lock of a process that died": (_dead_lock, "locks", "died while it held it", "rm .flywheel/locks/capture.json"),
    "a torn note of a lock": (_write(".flywheel/locks/lake.json", '{"pid"'), "locks", "is torn", "rm .flywheel/locks/lake.json"),
    "services that died": (_dead_supervisor, "ports", "died without", "flywheel up"),
}


@pytest.mark.parametrize("name", [*FAULTS, *WARNINGS])
def test_each_fault_that_is_made_is_found_and_nothing_else(place: Workspace, name: str):
    make, check, says, command = (FAULTS | WARNINGS)[name]
    make(place)
    found = bad(place)
    assert [f.check for f in found] == [check] or {f.check for f in found} == {check}
    assert {f.level for f in found} == {FAULT if name in FAULTS else WARNING}
    assert any(says in f.why for f in found) and any(command in f.fix for f in found)


def test_what_listens_elsewhere_is_told_and_what_we_started_is_not(place: Workspace, monkeypatch: pytest.MonkeyPatch):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        monkeypatch.setattr(doctor, "PORTS", {"mlflow": port})
        assert [(f.check, f.level) for f in bad(place)] == [("ports", WARNING)] and str(port) in bad(place)[0].why
        import psutil

        me = {"pid": os.getpid(), "started": psutil.Process().create_time()}
        service = me | {"url": f"http://127.0.0.1:{port}", "log": ""}
        (place.state / "up.json").write_text(json.dumps(me | {"services": {"mlflow": service}}), encoding="utf-8")
        assert bad(place) == []


@pytest.mark.parametrize(
    ("variable", "check", "level"), [("PREFECT_API_URL", "prefect", FAULT), ("FLYWHEEL_TRACKING_URI", "mlflow", WARNING)]
)
def test_a_server_that_is_named_and_does_not_answer_is_told_without_its_password(
    place: Workspace, monkeypatch: pytest.MonkeyPatch, variable: str, check: str, level: str
):
    monkeypatch.setenv(variable, "http://kim:hunter22@127.0.0.1:9")
    (found,) = bad(place)
    assert (found.check, found.level) == (check, level)
    assert "127.0.0.1:9" in found.why and "hunter22" not in found.why + found.fix


def test_a_switch_that_lets_a_dependency_phone_home_is_told(place: Workspace, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    (found,) = bad(place)
    assert (found.check, found.level) == ("telemetry", WARNING) and "unset MLFLOW_DISABLE_TELEMETRY" in found.fix


def test_little_room_is_a_warning_and_none_a_fault(monkeypatch: pytest.MonkeyPatch):
    gigabyte = 1 << 30
    assert [level for level, _, _ in doctor.room(100 * gigabyte, gigabyte)] == [OK]
    assert [level for level, _, _ in doctor.room(4 * gigabyte, gigabyte)] == [WARNING]
    assert [level for level, _, _ in doctor.room(100 * gigabyte, 60 * gigabyte)] == [WARNING]
    assert [level for level, _, _ in doctor.room(gigabyte // 4, 0)] == [FAULT]


@pytest.mark.parametrize(
    ("name", "version", "says"),
    [
        ("fastapi", "0.155.0", "no server of Prefect starts"), ("sqlalchemy", "2.1.9", "schedules create no runs"),
        ("duckdb", "2.0.0", "mean something else"), ("mlflow", "3.9.1", "CVE-2026-2614"), ("prefect", "3.6.21", "CVE-2026-3514"),
        ("label-studio", "1.8.1", "CVE-2023-43791"),
    ],
)  # fmt: skip
def test_versions_that_were_measured_to_break_or_are_open_to_attacks_are_named(name: str, version: str, says: str):
    assert any(says in bad.why for bad, _ in known_bad({name: version}))


def test_what_the_lock_file_installs_is_none_of_them():
    locked = dict(line.split(" ")[0].split(";")[0].split("==") for line in (ROOT / "requirements.lock").read_text().splitlines()
                  if line[:1].isalnum() and "==" in line)  # fmt: skip
    assert locked["fastapi"] and list(known_bad(locked)) == []
    assert installed().keys() >= {"fastapi", "prefect", "mlflow", "duckdb"}


@pytest.mark.slow
def test_the_verb_prints_one_document_imports_no_engine_and_exits_2_only_on_a_fault(place: Workspace):
    heavy = {"prefect", "mlflow", "duckdb", "pandas", "dvc", "pyarrow"}
    code = f"import sys, tasks.live.doctor; print(*sorted({heavy!r} & sys.modules.keys()))"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout.split() == []
    ran = subprocess.run([FLYWHEEL, "doctor", "--json"], cwd=place.root, capture_output=True, text=True, check=False)
    document = json.loads(ran.stdout)
    assert {f["check"] for f in document} == set(doctor.CHECKS)
    assert ran.returncode == (2 if any(f["level"] == FAULT for f in document) else 0)
    place.raw.chmod(0o755)
    ran = subprocess.run([FLYWHEEL, "doctor"], cwd=place.root, capture_output=True, text=True, check=False)
    assert ran.returncode == 2 and "fix: chmod 700 data/raw" in ran.stdout
