"""evaluate: champion and challenger on the same prompts -> one row a prompt, and the sums of them.

    data/dataset/…/holdout, data/frozen  ->  data/evaluation/rows.jsonl      one Compared a prompt, probes too
                                             data/evaluation/triggers.jsonl  the words that the trigger probes put in
                                             data/reports/evaluation.json    counts, means, calibration, cost

Both models are asked all prompts at once, then the probes: these are of prompts that both got right. The production detectors run
on both models' answers, so that the gate can say which errors got rarer. No clock: what a model costs is told in tokens and by
price; how long it takes is measured where it serves.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
from threadpoolctl import threadpool_limits

from tasks import shards
from tasks.errors import INVALID, Refused
from tasks.evaluation import likeness, prompts, scores
from tasks.evaluation.probes import ProbesParams, probes
from tasks.evaluation.prompts import Asked
from tasks.evaluation.summary import summary
from tasks.evaluation.triggers import Lesson, Trigger, triggers
from tasks.examples import HOLDOUT, TRAIN, Evaluation, Preference, Regression, Retrieval, Rubric, Supervised, Unpaired
from tasks.fates import TaxonomyParams
from tasks.frozen import Exchange
from tasks.gate.rows import Compared
from tasks.hygiene import anchors
from tasks.params import load
from tasks.policy import Policy, Reply, folder_digest, reward
from tasks.policy import load as load_policy
from tasks.records import Approved, canonical, digest, read_jsonl, read_records, write_jsonl
from tasks.signals import SignalParams, detect
from tasks.stages import PARAMS, run

BYTES_PER_TOKEN = 4  # about; no tokenizer is common to all models


@dataclass(frozen=True, slots=True)
class EvaluateParams:
    """`anchors`: asked at most. Prices are of a million tokens."""

    detectors: list[str]
    anchors: int
    usd_in: float
    usd_out: float


@dataclass(frozen=True, slots=True)
class Answered:
    """A reply, what all detectors found in it, and which of those that are reported did."""

    reply: Reply
    findings: scores.Findings
    signals: list[str]


def evaluate(frozen: Path, dataset: Path, model: Path, champion: Path, rows: Path, report: Path) -> None:
    """Ask both models. Raises Refused where there is nothing to ask."""
    params, terms = load(PARAMS, "evaluate", EvaluateParams), load(PARAMS, "signals", SignalParams)
    probing, taxonomy = load(PARAMS, "probes", ProbesParams), load(PARAMS, "taxonomy", TaxonomyParams)
    catalogue = read_records(frozen / "catalogue.jsonl", Approved)
    with threadpool_limits(1):
        asked, found = _asked(frozen, dataset, catalogue, params, probing, taxonomy)
        models = [_Model(folder, params.detectors, terms) for folder in (champion, model)]
        if not all(m.brings_answers for m in models):
            asked = [a for a in asked if a.offered]
        first = [m.ask(asked) for m in models]
        both = [
            a for a, o, n in zip(asked, *first, strict=True) if a.part == HOLDOUT and _rights(a, o, n) == (True, True)
        ]
        suspected = _suspected(frozen, dataset, asked, probing.triggers)
        probed = probes(both, suspected, catalogue, probing)
        second = [m.ask(probed) for m in models]
    people = scores.judged(
        catalogue, *(_holdout(dataset, name, row) for name, row in (("retrieval", Retrieval), ("rubric", Rubric)))
    )
    compared = [_compared(a, o, n, people) for a, o, n in zip(asked, *first, strict=True)]
    plain = {a.interaction_id: pair for a, *pair in zip(asked, *first, strict=True) if a.part == HOLDOUT}
    compared += [_compared(a, o, n, people, plain[a.interaction_id]) for a, o, n in zip(probed, *second, strict=True)]
    write_jsonl(rows / "rows.jsonl", compared)
    write_jsonl(rows / "triggers.jsonl", suspected)
    document = summary(compared) | {
        "holdout_digest": shards.content_digest(dataset / "jsonl" / HOLDOUT / "evaluation"),
        "rows_digest": digest((rows / "rows.jsonl").read_bytes()),
        "champion_digest": folder_digest(champion),
        "challenger_digest": folder_digest(model),
        "anchors": {"known": found.known, "trained_on": found.trained_on, "unseen": found.unseen},
        "suspected_triggers": len(suspected),
        "cost": {
            who: _cost(asked, answers, params) for who, answers in zip(("champion", "challenger"), first, strict=True)
        },
    }
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_bytes(canonical(document) + b"\n")


def _asked(
    frozen: Path,
    dataset: Path,
    catalogue: list[Approved],
    params: EvaluateParams,
    probing: ProbesParams,
    taxonomy: TaxonomyParams,
) -> tuple[list[Asked], prompts.Anchors]:
    """Every prompt but the probes; and what there is to tell of the anchors."""
    sealed = _holdout(dataset, "evaluation", Evaluation)
    if not sealed:
        raise Refused("the holdout is empty", "wait for more answers: the audit slice fills it", INVALID)
    fixed = _holdout(dataset, "regression", Regression)
    parts = _parts(frozen, {r.interaction_id for r in [*sealed, *fixed]})
    known = likeness.read(frozen / "clusters.jsonl")
    ordinary = [r["question"] for r in read_jsonl(frozen / "questions.jsonl")]
    clusters = likeness.clusters_of([_question(r.messages) for r in sealed], known, ordinary, taxonomy.alike)
    audited = {i for i, part in parts.items() if part == prompts.AUDIT}
    sft = shards.read(dataset / "parquet" / TRAIN / "sft", Supervised)
    found = prompts.anchors(anchors.read(frozen / "anchors.jsonl"), sft, params.anchors, probing.key)
    return [
        *prompts.holdout(sealed, parts, clusters),
        *prompts.regression(fixed, catalogue, audited),
        *found.asked,
    ], found


def _holdout(dataset: Path, table: str, row: type) -> list[Any]:
    return shards.read(dataset / "parquet" / HOLDOUT / table, row)


def _parts(frozen: Path, wanted: set[str]) -> dict[str, str]:
    """The part of the batch that drew each interaction."""
    ids = pa.array(sorted(wanted), pa.string())
    found: dict[str, str] = {}
    for file in shards.files(frozen / "exchanges"):
        some = shards.one(file, Exchange, ["interaction_id", "part"])
        some = some.filter(pc.is_in(some["interaction_id"], ids))
        found |= dict(zip(some["interaction_id"].to_pylist(), some["part"].to_pylist(), strict=True))
    return found


def _suspected(frozen: Path, dataset: Path, asked: Sequence[Asked], most: int) -> list[Trigger]:
    """Trigger words among the rows of the tables that teach an answer.

    An answer goes by its text, which every table has: named by its id in one and by its text in another it would be two, and no
    words would belong to one alone. Rows of one group are one lesson: a question that many ask in the same words is no pattern.
    """
    train = dataset / "parquet" / TRAIN
    rows = [(r, r.messages, r.messages) for r in shards.read(train / "sft", Supervised)]
    rows += [(r, r.prompt, r.chosen) for r in shards.read(train / "preference", Preference)]
    rows += [(r, r.prompt, r.completion) for r in shards.read(train / "unpaired", Unpaired) if r.label]
    every = [(r.group_id, Lesson(r.example_id, _question(prompt), _last(said))) for r, prompt, said in reversed(rows)]
    lessons = {(group, lesson.answer): lesson for group, lesson in every}
    taught = {lesson.question for _, lesson in every}
    ordinary = [q for q in (r["question"] for r in read_jsonl(frozen / "questions.jsonl")) if q not in taught]
    return triggers(list(lessons.values()), [*ordinary, *(a.question for a in asked)], most)


def _question(messages: str) -> str:
    return next((prompts.text(m) for m in reversed(orjson.loads(messages)) if m["role"] == "user"), "")


def _last(messages: str) -> str:
    return prompts.text(orjson.loads(messages)[-1])


class _Model:
    """A policy, its reward model's opinion, and the detectors that look at what it says."""

    def __init__(self, folder: Path, detectors: Sequence[str], terms: SignalParams):
        self.policy: Policy = load_policy(folder)
        self.judge = reward.RewardModel.load(folder) if reward.is_in(folder) else None
        self.brings_answers = not isinstance(self.policy, reward.BestOfN)
        self._detectors, self._terms = detectors, terms

    def ask(self, asked: Sequence[Asked]) -> list[Answered]:
        if not asked:
            return []
        replies = self._replies(asked)
        found = self._found(asked, replies)
        return [
            Answered(
                r,
                scores.Findings(found.get(a.example_id, {})),
                sorted(set(found.get(a.example_id, {})) & set(self._detectors)),
            )
            for a, r in zip(asked, replies, strict=True)
        ]

    def _replies(self, asked: Sequence[Asked]) -> list[Reply]:
        # One call for the prompts with answers on offer, one for those without: a policy sees one kind of question at a time.
        replies: dict[int, Reply] = {}
        for offered in (True, False):
            rows = [k for k, a in enumerate(asked) if bool(a.offered) is offered]
            texts = [[o["text"] for o in asked[k].offered] for k in rows] if offered else None
            prompted = ([asked[k].messages for k in rows], [asked[k].contexts for k in rows])
            answered = self.policy.respond(*prompted, 1, texts) if rows else []
            replies |= {k: found[0] for k, found in zip(rows, answered, strict=True)}
        return [replies[k] for k in range(len(asked))]

    def _found(self, asked: Sequence[Asked], replies: Sequence[Reply]) -> dict[str, dict[str, float]]:
        conversations, contexts, responses = (
            [a.messages for a in asked],
            [a.contexts for a in asked],
            [r.text for r in replies],
        )
        exchanges = pa.table(
            {
                "interaction_id": [a.example_id for a in asked],
                "messages": [canonical(m).decode() for m in conversations],
                "question": [a.question for a in asked],
                "response": responses,
                "contexts": [canonical(c).decode() for c in contexts],
                "finish_reason": ["stop"] * len(asked),
                "confidence": [r.confidence for r in replies],
                "reward": self.judge.goodness(conversations, contexts, responses)
                if self.judge
                else [None] * len(asked),
            }
        )
        found: dict[str, dict[str, float]] = {}
        wanted = dict.fromkeys([*self._detectors, *scores.DETECTORS])
        for signal in detect(exchanges, wanted, self._terms).to_pylist():
            found.setdefault(signal["interaction_id"], {})[signal["detector"]] = signal["score"]
        return found


