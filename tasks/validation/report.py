"""What validation found, as a document (validation.json) and as Markdown for Prefect's page.

{"success": true, "checked": 412, "failed": {"critical": 0, "warning": 1, "info": 0}, "findings": [{"table": "sft", "code": …}, …],
 "tables": {"sft": 812, …}, "quarantined": {"rows": 3, "by": {"sft": 3}}}
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tasks.validation import CRITICAL, SEVERITIES, Finding

_MARKS = re.compile(r"([\\`*_\[\]#~|])")


def document(
    findings: Sequence[Finding], tables: Mapping[str, int], quarantined: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """`quarantined` counts rows by table: a row with three faults is one."""
    failed = Counter(f.severity for f in findings if not f.passed)
    rows = Counter(table for table, _ in {(r["table"], r["row"]) for r in quarantined})
    return {
        "success": not failed[CRITICAL],
        "checked": len(findings),
        "failed": {s: failed[s] for s in SEVERITIES},
        "findings": [asdict(f) for f in findings],
        "tables": dict(tables),
        "quarantined": {"rows": rows.total(), "by": dict(rows)},
    }


def as_markdown(document: Mapping[str, Any]) -> str:
    """Failures first, one a line; then what was checked, a line a table."""
    verdict = "passed" if document["success"] else "FAILED, nothing was published"
    counted = ", ".join(f"{n} {severity}" for severity, n in document["failed"].items() if n) or "nothing failed"
    lines = [
        f"# Validation {verdict}",
        "",
        f"{document['checked']} expectations of {len(document['tables'])} tables: {counted}.",
        "",
    ]
    failures = [f for f in document["findings"] if not f["passed"]]
    if failures:
        lines += ["| | table | what must hold | code | failing rows |", "|---|---|---|---|---|"]
        lines += [
            _line(
                f"**{'FAIL' if f['severity'] == CRITICAL else f['severity']}**",
                f["table"],
                f["why"],
                f["code"],
                seen(f),
            )
            for f in failures
        ]
        lines.append("")
    lines += ["| table | rows | expectations | failed |", "|---|---|---|---|"]
    held = Counter(f["table"] for f in document["findings"])
    broken = Counter(f["table"] for f in failures)
    lines += [
        _line("", t, f"{n:,}", str(held[t]), str(broken[t] or ""))[4:] for t, n in sorted(document["tables"].items())
    ]
    return "\n".join(lines) + "\n"


def seen(finding: Mapping[str, Any], most: int = 5) -> str:
    """'3: ex_1, ex_2 and 1 more; what was seen'."""
    rows = finding["rows"][:most]
    more = f" and {finding['count'] - len(rows):,} more" if finding["count"] > len(rows) and rows else ""
    listed = f"{finding['count']:,}: {', '.join(rows)}{more}" if rows else ""
    return "; ".join(x for x in (listed, finding["observed"]) if x)


def _line(first: str, *cells: str) -> str:
    return f"| {first} | " + " | ".join(_plain(c) for c in cells) + " |"


def _plain(text: str) -> str:
    """Text that a Markdown page shows as it is, whoever wrote it."""
    escaped = _MARKS.sub(r"\\\1", " ".join(text.split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
