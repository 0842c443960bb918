"""A workspace with a window that is ready to be sent, and the answers of people who were asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from tasks.live.handoff.receive import receive
from tasks.live.lake import Lake
from tasks.live.workspace import Workspace
from tasks.records import Signal, content_id, write_jsonl
from tests.handmade import interaction, log, member, workspace

EVIDENCE = "the secret reason of this test"
N = 80
PEOPLE = [{"annotator": n, "role": "annotator"} for n in ("ana", "ben", "cleo", "dot", "eve", "fay")]
PEOPLE += [{"annotator": "xenia", "role": "expert"}]


def question(k: int) -> str:
    """No two near-duplicates: of those only one is mined."""
    return f"question number {k} {content_id('about', k)[6:]}"


def sendable(root: Path) -> Workspace:
    """A workspace whose lake holds a window of 80 interactions, a quarter on the holdout side, a few of them suspicious."""
    made = workspace(root)
    lake = Lake(made.lake)
    lake.append(
        "interactions",
        [interaction(f"{k:03d}", question(k), ts=1_767_614_400_000_000 + k) for k in range(N)],
    )
    lake.append("members", [member(f"{k:03d}", "holdout" if k % 4 == 0 else "train") for k in range(N)])
    lake.append("signals", [Signal(f"sg_{k}", f"ix_{k:03d}", "rephrased", 0.7319, EVIDENCE) for k in range(1, N, 8)])
    smaller = {"budget: 300": "budget: 20", "audit_holdout: 90": "audit_holdout: 6", "audit_open: 60": "audit_open: 6"}
    smaller |= {
        '["answer: 1", "action: 0.1", "relevance: 0.1"]': '["answer: 1"]',
        "audit_share: 0.05": "audit_share: 0.0",
    }
    change(made, smaller)
    write_jsonl(made.data / "annotators.jsonl", PEOPLE)
    return made


def change(place: Workspace, changes: dict[str, str]) -> None:
    path = place.root / "params.yaml"
    text = path.read_text(encoding="utf-8")
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [orjson.loads(x) for x in (folder / "batch.jsonl").read_bytes().splitlines()]


def answer(
    row: dict[str, Any], annotator: str = "ana", verdict: str = "right", correction: str = "", **changes: Any
) -> dict[str, Any]:
    return {
        "batch_id": row["batch_id"],
        "candidate_id": row["candidate_id"],
        "kind": row["kind"],
        "content_hash": row["content_hash"],
        "annotator": annotator,
        "value": {"verdict": verdict} | ({"correction": correction} if correction else {}),
        "time": "2026-01-06T09:00:00Z",
    } | changes


def answered(place: Workspace, *answers: dict[str, Any], file: str = "a.jsonl") -> None:
    log(place.answers / file, *answers)
    receive(place)


def asked(place: Workspace, number: int) -> list[dict[str, Any]]:
    """What the batch's folder asks in a round."""
    (folder,) = place.outbox.iterdir()
    path = folder / f"batch-{number}.jsonl"
    return [orjson.loads(x) for x in path.read_bytes().splitlines()] if path.is_file() else []
