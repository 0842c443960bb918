"""Status: what the workspace holds, from files alone. Works while everything runs and with every server down."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import orjson

from tasks.live import alarms, registry, services, snapshot, store
from tasks.live.feedback import unresolved
from tasks.live.lake import HELD, OPEN, TABLES, Lake
from tasks.live.taxonomy import alarmed, shown
from tasks.live.workspace import Workspace
from tasks.metrics import FeedbackParams

NEWEST_REJECTS = 5
TOP_CLUSTERS = 3
INNER = ("parts", "waiting", "releases", "clusters")  # tables whose rows mean nothing by their number
DAY_US = 86_400_000_000


def read(workspace: Workspace) -> dict[str, Any]:
    lake = Lake(workspace.lake)
    newest = snapshot.last(workspace)
    verdict = snapshot.report_at(workspace, newest.commit, "verdict") if newest else None
    patience = int(workspace.params("feedback", FeedbackParams).unresolved_days * DAY_US)
    return {
        "workspace": str(workspace.root),
        "rows": lake.query(
            "SELECT " + ", ".join(f"(SELECT count(*) FROM {table}) AS {table}" for table in TABLES)
        ).to_pylist()[0],
        "batches_unanswered": lake.query(
            """SELECT DISTINCT batch_id FROM candidates WHERE part <> ''
               AND batch_id NOT IN (SELECT batch_id FROM annotations) ORDER BY batch_id"""
        )["batch_id"].to_pylist(),
        "quarantine": lake.query(
            f"SELECT code, count(*) AS n FROM ({HELD}) GROUP BY code ORDER BY n DESC, code"
        ).to_pylist(),
        "newest_rejects": lake.query(
            f"""SELECT source, raw_segment, raw_line, code, message FROM ({HELD})
                ORDER BY raw_segment DESC, raw_line DESC LIMIT {NEWEST_REJECTS}"""
        ).to_pylist(),
        "waiting": lake.query(f"SELECT count(*) AS n FROM ({OPEN})")["n"][0].as_py(),
        "unresolved_feedback": unresolved(lake, time.time_ns() // 1000, patience),
        # As of the last answers that came: status itself computes nothing.
        "rates": orjson.loads(workspace.rates.read_bytes()) if workspace.rates.is_file() else None,
        "alarms": alarmed(lake),
        "told": alarms.read(workspace)[-alarms.SHOWN :],
        "services": _services(workspace),
        "clusters": [
            {
                "name": c.row.name,
                "state": c.row.state,
                "count": c.row.count,
                "window": c.row.window,
                "turn": c.row.turn,
                "example": c.text,
            }
            for c in shown(lake, TOP_CLUSTERS)
        ],
        "snapshot": newest.tag if newest else None,
        "unpushed": store.pending(workspace),
        "registry": registry.pending(workspace),
        "approval": asdict(asked) if (asked := registry.open_question(workspace)) else None,
        "verdict": {"decision": verdict["decision"], "reasons": verdict["reasons"]} if verdict else None,
        "serving": decided(workspace),
        "erasures": _erasures(workspace, newest.tag if newest else ""),
        "busy": workspace.locked(),
    }


def as_text(document: dict[str, Any]) -> str:
    lines = [document["workspace"], ""]
    lines += [f"  {n:>9,} {table}" for table, n in document["rows"].items() if table not in INNER]
    lines += [f"  batch {b} waits for answers" for b in document["batches_unanswered"]]
    if document["waiting"]:
        lines.append(f"  {document['waiting']:,} interactions wait for the record that holds their prompt")
    feedback = document["unresolved_feedback"]
    if feedback["waiting"] or feedback["expired"]:
        lines.append(
            f"  {feedback['waiting'] + feedback['expired']:,} feedback events point at nothing captured yet"
            f" ({feedback['expired']:,} of them for too long)"
        )
    if document["quarantine"]:
        held = ", ".join(f"{row['n']:,} {row['code']}" for row in document["quarantine"])
        lines.append(f"  quarantine: {held}; flywheel quarantine list")
    lines += [
        f"  rejected: {r['source']}:{r['raw_line']}: {r['code']}: {r['message']}" for r in document["newest_rejects"]
    ]
    lines += _rates(document["rates"])
    lines += [f"  ALARM: {text}" for text in document["alarms"]]
    lines += [f"  {a['at']} {a['subject']}: {a['text'].splitlines()[0][:160] if a['text'] else ''}" for a in document["told"]]
    lines += [
        f"  failures in turn {c['turn']}: {c['count']:,} of {c['window']:,} {c['name']} ({c['state']}), as in {c['example'][:60]!r}"
        for c in document["clusters"]
    ]
    if document["snapshot"]:
        verdict = document["verdict"]
        lines += ["", f"  {document['snapshot']}: {verdict['decision']}", *(f"    {r}" for r in verdict["reasons"])]
    if document["unpushed"]:
        lines.append(f"  push pending: the remote has not taken {', '.join(document['unpushed'])} yet; the next turn tries again")
    if made := document["serving"]:
        versions = f"version {made['newer']['version']} beside {made['older']['version']}"
        lines.append(f"  serving: {made['trial']} of {versions}: {made['decision']} ({made['at'][:10]}): {made['reason']}")
    owed = document["registry"]
    if owed["snapshots"] or owed["changes"]:
        what = ", ".join([*owed["snapshots"], *(["who is champion"] if owed["changes"] else [])])
        why = f" ({owed['why']})" if owed["why"] else ""
        lines.append(f"  record pending: MLflow was not told of {what} yet{why}; the next turn tells it")
    if asked := document["approval"]:
        lines.append(
            f"  WAITS FOR A PERSON: version {asked['version']} of {asked['snapshot']} may become champion;"
            " flywheel promote --approve --by NAME --note WHY (or --decline)"
        )
    lines += [f"  {text}" for text in document["erasures"]]
    lines += [f"  {name:<12} {s['state']:<8} {s['url']}  {s['why']}".rstrip() for name, s in document["services"].items()]
    lines += [
        f"  {name} is held by process {note['pid']} ({note['command']})" for name, note in document["busy"].items()
    ]
    return "\n".join(lines)


def decided(workspace: Workspace) -> dict[str, Any] | None:
    """What `flywheel serve` decided last on its users' evidence (live/serving/decisions.py)."""
    path = workspace.state / "serve" / "decisions.jsonl"
    made = path.read_bytes().splitlines() if path.is_file() else []
    return orjson.loads(made[-1]) if made else None


