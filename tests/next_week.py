"""One more week in a played workspace: traffic served, captured, mined and sent, answers written and received."""

from __future__ import annotations

from pathlib import Path

from demo.company import Company
from demo.play import SESSIONS, annotate
from tasks.live import registry
from tasks.live.capture import capture
from tasks.live.handoff.send import send
from tasks.live.mining import mine
from tasks.live.workspace import Workspace
from tasks.policy import load


def play_until_answered(root: Path, number: int, seed: int) -> None:
    """Everything of a turn up to the answers, and nothing of retraining."""
    workspace = Workspace(root)
    company = Company(root, workspace.state / "demo", seed)
    champion = registry.champion(workspace)
    company.serve(number, SESSIONS, load(champion.folder), champion.version)
    capture(workspace)
    mine(workspace)
    annotate(workspace, company, send(workspace))
