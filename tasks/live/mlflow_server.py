"""Pulls traces and their assessments from a running MLflow tracking server, and remembers how far it came.

flywheel capture --mlflow http://127.0.0.1:5000 --experiment support

People assess a trace days after it was made, so each pull looks back `capture.wait_days` and takes what is new or has changed
since; a trace that is still being written is left for the next pull.
"""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import orjson
from mlflow import MlflowClient
from mlflow.entities import TraceState
from mlflow.exceptions import MlflowException

from tasks.addresses import without_password
from tasks.errors import Refused
from tasks.live.capture import capture_chunks, wait_us
from tasks.live.intake import Account
from tasks.live.sources import Chunk
from tasks.live.workspace import Workspace, write_durably
from tasks.records import canonical, digest

PAGE = 100  # traces; one raw segment


def capture_server(workspace: Workspace, uri: str, experiments: list[str]) -> Account:
    """Capture what is new in the experiments named (all without names). Raises Refused for a server that does not answer."""
    shown = without_password(uri)
    reachable(shown)
    client = MlflowClient(tracking_uri=uri)
    try:
        chosen = _chosen(client, shown, experiments)
        pull = _Pull(workspace, client, uri)
        account = capture_chunks(workspace, pull.chunks(chosen), f"mlflow:{shown}")
    except MlflowException as e:
        raise Refused(
            f"{shown}: {e.message}", "check the server and MLFLOW_TRACKING_TOKEN; the same command goes on from there", 1
        ) from None
    pull.save()
    return account


class _Pull:
    """One pull. `seen`: trace -> when it was made and the digest of what it held, of those that are still looked back at."""

    def __init__(self, workspace: Workspace, client: MlflowClient, uri: str):
        self.client = client
        self.path = workspace.state / f"mlflow-{digest(uri.encode())[:12]}.json"
        try:
            self.cursors, self.seen = orjson.loads(self.path.read_bytes())
        except (FileNotFoundError, orjson.JSONDecodeError, ValueError):
            self.cursors, self.seen = {}, {}
        self.lookback_ms = wait_us(workspace) // 1000
        self.now_ms = time.time_ns() // 1_000_000

    def chunks(self, experiments: list[str]) -> Iterator[Chunk]:
        for experiment in experiments:
            since = max(0, self.cursors.get(experiment, 0) - self.lookback_ms)
            newest, token = self.cursors.get(experiment, 0), None
            while True:
                page = self.client.search_traces(
                    locations=[experiment], filter_string=f"timestamp_ms >= {since}", order_by=["timestamp_ms ASC"],
                    max_results=PAGE, page_token=token,
                )  # fmt: skip
                lines = []
                for trace in page:
                    newest = max(newest, trace.info.timestamp_ms)
                    lines += self._changed(trace)
                if lines:
                    yield Chunk(b"".join(lines), 0)
                token = page.token
                if not token:
                    break
            self.cursors[experiment] = newest

    def save(self) -> None:
        """Only after what was pulled is stored: otherwise it is pulled again, and stores nothing twice."""
        since = min(self.cursors.values(), default=0) - self.lookback_ms
        self.seen = {trace: made for trace, made in self.seen.items() if made[0] >= since}
        write_durably(self.path, orjson.dumps([self.cursors, self.seen]))

    def _changed(self, trace: Any) -> list[bytes]:
        if trace.info.state == TraceState.IN_PROGRESS:
            return []
        document = orjson.loads(trace.to_json())
        made = [trace.info.timestamp_ms, digest(canonical(document))[:16]]
        if self.seen.get(trace.info.trace_id) == made:
            return []
        self.seen[trace.info.trace_id] = made
        return [orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)]


def _chosen(client: MlflowClient, shown: str, names: list[str]) -> list[str]:
    if not names:
        return sorted(e.experiment_id for e in client.search_experiments())
    found = {name: client.get_experiment_by_name(name) for name in names}
    missing = [name for name, e in found.items() if e is None]
    if missing:
        known = ", ".join(sorted(e.name for e in client.search_experiments(max_results=20)))
        raise Refused(f"{shown} has no experiment {missing[0]!r}", f"its experiments are: {known}")
    return [e.experiment_id for e in found.values()]


def reachable(uri: str) -> None:
    """Asked once, without the client's minutes of retries."""
    if not uri.startswith(("http://", "https://")):
        raise Refused(f"{uri} is no address of a server", "--mlflow http://127.0.0.1:5000")
    try:
        urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=10).close()
    except urllib.error.HTTPError:
        return  # it answers; whether it lets us in, the client will tell
    except OSError as e:
        raise Refused(
            f"{uri} does not answer: {e}", f"start it (mlflow server), or check with: curl {uri}/health", 1
        ) from e
