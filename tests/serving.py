"""What the tests of serving share: small models that are told apart by what they answer, and a server in this process.

    always(tmp_path / "a", "1", "refund")        a registered model that always gives one approved answer
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from starlette.testclient import TestClient

from tasks.live.registry import Registered
from tasks.live.serving import app, champions
from tasks.live.workspace import Workspace
from tasks.policy import answers, folder_digest
from tasks.policy.encoder import Encoder
from tests.handmade import CATALOGUE

LOCAL = "http://127.0.0.1"
PARAMS = answers.AnswersParams(12.0, 0.02, 1.0, 0.1, 3, 1)


def always(folder: Path, version: str, action: str) -> Registered:
    """A real policy whose bias outweighs everything but one answer's."""
    base = answers.base(CATALOGUE, Encoder.fit(answers.described(CATALOGUE), 8), PARAMS)
    weights = base.weights.copy()
    weights[[a.id for a in CATALOGUE].index(action), -1] = 50 + int(version)
    replace(base, weights=np.asarray(weights)).save(folder)
    return Registered(version, folder_digest(folder), folder)


def settings(place: Workspace, **changes: Any) -> None:
    """Change the section `serve` of a workspace's params.yaml."""
    path = place.root / "params.yaml"
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    document["serve"] |= changes
    path.write_text(yaml.safe_dump(document), encoding="utf-8")


class Registry:
    """Who is champion and challenger, set by the test where a promotion would set it (the door to MLflow has tests of its own)."""

    def __init__(self, champion: Registered, challenger: Registered | None = None, decision: str = "promote"):
        self.champion, self.challenger, self.decided = champion, challenger, decision
        self.done: list[tuple[str, str, str]] = []
        self.down = False

    def found(self, _: Workspace) -> champions.Found:
        if self.down:
            raise ConnectionError("the tracking server is gone")
        return champions.Found(self.champion, self.challenger)

    def decision(self, _: Workspace, challenger: Registered) -> str:
        return self.decided

    def roll_back(self, _: Workspace, worse: Registered, reason: str) -> None:
        self.done.append(("roll back", worse.version, reason))

    def refuse(self, _: Workspace, challenger: Registered, reason: str) -> None:
        self.done.append(("refuse", challenger.version, reason))


@contextlib.contextmanager
def serving(place: Workspace, registry: Registry, monkeypatch: Any, token: str = "") -> Iterator[TestClient]:
    """The application with its threads, asked by name of this machine; it waits until a champion is at work."""
    for name in ("found", "decision", "roll_back", "refuse"):
        monkeypatch.setattr(champions, name, getattr(registry, name))
    with TestClient(app.application(place, token), base_url=LOCAL) as client:
        if not registry.down:
            until(lambda: client.get("/healthz").status_code == 200)
        yield client


def until(true: Any, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def ask(client: TestClient, text: str = "when do I see my money?", **more: Any) -> Any:
    body = {"model": "champion", "messages": [{"role": "user", "content": text}]} | more
    return client.post("/v1/chat/completions", json=body)


def lines(place: Workspace) -> list[dict[str, Any]]:
    """What was logged, also what capture does not see yet."""
    files = sorted(place.spool.glob("serve-*"))
    return [json.loads(line) for path in files for line in path.read_text(encoding="utf-8").splitlines()]
