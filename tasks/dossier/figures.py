"""Small pictures without a script: an interval on a line, and a training curve. SVG inside the page; colours are the page's.

    interval(cell, 0.083, 0.023, 0.143, margin=0.05, reach=0.2)       curve(main, [(1, 2.5), (2, 1.25)])
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement

WIDE, HIGH = 160, 20
CURVE_WIDE, CURVE_HIGH, EDGE = 320, 90, 4


def interval(parent: Element, difference: float, low: float, high: float, reach: float, margin: float = 0.0) -> None:
    """`low` to `high` around `difference` on an axis from -reach to reach; a tolerated loss is a dashed line at -margin."""
    label = f"{difference:+.3f}, interval {low:+.3f} to {high:+.3f}"
    svg = SubElement(parent, "svg", {"viewBox": f"0 0 {WIDE} {HIGH}", "class": "interval", "role": "img", "aria-label": label})
    _line(svg, WIDE / 2, 1, WIDE / 2, HIGH - 1, "axis")
    if margin:
        _line(svg, _place(-margin, reach), 3, _place(-margin, reach), HIGH - 3, "margin")
    style = "worse" if high < 0 else "better" if low > 0 else "same"
    _line(svg, _place(low, reach), HIGH / 2, _place(high, reach), HIGH / 2, f"range {style}")
    dot = {"cx": f"{_place(difference, reach):.1f}", "cy": f"{HIGH / 2:g}", "r": "4", "class": f"dot {style}"}
    SubElement(svg, "circle", dot)


def curve(parent: Element, points: Sequence[tuple[int, float]], name: str) -> None:
    """A line through (step, value); nothing where fewer than two are finite."""
    drawn = [(s, v) for s, v in points if math.isfinite(v)]
    if len(drawn) < 2:
        return
    steps, values = [s for s, _ in drawn], [v for _, v in drawn]
    across, up = max(steps) - min(steps) or 1, max(values) - min(values) or 1
    at = [
        f"{EDGE + (s - min(steps)) / across * (CURVE_WIDE - 2 * EDGE):.1f},"
        f"{CURVE_HIGH - EDGE - (v - min(values)) / up * (CURVE_HIGH - 2 * EDGE):.1f}"
        for s, v in drawn
    ]
    label = f"{name}: {values[0]:.4g} at step {steps[0]}, {values[-1]:.4g} at step {steps[-1]}"
    box = f"0 0 {CURVE_WIDE} {CURVE_HIGH}"
    svg = SubElement(parent, "svg", {"viewBox": box, "class": "curve", "role": "img", "aria-label": label})
    SubElement(svg, "polyline", {"points": " ".join(at)})


def _place(value: float, reach: float) -> float:
    return WIDE / 2 + max(-1.0, min(1.0, value / reach)) * (WIDE / 2 - 6)


def _line(svg: Element, x1: float, y1: float, x2: float, y2: float, style: str) -> None:
    SubElement(svg, "line", {"x1": f"{x1:.1f}", "y1": f"{y1:g}", "x2": f"{x2:.1f}", "y2": f"{y2:g}", "class": style})
