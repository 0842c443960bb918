"""The verb that looks whether all is well: doctor."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from flows.shown import JsonOption, WorkspaceOption, find, show
from tasks.errors import OK, USAGE

MARKS = {"ok": "ok     ", "warning": "WARNING", "fault": "FAULT  "}


def doctor(
    deep: Annotated[
        bool, typer.Option(help="Also read every byte: all records accounted for, snapshots whole, one champion.")
    ] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Whether this machine and this workspace can run, and what to do where not. Exits 2 on a fault.

    Changes nothing and needs no server. Run --deep while no flow runs: what a running one has not finished looks like what a
    dead one left.

    Example: flywheel doctor --deep --json
    """
    from tasks.live.doctor import examine

    place = find(workspace)
    found = examine(place)
    if deep:
        from tasks.live.invariants import invariants

        found += invariants(place)
    show(as_json, [asdict(f) for f in found], as_text(found))
    raise typer.Exit(USAGE if any(f.level == "fault" for f in found) else OK)


def as_text(found: list) -> str:
    lines = []
    for f in found:
        lines.append(f"{MARKS[f.level]}  {f.check:<16} {f.why}".rstrip())
        if f.level != "ok" and f.fix:
            lines.append(f"         {'':<16} fix: {f.fix}")
    bad = sum(f.level == "fault" for f in found)
    lines.append(
        f"{bad} faults, {sum(f.level == 'warning' for f in found)} warnings" if len(found) else "nothing was looked at"
    )
    return "\n".join(lines)
