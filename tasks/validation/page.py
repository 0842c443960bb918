"""What validation found, on one page that anybody can open: failures first, what became of them over snapshots, what was checked.

    page(document, history)  ->  "<!doctype html>…"     document as in validation.json, history the same of earlier snapshots

One file without a script, a font or a picture from anywhere, and with a policy that lets none in. It is put together as a tree,
so that whatever stands in a value is text and never markup, whoever wrote it.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

from tasks.validation import CRITICAL, SEVERITIES

STYLE = """
:root{color-scheme:light dark;--ink:#1d2430;--soft:#5b6676;--line:#d9dee6;--paper:#fff;--back:#f4f6f9;--bad:#b3261e;--warn:#8a5a00;
--info:#2a5db0;--good:#1c6b3a}
@media(prefers-color-scheme:dark){:root{--ink:#e6eaf0;--soft:#9aa5b5;--line:#323b48;--paper:#1a2029;--back:#11151b;--bad:#ff8a80;
--warn:#ffc766;--info:#8ab4f8;--good:#7bd99a}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:1100px;margin:0 auto;padding:24px 16px 64px}
h1{font-size:1.6rem;margin:0 0 4px}h2{font-size:1.15rem;margin:32px 0 12px}p{margin:0 0 8px}
.soft{color:var(--soft)}.bad{color:var(--bad)}.good{color:var(--good)}
.card{background:var(--paper);border:1px solid var(--line);border-left:6px solid var(--soft);border-radius:8px;
padding:12px 16px;margin:0 0 12px}
.card.critical{border-left-color:var(--bad)}.card.warning{border-left-color:var(--warn)}.card.info{border-left-color:var(--info)}
.card h3{font-size:1rem;margin:0 0 4px;overflow-wrap:anywhere}
.tag{display:inline-block;font-size:.8rem;font-weight:600;border:1px solid currentColor;border-radius:99px;
padding:0 8px;margin-right:8px}
.tag.critical{color:var(--bad)}.tag.warning{color:var(--warn)}.tag.info{color:var(--info)}.tag.good{color:var(--good)}
code{font:.85rem/1.5 ui-monospace,monospace;overflow-wrap:anywhere}
code.id{display:inline-block;background:var(--back);border-radius:4px;padding:0 6px;margin:2px 6px 2px 0}
.wide{overflow-x:auto;background:var(--paper);border:1px solid var(--line);border-radius:8px}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:left;padding:6px 12px;border-bottom:1px solid var(--line);vertical-align:top}
tr:last-child td{border-bottom:0}th{color:var(--soft);font-weight:600;white-space:nowrap}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td.name,td:first-child+td{white-space:nowrap}td:nth-child(3):not(.n){min-width:200px}
.more{white-space:nowrap}
@media(max-width:600px){th,td{padding:6px 8px}main{padding-top:16px}code.id{font-size:.75rem;margin-right:2px;padding:0 4px}}
details{background:var(--paper);border:1px solid var(--line);border-radius:8px;margin:0 0 8px}
summary{cursor:pointer;padding:10px 16px;overflow-wrap:anywhere}details ul{margin:0;padding:0 16px 12px 36px}
""".strip()
POLICY = "default-src 'none'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'"


@dataclass(frozen=True, slots=True)
class Past:
    """The validation of an earlier snapshot, by its tag."""

    tag: str
    document: Mapping[str, Any]


def page(document: Mapping[str, Any], history: Sequence[Past] = ()) -> str:
    """The page; `history` has the newest snapshot first."""
    whole = Element("html", {"lang": "en"})
    head = SubElement(whole, "head")
    SubElement(head, "meta", {"charset": "utf-8"})
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    SubElement(head, "meta", {"http-equiv": "Content-Security-Policy", "content": POLICY.format(digest)})
    SubElement(head, "meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"})
    SubElement(head, "title").text = f"Validation {'passed' if document['success'] else 'failed'}"
    SubElement(head, "style").text = STYLE
    main = SubElement(SubElement(whole, "body"), "main")
    _verdict(main, document)
    _failures(main, document, history)
    _tables(main, document, history)
    _snapshots(main, document, history)
    _everything(main, document)
    return "<!doctype html>\n" + tostring(whole, encoding="unicode", method="html") + "\n"


def _verdict(main: Element, document: Mapping[str, Any]) -> None:
    good = document["success"]
    _text(
        main,
        "h1",
        "Validation passed" if good else "Validation failed: nothing was published",
        "good" if good else "bad",
    )
    counted = ", ".join(f"{document['failed'][s]} {s}" for s in SEVERITIES if document["failed"][s]) or "nothing failed"
    _text(main, "p", f"{document['checked']:,} expectations of {len(document['tables'])} tables: {counted}.", "soft")
    rows = document["quarantined"]["rows"]
    if rows:
        named = f"{rows:,} row{'s' * (rows != 1)} with a fault: each is in validation-quarantine.jsonl with its reason."
        _text(
            main,
            "p",
            named + ("" if good else " A critical one stops the snapshot; nothing is left out of the data by itself."),
            "soft",
        )


def _failures(main: Element, document: Mapping[str, Any], history: Sequence[Past]) -> None:
    failures = [f for f in document["findings"] if not f["passed"]]
    if not failures:
        return
    _text(main, "h2", "What must hold, and does not")
    for f in failures:
        card = SubElement(
            main, "section", {"class": f"card {f['severity'] if f['severity'] in SEVERITIES else CRITICAL}"}
        )
        title = SubElement(card, "h3")
        _text(title, "span", f["severity"], f"tag {f['severity']}")
        _text(title, "span", f"{f['table']}: {f['why']}")
        seen = f"{f['count']:,} row{'s' * (f['count'] != 1)}" if f["count"] else "the table as a whole"
        _text(card, "p", f"{f['code']} · {seen} · {_since(f, history)}", "soft")
        if f["observed"]:
            _text(SubElement(card, "p"), "code", f["observed"])
        if f["rows"]:
            listed = SubElement(card, "div")
            for row in f["rows"]:
                _text(listed, "code", row, "id")
            if f["count"] > len(f["rows"]):
                _text(listed, "span", f"and {f['count'] - len(f['rows']):,} more", "soft more")


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
    _text(main, "h2", "Tables")
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
    _table(main, ["table", "failed", "rows", "change", "checked"], rows, numbers={1, 2, 3, 4})


def _difference(now: int, before: int | None) -> str:
    return "new" if before is None else f"{now - before:+,}" if now != before else "="


def _snapshots(main: Element, document: Mapping[str, Any], history: Sequence[Past]) -> None:
    if not history:
        return
    _text(main, "h2", "Over snapshots")
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
    _table(main, titles, rows, numbers=set(range(3, 9)))


def _everything(main: Element, document: Mapping[str, Any]) -> None:
    _text(main, "h2", "Everything that was checked")
    of: dict[str, list[Mapping[str, Any]]] = {}
    for f in document["findings"]:
        of.setdefault(f["table"], []).append(f)
    for name, findings in sorted(of.items()):
        wrong = sum(not f["passed"] for f in findings)
        shown = SubElement(main, "details")
        _text(shown, "summary", f"{name}: {len(findings)} expectations" + (f", {wrong} failed" if wrong else ""))
        listed = SubElement(shown, "ul")
        for f in findings:
            item = SubElement(listed, "li")
            _text(
                item, "span", "ok" if f["passed"] else f["severity"], f"tag {'good' if f['passed'] else f['severity']}"
            )
            _text(item, "span", f"{f['why']} ({f['code']}, {f['severity']})")


def _table(main: Element, titles: Sequence[str], rows: Sequence[Sequence[str]], numbers: set[int]) -> None:
    table = SubElement(SubElement(main, "div", {"class": "wide"}), "table")
    top = SubElement(SubElement(table, "thead"), "tr")
    for k, title in enumerate(titles):
        _text(top, "th", title, "n" if k in numbers else "")
    body = SubElement(table, "tbody")
    for row in rows:
        line = SubElement(body, "tr")
        for k, cell in enumerate(row):
            _text(line, "td", cell, "n" if k in numbers else "name" if k == 0 else "")


def _text(parent: Element, tag: str, text: str, style: str = "") -> None:
    child = SubElement(parent, tag, {"class": style} if style else {})
    # Characters that no page may hold; a browser would show a replacement anyway.
    child.text = "".join(c if c >= " " or c in "\n\t" else "\ufffd" for c in text)
