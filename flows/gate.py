"""The gate's verdict as a page: why, then every comparison that it rests on.

{"decision": "promote", "reasons": ["right answers: better, …"], "primary": {…}, "guards": {…}, "slices": {…}, …}  ->  Markdown
"""

from __future__ import annotations

from typing import Any

HEAD = ["| | | fixed | broken | prompts | points | interval | p |", "|---|---|---|---|---|---|---|---|"]


def page(document: dict[str, Any]) -> str:
    """Markdown of data/reports/verdict.json; of a refusal without comparison its reasons alone."""
    lines = [f"**{document['decision']}**", "", *(f"- {r}" for r in document["reasons"])]
    if document.get("notes"):
        lines += ["", "To know beside it:", "", *(f"- {note}" for note in document["notes"])]
    if "primary" not in document:
        return "\n".join(lines)
    lines += ["", f"Look {document['look']} at this holdout: promoting takes p < {document['level']:.2g}.", "", *HEAD]
    lines.append(_row("right answers", "", document["primary"]))
    lines += [_row(name, g["state"], g["compared"]) for name, g in document["guards"].items()]
    # The largest loss first: whoever reads so far looks for harm.
    worst = sorted(document["slices"].items(), key=lambda x: (x[1]["compared"]["difference"], x[0]))
    lines += [_row(name, "worse" if s["worse"] else "" if s["tested"] else "too few changed", s["compared"]) for name, s in worst]
    return "\n".join(lines)


def _row(name: str, state: str, c: dict[str, Any]) -> str:
    if not c["groups"]:
        return f"| {name} | {state} | | | 0 | | | |"
    return (
        f"| {name} | {state} | {c['fixed']} | {c['broken']} | {c['n']} | {100 * c['difference']:+.1f}"
        f" | {100 * c['low']:+.1f} to {100 * c['high']:+.1f} | {c['p_value']:.3g} |"
    )
