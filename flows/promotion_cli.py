"""The verbs about who is champion: promote, rollback, history."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from flows.shown import JsonOption, WorkspaceOption, find, show
from tasks.errors import GATE_REFUSED, USAGE, Refused

if TYPE_CHECKING:
    from tasks.live.registry import Asked, Promoted

ByOption = Annotated[str, typer.Option("--by", help="Who decides; default: the user of this machine.")]
NoteOption = Annotated[str, typer.Option("--note", help="Why; it stands in the history and in the tags of the version.")]


def promote(
    approve: Annotated[bool, typer.Option("--approve", help="You, a person, approve it (promote.approval).")] = False,
    decline: Annotated[bool, typer.Option("--decline", help="You say no: this challenger is not asked about again.")] = False,
    snapshot: Annotated[str, typer.Option(help="The one that you looked at: another one is not approved.")] = "",
    by: ByOption = "",
    note: NoteOption = "",
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the judged challenger champion. Exits 4 unless the verdict says so, the champion is still the one judged, and a person
    has approved it where that is asked for.

    Examples: flywheel promote
              flywheel promote --approve --by kim --note "read 20 of its answers"
    """
    from tasks.live import registry

    place = find(workspace)
    if approve and decline:
        raise Refused("--approve and --decline at once", "one of them", USAGE)
    if snapshot:
        waits = registry.open_question(place)
        if waits is None or waits.snapshot != snapshot:
            what = waits.snapshot if waits else "nothing"
            raise Refused(f"what waits is {what}, not {snapshot}", "flywheel judge", GATE_REFUSED)
    else:
        waits = None
    given = registry.Approval(by or registry.user(), note, waits) if approve or decline else None
    if decline:
        asked = registry.decline(place, given)
        show(as_json, asked, f"version {asked.version} of {asked.snapshot} is not promoted: {given.by} declined it")
        return
    done = registry.promote(place, given)
    if isinstance(done, registry.Asked):
        show(as_json, done, done_text(None, done))
        raise typer.Exit(GATE_REFUSED)
    text = f"champion is version {done.version}" + (f", it replaced {done.replaced}" if done.changed else " already")
    show(as_json, done, text + pending_text(done))


def rollback(
    by: ByOption = "", note: NoteOption = "", workspace: WorkspaceOption = None, as_json: JsonOption = False
) -> None:
    """Bring back the champion that the present one replaced, by its files on this machine. Works with every server down; nothing is
    deleted.

    Example: flywheel rollback --by kim --note "answers in the wrong language"
    """
    from tasks.live import registry

    done = registry.rollback(find(workspace), by, note)
    show(as_json, done, f"champion is version {done.version} again; {done.replaced} is marked as rolled back{pending_text(done)}")


def history(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """What was champion, when, why and by whom, and what people were asked about it. Needs no server.

    Example: flywheel history --json
    """
    from tasks.live import registry

    entries = registry.history(find(workspace))
    lines = [
        f"{e.at}  {e.action:<16} {e.version or '-':>4}  {e.snapshot:<18} {e.by:<14} {e.why}".rstrip() for e in reversed(entries)
    ]
    head = f"{'at':<20}  {'what':<16} {'vers':>4}  {'snapshot':<18} {'by':<14} why"
    show(as_json, [asdict(e) for e in entries], "\n".join([head, *lines]) if lines else "no champion yet: flywheel turn")


def done_text(promoted: Promoted | None, asked: Asked | None) -> str:
    if asked:
        how = "flywheel promote --approve --by NAME --note WHY (or --decline)"
        return f"nothing yet: version {asked.version} of {asked.snapshot} waits for a person; {how}"
    return f"version {promoted.version}{pending_text(promoted)}" if promoted else "nothing"


def pending_text(done: Promoted) -> str:
    return f"\n  MLflow's alias follows with the next turn: {done.pending}" if done.pending else ""
