"""Selection: the audit is uniform, the recorded propensities are true, and the holdout is never hand-picked."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.cells import novelty, typicality
from tasks.errors import Refused
from tasks.estimate import Precision
from tasks.policy.encoder import Encoder
from tasks.records import Candidate, Signal
from tasks.select import (
    AUDIT_HOLDOUT,
    AUDIT_OPEN,
    MINED,
    NOT_SENT,
    Pooled,
    SelectParams,
    select,
    suspicion,
)
from tasks.split import HOLDOUT, STRADDLES, TRAIN

PARAMS = SelectParams(60, 0.0, 15, 15, 10, 1, 0.65, 2.0, [], [], [], 0.4, 10.0, 1)
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = ("refund late", "invoice missing", "battery dead", "tyre flat", "cancel now")


def signal(interaction_id: str, detector: str = "rephrased", score: float = 0.8) -> Signal:
    return Signal(f"sg_{interaction_id}_{detector}", interaction_id, detector, score, "asked again")


def pool(n: int = 400, seed: int = 0) -> list[Pooled]:
    """Traffic of all sides, a third of it suspicious; a few complaints about what an earlier window passed over."""
    draw = np.random.default_rng(seed)
    made = []
    for k in range(n):
        name = f"ix_{k:04d}"
        signals = (signal(name, score=float(draw.uniform(0.2, 1))),) if draw.random() < 0.35 else ()
        side = draw.choice([TRAIN, HOLDOUT, STRADDLES], p=[0.7, 0.25, 0.05])
        made.append(Pooled(name, f"gr_{k}", str(side), question(draw, k), bool(draw.random() > 0.05), signals))
    return made


def question(draw: np.random.Generator, k: int) -> str:
    """A question on one of five subjects that is no near-duplicate of any other."""
    return f"{WORDS[k % 5]} {' '.join(''.join(draw.choice(list(LETTERS), 6)) for _ in range(4))}"


def batch(traffic: list[Pooled], params: SelectParams = PARAMS) -> list[Candidate]:
    return select(traffic, {}, params)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 120), st.integers(0, 60), st.integers(0, 40), st.integers(0, 40), st.integers(0, 99))
def test_the_budget_is_kept_and_every_row_accounted_for(n: int, budget: int, holdout: int, opened: int, seed: int):
    traffic = pool(n, seed)
    audit = min(budget, holdout + opened)
    params = replace(PARAMS, budget=budget, audit_holdout=min(holdout, audit), audit_open=audit - min(holdout, audit))
    rows = batch(traffic, params)
    assert sorted(r.interaction_id for r in rows) == sorted(p.interaction_id for p in traffic)
    assert sum(1 for r in rows if r.part != NOT_SENT) <= budget
    assert all(0 <= r.propensity <= 1 and (r.part == NOT_SENT or r.propensity > 0) for r in rows)


def test_the_budget_is_used_up_where_there_is_enough_to_ask():
    parts = Counter(r.part for r in batch(pool()))
    assert (parts[AUDIT_HOLDOUT], parts[AUDIT_OPEN], parts[MINED]) == (15, 15, 30)


def test_the_mined_part_is_from_the_training_side_and_suspicious_and_has_no_two_of_a_group():
    traffic = [replace(p, group_id=f"gr_{k // 2}") for k, p in enumerate(pool())]
    mined = [r for r in batch(traffic) if r.part == MINED]
    groups = {p.interaction_id: p.group_id for p in traffic}
    assert mined
    assert {r.side for r in mined} == {TRAIN}
    assert all(r.score > 0 for r in mined)
    assert len({groups[r.interaction_id] for r in mined}) == len(mined)


def test_the_audit_keeps_to_its_side_of_the_wall_and_to_the_window():
    traffic = pool()
    windowed = {p.interaction_id for p in traffic if p.in_window}
    rows = batch(traffic)
    assert {r.side for r in rows if r.part == AUDIT_HOLDOUT} == {HOLDOUT}
    assert HOLDOUT not in {r.side for r in rows if r.part == AUDIT_OPEN}
    assert {r.interaction_id for r in rows if r.part in (AUDIT_HOLDOUT, AUDIT_OPEN)} <= windowed


def test_a_late_complaint_may_be_mined_but_is_never_audited():
    traffic = [replace(p, in_window=False, side=TRAIN, signals=(signal(p.interaction_id),)) for p in pool(50)]
    parts = Counter(r.part for r in batch(traffic))
    assert set(parts) <= {MINED, NOT_SENT} and parts[MINED] > 0


def test_the_same_window_gives_the_same_batch_in_whatever_order_it_is_handed_over():
    traffic = pool()
    assert batch(traffic) == batch(traffic[::-1])


def test_another_window_or_another_seed_gives_another_batch():
    traffic = pool(150)
    batches = [batch(traffic), batch(traffic[1:]), batch(traffic, replace(PARAMS, seed=2))]
    sent = [{r.interaction_id for r in rows if r.part} for rows in batches]
    assert sent[0] != sent[1] and sent[0] != sent[2]
    assert len({rows[0].batch_id for rows in batches}) == 3


def embedded(traffic: list[Pooled]):
    """The questions' vectors, made once for the many selections of a test."""
    questions = [p.question for p in traffic]
    known = dict(zip(questions, Encoder.fit(questions, 32).texts(questions), strict=True))
    return lambda asked: np.array([known[q] for q in asked])


