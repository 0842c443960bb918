"""Keeps the services of a workspace running: starts them in order, asks each whether it is well, starts again what died, ends all.

One process holds them all: where it ends, they end. A service that died is started again after 1, 2, 4 … 60 seconds; the others
go on meanwhile, because each of them can do without any other for a while.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from tasks.addresses import without_password
from tasks.errors import BUSY, Refused
from tasks.live.services import known
from tasks.live.services.known import FAILING, HEALTHY, STARTING, STOPPED, Known, Running
from tasks.live.services.table import Service, free_ports, logs, table
from tasks.live.workspace import Workspace

EVERY_S = 1.0  # between two looks at the services while one of them is not well
CALM_S = 5.0  # and while all are
ASK_S = 5.0  # for a service to say that it is well
SLOW_START_S = 300.0  # an empty database is migrated first, on a laptop that does other things
SILENT_S = 180.0  # without an answer, and a service that lives is started again; a busy machine is no reason to
GRACE_S = 25.0  # for a service to end by itself
LONGEST_PAUSE_S = 60.0
LOG_BYTES = 20_000_000  # a log that is longer is set aside at the next start, once


@dataclass(slots=True)
class Watched:
    service: Service
    child: subprocess.Popen[bytes] | None = None
    began: float = 0.0
    again_at: float = 0.0
    silent_since: float = 0.0


class Supervisor:
    def __init__(self, workspace: Workspace, say: Callable[[str], None]):
        self.workspace, self.say = workspace, say
        before = known.read(workspace)
        ports = {n: int(s.url.rpartition(":")[2]) for n, s in before.services.items() if s.url.count(":") == 2} if before else {}
        self.watched = {s.name: Watched(s) for s in table(workspace, free_ports(ports))}
        me = psutil.Process()
        folder = logs(workspace)
        folder.mkdir(parents=True, exist_ok=True)
        self.known = Known(me.pid, me.create_time())
        for name, w in self.watched.items():
            self.known.services[name] = Running(0, 0.0, w.service.url, str(folder / f"{name}.log"))
        self._ending = False

    def run(self) -> None:
        """Until SIGTERM or SIGINT."""
        signal.signal(signal.SIGTERM, self._end)
        signal.signal(signal.SIGINT, self._end)
        told = False
        try:
            while not self._ending:
                for name, watched in self.watched.items():
                    self._look(name, watched)
                known.write(self.workspace, self.known)
                if self.known.healthy and not told:
                    told = True
                    self.say(listed(self.known))
                self._pause(CALM_S if self.known.healthy else EVERY_S)
        finally:
            self.stop()

    def stop(self) -> None:
        """In the reverse order, so that whoever needs a server ends before it."""
        for name, watched in reversed(self.watched.items()):
            if watched.child is not None:
                end(watched.child.pid, watched.child)
            self.known.services[name].state = STOPPED
        known.write(self.workspace, self.known)

    def _end(self, *_: object) -> None:
        self._ending = True

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._ending and time.monotonic() < until:
            time.sleep(0.1)

    def _look(self, name: str, watched: Watched) -> None:
        running, child = self.known.services[name], watched.child
        now = time.monotonic()
        if child is None or child.poll() is not None:
            if child is not None and not watched.again_at:
                self._died(name, watched, f"it ended with {child.returncode}")
            needs = watched.service.after
            if now >= watched.again_at and (not needs or self.known.services[needs].state == HEALTHY):
                self._start(watched, running)
            return
        why = trouble(watched.service)
        if not why:
            if running.state != HEALTHY:
                self.say(f"{name} is up: {running.url}")
            running.state, running.why, watched.silent_since = HEALTHY, "", 0.0
            return
        running.why = why
        if running.state == STARTING and now - watched.began < SLOW_START_S:
            return
        running.state = FAILING
        watched.silent_since = watched.silent_since or now
        if now - watched.silent_since >= SILENT_S:
            end(child.pid, child)
            self._died(name, watched, f"it did not answer: {why}")

    def _start(self, watched: Watched, running: Running) -> None:
        log = Path(running.log)
        if log.is_file() and log.stat().st_size > LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
        with log.open("ab") as out:
            # A session of its own: Ctrl+C at the terminal is for the supervisor, who ends them in order.
            environment = os.environ | {"PYTHONUNBUFFERED": "1"} | watched.service.environment
            watched.child = subprocess.Popen(
                watched.service.command, cwd=self.workspace.state, env=environment, stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        watched.began, watched.again_at, watched.silent_since = time.monotonic(), 0.0, 0.0
        running.pid, running.state = watched.child.pid, STARTING
        with contextlib.suppress(psutil.Error):
            running.started = psutil.Process(running.pid).create_time()
        known.write(self.workspace, self.known)  # before it is waited for: whoever ends a supervisor that was killed must find it

    def _died(self, name: str, watched: Watched, why: str) -> None:
        running = self.known.services[name]
        pause = min(2.0**running.restarts, LONGEST_PAUSE_S)
        running.state, running.why, running.restarts = FAILING, why, running.restarts + 1
        watched.again_at, watched.child = time.monotonic() + pause, None
        self.say(f"{name}: {why}; started again in {pause:.0f} s; {running.log} says more")


def supervise(workspace: Workspace, say: Callable[[str], None]) -> None:
    """Run the services until told to end. Raises Refused where they run already."""
    with workspace.lock("up"):
        _end_orphans(workspace)
        Supervisor(workspace, say).run()


def start_detached(workspace: Workspace, seconds: float = SLOW_START_S) -> Known:
    """Start the supervisor as a process of its own; returns once every service is well. Raises Refused where one is not in time."""
    before = known.read(workspace)
    if before and known.alive(before):
        fix = "flywheel status shows the addresses; flywheel down ends it"
        raise Refused(f"it runs already, as process {before.pid}", fix, BUSY)
    log = logs(workspace) / "up.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        child = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "up", "--foreground", "--workspace", str(workspace.root)],
            cwd=workspace.state, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = known.read(workspace)
        if found and found.pid == child.pid and found.healthy:
            return found
        if child.poll() is not None:
            said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise Refused(f"it ended with {child.returncode}: {said[-1] if said else ''}", f"see {log}", child.returncode or 1)
        time.sleep(0.3)
    found = known.read(workspace)
    ill = [f"{name} ({s.why})" for name, s in found.services.items() if s.state != HEALTHY] if found else ["the supervisor"]
    raise Refused(f"not well after {seconds:.0f} s: {'; '.join(ill)}", f"see {log.parent}, or flywheel down", 1)


def down(workspace: Workspace) -> list[str]:
    """End the supervisor and all its services, also those that a killed one left behind; the names of what was ended."""
    found = known.read(workspace)
    if found is None:
        return []
    ended = [name for name, s in found.services.items() if known.alive(s)]
    supervisor = known.process(found)
    if supervisor is not None:
        supervisor.terminate()
        with contextlib.suppress(psutil.TimeoutExpired):
            supervisor.wait(timeout=GRACE_S * (len(found.services) + 1))
        if supervisor.is_running():
            raise Refused(f"process {supervisor.pid} does not end", f"kill -9 {supervisor.pid}, and flywheel down again", BUSY)
    _end_orphans(workspace)
    return ended


def _end_orphans(workspace: Workspace) -> None:
    """What a supervisor that was killed left running."""
    found = known.read(workspace)
    for one in reversed(found.services.values()) if found else ():
        if known.alive(one):
            end(one.pid)


def end(pid: int, child: subprocess.Popen[bytes] | None = None) -> None:
    """Ask a service to end, and then make it and all that it started."""
    try:
        first = psutil.Process(pid)
        family = [first, *first.children(recursive=True)]
    except psutil.Error:
        return
    with contextlib.suppress(psutil.Error):
        first.terminate()
    if child is not None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(GRACE_S)
    _, left = psutil.wait_procs(family, timeout=1 if child is not None else GRACE_S)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=5)


def trouble(service: Service) -> str:
    """Why the service is not well, '' where it is."""
    request = urllib.request.Request(service.health, headers=service.headers)
    try:
        with urllib.request.urlopen(request, timeout=ASK_S) as answer:
            return "" if service.well(answer.read()) else "it is not ready"
    except urllib.error.HTTPError as e:
        return f"{without_password(service.health)} answers {e.code}"
    except (OSError, http.client.HTTPException, ValueError) as e:
        return f"{without_password(service.health)}: {getattr(e, 'reason', e)}"


def listed(found: Known) -> str:
    """What is where, a line a service, for people."""
    purpose = {
        "prefect": "flow runs, artifacts, approvals", "mlflow": "trainings and models", "receiver": "takes OpenTelemetry logs",
        "review": "where people answer", "report": "what each turn did, and what waits for you",
        "champion": "OpenAI-compatible chat endpoint (add /v1)",
        "deployments": "the scheduled flows",
    }  # fmt: skip
    return "\n".join(f"  {name:<12} {s.url:<34} {purpose.get(name, '')}" for name, s in found.services.items())
