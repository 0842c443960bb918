"""The receiver: what is acknowledged is kept, what is not can be sent again, and nobody gets in who should not."""

from __future__ import annotations

import gzip
import http.client
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from tasks.errors import USAGE, Refused
from tasks.live.capture import capture
from tasks.live.lake import Lake
from tasks.live.workspace import Workspace
from tests.handmade import chat_span, traces, workspace
from tests.imports import ROOT

pytestmark = pytest.mark.slow

TOKEN = "a-token-of-the-tests"


class Receiver:
    """A real `flywheel listen` on a free port."""

    def __init__(self, place: Workspace, token: str = ""):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        command = [sys.executable, "-m", "flows.cli", "listen", "--port", str(self.port), "--workspace", str(place.root)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "FLYWHEEL_TOKEN": token}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(200):
            try:
                assert self.ask("GET", "/health")[0] == 200
                return
            except OSError:
                assert self.process.poll() is None, self.process.stderr.read().decode()
                time.sleep(0.1)
        raise AssertionError("the receiver did not start")

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
            answer = connection.getresponse()
            return answer.status, dict(answer.headers), answer.read()
        finally:
            connection.close()

    def post(self, document: object, path: str = "/v1/traces", **headers: str) -> tuple[int, dict, bytes]:
        body = document if isinstance(document, bytes) else orjson.dumps(document)
        return self.ask("POST", path, body, **{"Content_Type": "application/json"} | headers)

    def stop(self, how: int = signal.SIGTERM) -> None:
        self.process.send_signal(how)
        self.process.wait(30)


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return workspace(tmp_path / "work")


@pytest.fixture
def receiver(place: Workspace) -> Iterator[Receiver]:
    running = Receiver(place)
    yield running
    running.stop(signal.SIGKILL)


def rows(place: Workspace) -> list[dict]:
    return Lake(place.lake).query("SELECT * FROM interactions ORDER BY native_id").to_pylist()


def test_a_real_exporter_sends_and_the_interaction_is_captured(place: Workspace, receiver: Receiver):
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    url = f"http://127.0.0.1:{receiver.port}/v1/traces"
    for n, compression in enumerate((Compression.NoCompression, Compression.Gzip)):
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(url, compression=compression)))
        with provider.get_tracer("app").start_as_current_span("chat gpt") as span:
            span.set_attribute("gen_ai.operation.name", "chat")
            span.set_attribute("gen_ai.request.model", "gpt")
            span.set_attribute("user.id", "kim")
            asked = [{"role": "user", "parts": [{"type": "text", "content": f"Is kim@example.org open on day {n}?"}]}]
            said = [{"role": "assistant", "parts": [{"type": "text", "content": "Yes."}], "finish_reason": "stop"}]
            span.set_attribute("gen_ai.input.messages", orjson.dumps(asked).decode())
            span.set_attribute("gen_ai.output.messages", orjson.dumps(said).decode())
        assert provider.force_flush()
        provider.shutdown()
    receiver.stop()
    account = capture(place)
    assert account.stored == 2
    for row in rows(place):
        assert row["response"] == "Yes." and "[EMAIL_" in row["question"]
        assert row["user"].startswith("u_") and "kim" not in row["user"]
    assert list(place.spool.iterdir()) == [], "what is captured does not lie about twice"


def test_json_protobuf_and_gzip_are_the_same(place: Workspace, receiver: Receiver):
    from google.protobuf.json_format import ParseDict
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
        ExportTraceServiceRequest,
        ExportTraceServiceResponse,
    )

    document = traces(chat_span("00000000000000a1"))
    binary = ParseDict(_base64_ids(document), ExportTraceServiceRequest()).SerializeToString()
    packed = gzip.compress(orjson.dumps(document))
    assert receiver.post(document)[::2] == (200, b"{}")
    assert receiver.post(packed, Content_Encoding="gzip")[::2] == (200, b"{}")
    status, headers, body = receiver.post(binary, Content_Type="application/x-protobuf")
    assert (status, headers["content-type"]) == (200, "application/x-protobuf")
    assert ExportTraceServiceResponse.FromString(body) == ExportTraceServiceResponse()
    receiver.stop()
    account = capture(place)
    assert (account.stored, account.duplicate) == (1, 2)


def test_what_was_acknowledged_survives_a_kill(place: Workspace):
    acknowledged = []
    for life in range(5):
        receiver = Receiver(place)
        for n in range(20):
            assert receiver.post(traces(chat_span(f"{life}{n:02}")))[0] == 200
            acknowledged.append(f"{life}{n:02}")
        receiver.stop(signal.SIGKILL)
    from tasks.live.spool import recover

    with next(place.spool.glob("*.open")).open("ab") as f:
        f.write(b'{"resourceSpans": [')  # the last write of a machine that lost its power
    recover(place.spool)
    account = capture(place)
    assert (account.stored, account.rejected) == (len(acknowledged), 0)


