"""The verb that hands a snapshot to another tool: export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.shown import JsonOption, WorkspaceOption, find, show


def export(
    format: Annotated[str, typer.Argument(help="One of those listed by `flywheel export list`.")],
    snapshot: Annotated[str, typer.Option(help="A snapshot's tag, or the digest in its name; default: the newest.")] = "",
    out: Annotated[Path | None, typer.Option(help="A new folder, or one of an earlier export.")] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a snapshot's rows as the files of another tool; what it can't say is counted. `list` says which there are.

    Examples: flywheel export openai-sft --out ~/handover
              flywheel export llamafactory --snapshot snapshot-22d82ccb
    """
    if format == "list":
        from tasks.exports.dialects import DIALECTS

        known = {name: {"what": d.WHAT, "reads": d.READS} for name, d in DIALECTS.items()}
        show(as_json, known, "\n".join(f"{name:<13} {said['what']}" for name, said in known.items()))
        return
    from tasks.live.export import export

    done = export(find(workspace), format, snapshot, out)
    show(as_json, done, export_text(done))


def export_text(done: Any) -> str:
    lines = [f"{done.written} of {done.read} rows of {done.snapshot} in {done.out}"]
    for name, said in done.files.items():
        lines.append(f"  {name}  {said['rows']} rows" if "rows" in said else f"  {name}")
    for table, reasons in done.left_out.items():
        lines += [f"  left out of {table}: {n} {reason}, as {done.examples[f'{table}/{reason}']}" for reason, n in reasons.items()]
    for table, what in done.without.items():
        lines += [f"  not said of {table}: {name} of {n} rows" for name, n in what.items()]
    return "\n".join(lines)
