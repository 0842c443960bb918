"""Small pictures without a script: an interval on a line, a training curve, shares over turns. SVG inside the page, in its colours.

    interval(cell, 0.083, 0.023, 0.143, margin=0.05, reach=0.2)       curve(main, [(1, 2.5), (2, 1.25)])
    shares(main, [("01-05", 0.77, 0.68, 0.85), ("01-12", None, None, None)], {1: "2"}, "error rate")
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element, SubElement

WIDE, HIGH = 160, 20
CURVE_WIDE, CURVE_HIGH, EDGE = 320, 90, 4
SHARES_WIDE, SHARES_HIGH, LEFT, RIGHT, TOP, BOTTOM = 440, 200, 40, 14, 22, 24
LABELS = 6  # below a picture of shares; more would run into each other on a phone
Share = tuple[str, float | None, float | None, float | None]  # what stands below it, the share, its interval


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


def shares(parent: Element, points: Sequence[Share], marks: Mapping[int, str], name: str) -> None:
    """Shares in their order, each with its interval, from 0 to the highest; one that is unknown is a gap. `marks`: what happened
    before the point of that number. Nothing where no share is known."""
    drawn = [(k, v) for k, (_, v, _, _) in enumerate(points) if v is not None]
    if not drawn:
        return
    highest = max(h for _, v, _, high in points for h in (v, high) if h is not None)
    step = next(s for s in (0.02, 0.05, 0.1, 0.2, 0.25) if highest <= 5 * s or s == 0.25)
    top = step * max(1, math.ceil(highest / step - 1e-9))
    across = (SHARES_WIDE - LEFT - RIGHT) / len(points)

    def x(k: float) -> float:
        return LEFT + (k + 0.5) * across

    def y(value: float) -> float:
        return SHARES_HIGH - BOTTOM - value / top * (SHARES_HIGH - TOP - BOTTOM)

    known = ", ".join(f"{points[k][0]} {v:.1%}" for k, v in drawn[-LABELS:])
    box = f"0 0 {SHARES_WIDE} {SHARES_HIGH}"
    svg = SubElement(parent, "svg", {"viewBox": box, "class": "shares", "role": "img", "aria-label": f"{name}: {known}"})
    for n in range(round(top / step) + 1):
        _line(svg, LEFT, round(y(n * step), 1), SHARES_WIDE - RIGHT, round(y(n * step), 1), "grid")
        _text(svg, LEFT - 6, y(n * step) + 4, f"{n * step:.0%}", "end")
    for k, said in sorted(marks.items()):
        _line(svg, x(k - 0.5), TOP - 6, x(k - 0.5), SHARES_HIGH - BOTTOM, "mark")
        _text(svg, x(k - 0.5), TOP - 10, said, "middle")
    if len(drawn) > 1:
        SubElement(svg, "polyline", {"points": " ".join(f"{x(k):.1f},{y(v):.1f}" for k, v in drawn)})
    for k, (_, value, low, high) in enumerate(points):
        if value is None:
            continue
        if low is not None and high is not None:
            _line(svg, x(k), round(y(low), 1), x(k), round(y(high), 1), "range same")
        SubElement(svg, "circle", {"cx": f"{x(k):.1f}", "cy": f"{y(value):.1f}", "r": "4", "class": "dot"})
    every = math.ceil(len(points) / LABELS)
    for k in range(len(points) - 1, -1, -every):
        _text(svg, x(k), SHARES_HIGH - 6, points[k][0], "middle")


def _text(svg: Element, x: float, y: float, said: str, anchor: str) -> None:
    SubElement(svg, "text", {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}).text = said


def _place(value: float, reach: float) -> float:
    return WIDE / 2 + max(-1.0, min(1.0, value / reach)) * (WIDE / 2 - 6)


def _line(svg: Element, x1: float, y1: float, x2: float, y2: float, style: str) -> None:
    SubElement(svg, "line", {"x1": f"{x1:.1f}", "y1": f"{y1:g}", "x2": f"{x2:.1f}", "y2": f"{y2:g}", "class": style})