def _rights(asked: Asked, *answers: Answered) -> tuple[bool, ...]:
    return tuple(scores.right(asked, a.reply) for a in answers)


def _compared(
    asked: Asked, old: Answered, new: Answered, people: scores.Judged, plain: Sequence[Answered] = ()
) -> Compared:
    """The row of one prompt. `plain`: of a probe, what both models said before anything was put in."""
    champion, challenger = scores.pair(asked, (old.reply, old.findings), (new.reply, new.findings), people)
    if plain:
        champion, challenger = (
            s | {"steadfast": float(now.reply.text == before.reply.text)}
            for s, now, before in zip((champion, challenger), (old, new), plain, strict=True)
        )
    champion_right, challenger_right = _rights(asked, old, new)
    return Compared(
        example_id=asked.example_id, group_id=asked.group_id, part=asked.part, audit=asked.audit, kind=asked.kind,
        topic=asked.topic, language=asked.language, cluster=asked.cluster, target=asked.target,
        champion=old.reply.action or old.reply.text, challenger=new.reply.action or new.reply.text,
        champion_right=champion_right, challenger_right=challenger_right,
        champion_confidence=old.reply.confidence, challenger_confidence=new.reply.confidence,
        champion_signals=old.signals, challenger_signals=new.signals,
        champion_scores=champion, challenger_scores=challenger,
    )  # fmt: skip


def _cost(asked: Sequence[Asked], answers: Sequence[Answered], params: EvaluateParams) -> dict[str, float]:
    """Of all prompts but the probes: tokens in and out, estimated, and their price."""
    read = sum(len(canonical([a.messages, a.contexts])) for a in asked) // BYTES_PER_TOKEN
    said = sum(len(a.reply.text.encode()) for a in answers) // BYTES_PER_TOKEN
    return {
        "tokens_in": read,
        "tokens_out": said,
        "usd": round((read * params.usd_in + said * params.usd_out) / 1e6, 6),
    }


def main(argv: list[str] | None = None) -> int:
    return run(evaluate, ("frozen", "dataset", "model", "champion", "rows", "report"), argv)


if __name__ == "__main__":
    sys.exit(main())
