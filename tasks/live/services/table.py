"""Which services a workspace needs, how each is started, and how it is asked whether it is well.

A server that runs elsewhere (PREFECT_API_URL, FLYWHEEL_TRACKING_URI) is not started here a second time.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from tasks.addresses import without_password
from tasks.errors import Refused
from tasks.live.workspace import Workspace

HOST = "127.0.0.1"
# Where each is looked for by those who know it; another, free one is taken where somebody has it already.
PORTS = {"prefect": 4200, "mlflow": 5000, "receiver": 4318, "review": 8095, "report": 8096, "champion": 8097}


@dataclass(frozen=True, slots=True)
class Service:
    """`health`: an address that answers 200 (or `well` about what it answers). `after`: it is started once this one is healthy."""

    name: str
    command: list[str]
    url: str
    health: str
    environment: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    after: str = ""
    well: Callable[[bytes], bool] = lambda _: True


def table(workspace: Workspace, ports: dict[str, int]) -> list[Service]:
    """In the order in which they start. `ports`: of each service that listens."""
    url = {name: f"http://{HOST}:{port}" for name, port in ports.items()}
    prefect = os.environ.get("PREFECT_API_URL") or f"{url['prefect']}/api"
    python, root = sys.executable, str(workspace.root)
    ours = {"PREFECT_API_URL": prefect, "PREFECT_HOME": os.environ.get("PREFECT_HOME", str(workspace.state / "prefect"))}
    services = []
    if not os.environ.get("PREFECT_API_URL"):
        # Not --port: the server's pages would still ask 4200.
        environment = ours | {
            "PREFECT_SERVER_API_HOST": HOST, "PREFECT_SERVER_API_PORT": str(ports["prefect"]),
            # Events by default, and nothing else: flow runs would be kept for ever.
            "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        }  # fmt: skip
        command = [python, "-m", "prefect", "server", "start"]
        services.append(Service("prefect", command, url["prefect"], f"{url['prefect']}/api/health", environment))
    if not os.environ.get("FLYWHEEL_TRACKING_URI"):
        store, artifacts = workspace.tracking_uri, (workspace.state / "artifacts").as_uri()
        command = [
            python, "-m", "mlflow", "server", "--host", HOST, "--port", str(ports["mlflow"]), "--workers", "1",
            "--backend-store-uri", store, "--default-artifact-root", artifacts,
            "--uvicorn-opts", "--log-level warning",  # or each look at its health is a line of its log
        ]  # fmt: skip
        services.append(Service("mlflow", command, url["mlflow"], f"{url['mlflow']}/health"))

    def flywheel(verb: str, name: str, health: str, **more: Any) -> Service:
        command = [python, "-m", "flows.cli", verb, "--port", str(ports[name]), "--workspace", root]
        return Service(name, command, url[name], url[name] + health, ours, **more)

    token = os.environ.get("FLYWHEEL_TOKEN", "")
    services.append(flywheel("listen", "receiver", "/health", headers={"Authorization": f"Bearer {token}"} if token else {}))
    services.append(flywheel("review", "review", "/"))
    command = [python, "-m", "flows.cli", "report", "--serve", str(ports["report"]), "--workspace", root]
    services.append(Service("report", command, url["report"], f"{url['report']}/health", ours))
    # It makes the registry's database, too, where there is none: one after the other.
    after = "" if os.environ.get("FLYWHEEL_TRACKING_URI") else "mlflow"
    services.append(flywheel("serve", "champion", "/healthz", after=after))
    services.append(
        Service(
            "deployments", [python, "-m", "flows.deploy", root], without_password(prefect).removesuffix("/api") + "/deployments",
            f"{prefect}/deployments/name/capture/flywheel", ours,
            after="prefect" if not os.environ.get("PREFECT_API_URL") else "", well=_polled,
        )
    )  # fmt: skip
    return services


def free_ports(before: dict[str, int]) -> dict[str, int]:
    """A port for each service: the one that it had before, its usual one, or a free one. Raises Refused where none is free."""
    taken: set[int] = set()
    chosen = {}
    for name, usual in PORTS.items():
        for wanted in dict.fromkeys((before.get(name, usual), usual, 0)):
            port = _free(wanted, taken)
            if port:
                chosen[name] = port
                taken.add(port)
                break
        else:
            raise Refused(f"no port of {HOST} is free for {name}", "flywheel doctor shows who listens")
    return chosen


def _free(port: int, taken: set[int]) -> int:
    """The port (any, for 0) where one may listen on it now, else 0."""
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind((HOST, port))
        except OSError:
            return 0
        found = s.getsockname()[1]
    return 0 if found in taken else found


def _polled(answer: bytes) -> bool:
    """Prefect calls a deployment ready while somebody asks for its runs."""
    return orjson.loads(answer)["status"] == "READY"


def logs(workspace: Workspace) -> Path:
    return workspace.state / "logs"