@pytest.fixture(scope="module")
def draws() -> list[list[Candidate]]:
    """The same traffic selected under 800 seeds."""
    traffic = pool(120, 3)
    params = replace(PARAMS, budget=28, audit_holdout=8, audit_open=12)
    seen = embedded(traffic)
    return [select(traffic, {}, replace(params, seed=s), seen) for s in range(800)]


@pytest.mark.slow
def test_the_audit_is_uniform_whatever_the_detectors_think(draws: list[list[Candidate]]):
    for part, within in ((AUDIT_HOLDOUT, lambda r: r.side == HOLDOUT), (AUDIT_OPEN, lambda r: r.side != HOLDOUT)):
        window = [r.interaction_id for r in draws[0] if within(r) and r.window]
        sent = Counter(r.interaction_id for rows in draws for r in rows if r.part == part)
        share = sum(sent.values()) / len(draws) / len(window)
        expected, spread = share * len(draws), (share * (1 - share) * len(draws)) ** 0.5
        assert set(sent) <= set(window)
        assert max(abs(sent[i] - expected) for i in window) < 4.5 * spread
        chi_squared = sum((sent[i] - expected) ** 2 / (spread**2) for i in window)
        assert chi_squared < len(window) + 4 * (2 * len(window)) ** 0.5


def test_the_audit_propensity_is_the_share_of_the_stratum_that_was_drawn(draws: list[list[Candidate]]):
    for part in (AUDIT_HOLDOUT, AUDIT_OPEN):
        sent = [r for r in draws[0] if r.part == part]
        assert {round(r.propensity, 9) for r in sent} == {round(len(sent) / sent[0].window, 9)}


def test_weighting_by_the_recorded_propensities_counts_the_mined_pool_without_bias(draws: list[list[Candidate]]):
    # Horvitz and Thompson: each sent one stands for 1 / propensity like it. Per draw, the mined pool is what was left of
    # the suspicious training side after the audit.
    differences = []
    for rows in draws:
        left = sum(1 for r in rows if r.side == TRAIN and r.score > 0 and r.part not in (AUDIT_HOLDOUT, AUDIT_OPEN))
        differences.append(sum(1 / r.propensity for r in rows if r.part == MINED) - left)
    mean, error = np.mean(differences), np.std(differences) / len(differences) ** 0.5
    assert abs(mean) < 4 * error + 1e-6


def test_the_likelier_error_is_asked_about_more_often(draws: list[list[Candidate]]):
    sent = Counter(r.interaction_id for rows in draws for r in rows if r.part == MINED)
    eligible = [r for r in draws[0] if r.side == TRAIN and r.score > 0]
    scores, shares = [r.score for r in eligible], [sent[r.interaction_id] for r in eligible]
    assert np.corrcoef(scores, shares)[0, 1] > 0.5
    assert min(shares) > 0  # every error has a chance


