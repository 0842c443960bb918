"""Compared rows -> the counts and means of data/reports/evaluation.json: per part, per slice, per metric, for both models.

    {"parts": {"holdout": {"n": 180, "champion": {"right": 121, "scores": {"grounding": [0.81, 176], …}}, "challenger": {…}}, …},
     "slices": [{"by": "kind", "value": "escalate", "n": 22, "champion": 15, "challenger": 19}, …], …}

A mean stands with the number of rows that it is of. The report is in git, so it holds ids and counts, and no text of anybody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tasks.evaluation.scores import METRICS
from tasks.gate.rows import HOLDOUT, Compared

BOTH = ("champion", "challenger")
SLICES = ("kind", "topic", "language", "cluster")
BINS = 10


def summary(rows: Sequence[Compared]) -> dict[str, Any]:
    """What there is to tell of all rows; `right` and `brier` of each model are those of the holdout, which decides."""
    sealed = [r for r in rows if r.part == HOLDOUT]
    parts = {name: _part([r for r in rows if r.part == name]) for name in sorted({r.part for r in rows})}
    return {
        "n": len(sealed),
        "parts": parts | {"audit": _part([r for r in sealed if r.audit])},
        "slices": _slices(sealed, SLICES),
        "probes": [
            s | {"part": part} for part in parts for s in _slices(_of(rows, part), ("cluster",)) if part != HOLDOUT
        ],
        **{who: _model(sealed, who) for who in BOTH},
    }


def _of(rows: Sequence[Compared], part: str) -> list[Compared]:
    return [r for r in rows if r.part == part]


def _part(rows: Sequence[Compared]) -> dict[str, Any]:
    made: dict[str, Any] = {"n": len(rows)}
    for who in BOTH:
        scores = {m: [s[m] for r in rows if m in (s := getattr(r, f"{who}_scores"))] for m in METRICS}
        made[who] = {
            "right": sum(getattr(r, f"{who}_right") for r in rows),
            "scores": {m: [round(float(np.mean(v)), 6), len(v)] for m, v in scores.items() if v},
        }
    return made


def _slices(rows: Sequence[Compared], by: Sequence[str]) -> list[dict[str, Any]]:
    """Right answers of both models by value of a column, the largest slice first."""
    made = []
    for name in by:
        value: Callable[[Compared], str] = lambda r, name=name: getattr(r, name)  # noqa: E731
        for v, n in sorted(Counter(map(value, rows)).items(), key=lambda x: (-x[1], x[0])):
            inside = [r for r in rows if value(r) == v]
            right = {who: sum(getattr(r, f"{who}_right") for r in inside) for who in BOTH}
            made.append({"by": name, "value": v, "n": n, **right})
    return made


def _model(rows: Sequence[Compared], who: str) -> dict[str, Any]:
    right = np.array([getattr(r, f"{who}_right") for r in rows], float)
    confidence = np.array([getattr(r, f"{who}_confidence") for r in rows], float)
    kinds = sorted({r.kind for r in rows})
    return {
        "right": round(float(right.mean()), 6),
        "brier": round(float(((confidence - right) ** 2).mean()), 6),
        **calibration(confidence, right),
        "right_by_kind": {
            k: [sum(getattr(r, f"{who}_right") for r in rows if r.kind == k), sum(r.kind == k for r in rows)]
            for k in kinds
        },
        "signals": dict(sorted(Counter(s for r in rows for s in getattr(r, f"{who}_signals")).items())),
    }


def calibration(confidence: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    """The expected calibration error over bins of equal width (Guo et al., 2017), and the bins that hold any row: lower
    edge, rows, mean confidence, share right."""
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    bins, error = [], 0.0
    for k in range(BINS):
        inside = place == k
        if inside.any():
            said, was = float(confidence[inside].mean()), float(right[inside].mean())
            bins.append([k / BINS, int(inside.sum()), round(said, 6), round(was, 6)])
            error += inside.mean() * abs(said - was)
    return {"ece": round(float(error), 6), "bins": bins}
