"""curate: frozen annotations -> one agreed label per interaction, with its side of the wall; the rest dropped with a reason."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks import addressed, shards
from tasks.agreement import ANSWER, AgreementParams, aggregate_table
from tasks.curating import Deciding, Voting, decide, partitions, vote
from tasks.engine import opened
from tasks.frozen import Curated, CuratedJudgement, Dropped, Exchange, Given
from tasks.guidelines import newest, parse
from tasks.judgements import AGREED, judgements
from tasks.overlap import Limits
from tasks.params import load
from tasks.records import canonical, content_id, read_jsonl
from tasks.stages import PARAMS, run

VOTED = ("annotator", "right", "said")  # columns of few values: as dictionaries, or millions of votes would not fit


def curate(frozen: Path, out: Path, report: Path) -> None:
    """Aggregate annotations, keep what people agree on, and say what was dropped and why."""
    params = load(PARAMS, "curate", AgreementParams)
    dropped: list[Dropped] = []
    verdicts, sides = Counter[str](), Counter[str]()
    with opened() as engine:
        parts = partitions(frozen, engine.part_bytes)
        votes = [_votes(path) for path in engine.run(vote, [Voting(p, engine.folder / f"votes-{p.number}") for p in parts])]
        agreement = aggregate_table(pa.concat_tables(votes).unify_dictionaries() if votes else pa.table({}), params)
        agreed, _ = addressed.write(engine.folder / "agreed", _of_each(agreement.labels, votes))
        asked = [Deciding(p, agreed, engine.folder / f"labels-{p.number}") for p in parts]

        def kept() -> Iterator[pa.Table]:
            for found in _tables(engine.run(decide, asked)):
                good = found.filter(pc.equal(found["reason"], ""))
                verdicts.update(good["verdict"].to_pylist())
                sides.update(good["side"].to_pylist())
                bad = found.filter(pc.not_equal(found["reason"], "")).select(["interaction_id", "arrived", "reason"])
                dropped.extend(_dropped(**row) for row in bad.to_pylist())
                yield good

        labels = shards.write(out / "labels", Curated, kept())
    judged = _judged(frozen, params, dropped)
    shards.write_rows(out / "judgements", CuratedJudgement, judged)
    shards.write_rows(out / "dropped", Dropped, dropped)
    summary = {
        "annotations": sum(pq.read_metadata(f).num_rows for f in shards.files(frozen / "annotations")),
        "labels": labels,
        "judgements": dict(Counter(j.kind for j in judged)),
        "dropped": dict(Counter(d.reason for d in dropped)),
        "verdicts": dict(verdicts),
        "sides": dict(sides),
        "alpha": None if math.isnan(agreement.alpha) else round(agreement.alpha, 4),
        "skills": agreement.skills,
    }
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_bytes(canonical(summary) + b"\n")


def _votes(path: str) -> pa.Table:
    """Every answer of kind `answer` of a partition, as `aggregate_table` wants them."""
    return pq.read_table(path, read_dictionary=list(VOTED))


def _of_each(labels: pa.Table, votes: Sequence[pa.Table]) -> Iterator[pa.Table]:
    """The labels of each partition's votes, with its number. They are sorted by id."""
    names = np.array(labels["interaction_id"].to_pylist(), dtype=str)
    for number, of in enumerate(votes):
        ids = np.unique(np.array(of["interaction_id"].to_pylist(), dtype=str))
        found = labels.take(np.searchsorted(names, ids))
        yield found.append_column(addressed.PART, pa.array(np.full(found.num_rows, number, np.int32)))


def _tables(paths: Iterable[str]) -> Iterator[pa.Table]:
    """What partitions wrote, a shard of exchanges at a time."""
    for path in paths:
        with pq.ParquetFile(path) as file:
            yield from map(file.read_row_group, range(file.num_row_groups))


def _judged(frozen: Path, params: AgreementParams, dropped: list[Dropped]) -> list[CuratedJudgement]:
    """The agreed judgements of every kind but `answer`; what is not agreed goes to `dropped`."""
    texts = {p.stem: p.read_text(encoding="utf-8") for p in sorted((frozen / "guidelines").glob("*.md"))}
    kinds = {name: g.kind for name, g in newest(parse(n, t) for n, t in texts.items()).items()}
    answers = {row["interaction_id"]: row["answers"] for row in read_jsonl(frozen / "answers.jsonl")}
    given = [shards.one(f, Given) for f in shards.files(frozen / "annotations")]
    annotations = [Given(**row) for part in given for row in part.filter(pc.not_equal(part["kind"], ANSWER)).to_pylist()]
    wanted = {a.interaction_id for a in annotations}
    exchanges = {e.interaction_id: e for e in _exchanges(frozen, wanted)}
    rows = []
    for name in sorted({a.kind for a in annotations}):
        of_kind = [a for a in annotations if a.kind == name]
        people: dict[str, set[str]] = {}
        for a in of_kind:
            people.setdefault(a.interaction_id, set()).add(a.annotator)
        for j in judgements(kinds[name], of_kind, Limits(first=params.min_votes, sure=params.min_confidence)):
            e = exchanges[j.interaction_id]
            if j.state != AGREED:
                dropped.append(_dropped(e.interaction_id, e.arrived, f"no_agreement_on_{name}"))
                continue
            rows.append(
                CuratedJudgement(
                    judgement_id=content_id("jd", name, e.interaction_id),
                    interaction_id=e.interaction_id,
                    arrived=e.arrived,
                    kind=name,
                    group_id=e.group_id,
                    side=e.side,
                    part=e.part,
                    propensity=e.propensity,
                    session_id=e.session_id,
                    user=e.user,
                    tenant=e.tenant,
                    language=e.language,
                    messages=e.messages,
                    contexts=e.contexts,
                    tools=e.tools,
                    question=e.question,
                    response=e.response,
                    answers=canonical(answers.get(e.interaction_id, [])).decode(),
                    value=j.value,
                    confidence=round(j.confidence, 3),
                    votes=j.votes,
                    annotators=canonical(sorted(people[e.interaction_id])).decode(),
                    guideline=j.guideline,
                )
            )
    return rows


def _exchanges(frozen: Path, wanted: set[str]) -> Iterator[Exchange]:
    ids = pa.array(sorted(wanted), pa.string())
    for shard in shards.files(frozen / "exchanges"):
        found = shards.one(shard, Exchange)
        yield from (Exchange(**row) for row in found.filter(pc.is_in(found["interaction_id"], ids)).to_pylist())


def _dropped(interaction_id: str, arrived: int, reason: str) -> Dropped:
    return Dropped(
        dropped_id=content_id("dr", "curate", interaction_id, reason), arrived=arrived, interaction_id=interaction_id,
        stage="curate", reason=reason, met="",
    )  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    return run(curate, ("frozen", "out", "report"), argv)


if __name__ == "__main__":
    sys.exit(main())
