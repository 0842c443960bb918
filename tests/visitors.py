"""The demo's people as they answer on the review page: over its API, each in a session of their own."""

from __future__ import annotations

import json
from pathlib import Path

import httpx

from demo.annotators import EXPERT
from demo.company import Company
from demo.play import response_ids
from tasks.live.review.roster import invite
from tasks.live.workspace import Workspace


class Visitors:
    """They know the truth as well as they do in the demo; what they think comes to the loop by the page alone."""

    def __init__(self, place: Workspace, page: str, seed: int, aside: Path):
        self._place, self._page, self._aside = place, page, aside
        self._seed = seed
        self._sessions: dict[str, httpx.Client] = {}
        self._given: set[Path] = set()

    def answer(self, folder: Path) -> int:
        """Answer whatever this batch asks and nobody has answered; returns how many answers the page took."""
        # A company of its own each time, which knows all that was served by now; its answer files stay aside.
        Company(self._aside, self._place.state / "demo", self._seed).annotate(folder, response_ids(self._place, folder.name))
        asks = {
            (row["candidate_id"], row["kind"], round_.stem): row["ask_id"]
            for round_ in folder.glob("batch*.jsonl")
            for row in map(json.loads, round_.read_text(encoding="utf-8").splitlines())
        }
        taken = 0
        for file in sorted(set((self._aside / "data" / "answers").glob(f"{folder.name}-*.jsonl")) - self._given):
            round_ = file.stem.removeprefix(f"{folder.name}-").rpartition("-")[0]
            for row in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
                said = {"ask_id": asks[row["candidate_id"], row["kind"], round_], "status": "submitted", "value": row["value"],
                        "seconds": row["seconds"]}  # fmt: skip
                answer = self._session(row["annotator"]).post("/api/answers", json={"answers": [said]})
                assert answer.status_code == 200 or "not_yours" in answer.text or "unknown_ask" in answer.text, answer.text
                taken += answer.status_code == 200
            self._given.add(file)
        return taken

    def _session(self, name: str) -> httpx.Client:
        if name not in self._sessions:
            client = httpx.Client(base_url=self._page, headers={"Origin": self._page}, timeout=60)
            token = invite(self._place, name, expert=name == EXPERT)
            client.post("/api/sign-in", json={"annotator": name, "token": token}).raise_for_status()
            self._sessions[name] = client
        return self._sessions[name]
