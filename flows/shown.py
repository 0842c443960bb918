"""What every verb of the command shares: its options, and how it shows what it did."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

WorkspaceOption = Annotated[
    Path | None,
    typer.Option("--workspace", "-w", help="The workspace; default: FLYWHEEL_WORKSPACE, or around this folder."),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout; everything else goes to stderr.")
]

_document_out = sys.stdout


def keep_stdout_for_the_document() -> None:
    """With --json, whatever a library or a stage prints goes to stderr: stdout holds one document and nothing else."""
    global _document_out
    _document_out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)


def show(as_json: bool, value: Any, text: str) -> None:
    if as_json:
        plain = asdict(value) if is_dataclass(value) else value
        print(json.dumps(plain, indent=2, sort_keys=False, default=str), file=_document_out, flush=True)
    elif text:
        print(text)


def account_text(account: Any) -> str:
    if not account.seen and not account.unfinished and not account.resumed:
        return "nothing new"
    names = ("stored", "duplicate", "rejected", "attached", "waiting")
    counts = [f"{getattr(account, name)} {name}" for name in names if name != "waiting" or account.waiting]
    resumed = f" + {account.resumed} resumed" if account.resumed else ""
    text = f"{account.seen}{resumed} = " + " + ".join(counts)
    for reason, n in sorted(account.reasons.items()):
        text += f"\n           rejected: {n} {reason}{HINTS.get(reason, '')}"
    for waiting in account.unfinished:
        text += f"\n           waiting: {waiting}"
    if account.redacted:
        text += "\n           redacted: " + ", ".join(f"{n} {kind}" for kind, n in account.redacted.items())
    return text


def followed_text(followed: Any) -> str:
    parts = (("again", followed.again), ("of experts", followed.experts), ("anew, as its guideline changed", followed.reworded))
    asked = [f"{n} {kind} {how}" for how, kinds in parts for kind, n in kinds.items()]
    still = f"{followed.open} questions open" + (f", {followed.late} of them late" if followed.late else "")
    return "; ".join([*asked, still, *([f"{followed.expired} given up"] if followed.expired else [])])


HINTS = {
    "no_content": "; switch content capture on in the application (flywheel quarantine list --code no_content says how)",
    "unknown_dialect": "; docs/dialects.md lists what is read",
    "incomplete": "; capture the export that holds the prompts, then flywheel quarantine replay",
}


def find(workspace: Path | None) -> Any:
    from tasks.live import workspace as live

    return live.find(workspace)
