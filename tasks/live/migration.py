"""Migration: what an older version of the loop wrote, as this one writes it. Nothing else is read or written until that is done.

    migrate(workspace)  ->  {"signals": ["detail"]}      table -> the columns that its rows got; {} where nothing was old

May be killed anywhere and run again: a table is changed in one commit, and its old files stay until the nightly vacuum.
"""

from __future__ import annotations

from tasks.live.lake import TABLES, Lake
from tasks.live.workspace import Workspace


def migrate(workspace: Workspace) -> dict[str, list[str]]:
    """Raises Refused where another process holds the lake, or a newer version of the loop wrote it."""
    lake = Lake(workspace.lake)
    with workspace.lock("capture"), workspace.lock("lake"):
        return {table: columns for table in TABLES if (columns := lake.migrate(table))}
