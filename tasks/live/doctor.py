"""The doctor: whether this machine and this workspace can run the loop. Reads, asks at most for seconds, and changes nothing.

    examine(place)  ->  [Finding("ok", "python", "3.11.4"), Finding("fault", "versions", "fastapi 0.155.0: no flow …", "pip …"), …]

Works with every server down, and imports none of the engines: what is installed is read from its metadata. What only the bytes of
everything can tell is asked by invariants.py (`flywheel doctor --deep`).
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import yaml

from tasks.errors import Refused
from tasks.live.finding import FAULT, OK, WARNING, Finding
from tasks.live.known_bad import installed, known_bad
from tasks.live.services import known as services
from tasks.live.services.table import HOST, PORTS
from tasks.live.workspace import ENVIRONMENT, Workspace

OURS = Path(__file__).resolve().parents[2] / "params.yaml"
PYTHONS = ((3, 11), (3, 14))  # from, and below
GIGABYTE, MEGABYTE = 1 << 30, 1 << 20
LEAST_FREE, WARN_FREE = 500 * MEGABYTE, 5 * GIGABYTE
PATIENCE_S = 0.5  # for a server that may be down
SECRET_NAMES = (".key", ".token", ".pem")
PRIVATE = ("data/raw", "data/spool", "data/lake", "data/inbox", "data/answers", "data/outbox")
LOCKED_S = 6 * 3600
AHEAD_S = 300.0
TELEMETRY = ("DO_NOT_TRACK", "PREFECT_SERVER_ANALYTICS_ENABLED", "MLFLOW_DISABLE_TELEMETRY", "DVC_NO_ANALYTICS")

Told = tuple[str, str, str]  # level, why, fix: a finding without the name of its check


def fault(why: str, fix: str) -> Told:
    return FAULT, why, fix


def warning(why: str, fix: str) -> Told:
    return WARNING, why, fix


def well(why: str) -> Told:
    return OK, why, ""


def examine(workspace: Workspace) -> list[Finding]:
    """Every check, in order; each says at least that all is well."""
    found: list[Finding] = []
    for name, check in CHECKS.items():
        try:
            said = list(check(workspace))
        except Refused as e:
            said = [fault(e.why, e.what_to_do)]
        found += [Finding(level, name, why, fix) for level, why, fix in said or [well("")]]
    return found


def python(_: Workspace) -> Iterator[Told]:
    here = sys.version_info[:2]
    if not PYTHONS[0] <= here < PYTHONS[1]:
        wanted = f"{PYTHONS[0][0]}.{PYTHONS[0][1]} to 3.{PYTHONS[1][1] - 1}"
        yield fault(f"this is Python {here[0]}.{here[1]}; {wanted} is tested", "make setup PYTHON=python3.11")
        return
    yield well(".".join(map(str, sys.version_info[:3])))


def versions(_: Workspace) -> Iterator[Told]:
    for bad, version in known_bad(installed()):
        told = fault if bad.breaks else warning
        yield told(f"{bad.name} {version}: {bad.why}", f'pip install "{bad.name}{bad.wanted}"')


def programs(workspace: Workspace) -> Iterator[Told]:
    for name, why in (("git", "snapshots are its commits"), ("python", "DVC starts the stages as `python`")):
        if shutil.which(name) is None:
            fix = "install git" if name == "git" else f'export PATH="{Path(sys.executable).parent}:$PATH"'
            yield fault(f"{name} is not on the PATH: {why}", fix)


def clone(workspace: Workspace) -> Iterator[Told]:
    """Whether a snapshot could be committed now."""
    from tasks.live.repository import git_locks, ready

    if shutil.which("git") is None:
        return
    for lock in git_locks(workspace.root):
        name, age = lock.relative_to(workspace.root), int(time.time() - lock.stat().st_mtime)
        yield fault(f"{name} is {age} s old: a git process works here, or died and left it", f"rm {name}, if none works")
    ready(workspace)


def settings(workspace: Workspace) -> Iterator[Told]:
    """params.yaml has every section that the project's own has, with its keys and types; the command names the one to add."""
    ours = yaml.safe_load(OURS.read_text(encoding="utf-8"))
    path = workspace.root / "params.yaml"
    try:
        theirs = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        yield fault("params.yaml is missing", "git checkout -- params.yaml")
        return
    except yaml.YAMLError as e:
        yield fault(
            f"params.yaml is not valid YAML: {' '.join(str(e).split())}",
            "mend the line named, or git checkout -- params.yaml",
        )
        return
    theirs = theirs if isinstance(theirs, dict) else {}
    for section, keys in ours.items():
        given = theirs.get(section)
        if not isinstance(given, dict):
            yield fault(
                f"params.yaml has no section '{section}'",
                f"git diff --no-index {OURS} params.yaml shows it; add it",
            )
            continue
        for key in sorted(keys.keys() - given.keys()):
            yield fault(f"params.yaml: '{section}.{key}' is missing", f"add '{key}: {keys[key]}' under '{section}:'")
        for key in sorted(given.keys() - keys.keys()):
            yield fault(f"params.yaml: unknown key '{section}.{key}'", f"one of {', '.join(sorted(keys))}")
        for key in sorted(given.keys() & keys.keys()):
            if not _alike(given[key], keys[key]):
                kind = type(keys[key]).__name__
                yield fault(
                    f"params.yaml: '{section}.{key}' is {given[key]!r}, not {kind}", f"write {kind} after '{key}:'"
                )


