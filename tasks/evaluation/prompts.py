"""The prompts that both models are asked, and where each comes from: sealed holdout, regression suite, anchors.

    Evaluation row of "how long until the battery is full"  ->  Asked(part="holdout", audit=True, target="battery", …)

Only the holdout decides whether a challenger is better. The regression suite has prompts of failures that were fixed; an anchor
tells what a model must not forget.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from tasks.examples import Evaluation, Regression, Supervised
from tasks.gate.rows import ANCHOR, HOLDOUT, REGRESSION
from tasks.hygiene.anchors import ORIGIN as ANCHORED
from tasks.hygiene.anchors import Anchor
from tasks.hygiene.lots import lot
from tasks.records import Approved

AUDIT = (
    "audit_holdout"  # the part of a batch that is a random sample of all traffic on the holdout side (tasks/select.py)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One prompt. `messages` ends with the user; `offered` are rated texts to choose from ([]: the policy brings its own).

    `target_text` is the right answer's text, `target` its id ('' where it has none). `interaction_id` is '' for an anchor.
    """

    example_id: str
    interaction_id: str
    group_id: str
    part: str
    audit: bool
    kind: str
    topic: str
    language: str
    cluster: str
    messages: list[dict[str, Any]]
    contexts: list[dict[str, Any]]
    target: str
    target_text: str
    offered: list[dict[str, Any]]

    @property
    def question(self) -> str:
        return next((text(m) for m in reversed(self.messages) if m["role"] == "user"), "")


def text(message: Mapping[str, Any]) -> str:
    """What a message says; of content in parts, the texts."""
    content = message.get("content") or ""
    if isinstance(content, list):
        return "\n".join(str(p.get("text", "")) for p in content if isinstance(p, dict))
    return str(content)


def holdout(rows: Sequence[Evaluation], parts: Mapping[str, str], clusters: Sequence[str]) -> list[Asked]:
    """The sealed prompts. `parts`: interaction -> the part of the batch that drew it; `clusters`: of each row, '' none."""
    return [
        Asked(
            example_id=r.example_id, interaction_id=r.interaction_id, group_id=r.group_id, part=HOLDOUT,
            audit=parts.get(r.interaction_id) == AUDIT, kind=r.kind, topic=r.topic, language=r.language, cluster=cluster,
            messages=orjson.loads(r.messages), contexts=orjson.loads(r.contexts), target=r.target, target_text=r.target_text,
            offered=orjson.loads(r.offered),
        )
        for r, cluster in zip(rows, clusters, strict=True)
    ]  # fmt: skip


def regression(rows: Sequence[Regression], catalogue: Sequence[Approved], audited: Collection[str]) -> list[Asked]:
    """The prompts of clusters that were fixed once, each under its cluster."""
    kinds = {a.id: a.kind for a in catalogue}
    return [
        Asked(
            example_id=r.example_id, interaction_id=r.interaction_id, group_id=r.group_id, part=REGRESSION,
            audit=r.interaction_id in audited, kind=kinds.get(r.target, "text"), topic=r.topic, language=r.language,
            cluster=r.cluster_id, messages=orjson.loads(r.messages), contexts=orjson.loads(r.contexts), target=r.target,
            target_text=r.target_text, offered=[],
        )
        for r in rows
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Anchors:
    """The anchors that are asked; how many there are, and how many of them were trained on. `unseen`: whether those asked
    were not."""

    asked: list[Asked]
    known: int
    trained_on: int
    unseen: bool


def anchors(known: Sequence[Anchor], sft: Sequence[Supervised], most: int, key: str) -> Anchors:
    """Anchors that no training row is made of, `most` by lot. Where all were trained on, those: to lose what was just
    taught is forgetting too, and the report says which it was."""
    taught = {r.group_id for r in sft if r.origin == ANCHORED}
    fresh = [a for a in known if f"{ANCHORED}_{a.id}" not in taught]
    some = fresh or list(known)
    chosen = [some[k] for k in sorted(np.argsort(lot([a.id for a in some], key), kind="stable")[:most])]
    return Anchors([_anchor(a) for a in chosen], len(known), len(known) - len(fresh), bool(fresh))


def _anchor(anchor: Anchor) -> Asked:
    *prompt, answer = orjson.loads(anchor.messages)
    return Asked(
        example_id=f"{ANCHORED}_{anchor.id}", interaction_id="", group_id=f"{ANCHORED}_{anchor.id}", part=ANCHOR, audit=False,
        kind="text", topic=anchor.source, language="", cluster="", messages=prompt, contexts=[], target="",
        target_text=text(answer), offered=[],
    )  # fmt: skip
