"""The pieces of the gate: the budget of looks, the power, the correction for slices; and its page."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from flows.gate import page
from tasks.compare import paired
from tasks.gate.looks import level
from tasks.gate.power import could_show, detectable, needed, to_show
from tasks.gate.slices import holm

ALPHA = 0.05


def test_while_nothing_is_promoted_all_looks_together_spend_half_of_alpha_one_sided():
    spent = [level([False] * k, ALPHA) / 2 for k in range(3000)]
    assert sum(spent) <= ALPHA / 2
    assert sum(spent) == pytest.approx(ALPHA / 2, rel=0.02)
    assert spent == sorted(spent, reverse=True)


def test_a_promotion_pays_back_and_no_look_is_laxer_than_alpha():
    without, after = level([False] * 5, ALPHA), level([False] * 4 + [True], ALPHA)
    assert without < after < ALPHA
    assert level([True] * 30, ALPHA) == ALPHA


def test_the_share_of_false_promotions_holds_where_most_challengers_are_no_better():
    """20 looks each; one challenger in five is better. The estimate of the false share is an average over histories."""
    random = np.random.default_rng(2)
    shares = []
    for _ in range(1500):
        promoted: list[bool] = []
        false = 0
        for _ in range(20):
            better = random.random() < 0.2
            z = random.normal(3.5 if better else 0.0)
            yes = z > 0 and 2 * stats.norm.sf(z) < level(promoted, ALPHA)
            promoted.append(yes)
            false += yes and not better
        shares.append(false / max(sum(promoted), 1))
    assert np.mean(shares) <= ALPHA


@pytest.mark.parametrize(("groups", "changed"), [(180, 0.2), (511, 0.25), (300, 0.1)])
@pytest.mark.parametrize("strict", [0.05, 0.005])
def test_the_detectable_gain_is_found_in_four_of_five_evaluations(groups: int, changed: float, strict: float):
    gain = detectable(groups, changed, strict)
    fixed, broken = (changed + gain) / 2, (changed - gain) / 2
    drawn = np.random.default_rng(0).multinomial(groups, [fixed, broken, 1 - changed], 4000)[:, :2]
    p = [2 * stats.binom.sf(f - 1, f + b, 0.5) for f, b in drawn]
    # The exact test is a little less powerful than the approximation that the formula rests on.
    assert 0.72 <= np.mean([x < strict for x in p]) <= 0.83
    assert needed(gain, changed, strict) == pytest.approx(groups, abs=1)


def test_more_is_detectable_with_more_prompts_and_less_at_a_stricter_level():
    assert detectable(800, 0.2, 0.05) < detectable(200, 0.2, 0.05) < detectable(200, 0.2, 0.005)
    assert detectable(4, 0.5, 0.001) == 1.0


def test_equal_models_are_shown_to_be_equal_by_the_prompts_that_it_is_said_to_take():
    groups = to_show(0.05, 0.06, ALPHA)
    drawn = np.random.default_rng(1).multinomial(groups, [0.03, 0.03, 0.94], 400)
    shown = []
    for fixed, broken, same in drawn:
        new, old = [1] * fixed + [0] * broken + [1] * same, [0] * fixed + [1] * broken + [1] * same
        shown.append(paired(new, old, [f"g{k}" for k in range(groups)], 0.95).low > -0.05)
    assert 0.7 <= np.mean(shown) <= 0.9
    assert could_show(0.05, ALPHA) == 73 and to_show(0.05, 0.0, ALPHA) == 73


def test_holm_multiplies_the_smallest_by_all_and_keeps_the_order():
    assert holm([0.01, 0.04, 0.03]) == [0.03, 0.06, 0.06]
    assert holm([0.5, 0.001]) == [0.5, 0.002]
    assert holm([]) == []


def test_holm_calls_a_slice_worse_by_chance_in_one_family_of_twenty_at_most():
    random = np.random.default_rng(5)
    called = [min(holm(random.random(14).tolist())) < ALPHA for _ in range(2000)]
    assert np.mean(called) <= ALPHA + 3 * (ALPHA * (1 - ALPHA) / 2000) ** 0.5


def test_the_page_shows_reasons_notes_guards_and_slices():
    c = {"n": 40, "groups": 40, "fixed": 1, "broken": 9, "difference": -0.2, "low": -0.4, "high": -0.05, "p_value": 0.02}
    none = c | {"n": 0, "groups": 0}
    shown = page(
        {
            "decision": "refuse", "reasons": ["topic billing: worse"], "notes": ["safety: not measured"], "look": 3,
            "level": 0.0038, "primary": c,
            "slices": {"topic billing": {"compared": c, "tested": True, "adjusted": 0.04, "worse": True}},
            "guards": {"safety": {"state": "missing", "compared": none}},
        }
    )  # fmt: skip
    assert shown.startswith("**refuse**") and "- topic billing: worse" in shown and "Look 3" in shown
    assert "| topic billing | worse | 1 | 9 | 40 | -20.0 | -40.0 to -5.0 | 0.02 |" in shown
    assert "| safety | missing | | | 0 | | | |" in shown
    assert page({"decision": "refuse", "reasons": ["no rows"], "notes": []}) == "**refuse**\n\n- no rows"
