"""The real `flywheel serve` over the real registry: it answers, its log is captured once, a promotion reaches it, it ends well."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.live import registry
from tasks.live.capture import capture
from tasks.live.feedback import resolved
from tasks.live.lake import Lake
from tasks.live.registry import Registered, files, journal
from tasks.live.workspace import Workspace
from tasks.metrics import FeedbackParams, metrics
from tests.handmade import TEXT, workspace
from tests.imports import ROOT
from tests.serving import always, settings

pytestmark = pytest.mark.slow
CONSUMER = ROOT / ".venv-consumers" / "bin" / "python"
TOKEN = "a-token-of-the-tests"


class Server:
    """A `flywheel serve` on a free port."""

    def __init__(self, place: Workspace):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        command = [sys.executable, "-m", "flows.cli", "serve", "--port", str(self.port), "--workspace", str(place.root)]
        environment = {**os.environ, "FLYWHEEL_SERVE_TOKEN": TOKEN}
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.until(lambda: self.ask("GET", "/healthz")[0] == 200)

    def until(self, true: Any, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while True:
            try:
                if true():
                    return
            except OSError:
                pass
            assert self.process.poll() is None, self.process.stderr.read().decode()
            assert time.monotonic() < end, "it did not happen in time"
            time.sleep(0.05)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def chat(self, text: str = "when do I see my money?", **more: Any) -> Any:
        body = {"model": "champion", "messages": [{"role": "user", "content": text}]} | more
        status, answer = self.ask("POST", "/v1/chat/completions", body)
        assert status == 200, answer
        return answer

    def stop(self, how: int = signal.SIGTERM) -> str:
        self.process.send_signal(how)
        _, err = self.process.communicate(timeout=30)
        return err.decode()


def git(place: Workspace) -> list[str]:
    return ["git", "-C", str(place.root), "-c", "user.name=a", "-c", "user.email=a@example.org"]


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace whose registry has the base model as champion."""
    place = workspace(tmp_path_factory.mktemp("serve") / "work")
    subprocess.run(["git", "init", "--quiet", str(place.root)], check=True)
    subprocess.run([*git(place), "commit", "--quiet", "--allow-empty", "-m", "a workspace"], check=True)
    settings(place, poll_s=0.2, outcome_minutes=0.0005, holdback_share=0.5)
    registry.champion(place)
    return place


@pytest.fixture
def server(registered: Workspace) -> Iterator[Server]:
    running = Server(registered)
    yield running
    if running.process.poll() is None:
        running.stop(signal.SIGKILL)


def test_what_was_asked_and_said_is_in_the_lake_once_under_the_model_that_answered(registered: Workspace, server: Server):
    champion = registry.champion(registered)
    body = server.chat("write to kim@example.org, please", user="kim", metadata={"session_id": "s-1"},
                       contexts=[{"id": "kb-1", "text": "Refunds take five days."}])  # fmt: skip
    said = {"response_id": body["id"], "thumb": False, "comment": "no", "user": "kim", "id": "f-1"}
    assert server.ask("POST", "/v1/feedback", said)[0] == 200
    assert server.ask("POST", "/v1/feedback", said)[0] == 200, "a client that tries again"
    err = server.stop()
    assert server.process.returncode == 0 and "Traceback" not in err and "kim" not in err
    account = capture(registered)
    assert (account.stored, account.duplicate, account.rejected) == (2, 1, 0)
    assert capture(registered).seen == 0 and list(registered.spool.iterdir()) == []
    lake = Lake(registered.lake)
    (row,) = lake.query(f"SELECT * FROM interactions WHERE native_id = '{body['id']}'").to_pylist()
    assert row["model_version"] == f"{champion.version}-{champion.digest[:8]}" and row["session_id"] == "s-1"
    assert row["response"] == body["choices"][0]["message"]["content"] and "kb-1" in row["contexts"]
    assert row["confidence"] == body["choices"][0]["flywheel"]["confidence"]
    assert row["user"].startswith("u_") and "kim" not in json.dumps(row, default=str)
    found = resolved(lake, metrics(registered.params("feedback", FeedbackParams))).to_pylist()
    assert [(f["interaction_id"], f["polarity"]) for f in found] == [(row["interaction_id"], -1)]


