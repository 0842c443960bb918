"""The page that shows what validation found, with what it found in the snapshots before: data/reports/validation.html.

The stage itself is pure and knows nothing of other snapshots; their reports lie in git.
"""

from __future__ import annotations

from pathlib import Path

from tasks.live import snapshot
from tasks.live.workspace import Workspace, write_durably
from tasks.validation.page import Past, page

MOST = 30


def history(workspace: Workspace, most: int = MOST) -> list[Past]:
    """What validation said of the published snapshots that HEAD contains, the newest first; without those that say what the
    workspace says now, so that showing the same snapshot again gives the same page."""
    now = snapshot.report(workspace, "validation")
    found = []
    for s in snapshot.history(workspace):
        document = snapshot.report_at(workspace, s.commit, "validation")
        if document != now:
            found.append(Past(s.tag, document))
        if len(found) == most:
            break
    return found


def show(workspace: Workspace) -> Path:
    """Write the page of the report that lies in the workspace, failed or not. Raises Refused where there is none."""
    path = workspace.reports / "validation.html"
    data = page(snapshot.report(workspace, "validation"), history(workspace)).encode()
    if not path.is_file() or path.read_bytes() != data:
        write_durably(path, data)
    return path
