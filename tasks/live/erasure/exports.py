"""What was exported from snapshots: their lines leave the files, as far as these are still where they were written."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from tasks.live.erasure.databases import erase_file
from tasks.live.erasure.subject import Subject
from tasks.live.lineage import exports as written
from tasks.live.workspace import Workspace, runs, write_durably

LINES = (".jsonl", ".ndjson")
HALF_WRITTEN = (".exporting", ".replaced")  # by an export that was killed: .openai-sft-1a2b3c4d.4711.exporting


def erase(workspace: Workspace, subject: Subject, snapshots: set[str]) -> tuple[int, list[str]]:
    """Lines and files that went or changed, and what is left to people: copies of exports of the snapshots that held them."""
    needles, done, by_hand = subject.needles, 0, []
    for folder, tag in written(workspace):
        place = workspace.root / folder
        for left in place.parent.glob(f".{place.name}.*") if place.parent.is_dir() else ():
            if left.suffix in HALF_WRITTEN and not runs(left.suffixes[-2].lstrip(".")):
                shutil.rmtree(left)
        if tag in snapshots:
            known = "" if place.exists() else " (it is not there any more)"
            by_hand.append(f"export of {tag} to {place}{known}: whoever was given a copy must erase it too")
        for path in _files(place):
            if not needles.in_file(path):
                continue
            if path.suffix in LINES:
                lines = path.read_bytes().splitlines(keepends=True)
                left_lines = [line for line in lines if not needles.any(line)]
                write_durably(path, b"".join(left_lines))
                done += len(lines) - len(left_lines)
            else:
                erase_file(path, needles)
                done += 1
                if not path.exists():
                    by_hand.append(f"{path} held rows of theirs among others and was deleted: export it anew")
    return done, by_hand


def _files(place: Path) -> Iterator[Path]:
    if place.is_file():
        yield place
    elif place.is_dir():
        yield from sorted(p for p in place.rglob("*") if p.is_file() and not p.is_symlink())
