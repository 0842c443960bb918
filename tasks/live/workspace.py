"""The workspace: the loop's own clone, its places, its settings (FLYWHEEL_*), its locks and its clock.

DIR/              a git clone of the project, where the snapshots are committed
DIR/data/…        inbox, raw, lake, outbox, answers (ignored by git) · frozen … reports (DVC and git)
DIR/.flywheel/    the registry, Prefect's home, the default DVC remote, keys, locks
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import orjson
from filelock import FileLock, Timeout

from tasks import params
from tasks.errors import BUSY, Refused
from tasks.live.masked import masked

T = TypeVar("T")
TEMPORARY = re.compile(r"\..+?\.(?:(\w+)-)?(\d+)\.tmp")  # of write_durably, and of the engine: whose it is, by host and process
# Lock -> where, from .flywheel, those who hold it write files whole or not at all.
LEFT_IN = {"capture": ("../data/raw",), "lake": ("../data/raw/answers",), "snapshot": ("../data/reports",)}
MARK = ".flywheel"
HOST = platform.node()
HERE = re.sub(r"\W", "_", HOST)  # in the names of files; of these alone can be asked whether their process still runs
DAY_S = 86_400.0  # after which nobody writes on a file any more, on whatever machine
LOCK_WAIT = "FLYWHEEL_LOCK_WAIT"

# Nothing that the loop starts may phone home, and no dependency may hold a flow up to do so.
ENVIRONMENT = {
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_UV_AUTO_DETECT": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "DVC_NO_ANALYTICS": "1",
    # A first start migrates an empty database; on a slow laptop that outlasts Prefect's default of 20 seconds.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
}


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where everything is. All paths are absolute; nothing is created by looking."""

    root: Path

    @property
    def state(self) -> Path:
        return self.root / MARK

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def inbox(self) -> Path:
        return self.data / "inbox"

    @property
    def spool(self) -> Path:
        """What the receiver took and capture has not yet read."""
        return self.data / "spool"

    @property
    def raw(self) -> Path:
        return self.data / "raw"

    @property
    def lake(self) -> Path | str:
        """A folder, or s3://BUCKET/PATH where FLYWHEEL_LAKE says so."""
        named = os.environ.get("FLYWHEEL_LAKE", "").rstrip("/")
        if "://" not in named:
            return self.root / (named or "data/lake")
        if not named.startswith("s3://") or not named.removeprefix("s3://").partition("/")[2]:
            raise Refused(
                f"FLYWHEEL_LAKE is {named!r}: no place for a lake", "FLYWHEEL_LAKE=s3://BUCKET/PATH, or a folder"
            )
        return named

    @property
    def rates(self) -> Path:
        """The newest estimates from the audits, for `flywheel status`; derived, and written anew at every receiving."""
        return self.state / "rates.json"

    @property
    def outbox(self) -> Path:
        return self.data / "outbox"

    @property
    def answers(self) -> Path:
        return self.data / "answers"

    @property
    def frozen(self) -> Path:
        return self.data / "frozen"

    @property
    def reports(self) -> Path:
        return self.data / "reports"

    @property
    def changelog(self) -> Path:
        """What each snapshot changed in the data, the newest first; committed with it."""
        return self.data / "CHANGELOG.md"

    @property
    def catalogue(self) -> Path:
        """The approved answers that the application may give (JSON lines)."""
        return self.data / "catalogue.jsonl"

    @property
    def tracking_uri(self) -> str:
        return os.environ.get("FLYWHEEL_TRACKING_URI") or f"sqlite:///{self.state / 'mlflow.db'}"

    def params(self, section: str, cls: type[T]) -> T:
        return params.load(self.root / "params.yaml", section, cls)

    def pseudonym_key(self) -> bytes:
        """The secret under which user ids become pseudonyms. A missing key refuses; it never falls back to a known one."""
        from_environment = os.environ.get("FLYWHEEL_PSEUDONYM_KEY")
        if from_environment:
            return from_environment.encode()
        try:
            return (self.state / "pseudonym.key").read_bytes()
        except FileNotFoundError:
            raise Refused(
                f"{self.state / 'pseudonym.key'} is missing",
                "restore it, or set FLYWHEEL_PSEUDONYM_KEY; a new key would make every user a stranger",
            ) from None

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold one of the workspace's locks ('capture', 'lake' or 'snapshot'), or refuse and name who holds it: at once, or
        after FLYWHEEL_LOCK_WAIT seconds.

        The lock is the kernel's, so that a killed process frees it; the note beside it is only for people.
        """
        folder = self.state / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        note = folder / f"{name}.json"
        lock = FileLock(folder / f"{name}.lock", timeout=float(os.environ.get(LOCK_WAIT) or 0), thread_local=False)
        try:
            lock.acquire(poll_interval=0.2)
        except Timeout:
            raise Refused(_busy(name, self.locked().get(name)), "wait for it to end, or stop that process", BUSY) from None
        try:
            for where in ("", "registry", *LEFT_IN.get(name, ())):
                sweep_temporaries(self.state / where)
            note.write_bytes(
                orjson.dumps(
                    {"pid": os.getpid(), "host": HOST, "command": masked(" ".join(sys.argv[:3])), "since": time.time()}
                )
            )
            yield
        finally:
            note.unlink(missing_ok=True)
            lock.release()

    def locked(self) -> dict[str, dict[str, Any]]:
        """Who holds which lock: name -> pid, host, command, since (seconds since 1970)."""
        found = {}
        for note in sorted((self.state / "locks").glob("*.json")):
            with contextlib.suppress(FileNotFoundError, orjson.JSONDecodeError):  # released, or being written, this moment
                found[note.stem] = orjson.loads(note.read_bytes())
        return found


def _busy(name: str, held: dict[str, Any] | None) -> str:
    if held is None:
        return f"the {name} of this workspace is busy"
    seconds = int(time.time() - held["since"])
    where = "" if held.get("host", HOST) == HOST else f" on {held['host']}"
    return f"the {name} of this workspace is busy: process {held['pid']}{where} ({held['command']}) holds it for {seconds} s"


def find(given: Path | None = None) -> Workspace:
    """The workspace named by --workspace, by FLYWHEEL_WORKSPACE, or around the current folder. Raises Refused."""
    named = given or os.environ.get("FLYWHEEL_WORKSPACE")
    if named:
        root = Path(named).resolve()
        if not (root / MARK).is_dir():
            raise Refused(f"{root} is not a workspace", f"flywheel init {named}")
        return Workspace(root)
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / MARK).is_dir():
            return Workspace(folder)
    raise Refused(f"{here} is not inside a workspace", "flywheel init DIR, then cd DIR (or --workspace DIR)")


def quiet_environment() -> None:
    """Set the environment of this process and its children: no telemetry, private files, this interpreter first."""
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    # DVC starts stages through a shell as `python`; it must find the interpreter (and versions) that runs the loop.
    bin_dir = str(Path(sys.executable).parent)
    if os.environ.get("PATH", "").split(os.pathsep)[0] != bin_dir:
        os.environ["PATH"] = bin_dir + os.pathsep + os.environ.get("PATH", "")
    os.umask(0o077)


def use_prefect_home(workspace: Workspace) -> None:
    """Flow runs without a server leave their history in the workspace; PREFECT_API_URL leads to a running one instead."""
    os.environ.setdefault("PREFECT_HOME", str(workspace.state / "prefect"))


def new_key(path: Path) -> None:
    """A fresh secret, readable by its owner only. An existing one is kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32), encoding="ascii")


