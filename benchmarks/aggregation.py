"""Aggregation: the loop's one-coin model against crowd-kit's, in one run: seconds, and right labels.

python -m benchmarks.aggregation     1,800 answers of six people over 70 classes (as a demo batch), simulated with a seed
"""

from __future__ import annotations

import time
import warnings

import numpy as np

from tasks.agreement import AgreementParams, aggregate
from tasks.records import Annotation

SKILLS = {"ada": 0.97, "bruno": 0.96, "chiara": 0.95, "dmitri": 0.93, "emeka": 0.90, "fritz": 0.55}
INTERACTIONS, CLASSES, OVERLAP = 600, 70, 3


def simulated(seed: int) -> tuple[list[tuple[str, str, str]], dict[str, str]]:
    """(interaction, person, answer) triples and the truth."""
    random = np.random.default_rng(seed)
    votes, truth = [], {}
    for i in range(INTERACTIONS):
        right = int(random.integers(CLASSES))
        truth[f"i{i}"] = f"c{right}"
        for person in random.choice(list(SKILLS), OVERLAP, replace=False):
            said = right if random.random() < SKILLS[person] else int(random.integers(CLASSES))
            votes.append((f"i{i}", str(person), f"c{said}"))
    return votes, truth


def main() -> None:
    votes, truth = simulated(1)
    annotations = [Annotation(f"{i}{p}", "b", i, p, "wrong", a, "", "", 0, "") for i, p, a in votes]
    started = time.perf_counter()
    labels = aggregate(annotations, {}, AgreementParams(2, 0.7)).labels
    ours = time.perf_counter() - started
    right = float(np.mean([x.target == truth[x.interaction_id] for x in labels]))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pandas as pd
        from crowdkit.aggregation import MajorityVote, OneCoinDawidSkene

        table = pd.DataFrame(votes, columns=["task", "worker", "label"])
        started = time.perf_counter()
        theirs_labels = OneCoinDawidSkene(n_iter=100).fit_predict(table)
        theirs = time.perf_counter() - started
        majority = MajorityVote().fit_predict(table)
    print(f"{'':<22}seconds  right labels   ({len(votes)} answers, {CLASSES} classes)")
    print(f"{'flywheel one-coin':<22}{ours:>7.3f}  {right:>12.1%}   (with Krippendorff's alpha)")
    print(
        f"{'crowd-kit one-coin':<22}{theirs:>7.3f}  {float(np.mean([theirs_labels[t] == truth[t] for t in truth])):>12.1%}"
    )
    print(f"{'majority':<22}{'':>7}  {float(np.mean([majority[t] == truth[t] for t in truth])):>12.1%}")
    print(f"crowd-kit takes {theirs / ours:.0f} times as long")


if __name__ == "__main__":
    main()
