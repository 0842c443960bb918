"""The dossier as a page: the decision first, then what it rests on, then what it is about. For a screen, a phone and paper."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any
from xml.etree.ElementTree import Element, SubElement

from tasks.dossier import Evidence
from tasks.dossier.figures import interval
from tasks.dossier.gate import Compared, compared
from tasks.dossier.parts import cases, data, helped, history, model, people, pinned
from tasks.dossier.stacked import stacked
from tasks.dossier.told import count, number, percent, points
from tasks.page import begin, finish, text
from tasks.verdict import INCONCLUSIVE, PROMOTE, REFUSE

STYLE = """
nav{display:flex;flex-wrap:wrap;gap:4px 14px;margin:12px 0 0;font-size:.9rem}a{color:var(--info)}
.decision{border-left-width:10px;padding:16px 20px}.decision.promote{border-left-color:var(--good)}
.decision.refuse{border-left-color:var(--bad)}.decision.inconclusive{border-left-color:var(--warn)}
.decision h1 span{text-transform:uppercase;letter-spacing:.04em}.decision ul{margin:8px 0 0;padding-left:20px}
.promote h1 span{color:var(--good)}.refuse h1 span{color:var(--bad)}.inconclusive h1 span{color:var(--warn)}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:10px;margin:12px 0}
.facts div{background:var(--paper);border:1px solid var(--line);border-radius:8px;padding:10px 14px}
.facts b{display:block;font-size:1.3rem;font-variant-numeric:tabular-nums}.facts span{color:var(--soft);font-size:.85rem}
h3{font-size:1rem;margin:20px 0 8px}
dl{display:grid;grid-template-columns:minmax(120px,max-content) 1fr;gap:4px 16px;margin:0 0 12px}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere;min-width:0}
td.name{white-space:normal;overflow-wrap:anywhere}.wide+p{margin-top:10px}td:nth-child(3):not(.n){min-width:0}
td:first-child+td:not(.n){white-space:normal;overflow-wrap:anywhere}
tr.decides td{font-weight:600}tr.harm td{color:var(--bad)}
th,th.n{white-space:normal;vertical-align:bottom}.stack td.name{min-width:9em}.stack th,.stack td{padding:6px 8px}
svg.interval{width:130px;height:18px;display:block}svg.curve{width:100%;max-width:320px;height:90px;display:block}
svg .axis{stroke:var(--soft);stroke-width:1}svg .margin{stroke:var(--warn);stroke-width:1.5;stroke-dasharray:3 2}
svg .range{stroke-width:3}svg .same{stroke:var(--soft);fill:var(--soft)}svg .better{stroke:var(--good);fill:var(--good)}
svg .worse{stroke:var(--bad);fill:var(--bad)}svg polyline{fill:none;stroke:var(--info);stroke-width:2}
.curves{display:grid;grid-template-columns:repeat(auto-fit,minmax(220px,1fr));gap:12px}
.case p{margin:4px 0;white-space:pre-wrap;overflow-wrap:anywhere}.case b{color:var(--soft);font-weight:600}
.case.fixed{border-left-color:var(--good)}.case.broken{border-left-color:var(--bad)}
@media(max-width:600px){dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:6px}
table.stack thead{display:none}table.stack tr{display:block;padding:8px 12px;border-bottom:1px solid var(--line)}
table.stack td{display:flex;justify-content:space-between;gap:12px;border:0;padding:2px 0;text-align:right;white-space:normal}
table.stack td:first-child{font-weight:600;text-align:left}table.stack td:empty{display:none}
table.stack td::before{content:attr(data-name);color:var(--soft);font-weight:400;text-align:left}
table.stack td:first-child::before,table.stack td:has(svg)::before{content:none}table.stack svg.interval{width:100%;height:24px}
table.stack td:has(svg){display:block}table:not(.stack) td.n{white-space:normal}}
@media print{body{background:#fff}main{max-width:none;padding:0}nav{display:none}.card,.wide,details{break-inside:avoid}
h2,h3{break-after:avoid}.wide{overflow:visible}}
"""
TITLES = {PROMOTE: "Promote", REFUSE: "Refuse", INCONCLUSIVE: "Inconclusive"}
MEANS = {
    PROMOTE: "The challenger is better on the sealed prompts and no guard was breached.",
    REFUSE: "Something is worse, or something that the gate needs is missing. The champion stays.",
    INCONCLUSIVE: "The sealed prompts do not show that the challenger is better. The champion stays.",
}
PICTURE = 6  # the column of the gate's table that shows the interval
SIGNIFICANT = 0.05


def page(evidence: Evidence) -> str:
    """The dossier. Raises KeyError where the snapshot has no verdict: then nothing was decided."""
    whole, main = begin(f"{evidence.tag}: {evidence.reports['verdict']['decision']}", STYLE)
    decision(main, evidence)
    sections: Sequence[tuple[str, str, Callable[[Element, Evidence], bool]]] = (
        ("gate", "The gate", gate), ("models", "Champion and challenger", models), ("cases", "Fixed and broken", cases),
        ("helped", "Which data helped", helped), ("data", "The data", data), ("model", "The model", model),
        ("people", "People", people), ("pinned", "Hashes", pinned), ("history", "History", history),
    )  # fmt: skip
    nav = SubElement(main, "nav")
    for id, title, write in sections:
        part = Element("section", {"id": id})
        text(part, "h2", title)
        if write(part, evidence):
            main.append(part)
            SubElement(nav, "a", {"href": f"#{id}"}).text = title
    return finish(whole)


def decision(main: Element, evidence: Evidence) -> None:
    verdict = evidence.reports["verdict"]
    said = verdict["decision"]
    card = SubElement(main, "section", {"class": f"card decision {said if said in TITLES else REFUSE}"})
    title = SubElement(card, "h1")
    text(title, "span", TITLES.get(said, said))
    text(card, "p", f"{evidence.tag} of {evidence.made}", "soft")
    text(card, "p", MEANS.get(said, ""))
    listed = SubElement(card, "ul")
    for reason in verdict["reasons"]:
        text(listed, "li", _sentence(reason))
    for note in verdict.get("notes", ()):
        text(listed, "li", _sentence(note), "soft")
    for event in evidence.events:
        by = f" by {event.by}" if event.by else ""
        text(card, "p", f"{event.at}: {event.action}{by}{f', {event.why}' if event.why else ''}")
    facts = SubElement(main, "div", {"class": "facts"})
    primary = verdict.get("primary") or {}
    for name, value in (
        ("right answers, champion", percent(verdict.get("champion_right"))),
        ("right answers, challenger", percent(verdict.get("challenger_right"))),
        ("fixed, broken", f"{count(primary.get('fixed'))}, {count(primary.get('broken'))}" if primary else "not compared"),
        ("sealed prompts, independent", f"{count(primary.get('n'))}, {count(primary.get('groups'))}" if primary else "none"),
        ("p-value", number(primary.get("p_value"), 2)),
    ):
        fact = SubElement(facts, "div")
        text(fact, "b", value)
        text(fact, "span", name)
    if "look" in verdict:
        level = f"; it took p below {number(verdict['level'], 2)}" if "level" in verdict else ""
        text(main, "p", f"This was look number {verdict['look']} at the sealed prompts{level}.", "soft")


def gate(part: Element, evidence: Evidence) -> bool:
    rows = compared(evidence.reports["verdict"])
    if not rows:
        text(part, "p", "Nothing was compared: the reasons above say why.")
        return True
    text(
        part, "p",
        "Challenger minus champion on the same prompts; all but the first line may only refuse. Left of the middle is harm, the "
        "dashed line is the loss that is tolerated. Groups of near-identical prompts count once.",
        "soft",
    )  # fmt: skip
    titles = ["compared", "prompts (groups)", "fixed", "broken", "difference", "interval", "", "p", "tolerated loss", "state"]
    cells = [_cells(r) for r in rows]
    told = [k for k in range(len(titles)) if k == PICTURE or any(c[k] for c in cells)]
    made = stacked(part, [titles[k] for k in told], [[c[k] for k in told] for c in cells], set(range(1, len(told))) - {PICTURE})
    widest = [abs(v) for r in rows for v in (r.low, r.high) if math.isfinite(v) and r.role != "slice"]
    for line, r in zip(made.iter("tr"), rows, strict=True):
        harm = r.state == "worse" or (r.broken > r.fixed and r.p_value < SIGNIFICANT)
        line.set("class", f"{r.role}{' harm' if harm else ''}")
        if all(map(math.isfinite, (r.difference, r.low, r.high))):
            interval(list(line)[PICTURE], r.difference, r.low, r.high, min(1.0, max([0.05, *widest])), r.margin)
    return True


def _cells(r: Compared) -> list[str]:
    known = math.isfinite(r.low) and math.isfinite(r.high)
    between = f"{number(r.low, 3, True)} to {number(r.high, 3, True)}" if known else "unknown"
    name = f"slice {r.name}" if r.role == "slice" else r.name
    return [
        name, f"{count(r.n)} ({count(r.groups)})", count(r.fixed), count(r.broken), number(r.difference, 3, True), between, "",
        number(r.p_value, 2), points(r.margin) if r.margin else "", r.state,
    ]  # fmt: skip


def models(part: Element, evidence: Evidence) -> bool:
    report = evidence.reports.get("evaluation")
    if not report:
        return False
    old, new = report.get("champion", {}), report.get("challenger", {})
    rows = [
        [title, form(old.get(key)), form(new.get(key))]
        for key, title, form in (
            ("right", "right answers", percent), ("brier", "Brier score (0 best)", lambda v: number(v, 3)),
            ("ece", "expected calibration error", lambda v: number(v, 3)),
        )
        if key in old or key in new
    ]  # fmt: skip
    for kind in sorted({*old.get("right_by_kind", {}), *new.get("right_by_kind", {})}):
        rows.append([f"right where {kind} is due", *(_of(m.get("right_by_kind", {}).get(kind)) for m in (old, new))])
    for metric, pair in _scores(report).items():
        rows.append([metric, *pair])
    for signal in sorted({*old.get("signals", {}), *new.get("signals", {})}):
        rows.append([f"answers with the finding {signal}", *(str(m.get("signals", {}).get(signal, 0)) for m in (old, new))])
    stacked(part, ["on the sealed prompts", "champion", "challenger"], rows, {1, 2})
    slices = [[f"{s['by']}: {s['value'] or 'none'}", count(s["n"]), _of([s["champion"], s["n"]]), _of([s["challenger"], s["n"]])]
              for s in report.get("slices", ())]  # fmt: skip
    if slices:
        text(part, "h3", "By slice")
        stacked(part, ["slice", "prompts", "champion right", "challenger right"], slices, {1, 2, 3})
    others = [[name, count(p["n"]), _of([p["champion"]["right"], p["n"]]), _of([p["challenger"]["right"], p["n"]])]
              for name, p in report.get("parts", {}).items() if name != "holdout" and p.get("n")]  # fmt: skip
    if others:
        text(part, "h3", "Beside the holdout")
        stacked(part, ["part", "prompts", "champion right", "challenger right"], others, {1, 2, 3})
    return True


def _scores(report: Any) -> dict[str, list[str]]:
    holdout = report.get("parts", {}).get("holdout", {})
    both = [holdout.get(who, {}).get("scores", {}) for who in ("champion", "challenger")]
    names = sorted({*both[0], *both[1]})
    return {m: [f"{number(s[m][0], 3)} of {s[m][1]}" if m in s else "" for s in both] for m in names}


def _of(pair: Any) -> str:
    """`[right, of]` as a share."""
    return f"{pair[0]} of {pair[1]} ({percent(pair[0] / pair[1])})" if pair and pair[1] else ""


def _sentence(reason: str) -> str:
    return reason[:1].upper() + reason[1:] + ("" if reason.endswith((".", "!", "?")) else ".")
