"""The verb that forgets somebody: erase."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from flows.shown import JsonOption, WorkspaceOption, find, show
from tasks.errors import PARTIAL

if TYPE_CHECKING:
    from tasks.live.erasure.erase import Erased


def erase(
    user: Annotated[str, typer.Option(help="The user's id as the application logs it, or the pseudonym u_… .")] = "",
    tenant: Annotated[str, typer.Option(help="Of which tenant.")] = "",
    session: Annotated[str, typer.Option(help="Instead: one conversation, whoever took part in it.")] = "",
    interaction: Annotated[str, typer.Option(help="Instead: one interaction, by ix_… or the application's own id.")] = "",
    resume: Annotated[bool, typer.Option("--resume", help="Finish an erasure that was killed.")] = False,
    again: Annotated[
        bool, typer.Option("--again", help="After a backup was restored: erase anew whoever was erased before and is back.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Erase everything that came from one person, from old snapshots and their remotes too, and prove it by a look into every byte.

    Exits 7 where something of theirs was found afterwards. What is done can't be undone.

    Examples: flywheel erase --user u-17 --dry-run
              flywheel erase --user u-17 --tenant acme
    """
    from tasks.live.erasure.erase import erase as erase_
    from tasks.live.erasure.erase import resume as resume_
    from tasks.live.erasure.subject import Wish

    place = find(workspace)
    if again:
        from tasks.live.erasure.again import again as again_

        done = again_(place)
    else:
        done = resume_(place) if resume else [erase_(place, Wish(user, tenant, session, interaction), dry_run)]
    shown = asdict(done[0]) if len(done) == 1 else {"erased": [asdict(d) for d in done]}
    show(as_json, shown, "\n\n".join(map(erased_text, done)) or "nobody who was erased is back")
    if any(d.hits for d in done):
        print("error: something of theirs is still there\n  fix: see where above; mend it, then erase again", file=sys.stderr)
        raise typer.Exit(PARTIAL)


def erased_text(done: Erased) -> str:
    lines = [f"{done.id}: {'would erase' if done.dry_run else 'erased'}" + ("" if done.done else " nothing more")]
    for place, counted in done.done.items():
        told = ", ".join(f"{n:,} {k}" for k, n in counted.items()) if isinstance(counted, dict) else f"{counted:,}"
        lines.append(f"  {place}: {told}")
    for tag, paths in done.files.items():
        lines.append(f"  {tag} {'would lose' if done.dry_run else 'lost'} {len(paths)} files")
    if done.dry_run:
        return "\n".join(lines)
    if done.retrain:
        named = ", ".join(done.retrain)
        lines.append(f"  RETRAIN: model versions {named} learned from it; flywheel retrain --force makes one that did not")
    if done.judged:
        lines.append(f"  judged on it, and learned nothing from it: versions {', '.join(done.judged)}")
    lines.append("  looked for " + ", ".join(f"{n:,} {what}" for what, n in done.looked_for.items()))
    for place, looked in done.proof.items():
        ids = f" ({looked.row_ids:,} ids of rows, which name nothing any more)" if looked.row_ids else ""
        lines.append(f"    {place}: {looked.files:,} files, {looked.bytes:,} bytes, {looked.hits} hits{ids}")
    where = f"  FOUND: {done.hits} files still hold something: {', '.join(done.where)}"
    lines.append(where if done.hits else "  found nowhere: 0 hits")
    lines += [f"  by hand: {text}" for text in done.by_hand]
    lines += [f"  out of reach: {text}" for text in done.out_of_reach]
    return "\n".join(lines)
