"""attribute: which groups of training rows made the judged model better or worse -> data/reports/attribution.json.

    {"method": "exact", "rows": [{"by": "annotator", "group": "gus", "rows": 61, "probability": -0.008, "verdict": "hurt", …}, …]}

A leaf: nothing depends on it, and it stops no turn. "exact": the model was fitted again; "gradients": of a language model what its
gradients say, without a unit; "none": a policy for which there is neither, and why. People stand under the names that
data/reports/curate.json has them by; clusters under their ids.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from tasks import shards
from tasks.attribution import AttributeParams, attribute, groups
from tasks.attribution_light import again, answerable
from tasks.evaluation import likeness
from tasks.evaluation.prompts import text
from tasks.examples import HOLDOUT, TRAIN, Evaluation, Example, Preference, Supervised
from tasks.fates import TaxonomyParams
from tasks.frozen import Curated, CuratedJudgement
from tasks.hygiene.lots import lot
from tasks.params import load
from tasks.policy import TrainParams, answers, folder_digest, light, reward
from tasks.policy import load as load_policy
from tasks.policy.encoder import Encoder, EncoderParams
from tasks.records import canonical, read_jsonl
from tasks.stages import PARAMS, run

RETRAINED = ("answers", "best_of_n")
LLM = "llm"
MOST_ROWS, MOST_PROMPTS = 2000, 300  # whose gradients are taken, by lot: each costs about what a step of training with one row does
NO_WAY = "the weights of a {} model are elsewhere: it can't be fitted again without each group, and has no gradients here"


def attribution(frozen: Path, curated: Path, dataset: Path, model: Path, report: Path) -> None:
    """Fit the judged model again without each of the largest groups, and tell what each did."""
    training = load(PARAMS, "train", TrainParams)
    params, taxonomy = load(PARAMS, "attribute", AttributeParams), load(PARAMS, "taxonomy", TaxonomyParams)
    document: dict[str, Any] = {"policy": training.policy, "challenger_digest": folder_digest(model), "rows": []}
    if training.policy not in (*RETRAINED, LLM):
        document |= {"method": "none", "reason": NO_WAY.format(training.policy)}
    else:
        try:
            if training.policy == LLM:
                document |= _gradients(frozen, curated, dataset, model, params, taxonomy.alike)
            else:
                document |= _exact(frozen, curated, dataset, model, _light(training), params, taxonomy.alike)
        except Exception as e:  # a promotion does not wait for an explanation; what went wrong is told in its place
            print(f"attribution failed: {e!r}", file=sys.stderr)
            document |= {"method": "none", "reason": f"it failed: {type(e).__name__}: {e}"[:500]}
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_bytes(canonical(document) + b"\n")


def _light(training: TrainParams) -> light.LightParams:
    return light.LightParams(
        training.policy,
        training.copies,
        load(PARAMS, "encoder", EncoderParams),
        load(PARAMS, "answers", answers.AnswersParams),
        load(PARAMS, "reward", reward.RewardParams),
        load(PARAMS, "guard", reward.GuardParams),
    )


def _exact(
    frozen: Path,
    curated: Path,
    dataset: Path,
    model: Path,
    training: light.LightParams,
    params: AttributeParams,
    alike: float,
) -> dict[str, Any]:
    lessons = light.read(frozen, dataset)
    sealed = answerable(lessons, shards.read(dataset / "parquet" / HOLDOUT / "evaluation", Evaluation), training.policy)
    tables = {"preference": lessons.preference} | ({} if training.policy == light.BEST_OF_N else {"sft": lessons.sft})
    every = {x.example_id for rows in tables.values() for x in rows}
    if not every or not sealed or not (model / "encoder.safetensors").is_file():
        return {"method": "none", "reason": "nothing was learned from rows, or nothing sealed can show it"}
    temperature = next(read_jsonl(model / "policy.json")).get("temperature")
    refit = again(lessons, sealed, training, Encoder.load(model), temperature)
    chosen = groups(_dimensions(frozen, curated, tables, alike), every, params)
    found = attribute(refit, chosen, every, [r.group_id for r in sealed], params)
    return {"method": "exact", "prompts": len(sealed), "rows": [asdict(a) for a in found]}


def _gradients(
    frozen: Path, curated: Path, dataset: Path, model: Path, params: AttributeParams, alike: float
) -> dict[str, Any]:
    policy = load_policy(model)
    from tasks.attribution_llm import similar  # torch

    tables: dict[str, list] = {
        name: shards.read(dataset / "parquet" / TRAIN / name, row)
        for name, row in (("sft", Supervised), ("preference", Preference))
    }
    drawn = _drawn([x.example_id for rows in tables.values() for x in rows], MOST_ROWS, params.key)
    tables = {name: [x for x in rows if x.example_id in drawn] for name, rows in tables.items()}
    sealed = [r for r in shards.read(dataset / "parquet" / HOLDOUT / "evaluation", Evaluation) if r.target_text]
    asked = _drawn([r.example_id for r in sealed], MOST_PROMPTS, params.key)
    sealed = [r for r in sealed if r.example_id in asked]
    if not drawn or not sealed:
        return {"method": "none", "reason": "nothing was learned from rows, or nothing sealed can show it"}
    chosen = groups(_dimensions(frozen, curated, tables, alike), drawn, params)
    refit = similar(policy, tables["sft"], tables["preference"], sealed)
    found = attribute(refit, chosen, drawn, [r.group_id for r in sealed], params)
    return {"method": "gradients", "prompts": len(sealed), "rows": [asdict(a) for a in found]}


def _drawn(ids: Sequence[str], most: int, key: str) -> set[str]:
    return {ids[k] for k in np.argsort(lot(ids, key), kind="stable")[:most]}


def _dimensions(frozen: Path, curated: Path, tables: dict[str, Any], alike: float) -> dict[str, dict[str, set[str]]]:
    """{by: {value: ids of rows}}: who answered, which failures a row is about, how and by which guideline it was made,
    its topic."""
    rows = [(name, row) for name, of in tables.items() for row in of]
    people = _annotators(curated)
    known = likeness.read(frozen / "clusters.jsonl")
    questions = [_question(row) for _, row in rows]
    ordinary = [r["question"] for r in read_jsonl(frozen / "questions.jsonl")]
    clusters = likeness.clusters_of(questions, known, ordinary, alike)
    at = {row.example_id: cluster for (_, row), cluster in zip(rows, clusters, strict=True)}
    values: dict[str, Callable[[str, Example], Iterable[str]]] = {
        "cluster": lambda _, row: [at[row.example_id]],
        "annotator": lambda _, row: people.get(row.interaction_id, ()),
        "source": lambda table, row: [f"{table}/{row.origin}"],
        "guideline": lambda _, row: [row.guideline],
        "topic": lambda _, row: [row.topic],
    }
    made: dict[str, dict[str, set[str]]] = {by: {} for by in values}
    for by, of in values.items():
        for table, row in rows:
            for value in of(table, row):
                made[by].setdefault(value, set()).add(row.example_id)
    return made


def _annotators(curated: Path) -> dict[str, set[str]]:
    """Who answered about each interaction."""
    found: dict[str, set[str]] = {}
    for table, row in (("labels", Curated), ("judgements", CuratedJudgement)):
        for file in shards.files(curated / table):
            some = shards.one(file, row, ["interaction_id", "annotators"])
            for i, names in zip(some["interaction_id"].to_pylist(), some["annotators"].to_pylist(), strict=True):
                found.setdefault(i, set()).update(orjson.loads(names))
    return found


def _question(row: Any) -> str:
    messages = orjson.loads(row.messages if hasattr(row, "messages") else row.prompt)
    return next((text(m) for m in reversed(messages) if m["role"] == "user"), "")


def main(argv: list[str] | None = None) -> int:
    return run(attribution, ("frozen", "curated", "dataset", "model", "report"), argv)


if __name__ == "__main__":
    sys.exit(main())
