"""Hand-off by files: a batch folder in the outbox, answer files back.

    data/outbox/bt_5c0…/batch.jsonl       {"batch_id", "candidate_id", "kind": "answer", "content_hash", "question", "history",
                                           "contexts", "response", "wanted": 3, "guideline": "answer/1"}
    data/outbox/bt_5c0…/catalogue.jsonl   the approved answers;   guideline.md   what to look at
    data/answers/*.jsonl                  {"batch_id", "candidate_id", "content_hash", "annotator", "verdict": "right"|"wrong",
                                           "correction": "billing-refund-time", "note", "time"}

A batch never says why a candidate was chosen: people who know that it is suspected find more wrong.
"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from tasks.errors import BadRecord
from tasks.formats.fields import required_text, rfc3339_us, text
from tasks.live.intake import Account
from tasks.live.labels import agreement, catalogue, precisions, write_rates
from tasks.live.lake import Lake
from tasks.live.pool import pool
from tasks.live.segments import Segments
from tasks.live.sources import Offsets, chunks, unfinished
from tasks.live.suspicion import error_probabilities
from tasks.live.taxonomy import classify
from tasks.live.workspace import Workspace
from tasks.records import Annotation, Reject, content_id, write_jsonl
from tasks.select import NOT_SENT, SelectParams, select


@dataclass(frozen=True, slots=True)
class AnnotateParams:
    overlap: int
    guideline: str


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as sent: its folder, its size by part, and the window it was chosen from."""

    batch_id: str
    folder: Path
    window: int
    parts: dict[str, int]


def send(workspace: Workspace) -> Batch | None:
    """Choose from the open window and write the batch; None while the window is smaller than `select.min_window`."""
    with workspace.lock("lake"):
        lake = Lake(workspace.lake)
        _finish_interrupted(workspace, lake)
        params = workspace.params("select", SelectParams)
        waiting = pool(lake, params, workspace.params("annotate", AnnotateParams).overlap)
        if sum(p.in_window for p in waiting) < params.min_window:
            return None
        labels = agreement(workspace).labels
        p_wrong = error_probabilities(workspace, waiting, labels)
        waiting = [replace(w, p_wrong=p_wrong[w.interaction_id]) for w in waiting]
        rows = select(waiting, precisions(workspace, labels), params)
        lake.append("candidates", rows)
        classify(workspace, lake)
        return _write(workspace, lake, rows[0].batch_id)


