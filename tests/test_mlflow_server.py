"""Pulling from a real MLflow tracking server: every trace once, assessments whenever they come, nothing half written."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.errors import Refused
from tasks.live import feedback
from tasks.live.lake import Lake
from tasks.live.workspace import Workspace
from tasks.metrics import Metric
from tests.handmade import workspace

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--default-artifact-root", str(folder / "artifacts"),
    ]  # fmt: skip
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    uri = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{uri}/health", timeout=2).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.2)
        yield uri
    finally:
        os.killpg(process.pid, 9)
        process.wait()


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return workspace(tmp_path / "work")


def ask(uri: str, experiment: str, question: str, answer: str) -> str:
    """One traced generation, as an application logs it. Returns the id of its trace."""
    import mlflow
    from mlflow.entities import SpanType

    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment(experiment)
    with mlflow.start_span("chat", span_type=SpanType.CHAT_MODEL) as span:
        span.set_inputs({"model": "gpt-x", "messages": [{"role": "user", "content": question}]})
        span.set_outputs({"choices": [{"message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}]})
        mlflow.update_current_trace(metadata={"mlflow.trace.user": "kim", "mlflow.trace.session": "s-1"})
        trace = span.trace_id
    mlflow.flush_trace_async_logging()
    return trace


def assess(uri: str, trace: str, name: str, value: object) -> None:
    import mlflow
    from mlflow.entities import AssessmentSource

    mlflow.set_tracking_uri(uri)
    mlflow.log_feedback(
        trace_id=trace, name=name, value=value, source=AssessmentSource(source_type="HUMAN", source_id="kim@example.org")
    )


def test_traces_come_once_and_late_assessments_find_their_interaction(server: str, place: Workspace):
    from tasks.live.mlflow_server import capture_server

    first = ask(server, "support", "When do refunds come? Mail kim@example.org", "In five days.")
    assert capture_server(place, server, ["support"]).stored == 1
    assert capture_server(place, server, ["support"]).seen == 0, "the cursor"
    assess(server, first, "thumbs_up", False)
    ask(server, "support", "Second question?", "Second answer.")
    account = capture_server(place, server, ["support"])
    assert (account.stored, account.duplicate) == (2, 1), "the new one, the assessment; the first one again"
    table = Lake(place.lake).query('SELECT question, response, "user", session_id FROM interactions ORDER BY ts').to_pylist()
    assert [r["response"] for r in table] == ["In five days.", "Second answer."]
    assert "[EMAIL_" in table[0]["question"] and table[0]["user"].startswith("u_") and table[0]["session_id"] == "s-1"
    (event,) = feedback.resolved(Lake(place.lake), [Metric("thumbs_up", 1, 0.5)]).to_pylist()
    assert event["interaction_id"] is not None and event["polarity"] == -1
    kept = b"".join(p.read_bytes() for p in place.lake.rglob("*.parquet"))
    assert b"kim@" not in kept


def test_a_cursor_that_is_lost_costs_a_second_reading_only(server: str, place: Workspace):
    from tasks.live.mlflow_server import capture_server

    ask(server, "other", "One?", "Yes.")
    capture_server(place, server, ["other"])
    for cursor in place.state.glob("mlflow-*.json"):
        cursor.write_bytes(b"[torn")
    account = capture_server(place, server, ["other"])
    assert account.stored == 0 and account.duplicate == account.seen > 0


def test_a_wrong_name_and_a_silent_server_are_told(server: str, place: Workspace):
    from tasks.live.mlflow_server import capture_server

    with pytest.raises(Refused, match="no experiment 'nowhere'"):
        capture_server(place, server, ["nowhere"])
    with pytest.raises(Refused, match="does not answer"):
        capture_server(place, "http://127.0.0.1:9", [])
    with pytest.raises(Refused, match="no address"):
        capture_server(place, "sqlite:///x.db", [])
