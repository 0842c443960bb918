"""One turn as a page: what was decided, what to do next, then what it rests on. For a screen, a phone and paper.

    page(document)  ->  "<!doctype html>…"       document as tasks.report.document makes it; what it lacks is not shown
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote
from xml.etree.ElementTree import Element, SubElement

from tasks.dossier import Evidence
from tasks.dossier.page import STYLE as DOSSIER
from tasks.dossier.page import TITLES, gate
from tasks.dossier.parts import helped
from tasks.dossier.told import count, known, number, percent
from tasks.page import begin, finish, text
from tasks.report.parts import data, events, failures, people, rates
from tasks.verdict import REFUSE

STYLE = (
    DOSSIER
    + """
svg.shares{width:100%;max-width:560px;height:auto;display:block;margin:0 0 8px}
svg .grid{stroke:var(--line);stroke-width:1}svg .mark{stroke:var(--warn);stroke-width:1.5;stroke-dasharray:4 3}
svg text{fill:var(--soft);font:12px system-ui,sans-serif}svg.shares .range{stroke-width:2}svg.shares .dot{fill:var(--info)}
ol.steps{margin:0;padding:0;list-style:none}.card pre{margin:4px 0 0;white-space:pre-wrap;overflow-wrap:anywhere;
font:.85rem/1.5 ui-monospace,monospace;background:var(--back);border-radius:4px;padding:4px 8px}
.card.step p{margin:0}.card.step{border-left-color:var(--info);padding:10px 16px}
p.said{margin:2px 0 0;color:var(--soft);font-style:italic;font-weight:400;overflow-wrap:anywhere}
main{overflow-wrap:anywhere}th{overflow-wrap:normal}.tag{white-space:nowrap}
@media(min-width:601px){.turns td:nth-child(3){white-space:nowrap}}
.words td:first-child{white-space:normal;overflow-wrap:anywhere}
@media(max-width:600px){table.stack td::before{flex:0 0 auto;max-width:45%}
table:not(.stack) td.name{min-width:5.5em}table.words td:first-child{display:block}}
"""
)
WORST = 6  # slices that the gate's table shows, the worst first
FILE = "{}.html"
WHO = ("champion", "challenger")


def page(document: Mapping[str, Any]) -> str:
    """The page of one turn."""
    whole, main = begin(f"Turn {document['number']}: {_decision(document)}", STYLE)
    links = SubElement(main, "p")
    SubElement(links, "a", {"href": "index.html"}).text = "All turns"
    if document["before"]:
        text(links, "span", " · ")
        SubElement(links, "a", {"href": quote(file_name(document["before"]))}).text = "The turn before"
    _head(main, document)
    sections: Sequence[tuple[str, str, Callable[[Element, Mapping[str, Any]], bool]]] = (
        ("next", "What to do next", _next), ("errors", "Error rate", rates), ("failures", "What goes wrong", failures),
        ("people", "People and what they cost", people), ("data", "What changed in the data", data), ("gate", "The gate", _gate),
        ("helped", "Which data helped", _helped), ("events", "Champions and serving in this turn", events),
        ("made", "How it was made", _made),
    )  # fmt: skip
    nav = SubElement(main, "nav")
    for id, title, write in sections:
        part = Element("section", {"id": id})
        text(part, "h2", title)
        if write(part, document):
            main.append(part)
            SubElement(nav, "a", {"href": f"#{id}"}).text = title
    return written(whole)


def file_name(tag: str) -> str:
    """Of the page of a snapshot: git allows a tag to look like a path."""
    return FILE.format(tag.replace("/", "-"))


def written(whole: Element) -> str:
    """The page with every block on lines of its own: an erasure takes the lines out in which something of a person's stands."""
    for element in whole.iter():
        if element.tag in ("p", "td", "tr", "li", "h1", "h2", "h3", "section", "div", "pre", "dd"):
            element.tail = "\n"
            if element.text and element.tag != "pre":
                element.text = f"\n{element.text}\n"
    return finish(whole)


def step(parent: Element, found: Mapping[str, Any]) -> None:
    """One thing to do, as a card."""
    card = SubElement(parent, "li", {"class": "card step"})
    text(card, "h3", str(found["what"]))
    text(card, "p", str(found["why"]))
    text(card, "pre", str(found["command"]))


def _decision(document: Mapping[str, Any]) -> str:
    said = str((document["verdict"] or {}).get("decision", "unknown"))
    return TITLES.get(said, said)