def keys(workspace: Workspace) -> Iterator[Told]:
    workspace.pseudonym_key()
    for path in sorted(p for p in workspace.state.rglob("*") if p.suffix in SECRET_NAMES and p.is_file()):
        if path.stat().st_size == 0:
            yield fault(
                f"{path.relative_to(workspace.root)} is empty", "restore it; a new one makes every user a stranger"
            )
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            name = path.relative_to(workspace.root)
            yield fault(f"{name} can be read by others on this machine", f"chmod 600 {name}")


def folders(workspace: Workspace) -> Iterator[Told]:
    for path in [workspace.state, *(workspace.root / name for name in PRIVATE)]:
        if not path.is_dir():
            continue
        name = path.relative_to(workspace.root)
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            yield fault(f"{name} can be read by others on this machine", f"chmod 700 {name}")
        if not os.access(path, os.W_OK):
            yield fault(f"{name} can't be written to by this user", f"chown -R $USER {name}")


def disk(workspace: Workspace) -> Iterator[Told]:
    yield from room(shutil.disk_usage(workspace.root).free, used(workspace.root))


def used(root: Path) -> int:
    """What a workspace takes on the disk, in bytes."""
    total = 0
    for folder, _, names in os.walk(root):
        for name in names:
            try:
                total += (Path(folder) / name).lstat().st_blocks * 512
            except OSError:  # gone meanwhile
                continue
    return total


def room(free: int, taken: int) -> Iterator[Told]:
    said = f"{free / GIGABYTE:.1f} GB free, the workspace takes {taken / GIGABYTE:.2f} GB"
    if free < LEAST_FREE:
        yield fault(
            f"{said}: a turn would stop half-way",
            "free some; flywheel erase is not for that, dvc gc --workspace --all-tags is",
        )
    elif free < max(2 * taken, WARN_FREE):
        yield warning(
            f"{said}: a turn may need as much again", "free some, or move the remote elsewhere (docs/snapshots.md)"
        )
    else:
        yield well(said)


def ports(workspace: Workspace) -> Iterator[Told]:
    """Each service's port is free, or held by what `flywheel up` started here."""
    now = services.read(workspace)
    ours = {}
    for name, one in (now.services if now else {}).items():
        if services.alive(one) and (port := urlsplit(one.url).port):
            ours[port] = name
    for name, port in PORTS.items():
        if port not in ours and _answers(HOST, port):
            yield warning(
                f"{port}, where {name} is looked for, is held by another process",
                f"flywheel up takes a free one; or see: ss -ltnp 'sport = :{port}'",
            )
    if now and not services.alive(now):
        yield warning(f"`flywheel up` (process {now.pid}) died without `flywheel down`", "flywheel up")


