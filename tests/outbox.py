"""A workspace with a batch in its outbox, as the files hand-off writes it; for the tests of the review page."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import orjson

from tasks.kinds import KINDS, Ask
from tasks.live.workspace import Workspace
from tasks.records import Approved, write_jsonl
from tests.imports import ROOT

BATCH = "bt_0123456789ab"
CATALOGUE = (
    Approved("billing-refund-time", "answer", "billing", "When a refund arrives", "Refunds arrive within 14 days.", "kb/7"),
    Approved("delivery-where", "answer", "delivery", "Where my parcel is", "The link in our e-mail shows it.", "kb/9"),
    Approved("escalate", "escalate", "", "A person takes over", "I pass you on to a colleague.", ""),
)
QUESTION = "Hi 👩‍💻, I am Ana Lima from Porto.\r\nHow long does the refund of order 4711 take?"
RESPONSE = "Sure 😀👍🏽!\r\nRefunds take 30 days. They go to your card, and we add a bonus of 5 € on top."
CONTEXTS = [
    {"id": "kb/7", "title": "Refunds", "text": "Refunds are possible for 14 days. They go back to the card that was used."},
    {"id": "kb/9", "title": "Parcels", "text": "Every parcel has a link. It is in our e-mail."},
]
HISTORY = [
    {"role": "system", "content": "You are the assistant of a shop."},
    {"role": "user", "content": "Hello, I sent two pairs of shoes back."},
    {"role": "assistant", "content": "Thank you! What would you like to know about your return?"},
]
ANSWERS = [
    {"id": "an_a", "text": "Refunds take 30 days."},
    {"id": "an_b", "text": "Refunds arrive within 14 days, on the card that you paid with."},
    {"id": "an_c", "text": "I do not know."},
]


def workspace(root: Path) -> Workspace:
    (root / ".flywheel").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ROOT / "params.yaml", root / "params.yaml")
    return Workspace(root)


def ask(kind: str = "answer", candidate: str = "in_1", **changes: Any) -> Ask:
    whole = Ask(
        ask_id=f"ak_{candidate}_{kind}", batch_id=BATCH, candidate_id=candidate, kind=kind, content_hash=f"hash of {candidate}",
        question=QUESTION, history=HISTORY, contexts=CONTEXTS, response=RESPONSE, answers=ANSWERS if kind == "ranking" else [],
        wanted=2, answered_by=[], role="annotator", round=1, guideline="answer/1", due="",
    )  # fmt: skip
    return replace(whole, **changes)


def write(place: Workspace, asks: Sequence[Ask], cancelled: Iterable[str] = ()) -> Path:
    """Each ask into the folder of its batch and the file of its round."""
    for batch_id in {a.batch_id for a in asks}:
        folder = place.outbox / batch_id
        (folder / "guidelines").mkdir(parents=True, exist_ok=True)
        for round in {a.round for a in asks if a.batch_id == batch_id}:
            name = "batch.jsonl" if round == 1 else f"batch-{round}.jsonl"
            write_jsonl(folder / name, [a for a in asks if a.round == round and a.batch_id == batch_id])
        (folder / "kinds.json").write_bytes(orjson.dumps({name: asdict(kind) for name, kind in KINDS.items()}))
        guideline = "# Guideline answer/1\n\nDecide **alone**.\n\n- right: it fits\n- wrong: another fits better\n"
        (folder / "guidelines" / "answer-1.md").write_text(guideline, encoding="utf-8")
        write_jsonl(folder / "catalogue.jsonl", CATALOGUE)
        write_jsonl(folder / "cancelled.jsonl", [{"ask_id": i} for i in cancelled])
    return place.outbox / asks[0].batch_id


def answers(place: Workspace, annotator: str = "") -> list[dict[str, Any]]:
    """The lines of one person's answer file, or of all."""
    files = sorted(place.answers.glob(f"review-{annotator or '*'}.jsonl"))
    return [orjson.loads(line) for file in files for line in file.read_bytes().splitlines()]
