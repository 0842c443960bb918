"""Fixtures of the slow tests: one demo, played once by the real command, that tests look at or work on copies of."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tests import labelstudio_server

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
FLYWHEEL = Path(sys.executable).parent / "flywheel"
LONGEST = ("test_up", "test_registry", "test_turns", "test_dying", "test_faults", "test_erasure_elsewhere", "test_erasure",
           "test_llm_faults", "test_servers", "test_labelstudio", "test_llm_repro", "test_validate")  # fmt: skip


@dataclass(frozen=True)
class Ran:
    """A finished `flywheel` command."""

    code: int
    out: str
    err: str

    def document(self) -> Any:
        return json.loads(self.out)


def flywheel(*arguments: str | Path, cwd: Path | None = None, **environment: str) -> Ran:
    """Run the real command, as a user would."""
    done = subprocess.run(
        [str(FLYWHEEL), *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest modules first: begun last, one of them would keep one process busy while the other has nothing left to do."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def together(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The folder that all test processes of this run share."""
    return tmp_path_factory.getbasetemp() if worker_id == "master" else tmp_path_factory.getbasetemp().parent


@pytest.fixture(scope="session")
def prefect_server(together: Path) -> str:
    """The API address of a real Prefect server on a free port: one for all test processes, ended with the run."""
    note = together / "prefect.json"
    with FileLock(together / "prefect.lock"):
        if not note.is_file():
            note.write_text(json.dumps(start_prefect(together / "prefect")), encoding="utf-8")
    return json.loads(note.read_text(encoding="utf-8"))["api"]


@pytest.fixture(scope="session")
def labelstudio(together: Path) -> labelstudio_server.Running:
    """A real Label Studio on a free port: one for all test processes, ended with the run."""
    if not labelstudio_server.installed():
        pytest.skip(labelstudio_server.ABSENT)
    with FileLock(together / "labelstudio.lock"):
        return labelstudio_server.shared(together)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """The process that leads the run ends the servers; one of the others may still need them."""
    factory = getattr(session.config, "_tmp_path_factory", None)
    if hasattr(session.config, "workerinput") or factory is None:
        return
    for name in ("prefect.json", "labelstudio.json"):
        note = factory.getbasetemp() / name
        if note.is_file():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(json.loads(note.read_text(encoding="utf-8"))["pid"], signal.SIGTERM)


def start_prefect(home: Path) -> dict[str, Any]:
    home.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "true",
    }
    environment.pop("PREFECT_API_URL", None)
    command = [str(FLYWHEEL.parent / "prefect"), "server", "start"]
    with (home / "server.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    api = f"http://127.0.0.1:{port}/api"
    _wait_until_healthy(api, server, home / "server.log")
    return {"api": api, "pid": server.pid}


def _wait_until_healthy(api: str, server: subprocess.Popen, log: Path) -> None:
    for _ in range(600):
        if server.poll() is not None:
            raise RuntimeError(f"prefect server ended: {log.read_text()}")
        try:
            with urllib.request.urlopen(f"{api}/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.3)
    raise RuntimeError(f"prefect server did not answer: {log.read_text()}")


@dataclass(frozen=True)
class Played:
    """A demo of two turns: its workspace and the document that it printed."""

    workspace: Path
    document: dict[str, Any]


@pytest.fixture(scope="session")
def played(together: Path, prefect_server: str) -> Played:
    """Played once for all test processes: the first to ask plays, the others wait for it."""
    workspace, printed = together / "played" / "workspace", together / "played.json"
    with FileLock(together / "played.lock"):
        if not printed.is_file():
            arguments = ("demo", "--json", "--turns", "2", "--seed", "1", "--workspace", workspace)
            done = flywheel(*arguments, PREFECT_API_URL=prefect_server)
            assert done.code == 0, done.err[-4000:]
            printed.write_text(done.out, encoding="utf-8")
    return Played(workspace, json.loads(printed.read_text(encoding="utf-8")))


@pytest.fixture
def a_copy(played: Played, tmp_path: Path) -> Path:
    """The played workspace, to do with as one likes."""
    return shutil.copytree(played.workspace, tmp_path / "workspace", symlinks=True)