def remotes(workspace: Workspace) -> Iterator[Told]:
    """DVC's remotes as .dvc/config names them; a folder is looked at, a server is asked by the next push only."""
    import configparser

    config = configparser.ConfigParser(interpolation=None)
    for name in ("config", "config.local"):
        config.read(workspace.root / ".dvc" / name)
    found = {
        s.strip("'\"")[len('remote "') : -1] if s.startswith("'") else s: config[s].get("url", "")
        for s in config.sections()
        if "remote " in s
    }
    if not found:
        yield fault(
            "no remote is configured: snapshots would exist on this machine only",
            "dvc remote add --default store FOLDER-OR-URL",
        )
    for name, url in found.items():
        if "://" in url:
            continue
        path = (workspace.root / ".dvc" / url).resolve()
        # It is made by the first push; after one it has to be there.
        if not path.is_dir() and _has_snapshot(workspace):
            yield fault(
                f"{path} of the remote {name} is not there",
                "mount it, or restore it from its backup; then flywheel turn",
            )
        elif path.is_dir() and not os.access(path, os.W_OK):
            yield fault(f"{path} of the remote {name} can't be written to", f"chown -R $USER {path}")
    note = workspace.state / "unpushed.json"
    if note.is_file():
        try:
            owed = ", ".join(orjson.loads(note.read_bytes()))
        except orjson.JSONDecodeError:
            yield fault(
                f"{note.relative_to(workspace.root)} is torn",
                f"rm {note.relative_to(workspace.root)} && dvc push --all-tags",
            )
            return
        yield warning(f"the remote has not taken {owed} yet", "flywheel turn pushes it; dvc push -v says what fails")


def mlflow(workspace: Workspace) -> Iterator[Told]:
    uri = workspace.tracking_uri
    if uri.startswith("sqlite:///"):
        path = Path(uri.removeprefix("sqlite:///"))
        if path.is_file() and _first(path, 16) not in (b"", b"SQLite format 3\0"):
            yield fault(
                f"{path} is no SQLite database",
                f"mv {path} {path}.broken; the next turn records anew from the snapshots",
            )
        return
    yield from _asked(
        uri, "/health", "start it, or unset FLYWHEEL_TRACKING_URI; turns go on meanwhile and record later"
    )


def prefect(workspace: Workspace) -> Iterator[Told]:
    url = os.environ.get("PREFECT_API_URL", "")
    if url:
        yield from _asked(url, "/health", "start it, or unset PREFECT_API_URL: then each command brings its own", fault)


def tool(workspace: Workspace) -> Iterator[Told]:
    try:
        name = (
            (yaml.safe_load((workspace.root / "params.yaml").read_text(encoding="utf-8")) or {})
            .get("annotate", {})
            .get("tool", "files")
        )
    except (OSError, yaml.YAMLError, AttributeError):
        return  # `settings` says so
    wanted = {
        "labelstudio": ("FLYWHEEL_LABELSTUDIO_URL", "FLYWHEEL_LABELSTUDIO_TOKEN"),
        "mlflow": ("FLYWHEEL_MLFLOW_REVIEW_URL", "FLYWHEEL_MLFLOW_REVIEW_EXPERIMENT"),
    }.get(name, ())
    if name not in ("files", "labelstudio", "mlflow"):
        yield fault(f"annotate.tool is {name!r}", "one of files, labelstudio, mlflow")
    missing = [w for w in wanted if not os.environ.get(w)]
    if missing:
        yield fault(
            f"annotate.tool is {name}, and {' and '.join(missing)} is not set",
            f"export {missing[0]}=… (docs/labelstudio.md, docs/people.md)",
        )
    elif wanted:
        path = "/health" if name == "mlflow" else "/version"
        yield from _asked(os.environ[wanted[0]], path, "start it; answer files are taken meanwhile")