def test_suspicion_grows_with_every_detector_that_fires_and_with_its_precision():
    sure = {"rephrased": Precision("rephrased", 50, 0.9, 0.5), "low_reward": Precision("low_reward", 50, 0.1, 0.5)}
    one, other = signal("ix_1"), signal("ix_1", "low_reward")
    assert suspicion([], sure, PARAMS) == 0.0
    assert suspicion([one], sure, PARAMS) == pytest.approx(0.8 * 0.9)
    assert suspicion([other], sure, PARAMS) == pytest.approx(0.8 * 0.1)
    assert suspicion([one, other], sure, PARAMS) > suspicion([one], sure, PARAMS)
    assert suspicion([one], {}, PARAMS) == pytest.approx(0.8 * PARAMS.prior_precision)


def test_two_findings_of_one_detector_are_no_more_evidence_than_the_stronger():
    twice = Pooled("ix_1", "gr_1", TRAIN, "q", True, (signal("ix_1", score=0.5), signal("ix_1", score=0.9)))
    once = replace(twice, signals=(signal("ix_1", score=0.9),))
    assert batch([twice])[0].score == batch([once])[0].score


def test_an_empty_window_gives_an_empty_batch():
    assert batch([]) == []


# Diversity, quotas, risks and time


@pytest.mark.slow
def test_every_mined_share_over_many_draws_is_the_recorded_probability():
    # Without an audit, the chances are the same under every seed: what was recorded is what happens.
    traffic = [replace(p, in_window=False, side=TRAIN) for p in pool(90, 5)]
    params = replace(PARAMS, budget=9, audit_holdout=0, audit_open=0)
    seen = embedded(traffic)
    runs = [select(traffic, {}, replace(params, seed=s), seen) for s in range(400)]
    recorded = {r.interaction_id: r.mined_propensity for r in runs[0]}
    assert sum(recorded.values()) == pytest.approx(9)
    assert all({r.interaction_id: r.mined_propensity for r in rows} == recorded for rows in runs)
    mined = Counter(r.interaction_id for rows in runs for r in rows if r.part == MINED)
    for interaction_id, chance in recorded.items():
        spread = (chance * (1 - chance) * len(runs)) ** 0.5
        assert abs(mined[interaction_id] - chance * len(runs)) <= 4.5 * spread + 1e-9, interaction_id


def near_duplicates() -> list[Pooled]:
    """Twenty complaints, each made three times in almost the same words, by people of different groups."""
    draw = np.random.default_rng(4)
    asked = [question(draw, k) for k in range(20)]
    return [
        Pooled(f"ix_{k}_{copy}", f"gr_{k}_{copy}", TRAIN, text, True, (signal(f"ix_{k}_{copy}"),))
        for k, q in enumerate(asked)
        for copy, text in enumerate((q, q.upper() + "!!", f"{q} x"))
    ]


def test_no_two_near_duplicates_are_mined_and_none_of_what_the_audit_drew():
    traffic = near_duplicates()
    rows = batch(traffic, replace(PARAMS, budget=40, audit_holdout=0, audit_open=6))
    asked = {r.interaction_id.split("_")[1] for r in rows if r.part == AUDIT_OPEN}
    mined = [r.interaction_id.split("_")[1] for r in rows if r.part == MINED]
    assert len(mined) == len(set(mined)) == 20 - len(asked)
    assert not asked & set(mined)


def test_one_loud_failure_does_not_crowd_out_the_quiet_ones():
    things = (
        "bike",
        "lock",
        "lamp",
        "map",
        "chat",
        "bill",
        "shop",
        "plan",
        "menu",
        "help",
        "news",
        "chart",
        "ride",
        "team",
    )
    loud = [f"the app crashes when I open the {a} {b}" for a in things for b in things]
    quiet = ["zip file of my invoices", "battery lost in the lake", "tyre valve whistles", "saddle height for a child"]
    traffic = [
        Pooled(f"ix_{k:03d}", f"gr_{k}", TRAIN, q, True, (signal(f"ix_{k:03d}", score=0.9 if k < len(loud) else 0.5),))
        for k, q in enumerate([*loud, *quiet])
    ]
    mined = {
        r.interaction_id for r in batch(traffic, replace(PARAMS, budget=16, audit_holdout=0, audit_open=0)) if r.part
    }
    assert {f"ix_{len(loud) + k}" for k in range(4)} <= mined


