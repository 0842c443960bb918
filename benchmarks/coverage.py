"""Do the intervals cover? The audit's error rate against the intervals that are usually taken, on simulated turns.

python -m benchmarks.coverage [--turns 2000] [--json]

A turn is a window of two strata with its audit. Wald is the normal interval of the stratified mean; Wilson and Clopper-Pearson
take all labels as one random sample, as most dashboards do; `before` is Korn and Graubard's without the cap by the effective
number of the weights, which was the project's own until then. Also each detector's precision and recall, and a judge's
corrected rate, which have no peer here.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from tasks.estimate import Audited, Stratum, error_rate, error_rate_in, share_of_errors
from tasks.judged import Calibration, corrected_rate

Z, TAIL = 1.959964, 0.025
Interval = tuple[float, float]


@dataclass(frozen=True)
class Scene:
    """Two strata: sizes, labels drawn, error rates; errors come by conversations of so many interactions."""

    name: str
    windows: tuple[int, int]
    labels: tuple[int, int]
    rates: tuple[float, float]
    conversation: int = 1


SCENES = (
    Scene("as in params.yaml, 20%", (400, 1200), (90, 60), (0.2, 0.2)),
    Scene("as in params.yaml, 1%", (400, 1200), (90, 60), (0.01, 0.01)),
    Scene("batch of 50, 20%", (400, 1200), (25, 25), (0.2, 0.2)),
    Scene("batch of 50, 1%", (400, 1200), (25, 25), (0.01, 0.01)),
    Scene("batch of 50, 10%, by conversation", (400, 1200), (25, 25), (0.1, 0.1), 5),
    Scene("errors only in the open stratum, 4%", (400, 1200), (90, 60), (0.0, 0.052)),
    Scene("errors only in the holdout, 4%", (400, 1200), (90, 60), (0.16, 0.0)),
    Scene("10 of 1,500 and 40 of 200", (1500, 200), (10, 40), (0.1, 0.0)),
    Scene("98% wrong, batch of 50", (400, 1200), (25, 25), (0.98, 0.98)),
)


def ours(strata: list[Stratum]) -> Interval:
    e = error_rate(strata)
    return e.low, e.high


def wald(strata: list[Stratum]) -> Interval:
    total = sum(s.window for s in strata)
    value = sum(s.window / total * np.mean(s.wrong) for s in strata)
    spread = math.sqrt(sum((s.window / total) ** 2 * np.var(s.wrong, ddof=1) / len(s.wrong) for s in strata))
    return value - Z * spread, value + Z * spread


def wilson(strata: list[Stratum]) -> Interval:
    labels = np.concatenate([s.wrong for s in strata])
    found = stats.binomtest(int(labels.sum()), len(labels)).proportion_ci(method="wilson")
    return found.low, found.high


def clopper_pearson(strata: list[Stratum]) -> Interval:
    labels = np.concatenate([s.wrong for s in strata])
    return _exact(float(labels.mean()), len(labels))


def before(strata: list[Stratum]) -> Interval:
    total, n = sum(s.window for s in strata), sum(len(s.wrong) for s in strata)
    value = sum(s.window / total * float(np.mean(s.wrong)) for s in strata)
    variance = 0.0
    for s in strata:
        spread, k = float(np.var(s.wrong, ddof=1)), len(s.wrong)
        if spread == 0:
            p = (float(np.sum(s.wrong)) + 0.5) / (k + 1)
            spread = p * (1 - p)
        variance += (s.window / total) ** 2 * spread / k * (1 - k / s.window)
    return _exact(value, min(n, value * (1 - value) / variance) if variance > 0 and 0 < value < 1 else n)


def _exact(value: float, n: float) -> Interval:
    k = value * n
    return (
        0.0 if k <= 0 else float(stats.beta.ppf(TAIL, k, n - k + 1)),
        1.0 if k >= n else float(stats.beta.ppf(1 - TAIL, k + 1, n - k)),
    )


METHODS = {
    "flywheel": ours,
    "before": before,
    "Wald": wald,
    "Wilson, pooled": wilson,
    "Clopper-Pearson, pooled": clopper_pearson,
}


def play(scene: Scene, turns: int) -> dict[str, dict[str, float]]:
    """Coverage and mean width of each method."""
    random = np.random.default_rng(1)
    covered = {m: 0 for m in METHODS}
    width = {m: 0.0 for m in METHODS}
    for _ in range(turns):
        strata, errors = [], 0
        for window, n, rate in zip(scene.windows, scene.labels, scene.rates, strict=True):
            wrong = np.repeat(random.random(-(-window // scene.conversation)) < rate, scene.conversation)[:window]
            errors += int(wrong.sum())
            strata.append(Stratum(random.choice(wrong, n, replace=False).astype(float), window))
        truth = errors / sum(scene.windows)
        for name, method in METHODS.items():
            low, high = method(strata)
            covered[name] += low - 1e-6 <= truth <= high + 1e-6
            width[name] += high - low
    return {m: {"coverage": covered[m] / turns, "width": round(width[m] / turns, 4)} for m in METHODS}


def detectors(turns: int) -> dict[str, dict[str, float]]:
    """Coverage of precision and recall: fires on half of the errors and a tenth of the rest, at an error rate of a fifth."""
    random = np.random.default_rng(2)
    hits: dict[str, list[tuple[bool, float]]] = {"precision": [], "recall": []}
    for _ in range(turns):
        wrong = random.random(1600) < 0.2
        fires = random.random(1600) < np.where(wrong, 0.5, 0.1)
        ids = {str(i) for i in np.flatnonzero(fires)}
        labelled = [
            Audited(str(i), name, size, float(wrong[i]))
            for name, start, size, n in (("holdout", 0, 400, 90), ("open", 400, 1200, 60))
            for i in start + random.choice(size, n, replace=False)
        ]
        for what, e, truth in (
            ("precision", error_rate_in(labelled, ids), wrong[fires].mean()),
            ("recall", share_of_errors(labelled, ids), fires[wrong].mean()),
        ):
            hits[what].append((e.low <= truth <= e.high, e.high - e.low))
    return {k: _mean(v) for k, v in hits.items()}


def judge(turns: int) -> dict[str, float]:
    """Coverage of the corrected rate of a judge with sensitivity .8 and specificity .95, 5% wrong, 40 + 160 labels."""
    random = np.random.default_rng(3)
    hits = []
    for _ in range(turns):
        wrong = random.random(1000) < 0.05
        called = np.where(wrong, random.random(1000) < 0.8, random.random(1000) >= 0.95)
        caught, passed = random.binomial((40, 160), (0.8, 0.95))
        e = corrected_rate(int(called.sum()), 1000, Calibration(int(caught), 40, int(passed), 160))
        hits.append((e.low <= 0.05 <= e.high, e.high - e.low))
    return _mean(hits)


def _mean(hits: list[tuple[bool, float]]) -> dict[str, float]:
    coverage, width = np.mean(hits, axis=0)
    return {"coverage": float(coverage), "width": round(float(width), 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=2000)
    parser.add_argument("--json", action="store_true", help="one document on stdout")
    given = parser.parse_args()
    found = {s.name: play(s, given.turns) for s in SCENES}
    other = {**detectors(given.turns // 4), "corrected judge": judge(given.turns)}
    if given.json:
        print(json.dumps({"turns": given.turns, "error_rate": found, "other": other}, indent=2))
        return
    print(f"coverage (mean width) of 95% intervals in {given.turns} turns")
    print(f"{'':<38}" + "".join(f"{m:<25}" for m in METHODS))
    for name, by in found.items():
        print(f"{name:<38}" + "".join(f"{_cell(v):<25}" for v in by.values()))
    for name, v in other.items():
        print(f"{name:<38}{_cell(v)}")


def _cell(v: dict[str, float]) -> str:
    return f"{v['coverage']:.1%} ({v['width']:.3f})"


if __name__ == "__main__":
    main()