def test_openai_s_own_client_understands_it(server: Server):
    if not CONSUMER.is_file():
        pytest.skip("make consumers installs the client of OpenAI")
    program = ROOT / "tests" / "consumers" / "openai_asks.py"
    done = subprocess.run([str(CONSUMER), str(program), f"http://127.0.0.1:{server.port}/v1", TOKEN],
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["text"] == told["streamed"] and told["text"] in TEXT.values() and told["choices"] == 2
    assert told["models"] == ["champion"] and told["finish"] == "stop" and told["error"] == "model_not_found"
    assert told["tokens"] > 0 and told["stream_tokens"] > 0 and 0 <= told["confidence"] <= 1


def test_what_was_answered_survives_a_kill(registered: Workspace, server: Server):
    before = {row["native_id"] for row in Lake(registered.lake).query("SELECT native_id FROM interactions").to_pylist()}
    ids = {server.chat(f"question {k}")["id"] for k in range(20)}
    server.stop(signal.SIGKILL)
    again = Server(registered)
    again.stop()
    capture(registered)
    after = {row["native_id"] for row in Lake(registered.lake).query("SELECT native_id FROM interactions").to_pylist()}
    assert ids <= after - before


def register(place: Workspace, made: Registered) -> None:
    """Put a model into the real registry as champion, as a promotion does."""
    now = journal.read(place).champion
    digest = files.keep(place, made.folder)
    journal.add(place, lambda _: [journal.Entry(journal.PROMOTED, digest, now, "2", by="a test")])


def test_a_promotion_reaches_it_and_a_breach_is_rolled_back_in_the_registry(registered: Workspace, server: Server, tmp_path: Path):
    first = registry.champion(registered)
    register(registered, always(tmp_path / "new", "2", "battery"))
    start = time.monotonic()
    server.until(lambda: server.chat()["flywheel"]["digest"] != first.digest)
    assert time.monotonic() - start < 10
    _, health = server.ask("GET", "/healthz")
    assert health["trial"]["kind"] == "holdback" and health["trial"]["older"] == first.version
    for k in range(2000):  # whom the new champion serves does not like it
        body = server.chat(user=f"user-{k}")
        if body["flywheel"]["digest"] != first.digest:
            server.ask("POST", "/v1/feedback", {"response_id": body["id"], "thumb": False, "user": f"user-{k}"})
        if k % 50 == 0 and server.ask("GET", "/healthz")[1]["trial"] is None:
            break
    assert server.chat()["flywheel"]["digest"] == first.digest, "at once"
    server.until(lambda: registry.champion(registered).digest == first.digest)
    decided = [json.loads(line) for line in (registered.state / "serve" / "decisions.jsonl").read_text().splitlines()]
    assert [(d["trial"], d["decision"]) for d in decided] == [("holdback", "breach")]
    (back,) = [e for e in registry.history(registered) if e.action == journal.ROLLED_BACK]
    assert back.by == "serve" and "users" in back.why
    assert server.stop() and server.process.returncode == 0


def test_the_gate_s_word_about_a_challenger_is_read_from_the_newest_snapshot(registered: Workspace):
    from tasks.live.serving import champions

    asked_about = Registered("7", "d" * 64, registered.root)
    assert champions.decision(registered, asked_about) == "", "before any snapshot"
    registered.reports.mkdir(parents=True)
    verdict = {"decision": "inconclusive", "challenger": asked_about.digest}
    (registered.reports / "verdict.json").write_text(json.dumps(verdict), encoding="utf-8")
    (registered.root / "dvc.lock").write_text("stages: {}", encoding="utf-8")
    (registered.data / "frozen.dvc").write_text("outs: [{md5: 0123abcd, path: frozen}]", encoding="utf-8")
    subprocess.run([*git(registered), "add", "--force", "dvc.lock", "data/frozen.dvc", "data/reports/verdict.json"], check=True)
    subprocess.run([*git(registered), "commit", "--quiet", "-m", "a snapshot"], check=True)
    subprocess.run([*git(registered), "tag", "-a", "snapshot-0123abcd", "-m", "a snapshot"], check=True)
    assert champions.decision(registered, asked_about) == "inconclusive"
    assert champions.decision(registered, Registered("8", "e" * 64, registered.root)) == "", "of another nothing is known"
