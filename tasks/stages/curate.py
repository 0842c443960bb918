"""curate: frozen annotations -> one agreed label per interaction, with its side of the wall; the rest dropped with a reason."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks import shards
from tasks.agreement import ANSWER, OTHER, SERVED, AgreementParams, aggregate_table
from tasks.calculator import Engine, calculator
from tasks.frozen import Curated, CuratedJudgement, Dropped, Exchange, Given
from tasks.guidelines import newest, parse
from tasks.judgements import AGREED, judgements
from tasks.overlap import Limits
from tasks.params import load
from tasks.records import Approved, arrow_schema, canonical, content_id, read_jsonl, read_records, to_arrow
from tasks.stages import PARAMS, run

STRIPPED = "CREATE MACRO stripped(text) AS trim(text, ' ' || chr(9) || chr(10) || chr(13))"
SERVED_ANSWERS = """
    SELECT e.interaction_id, max(a.id) AS id FROM exchanges e JOIN approved a ON stripped(e.response) = stripped(a.text)
    GROUP BY e.interaction_id
"""
# The answer that each person wants: 'right' means the served one, and so does a correction that names it.
VOTES = f"""
    WITH served AS ({SERVED_ANSWERS})
    SELECT g.interaction_id, g.annotator, coalesce(s.id, '{SERVED}') AS right, g.role = 'expert' AS expert,
           CASE WHEN g.value->>'verdict' = 'right' THEN coalesce(s.id, '{SERVED}')
                ELSE coalesce(nullif(g.value->>'correction', ''), '{OTHER}') END AS said
    FROM given g SEMI JOIN exchanges USING (interaction_id) LEFT JOIN served s USING (interaction_id)
    WHERE g.kind = '{ANSWER}' ORDER BY g.ts, g.annotation_id
"""
# Posteriors in three digits: each new answer moves what is known of annotators a little, and with it every posterior ever given;
# in all their digits no file of a version would be the same as in the one before.
LABELS = f"""
    WITH served AS ({SERVED_ANSWERS}), who AS (
        SELECT interaction_id, to_json(list_sort(list_distinct(list(annotator))))::VARCHAR AS annotators,
               max(guideline) AS guideline
        FROM given WHERE kind = '{ANSWER}' GROUP BY interaction_id
    )
    SELECT e.*, coalesce(s.id, '') AS served, l.verdict, l.target, coalesce(a.text, '') AS target_text,
           round(l.p_wrong, 3) AS p_wrong, round(l.p_target, 3) AS p_target,
           l.votes, coalesce(a.kind, 'text') AS kind, coalesce(a.topic, '') AS topic, w.annotators, w.guideline,
           CASE WHEN l.state <> 'agreed' THEN 'no_agreement'
                WHEN l.target <> '' AND a.id IS NULL THEN 'answer_no_longer_approved' ELSE '' END AS reason
    FROM exchanges e JOIN labels l USING (interaction_id) JOIN who w USING (interaction_id)
         LEFT JOIN served s USING (interaction_id) LEFT JOIN approved a ON a.id = l.target
    ORDER BY e.arrived, e.interaction_id
"""


def curate(frozen: Path, out: Path, report: Path) -> None:
    """Aggregate annotations, keep what people agree on, and say what was dropped and why."""
    params = load(PARAMS, "curate", AgreementParams)
    dropped: list[Dropped] = []
    verdicts, sides = Counter[str](), Counter[str]()
    with calculator() as engine:
        engine.execute(STRIPPED)
        engine.register("approved", to_arrow(Approved, read_records(frozen / "catalogue.jsonl", Approved)))
        agreement = aggregate_table(_votes(engine, frozen), params)

        def kept() -> Iterator[pa.Table]:
            names = np.array(agreement.labels["interaction_id"].to_pylist(), dtype=str)
            for exchanges, given in _together(frozen):
                engine.register("exchanges", exchanges)
                engine.register("given", given)
                engine.register("labels", agreement.labels.take(_among(exchanges["interaction_id"], names)))
                found = engine.execute(LABELS).to_arrow_table()
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


def _together(frozen: Path) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Exchanges a shard at a time, with all annotations of them (and some of others): both are kept in the order of arrival."""
    files = shards.files(frozen / "annotations")
    held = arrow_schema(Given).empty_table()
    for shard in shards.files(frozen / "exchanges"):
        exchanges = shards.one(shard, Exchange)
        until = pc.max(exchanges["arrived"]).as_py()
        while files and (not held.num_rows or held["arrived"][-1].as_py() <= until):
            held = pa.concat_tables([held, shards.one(files.pop(0), Given)])
        yield exchanges, held.filter(pc.less_equal(held["arrived"], until))
        # What arrived at the very last moment of this shard may belong to the next one.
        held = held.filter(pc.greater_equal(held["arrived"], until))


def _votes(engine: Engine, frozen: Path) -> pa.Table:
    """Every answer of kind `answer`, as `aggregate_table` wants them; names as dictionaries, or millions would not fit."""
    found = []
    for exchanges, given in _together(frozen):
        engine.register("exchanges", exchanges)
        engine.register("given", given)
        votes = engine.execute(VOTES).to_arrow_table()
        for name in ("annotator", "right", "said"):
            votes = votes.set_column(votes.column_names.index(name), name, votes[name].dictionary_encode())
        found.append(votes)
    return pa.concat_tables(found).unify_dictionaries() if found else pa.table({})


def _among(ids: pa.ChunkedArray, names: np.ndarray) -> np.ndarray:
    """The places of those ids that are among the sorted names."""
    wanted = np.array(ids.to_pylist(), dtype=str)
    at = np.minimum(np.searchsorted(names, wanted), max(0, len(names) - 1))
    return at[names[at] == wanted] if len(names) else at[:0]


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
