"""Real servers for the loop: PostgreSQL, and on it Prefect's server; MLflow's is in tests/mlflow_servers.py, S3 in tests/stores.py.

with postgres() as database, prefect(folder, database.url("prefect", "asyncpg")) as api: ...
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.stores import free_port

PASSWORD = "not-a-secret-of-anybody"
USER = "flywheel"


def programs() -> Path | None:
    """Where initdb and postgres are; Debian keeps them out of the PATH."""
    places = [Path(p).resolve().parent for p in (shutil.which("initdb"),) if p]
    newest_first = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: float(p.parent.name), reverse=True)
    return next((p for p in (*places, *newest_first) if (p / "initdb").exists()), None)


def missing() -> str:
    """Why there can be no PostgreSQL here; '' where there can. FLYWHEEL_REQUIRE_POSTGRES=1 lets nobody off."""
    if programs() is None:
        return "no PostgreSQL (make postgres)"
    if importlib.util.find_spec("psycopg2") is None:
        return 'no psycopg2 (make setup, or pip install "flywheel[servers]")'
    return ""


@dataclass(frozen=True)
class Database:
    host: str
    port: int

    def url(self, name: str, driver: str = "") -> str:
        scheme = f"postgresql+{driver}" if driver else "postgresql"
        return f"{scheme}://{USER}:{PASSWORD}@{self.host}:{self.port}/{name}"

    def rows(self, name: str, sql: str) -> list[tuple]:
        """An independent look."""
        import psycopg2

        with contextlib.closing(psycopg2.connect(self.url(name))) as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall()


@contextlib.contextmanager
def postgres(host: str = "127.0.0.1", databases: tuple[str, ...] = ("prefect", "mlflow")) -> Iterator[Database]:
    """A PostgreSQL of its own in a temporary folder, by a user who is not root: it refuses root."""
    folder = Path(tempfile.mkdtemp(prefix="flywheel-postgres-"))  # pytest's folders let no other user in
    bin_, port = programs(), free_port()
    assert bin_ is not None
    who = (
        {"user": _somebody(), "group": pwd.getpwnam(_somebody()).pw_gid, "extra_groups": []}
        if os.geteuid() == 0
        else {}
    )
    if who:
        os.chown(folder, pwd.getpwnam(who["user"]).pw_uid, who["group"])
    (folder / "password").write_text(PASSWORD, encoding="ascii")
    os.chmod(folder / "password", 0o644)  # noqa: PTH101
    environment = {**os.environ, "HOME": str(folder), "PGPASSWORD": PASSWORD, "LC_ALL": "C"}
    run = {"env": environment, "cwd": folder, "check": True, "capture_output": True, **who}
    command = [
        "initdb",
        "-D",
        folder / "data",
        "-U",
        USER,
        "--auth=scram-sha-256",
        f"--pwfile={folder / 'password'}",
        "-E",
        "UTF8",
    ]
    try:
        subprocess.run([bin_ / command[0], *command[1:], "--no-sync"], **run)
        with (folder / "data" / "pg_hba.conf").open("a", encoding="ascii") as allowed:
            allowed.write(f"host all all {host}/24 scram-sha-256\n")
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [bin_ / "postgres", "-D", folder / "data", "-h", host, "-p", str(port), "-k", folder, "-c", "fsync=off"],
                env=environment, cwd=folder, stdout=log, stderr=log, **who,
            )  # fmt: skip
        try:
            for _ in range(300):
                assert server.poll() is None, (folder / "log").read_text()
                ready = [bin_ / "pg_isready", "-q", "-h", host, "-p", str(port), "-U", USER]
                if subprocess.run(ready, env=environment, check=False).returncode == 0:
                    break
                time.sleep(0.1)
            for name in databases:
                subprocess.run([bin_ / "createdb", "-h", host, "-p", str(port), "-U", USER, name], **run)
            yield Database(host, port)
        finally:
            server.send_signal(2)  # SIGINT: it ends its clients and itself
            server.wait(60)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _somebody() -> str:
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


@contextlib.contextmanager
def prefect(folder: Path, database: str, host: str = "127.0.0.1") -> Iterator[str]:
    """The address of the API of a Prefect server whose state is in that database."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    environment = {
        **os.environ, "PREFECT_HOME": str(folder), "PREFECT_SERVER_DATABASE_CONNECTION_URL": database,
        "PREFECT_SERVER_API_HOST": host, "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "true",
    }  # fmt: skip
    environment.pop("PREFECT_API_URL", None)
    with (folder / "log").open("wb") as log:
        command = [str(Path(sys.executable).parent / "prefect"), "server", "start"]
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    api = f"http://{host}:{port}/api"
    try:
        for _ in range(600):
            assert server.poll() is None, (folder / "log").read_text()
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{api}/health", timeout=2).close()
                break
            time.sleep(0.2)
        yield api
    finally:
        os.killpg(server.pid, 9)
        server.wait()
