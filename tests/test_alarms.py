"""Alarms reach people: they are kept, posted and mailed, once a day each, and what cannot be sent holds nothing up."""

from __future__ import annotations

import http.server
import json
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.live import alarms, events
from tasks.live.workspace import Workspace
from tests.handmade import workspace


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return workspace(tmp_path / "work")


@pytest.fixture
def web() -> Iterator[Any]:
    """A web server that keeps what is posted to it, and answers with `status`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            server.posted.append((self.path, json.loads(self.rfile.read(int(self.headers["content-length"])))))
            self.send_response(server.status)
            if server.status == 302:
                self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.posted, server.status = [], 200
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


@pytest.fixture
def mail() -> Iterator[Any]:
    """A mail server that takes everything, without TLS."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 here\r\n")
            while line := self.rfile.readline():
                verb = line[:4].upper()
                server.lines.append(line.decode())
                if verb == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    while (text := self.rfile.readline()) != b".\r\n":
                        server.lines.append(text.decode())
                self.wfile.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")

    server: Any = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.lines = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def test_an_alarm_is_kept_posted_and_mailed(place: Workspace, web: Any, mail: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FLYWHEEL_ALARM_WEBHOOK", f"{web.url}/hook")
    monkeypatch.setenv("FLYWHEEL_ALARM_EMAIL", "ops@example.org")
    monkeypatch.setenv("FLYWHEEL_SMTP", f"smtp://127.0.0.1:{mail.server_address[1]}")
    told = alarms.alarm(place, "retrain failed\nBcc: all@example.org", "the disk is full")
    assert told == alarms.Told(["webhook", "email"], {})
    assert web.posted == [("/hook", {"text": "retrain failed\nBcc: all@example.org\nthe disk is full"})]
    sent = "".join(mail.lines)
    assert "Subject: Flywheel: retrain failed Bcc: all@example.org" in sent and "the disk is full" in sent
    assert not [line for line in mail.lines if line.startswith("Bcc")], "a name in a log writes no header"
    assert [(a["subject"], a["text"]) for a in alarms.read(place)] == [("retrain failed\nBcc: all@example.org", "the disk is full")]


def test_what_cannot_be_sent_is_said_without_the_address_and_kept_all_the_same(place: Workspace, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FLYWHEEL_ALARM_WEBHOOK", "http://127.0.0.1:9/secret-of-the-hook")
    monkeypatch.setenv("FLYWHEEL_ALARM_EMAIL", "ops@example.org")
    told = alarms.alarm(place, "turn failed", "why")
    assert told.sent == [] and set(told.failed) == {"webhook", "email"}
    assert "secret-of-the-hook" not in str(told) and "FLYWHEEL_SMTP" in told.failed["email"]
    assert len(alarms.read(place)) == 1


def test_a_webhook_that_leads_elsewhere_is_not_followed(place: Workspace, web: Any, monkeypatch: pytest.MonkeyPatch):
    web.status = 302
    monkeypatch.setenv("FLYWHEEL_ALARM_WEBHOOK", f"{web.url}/hook")
    assert "302" in alarms.alarm(place, "turn failed", "").failed["webhook"]
    assert [path for path, _ in web.posted] == ["/hook"]


def test_a_password_goes_over_tls_only(place: Workspace, mail: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FLYWHEEL_ALARM_EMAIL", "ops@example.org")
    monkeypatch.setenv("FLYWHEEL_SMTP", f"smtp://me:word@127.0.0.1:{mail.server_address[1]}")
    assert "email" in alarms.alarm(place, "turn failed", "").failed
    assert not [line for line in mail.lines if "AUTH" in line.upper() or "DATA" in line]


def test_the_same_alarm_is_raised_once_a_day_and_another_at_once(place: Workspace):
    for _ in range(3):
        alarms.alarm_once(place, "the live champion", "a cluster came back")
    alarms.alarm_once(place, "the live champion", "another cluster came back")
    assert [a["text"] for a in alarms.read(place)] == ["a cluster came back", "another cluster came back"]
    kept = alarms.read(place)
    kept[0]["at"] = "2026-01-01T00:00:00Z"
    (place.state / "alarms.jsonl").write_text("".join(json.dumps(a) + "\n" for a in kept) + '{"at": "2026', encoding="utf-8")
    alarms.alarm_once(place, "the live champion", "a cluster came back")
    assert len(alarms.read(place)) == 3


def test_an_event_without_a_server_costs_nothing_and_is_no_error(place: Workspace, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    assert events.emit(place, events.ANSWERS) is False
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    assert events.emit(place, events.ANSWERS) is False


def test_many_answers_at_once_are_one_event_and_the_last_is_told_too(place: Workspace, web: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PREFECT_API_URL", f"{web.url}/api")
    teller = events.Teller(place, events.ANSWERS, pause_s=0.5)
    for _ in range(50):
        teller.happened()
    wait_for(lambda: len(web.posted) == 1)
    teller.happened()
    wait_for(lambda: len(web.posted) == 2)
    path, (event,) = web.posted[0]
    assert path == "/api/events" and event["event"] == "flywheel.answers.arrived"


def wait_for(true: Any) -> None:
    for _ in range(200):
        if true():
            return
        threading.Event().wait(0.05)
    raise AssertionError("it did not happen")
