"""When the flows of a workspace run by themselves: section `schedule` of params.yaml.

"every 5 minutes" -> 300 seconds     "0 6 * * *" -> None: a cron line     "" -> never
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tasks.live.workspace import Workspace
from tasks.params import load

EVERY = re.compile(r"every (\d+(?:\.\d+)?) (second|minute|hour)s?")
SECONDS = {"second": 1, "minute": 60, "hour": 3600}


@dataclass(frozen=True, slots=True)
class ScheduleParams:
    """When each flow runs: "every 5 minutes", a cron line in `timezone`, or "" for never by itself."""

    timezone: str
    capture: str
    mine: str
    send: str
    receive: str
    retrain: str
    retrain_anyway: str
    watch: str
    maintain: str


def schedule(workspace: Workspace | None) -> ScheduleParams:
    """That of a workspace; without one, the project's own."""
    root = workspace.root if workspace else Path(__file__).resolve().parents[2]
    return load(root / "params.yaml", "schedule", ScheduleParams)


def every_s(said: str) -> float | None:
    """Seconds between two runs, None where it says something else."""
    match = EVERY.fullmatch(said)
    return float(match[1]) * SECONDS[match[2]] if match else None
