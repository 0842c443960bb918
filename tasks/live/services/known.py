"""What is known of the services that `flywheel up` started: a file, and whether its processes still live.

.flywheel/up.json  {"pid": 41, "started": 1767600000.5, "services": {"prefect": {"pid": 42, "started": …, "url": "http://…", …}}}

A pid alone says nothing once a machine was started again; with the time at which its process began it does.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import orjson
import psutil

from tasks.live.workspace import Workspace, write_durably

STARTING, HEALTHY, FAILING, STOPPED = "starting", "healthy", "failing", "stopped"


@dataclass(slots=True)
class Running:
    """One service. `restarts`: how often it died and was started again; `url`: what a person opens or a program calls."""

    pid: int
    started: float
    url: str
    log: str
    state: str = STARTING
    restarts: int = 0
    why: str = ""  # it is not healthy


@dataclass(slots=True)
class Known:
    """The supervisor and its services, by name."""

    pid: int
    started: float
    services: dict[str, Running] = field(default_factory=dict)

    @property
    def healthy(self) -> bool:
        return all(s.state == HEALTHY for s in self.services.values())


def place(workspace: Workspace) -> Path:
    return workspace.state / "up.json"


def read(workspace: Workspace) -> Known | None:
    """As the supervisor wrote it last; None where there is none. It may be dead: `alive` tells."""
    try:
        document = orjson.loads(place(workspace).read_bytes())
        services = {name: Running(**found) for name, found in document["services"].items()}
        return Known(document["pid"], document["started"], services)
    except (FileNotFoundError, orjson.JSONDecodeError, KeyError, TypeError):
        return None


def write(workspace: Workspace, known: Known) -> None:
    """Nothing is written where nothing has changed: the supervisor looks every few seconds, for weeks."""
    if read(workspace) != known:
        write_durably(place(workspace), orjson.dumps(asdict(known), option=orjson.OPT_INDENT_2))


def alive(one: Known | Running) -> bool:
    """Whether this very process still lives."""
    return process(one) is not None


def process(one: Known | Running) -> psutil.Process | None:
    try:
        found = psutil.Process(one.pid)
        # As seconds since the machine's start, which a clock that was put right moves a little.
        same = abs(found.create_time() - one.started) < 2 and found.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return None
    return found if same else None


def addresses(workspace: Workspace) -> dict[str, str]:
    """Where what `flywheel up` runs is found, by name; those that live."""
    known = read(workspace)
    found = {name: s.url for name, s in known.services.items() if alive(s)} if known else {}
    elsewhere = os.environ.get("FLYWHEEL_TRACKING_URI", "")
    return found | ({"mlflow": elsewhere.rstrip("/")} if elsewhere.startswith("http") else {})


def prefect_url(workspace: Workspace) -> str:
    """The API of the Prefect server that `flywheel up` runs, '' where it does not."""
    known = read(workspace)
    server = known.services.get("prefect") if known else None
    return f"{server.url}/api" if server and alive(server) else ""
