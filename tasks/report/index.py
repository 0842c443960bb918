"""The index over all turns: what waits for a person now, how the error rate moves, and a line a turn.

    index({"workspace": "support", "newest": "snapshot-3f9c2a1b", "rates": […], "turns": […], …})  ->  "<!doctype html>…"

It is written anew each time, so it is as of then; the pages that it leads to stay as they were.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote
from xml.etree.ElementTree import Element, SubElement

from tasks.dossier.page import TITLES
from tasks.dossier.stacked import stacked
from tasks.dossier.told import UNKNOWN, count, known, percent
from tasks.page import begin, text
from tasks.report.page import STYLE, number_of, step, written
from tasks.report.parts import drawn, happened, interval_of

LOOK = """
.tag.promote{color:var(--good)}.tag.refuse{color:var(--bad)}.tag.inconclusive{color:var(--warn)}
"""


def index(document: Mapping[str, Any]) -> str:
    """The page over all turns."""
    whole, main = begin(f"{document['workspace']}: turns", STYLE + LOOK)
    text(main, "h1", document["workspace"])
    _now(main, document)
    part = SubElement(main, "section", {"id": "errors"})
    text(part, "h2", "Error rate")
    if any(known(r["value"]) for r in document["rates"]):
        drawn(part, document["rates"])
    else:
        text(part, "p", "Unknown: no random part of a batch has been answered yet.", "soft")
    _turns(main, document["turns"])
    return written(whole)


def line(document: Mapping[str, Any], page: str, dossier: str = "") -> dict[str, Any]:
    """What the index says of a turn, from the turn's own document; `page` and `dossier` are where to find more."""
    people = document["people"] or {}
    total, before = people.get("total") or {}, people.get("before") or {}
    rate: Mapping[str, Any] = next((r for r in reversed(document["rates"]) if known(r["value"])), {})
    gained = {
        f"{what}_new": total[what] - before[what] if known(total.get(what)) and known(before.get(what)) else None
        for what in ("labels", "errors", "cost")
    }
    return {
        "number": document["number"], "tag": document["tag"], "made": document["made"],
        "decision": (document["verdict"] or {}).get("decision", UNKNOWN),
        "rate": {k: rate.get(k) for k in ("value", "low", "high")}, "cost_per_error": total.get("cost_per_error"), **gained,
        "page": page, "dossier": dossier,
    }  # fmt: skip


def _now(main: Element, document: Mapping[str, Any]) -> None:
    part = SubElement(main, "section", {"id": "now"})
    if document["newest"]:
        text(part, "p", f"Since {document['newest']} of {document['since']}", "soft")
    else:
        text(part, "p", "There is no snapshot yet: flywheel turn makes the first one once enough questions are answered.")
    facts = SubElement(part, "div", {"class": "facts"})
    for fact in document["now"]:
        shown = SubElement(facts, "div")
        text(shown, "b", count(fact["value"]) if not isinstance(fact["value"], str) else fact["value"])
        text(shown, "span", fact["name"])
    waits, later = document["waits"], document["next"]
    text(part, "h2", "What waits for a person")
    if not waits:
        text(part, "p", "Nothing waits for anybody.", "soft")
    _steps(part, waits)
    if later:
        text(part, "h2", f"What to do next, as of {document['newest']}")
        _steps(part, later)
    if document["events"]:
        text(part, "h2", "What happened since")
        happened(part, document["events"])


def _steps(part: Element, found: Sequence[Mapping[str, Any]]) -> None:
    if found:
        listed = SubElement(part, "ol", {"class": "steps"})
        for one in found:
            step(listed, one)


def _turns(main: Element, turns: Sequence[Mapping[str, Any]]) -> None:
    if not turns:
        return
    part = SubElement(main, "section", {"id": "turns"})
    text(part, "h2", "Turns")
    newest = list(reversed(turns))
    rows = [
        ["", "", t["made"][:10], percent(t["rate"]["value"]), interval_of(t["rate"]), count(t["labels_new"]),
         count(t["errors_new"]), number_of(t["cost_new"]), number_of(t["cost_per_error"]), ""]
        for t in newest
    ]  # fmt: skip
    titles = ["turn", "decision", "made", "error rate", "interval", "new labels", "errors found", "cost", "cost an error", "more"]
    made = stacked(part, titles, rows, {3, 4, 5, 6, 7, 8})
    list(part.iter("table"))[-1].set("class", "stack turns")
    for cells, t in zip(made, newest, strict=True):
        first, second, *_, last = list(cells)
        SubElement(first, "a", {"href": quote(t["page"])}).text = f"Turn {t['number']}"
        said = str(t["decision"])
        text(second, "span", TITLES.get(said, said).lower(), f"tag {said}" if said in TITLES else "")
        SubElement(last, "a", {"href": quote(t["page"])}).text = t["tag"]
        if t["dossier"]:
            text(last, "span", " · ")
            SubElement(last, "a", {"href": quote(t["dossier"])}).text = "dossier"
