"""Which interactions go to people: a random audit of all traffic, and the likeliest errors, of every kind.

    1,500 interactions, budget 300  ->  60 audit_holdout + 60 audit_open (random) + 180 mined, each with its propensity

The audit is a stratified random sample: one stratum is the holdout side of the wall, which also grows the sealed
holdout, the other is everything else. Mined candidates come from the training side only: a holdout picked because the
champion fails on it would flatter every challenger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tasks.clusters import cluster
from tasks.estimate import Precision
from tasks.records import Candidate, Signal, canonical, content_id
from tasks.split import HOLDOUT, TRAIN

AUDIT_HOLDOUT, AUDIT_OPEN, MINED, NOT_SENT = "audit_holdout", "audit_open", "mined", ""


@dataclass(frozen=True, slots=True)
class SelectParams:
    budget: int
    audit_holdout: int
    audit_open: int
    min_window: int
    per_group: int
    per_cluster: int
    prior_precision: float
    prior_strength: float
    seed: int


@dataclass(frozen=True, slots=True)
class Pooled:
    """An interaction that may be sent: its side of the wall, its group, its question and what the detectors found.

    One that is not `in_window` was passed over before and has drawn a complaint since: it may be mined, not audited.
    """

    interaction_id: str
    group_id: str
    side: str
    question: str
    in_window: bool
    signals: tuple[Signal, ...]


def select(pool: Sequence[Pooled], precision: Mapping[str, Precision], params: SelectParams) -> list[Candidate]:
    """Choose a batch from the window. Gives one row per interaction of the window, sent or not, with its propensity."""
    pool = sorted(pool, key=lambda p: p.interaction_id)
    # The window itself seeds the draw: the same window gives the same batch, and nobody can re-roll it.
    window_id = content_id("bt", params.seed, [p.interaction_id for p in pool])
    random = np.random.default_rng([params.seed, int(window_id[3:15], 16)])
    rows = [_row(p, window_id, precision, params) for p in pool]

    for part, wanted, inside in (
        (AUDIT_HOLDOUT, params.audit_holdout, lambda p: p.side == HOLDOUT),
        (AUDIT_OPEN, params.audit_open, lambda p: p.side != HOLDOUT),
    ):
        stratum = [i for i, p in enumerate(pool) if p.in_window and inside(p)]
        drawn = random.choice(stratum, size=min(wanted, len(stratum)), replace=False) if stratum else []
        share = len(drawn) / len(stratum) if stratum else 0.0
        for i in stratum:
            rows[i] = replace(rows[i], window=len(stratum), propensity=round(share, 9))
        for i in drawn:
            rows[i] = replace(rows[i], part=part)

    left = params.budget - sum(1 for r in rows if r.part)
    for i, propensity, cluster_number in _mined(pool, rows, left, params, random):
        rows[i] = replace(rows[i], part=MINED, propensity=round(propensity, 9), cluster=cluster_number)
    return rows


def suspicion(signals: Sequence[Signal], precision: Mapping[str, Precision], params: SelectParams) -> float:
    """The probability that at least one firing detector is right, each with its measured precision, as if independent."""
    innocent = 1.0
    for signal in signals:
        known = precision.get(signal.detector)
        innocent *= 1.0 - signal.score * (known.precision if known else params.prior_precision)
    return 1.0 - innocent


def _row(pooled: Pooled, window_id: str, precision: Mapping[str, Precision], params: SelectParams) -> Candidate:
    strongest = {s.detector: s for s in sorted(pooled.signals, key=lambda s: s.score)}
    reason = canonical({d: [s.score, s.evidence] for d, s in strongest.items()}).decode()
    return Candidate(
        candidate_id=content_id("cd", window_id, pooled.interaction_id),
        batch_id=window_id,
        interaction_id=pooled.interaction_id,
        part=NOT_SENT,
        side=pooled.side,
        propensity=0.0,
        window=0,
        score=round(suspicion(list(strongest.values()), precision, params), 6),
        cluster=-1,
        reason=reason,
    )


def _mined(pool: Sequence[Pooled], rows: Sequence[Candidate], budget: int, params: SelectParams, random):
    """Yield (index, inclusion probability, cluster) of the mined part: clusters share the budget, errors lead in each.

    At most `per_group` candidates a group: the second copy of a question teaches little that the first did not.
    """
    groups: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        if row.side == TRAIN and not row.part and row.score > 0:
            groups.setdefault(pool[i].group_id, []).append(i)
    ranked = (sorted(g, key=lambda i: -rows[i].score)[: params.per_group] for g in groups.values())
    chosen = sorted(i for g in ranked for i in g)
    if not chosen or budget <= 0:
        return
    numbers = cluster([pool[i].question for i in chosen], max(1, budget // params.per_cluster))
    # Squared, so that certain errors are taken before likely ones; still random, so that every error has a chance.
    size = np.array([rows[i].score for i in chosen]) ** 2
    weight = np.sqrt(np.bincount(numbers, weights=size))[numbers] / np.maximum(
        np.bincount(numbers, weights=size)[numbers], 1e-12
    )
    inclusion = _inclusion(size * weight, min(budget, len(chosen)))
    order = np.lexsort((random.random(len(chosen)), numbers))
    for k in order[_systematic(inclusion[order], random)]:
        yield chosen[k], float(inclusion[k]), int(numbers[k])


def _inclusion(size: np.ndarray, n: int) -> np.ndarray:
    """Inclusion probabilities proportional to size that sum to n, none above 1."""
    inclusion = np.zeros(len(size))
    certain = np.zeros(len(size), bool)
    while True:
        free = n - certain.sum()
        inclusion[certain] = 1.0
        inclusion[~certain] = free * size[~certain] / max(size[~certain].sum(), 1e-12)
        over = (inclusion > 1.0) & ~certain
        if not over.any():
            return np.clip(inclusion, 0.0, 1.0)
        certain |= over


def _systematic(inclusion: np.ndarray, random) -> np.ndarray:
    """Systematic sampling (Madow, 1949): one random start, then every whole step of the cumulated probabilities."""
    steps = np.floor(np.cumsum(inclusion) + random.random() + 1e-9)
    return np.flatnonzero(np.diff(steps, prepend=0) > 0)