def _head(main: Element, document: Mapping[str, Any]) -> None:
    verdict = document["verdict"] or {}
    said = verdict.get("decision")
    card = SubElement(main, "section", {"class": f"card decision {said if said in TITLES else REFUSE}"})
    title = SubElement(card, "h1")
    text(title, "span", _decision(document))
    text(card, "p", f"Turn {document['number']}: {document['tag']} of {document['made']}", "soft")
    listed = SubElement(card, "ul")
    for reason in verdict.get("reasons", ()):
        text(listed, "li", _sentence(str(reason)))
    if not verdict:
        text(card, "p", "This snapshot has no verdict.")
    if "look" in verdict:
        level = f"; it took p below {number(verdict['level'], 2)}" if "level" in verdict else ""
        text(card, "p", f"This was look number {verdict['look']} at the sealed prompts{level}.", "soft")
    for gone in document["gone"]:
        text(card, "p", f"Not to be had any more: {gone}", "bad")
    newest = next((r for r in reversed(document["rates"]) if known(r["value"])), None)
    spent = document["people"]
    total, before = (spent["total"], spent["before"]) if spent else ({}, None)
    facts = (
        (percent(newest["value"] if newest else None), f"error rate{_between(newest)}"),
        (" → ".join(percent(verdict.get(f"{who}_right")) for who in WHO), f"right answers, {' → '.join(WHO)}"),
        (count(_more(total, before, "errors")), "errors found and corrected in this turn"),
        (count(_more(total, before, "labels")), "labels new in this turn"),
        (number_of(_more(total, before, "cost")), "cost of people in this turn"),
        (number_of(total.get("cost_per_error")), "cost of a corrected error, so far"),
    )
    listed = SubElement(main, "div", {"class": "facts"})
    for value, name in facts:
        fact = SubElement(listed, "div")
        text(fact, "b", value)
        text(fact, "span", name)


def number_of(cost: Any) -> str:
    return f"{cost:,.2f}" if known(cost) else "unknown"


def _between(rate: Mapping[str, Any] | None) -> str:
    return f", {percent(rate['low'])} to {percent(rate['high'])}" if rate else ""


def _more(total: Mapping[str, Any], before: Mapping[str, Any] | None, what: str) -> Any:
    now, was = total.get(what), (before or {}).get(what)
    return now - was if known(now) and known(was) else None


def _next(part: Element, document: Mapping[str, Any]) -> bool:
    listed = SubElement(part, "ol", {"class": "steps"})
    for found in document["next"]:
        step(listed, found)
    if not document["next"]:
        text(part, "p", "Nothing that this turn knows of.", "soft")
    return True


def _gate(part: Element, document: Mapping[str, Any]) -> bool:
    verdict = document["verdict"]
    if not verdict:
        return False
    found = verdict.get("slices") or {}
    worst = sorted(found, key=lambda name: _difference(found[name]))[:WORST]
    for note in verdict.get("notes", ()):
        text(part, "p", _sentence(str(note)), "soft")
    shown = {**verdict, "slices": {name: found[name] for name in worst}}
    done = gate(part, Evidence(tag=document["tag"], digest="", commit="", made="", reports={"verdict": shown}))
    if len(found) > len(worst):
        text(part, "p", f"Of {len(found)} slices the {len(worst)} worst; the dossier has all.", "soft")
    return done


def _difference(slice: Mapping[str, Any]) -> float:
    value = slice.get("compared", slice).get("difference")
    return value if known(value) else 0.0


def _helped(part: Element, document: Mapping[str, Any]) -> bool:
    report = document["attribution"] or {}
    if report.get("method") == "none":
        text(part, "p", f"It was not looked into: {report.get('reason', 'unknown')}.", "soft")
        return True
    names = {f["id"]: f["name"] for f in document["failures"]}
    rows = [{**r, "group": names.get(r.get("group"), r.get("group"))} for r in report.get("rows", ())]
    return helped(part, Evidence(tag="", digest="", commit="", made="", reports={"attribution": {**report, "rows": rows}}))


def _made(part: Element, document: Mapping[str, Any]) -> bool:
    listed = SubElement(part, "dl")
    for name, value in (("snapshot", document["tag"]), ("git commit", document["commit"]), ("digest", document["digest"])):
        text(listed, "dt", name)
        text(listed, "dd", str(value))
    line = SubElement(part, "p")
    if document["dossier"]:
        SubElement(line, "a", {"href": quote(document["dossier"])}).text = "The dossier of this decision"
    else:
        text(line, "code", f"flywheel dossier {document['tag']}")
        text(line, "span", "   writes all that the decision rests on.", "soft")
    return True


def _sentence(reason: str) -> str:
    return reason[:1].upper() + reason[1:] + ("" if reason.endswith((".", "!", "?")) else ".")


