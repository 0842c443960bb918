"""Pictures of artifacts: an SVG in a data URI, so that whoever keeps the artifact keeps its picture.

    error_rate(found.audits)  ->  "data:image/svg+xml;base64,PD94bWw…"

'' where there is nothing to draw. Without pyplot, which would keep every figure and look for a screen.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tasks.live.labels import Audit
    from tasks.records import Cluster

MOST = 8  # lines that can be told apart in one picture
WIDTH = 7.0  # inches
TITLE: dict[str, Any] = {"loc": "left", "fontsize": 11}
BETTER, WORSE, SAME = "#1a7f4b", "#b3261e", "#5f6b7a"


def error_rate(audits: Sequence[Audit]) -> str:
    """The error rate of each batch that has answers, with its 95% interval, in the order of batches."""
    known = [a for a in audits if math.isfinite(a.estimate.value)]
    if not known:
        return ""
    values = [a.estimate.value for a in known]
    below = [a.estimate.value - a.estimate.low for a in known]
    above = [a.estimate.high - a.estimate.value for a in known]
    figure = _figure(3.2)
    axes = figure.add_subplot(ylabel="wrong answers")
    axes.set_title("Error rate, estimated from random audits (95% intervals)", **TITLE)
    axes.errorbar(range(len(known)), values, yerr=[below, above], fmt="o-", capsize=4, color=SAME, ecolor=SAME)
    every = math.ceil(len(known) / MOST)
    axes.set_xticks(range(len(known))[::-every], [a.batch_id for a in known][::-every], rotation=20, ha="right")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(_percent())
    return _written(figure)


def clusters(turns: Sequence[Cluster]) -> str:
    """How the share of the commonest clusters moved: `turns` holds a row for each turn of each."""
    newest: dict[str, Cluster] = {}
    for row in turns:
        newest[row.cluster_id] = max(newest.get(row.cluster_id, row), row, key=lambda r: r.turn)
    shown = sorted(newest.values(), key=lambda r: (-r.share, r.cluster_id))[:MOST]
    if not shown:
        return ""
    figure = _figure(3.6)
    axes = figure.add_subplot(xlabel="turn")
    axes.set_title("Failure clusters: their share of what users asked", **TITLE)
    for last in shown:
        line = sorted((r for r in turns if r.cluster_id == last.cluster_id), key=lambda r: r.turn)
        axes.plot([r.turn for r in line], [r.share for r in line], marker="o", label=_short(f"{last.name} ({last.state})"))
    axes.set_xticks(sorted({r.turn for r in turns}))
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(_percent())
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False)
    return _written(figure)


def verdict(document: dict[str, Any]) -> str:
    """Every comparison of the gate: challenger less champion in points, with its interval; the largest losses of slices."""
    if "primary" not in document:
        return ""
    worst = sorted(document["slices"].items(), key=lambda s: (s[1]["compared"]["difference"], s[0]))[:MOST]
    rows = [
        ("right answers", document["primary"]),
        *((name, guard["compared"]) for name, guard in document["guards"].items()),
        *((f"slice {name}", of["compared"]) for name, of in worst),
    ]
    drawn = [(name, c["difference"], c["low"], c["high"]) for name, c in rows if c["groups"]][::-1]
    if not drawn:
        return ""
    figure = _figure(1.2 + 0.28 * len(drawn))
    axes = figure.add_subplot(xlabel="points")
    axes.set_title(f"Challenger less champion: {document['decision']}", **TITLE)
    axes.axvline(0, color="black", linewidth=0.8)
    for at, (_, difference, low, high) in enumerate(drawn):
        color = WORSE if high < 0 else BETTER if low > 0 else SAME
        axes.plot([100 * low, 100 * high], [at, at], color=color, linewidth=2)
        axes.plot([100 * difference], [at], marker="o", color=color)
    axes.set_yticks(range(len(drawn)), [_short(name) for name, *_ in drawn])
    return _written(figure)


def _figure(height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), layout="constrained")


def _percent() -> Any:
    from matplotlib.ticker import PercentFormatter

    return PercentFormatter(1.0, decimals=None)


def _short(name: str) -> str:
    # A dollar sign would begin a formula.
    return (name if len(name) <= 44 else f"{name[:43]}…").replace("$", r"\$")


def _written(figure: Figure) -> str:
    from matplotlib import rc_context

    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    svg = io.BytesIO()
    with rc_context({"svg.fonttype": "none"}):  # words as words, a fifth of the size of their outlines
        figure.savefig(svg, format="svg", facecolor="white", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.getvalue()).decode()}"
