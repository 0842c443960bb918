"""build: agreed labels -> supervised and preference rows on one side of the wall, the sealed holdout on the other."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tasks.examples import (
    Curated,
    CuratedJudgement,
    Dropped,
    holdout,
    judgement_examples,
    preferences,
    ranked,
    supervised,
    written,
)
from tasks.params import load
from tasks.records import Approved, canonical, content_id, digest, read_jsonl, read_records, write_jsonl
from tasks.similar import normalise
from tasks.split import HOLDOUT, TRAIN, SplitParams, leaks
from tasks.stages import PARAMS, run


@dataclass(frozen=True, slots=True)
class BuildParams:
    max_rows_per_group: int


def build(frozen: Path, curated: Path, out: Path, report: Path) -> None:
    """Build the dataset. A training row near to a holdout row is refused, whatever its recorded side says."""
    params, split = load(PARAMS, "build", BuildParams), load(PARAMS, "split", SplitParams)
    labels = read_records(curated / "labels.jsonl", Curated)
    approved = {a.text.strip(): a for a in read_records(frozen / "catalogue.jsonl", Approved)}
    dropped = [
        Dropped(x.interaction_id, "build", "straddles_the_wall") for x in labels if x.side not in (TRAIN, HOLDOUT)
    ]
    train = [x for x in labels if x.side == TRAIN]
    sealed = holdout([x for x in labels if x.side == HOLDOUT])

    leaking = set(leaks([x.question for x in train], [_question(h.messages) for h in sealed], split.near_duplicate))
    dropped += [Dropped(x.interaction_id, "build", "near_a_holdout_row") for k, x in enumerate(train) if k in leaking]
    train, capped = _cap([x for k, x in enumerate(train) if k not in leaking], params.max_rows_per_group)
    dropped += [Dropped(x.interaction_id, "build", "group_is_full") for x in capped]

    judged = [j for j in read_records(curated / "judgements.jsonl", CuratedJudgement) if j.side in (TRAIN, HOLDOUT)]
    taught = [j for j in judged if j.side == TRAIN]
    near = set(leaks([j.question for j in taught], [_question(h.messages) for h in sealed], split.near_duplicate))
    kept = [j for k, j in enumerate(taught) if k not in near]
    dropped += [Dropped(j.interaction_id, "build", "near_a_holdout_row") for k, j in enumerate(taught) if k in near]
    answers, written_pairs = written(kept)
    sft = supervised(train) + answers
    pairs = preferences(train, approved) + written_pairs + ranked(kept)
    judgements = judgement_examples([*kept, *(j for j in judged if j.side == HOLDOUT)])
    questions = [row for row in read_jsonl(frozen / "questions.jsonl")]
    for name, rows in (
        ("sft", sft),
        ("preference", pairs),
        ("holdout", sealed),
        ("judgements", judgements),
        ("questions", questions),
        ("dropped", dropped),
    ):
        write_jsonl(out / f"{name}.jsonl", rows)
    summary = {
        "sft": len(sft),
        "preference": len(pairs),
        "holdout": len(sealed),
        "judgements": dict(Counter(f"{j.kind}/{j.split}" for j in judgements)),
        "questions": len(questions),
        "dropped": dict(Counter(d.reason for d in dropped)),
        "origins": dict(Counter(x.origin for x in sft)),
        "kinds": dict(Counter(h.kind for h in sealed)),
        "holdout_digest": digest((out / "holdout.jsonl").read_bytes()),
    }
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_bytes(canonical(summary) + b"\n")


def _question(messages: list) -> str:
    return next(m["content"] for m in reversed(messages) if m["role"] == "user")


def _cap(rows: list[Curated], most: int) -> tuple[list[Curated], list[Curated]]:
    """At most `most` rows with the same right answer from one group of near-duplicates: repetition is no evidence."""
    kept, capped, seen = [], [], Counter()
    for row in rows:
        # Verdict-only rows share a prompt by design (several answers to it); there the response tells them apart.
        key = (row.group_id, row.target or content_id("rs", normalise(row.response)))
        seen[key] += 1
        (kept if seen[key] <= most else capped).append(row)
    return kept, capped


def main(argv: list[str] | None = None) -> int:
    return run(build, ("frozen", "curated", "out", "report"), argv)


if __name__ == "__main__":
    sys.exit(main())
