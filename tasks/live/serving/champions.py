"""The registry as serving sees it: who is champion and challenger now, and the two things that serving may do to them."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.live import registry
from tasks.live.registry import Registered, journal
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
    """Bring the champion before back, if `worse` is still champion. It needs no server: MLflow follows when it answers."""
    if registry.champion(workspace).digest == worse.digest:
        registry.rollback(workspace, by=BY, why=reason)


def refuse(workspace: Workspace, challenger: Registered, reason: str) -> None:
    """Decline a challenger that was worse for users: it is not promoted over this champion, unless a person says so."""

    def declined(now: journal.Journal) -> list[journal.Entry]:
        if now.question(now.champion, challenger.digest)[1] is not None:
            return []
        return [journal.Entry(journal.DECLINED, challenger.digest, now.champion, challenger.version, by=BY, why=reason)]

    journal.add(workspace, declined)
