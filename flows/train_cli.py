"""The verbs around training: advise, and provider for the jobs that were ordered there."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from flows.shown import JsonOption, WorkspaceOption, find, show

if TYPE_CHECKING:
    from tasks.policy.advisor import Advice
    from tasks.policy.provider.orders import Note

CHECKPOINTS = "checkpoints"


def advise(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Say which training methods the dataset supports, and what is missing for the others.

    Example: flywheel advise
    """
    from tasks.policy import advisor

    place = find(workspace)
    params = place.params("advise", advisor.AdviseParams)
    found = advisor.advise(advisor.read(place.data / "dataset", params), params)
    show(as_json, [asdict(a) | {"text": a.text} for a in found], "\n".join(_advice(a) for a in found))


def provider(
    cancel: Annotated[str, typer.Option(help="The id of a job to cancel.")] = "",
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the tuning jobs that this workspace ordered from a provider, as last seen, or cancel one.

    Example: flywheel provider --cancel ftjob-abc123
    """
    from tasks.policy.provider import training
    from tasks.policy.provider.orders import Notes, ProviderParams

    place = find(workspace)
    folder = place.data / CHECKPOINTS
    if cancel:
        found = [training.cancel(folder, place.params("provider", ProviderParams).url, cancel)]
    else:
        found = Notes(folder / "provider").all()
    show(as_json, [asdict(n) for n in found], "\n".join(map(_job, found)) or "no job was ordered")


def _advice(advice: Advice) -> str:
    mark = "ready" if advice.ready else "not yet"
    return "\n".join([f"{mark:<8} {advice.text}", *(f"         beware: {w}" for w in advice.warnings)])


def _job(note: Note) -> str:
    return f"{note.job}  {note.step}  {note.status}  at {note.url}"
