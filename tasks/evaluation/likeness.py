"""Which cluster of failures a question belongs to: the known cluster whose exemplars it is most like, if it is like them enough.

"pause it over the winter"  ->  "fc_5c0…"  ("pause · over · winter")        "write me a poem"  ->  ""
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.records import read_jsonl
from tasks.taxonomy import likeness


@dataclass(frozen=True, slots=True)
class Known:
    """A cluster as it is frozen: its exemplars are {"interaction_id", "text"}."""

    cluster_id: str
    name: str
    state: str
    exemplars: list[dict[str, Any]]


def read(path: Path) -> list[Known]:
    return [Known(**row) for row in read_jsonl(path)]


def clusters_of(questions: Sequence[str], known: Sequence[Known], ordinary: Sequence[str], alike: float) -> list[str]:
    """The cluster id of each question, '' where it is like none. `alike`: the mean cosine from which it is
    (taxonomy.alike); `ordinary`: questions of all traffic, which tell what words mean little."""
    told = [k for k in known if k.exemplars]
    if not questions or not told:
        return [""] * len(questions)
    like = likeness(questions, [[e["text"] for e in k.exemplars] for k in told], ordinary)
    best = like.argmax(axis=1)
    near = like[np.arange(len(questions)), best] >= alike
    return [told[k].cluster_id if is_near else "" for k, is_near in zip(best.tolist(), near.tolist(), strict=True)]
