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

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks import shards
from tasks.calculator import Engine, calculator
from tasks.card import AboutParams, card, reports
from tasks.card.facts import people_of, survey
from tasks.examples import HOLDOUT, TABLES, TRAIN, Example, judged, labelled, sealed
from tasks.frozen import Curated, CuratedJudgement, Dropped
from tasks.guidelines import newest, parse
from tasks.params import load
from tasks.records import Approved, arrow_schema, canonical, content_id, read_jsonl, read_records, to_arrow
from tasks.split import SplitParams, leaks
from tasks.stages import PARAMS, run

# What decides whether a label becomes an example; the rest of it is read when it does. `same` is one number for labels that say
# the same thing in one group. Labels without a target share a prompt by design; there the answer tells them apart.
DECIDING = """
    SELECT interaction_id, arrived, side, question,
           md5_number_lower(concat_ws(chr(31), group_id, CASE WHEN target <> '' THEN target ELSE
               trim(regexp_replace(lower(response), '[[:punct:][:space:]]+', ' ', 'g')) END)) AS same
    FROM labels
"""
TURNS = "SELECT session_id, response FROM labels WHERE verdict = 'right'"
IN_ORDER = [("arrived", "ascending"), ("example_id", "ascending")]


@dataclass(frozen=True, slots=True)
class BuildParams:
    max_rows_per_group: int


def build(frozen: Path, curated: Path, curation: Path, out: Path, report: Path) -> None:
    """Build the dataset. A training row near to a holdout row is refused, whatever its recorded side says."""
    params, split = load(PARAMS, "build", BuildParams), load(PARAMS, "split", SplitParams)
    about = load(PARAMS, "about", AboutParams)
    judgements = shards.read(curated / "judgements", CuratedJudgement)
    labels_of = shards.files(curated / "labels")
    dropped: list[Dropped] = []
    with calculator() as engine:
        labelled.prepare(engine, to_arrow(Approved, read_records(frozen / "catalogue.jsonl", Approved)))
        labels = _deciding(engine, labels_of)
        kept = _admitted(labels, judgements, params, split, dropped)
        taught = [j for j in judgements if j.side == HOLDOUT or j.judgement_id in kept.judgements]
        tables = _Tables(out, [(j.side, *made) for j in taught for made in judged.examples(j)])
        right = _confirmed(engine, labels_of)
        met = labelled.meetings(engine, (_kept(shards.one(f, Curated, labelled.MEETING), kept.labels[f]) for f in labels_of))
        trained: set[str] = set()
        for file in labels_of:
            rows = shards.one(file, Curated)
            until = pc.max(rows["arrived"]).as_py()
            mine = _kept(rows, kept.labels[file])
            for name, made in labelled.examples(engine, mine, _of(met, mine), right).items():
                tables.add(TRAIN, name, made, until)
            tables.add(HOLDOUT, "safety", labelled.due(engine, _kept(rows, kept.sealed[file])), until)
            trained |= set(mine["interaction_id"].to_pylist())
    counts = tables.close()

    known = _known(curated, frozen)
    evaluation = sealed.evaluation([r for r in known.values() if r.side == HOLDOUT], _rubric(frozen))
    fixed = sealed.regression(list(read_jsonl(frozen / "regression.jsonl")), known, trained)
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
    agreement = {"answer": next(read_jsonl(curation))["alpha"]}
    dataset = survey(out, people_of(curated, agreement), {"build": asdict(params), "split": asdict(split)})
    for folder, files in ((out, card(dataset, about)), (report.parent, reports(dataset))):
        for name, data in files.items():
            (folder / name).write_bytes(data)


@dataclass(frozen=True, slots=True)
class _Kept:
    """By file of labels, how many labels each row stands for where it trains, and where it is sealed (0: not); the judgements
    that train."""

    labels: dict[Path, np.ndarray]
    sealed: dict[Path, np.ndarray]
    judgements: set[str]


def _deciding(engine: Engine, files: list[Path]) -> dict[Path, pa.Table]:
    found = {}
    for file in files:
        engine.register("labels", shards.one(file, Curated))
        found[file] = engine.execute(DECIDING).to_arrow_table()
    return found


def _admitted(
    labels: dict[Path, pa.Table], judgements: list[CuratedJudgement], params: BuildParams, split: SplitParams,
    dropped: list[Dropped],
) -> _Kept:  # fmt: skip
    """Who may train: not what straddles the wall or is near to the other side, nor the same thing again and again."""
    holdout = {q for rows in labels.values() for q in _on(rows, HOLDOUT)["question"].to_pylist()}
    sealed = sorted(holdout | {j.question for j in judgements if j.side == HOLDOUT})
    seen: dict[int, int] = {}
    kept, shut = {}, {}
    for file, rows in labels.items():
        side = np.array(rows["side"].to_pylist(), object)
        reason = np.where((side == TRAIN) | (side == HOLDOUT), "", "straddles_the_wall").astype(object)
        train = np.flatnonzero(side == TRAIN)
        near = leaks(rows["question"].take(train).to_pylist(), sealed, split.near_duplicate)
        reason[train[near]] = "near_a_holdout_row"
        same = rows["same"].to_pylist()
        for k in np.flatnonzero((side == TRAIN) & (reason == "")).tolist():
            seen[same[k]] = seen.get(same[k], 0) + 1
            if seen[same[k]] > params.max_rows_per_group:
                reason[k] = "group_is_full"
        gone = np.flatnonzero(reason != "")
        ids, arrived = (rows[name].take(gone).to_pylist() for name in ("interaction_id", "arrived"))
        dropped += [_dropped(*row) for row in zip(ids, arrived, reason[gone], strict=True)]
        kept[file] = ((side == TRAIN) & (reason == "")).astype(np.int64)
        shut[file] = (side == HOLDOUT).astype(np.int64)
    taught = [j for j in judgements if j.side == TRAIN]
    close = set(leaks([j.question for j in taught], sealed, split.near_duplicate).tolist())
    dropped += [_dropped(j.interaction_id, j.arrived, "near_a_holdout_row", j.kind) for n, j in enumerate(taught) if n in close]
    return _Kept(kept, shut, {j.judgement_id for n, j in enumerate(taught) if n not in close})


def _on(rows: pa.Table, side: str) -> pa.Table:
    return rows.filter(pc.equal(rows["side"], side))


def _dropped(interaction_id: str, arrived: int, reason: str, kind: str = "", met: str = "") -> Dropped:
    return Dropped(
        dropped_id=content_id("dr", "build", interaction_id, reason, kind), arrived=arrived, interaction_id=interaction_id,
        stage="build", reason=reason, met=met,
    )  # fmt: skip


def _confirmed(engine: Engine, files: list[Path]) -> set[bytes]:
    """The turns that people called right, of conversations with several: others are nobody's earlier turn."""
    found: set[bytes] = set()
    for file in files:
        engine.register("labels", shards.one(file, Curated, ["session_id", "response", "verdict"]))
        for row in engine.execute(TURNS).to_arrow_table().to_pylist():
            found.add(labelled.turn_key(row["session_id"], row["response"]))
    return found


def _kept(rows: pa.Table, copies: np.ndarray) -> pa.Table:
    """Those rows that are kept, with how many each stands for."""
    return rows.append_column("copies", pa.array(copies, pa.int64())).filter(pa.array(copies > 0))


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
    return run(build, ("frozen", "curated", "curation", "out", "report"), argv)


if __name__ == "__main__":
    sys.exit(main())
