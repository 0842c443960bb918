"""The `flywheel` command: one verb per step of the loop. Heavy imports stay inside the verbs, so that --help is instant.

Exit codes: 0 ok · 1 unexpected · 2 usage or configuration · 3 validation failed · 4 the gate refused · 6 busy ·
7 partial (rejects above the threshold) · 130 interrupted, state saved.
"""

from __future__ import annotations

import errno
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from flows import (
    capture_cli,
    diff_cli,
    doctor_cli,
    dossier_cli,
    erase_cli,
    export_cli,
    lineage_cli,
    maintain_cli,
    promotion_cli,
    report_cli,
    review_cli,
    serve_cli,
    train_cli,
    up_cli,
)
from flows.shown import (
    JsonOption,
    WorkspaceOption,
    account_text,
    find,
    followed_text,
    keep_stdout_for_the_document,
    show,
)
from tasks.errors import GATE_REFUSED, INTERRUPTED, OK, UNEXPECTED, USAGE, Refused

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Turns the production logs of an LLM application into better models, one audited turn at a time.",
)
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)
ROOM = "flywheel doctor says how much is free; free some (or mend the disk), then the same command goes on from there"
PROJECT = Path(__file__).resolve().parents[1]


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(help="A new folder.")],
    answers: Annotated[
        Path | None, typer.Option(help="The approved answers, as JSON lines {id, kind, topic, title, text, source}.")
    ] = None,
    remote: Annotated[
        str | None,
        typer.Option(help="Where snapshots are kept: a folder, s3://BUCKET/PATH or ssh://HOST/PATH; default: in the workspace."),
    ] = None,
    remote_setting: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE of the remote, as endpointurl=http://minio:9000; no secrets.")
    ] = None,
    with_uncommitted: Annotated[bool, typer.Option(help="Bring uncommitted changes of this checkout along.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a workspace: the loop's own clone, where its snapshots are committed.

    Example: flywheel init ~/flywheel-support --answers approved.jsonl
    """
    from tasks.live import snapshot

    workspace = snapshot.init(directory, PROJECT, answers, remote, with_uncommitted, remote_setting or [])
    show(
        as_json,
        {"workspace": str(workspace.root)},
        f"workspace ready: {workspace.root}\nput logs into {workspace.inbox}, then: flywheel turn",
    )


app.command()(capture_cli.capture)
app.command()(capture_cli.listen)
app.add_typer(capture_cli.quarantine, name="quarantine")
app.command()(review_cli.review)
app.command()(export_cli.export)
app.command()(diff_cli.diff)
app.command()(doctor_cli.doctor)
app.command()(dossier_cli.dossier)
app.command()(report_cli.report)
app.command()(lineage_cli.why)
app.command()(erase_cli.erase)
app.command()(train_cli.advise)
app.command()(train_cli.provider)
app.command()(serve_cli.serve)
app.command()(maintain_cli.maintain)
app.command()(maintain_cli.migrate)
app.command()(up_cli.up)
app.command()(up_cli.down)
app.command()(up_cli.deploy)
app.command()(up_cli.pause)
app.command()(up_cli.resume)


@app.command()
def mine(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Place new interactions at the wall and run the detectors over them."""
    from tasks.live.mining import mine

    found = mine(find(workspace))
    show(as_json, found, f"placed {found.placed or 'nothing new'}\nsignals {found.signals or 'nothing new'}")


@app.command()
def send(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Choose the next batch and hand it to people: in data/outbox, or in the tool that annotate.tool names."""
    from tasks.live.handoff.send import send

    batch = send(find(workspace))
    text = (
        f"{batch.folder}: {batch.parts} of {batch.window} interactions; asked {batch.asks}, {batch.gold} of them gold"
        if batch
        else "nothing to send: the window is too small"
    )
    show(as_json, batch, text)


@app.command()
def receive(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Take in what people answered, and ask again where they are not sure."""
    from tasks.live.handoff.follow_up import follow_up
    from tasks.live.handoff.receive import receive

    place = find(workspace)
    account, followed = receive(place), follow_up(place)
    show(as_json, account.as_dict() | {"followed": asdict(followed)}, f"{account_text(account)}\n{followed_text(followed)}")


@app.command()
def label(
    trail: Annotated[
        str | None, typer.Option(help="The audit trail of one candidate or interaction instead: who, what, when.")
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """What people agree on, how far to trust each of them, which clauses they disagree about, and what it cost.

    Example: flywheel label --trail ix_5c0e7c5d8e1f2a3b4c5d6e7f
    """
    from flows import people
    from tasks.live.quality import quality
    from tasks.live.trail import trail as steps_of

    if trail:
        steps = steps_of(find(workspace), trail)
        show(as_json, [asdict(s) for s in steps], people.trail_text(steps))
        return
    found = quality(find(workspace))
    show(as_json, found, people.quality_text(found))


@app.command()
def freeze(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Write what the next snapshot rests on from the lake to data/frozen."""
    from tasks.live import snapshot
    from tasks.live.freeze import freeze

    place = find(workspace)
    with place.lock("snapshot"):
        frozen = freeze(place)
        snapshot.track_frozen(place)
    show(
        as_json,
        frozen,
        f"{frozen.answered} answered interactions, champion {frozen.champion}; {'changed' if frozen.changed else 'unchanged'}",
    )


@app.command()
def retrain(
    force: Annotated[
        bool, typer.Option(help="Also when there are few new labels (or only params.yaml changed).")
    ] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Freeze, run the stages, commit the snapshot, record the challenger. Exits 3 on bad data, 4 when the gate refuses."""
    place = find(workspace)
    from flows.server import prefect_for

    with prefect_for(place):
        from flows.retrain import retrain

        done = retrain(place.root, force)
    if done is None:
        show(as_json, None, "nothing to do: not enough new labels (retrain.min_new_labels)")
        return
    pending = f"\n  record pending: {done.pending}; the next turn tells MLflow" if done.pending else ""
    show(as_json, done, f"{done.snapshot}: {done.decision}\n" + "\n".join(f"  {r}" for r in done.reasons) + pending)
    if done.decision == "refuse":
        raise typer.Exit(GATE_REFUSED)


@app.command()
def judge(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Show the newest verdict with its reasons. Exits 4 where it refuses."""
    from tasks.live import snapshot

    verdict = snapshot.report(find(workspace), "verdict")
    show(as_json, verdict, f"{verdict['decision']}\n" + "\n".join(f"  {r}" for r in verdict["reasons"]))
    if verdict["decision"] == "refuse":
        raise typer.Exit(GATE_REFUSED)


app.command()(promotion_cli.promote)
app.command()(promotion_cli.rollback)
app.command()(promotion_cli.history)


@app.command()
def turn(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """One turn of the loop: whatever is ready is done, nothing waits for people. Exits 4 when the gate refuses."""
    place = find(workspace)
    from flows.server import prefect_for

    with prefect_for(place):
        from flows.turn import turn

        done = turn(place.root)
    document = asdict(done) | {"captured": done.captured.as_dict(), "received": done.received.as_dict()}
    lines = [
        f"captured   {account_text(done.captured)}",
        f"mined      {done.mined.signals or 'nothing new'}",
        f"received   {account_text(done.received)}",
        f"asked      {followed_text(done.followed)}",
        f"sent       {done.sent.parts if done.sent else 'nothing'}{f' in {done.sent.folder}' if done.sent else ''}",
        f"retrained  {f'{done.retrained.snapshot}: {done.retrained.decision}' if done.retrained else 'not due'}",
        *(f"           {r}" for r in (done.retrained.reasons if done.retrained else [])),
        *([f"           record pending: {done.retrained.pending}"] if done.retrained and done.retrained.pending else []),
        f"promoted   {promotion_cli.done_text(done.promoted, done.asked)}",
        f"report     {done.report or f'not written: {done.untold}'}",
    ]
    show(as_json, document, "\n".join(lines))
    if done.retrained and done.retrained.new and done.retrained.decision == "refuse":
        raise typer.Exit(GATE_REFUSED)


@app.command()
def status(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """What the lake holds, the newest snapshot and verdict, the newest rejects. Reads files only; needs no server."""
    from tasks.live.status import as_text, read

    document = read(find(workspace))
    show(as_json, document, as_text(document))


@app.command()
def demo(
    turns: Annotated[int, typer.Option(min=1, max=50, help="How many turns (simulated weeks).")] = 5,
    seed: Annotated[int, typer.Option(help="The same seed prints the same table.")] = 1,
    workspace: Annotated[Path, typer.Option(help="Where to play; an earlier demo there is replaced.")] = Path(
        "demo-workspace"
    ),
    as_json: JsonOption = False,
) -> None:
    """Play five turns of the whole loop in a small company's world, and print the true error rate falling.

    Example: flywheel demo --seed 7 --json
    """
    from demo.workspace import new_workspace
    from flows.server import prefect_for

    place = new_workspace(workspace.resolve(), PROJECT, seed)
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "ERROR")  # warnings of drift and the like would stand between the table's rows
    with prefect_for(place, heartbeats=False):
        from demo.play import play
        from demo.table import Table

        table = Table(quiet=as_json)
        done = play(place, seed, turns, table.add)
        table.close(done, place.root)
    show(as_json, done.as_dict(), "")


def main() -> None:
    """Run the command; a Refused is told without a traceback and becomes the exit code."""
    from tasks.live.masked import masked
    from tasks.live.workspace import quiet_environment

    quiet_environment()
    if "--json" in sys.argv:
        keep_stdout_for_the_document()
    try:
        code = app(standalone_mode=False)  # what a verb raised as typer.Exit comes back as its code
    except typer.Abort:
        sys.exit(INTERRUPTED)
    except KeyboardInterrupt:
        print("interrupted; what was done is kept, the same command goes on from there", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except Refused as e:
        print(masked(f"error: {e}"), file=sys.stderr)
        sys.exit(e.exit_code)
    except Exception as e:
        if getattr(e, "errno", None) in DISK:
            print(f"error: the disk refused: {e}; what was done is kept\n  fix: {ROOM}", file=sys.stderr)
            sys.exit(UNEXPECTED)
        if type(e).__module__.startswith(("typer", "click")) and hasattr(e, "format_message"):
            print(f"error: {masked(e.format_message())}\n  fix: flywheel --help", file=sys.stderr)
            sys.exit(USAGE)
        import traceback

        print(masked(traceback.format_exc()), end="", file=sys.stderr)
        print(
            "error: unexpected (this is a bug); nothing was promoted, the same command may be run again",
            file=sys.stderr,
        )
        sys.exit(UNEXPECTED)
    sys.exit(code or OK)


if __name__ == "__main__":
    main()
