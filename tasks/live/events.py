"""Events that a flow waits for, told to Prefect's server. One that nobody hears costs nothing: schedules poll as well."""

from __future__ import annotations

import os
import threading
import time
import uuid
from datetime import UTC, datetime

import httpx

from tasks.live.services.known import prefect_url
from tasks.live.workspace import Workspace

ANSWERS = "flywheel.answers.arrived"
SEND_S = 5.0
PAUSE_S = 20.0  # between two events of a kind: the flow that hears one takes all that is there


def emit(workspace: Workspace, event: str) -> bool:
    """Tell Prefect's server; whether it took it. Never raises."""
    api = os.environ.get("PREFECT_API_URL") or prefect_url(workspace)
    if not api:
        return False
    document = {
        "id": str(uuid.uuid4()), "occurred": datetime.now(UTC).isoformat(), "event": event, "payload": {},
        "resource": {"prefect.resource.id": f"flywheel.workspace.{workspace.root.name}"},
    }  # fmt: skip
    try:
        return httpx.post(f"{api}/events", json=[document], timeout=SEND_S).status_code < 300
    except httpx.HTTPError:
        return False


class Teller:
    """Tells an event in the background, soon after it happened, however often it does."""

    def __init__(self, workspace: Workspace, event: str, pause_s: float = PAUSE_S):
        self._workspace, self._event, self._pause_s = workspace, event, pause_s
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._last = -pause_s

    def happened(self) -> None:
        """Returns at once. What happens within the pause is told together, at its end."""
        with self._lock:
            if self._timer is not None:
                return
            wait = max(0.5, self._last + self._pause_s - time.monotonic())
            self._timer = threading.Timer(wait, self._tell)
            self._timer.daemon = True
            self._timer.start()

    def _tell(self) -> None:
        with self._lock:
            self._timer, self._last = None, time.monotonic()
        emit(self._workspace, self._event)