def locks(workspace: Workspace) -> Iterator[Told]:
    """A note beside a lock is for people: the kernel frees the lock of a process that died."""
    for note in sorted((workspace.state / "locks").glob("*.json")):
        name = note.relative_to(workspace.root)
        try:
            held = orjson.loads(note.read_bytes())
            pid, since, command = int(held["pid"]), float(held["since"]), held["command"]
        except FileNotFoundError:  # released this moment
            continue
        except (ValueError, KeyError, TypeError):
            yield warning(f"{name} is torn: the process that wrote it died", f"rm {name}")
            continue
        if not Path(f"/proc/{pid}").exists() if Path("/proc/self").exists() else not _runs(pid):
            yield warning(
                f"{name}: process {pid} ({command}) died while it held it; the lock itself is free", f"rm {name}"
            )
        elif time.time() - since > LOCKED_S:
            yield warning(
                f"{note.stem} is held by process {pid} ({command}) for {int(time.time() - since)} s",
                f"see what it does: ps -p {pid}; it may be killed, nothing is lost",
            )


def telemetry(_: Workspace) -> Iterator[Told]:
    for name in TELEMETRY:
        if os.environ.get(name, ENVIRONMENT[name]).lower() != ENVIRONMENT[name]:
            yield warning(f"{name} is {os.environ[name]!r}: a dependency may phone home", f"unset {name}")


def clock(workspace: Workspace) -> Iterator[Told]:
    """What was written last was written before now. Commits of the lake, snapshots and segments carry the time of this machine."""
    newest, what = 0.0, ""
    folder = workspace.lake
    # A bucket's objects carry the time of its own clock.
    for log in folder.glob("*/_delta_log") if isinstance(folder, Path) else ():
        for path in sorted(log.glob("*.json"))[-1:]:
            for line in path.read_bytes().splitlines()[:1]:
                at = (orjson.loads(line).get("commitInfo") or {}).get("timestamp", 0) / 1000
                if at > newest:
                    newest, what = at, f"the newest commit of {log.parent.name}"
    if newest - time.time() > AHEAD_S:
        ahead = int(newest - time.time())
        yield fault(
            f"{what} in the lake is {ahead} s ahead of this machine's clock, which was put back",
            "timedatectl set-ntp true; then wait until it has caught up",
        )


CHECKS: dict[str, Callable[[Workspace], Iterator[Told]]] = {
    "python": python, "versions": versions, "programs": programs, "clone": clone, "settings": settings, "keys": keys,
    "folders": folders, "disk": disk, "ports": ports, "remotes": remotes, "mlflow": mlflow, "prefect": prefect,
    "annotation tool": tool, "locks": locks, "telemetry": telemetry, "clock": clock,
}  # fmt: skip


def _alike(given: Any, ours: Any) -> bool:
    if isinstance(ours, float):
        return type(given) in (int, float)
    return type(given) is type(ours)


def _first(path: Path, count: int) -> bytes:
    with path.open("rb") as f:
        return f.read(count)


def _asked(url: str, path: str, fix: str, level: Callable[..., Told] = warning) -> Iterator[Told]:
    """Whether a server answers at once; the address is told without a password in it."""
    import urllib.error
    import urllib.request

    shown = re.sub(r"//[^/@]*@", "//", url)
    try:
        urllib.request.urlopen(url.rstrip("/") + path, timeout=PATIENCE_S).close()
    except urllib.error.HTTPError as e:
        if e.code >= 500:
            yield level(f"{shown} answers {e.code}", fix)
    except (OSError, ValueError) as e:
        yield level(f"{shown} does not answer: {getattr(e, 'reason', e)}", fix)


def _answers(host: str, port: int) -> bool:
    with socket.socket() as s:
        s.settimeout(0.2)
        return s.connect_ex((host, port)) == 0


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _has_snapshot(workspace: Workspace) -> bool:
    return (workspace.root / "dvc.lock").is_file()
