"""The way to MLflow: one client an address, short patience, and one error for everything that a server can do to us.

A request is never repeated by the client itself: what asks for a run twice may get two. What died half-way is found by its tags and
gone on with by the next turn (tasks/live/registry/recording.py).
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

from tasks.addresses import without_password
from tasks.live.workspace import Workspace

MODEL = "flywheel-policy"
EXPERIMENT = "flywheel"
CHAMPION, CHALLENGER = "champion", "challenger"
PROBE_S = 5.0  # for a server to say that it lives
# MLflow's own are 120 s a request and 7 repetitions, minutes for a server that is down.
SETTINGS = {
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT": "600",
}


class Unreachable(Exception):
    """MLflow did not do what it was asked: it is down, too slow, refuses us or answers with an error. Says why."""


@contextlib.contextmanager
def asking(workspace: Workspace) -> Iterator[Any]:
    """The client, for as long as MLflow answers. Raises Unreachable, at the start or in between."""
    uri = workspace.tracking_uri
    for key, value in SETTINGS.items():
        os.environ.setdefault(key, value)
    if uri.startswith(("http://", "https://")):
        _probe(uri)
    from mlflow.exceptions import MlflowException

    try:
        yield _connected(uri)
    except MlflowException as e:
        raise Unreachable(_shown(uri, e.message)) from e
    except OSError as e:  # the network's, and the disk's of a store that is a file
        raise Unreachable(_shown(uri, str(e))) from e


def experiment(client: Any, workspace: Workspace) -> str:
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return found.experiment_id
    local = workspace.tracking_uri.startswith("sqlite")
    where = (workspace.state / "artifacts").as_uri() if local else None
    return client.create_experiment(EXPERIMENT, artifact_location=where)


def aliases(client: Any) -> dict[str, str]:
    """Alias -> version."""
    return {name: str(version) for name, version in client.get_registered_model(MODEL).aliases.items()}


def model_versions(client: Any) -> list[Any]:
    """Every version, oldest first."""
    return sorted(client.search_model_versions(f"name='{MODEL}'"), key=lambda v: int(v.version))


@functools.cache
def _connected(uri: str) -> Any:
    """One client per address and process: each new one opens the database, or the connection, anew."""
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient(uri)
    if not client.search_registered_models(f"name='{MODEL}'"):
        client.create_registered_model(MODEL)
    return client


def _probe(uri: str) -> None:
    """Asked once, before MLflow is even imported."""
    try:
        urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=PROBE_S).close()
    except urllib.error.HTTPError as e:
        if e.code >= 500:
            raise Unreachable(_shown(uri, f"answers {e.code}")) from e
    except (OSError, ValueError) as e:
        raise Unreachable(_shown(uri, str(e))) from e


def _shown(uri: str, said: str) -> str:
    """Without the password that an address may hold."""
    shown = without_password(uri)
    return f"{shown}: {said.replace(uri, shown).strip().splitlines()[0] if said.strip() else 'no answer'}"[:300]
