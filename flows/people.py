"""How the quality of people's answers is shown, on a terminal and in the Prefect UI."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tasks.annotators import Card
from tasks.live.quality import Audited, ClauseQuality, Quality
from tasks.live.trail import Step
from tasks.reliability import Reliability


def quality_text(found: Quality) -> str:
    """As `flywheel label` prints it."""
    lines = ["question      out   back  settled  disputed  answers each  cost a label  agreement"]
    for k in found.kinds:
        agreed = "; ".join(f"{name} {reliability_text(r)}" for name, r in k.agreement.items())
        counts = f"{k.out:>5}  {k.back:>5}  {k.settled:>7}  {k.disputed:>8}  {k.answers_each:>12.1f}"
        lines.append(f"{k.kind:<10}  {counts}  {money(k.cost_per_label):>12}  {agreed}")
    lines += ["", f"cost so far {found.cost:,.2f}; of a corrected error {money(found.cost_per_error)}", ""]
    lines += [audited_text(found.audited), ""]
    for c in found.annotators:
        row = annotator_row(c)
        lines.append("  ".join([f"{c.annotator:<12}", *(f"{k} {v}" for k, v in row.items() if k != "annotator")]))
    lines += ["", *(f"clause {c.guideline} {c.clause}: people disagree about {share(c)}" for c in found.clauses[:10])]
    return "\n".join(lines).rstrip()


def trail_text(steps: Sequence[Step]) -> str:
    return "\n".join(f"{s.ts}  {s.what:<10} {s.who:<12} {s.kind:<10} {s.guideline:<12} {s.detail}" for s in steps)


def reliability_text(r: Reliability) -> str:
    """'alpha nominal 0.81 (0.77 to 0.85), 86% of pairs the same', or 'unknown'."""
    if math.isnan(r.raw):
        return "unknown (nobody overlaps)"
    value = "unknown" if math.isnan(r.value) else f"{r.value:.2f} ({r.low:.2f} to {r.high:.2f})"
    return f"{r.measure} {value}, {r.raw:.0%} of pairs the same"


def annotator_row(card: Card) -> dict[str, Any]:
    gold = f"{card.gold_right} of {card.gold_seen}" if card.gold_seen else "none seen"
    seconds = "unknown" if math.isnan(card.median_seconds) else f"{card.median_seconds:.0f}"
    return {
        "annotator": card.annotator,
        "verdict": card.verdict,
        "why": "; ".join(card.why),
        "answers": card.answers,
        "gold right": gold,
        "weight": f"{card.quality:.2f}",
        "skill": f"{card.skill:.2f} ({card.skill_low:.2f} to {card.skill_high:.2f})",
        "agrees": "unknown" if math.isnan(card.agreement) else f"{card.agreement:.0%}",
        "seconds": seconds,
    }


def audited_text(a: Audited) -> str:
    if not a.labels:
        return "labels that an expert looked at by lot: none yet"
    return f"labels that an expert looked at by lot: {a.wrong} of {a.labels} wrong ({a.low:.1%} to {a.high:.1%})"


def share(c: ClauseQuality) -> str:
    return f"{c.disagreed} of {c.questions} ({c.low:.0%} to {c.high:.0%})"


def money(value: float) -> str:
    return "unknown" if math.isnan(value) else f"{value:,.2f}"
