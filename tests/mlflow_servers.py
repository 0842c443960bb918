"""A real MLflow tracking server that a test may kill, stop and start again, and a proxy at which the network goes wrong."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@dataclass
class Server:
    """The server, with its database and its artifacts in `folder` unless they are said to be elsewhere; artifacts go through it, as
    through one elsewhere."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen | None = None
    host: str = "127.0.0.1"
    store: str = ""
    artifacts: str = ""

    @property
    def uri(self) -> str:
        return f"http://{self.host}:{self.port}"

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", self.host, "--port", str(self.port), "--workers", "1",
            "--backend-store-uri", self.store or f"sqlite:///{self.folder}/mlflow.db",
            "--artifacts-destination", self.artifacts or str(self.folder / "artifacts"),
        ]  # fmt: skip
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=2).close()
                return
            except OSError:
                assert self.process.poll() is None, (self.folder / "log").read_text()
                time.sleep(0.2)
        raise RuntimeError((self.folder / "log").read_text())

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def running(folder: Path, **elsewhere: str) -> Iterator[Server]:
    server = Server(folder, **elsewhere)
    server.start()
    try:
        yield server
    finally:
        server.kill()


class Proxy:
    """Passes requests on. From the `at`-th on `how` happens instead: 'drop' (the server does it, nobody hears of it) or 'refuse'
    (500). Health is asked of the server itself."""

    def __init__(self, server: Server):
        self.server, self.seen, self.at, self.how = server, 0, 0, ""
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                self.close_connection = True
                self.raw_requestline = self.rfile.readline(65537)
                if self.raw_requestline and self.parse_request():
                    proxy.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}"

    def arm(self, at: int, how: str) -> None:
        self.seen, self.at, self.how = 0, at, how

    def answer(self, asked: BaseHTTPRequestHandler) -> None:
        body = asked.rfile.read(int(asked.headers.get("Content-Length") or 0))
        health = asked.path == "/health"
        self.seen += not health
        wrong = self.at and self.seen >= self.at and not health
        if wrong and self.how == "refuse":
            return self._write(asked, 500, b"{}", {})
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        headers = {
            k: v for k, v in asked.headers.items() if k.lower() not in ("host", "connection", "transfer-encoding")
        }
        try:
            connection.request(asked.command, asked.path, body, headers)
            got = connection.getresponse()
            data = got.read()
        except OSError:
            return self._write(asked, 502, b"{}", {})
        finally:
            connection.close()
        if wrong and self.how == "drop":
            asked.connection.shutdown(socket.SHUT_RDWR)
            return None
        return self._write(asked, got.status, data, {"Content-Type": got.headers.get("Content-Type", "text/plain")})

    def _write(self, asked: BaseHTTPRequestHandler, status: int, data: bytes, headers: dict[str, str]) -> None:
        with contextlib.suppress(OSError):
            asked.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(data)), "Connection": "close"}.items():
                asked.send_header(key, value)
            asked.end_headers()
            asked.wfile.write(data)
            asked.wfile.flush()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
