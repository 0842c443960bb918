"""What validation found, on one page that anybody can open: failures first, what became of them over snapshots, what was checked.

    page(document, history)  ->  "<!doctype html>…"     document as in validation.json, history the same of earlier snapshots

One file that stands alone (tasks/page.py): whatever stands in a value is text and never markup, whoever wrote it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element, SubElement

from tasks.page import begin, finish, table, text
from tasks.validation import CRITICAL, SEVERITIES


@dataclass(frozen=True, slots=True)
class Past:
    """The validation of an earlier snapshot, by its tag."""

    tag: str
    document: Mapping[str, Any]


def page(document: Mapping[str, Any], history: Sequence[Past] = ()) -> str:
    """The page; `history` has the newest snapshot first."""
    whole, main = begin(f"Validation {'passed' if document['success'] else 'failed'}")
    _verdict(main, document)
    _failures(main, document, history)
    _tables(main, document, history)
    _snapshots(main, document, history)
    _everything(main, document)
    return finish(whole)


def _verdict(main: Element, document: Mapping[str, Any]) -> None:
    good = document["success"]
    text(
        main,
        "h1",
        "Validation passed" if good else "Validation failed: nothing was published",
        "good" if good else "bad",
    )
    counted = ", ".join(f"{document['failed'][s]} {s}" for s in SEVERITIES if document["failed"][s]) or "nothing failed"
    text(main, "p", f"{document['checked']:,} expectations of {len(document['tables'])} tables: {counted}.", "soft")
    rows = document["quarantined"]["rows"]
    if rows:
        named = f"{rows:,} row{'s' * (rows != 1)} with a fault: each is in validation-quarantine.jsonl with its reason."
        text(
            main,
            "p",
            named + ("" if good else " A critical one stops the snapshot; nothing is left out of the data by itself."),
            "soft",
        )


def _failures(main: Element, document: Mapping[str, Any], history: Sequence[Past]) -> None:
    failures = [f for f in document["findings"] if not f["passed"]]
    if not failures:
        return
    text(main, "h2", "What must hold, and does not")
    for f in failures:
        card = SubElement(
            main, "section", {"class": f"card {f['severity'] if f['severity'] in SEVERITIES else CRITICAL}"}
        )
        title = SubElement(card, "h3")
        text(title, "span", f["severity"], f"tag {f['severity']}")
        text(title, "span", f"{f['table']}: {f['why']}")
        seen = f"{f['count']:,} row{'s' * (f['count'] != 1)}" if f["count"] else "the table as a whole"
        text(card, "p", f"{f['code']} · {seen} · {_since(f, history)}", "soft")
        if f["observed"]:
            text(SubElement(card, "p"), "code", f["observed"])
        if f["rows"]:
            listed = SubElement(card, "div")
            for row in f["rows"]:
                text(listed, "code", row, "id")
            if f["count"] > len(f["rows"]):
                text(listed, "span", f"and {f['count'] - len(f['rows']):,} more", "soft more")


def _since(finding: Mapping[str, Any], history: Sequence[Past]) -> str:
    """For how many snapshots in a row it has failed like this."""
    before = 0
    for past in history:
        if not any(_same(f, finding) for f in past.document["findings"] if not f["passed"]):
            break
        before += 1
    if not history:
        return "no snapshot before"
    return f"also in the {before} snapshot{'s' * (before != 1)} before" if before else "new since the snapshot before"


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(one.get(k) == other[k] for k in ("table", "code", "suite"))


def _tables(main: Element, document: Mapping[str, Any], history: Sequence[Past]) -> None:
    text(main, "h2", "Tables")
    checked = Counter(f["table"] for f in document["findings"])
    failed = Counter(f["table"] for f in document["findings"] if not f["passed"])
    before = history[0].document.get("tables", {}) if history else {}
    rows = [
        [
            name,
            str(failed[name] or ""),
            f"{n:,}",
            _difference(n, before.get(name)) if history else "",
            str(checked[name]),
        ]
        for name, n in sorted(document["tables"].items())
    ]
    table(main, ["table", "failed", "rows", "change", "checked"], rows, numbers={1, 2, 3, 4})


def _difference(now: int, before: int | None) -> str:
    return "new" if before is None else f"{now - before:+,}" if now != before else "="


def _snapshots(main: Element, document: Mapping[str, Any], history: Sequence[Past]) -> None:
    if not history:
        return
    text(main, "h2", "Over snapshots")
    rows = []
    for tag, d in [("this one", document), *((p.tag, p.document) for p in history)]:
        failures = sorted({f"{f['table']}: {f.get('code', f['why'])}" for f in d["findings"] if not f["passed"]})
        tables = d.get("tables", {})
        rows.append([
            tag, "passed" if d["success"] else "failed", ", ".join(failures), f"{d['checked']:,}",
            *(str(d["failed"].get(s, 0) or "") for s in SEVERITIES), f"{tables.get('sft', 0):,}",
            f"{tables.get('evaluation', 0):,}",
        ])  # fmt: skip
    titles = ["snapshot", "verdict", "what failed", "checked", *SEVERITIES, "sft", "evaluation"]
    table(main, titles, rows, numbers=set(range(3, 9)))


def _everything(main: Element, document: Mapping[str, Any]) -> None:
    text(main, "h2", "Everything that was checked")
    of: dict[str, list[Mapping[str, Any]]] = {}
    for f in document["findings"]:
        of.setdefault(f["table"], []).append(f)
    for name, findings in sorted(of.items()):
        wrong = sum(not f["passed"] for f in findings)
        shown = SubElement(main, "details")
        text(shown, "summary", f"{name}: {len(findings)} expectations" + (f", {wrong} failed" if wrong else ""))
        listed = SubElement(shown, "ul")
        for f in findings:
            item = SubElement(listed, "li")
            text(
                item, "span", "ok" if f["passed"] else f["severity"], f"tag {'good' if f['passed'] else f['severity']}"
            )
            text(item, "span", f"{f['why']} ({f['code']}, {f['severity']})")
