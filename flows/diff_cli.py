"""The verb that compares versions of the data: diff."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.shown import JsonOption, WorkspaceOption, find, show
from tasks.errors import Refused


def diff(
    before: Annotated[str, typer.Argument(help="A snapshot's tag or any commit; default: the newest snapshot.")] = "",
    after: Annotated[str, typer.Argument(help="The same; default: the work tree.")] = "",
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """What changed in the data: rows, labels that flipped, settings; by source, slice, annotator and guideline.

    Example: flywheel diff snapshot-22d82ccb snapshot-81ef4657
    """
    from tasks.changes import as_text
    from tasks.live.diff import between
    from tasks.live.snapshot import last

    place = find(workspace)
    newest = None if before else last(place)
    if not before and newest is None:
        raise Refused("there is no snapshot yet", "flywheel retrain makes one; flywheel diff A B compares any two commits")
    found = between(place, before or newest.tag, after)
    show(as_json, found, as_text(found))
