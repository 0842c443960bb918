"""evaluate: champion and challenger on the same sealed prompts -> one row a prompt, and the counts that judge needs.

The production detectors run on both models' answers, so that the gate can say which errors got rarer.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
from threadpoolctl import threadpool_limits

from tasks import shards
from tasks.errors import INVALID, Refused
from tasks.examples import HOLDOUT, Evaluation
from tasks.gate.rows import HOLDOUT as PART
from tasks.gate.rows import Compared
from tasks.params import load
from tasks.policy import Policy, Reply, folder_digest, reward
from tasks.policy import load as load_policy
from tasks.records import canonical, digest, write_jsonl
from tasks.signals import SignalParams, detect
from tasks.stages import PARAMS, run


@dataclass(frozen=True, slots=True)
class EvaluateParams:
    detectors: list[str]


def evaluate(dataset: Path, model: Path, champion: Path, rows: Path, report: Path) -> None:
    """Ask both models the holdout's prompts. Raises Refused where there is nothing to ask."""
    params, terms = load(PARAMS, "evaluate", EvaluateParams), load(PARAMS, "signals", SignalParams)
    holdout = shards.read(dataset / "parquet" / HOLDOUT / "evaluation", Evaluation)
    if not holdout:
        raise Refused("the holdout is empty", "wait for more answers: the audit slice fills it", INVALID)
    with threadpool_limits(1):
        old = _ask(load_policy(champion), _reward(champion), holdout, params, terms)
        new = _ask(load_policy(model), _reward(model), holdout, params, terms)
    compared = [
        Compared(
            example_id=h.example_id, group_id=h.group_id, part=PART, audit=False,
            kind=h.kind, topic=h.topic, language=h.language, cluster="", target=h.target,
            champion=o.action or o.text, challenger=n.action or n.text,
            champion_right=_right(o, h), challenger_right=_right(n, h),
            champion_confidence=o.confidence, challenger_confidence=n.confidence,
            champion_signals=o_fired, challenger_signals=n_fired, champion_scores={}, challenger_scores={},
        )
        for h, (o, o_fired), (n, n_fired) in zip(holdout, old, new, strict=True)
    ]  # fmt: skip
    write_jsonl(rows / "rows.jsonl", compared)
    summary = {
        "n": len(compared),
        "holdout_digest": shards.content_digest(dataset / "jsonl" / HOLDOUT / "evaluation"),
        "rows_digest": digest((rows / "rows.jsonl").read_bytes()),
        "champion_digest": folder_digest(champion),
        "challenger_digest": folder_digest(model),
        "champion": _summary(compared, "champion"),
        "challenger": _summary(compared, "challenger"),
    }
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_bytes(canonical(summary) + b"\n")


def _ask(
    policy: Policy,
    judge: reward.RewardModel | None,
    holdout: list[Evaluation],
    params: EvaluateParams,
    terms: SignalParams,
) -> list[tuple[Reply, list[str]]]:
    conversations, contexts, on_offer = (
        [orjson.loads(getattr(h, name)) for h in holdout] for name in ("messages", "contexts", "offered")
    )
    # One call for the prompts with answers on offer, one for those without: a policy sees one kind of question at a time.
    replies: dict[int, Reply] = {}
    for offered in (True, False):
        rows = [k for k in range(len(holdout)) if bool(on_offer[k]) is offered]
        texts = [[o["text"] for o in on_offer[k]] for k in rows] if offered else None
        answered = (
            policy.respond([conversations[k] for k in rows], [contexts[k] for k in rows], 1, texts) if rows else []
        )
        replies.update({k: found[0] for k, found in zip(rows, answered, strict=True)})
    ordered = [replies[k] for k in range(len(holdout))]
    responses = [r.text for r in ordered]
    exchanges = pa.table(
        {
            "interaction_id": [h.example_id for h in holdout],
            "question": [next(m["content"] for m in reversed(c) if m["role"] == "user") for c in conversations],
            "response": responses,
            "contexts": [h.contexts for h in holdout],
            "finish_reason": ["stop"] * len(ordered),
            "confidence": [r.confidence for r in ordered],
            "reward": judge.goodness(conversations, contexts, responses) if judge else [None] * len(ordered),
        }
    )
    fired: dict[str, list[str]] = {}
    for signal in detect(exchanges, params.detectors, terms).to_pylist():
        fired.setdefault(signal["interaction_id"], []).append(signal["detector"])
    return [(r, sorted(fired.get(h.example_id, []))) for r, h in zip(ordered, holdout, strict=True)]


def _right(reply: Reply, row: Evaluation) -> bool:
    """The rated verdict of the text that was picked; or the very text of the right answer."""
    if offered := orjson.loads(row.offered):
        return next(o["right"] for o in offered if o["text"] == reply.text)
    return reply.text.strip() == row.target_text.strip()


def _reward(folder: Path) -> reward.RewardModel | None:
    return reward.RewardModel.load(folder) if reward.is_in(folder) else None


def _summary(compared: list[Compared], who: str) -> dict:
    rows = [asdict(c) for c in compared]
    right = np.array([r[f"{who}_right"] for r in rows], float)
    confidence = np.array([r[f"{who}_confidence"] for r in rows])
    kinds = sorted({r["kind"] for r in rows})
    return {
        "right": round(float(right.mean()), 6),
        "brier": round(float(((confidence - right) ** 2).mean()), 6),
        "right_by_kind": {
            k: [int(sum(r[f"{who}_right"] for r in rows if r["kind"] == k)), sum(r["kind"] == k for r in rows)]
            for k in kinds
        },
        "signals": dict(sorted(Counter(s for r in rows for s in r[f"{who}_signals"]).items())),
    }


def main(argv: list[str] | None = None) -> int:
    return run(evaluate, ("dataset", "model", "champion", "rows", "report"), argv)


if __name__ == "__main__":
    sys.exit(main())
