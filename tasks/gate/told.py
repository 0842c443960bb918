"""Comparisons in words that need no statistician.

    fixed 41, broken 12 of 180 prompts: +16.1 points (95% interval +8.0 to +23.9), p = 8.2e-05
"""

from __future__ import annotations

from tasks.compare import Paired


def told(found: Paired, level: float) -> str:
    """`level` of the interval, such as 0.95."""
    groups = "prompts" if found.groups == found.n else f"groups of alike prompts ({found.n} prompts)"
    return (
        f"fixed {found.fixed}, broken {found.broken} of {found.groups} {groups}: {points(found.difference)} points"
        f" ({level * 100:.3g}% interval {points(found.low)} to {points(found.high)}), p = {found.p_value:.2g}"
    )


def points(difference: float) -> str:
    return f"{100 * difference:+.1f}"
