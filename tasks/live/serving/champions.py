"""The registry as serving sees it: who is champion and challenger now, and the two things that serving may do to them."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.live import registry
from tasks.live.registry import Registered
from tasks.live.snapshot import last, report_at
from tasks.live.workspace import Workspace

BY = "serve"


@dataclass(frozen=True, slots=True)
class Found:
    champion: Registered
    challenger: Registered | None


def found(workspace: Workspace) -> Found:
    """Asks the registry; what it raises where it is down, or busy, is for the caller to live with."""
    return Found(registry.champion(workspace), registry.challenger(workspace))


def decision(workspace: Workspace, challenger: Registered) -> str:
    """What the gate said of this challenger; "" where its newest verdict is about another one. Reads git alone."""
    newest = last(workspace)
    verdict = report_at(workspace, newest.commit, "verdict") if newest else {}
    return verdict["decision"] if verdict.get("challenger") == challenger.digest else ""


def roll_back(workspace: Workspace, worse: Registered, reason: str) -> None:
    """Bring the champion before back, if `worse` is still champion. The reason goes to the version's tags."""
    if registry.champion(workspace).digest == worse.digest:
        registry.rollback(workspace)
        registry.mark(workspace, worse.version, "rolled_back", f"by {BY}: {reason}")


def refuse(workspace: Workspace, challenger: Registered, reason: str) -> None:
    """Mark a challenger that was worse for users: it is not promoted any more."""
    registry.mark(workspace, challenger.version, "rolled_back", f"by {BY}: {reason}")