def _services(workspace: Workspace) -> dict[str, Any]:
    """What `flywheel up` runs: the state of each as its supervisor saw it last, and 'dead' where its process is gone."""
    found = services.read(workspace)
    if found is None or not (services.alive(found) or any(map(services.alive, found.services.values()))):
        return {}
    return {
        name: {"url": s.url, "state": s.state if services.alive(s) else "dead", "why": s.why, "log": s.log}
        for name, s in found.services.items()
    }


def _erasures(workspace: Workspace, newest: str) -> list[str]:
    """Erasures that were killed, and those after which no snapshot was made yet. What their reports say; nothing is looked up."""
    folder = workspace.state / "erasures"
    told = [f"ERASURE {p.stem} is not finished: flywheel erase --resume" for p in sorted(folder.glob("*.journal"))]
    for report in (orjson.loads(p.read_bytes()) for p in sorted(folder.glob("*.json"))):
        if newest in report["files"]:
            models = f"versions {', '.join(report['retrain'])} learned from it; " if report["retrain"] else ""
            told.append(f"{newest} holds what was erased on {report['at'][:10]}: {models}flywheel retrain --force")
    return told


def _rates(rates: dict[str, Any] | None) -> list[str]:
    known = [a for a in rates["audits"] if a["estimate"]["value"] is not None] if rates else []
    if not rates or not known:
        return []
    e = known[-1]["estimate"]
    lines = [f"  error rate {e['value']:.1%} ({e['low']:.1%} to {e['high']:.1%}, {e['n']} random labels)"]
    if rates["trend"]:
        lines.append(f"  trend: {rates['trend']['statement']}")
    lines += [
        f"  detector {d['detector']} {d['verdict']}: lift {_number(d['lift']['value'])}"
        f" ({_number(d['lift']['low'])} to {_number(d['lift']['high'])})"
        for d in rates["detectors"]
        if d["verdict"] in ("stopped", "worthless")
    ]
    if judge := rates.get("judge"):
        c, e = judge["calibration"], judge["estimate"]
        beside = f"it caught {c['caught']} of {c['wrong']} errors and passed {c['passed']} of {c['right']} right answers"
        if e["value"] is None:
            lines.append(f"  the judge is not calibrated, and only ranks: {beside} (llm_judge.min_labels)")
        else:
            lines.append(
                f"  error rate by the judge, corrected: {e['value']:.1%} ({e['low']:.1%} to {e['high']:.1%}); {beside}"
            )
    return lines


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"
