"""Which interactions go to people: a random audit of all traffic, and the likeliest errors, of every kind.

    1,500 interactions, budget 300  ->  60 audit_holdout + 60 audit_open (random) + 180 mined, each with its propensity

The audit is a stratified random sample: one stratum is the holdout side of the wall, which also grows the sealed
holdout, the other is everything else. Mined candidates come from the training side only: a holdout picked because the
champion fails on it would flatter every challenger.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tasks.cells import Cells, cells
from tasks.estimate import Precision
from tasks.records import Candidate, Signal, canonical, content_id
from tasks.similar import near_pairs, shingles
from tasks.slices import Rule, quotas, risks
from tasks.split import HOLDOUT, TRAIN

AUDIT_HOLDOUT, AUDIT_OPEN, MINED, NOT_SENT = "audit_holdout", "audit_open", "mined", ""
DIMENSIONS = 128
SAME = 0.65  # Jaccard overlap from which two questions are one, however much budget is left

Embed = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True, slots=True)
class SelectParams:
    budget: int
    minutes: float
    audit_holdout: int
    audit_open: int
    min_window: int
    per_group: int
    near_duplicate: float
    sharpness: float
    slices: list[str]
    quotas: list[str]
    risks: list[str]
    prior_precision: float
    prior_strength: float
    seed: int


@dataclass(frozen=True, slots=True)
class Pooled:
    """An interaction that may be sent: its side of the wall, its group, its question and what the detectors found.

    One that is not `in_window` was passed over before and has drawn a complaint since: it may be mined, not audited.
    `p_wrong` is the error model's probability, None where there is no model (then the detectors' `suspicion` stands in);
    `uncertainty` in [0, 1], how unsure the answer itself was; `novelty` in (0, 1], 1 where nothing like it was labelled yet;
    `typicality` in [0, 1], how like it is to other traffic, so that what is learned from it serves more than itself;
    `slices` what it belongs to, as "column=value"; `minutes` what a person needs to answer it.
    """

    interaction_id: str
    group_id: str
    side: str
    question: str
    in_window: bool
    signals: tuple[Signal, ...]
    p_wrong: float | None = None
    uncertainty: float = 1.0
    novelty: float = 1.0
    typicality: float = 1.0
    slices: tuple[str, ...] = ()
    minutes: float = 1.0


def select(
    pool: Sequence[Pooled], precision: Mapping[str, Precision], params: SelectParams, embed: Embed | None = None
) -> list[Candidate]:
    """Choose a batch from the window. Gives one row per interaction of the window, sent or not, with its propensities.

    The budget is `budget` candidates and, where `minutes` is above 0, that much of people's time as well: the audit is
    drawn first and whole (an audit cut short by its cost would not be random), mining gets what is left of both.
    `embed` turns questions into unit vectors (n, d); without it an encoder is fitted to the questions at hand.
    """
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

    eligible, found = _mined(pool, rows, params, embed)
    for i, chance, cell in zip(eligible, found.chance, found.cell, strict=True):
        rows[i] = replace(rows[i], mined_propensity=float(chance), cluster=int(cell))
    for k in found.draw(random):
        i = eligible[k]
        rows[i] = replace(rows[i], part=MINED, propensity=rows[i].mined_propensity)
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
    believed = suspicion(list(strongest.values()), precision, params) if pooled.p_wrong is None else pooled.p_wrong
    return Candidate(
        candidate_id=content_id("cd", window_id, pooled.interaction_id),
        batch_id=window_id,
        interaction_id=pooled.interaction_id,
        part=NOT_SENT,
        side=pooled.side,
        propensity=0.0,
        window=0,
        score=round(believed, 6),
        cluster=-1,
        reason=reason,
    )


def _mined(
    pool: Sequence[Pooled], rows: Sequence[Candidate], params: SelectParams, embed: Embed | None
) -> tuple[list[int], Cells]:
    """Those that may be mined, and the cells that they are drawn from.

    Value is expected error × uncertainty × novelty × typicality × risk. What is too like another is left out before
    anything is drawn, so that the chances that are recorded are those of the draw.
    """
    risk, wanted = risks(params.risks), quotas(params.quotas)
    slices = [(*p.slices, *(f"detector={s.detector}" for s in p.signals)) for p in pool]
    value = np.array([r.score * p.uncertainty * p.novelty * p.typicality for r, p in zip(rows, pool, strict=True)])
    value *= [_risk(s, risk) for s in slices]
    sent = [i for i, r in enumerate(rows) if r.part]
    left = params.budget - len(sent)
    minutes = np.array([p.minutes for p in pool]) if params.minutes > 0 else np.zeros(len(pool))
    time_left = params.minutes - minutes[sent].sum() if params.minutes > 0 else 0.0
    eligible = [i for i, r in enumerate(rows) if r.side == TRAIN and not r.part and value[i] > 0]
    ranked = sorted(eligible, key=lambda i: (-value[i], pool[i].interaction_id))
    eligible = _unlike(pool, ranked, sent, params)
    if len(eligible) < left and params.near_duplicate < SAME:  # rather much alike than a budget unused
        eligible = _unlike(pool, ranked, sent, replace(params, near_duplicate=SAME))
    if not eligible or left <= 0 or time_left < 0:
        return [], Cells.none()
    questions = [pool[i].question for i in eligible]
    # The fewest of the mined part that must be of a slice, rounded up: a quota that rounds to none is none.
    quotas_of = [
        (np.array([rule.holds(slices[i]) for i in eligible]), int(np.ceil(rule.number * left))) for rule in wanted
    ]
    vectors = (embed or _embedding)(questions)
    novelty = np.array([pool[i].novelty for i in eligible])
    return eligible, cells(
        value[eligible] / novelty, novelty, vectors, left, quotas_of, minutes[eligible], time_left, params.sharpness
    )


def _risk(slices: Sequence[str], rules: Sequence[Rule]) -> float:
    return max((r.number for r in rules if r.holds(slices)), default=1.0)


def _unlike(pool: Sequence[Pooled], ranked: Sequence[int], sent: Sequence[int], params: SelectParams) -> list[int]:
    """Of near-duplicates the most valuable only (`per_group` of a group, whose questions may be alike); none like what the
    audit drew already. `ranked`: best first; the result is in order of the pool.
    """
    if not ranked:
        return []
    everything = [*sent, *ranked]
    left, right = near_pairs(*[shingles([pool[i].question for i in everything])] * 2, params.near_duplicate)
    near: dict[int, list[int]] = {}
    for a, b in zip(left.tolist(), right.tolist(), strict=True):
        if b < a:
            near.setdefault(a, []).append(b)
    groups: dict[str, int] = {}
    kept = set(range(len(sent)))
    for at, i in enumerate(everything):
        group = pool[i].group_id
        rivals = (b for b in near.get(at, ()) if b in kept and pool[everything[b]].group_id != group)
        if at in kept or (groups.get(group, 0) < params.per_group and next(rivals, None) is None):
            kept.add(at)
            groups[group] = groups.get(group, 0) + 1
    return sorted(everything[at] for at in kept if at >= len(sent))


def _embedding(questions: Sequence[str]) -> np.ndarray:
    from tasks.policy.encoder import Encoder  # an import of half a second that a caller with vectors does not need

    return Encoder.fit(questions, DIMENSIONS).texts(questions)
