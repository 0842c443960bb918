"""The model before any label: the first champion, of the kind that `train.policy` names. There is no time without a champion."""

from __future__ import annotations

from tasks.live.labels import catalogue
from tasks.live.workspace import Workspace
from tasks.policy import Policy, TrainParams


def base_model(workspace: Workspace) -> Policy:
    from threadpoolctl import threadpool_limits

    from tasks.policy import answers, reward
    from tasks.policy.encoder import Encoder, EncoderParams

    kind = workspace.params("train", TrainParams).policy
    if kind == "best_of_n":
        return reward.BestOfN(None)
    if kind == "llm":
        return _language_model(workspace)
    with threadpool_limits(1):
        approved = catalogue(workspace)
        encoder = Encoder.fit(answers.described(approved), workspace.params("encoder", EncoderParams).dimensions)
        return answers.base(approved, encoder, workspace.params("answers", answers.AnswersParams))


def _language_model(workspace: Workspace) -> Policy:
    """The model of `llm.base` as it is, before anything was learned."""
    from tasks.policy.llm import LlmParams, check

    params = workspace.params("llm", LlmParams)
    check(params)
    from tasks.policy.llm import training

    return training.untrained(workspace.state / "base", params, workspace.root)
