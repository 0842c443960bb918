"""train: dataset -> model folder. Which policy is trained, and how, is a parameter (`train.policy`).

The folder is all that follows needs to know.

`checkpoints` is a folder that outlives a killed stage: a long training goes on from there. It is no output, and equal inputs give
equal models with it or without.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tasks.errors import Refused
from tasks.params import load
from tasks.policy import KINDS, Trained, TrainParams, advisor, answers, command, folder_digest, light, reward
from tasks.policy.advisor import AdviseParams
from tasks.policy.command import CommandParams
from tasks.policy.encoder import EncoderParams
from tasks.policy.llm import LlmParams, needed
from tasks.policy.provider import training as provider
from tasks.policy.provider.orders import ProviderParams
from tasks.records import canonical
from tasks.stages import PARAMS, run


def train(frozen: Path, dataset: Path, model: Path, checkpoints: Path, curves: Path, report: Path) -> None:
    """Train the challenger from the base model on everything that is labelled."""
    params = load(PARAMS, "train", TrainParams)
    if params.policy not in KINDS:
        raise Refused(f"params.yaml: train.policy is {params.policy!r}", f"one of {', '.join(KINDS)}")
    if params.policy != "llm":
        shutil.rmtree(model, ignore_errors=True)
    if params.policy == "llm":
        trained = _llm(dataset, model, checkpoints, params)
    elif params.policy == "provider":
        trained = _provider(frozen, dataset, model, checkpoints)
    elif params.policy == "command":
        trained = command.train(frozen, dataset, model, checkpoints, load(PARAMS, "command", CommandParams))
    else:
        trained = _light(frozen, dataset, model, params)
    report.parent.mkdir(parents=True, exist_ok=True)
    curves.write_text("".join(["step,metric,value\n", *(f"{c.step},{c.metric},{c.value:.6g}\n" for c in trained.curves)]))
    summary = {"policy": params.policy, **trained.summary, "digest": folder_digest(model)}
    report.write_bytes(canonical(summary) + b"\n")


def _light(frozen: Path, dataset: Path, model: Path, params: TrainParams) -> Trained:
    lessons = light.read(frozen, dataset)
    fitted = light.fit(
        lessons,
        light.LightParams(
            params.policy,
            params.copies,
            load(PARAMS, "encoder", EncoderParams),
            load(PARAMS, "answers", answers.AnswersParams),
            load(PARAMS, "reward", reward.RewardParams),
            load(PARAMS, "guard", reward.GuardParams),
        ),
    )
    fitted.policy.save(model)
    summary = {
        "sft": len(lessons.sft),
        "preference": len(lessons.preference),
        "questions": len(lessons.questions),
        "reward_model": fitted.judge is not None,
        "temperature": fitted.temperature,
    }
    return Trained(summary, ())


def _llm(dataset: Path, model: Path, checkpoints: Path, params: TrainParams) -> Trained:
    """The model before stays where it is until the new one is whole: this can take hours, and fail."""
    settings = load(PARAMS, "llm", LlmParams)
    needed()
    from tasks.policy.llm import training

    return training.train(dataset, model, checkpoints, settings, params.copies)


def _provider(frozen: Path, dataset: Path, model: Path, checkpoints: Path) -> Trained:
    params, advise = load(PARAMS, "provider", ProviderParams), load(PARAMS, "advise", AdviseParams)
    needed = {"supervised": "sft", "dpo": "dpo"}
    advisor.refuse_too_few(advisor.read(dataset, advise), advise, {needed[s] for s in params.steps if s in needed})
    return provider.train(frozen / "catalogue.jsonl", dataset, model, checkpoints, params)


def main(argv: list[str] | None = None) -> int:
    return run(train, ("frozen", "dataset", "model", "checkpoints", "curves", "report"), argv)


if __name__ == "__main__":
    sys.exit(main())
