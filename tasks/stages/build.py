"""build: agreed labels and judgements -> the example tables of both sides of the wall; what is refused, with its reason.

    data/curated/labels       ->  data/dataset/parquet/train/sft, …/preference, …          what trains
    data/curated/judgements   ->  data/dataset/parquet/{train,holdout}/spans, …            on their side of the wall
    data/frozen/thumbs        ->  data/dataset/parquet/train/unpaired                      what the screen and the caps leave
                                  data/dataset/parquet/holdout/evaluation, …/regression    what judges

In two passes: first what decides, of all labels at once; then the rest of them, a shard at a time.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from tasks import shards
from tasks.admission import REFUSED, Admitted, Sealed, admitted, refused
from tasks.assembly import Assembly
from tasks.calculator import Engine, calculator
from tasks.card import AboutParams, card, reports
from tasks.card.facts import people_of, survey
from tasks.examples import HOLDOUT, TRAIN, Example, Preference, judged, labelled, sealed, thumbed
from tasks.firewall import FirewallParams, Met
from tasks.frozen import Curated, CuratedJudgement, Dropped, Exchange, Thumb
from tasks.guidelines import newest, parse
from tasks.hygiene import anchors
from tasks.hygiene.caps import cap_votes, lot
from tasks.hygiene.dedup import claims
from tasks.hygiene.pairs import Finding, audit
from tasks.hygiene.params import HygieneParams
from tasks.hygiene.poison import screen
from tasks.hygiene.votes import said, traffic, votes
from tasks.params import load
from tasks.records import Approved, arrow_schema, canonical, content_id, read_jsonl, read_records, to_arrow
from tasks.stages import PARAMS, run

# What decides whether a label becomes an example. `says` is one number for what a label teaches, `same` for that in one group.
# Labels without a target share a prompt by design (several answers to it); there the answer tells them apart.
DECIDING = """
    SELECT interaction_id, arrived, side, group_id, topic, language, question, p_target, target, md5_number_lower(taught) AS says,
           md5_number_lower(group_id || chr(31) || taught) AS same
    FROM (SELECT *, CASE WHEN target <> '' THEN target ELSE
              verdict || trim(regexp_replace(lower(response), '[[:punct:][:space:]]+', ' ', 'g')) END AS taught FROM labels)
