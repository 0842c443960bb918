"""A data set with nothing wrong in it: frozen by hand, made by the real stages, of every kind of question, on both sides of the
wall.

rows = dataset(tmp_path, seed=3)      ->  tmp_path/{frozen,curated,dataset}, params.yaml; rows["sft"] -> its rows
rewrite(tmp_path, "sft", changed)     ->  the same with one table changed, as nobody's stage would write it
"""

from __future__ import annotations

import contextlib
import io
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks import shards
from tasks.examples import TABLES
from tasks.frozen import Curated, CuratedJudgement, Dropped, Exchange, Given, Thumb
from tasks.kinds import DIMENSIONS
from tasks.records import arrow_schema, canonical, content_id, write_jsonl
from tasks.stages import build, curate
from tasks.validation.tables import places
from tests.handmade import CATALOGUE, NOON, TEXT, annotation, given
from tests.imports import ROOT

ROWS = {
    "exchanges": Exchange, "annotations": Given, "thumbs": Thumb, "labels": Curated, "judgements": CuratedJudgement,
    "dropped": Dropped, "dropped_by_build": Dropped,
}  # fmt: skip
PEOPLE = ("ana", "ben", "cem")
SYLLABLES = ("ba", "de", "fi", "go", "hu", "ka", "le", "mi", "no", "pu", "ra", "se", "ti", "vo", "wu", "za")
QUARTER = 4  # one exchange in so many is on the holdout side


def folders(root: Path) -> dict[str, Path]:
    return places(root / "frozen", root / "curated", root / "dataset")


def row_of(table: str) -> type:
    return ROWS.get(table) or TABLES[table.removeprefix("holdout_")].row


def read(root: Path, table: str) -> list[Any]:
    return shards.read(folders(root)[table], row_of(table))


def rewrite(root: Path, table: str, rows: Sequence[dict[str, Any]]) -> None:
    """Put these rows in the place of a table's, whatever they are: what no stage of ours would write, an intruder might."""
    folder = folders(root)[table]
    shutil.rmtree(folder)
    folder.mkdir()
    schema = pa.schema([f.with_nullable(True) for f in arrow_schema(row_of(table))])
    pq.write_table(pa.Table.from_pylist(list(rows), schema), folder / "rows.parquet")


@dataclass(frozen=True, slots=True)
class Chance:
    """What is drawn of one seed."""

    random: random.Random

    def word(self) -> str:
        return "".join(self.random.choice(SYLLABLES) for _ in range(self.random.randint(2, 4)))

    def text(self, low: int = 6, high: int = 14) -> str:
        return " ".join(self.word() for _ in range(self.random.randint(low, high)))


def dataset(root: Path, seed: int = 0, exchanges: int = 160, kinds: int = 1) -> dict[str, list[Any]]:
    """Write the folders, and give the rows of every table. Everything is drawn anew of each seed; beside `answer`, people
    answered so many other `kinds` of question about every second exchange."""
    freeze(root, seed, exchanges, kinds)
    made = root / "frozen"
    with contextlib.chdir(root), contextlib.redirect_stderr(io.StringIO()) as told:
        curating = ["--frozen", str(made), "--out", "curated", "--report", "reports/curate.json"]
        building = ["--frozen", str(made), "--curated", "curated", "--curation", "reports/curate.json", "--out", "dataset",
                    "--report", "reports/build.json"]  # fmt: skip
        assert (curate.main(curating), build.main(building)) == (0, 0), told.getvalue()
    return {name: read(root, name) for name in folders(root)}


def freeze(root: Path, seed: int, exchanges: int, kinds: int) -> None:
    chance = Chance(random.Random(seed))
    made = [_exchange(chance, k) for k in range(exchanges)]
    annotations = [a for k, e in enumerate(made) for a in _answers(chance, k, e, kinds)]
    frozen = root / "frozen"
    shutil.copy(ROOT / "params.yaml", root / "params.yaml")
    shards.write_rows(frozen / "exchanges", Exchange, made)
    shards.write_rows(frozen / "annotations", Given, annotations)
    train = [e for e in made if e.side == "train"]
    shards.write_rows(frozen / "thumbs", Thumb, [_thumb(k, e) for k, e in enumerate(train[:20])])
    write_jsonl(frozen / "catalogue.jsonl", CATALOGUE)
    write_jsonl(frozen / "anchors.jsonl", [])
    write_jsonl(frozen / "questions.jsonl", [])
    ranked = [{"interaction_id": e.interaction_id, "answers": _ranked(e)} for e in made]
    write_jsonl(frozen / "answers.jsonl", ranked)
    write_jsonl(frozen / "regression.jsonl", [
        {"cluster_id": "cl_1", "cluster": "pause · winter", "interactions": [e.interaction_id for e in train[:40]]}
    ])  # fmt: skip
    (frozen / "baseline.json").write_bytes(b"{}\n")
    shutil.copytree(ROOT / "data" / "guidelines", frozen / "guidelines")


