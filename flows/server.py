"""Which Prefect server the flows of this process run against."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from tasks.live.services.known import prefect_url
from tasks.live.workspace import Workspace, use_prefect_home


@contextlib.contextmanager
def prefect_for(workspace: Workspace, heartbeats: bool = True) -> Iterator[None]:
    """The server of PREFECT_API_URL, that of `flywheel up`, or else an embedded one with its history in the workspace.

    Heartbeats let a server that lives on find flows that died; each flow waits a second for its last one. The embedded
    server ends with this process and needs none.
    """
    use_prefect_home(workspace)
    if not os.environ.get("PREFECT_API_URL") and (running := prefect_url(workspace)):
        os.environ["PREFECT_API_URL"] = running
    embedded = not os.environ.get("PREFECT_API_URL")
    if embedded:
        os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")  # the command says itself what was done
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    if heartbeats and not embedded:
        yield
        return
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield
