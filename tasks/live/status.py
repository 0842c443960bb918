"""Status: what the workspace holds, from files alone. Works while everything runs and with every server down."""

from __future__ import annotations

from typing import Any

import orjson

from tasks.live import snapshot
from tasks.live.lake import TABLES, Lake
from tasks.live.workspace import Workspace

NEWEST_REJECTS = 5


def read(workspace: Workspace) -> dict[str, Any]:
    lake = Lake(workspace.lake)
    newest = snapshot.last(workspace)
    verdict = snapshot.report_at(workspace, newest.commit, "verdict") if newest else None
    locks = sorted((workspace.state / "locks").glob("*.json"))
    return {
        "workspace": str(workspace.root),
        "rows": {table: lake.count(table) for table in TABLES},
        "batches_unanswered": lake.query(
            """SELECT DISTINCT batch_id FROM candidates WHERE part <> ''
               AND batch_id NOT IN (SELECT batch_id FROM annotations) ORDER BY batch_id"""
        )["batch_id"].to_pylist(),
        "newest_rejects": lake.query(
            f"SELECT source, raw_segment, raw_line, code, message FROM rejects LIMIT {NEWEST_REJECTS}"
        ).to_pylist(),
        "snapshot": newest.tag if newest else None,
        "verdict": {"decision": verdict["decision"], "reasons": verdict["reasons"]} if verdict else None,
        "busy": {p.stem: orjson.loads(p.read_bytes()) for p in locks},
    }


def as_text(document: dict[str, Any]) -> str:
    lines = [document["workspace"], ""]
    lines += [f"  {n:>9,} {table}" for table, n in document["rows"].items()]
    lines += [f"  batch {b} waits for answers" for b in document["batches_unanswered"]]
    lines += [
        f"  rejected: {r['source']}:{r['raw_line']}: {r['code']}: {r['message']}" for r in document["newest_rejects"]
    ]
    if document["snapshot"]:
        verdict = document["verdict"]
        lines += ["", f"  {document['snapshot']}: {verdict['decision']}", *(f"    {r}" for r in verdict["reasons"])]
    lines += [
        f"  {name} is held by process {note['pid']} ({note['command']})" for name, note in document["busy"].items()
    ]
    return "\n".join(lines)
