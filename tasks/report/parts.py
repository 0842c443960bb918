"""The sections of a turn's page: error rate, failures, people, data, champions. Each tells whether it had a say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import Element, SubElement

from tasks.dossier.figures import shares
from tasks.dossier.stacked import stacked
from tasks.dossier.told import UNKNOWN, count, known, percent
from tasks.fates import BORN, FIXED, GROWING, REGRESSED, SHRINKING
from tasks.page import table, text

MOST = 8  # clusters that changed, and of the others
CLAUSES = 8
STATES = {REGRESSED: "critical", GROWING: "warning", FIXED: "good", SHRINKING: "good", BORN: "warning"}


def rates(part: Element, document: Mapping[str, Any]) -> bool:
    found = document["rates"]
    if not found:
        text(part, "p", "Unknown: no random part of a batch had been answered.", "soft")
        return True
    drawn(part, found)
    if document["trend"]:
        text(part, "p", f"Trend: {document['trend']}")
    return True


def drawn(part: Element, found: Sequence[Mapping[str, Any]]) -> None:
    """The error rate over turns with its intervals, as a picture and as numbers."""
    points = [(r["until"][5:], r["value"], r["low"], r["high"]) for r in found]
    shares(part, points, {n: f"champion {r['champion']}" for n, r in enumerate(found) if r["champion"]}, "error rate")
    text(part, "p", "Of each batch's window, from its random part; bars are 95% intervals, dashed lines new champions.", "soft")
    rows = [
        [r["until"], percent(r["value"]), interval_of(r), count(r["n"]) if known(r["value"]) else UNKNOWN, r["champion"]]
        for r in reversed(found)
    ]
    stacked(part, ["traffic until", "error rate", "interval", "labels", "new champion"], rows, {1, 2, 3})


def interval_of(rate: Mapping[str, Any]) -> str:
    return f"{percent(rate['low'])} to {percent(rate['high'])}" if known(rate["low"]) and known(rate["high"]) else UNKNOWN


def failures(part: Element, document: Mapping[str, Any]) -> bool:
    found = document["failures"]
    if not found:
        text(part, "p", "No cluster of failures is known.", "soft")
        return True
    fresh = [f for f in found if f["fresh"]]
    counts = {state: sum(f["state"] == state for f in fresh) for state in STATES}
    said = ", ".join(f"{n} {state}" for state, n in counts.items() if n)
    text(part, "p", f"In this turn: {said or 'no cluster changed'}. Failures that look alike are one cluster.", "soft")
    urgent = {state: n for n, state in enumerate(STATES)}
    _clusters(part, "Changed in this turn", sorted(fresh, key=lambda f: urgent.get(f["state"], len(urgent))))
    _clusters(part, "The commonest of the others", [f for f in found if not f["fresh"]])
    return True


def _clusters(part: Element, title: str, found: Sequence[Mapping[str, Any]]) -> None:
    if not found:
        return
    text(part, "h3", title)
    shown = found[:MOST]
    rows = [
        ["", "", percent(f["share"]), f"{count(f['count'])} of {count(f['window'])}", _points(f["trend"]),
         f"{f['answered']} of {f['known']}"]
        for f in shown
    ]  # fmt: skip
    titles = ["cluster", "state", "share", "failures", "since it last changed", "answered examples"]
    made = stacked(part, titles, rows, {2, 3, 4, 5})
    for line, f in zip(made, shown, strict=True):
        cells = list(line)
        text(cells[0], "span", f["name"])
        text(cells[0], "p", f["example"], "said")
        text(cells[1], "span", f["state"], f"tag {STATES[f['state']]}" if f["fresh"] and f["state"] in STATES else "soft")
    _words(part)
    if len(found) > len(shown):
        text(part, "p", f"and {len(found) - len(shown):,} more", "soft")


def people(part: Element, document: Mapping[str, Any]) -> bool:
    found = document["people"]
    if not found:
        text(part, "p", "Unknown: what people had answered is not to be had any more.", "bad")
        return True
    total, before = found["total"], found["before"]
    rows = [
        [name, count(total[key]) if whole else _cost(total[key]), _gained(total, before, key, whole)]
        for name, key, whole in (
            ("answers that count", "answers", True), ("labels agreed on", "labels", True),
            ("errors found and corrected", "errors", True), ("cost", "cost", False),
            ("cost of a corrected error", "cost_per_error", False),
        )
    ]  # fmt: skip
    table(part, ["", "so far", "in this turn"], rows, {1, 2})
    if found["looked_at"]:
        share = f"{percent(found['wrong_low'])} to {percent(found['wrong_high'])}"
        text(part, "p", f"Of labels that an expert looked at by lot {found['wrong']} of {found['looked_at']} were wrong ({share}).")
    else:
        text(part, "p", "How many labels are wrong is unknown: an expert has looked at none by lot.", "soft")
    text(part, "h3", "By kind of question")
    kinds = [
        [k["kind"], count(k["out"]), count(k["back"]), count(k["settled"]), count(k["disputed"]), _cost(k["cost"]),
         "; ".join(f"{field}: {said}" for field, said in k["agreement"].items())]
        for k in found["kinds"]
    ]  # fmt: skip
    stacked(part, ["kind", "asked", "answers", "settled", "disputed", "cost", "agreement"], kinds, {1, 2, 3, 4, 5})
    if found["doubted"]:
        text(part, "h3", "People whose answers raise a doubt")
        stacked(part, ["annotator", "they look", "answers", "because"],
                [[p["name"], p["verdict"], count(p["answers"]), p["why"]] for p in found["doubted"]], {2})  # fmt: skip
    disputed = [c for c in found["clauses"] if c["disagreed"]][:CLAUSES]
    if disputed:
        text(part, "h3", "Clauses that people disagree about")
        stacked(part, ["clause", "guideline", "questions", "disagreed", "interval"],
                [[c["clause"], c["guideline"], count(c["questions"]), count(c["disagreed"]), interval_of(c)] for c in disputed],
                {2, 3, 4})  # fmt: skip
    return True


def data(part: Element, document: Mapping[str, Any]) -> bool:
    found = document["data"]
    if not found:
        return False
    text(part, "p", f"{found['summary'][:1].upper()}{found['summary'][1:]}.")
    if document["before"]:
        text(SubElement(part, "p"), "code", f"flywheel diff {document['before']} {document['tag']}")
    rows = [[f"{t['table']} ({t['side']})", f"{count(t['before'])} → {count(t['now'])}", _changed(t)] for t in found["tables"]]
    if rows:
        width = 3 if document["before"] and not found["unknown"] else 2
        table(part, ["table", "rows", "change"][:width], [r[:width] for r in rows], {1})
    if found["left"]:
        text(part, "h3", "What does not train, and why")
        left = [
            [f"{r['reason'].replace('_', ' ')} ({r['stage']})", f"{count(r['before'])} → {count(r['rows'])}"] for r in found["left"]
        ]
        table(part, ["reason", "rows"], left, {1})
    for title, listed in (("Labels that say something else now", found["flips"]), ("Validation", found["failed"]),
                          ("Alerts", found["alerts"])):  # fmt: skip
        if listed:
            text(part, "h3", title)
            lines = SubElement(part, "ul")
            for said in listed:
                text(lines, "li", said)
    if found["settings"]:
        text(part, "h3", "Settings that changed (params.yaml)")
        stacked(part, ["setting", "before", "now"], found["settings"])
    return True


def events(part: Element, document: Mapping[str, Any]) -> bool:
    if not document["events"]:
        text(part, "p", "Nothing was promoted, declined or brought back, and serving decided nothing.", "soft")
        return True
    happened(part, document["events"])
    return True


def happened(part: Element, found: Sequence[Mapping[str, Any]]) -> None:
    rows = [[e["what"], e["at"][:16].replace("T", "\u00a0"), e["version"], e["snapshot"], e["by"], e["why"]] for e in found]
    stacked(part, ["what", "at", "version", "snapshot", "by", "why"], rows)
    _words(part)


def _words(part: Element) -> None:
    """The last table's first column holds words, which break where they must."""
    list(part.iter("table"))[-1].set("class", "stack words")


def _changed(found: Mapping[str, Any]) -> str:
    return ", ".join(f"{count(found[how])} {how}" for how in ("added", "removed", "changed") if found[how] != 0) or "the same"


def _points(value: Any) -> str:
    return f"{round(100 * value, 1) + 0.0:+.1f} points" if known(value) else UNKNOWN  # and no minus before 0.0


def _cost(value: Any) -> str:
    return f"{value:,.2f}" if known(value) else UNKNOWN


def _gained(total: Mapping[str, Any], before: Mapping[str, Any] | None, key: str, whole: bool) -> str:
    if key == "cost_per_error":
        return _cost_per_error(total, before)
    if before is None or not known(total[key]) or not known(before[key]):
        return UNKNOWN
    return f"{total[key] - before[key]:+,}" if whole else f"{total[key] - before[key]:+,.2f}"


def _cost_per_error(total: Mapping[str, Any], before: Mapping[str, Any] | None) -> str:
    """Of this turn's errors alone."""
    if before is None or not all(known(x[k]) for x in (total, before) for k in ("answer_cost", "errors")):
        return UNKNOWN
    errors = total["errors"] - before["errors"]
    return _cost((total["answer_cost"] - before["answer_cost"]) / errors) if errors > 0 else UNKNOWN