def _exchange(chance: Chance, k: int) -> Exchange:
    question, side = chance.text(), "holdout" if k % QUARTER == 0 else "train"
    if k % 50 == 49:
        side = "straddles"
    served = chance.random.choice([a.id for a in CATALOGUE])
    before = (
        [{"role": "user", "content": chance.text()}, {"role": "assistant", "content": chance.text()}]
        if k % 7 == 0
        else []
    )
    return Exchange(
        interaction_id=content_id("ix", chance.word(), k), arrived=NOON + k * 1_000_000, group_id=content_id("gr", question),
        side=side, batch_id=f"bt_{k // 80}", part={"holdout": "audit_holdout", "straddles": "audit_open"}.get(side, ("audit_open",
        "mined")[k % 2]),
        propensity=0.5, session_id=f"s-{k}", user=f"u_{k % 17}", tenant="", ts=NOON + k, language=("en", "en", "de")[k % 3],
        model_version="1", prompt_name="", messages=canonical([*before, {"role": "user", "content": question}]).decode(),
        question=question, response=TEXT[served], outputs="[]",
        contexts=canonical([{"id": "d1", "text": chance.text(10, 20)}, {"id": "d2", "text": chance.text(10, 20)}]).decode(),
        tools="[]",
    )  # fmt: skip


def _answers(chance: Chance, k: int, e: Exchange, wide: int) -> list[Given]:
    """Three people agree."""
    served = next(a.id for a in CATALOGUE if e.response == a.text)
    other = chance.random.choice([a.id for a in CATALOGUE if a.id != served])
    said = {"verdict": "right"} if k % 2 else {"verdict": "wrong", "correction": other}
    values = {"answer": said}
    kinds = list(_VALUES)
    if k % 2 == 0:
        for n in range(wide):
            kind = kinds[(k // 2 + n) % len(kinds)]
            values[kind] = _VALUES[kind](e, k)
    return [
        given(annotation(
            str(k), who, value=value, annotation_id=content_id("an", e.interaction_id, kind, who), interaction_id=e.interaction_id,
            kind=kind, guideline=f"{kind}/1", ts=NOON + k + n, received=0,
        ))
        for kind, value in values.items()
        for n, who in enumerate(PEOPLE)
    ]  # fmt: skip


def _span(text: str, label: str) -> dict[str, Any]:
    word = text.split()[1]
    start = text.index(word)
    return {"start": start, "end": start + len(word), "text": word, "label": label}


def _ranked(e: Exchange) -> list[dict[str, str]]:
    return [{"id": "an_a", "text": e.response}, {"id": "an_b", "text": "Write to us and we look into it at once."}]


_VALUES: dict[str, Any] = {
    "correction": lambda e, k: {"text": f"{e.question}: this is what we do about it."},
    "ranking": lambda e, k: {"ranks": [["an_b"], ["an_a"]], "unacceptable": []},
    "spans": lambda e, k: {"spans": [_span(e.response, "contradicted")] if k // 4 % 3 else []},
    "grounded": lambda e, k: {"grounded": ("grounded", "not_grounded")[k // 28 % 2]},
    "safety": lambda e, k: {"policies": [[], ["privacy"]][k // 28 % 2]},
    "action": lambda e, k: {"action": "escalate", "route": "billing"} if k // 28 % 2 else {"action": "answer"},
    "relevance": lambda e, k: {"grades": {"0": 3, "1": 0}},
    "rubric": lambda e, k: {d: 4 for d in DIMENSIONS},
    "intent": lambda e, k: {"intent": ("question", "complaint")[k // 28 % 2]},
    "sentiment": lambda e, k: {"sentiment": ("negative", "neutral")[k // 28 % 2]},
    "topics": lambda e, k: {"topics": [["billing"], ["billing", "product"]][k // 28 % 2]},
    "entities": lambda e, k: {"entities": [_span(e.question, "product")]},
    "note": lambda e, k: {"note": "Friendly, and a little long."},
}


def _thumb(k: int, e: Exchange) -> Thumb:
    return Thumb(
        feedback_id=content_id("fb", e.interaction_id), interaction_id=e.interaction_id, arrived=e.arrived, user=f"u_{k}",
        tenant="",
        name="thumb", polarity=(1, -1)[k % 2], comment="", ts=e.ts + 10, user_since=e.ts,
    )  # fmt: skip
