"""What is the case now: what has come since the newest snapshot, and what waits for a person. As `flywheel status`, and no more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import orjson

from tasks.dossier.told import percent
from tasks.live import registry, status
from tasks.live.kept import Tagged
from tasks.live.lake import Lake
from tasks.live.registry.journal import CHANGES
from tasks.live.report.turn import BATCHES, champions, day, events, moment
from tasks.live.workspace import Workspace
from tasks.report import Event, Step, plain, shortened

SINCE = """
    SELECT (SELECT count(*) FROM annotations WHERE received > $since) AS answers,
           (SELECT count(*) FROM members WHERE interaction_id NOT IN (SELECT interaction_id FROM candidates)) AS unsent
"""
UNANSWERED = {"value": None, "low": None, "high": None, "n": 0}


def now(
    workspace: Workspace, newest: Tagged | None, turns: Sequence[Mapping[str, Any]], document: Mapping[str, Any]
) -> dict[str, Any]:
    """The document of the index; `turns` are its lines, `document` that of the newest turn ({} before the first)."""
    lake, found = Lake(workspace.lake), status.read(workspace)
    counts = lake.query(SINCE, {"since": (newest.time + 1) * 1_000_000 if newest else 0}).to_pylist()[0]
    batches = lake.query(BATCHES).to_pylist()
    rates = _rates(workspace, found["rates"], batches)
    newest_rate = next((r for r in reversed(rates) if r["value"] is not None), None)
    facts = [
        ("error rate, newest batch that was answered", percent(newest_rate["value"] if newest_rate else None)),
        ("answers that came since", counts["answers"]), ("interactions that no batch has looked at", counts["unsent"]),
        ("batches without an answer", len(found["batches_unanswered"])), ("champion's version", _champion(workspace)),
    ]  # fmt: skip
    return plain({
        "report": "flywheel-report-index/1",
        "workspace": workspace.root.name,
        "newest": newest.tag if newest else "",
        "since": moment(newest.time) if newest else "",
        "now": [{"name": name, "value": value} for name, value in facts],
        "waits": [asdict(s) for s in _waits(workspace, found, document)],
        "next": document.get("next", []),
        "events": [asdict(e) for e in _since(workspace, found["told"], moment(newest.time) if newest else "")],
        "rates": rates,
        "turns": list(turns),
    })  # fmt: skip


def _since(workspace: Workspace, alarms: Sequence[Mapping[str, Any]], after: str) -> list[Event]:
    """What happened since the newest snapshot, the alarms that were raised among it."""
    raised = [Event(a["at"], f"alarm: {a['subject']}", "", "", "", shortened(a["text"])) for a in alarms if a["at"] > after]
    return sorted([*events(workspace, after), *raised], key=lambda e: e.at)


def _champion(workspace: Workspace) -> str:
    changes = [e for e in registry.history(workspace) if e.action in CHANGES]
    return (changes[-1].version or changes[-1].snapshot) if changes else "none yet"


def _rates(workspace: Workspace, rates: Mapping[str, Any] | None, batches: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """As of the last answers that came (labels.write_rates); a batch that nobody answered yet is a gap."""
    estimates = {a["batch_id"]: a["estimate"] for a in rates["audits"]} if rates else {}
    marked = champions(workspace, batches)
    named = [(b["batch_id"], day(b["until"])) for b in batches]
    return [{"batch": b, "until": until, **estimates.get(b, UNANSWERED), "champion": marked.get(b, "")} for b, until in named]



def _waits(workspace: Workspace, found: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[Step]:
    """The most urgent first."""
    if asked := found["approval"]:
        why = f"The gate says promote: {'; '.join(asked['reasons'])}."
        command = f"flywheel promote --approve --snapshot {asked['snapshot']} --by NAME --note WHY   # or --decline"
        yield Step(f"Decide whether version {asked['version']} of {asked['snapshot']} becomes champion", why, command)
    for said in found["erasures"]:
        what, _, command = said.rpartition(": ")
        yield Step("Finish an erasure", f"{what}.", command)
    told = {f["id"] for f in document.get("failures", ()) if f["state"] == "regressed"}
    for said in found["alarms"]:
        if not any(id in said for id in told):
            yield Step("Look into a failure that came back", f"{said}.", "flywheel status")
    if failed := _invalid(workspace):
        command = "less data/reports/validation.md   # then flywheel retrain"
        yield Step("Mend the data: validation stopped the snapshot", failed, command)
    for batch in found["batches_unanswered"]:
        yield Step(f"Answer the batch {batch}", "Nobody has answered one of its questions yet.", "flywheel review")
    if found["unpushed"]:
        why = f"It has not taken {', '.join(found['unpushed'])} yet."
        yield Step("Bring the remote back", why, "flywheel turn   # pushes what is owed")
    owed = found["registry"]
    if owed["snapshots"] or owed["changes"]:
        what = ", ".join([*owed["snapshots"], *(["who is champion"] if owed["changes"] else [])])
        because = f" ({owed['why']})" if owed["why"] else ""
        yield Step("Bring MLflow back", f"It was not told of {what} yet{because}.", "flywheel turn   # tells what is owed")
    for name, service in found["services"].items():
        if service["state"] == "dead":
            why = f"Its process is gone: {service['why']}." if service["why"] else "Its process is gone."
            yield Step(f"Start {name} again", why, "flywheel up")
    if found["quarantine"]:
        held = ", ".join(f"{row['n']:,} {row['code']}" for row in found["quarantine"])
        yield Step("Look at the records that could not be read", f"In quarantine: {held}.", "flywheel quarantine list")


def _invalid(workspace: Workspace) -> str:
    """What the validation in the work tree stopped, '' nothing: a snapshot that was refused has no tag and no page."""
    path = workspace.reports / "validation.json"
    report = orjson.loads(path.read_bytes()) if path.is_file() else {"success": True}
    critical = [f for f in report.get("findings", ()) if not f["passed"] and f["severity"] == "critical"]
    return f"{critical[0]['table']}: {critical[0]['why']}." if critical and not report["success"] else ""
