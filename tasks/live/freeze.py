"""Freeze: what the next snapshot rests on, from the lake into data/frozen. The only bridge into the file shell (door 1).

Sorted by id, canonical JSON, no time of freezing: an equal lake gives equal bytes, and DVC then skips every stage.
"""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

from tasks.agreement import ANSWER, AgreementParams
from tasks.guidelines import file_name
from tasks.live import registry, snapshot
from tasks.live.labels import catalogue, latest_annotations
from tasks.live.lake import Lake
from tasks.live.workspace import Workspace, write_durably
from tasks.policy import folder_digest
from tasks.records import Annotation, Candidate, Interaction, Member, canonical, write_jsonl

# What was ranked, as people saw it.
RANKED = """
    SELECT interaction_id, min(answers) AS answers FROM asks SEMI JOIN annotations USING (interaction_id)
    WHERE answers <> '[]' GROUP BY interaction_id ORDER BY interaction_id
"""


@dataclass(frozen=True, slots=True)
class RetrainParams:
    min_new_labels: int
    max_questions: int


@dataclass(frozen=True, slots=True)
class Frozen:
    """What was frozen. `changed` is False where data/frozen already held exactly these bytes."""

    interactions: int
    annotations: int
    answered: int
    questions: int
    champion: str
    changed: bool


def freeze(workspace: Workspace) -> Frozen:
    """Write data/frozen and its report. The champion is pinned as an input, so that evaluating against it is pure."""
    params = workspace.params("retrain", RetrainParams)
    lake = Lake(workspace.lake)
    # When an answer arrived is no property of the data either.
    annotations = [replace(a, received=0) for a in latest_annotations(workspace)]
    answered = "SEMI JOIN annotations USING (interaction_id) ORDER BY interaction_id"
    # Where a log happened to be cut into segments is no property of the data; the lake still knows it by id.
    interactions = [
        replace(i, raw_segment="", raw_line=0) for i in lake.rows(Interaction, f"SELECT * FROM interactions {answered}")
    ]
    questions = lake.query(
        """SELECT min_by(question, (ts, interaction_id)) AS question
           FROM members JOIN interactions USING (interaction_id) WHERE side = 'train'
           GROUP BY question_key ORDER BY question_key LIMIT $most""",
        {"most": params.max_questions},
    ).to_pylist()
    champion = registry.champion(workspace)

    staging = workspace.data / ".frozen.tmp"
    shutil.rmtree(staging, ignore_errors=True)
    write_jsonl(staging / "interactions.jsonl", interactions)
    write_jsonl(staging / "annotations.jsonl", annotations)
    write_jsonl(staging / "members.jsonl", lake.rows(Member, f"SELECT * FROM members {answered}"))
    sent = (
        "SELECT * FROM candidates SEMI JOIN annotations USING (interaction_id) WHERE part <> '' ORDER BY interaction_id"
    )
    write_jsonl(staging / "candidates.jsonl", lake.rows(Candidate, sent))
    write_jsonl(staging / "questions.jsonl", questions)
    write_jsonl(staging / "catalogue.jsonl", catalogue(workspace))
    ranked = lake.query(RANKED).to_pylist()
    rows = [{"interaction_id": r["interaction_id"], "answers": orjson.loads(r["answers"])} for r in ranked]
    write_jsonl(staging / "answers.jsonl", rows)
    (staging / "guidelines").mkdir()
    for version in sorted({a.guideline for a in annotations}):
        name = file_name(version)
        shutil.copyfile(workspace.data / "guidelines" / name, staging / "guidelines" / name)
    shutil.copytree(champion.folder, staging / "champion")

    changed = not workspace.frozen.is_dir() or folder_digest(staging) != folder_digest(workspace.frozen)
    if changed:
        shutil.rmtree(workspace.frozen, ignore_errors=True)
        staging.rename(workspace.frozen)
    else:
        shutil.rmtree(staging)
    report = {
        "interactions": len(interactions),
        "annotations": len(annotations),
        "answered": _answered(annotations, workspace.params("curate", AgreementParams).min_votes),
        "questions": len(questions),
        "champion": champion.version,
    }
    _write_if_changed(workspace.reports / "freeze.json", canonical(report) + b"\n")
    return Frozen(**report, changed=changed)


def new_labels(workspace: Workspace) -> int:
    """Interactions with enough answers that the last snapshot did not hold; 0 while they are fewer than it takes.

    Counted against what was committed, so that a turn which died half-way is taken up again and ends in the same snapshot.
    """
    least = workspace.params("retrain", RetrainParams).min_new_labels
    votes = workspace.params("curate", AgreementParams).min_votes
    answered = _answered(latest_annotations(workspace), votes)
    before = snapshot.last(workspace)
    held = snapshot.report_at(workspace, before.commit, "freeze")["answered"] if before else 0
    return answered - held if answered - held >= least else 0


def _answered(annotations: list[Annotation], votes: int) -> int:
    """How many interactions have at least `votes` people's answers."""
    people = Counter(a.interaction_id for a in annotations if a.kind == ANSWER)
    return sum(1 for n in people.values() if n >= votes)


def _write_if_changed(path: Path, data: bytes) -> None:
    if not path.is_file() or path.read_bytes() != data:
        write_durably(path, data)