def sweep_temporaries(folder: Path) -> None:
    """Remove what processes left in a folder that died: files and scratch that nobody goes on with."""
    for path in temporaries(folder):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def temporaries(folder: Path) -> list[Path]:
    """What lies half-written in a folder, and its process runs no more (on another machine: for a day)."""
    return [p for p in sorted(folder.glob(".*.tmp")) if is_left(p) and not _may_be_written(p)]


def is_left(path: Path) -> bool:
    """Whether a half-written file or folder is of a process that does not run here."""
    named = TEMPORARY.fullmatch(path.name)
    if named is None or named[1] not in (None, HERE):
        return named is not None
    # A folder of this process is the scratch of an engine that is open; a file is of one who had its number before.
    return not runs(named[2]) and not (named[2] == str(os.getpid()) and path.is_dir())


def _may_be_written(path: Path) -> bool:
    """On another machine, by a process of which nothing is known here."""
    if TEMPORARY.fullmatch(path.name)[1] in (None, HERE):
        return False
    try:
        return time.time() - path.stat().st_mtime < DAY_S
    except FileNotFoundError:
        return False


def runs(pid: str) -> bool:
    """Whether such a process runs, and is not this one: what this one began to write before is written by now."""
    if not pid.isdigit() or int(pid) == os.getpid():
        return False
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def write_durably(path: Path, data: bytes) -> None:
    """Whole or not at all, and on the disk when this returns: temporary file, fsync, rename, fsync of the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{HERE}-{os.getpid()}.tmp")
    with temporary.open("wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
