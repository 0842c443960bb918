"""The verb that tells a decision with all that it rests on: dossier."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.shown import JsonOption, WorkspaceOption, find, show


def dossier(
    snapshot: Annotated[str, typer.Argument(help="A snapshot's tag, or the digits at its end; default: the newest.")] = "",
    out: Annotated[Path | None, typer.Option(help="The file; default: in .flywheel/dossiers.")] = None,
    with_examples: Annotated[bool, typer.Option(help="Show what users asked and the models answered.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write one page about a snapshot: the decision and its reasons, what was compared, the data, the model, people, hashes.

    Example: flywheel dossier --out decision.html --with-examples
    """
    from tasks.live import dossier

    path = dossier.write(find(workspace), snapshot, out, with_examples)
    show(as_json, {"dossier": str(path), "with_examples": with_examples}, f"{path}")
