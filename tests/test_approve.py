"""A person decides in Prefect's UI: a served deployment, a suspended run with a typed form, and the answer as the UI sends it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tasks.live import registry
from tasks.live.registry.journal import PROMOTED
from tasks.live.workspace import Workspace
from tests.conftest import ROOT, flywheel
from tests.test_registry import place, told

pytestmark = pytest.mark.slow
FIXTURES = (place, told)


def test_a_person_approves_in_prefect_and_a_stale_question_is_answered_by_nothing(
    place: Workspace, told, prefect_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PREFECT_API_URL", prefect_server)
    other = Workspace(shutil.copytree(place.root, tmp_path / "other", symlinks=True))
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_RUNNER_POLL_FREQUENCY": "1"}
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    with (tmp_path / "serve.log").open("w") as log:
        served = subprocess.Popen(
            [sys.executable, "-m", "flows.approve", str(place.root)], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
    try:
        _through_prefect(prefect_server, place, other)
    finally:
        served.terminate()
        served.wait(30)
        print((tmp_path / "serve.log").read_text())


def _through_prefect(api: str, place: Workspace, other: Workspace) -> None:
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.approve import ask_in_prefect

    with temporary_settings({PREFECT_API_URL: api}), get_client(sync_client=True) as client:
        asked, too = registry.promote(place), registry.promote(other)
        assert isinstance(asked, registry.Asked) and isinstance(too, registry.Asked)
        _until(lambda: ask_in_prefect(place, asked))
        assert ask_in_prefect(place, asked), "the same question is one run"
        first = _suspended(client, place)
        refused = client.resume_flow_run(first, run_input={"approve": "perhaps", "reviewer": "alice"})
        assert refused.status.value == "REJECT" and "boolean" in refused.details.reason
        assert client.resume_flow_run(first, run_input={"approve": True, "reviewer": ""}).status.value == "REJECT"
        assert registry.champion(place).version == "1"
        took = client.resume_flow_run(first, run_input={"approve": True, "reviewer": "alice", "note": "read 20 of its answers"})
        assert took.status.value == "ACCEPT"
        _until(lambda: client.read_flow_run(first).state.is_final())
        assert client.read_flow_run(first).state.is_completed(), client.read_flow_run(first).state
        last = registry.history(place)[-1]
        assert (last.action, last.version, last.by) == (PROMOTED, "2", "alice") and last.why.startswith("read 20 of its answers")

        assert ask_in_prefect(other, too)
        second = _suspended(client, other)
        assert flywheel("promote", "--approve", "--by", "bob", "--workspace", other.root).code == 0
        client.resume_flow_run(second, run_input={"approve": False, "reviewer": "alice"})
        _until(lambda: client.read_flow_run(second).state.is_final())
        assert client.read_flow_run(second).state.is_completed()
        assert [(e.action, e.by) for e in registry.history(other)][-1] == (PROMOTED, "bob")


def _suspended(client: Any, place: Workspace) -> Any:
    """The run that waits for this workspace's answer."""
    found: list = []

    def waits() -> bool:
        runs = [r for r in client.read_flow_runs() if r.parameters.get("workspace") == str(place.root)]
        assert len(runs) <= 1
        found[:] = [r.id for r in runs if r.state and r.state.is_paused()]
        return bool(found)

    _until(waits)
    return found[0]


def _until(true: Any, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.5)