def test_unreadable_spans_are_told_and_kept(place: Workspace, receiver: Receiver):
    status, _, body = receiver.post(traces(chat_span("1"), chat_span("2", startTimeUnixNano="7")))
    told = orjson.loads(body)["partialSuccess"]
    assert status == 200 and told["rejectedSpans"] == 1 and "bad_time" in told["errorMessage"]
    receiver.stop()
    account = capture(place)
    assert (account.stored, account.rejected) == (1, 1)


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{not json", {}, 400),
        (b'{"resourceLogs": []}', {}, 400),
        (b"\xff\xff\xff", {"Content_Type": "application/x-protobuf"}, 400),
        (b"not gzip", {"Content_Encoding": "gzip"}, 400),
        (gzip.compress(b" " * (64 << 20)), {"Content_Encoding": "gzip"}, 413),
        (b" " * (17 << 20), {}, 413),
        (b"{}", {"Content_Encoding": "br"}, 415),
        (b"a=1", {"Content_Type": "application/x-www-form-urlencoded"}, 415),
        (b"{}", {"Host": "attacker.example"}, 403),
        (b'{"resourceSpans":' + b"[" * 100_000, {}, 400),
    ],
    ids=["json", "logs-as-traces", "protobuf", "gzip", "gzip-bomb", "too-long", "encoding", "form", "rebinding", "nesting"],
)
def test_what_is_refused_is_refused_with_its_reason(receiver: Receiver, body: bytes, headers: dict, status: int):
    try:
        answer = receiver.post(body, **headers)
    except (BrokenPipeError, ConnectionResetError):
        assert status == 413  # it did not read to the end
    else:
        assert answer[0] == status and len(answer[2]) > 2
    assert receiver.post(traces(chat_span("1")))[0] == 200, "it goes on"


def test_without_the_token_nothing_gets_in(place: Workspace):
    receiver = Receiver(place, TOKEN)
    try:
        assert receiver.post(traces(chat_span("1")))[0] == 401
        assert receiver.post(traces(chat_span("1")), Authorization="Bearer wrong")[0] == 401
        assert receiver.post(traces(chat_span("1")), Authorization=f"Bearer {TOKEN}")[0] == 200
    finally:
        receiver.stop()


def test_an_open_door_is_refused(place: Workspace):
    from tasks.live.receiver import serve

    with pytest.raises(Refused, match="anyone on the network") as refused:
        serve(place, "0.0.0.0", 0)
    assert refused.value.exit_code == USAGE


def test_under_pressure_it_asks_to_come_again(place: Workspace):
    """Every byte counts against the limit until it is on the disk."""
    from starlette.testclient import TestClient

    from tasks.live.receiver import application

    with TestClient(application(place, max_waiting=10), base_url="http://127.0.0.1") as client:
        answer = client.post("/v1/traces", json=traces(chat_span("1")))
        assert answer.status_code == 429 and int(answer.headers["retry-after"]) > 0
    assert capture(place).seen == 0


def test_a_disk_that_refuses_is_not_acknowledged_and_leaves_no_half_line(place: Workspace, monkeypatch):
    from starlette.testclient import TestClient

    from tasks.live.receiver import application

    real, failing = os.fsync, [False]

    def fsync(handle: int) -> None:
        if failing[0]:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with TestClient(application(place), base_url="http://127.0.0.1") as client:
        assert client.post("/v1/traces", json=traces(chat_span("1"))).status_code == 200
        failing[0] = True
        answer = client.post("/v1/traces", json=traces(chat_span("2")))
        assert answer.status_code == 503 and "retry-after" in answer.headers
        failing[0] = False
        assert client.post("/v1/traces", json=traces(chat_span("3"))).status_code == 200
    account = capture(place)
    assert (account.stored, account.rejected) == (2, 0)


def _base64_ids(document: dict) -> dict:
    """OTLP/JSON writes ids in hexadecimal, protobuf's own JSON in base64."""
    import base64
    import copy

    document = copy.deepcopy(document)
    for resource in document["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                for key in ("traceId", "spanId", "parentSpanId"):
                    if key in span:
                        span[key] = base64.b64encode(bytes.fromhex(span[key])).decode()
    return document


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_killed_again_and_again_under_load_nothing_acknowledged_is_lost_or_doubled(place: Workspace, how: int):
    """Exporters retry what was not acknowledged, as the SDKs do; so a span may arrive twice, and is stored once."""
    chance = random.Random(int(how))
    acknowledged: set[str] = set()
    for life in range(4):
        receiver = Receiver(place)
        threads = [threading.Thread(target=_export, args=(receiver, f"{life}-{k}", acknowledged)) for k in range(4)]
        for t in threads:
            t.start()
        time.sleep(chance.uniform(0.2, 1.0))
        receiver.stop(how)
        for t in threads:
            t.join()
        if life % 2:
            capture(place)
    Receiver(place).stop()  # publishes what the last one left behind
    capture(place)
    kept = [row["response_id"] for row in rows(place)]
    assert len(acknowledged) > 50
    assert acknowledged <= set(kept), "what was acknowledged is there"
    assert len(kept) == len(set(kept)), "once"
    again = capture(place)
    assert again.seen == 0


def _export(receiver: Receiver, name: str, acknowledged: set[str]) -> None:
    for n in range(10_000):
        id = f"{name}-{n}"
        span = chat_span(f"{abs(hash(id)) % 16**16:016x}", attributes={"gen_ai.response.id": id})
        try:
            status = receiver.post(traces(span))[0]
        except (OSError, http.client.HTTPException):
            return
        if status == 200:
            acknowledged.add(id)


def test_a_bomb_is_refused_at_once_and_only_health_itself_is_open(place: Workspace):
    receiver = Receiver(place, TOKEN)
    try:
        bomb = gzip.compress(b"0" * 500_000_000)
        with_token = {"Authorization": f"Bearer {TOKEN}", "Content_Encoding": "gzip"}
        assert receiver.post(bomb, **with_token)[0] == 413
        peak = Path(f"/proc/{receiver.process.pid}/status").read_text().partition("VmHWM:")[2].split()[0]
        assert int(peak) < 400_000, "kB: it was not unpacked"
        assert receiver.ask("GET", "/health")[0] == 200
        for path in ("/v1/traces/health", "/v1/logs/health", "/health/../v1/traces"):
            assert receiver.ask("GET", path)[0] in (401, 404, 405)
            assert receiver.post(traces(chat_span("1")), path=path)[0] in (401, 404, 405)
    finally:
        receiver.stop()
    assert capture(place).seen == 0
