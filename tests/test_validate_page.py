"""The page about a validation: whatever stands in a value is text, nothing comes from anywhere else, and it can be read on a
phone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tasks.validation import CRITICAL, WARNING, Finding
from tasks.validation.page import Past, page
from tasks.validation.report import document
from tests.browser import chromium

# What has made pages run a stranger's code: markup, attributes, endings of elements, entities, schemes, and characters that hide.
HOSTILE = (
    "<script>alert(1)</script>", "</style><script>alert(1)</script>", "</title><img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)", "<iframe srcdoc='<script>alert(1)</script>'>", "javascript:alert(1)",
    "<a href=javascript:alert(1)>x</a>",
    "<!--<img src=x onerror=alert(1)>-->", "&lt;script&gt;alert(1)&lt;/script&gt;",
    "<math><mi//xlink:href='data:x,<script>alert(1)</script>'>",
    "{{constructor.constructor('alert(1)')()}}", "\u202e<b>txt", "\u0000<img src=x onerror=alert(1)>",
    "]]><script>alert(1)</script>",
    "<link rel=stylesheet href=//evil.example/x.css>", "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<base href=//evil.example>",
)  # fmt: skip
ROWS = {"sft": 812, "evaluation": 140, "holdout_classification": 3}


def finding(passed: bool = False, severity: str = CRITICAL, **changes: Any) -> Finding:
    values = {
        "table": "sft", "expectation": "unexpected_rows_expectation", "why": "no row shares its group with a sealed row",
        "count": 37,
        "rows": [f"ex_{n:024x}" for n in range(20)], "code": "shared_group", "suite": "sft", "observed": "",
    }  # fmt: skip
    return Finding(severity=severity, passed=passed, **values | changes)


def shown(findings: list[Finding], tables: dict[str, int] = ROWS) -> dict[str, Any]:
    rows = [{"table": f.table, "row": r} for f in findings for r in f.rows if not f.passed]
    return document(findings, tables, rows)


MANY = [
    finding(),
    finding(severity=WARNING, code="imbalance", count=0, rows=[], why="slices have the shares that they had in the snapshot before",
            observed="topic (PSI 0.41): billing 40.0% -> 12.0%, bike 20.0% -> 44.0%"),
    finding(True, code="duplicate_id", why="an id is the id of one row", count=0, rows=[]),
    finding(True, table="evaluation", code="no_truth", why="every row can be judged", count=0, rows=[]),
    finding(True, table="holdout_classification", code="unknown_option", why="labels are those of the guideline", count=0, rows=[]),
]  # fmt: skip
BEFORE = [
    Past(
        "snapshot-22d82ccb",
        shown([finding(severity=WARNING, code="imbalance", count=0, rows=[]), *MANY[2:]], ROWS | {"sft": 640}),
    ),
    Past("snapshot-81ef4657", shown(MANY[2:], {"sft": 500, "evaluation": 90})),
]


def test_failures_come_first_and_say_since_when():
    text = re.sub(r"<[^>]+>", "\n", page(shown(MANY), BEFORE))
    assert (
        text.index("no row shares its group")
        < text.index("Tables")
        < text.index("Over snapshots")
        < text.index("Everything")
    )
    assert "new since the snapshot before" in text and "also in the 1 snapshot before" in text
    assert "and 17 more" in text and "+172" in text


def test_the_same_findings_give_the_same_page():
    assert page(shown(MANY), BEFORE) == page(shown(MANY), BEFORE)


@pytest.mark.parametrize("evil", HOSTILE)
def test_no_value_becomes_markup(evil: str):
    found = finding(table=evil, why=evil, code=evil, suite=evil, observed=evil, rows=[evil], severity=WARNING)
    whole = page(
        shown([found, finding(True, table=evil, why=evil)], {evil: 3}), [Past(evil, shown([found], {evil: 2}))]
    )
    assert {t.lower() for t in re.findall(r"<\s*([a-zA-Z!][\w-]*)", whole)} <= {
        "!doctype", "html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "h3", "p", "section", "span", "code",
        "div",
        "table", "thead", "tbody", "tr", "th", "td", "details", "summary", "ul", "li",
    }  # fmt: skip
    attributes = {m for tag in re.findall(r"<[a-z][^>]*>", whole) for m in re.findall(r"\s([\w-]+)=\"", tag)}
    assert attributes <= {"lang", "charset", "http-equiv", "content", "name", "class"}


def test_an_older_report_without_tables_or_codes_can_be_history():
    old = {"success": True, "checked": 41, "failed": {"critical": 0, "warning": 1, "info": 0},
           "findings": [{"table": "sft", "severity": "warning", "passed": False, "expectation": "x", "why": "spread", "count": 1,
           "rows": []}]}  # fmt: skip
    assert "sft: spread" in page(shown(MANY), [Past("snapshot-1", old)])


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser_nothing_runs_nothing_is_fetched_and_nothing_sticks_out(tmp_path: Path, width: int):
    from playwright.sync_api import sync_playwright

    evil = [
        finding(table=e, why=e, observed=e, rows=[e, "x" * 300], suite="s", code=f"c{n}") for n, e in enumerate(HOSTILE)
    ]
    path = tmp_path / "validation.html"
    path.write_text(page(shown([*MANY, *evil], ROWS | dict.fromkeys(HOSTILE, 1)), BEFORE), encoding="utf-8")
    asked, wrong = [], []
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": width, "height": 900})
        view.on("request", lambda r: asked.append(r.url))
        view.on("pageerror", lambda e: wrong.append(str(e)))
        view.on("console", lambda m: m.type in ("error", "warning") and wrong.append(m.text))
        view.on("dialog", lambda d: (wrong.append(d.message), d.dismiss()))
        view.goto(path.as_uri())
        sizes = view.evaluate(
            "[document.documentElement.scrollWidth, getComputedStyle(document.querySelector('.card')).borderLeftWidth]"
        )
        browser.close()
    assert asked == [path.as_uri()] and wrong == []
    assert sizes == [width, "6px"], "no sideways scrolling; and the style is let in by the policy"