def receive(workspace: Workspace) -> Account:
    """Take in the answer files that are new or changed. Each line is stored, a duplicate, or rejected with a reason."""
    with workspace.lock("lake"):
        lake = Lake(workspace.lake)
        account = Account()
        offsets = Offsets(workspace, "answers")
        new = [p for p in sorted(workspace.answers.glob("*.jsonl")) if offsets.start(p) is not None]
        if not new:
            return account
        expected = _expected(lake)
        approved = {a.id for a in catalogue(workspace)}
        guideline = workspace.params("annotate", AnnotateParams).guideline
        segments = Segments(workspace.raw / "answers")
        for path in new:
            account.files += 1
            for chunk in chunks(path, offsets.start(path) or 0):
                segment = segments.write(chunk.data, path.name, "answers", time.time_ns() // 1000).name
                annotations = []
                rejects = [
                    Reject(content_id("rj", path.name, e.code, e.message), path.name, e.code, e.message, segment, 0)
                    for e in chunk.flaws
                ]
                for number, line in enumerate(chunk.data.split(b"\n"), 1):
                    if not line.strip():
                        continue
                    try:
                        annotations.append(_annotation(line, path.name, expected, approved, guideline))
                    except BadRecord as e:
                        reject_id = content_id("rj", segment, number, 0)
                        rejects.append(Reject(reject_id, path.name, e.code, e.message, segment, number))
                stored, duplicate = lake.append("annotations", annotations)
                lake.append("rejects", rejects)
                account.add(stored, duplicate, rejects)
                offsets.read(path, chunk.position)
                offsets.save()
            waits = unfinished(path, offsets.position(path))
            account.unfinished += [waits] if waits else []
        write_rates(workspace)
        return account


def _write(workspace: Workspace, lake: Lake, batch_id: str) -> Batch:
    """Write the batch's folder from the lake: whole, under its final name, or not at all."""
    params = workspace.params("annotate", AnnotateParams)
    rows = lake.query(
        """SELECT c.batch_id, c.candidate_id, c.part, i.content_hash, i.question, i.messages, i.contexts, i.response
           FROM candidates c JOIN interactions i USING (interaction_id)
           WHERE c.batch_id = $batch AND c.part <> '' ORDER BY c.candidate_id""",
        {"batch": batch_id},
    ).to_pylist()
    window = lake.query("SELECT count(*) AS n FROM candidates WHERE batch_id = $batch", {"batch": batch_id})["n"][
        0
    ].as_py()
    folder = workspace.outbox / batch_id
    temporary = workspace.outbox / f".{batch_id}.{os.getpid()}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    write_jsonl(temporary / "batch.jsonl", (_for_people(r, params) for r in rows))
    write_jsonl(temporary / "catalogue.jsonl", catalogue(workspace))
    name = params.guideline.replace("/", "-")
    shutil.copy(workspace.data / "guidelines" / f"{name}.md", temporary / "guideline.md")
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
    parts: dict[str, int] = {}
    for row in rows:
        parts[row["part"]] = parts.get(row["part"], 0) + 1
    return Batch(batch_id, folder, window, dict(sorted(parts.items())))


def _for_people(row: dict[str, Any], params: AnnotateParams) -> dict[str, Any]:
    return {
        "batch_id": row["batch_id"],
        "candidate_id": row["candidate_id"],
        "kind": "answer",
        "content_hash": row["content_hash"],
        "question": row["question"],
        "history": orjson.loads(row["messages"])[:-1],
        "contexts": orjson.loads(row["contexts"]),
        "response": row["response"],
        "wanted": params.overlap,
        "guideline": params.guideline,
    }


def _finish_interrupted(workspace: Workspace, lake: Lake) -> None:
    """A batch that was chosen but not classified or written (the process died in between) is so now."""
    classify(workspace, lake)
    chosen = lake.query(
        """SELECT DISTINCT batch_id FROM candidates
           WHERE part <> '' AND batch_id NOT IN (SELECT batch_id FROM annotations) ORDER BY batch_id"""
    )["batch_id"].to_pylist()
    for batch_id in chosen:
        if not (workspace.outbox / batch_id / "batch.jsonl").is_file():
            _write(workspace, lake, batch_id)


def _expected(lake: Lake) -> dict[tuple[str, str], tuple[str, str]]:
    """(batch, candidate) that was sent -> its interaction and content hash."""
    rows = lake.query(
        f"""SELECT batch_id, candidate_id, interaction_id, content_hash
            FROM candidates JOIN interactions USING (interaction_id) WHERE part <> '{NOT_SENT}'"""
    ).to_pylist()
    return {(r["batch_id"], r["candidate_id"]): (r["interaction_id"], r["content_hash"]) for r in rows}


def _annotation(
    line: bytes, source: str, expected: dict[tuple[str, str], tuple[str, str]], approved: set[str], guideline: str
) -> Annotation:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as e:
        raise BadRecord("bad_json", str(e)) from None
    if not isinstance(row, dict):
        raise BadRecord("bad_json", "an answer is a JSON object")
    batch_id, candidate_id = required_text(row, "batch_id"), required_text(row, "candidate_id")
    sent = expected.get((batch_id, candidate_id))
    if sent is None:
        raise BadRecord("unknown_candidate", f"candidate {candidate_id} of batch {batch_id} was never sent")
    interaction_id, content_hash = sent
    if row.get("content_hash") != content_hash:
        raise BadRecord("changed_content", "content_hash is not that of the candidate: the text was changed on the way")
    verdict, correction = required_text(row, "verdict"), text(row, "correction")
    if verdict not in ("right", "wrong"):
        raise BadRecord("bad_verdict", f"verdict is {verdict!r}, not right or wrong")
    if verdict == "right" and correction:
        raise BadRecord("bad_verdict", "a right answer needs no correction")
    if correction and correction not in approved:
        raise BadRecord("unknown_answer", f"correction {correction!r} is no approved answer")
    annotator, ts = required_text(row, "annotator"), rfc3339_us(row.get("time"))
    return Annotation(
        annotation_id=content_id("an", batch_id, candidate_id, annotator, verdict, correction, ts),
        batch_id=batch_id,
        interaction_id=interaction_id,
        annotator=annotator,
        verdict=verdict,
        correction=correction,
        note=text(row, "note"),
        guideline=text(row, "guideline") or guideline,
        ts=ts,
        source=source,
    )