def test_a_quota_is_kept_though_its_errors_are_the_least_likely():
    traffic = [
        replace(p, side=TRAIN, slices=("language=de" if k % 4 == 0 else "language=en",)) for k, p in enumerate(pool())
    ]
    german = {p.interaction_id for p in traffic if "language=de" in p.slices}
    doubted = [replace(p, p_wrong=0.01 if p.interaction_id in german else 0.9) for p in traffic]
    params = replace(PARAMS, audit_holdout=0, audit_open=0, budget=40)

    def mined(rows: list[Candidate]) -> int:
        return sum(r.interaction_id in german for r in rows if r.part == MINED)

    without, with_quota = batch(doubted, params), batch(doubted, replace(params, quotas=["language=de: 0.3"]))
    assert mined(without) < 4
    assert mined(with_quota) >= 12
    assert sum(1 for r in with_quota if r.part) == 40


def test_a_risk_makes_its_detectors_errors_come_first():
    draw = np.random.default_rng(3)
    traffic = [
        Pooled(
            f"ix_{k:03d}", f"gr_{k}", TRAIN, question(draw, k), True,
            (signal(f"ix_{k:03d}", "leaked_secret" if k < 20 else "rephrased", 0.5),),
        )
        for k in range(200)
    ]  # fmt: skip
    params = replace(PARAMS, audit_holdout=0, audit_open=0, budget=25, sharpness=8.0)

    def leaks(p: SelectParams) -> int:
        return sum(r.interaction_id < "ix_020" for r in batch(traffic, p) if r.part)

    assert leaks(replace(params, risks=["detector=leaked_*: 50"])) >= 19 > 10 > leaks(params)


@pytest.mark.parametrize(
    "rule", ["language=de", "language: 0.1", "language=de: much", "language=de: -1", "language=de: 1.2"]
)
def test_a_rule_that_cannot_be_read_is_refused_with_how_to_write_it(rule: str):
    with pytest.raises(Refused, match=re.escape(rule)):
        batch(pool(60), replace(PARAMS, quotas=[rule]))


def test_a_budget_of_minutes_is_kept_whatever_is_drawn_and_cheap_errors_get_more_of_it():
    draw = np.random.default_rng(7)
    traffic = [replace(p, side=TRAIN, minutes=float(draw.choice([1, 2, 8]))) for p in pool(150)]
    minutes, seen = {p.interaction_id: p.minutes for p in traffic}, embedded(traffic)
    counted = []
    for seed in range(12):
        params = replace(PARAMS, audit_holdout=0, audit_open=5, minutes=50.0, budget=400, seed=seed)
        rows = select(traffic, {}, params, seen)
        sent = [r for r in rows if r.part]
        assert sum(minutes[r.interaction_id] for r in sent) <= 50
        assert sum(r.mined_propensity for r in rows) == pytest.approx(sum(r.part == MINED for r in sent))
        counted += [minutes[r.interaction_id] for r in sent if r.part == MINED]
    assert np.mean(counted) < 2 < np.mean(list(minutes.values()))


def test_the_error_models_opinion_takes_the_place_of_the_detectors():
    row = batch([Pooled("ix_1", "gr_1", TRAIN, "q", True, (signal("ix_1"),), p_wrong=0.123)])[0]
    assert row.score == 0.123


def test_what_is_like_what_people_answered_before_is_less_novel_and_an_outlier_is_less_typical():
    texts = ["refund my money please", "refund my money now please", "refund of my money", "money refund please",
             "please refund the money", "refund money to me please", "refund all my money", "xylophone quartz jukebox"]  # fmt: skip
    vectors = Encoder.fit([*texts, *texts], 8).texts(texts)
    new = novelty(vectors, vectors[:1])
    assert new[0] == pytest.approx(0.5) and new[0] < new[1] < new[-1] <= 1
    assert typicality(vectors, texts).argmin() == len(texts) - 1
