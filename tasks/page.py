"""Pages that stand alone: one file without a script, a font or a picture from anywhere, and with a policy that lets none in.

    whole, main = begin("Validation passed"); text(main, "p", "<b>"); finish(whole)  ->  "<!doctype html>…<p>&lt;b&gt;</p>…"

A page is put together as a tree, so that whatever stands in a value is text and never markup, whoever wrote it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Sequence
from xml.etree.ElementTree import Element, SubElement, tostring

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


def begin(title: str, style: str = "") -> tuple[Element, Element]:
    """The whole page and its main part; `style` is added to that of all pages."""
    look = STYLE + style
    whole = Element("html", {"lang": "en"})
    head = SubElement(whole, "head")
    SubElement(head, "meta", {"charset": "utf-8"})
    digest = base64.b64encode(hashlib.sha256(look.encode()).digest()).decode()
    SubElement(head, "meta", {"http-equiv": "Content-Security-Policy", "content": POLICY.format(digest)})
    SubElement(head, "meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"})
    text(head, "title", title)
    SubElement(head, "style").text = look
    return whole, SubElement(SubElement(whole, "body"), "main")


def finish(whole: Element) -> str:
    return "<!doctype html>\n" + tostring(whole, encoding="unicode", method="html") + "\n"


def table(parent: Element, titles: Sequence[str], rows: Sequence[Sequence[str]], numbers: Collection[int] = ()) -> Element:
    """A table that scrolls in itself where it is wider than the page; the columns `numbers` are set as numbers."""
    made = SubElement(SubElement(parent, "div", {"class": "wide"}), "table")
    top = SubElement(SubElement(made, "thead"), "tr")
    for k, title in enumerate(titles):
        text(top, "th", title, "n" if k in numbers else "")
    body = SubElement(made, "tbody")
    for row in rows:
        line = SubElement(body, "tr")
        for k, cell in enumerate(row):
            text(line, "td", cell, "n" if k in numbers else "name" if k == 0 else "")
    return made


def text(parent: Element, tag: str, said: str, style: str = "") -> Element:
    child = SubElement(parent, tag, {"class": style} if style else {})
    # Characters that no page may hold; a browser would show a replacement anyway.
    child.text = "".join(c if c >= " " or c in "\n\t" else "\ufffd" for c in said)
    return child
