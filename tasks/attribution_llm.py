"""About what a language model would be without some rows: not fitted again, but read off its gradients.

    refit = similar(policy, sft, preference, sealed)
    refit({"ex_1", "ex_2"}).probability[0]  ->  -0.004      the right answer to prompt 0 would be less likely without these rows

A row helps a sealed prompt as far as it points where the right answer does (tasks/policy/llm/gradients.py); of a pair, the chosen
answer less the rejected one. Effects of rows add up. What comes out has no unit: its sign, and how it compares with random rows
of that number, are what it says; and of rows that the model has not learned yet it says little.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import orjson

from tasks.attribution import Answers, Refit
from tasks.examples import Evaluation, Preference, Supervised
from tasks.policy.llm.gradients import directions
from tasks.policy.llm.policy import LlmPolicy


def similar(
    policy: LlmPolicy, sft: Sequence[Supervised], preference: Sequence[Preference], sealed: Sequence[Evaluation]
) -> Refit:
    """How the right answers to the sealed prompts (each with a `target_text`) would fare without some rows."""
    asked, right = [orjson.loads(r.messages) for r in sealed], [r.target_text for r in sealed]
    wanted = directions(policy, asked, right)
    talks = [orjson.loads(x.messages) for x in sft]
    taught = directions(policy, [t[:-1] for t in talks], [t[-1]["content"] for t in talks])
    prompts = [orjson.loads(x.prompt) for x in preference]
    chosen, rejected = (
        directions(policy, prompts, [orjson.loads(text)[0]["content"] for text in texts])
        for texts in ([x.chosen for x in preference], [x.rejected for x in preference])
    )
    ids = [x.example_id for x in (*sft, *preference)]
    helps = wanted @ np.vstack([taught, chosen - rejected]).T / max(len(ids), 1)  # (prompts, rows)

    def refit(without: Collection[str]) -> Answers:
        gone = np.array([i in without for i in ids], bool)
        return Answers(None, -helps[:, gone].sum(axis=1, dtype=float))

    return refit
