"""The verbs that look after what is stored: maintain, migrate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.shown import JsonOption, WorkspaceOption, find, show

if TYPE_CHECKING:
    from tasks.live.maintenance import Maintained


def maintain(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Join the lake's small files and delete what nobody needs any more (params.yaml, maintenance). For every night.

    It changes no row and no snapshot, and leaves alone what another process holds.
    """
    from tasks.live.maintenance import maintain as maintain_

    done = maintain_(find(workspace))
    show(as_json, done, done_text(done))


def migrate(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Bring what an older version of flywheel stored up to this one. Once after an upgrade, while nothing else runs."""
    from tasks.live.migration import migrate as migrate_

    done = migrate_(find(workspace))
    lines = [f"{table}: its rows got {', '.join(columns)}" for table, columns in done.items()]
    show(as_json, {"migrated": done}, "\n".join(lines) or "nothing was old")


def done_text(done: Maintained) -> str:
    return "\n".join([
        f"joined     {_counts(done.joined, 'files fewer to read')}",
        f"deleted    {_counts(done.deleted, 'files that no table needs')}",
        f"swept      {done.swept or 'nothing'} half written",
        f"dropped    {_counts(done.dropped, 'old')}",
        *(f"left       {why}" for why in done.left),
    ])  # fmt: skip


def _counts(counts: dict[str, int], what: str) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in counts.items()) + f" ({what})" if counts else "nothing"
