"""train: dataset -> model folder. Which policy is a parameter; a reward model is trained beside it where pairs allow."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import orjson
from threadpoolctl import threadpool_limits

from tasks import shards
from tasks.errors import Refused
from tasks.examples import TRAIN, Preference, Supervised
from tasks.params import load
from tasks.policy import KINDS, TrainParams, answers, folder_digest, reward
from tasks.policy.encoder import Encoder, EncoderParams
from tasks.records import Approved, canonical, read_jsonl, read_records
from tasks.stages import PARAMS, run


def train(frozen: Path, dataset: Path, model: Path, report: Path) -> None:
    """Train the challenger from the base model on everything that is labelled. One thread: equal bytes on every run."""
    params = load(PARAMS, "train", TrainParams)
    if params.policy not in KINDS:
        raise Refused(f"params.yaml: train.policy is {params.policy!r}", f"one of {', '.join(KINDS)}")
    catalogue = read_records(frozen / "catalogue.jsonl", Approved)
    questions = [row["question"] for row in read_jsonl(frozen / "questions.jsonl")]
    sft = shards.read(dataset / "parquet" / TRAIN / "sft", Supervised)
    preference = shards.read(dataset / "parquet" / TRAIN / "preference", Preference)
    shutil.rmtree(model, ignore_errors=True)
    with threadpool_limits(1):
        answered = [text for p in preference for text in (_text(p.chosen), _text(p.rejected))]
        texts = [*answers.described(catalogue), *questions, *dict.fromkeys(answered)]
        encoder = Encoder.fit(texts, load(PARAMS, "encoder", EncoderParams).dimensions)
        judge = _reward(encoder, preference)
        if params.policy == "best_of_n":
            policy, temperature = reward.BestOfN(judge), None
        else:
            policy = _answers(catalogue, encoder, sft, preference, params.copies)
            temperature = policy.temperature
            if judge is not None:
                policy = reward.Guarded(policy, judge, load(PARAMS, "guard", reward.GuardParams))
        policy.save(model)
    summary = {
        "policy": params.policy,
        "sft": len(sft),
        "preference": len(preference),
        "questions": len(questions),
        "reward_model": judge is not None,
        "temperature": temperature,
        "digest": folder_digest(model),
    }
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_bytes(canonical(summary) + b"\n")


def _answers(
    catalogue: list[Approved], encoder: Encoder, sft: list[Supervised], preference: list[Preference], copies: int
) -> answers.AnswersPolicy:
    """What was asked more often weighs more, up to a point: doubles were collapsed, their number was not."""
    known = {a.id for a in catalogue}
    taught = [
        answers.Taught(orjson.loads(x.messages)[:-1], x.action, x.weight * min(x.copies, copies), x.group_id)
        for x in sft
        if x.action in known
    ]
    preferred = [
        answers.Preferred(orjson.loads(x.prompt), x.chosen_action, x.rejected_action)
        for x in preference
        if x.chosen_action in known and x.rejected_action in known
    ]
    return answers.train(catalogue, encoder, taught, preferred, load(PARAMS, "answers", answers.AnswersParams))


def _reward(encoder: Encoder, preference: list[Preference]) -> reward.RewardModel | None:
    """The reward model, or None where there are too few pairs to learn one."""
    params = load(PARAMS, "reward", reward.RewardParams)
    if len(preference) < params.min_pairs:
        return None
    pairs = [
        reward.Pair(orjson.loads(x.prompt), orjson.loads(x.contexts), _text(x.chosen), _text(x.rejected)) for x in preference
    ]
    return reward.train(pairs, encoder, params)


def _text(messages: str) -> str:
    return orjson.loads(messages)[0]["content"]


def main(argv: list[str] | None = None) -> int:
    return run(train, ("frozen", "dataset", "model", "report"), argv)


if __name__ == "__main__":
    sys.exit(main())
