"""The demo's workspace: made from the project's checkout, and made anew when the demo is played again."""

from __future__ import annotations

import shutil
from pathlib import Path

from demo.annotators import PEOPLE
from demo.knowledge import approved_answers, load_knowledge
from tasks.live import snapshot
from tasks.live.workspace import Workspace, write_durably
from tasks.records import digest, write_jsonl

MARK = "demo"


def new_workspace(directory: Path, source: Path, seed: int) -> Workspace:
    """A fresh workspace; one that an earlier demo left there is replaced, anything else is refused."""
    if (directory / ".flywheel" / MARK).is_dir():
        shutil.rmtree(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    answers = directory.parent / f".{directory.name}.answers.jsonl"
    write_jsonl(answers, approved_answers(load_knowledge()))
    try:
        workspace = snapshot.init(directory, source, answers, remote=None, with_uncommitted=True)
    finally:
        answers.unlink()
    (workspace.state / MARK).mkdir()
    write_jsonl(workspace.data / "annotators.jsonl", PEOPLE)
    # The same seed must print the same table, pseudonyms and all. A real workspace keeps the random key of `init`.
    write_durably(workspace.state / "pseudonym.key", digest(f"demo {seed}".encode()).encode())
    return workspace
