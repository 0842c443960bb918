"""build: agreed labels and judgements -> the example tables of both sides of the wall; what is refused, with its reason.

    data/curated/labels       ->  data/dataset/parquet/train/sft, …/preference, …          what trains
    data/curated/judgements   ->  data/dataset/parquet/{train,holdout}/spans, …            on their side of the wall
                                  data/dataset/parquet/holdout/evaluation, …/regression    what judges
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from tasks import shards
from tasks.calculator import Engine, calculator
from tasks.examples import HOLDOUT, TABLES, TRAIN, Example, judged, labelled, sealed
from tasks.frozen import Curated, CuratedJudgement, Dropped
from tasks.guidelines import newest, parse
from tasks.params import load
from tasks.records import Approved, arrow_schema, canonical, content_id, read_jsonl, read_records, to_arrow
from tasks.similar import normalise
from tasks.split import SplitParams, leaks
from tasks.stages import PARAMS, run

# What decides whether a label becomes an example; the rest of it is read when it does.
DECIDING = ("interaction_id", "arrived", "group_id", "side", "session_id", "user", "question", "response", "served", "verdict",
            "target", "p_wrong", "language", "topic")  # fmt: skip
IN_ORDER = [("arrived", "ascending"), ("example_id", "ascending")]


@dataclass(frozen=True, slots=True)
class BuildParams:
    max_rows_per_group: int


def build(frozen: Path, curated: Path, out: Path, report: Path) -> None:
    """Build the dataset. A training row near to a holdout row is refused, whatever its recorded side says."""
    params, split = load(PARAMS, "build", BuildParams), load(PARAMS, "split", SplitParams)
    labels = shards.table(curated / "labels", Curated, DECIDING)
    judgements = shards.read(curated / "judgements", CuratedJudgement)
    dropped: list[Dropped] = []
    kept = _admitted(labels, judgements, params, split, dropped)
    taught = [j for j in judgements if j.side == HOLDOUT or (j.side == TRAIN and j.interaction_id in kept.judged)]

    tables = _Tables(out, [x for j in taught for x in judged.examples(j) for x in [(j.side, *x)]])
    right = _confirmed(labels)
    with calculator() as engine:
        labelled.prepare(engine, to_arrow(Approved, read_records(frozen / "catalogue.jsonl", Approved)))
        met = _meetings(engine, curated, kept.labels)
        for shard in shards.files(curated / "labels"):
            rows = shards.one(shard, Curated)
            until = pc.max(rows["arrived"]).as_py()
            mine = _with_copies(rows, kept.labels)
            for name, made in labelled.examples(engine, mine, _of(met, mine), right).items():
                tables.add(TRAIN, name, made, until)
            tables.add(HOLDOUT, "safety", labelled.due(engine, _with_copies(rows, kept.sealed)), until)
    counts = tables.close()

    known = _known(curated, frozen)
    evaluation = sealed.evaluation([r for r in known.values() if r.side == HOLDOUT], _rubric(frozen))
    fixed = sealed.regression(list(read_jsonl(frozen / "regression.jsonl")), known, set(kept.labels))
    for name, sealed_rows in (("evaluation", evaluation), ("regression", fixed)):
        counts[HOLDOUT][name] = shards.write_rows(*_places(out, HOLDOUT, name, sealed_rows))
    shards.write_rows(out / "parquet" / "dropped", Dropped, dropped)
    summary = {
        "rows": counts,
        "dropped": dict(Counter(d.reason for d in dropped)),
        "origins": tables.origins,
        "kinds": dict(Counter(h.kind for h in evaluation)),
        "holdout_digest": shards.content_digest(out / "jsonl" / HOLDOUT / "evaluation"),
    }
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_bytes(canonical(summary) + b"\n")


@dataclass(frozen=True, slots=True)
class _Kept:
    """Interactions whose label trains, with the copies that each stands for; whose judgements train; whose label is sealed."""

    labels: dict[str, int]
    judged: set[str]
    sealed: dict[str, int]


def _admitted(
    labels: pa.Table, judgements: list[CuratedJudgement], params: BuildParams, split: SplitParams, dropped: list[Dropped]
) -> _Kept:
    """Who may train: not what straddles the wall or is near to the other side, nor the same thing again and again."""
    of = {name: labels[name].to_pylist() for name in labels.column_names}
    place = {i: (a, k) for k, (i, a) in enumerate(zip(of["interaction_id"], of["arrived"], strict=True))}
    sides = list(zip(of["interaction_id"], of["side"], strict=True))
    dropped += [_dropped(i, place[i][0], "straddles_the_wall") for i, side in sides if side not in (TRAIN, HOLDOUT)]
    holdout = sorted({q for q, s in zip(of["question"], of["side"], strict=True) if s == HOLDOUT}
                     | {j.question for j in judgements if j.side == HOLDOUT})  # fmt: skip
    train = [k for k, side in enumerate(of["side"]) if side == TRAIN]
    near = set(leaks([of["question"][k] for k in train], holdout, split.near_duplicate).tolist())
    dropped += [_dropped(of["interaction_id"][k], of["arrived"][k], "near_a_holdout_row") for n, k in enumerate(train) if n in near]
    train = [k for n, k in enumerate(train) if n not in near]

    kept, seen = [], Counter[tuple[str, str]]()
    for k in train:
        # Verdict-only rows share a prompt by design (several answers to it); there the response tells them apart.
        key = (of["group_id"][k], of["target"][k] or content_id("rs", normalise(of["response"][k])))
        seen[key] += 1
        if seen[key] <= params.max_rows_per_group:
            kept.append(k)
        else:
            dropped.append(_dropped(of["interaction_id"][k], of["arrived"][k], "group_is_full"))
    taught = [j for j in judgements if j.side == TRAIN]
    close = set(leaks([j.question for j in taught], holdout, split.near_duplicate).tolist())
    dropped += [_dropped(j.interaction_id, j.arrived, "near_a_holdout_row", j.kind) for n, j in enumerate(taught) if n in close]
    return _Kept(
        {of["interaction_id"][k]: 1 for k in kept},
        {j.interaction_id for n, j in enumerate(taught) if n not in close},
        {i: 1 for i, side in sides if side == HOLDOUT},
    )


def _dropped(interaction_id: str, arrived: int, reason: str, kind: str = "", met: str = "") -> Dropped:
    return Dropped(
        dropped_id=content_id("dr", "build", interaction_id, reason, kind), arrived=arrived, interaction_id=interaction_id,
        stage="build", reason=reason, met=met,
    )  # fmt: skip


def _confirmed(labels: pa.Table) -> set[bytes]:
    """The turns that people called right."""
    right = labels.filter(pc.equal(labels["verdict"], "right"))
    pairs = zip(right["session_id"].to_pylist(), right["response"].to_pylist(), strict=True)
    return {labelled.turn_key(session, response) for session, response in pairs}


def _meetings(engine: Engine, curated: Path, kept: dict[str, int]) -> pa.Table:
    """Which wrong answers each right answer met, of those that are kept."""
    ids = pa.array(kept, pa.string())
    tables = (shards.one(shard, Curated, labelled.MEETING) for shard in shards.files(curated / "labels"))
    return labelled.meetings(engine, (rows.filter(pc.is_in(rows["interaction_id"], ids)) for rows in tables))


def _with_copies(rows: pa.Table, kept: dict[str, int]) -> pa.Table:
    copies = pa.array([kept.get(i, 0) for i in rows["interaction_id"].to_pylist()], pa.int64())
    rows = rows.append_column("copies", copies)
    return rows.filter(pc.greater(rows["copies"], 0))


def _of(met: pa.Table, rows: pa.Table) -> pa.Table:
    return met.filter(pc.is_in(met["right_id"], rows["interaction_id"].combine_chunks()))


def _known(curated: Path, frozen: Path) -> dict[str, Curated]:
    """The labels that judge: of the holdout side, and of fixed clusters."""
    fixed = {i for c in read_jsonl(frozen / "regression.jsonl") for i in c["interactions"]}
    found = {}
    for shard in shards.files(curated / "labels"):
        rows = shards.one(shard, Curated)
        wanted = pc.or_(pc.equal(rows["side"], HOLDOUT), pc.is_in(rows["interaction_id"], pa.array(sorted(fixed), pa.string())))
        found |= {r["interaction_id"]: Curated(**r) for r in rows.filter(wanted).to_pylist()}
    return found


def _rubric(frozen: Path) -> str:
    """The clauses that answers are judged by, in the newest version of their guideline."""
    texts = {p.stem: p.read_text(encoding="utf-8") for p in sorted((frozen / "guidelines").glob("*.md"))}
    found = newest(parse(n, t) for n, t in texts.items()).get("answer")
    return "\n".join(c.text.strip() for c in found.clauses) if found else ""


def _places(out: Path, side: str, name: str, rows: list[Example]) -> tuple:
    table = TABLES[name]
    return out / "parquet" / side / name, table.row, rows, out / "jsonl" / side / name, table.trains


class _Tables:
    """Every table of the dataset, being written: rows made from labels as they come, those made from judgements among them."""

    def __init__(self, out: Path, judged_rows: list[tuple[str, str, Example]]):
        self.origins: dict[str, dict[str, int]] = {}
        self._writers, self._waiting = {}, {}
        together: dict[tuple[str, str], list[dict]] = {}
        for side, name, row in judged_rows:
            together.setdefault((side, name), []).append(asdict(row))
        for table in TABLES.values():
            for side in table.sides:
                folder = out / "parquet" / side / table.name
                self._writers[side, table.name] = shards.Writer(folder, table.row, out / "jsonl" / side / table.name, table.trains)
                rows = pa.Table.from_pylist(together.get((side, table.name), []), arrow_schema(table.row))
                self._waiting[side, table.name] = rows.sort_by(IN_ORDER)

    def add(self, side: str, name: str, rows: pa.Table, until: int) -> None:
        """Rows made from labels, and before them what arrived up to `until`."""
        schema = arrow_schema(TABLES[name].row)
        waiting = self._waiting[side, name]
        due = pc.less_equal(waiting["arrived"], until)
        self._waiting[side, name] = waiting.filter(pc.invert(due))
        self._write(side, name, pa.concat_tables([rows.select(schema.names).cast(schema), waiting.filter(due)]).sort_by(IN_ORDER))

    def close(self) -> dict[str, dict[str, int]]:
        """Rows by side and table."""
        counts: dict[str, dict[str, int]] = {TRAIN: {}, HOLDOUT: {}}
        for (side, name), writer in self._writers.items():
            self._write(side, name, self._waiting[side, name])
            counts[side][name] = writer.close()
        return counts

    def _write(self, side: str, name: str, rows: pa.Table) -> None:
        self._writers[side, name].add(rows)
        of = self.origins.setdefault(f"{side}/{name}", {})
        for origin, n in Counter(rows["origin"].to_pylist()).items():
            of[origin] = of.get(origin, 0) + n


def main(argv: list[str] | None = None) -> int:
    return run(build, ("frozen", "curated", "out", "report"), argv)


if __name__ == "__main__":
    sys.exit(main())
