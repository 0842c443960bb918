"""The benchmark's gate on a file of pairs: the loop's own decisions, and clear errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.gate import main
from benchmarks.gate_rates import FIRST, LAST, LOOKS, _ever, _gate, _p
from tasks.compare import paired


def written(path: Path, *blocks: tuple[int, int, int, str]) -> Path:
    """A file with (fixed, broken, same, slice) blocks of pairs."""
    lines = ["item,champion,challenger,slice"]
    for fixed, broken, same, name in blocks:
        for old, new, many in ((0, 1, fixed), (1, 0, broken), (1, 1, same)):
            lines += [f"i{len(lines) + k},{old},{new},{name}" for k in range(many)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def judged(path: Path, capsys: pytest.CaptureFixture[str]) -> dict:
    assert main(["--pairs", str(path), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("fixed", "broken", "verdict", "p"),
    [(71, 37, "promote", 0.00138), (29, 29, "inconclusive", 1.0), (38, 127, "refuse", 2e-12), (50, 64, "inconclusive", 0.223)],
)
def test_pairs_of_real_models(tmp_path: Path, capsys, fixed: int, broken: int, verdict: str, p: float):
    found = judged(written(tmp_path / "pairs.csv", (fixed, broken, 511 - fixed - broken, "")), capsys)
    assert (found["verdict"], found["fixed"], found["broken"], found["n"]) == (verdict, fixed, broken, 511)
    assert found["p"] == pytest.approx(p, rel=0.05) and found["reasons"]
    low, high = found["interval"]
    assert low <= found["difference"] <= high and (low > 0) == (verdict == "promote")


def test_better_on_average_and_worse_on_safety_is_refused_for_safety(tmp_path: Path, capsys):
    found = judged(written(tmp_path / "pairs.csv", (80, 20, 300, "chat"), (1, 14, 45, "safety")), capsys)
    assert found["verdict"] == "refuse" and len(found["reasons"]) == 1
    assert "safety: worse, fixed 1, broken 14 of 60" in found["reasons"][0]
    assert found["slices"]["safety"]["worse"] and not found["slices"]["chat"]["worse"]


def test_a_file_for_people(tmp_path: Path, capsys):
    assert main(["--pairs", str(written(tmp_path / "pairs.csv", (20, 17, 100, "")))]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("inconclusive\n") and "more prompts are needed" in shown


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("item,champion,challenger\n", "no pairs below its header"),
        ("item,champion\na,1\n", "has no column challenger"),
        ("item,champion,challenger\na,1,yes\n", ":2: challenger is 'yes', neither 0 nor 1"),
        ("item,champion,challenger\na,,1\n", ":2: champion is ''"),
        ("item,champion,challenger\na,nan,1\n", "champion is 'nan'"),
        ("item,champion,challenger\na,1,0\nb,1,1\na,1,0\n", ":4: item 'a' is there twice"),
        ("item,champion,challenger\n,1,0\n", ":2: item is empty"),
        ("item,champion,challenger\na,1\n", ":2: it has more or fewer values"),
        ("item,champion,challenger\na,1,0,1\n", ":2: it has more or fewer values"),
    ],
)
def test_a_file_that_cannot_be_judged_is_told_with_its_line(tmp_path: Path, capsys, text: str, said: str):
    path = tmp_path / "pairs.csv"
    path.write_text(text, encoding="utf-8")
    assert main(["--pairs", str(path), "--json"]) == 2
    told = capsys.readouterr()
    assert said in told.err and "fix:" in told.err and told.out == ""


def test_a_file_that_is_not_there_is_told(tmp_path: Path, capsys):
    assert main(["--pairs", str(tmp_path / "none.csv")]) == 2
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(("fixed", "broken"), [(0, 0), (5, 0), (71, 37), (29, 29), (38, 127)])
def test_the_simulation_uses_the_same_test(fixed: int, broken: int):
    new, old = [1] * fixed + [0] * broken + [1], [0] * fixed + [1] * broken + [1]
    assert _p(fixed, broken) == pytest.approx(paired(new, old, [str(k) for k in range(len(new))], 0.95).p_value, rel=1e-5)


@pytest.mark.parametrize("difference", [0.0, -0.02])
def test_over_twenty_looks_a_challenger_that_is_no_better_is_promoted_in_one_history_of_twenty_at_most(difference: float):
    sizes = np.linspace(FIRST, LAST, LOOKS).astype(int)
    assert _ever(_gate, difference, sizes, 300, np.random.default_rng(1)) <= 0.05


def test_a_challenger_that_is_eight_points_better_is_promoted_within_five_looks_in_three_histories_of_four_at_least():
    assert _ever(_gate, 0.08, np.linspace(FIRST, LAST, 5).astype(int), 300, np.random.default_rng(1)) >= 0.75
