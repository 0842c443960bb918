"""Earlier verdicts, for the gate: each was a look at the holdout, and the next one must be stricter for it.

    earlier(workspace, identity(…))  ->  [Look("snapshot-3f9c2a1b", "promote", 0.00008, 0.0219), …]      oldest first

Judging must not change its own input: what was judged before (the same data, champion and parameters) is no look at itself, and
neither is what came after it. So an equal lake gives equal bytes, and other parameters, a seed for instance, are another look.
"""

from __future__ import annotations

from typing import Any

import yaml

from tasks.gate.looks import Look
from tasks.live import snapshot
from tasks.live.workspace import Workspace
from tasks.records import canonical, digest


def identity(workspace: Workspace, data_digest: str, champion: str) -> str:
    """What a snapshot judges: this data, against this champion (its digest), with all that params.yaml says."""
    params = yaml.safe_load((workspace.root / "params.yaml").read_text(encoding="utf-8"))
    return digest(canonical([data_digest, champion, params]))


def earlier(workspace: Workspace, judged: str) -> list[Look]:
    """The looks of the snapshots before the one of this identity (all, where there is none), oldest first."""
    found: list[Look] = []
    for made in reversed(list(snapshot.history(workspace))):
        if snapshot.report_at(workspace, made.commit, "freeze").get("judged") == judged:
            break
        verdict = snapshot.report_at(workspace, made.commit, "verdict")
        if _tested(verdict):
            found.append(Look(made.tag, verdict["decision"], verdict["primary"]["p_value"], verdict.get("level", 0.05)))
    return found


def _tested(verdict: dict[str, Any]) -> bool:
    """Verdicts of before the gate counted looks don't say it: they tested where they compared."""
    return verdict.get("tested", "primary" in verdict) is True
