"""curate: frozen annotations -> one agreed label per interaction, with its side of the wall; the rest dropped with a reason."""

from __future__ import annotations

import math
import sys
from collections import Counter
from pathlib import Path

from tasks.agreement import ANSWER, AgreementParams, aggregate
from tasks.examples import Curated, CuratedJudgement, Dropped, served_action
from tasks.guidelines import newest, parse
from tasks.judgements import AGREED, judgements
from tasks.overlap import Limits
from tasks.params import load
from tasks.records import (
    Annotation,
    Approved,
    Candidate,
    Interaction,
    Member,
    canonical,
    read_jsonl,
    read_records,
    write_jsonl,
)
from tasks.stages import PARAMS, run


def curate(frozen: Path, out: Path, report: Path) -> None:
    """Aggregate annotations, keep what people agree on, and say what was dropped and why."""
    params = load(PARAMS, "curate", AgreementParams)
    interactions = {i.interaction_id: i for i in read_records(frozen / "interactions.jsonl", Interaction)}
    annotations = read_records(frozen / "annotations.jsonl", Annotation)
    placed = {m.interaction_id: m for m in read_records(frozen / "members.jsonl", Member)}
    sent = {c.interaction_id: c for c in read_records(frozen / "candidates.jsonl", Candidate)}
    catalogue = {a.id: a for a in read_records(frozen / "catalogue.jsonl", Approved)}
    by_text = {a.text.strip(): a for a in catalogue.values()}

    served = {i: served_action(x.response, by_text) for i, x in interactions.items()}
    agreement = aggregate(annotations, served, params)
    curated, dropped = [], []
    for label in agreement.labels:
        interaction, member = interactions[label.interaction_id], placed[label.interaction_id]
        target = catalogue.get(label.target)
        if label.state != "agreed":
            dropped.append(Dropped(label.interaction_id, "curate", "no_agreement"))
        elif label.target and target is None:
            dropped.append(Dropped(label.interaction_id, "curate", "answer_no_longer_approved"))
        else:
            candidate = sent[label.interaction_id]
            curated.append(
                Curated(
                    interaction_id=label.interaction_id,
                    group_id=member.group_id,
                    side=member.side,
                    part=candidate.part,
                    propensity=candidate.propensity,
                    messages=interaction.messages,
                    contexts=interaction.contexts,
                    question=interaction.question,
                    response=interaction.response,
                    served=served[label.interaction_id],
                    verdict=label.verdict,
                    target=label.target,
                    target_text=target.text if target else "",
                    p_wrong=label.p_wrong,
                    p_target=label.p_target,
                    votes=label.votes,
                    kind=target.kind if target else "text",
                    topic=target.topic if target else "",
                )
            )
    judged = _judged(frozen, params, annotations, interactions, placed, sent, dropped)
    write_jsonl(out / "labels.jsonl", curated)
    write_jsonl(out / "judgements.jsonl", judged)
    write_jsonl(out / "dropped.jsonl", dropped)
    summary = {
        "annotations": len(annotations),
        "labels": len(curated),
        "judgements": dict(Counter(j.kind for j in judged)),
        "dropped": dict(Counter(d.reason for d in dropped)),
        "verdicts": dict(Counter(c.verdict for c in curated)),
        "sides": dict(Counter(c.side for c in curated)),
        "alpha": None if math.isnan(agreement.alpha) else round(agreement.alpha, 4),
        "skills": agreement.skills,
    }
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_bytes(canonical(summary) + b"\n")


def _judged(
    frozen: Path,
    params: AgreementParams,
    annotations: list[Annotation],
    interactions: dict[str, Interaction],
    placed: dict[str, Member],
    sent: dict[str, Candidate],
    dropped: list[Dropped],
) -> list[CuratedJudgement]:
    """The agreed judgements of every kind but `answer`; what is not agreed goes to `dropped`."""
    texts = {p.stem: p.read_text(encoding="utf-8") for p in sorted((frozen / "guidelines").glob("*.md"))}
    kinds = {name: g.kind for name, g in newest(parse(n, t) for n, t in texts.items()).items()}
    answers = {row["interaction_id"]: row["answers"] for row in read_jsonl(frozen / "answers.jsonl")}
    rows = []
    for name in sorted({a.kind for a in annotations} - {ANSWER}):
        of_kind = [a for a in annotations if a.kind == name]
        for j in judgements(kinds[name], of_kind, Limits(first=params.min_votes, sure=params.min_confidence)):
            if j.state != AGREED:
                dropped.append(Dropped(j.interaction_id, "curate", f"no_agreement_on_{name}"))
                continue
            i, m, c = interactions[j.interaction_id], placed[j.interaction_id], sent[j.interaction_id]
            rows.append(
                CuratedJudgement(
                    interaction_id=j.interaction_id,
                    kind=name,
                    group_id=m.group_id,
                    side=m.side,
                    part=c.part,
                    propensity=c.propensity,
                    messages=i.messages,
                    contexts=i.contexts,
                    question=i.question,
                    response=i.response,
                    answers=answers.get(j.interaction_id, []),
                    value=j.value,
                    confidence=j.confidence,
                    votes=j.votes,
                    guideline=j.guideline,
                )
            )
    return rows


def main(argv: list[str] | None = None) -> int:
    return run(curate, ("frozen", "out", "report"), argv)


if __name__ == "__main__":
    sys.exit(main())