"""
SHOWN = 50  # labels that look wrong, by id
TURNS = "SELECT session_id, response FROM labels WHERE verdict = 'right'"


def build(frozen: Path, curated: Path, curation: Path, out: Path, report: Path) -> None:
    """Build the dataset. A training row that gives a holdout row away is refused, whatever its recorded side says."""
    about, hygiene = load(PARAMS, "about", AboutParams), load(PARAMS, "hygiene", HygieneParams)
    wall = load(PARAMS, "firewall", FirewallParams)
    with calculator() as engine:
        labelled.prepare(engine, to_arrow(Approved, read_records(frozen / "catalogue.jsonl", Approved)))
        who = _decided(engine, frozen, curated, wall, hygiene)
        ready = [(j.side, *made) for j in who.judgements for made in judged.examples(j)]
        ready += [(TRAIN, "unpaired", row) for row in who.thumbed]
        ready += [(HOLDOUT, name, row) for name, row in _sealed(frozen, curated, who)]
        ready += [(TRAIN, "sft", row) for row in who.anchors]
        assembly = Assembly(out, ready)
        met = labelled.meetings(engine, (rows for _, rows, _ in _kept(curated, who, labelled.MEETING)))
        right = _confirmed(engine, curated)
        for until, train, holdout in _kept(curated, who, list(arrow_schema(Curated).names)):
            for name, made in labelled.examples(engine, train, _of(met, train), right).items():
                assembly.add(TRAIN, name, made, until)
            assembly.add(HOLDOUT, "safety", labelled.due(engine, holdout), until)
    counts = assembly.close()
    shards.write_rows(out / "parquet" / "dropped", Dropped, who.dropped)
    summary = {
        "rows": counts,
        "dropped": dict(Counter(d.reason for d in who.dropped)),
        "alerts": who.alerts,
        "origins": assembly.counts("origin"),
        "authors": assembly.counts("author"),
        "balance": {"policy": who.found.balance.policy, "slices": [asdict(s) for s in who.found.balance.slices]},
        "noise": {"share": round(who.found.noise, 4), "suspected": who.found.suspected[:SHOWN]},
        "pairs": [asdict(f) for f in _audited(out, hygiene)],
        "holdout_digest": shards.content_digest(out / "jsonl" / HOLDOUT / "evaluation"),
    }
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_bytes(canonical(summary) + b"\n")
    agreement = {"answer": next(read_jsonl(curation))["alpha"]}
    dataset = survey(out, people_of(curated, agreement), {"firewall": asdict(wall), "hygiene": asdict(hygiene)})
    for folder, files in ((out, card(dataset, about)), (report.parent, reports(dataset))):
        for name, data in files.items():
            (folder / name).write_bytes(data)


@dataclass(frozen=True, slots=True)
class _Decided:
    """By label, in the order of its shards, how many labels it stands for where it trains (0: it doesn't), and whether it is
    sealed; the judgements, the rows of thumbs and the anchors that go in; and who does not, and why."""

    copies: np.ndarray
    sealed: np.ndarray
    judgements: list[CuratedJudgement]
    thumbed: list[Example]
    anchors: list[Example]
    found: Admitted
    dropped: list[Dropped]
    alerts: list[str]


def _decided(engine: Engine, frozen: Path, curated: Path, wall: FirewallParams, hygiene: HygieneParams) -> _Decided:
    labels = pa.concat_tables(_deciding(engine, curated))
    judgements = shards.read(curated / "judgements", CuratedJudgement)
    thumbs = votes(shards.table(frozen / "thumbs", Thumb), shards.table(frozen / "exchanges", Exchange))
    taught = [j for j in judgements if j.side == TRAIN]
    shut = _sealed_questions(labels, judgements, frozen)
    asked = pa.chunked_array([[j.question for j in taught]], pa.string())
    anchored = anchors.read(frozen / "anchors.jsonl")
    texts = [labels["question"], asked, thumbs["said"], said(pa.chunked_array([[a.messages for a in anchored]], pa.string()))]
    of_labels, of_judgements, of_thumbs, of_anchors = refused(texts, shut, wall)
    found = admitted(labels, of_labels, shut, hygiene)
    dropped = [*_not_admitted(labels, found), *_gives_away(taught, of_judgements, shut)]
    for k, m in of_anchors.items():
        dropped.append(_dropped("", 0, REFUSED[m.how], f"anchor {anchored[k].id}", shut.interactions[m.sealed]))
    free = [a for k, a in enumerate(anchored) if k not in of_anchors]
    mixed_in = anchors.choose(free, int((found.copies > 0).sum()), hygiene.anchor_share, hygiene.key)
    rows, more, alerts = _thumbed(frozen, labels, thumbs, of_thumbs, shut, hygiene)
    kept = [j for k, j in enumerate(taught) if k not in of_judgements]
    sealed_side = pc.equal(labels["side"], HOLDOUT).to_numpy()
    return _Decided(
        found.copies, sealed_side, [*kept, *(j for j in judgements if j.side == HOLDOUT)], rows, mixed_in, found,
        dropped + more, alerts,
    )  # fmt: skip


def _deciding(engine: Engine, curated: Path) -> Iterator[pa.Table]:
    for rows in (arrow_schema(Curated).empty_table(), *(shards.one(f, Curated) for f in shards.files(curated / "labels"))):
        engine.register("labels", rows)
        yield engine.execute(DECIDING).to_arrow_table()


def _sealed_questions(labels: pa.Table, judgements: list[CuratedJudgement], frozen: Path) -> Sealed:
    columns = ("question", "interaction_id", "group_id")
    mine = labels.filter(pc.equal(labels["side"], HOLDOUT)).select(columns).to_pylist()
    rows = {r["interaction_id"]: r for r in mine}
    rows |= {j.interaction_id: {c: getattr(j, c) for c in columns} for j in judgements if j.side == HOLDOUT}
    ordered = [rows[i] for i in sorted(rows)]
    common = [a.text for a in read_records(frozen / "catalogue.jsonl", Approved)]
    return Sealed(*([r[c] for r in ordered] for c in columns), common)


def _not_admitted(labels: pa.Table, found: Admitted) -> Iterator[Dropped]:
    gone = np.flatnonzero(found.reason != "")
    ids, arrived = (labels[name].take(pa.array(gone)).to_pylist() for name in ("interaction_id", "arrived"))
    for i, at, reason, met in zip(ids, arrived, found.reason[gone], found.met[gone], strict=True):
        yield _dropped(i, at, reason, met=met)


def _gives_away(taught: list[CuratedJudgement], met: dict[int, Met], shut: Sealed) -> Iterator[Dropped]:
    for k, m in met.items():
        yield _dropped(taught[k].interaction_id, taught[k].arrived, REFUSED[m.how], taught[k].kind, shut.interactions[m.sealed])


def _thumbed(
    frozen: Path, labels: pa.Table, thumbs: pa.Table, met: dict[int, Met], shut: Sealed, params: HygieneParams
) -> tuple[list[Example], list[Dropped], list[str]]:
    """The rows that thumbs make; the thumbs that make none, with their reasons; and what people should be told of them."""
    exchanges = shards.table(frozen / "exchanges", Exchange)
    screened = screen(thumbs, traffic(exchanges, thumbs), params)
    reason, found = screened.reason.copy(), screened.evidence.copy()
    for k, m in met.items():
        reason[k], found[k] = REFUSED[m.how], shut.interactions[m.sealed]
    claimed = claims(thumbs["response"], thumbs["polarity"].to_numpy(), params.near_duplicate)
    capped = cap_votes(thumbs, claimed, reason == "", params)
    reason = np.where(reason == "", capped.reason, reason)
    rows = thumbs.to_pylist()
    dropped = [
        _dropped(r["interaction_id"], r["arrived"], why, r["feedback_id"], str(met_by))
        for r, why, met_by in zip(rows, reason, found, strict=True)
        if why
    ]
    good = [r for r, why in zip(rows, reason, strict=True) if not why]
    wanted = pa.array(sorted({r["interaction_id"] for r in good}), pa.string())
    rated = exchanges.filter(pc.is_in(exchanges["interaction_id"], wanted)).to_pylist()
    judged_ids = set(labels["interaction_id"].to_pylist())
    made = thumbed.examples(good, {r["interaction_id"]: Exchange(**r) for r in rated}, judged_ids)
    return made, dropped, [*screened.alerts, *capped.alerts]


def _dropped(interaction_id: str, arrived: int, reason: str, of: str = "", met: str = "") -> Dropped:
    return Dropped(
        dropped_id=content_id("dr", "build", interaction_id, reason, of), arrived=arrived, interaction_id=interaction_id,
        stage="build", reason=reason, met=met,
    )  # fmt: skip


def _kept(curated: Path, who: _Decided, columns: list[str]) -> Iterator[tuple[int, pa.Table, pa.Table]]:
    """Of each shard of labels: until when it goes, the rows that train, and those that are sealed, with their `copies`."""
    start = 0
    for file in shards.files(curated / "labels"):
        rows = shards.one(file, Curated, [*columns, *({"arrived"} - {*columns})])
        copies, shut = (a[start : start + len(rows)] for a in (who.copies, who.sealed))
        start += len(rows)
        if not len(rows):
            continue
        counted = rows.append_column("copies", pa.array(np.where(shut, 1, copies), pa.int64()))
        yield pc.max(rows["arrived"]).as_py(), counted.filter(pa.array(copies > 0)), counted.filter(pa.array(shut))


def _confirmed(engine: Engine, curated: Path) -> set[bytes]:
    """The turns that people called right."""
    found: set[bytes] = set()
    for file in shards.files(curated / "labels"):
        engine.register("labels", shards.one(file, Curated, ["session_id", "response", "verdict"]))
        turns = engine.execute(TURNS).to_arrow_table().to_pylist()
        found |= {labelled.turn_key(t["session_id"], t["response"]) for t in turns}
    return found


def _of(met: pa.Table, rows: pa.Table) -> pa.Table:
    return met.filter(pc.is_in(met["right_id"], rows["interaction_id"].combine_chunks()))


def _sealed(frozen: Path, curated: Path, who: _Decided) -> Iterable[tuple[str, Example]]:
    """The evaluation set, and the regression suite of every cluster that was fixed."""
    clusters = list(read_jsonl(frozen / "regression.jsonl"))
    wanted = pa.array(sorted({i for c in clusters for i in c["interactions"]}), pa.string())
    columns = list(arrow_schema(Curated).names)
    shut: list[Curated] = []
    fixed: dict[str, Curated] = {}
    trained: set[str] = set()
    for _, train, holdout in _kept(curated, who, columns):
        shut += [Curated(**r) for r in holdout.select(columns).to_pylist()]
        for rows in (train, holdout):
            some = rows.select(columns).filter(pc.is_in(rows["interaction_id"], wanted)).to_pylist()
            fixed |= {r["interaction_id"]: Curated(**r) for r in some}
            trained |= {r["interaction_id"] for r in some if r["side"] == TRAIN}
    for row in sealed.evaluation(shut, _rubric(frozen)):
        yield "evaluation", row
    for row in sealed.regression(clusters, fixed, trained):
        yield "regression", row


def _audited(out: Path, params: HygieneParams) -> list[Finding]:
    """What beside being right tells chosen answers from rejected ones, in a sample of the pairs."""
    files = shards.files(out / "parquet" / TRAIN / "preference")
    ids = [i for f in files for i in shards.one(f, Preference, ["example_id"])["example_id"].to_pylist()]
    drawn = pa.array([ids[k] for k in np.argsort(lot(ids, params.key), kind="stable")[: params.audit_rows]], pa.string())
    parts = (shards.one(f, Preference, ["example_id", "prompt", "chosen", "rejected"]) for f in files)
    rows = pa.concat_tables([p.filter(pc.is_in(p["example_id"], drawn)) for p in parts])
    chosen, rejected = (
        pa.chunked_array([[orjson.loads(t)[-1]["content"] for t in rows[side].to_pylist()]], pa.string())
        for side in ("chosen", "rejected")
    )
    asked = pa.chunked_array([said(rows["prompt"])])
    return audit(asked, chosen, rejected, rows["example_id"].to_pylist(), params)


def _rubric(frozen: Path) -> str:
    """The clauses that answers are judged by, in the newest version of their guideline."""
    texts = {p.stem: p.read_text(encoding="utf-8") for p in sorted((frozen / "guidelines").glob("*.md"))}
    found = newest(parse(n, t) for n, t in texts.items()).get("answer")
    return "\n".join(c.text.strip() for c in found.clauses) if found else ""


def main(argv: list[str] | None = None) -> int:
    return run(build, ("frozen", "curated", "curation", "out", "report"), argv)


if __name__ == "__main__":
    sys.exit(main())
