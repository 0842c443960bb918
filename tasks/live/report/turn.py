"""One turn as a value: from its snapshot, the one before, and what the lake, the journal and serving noted between the two."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import orjson

from tasks.agreement import ANSWER, AgreementParams, aggregate
from tasks.changes import Changes, Flips, summary
from tasks.earning import STOPPED, WORTHLESS
from tasks.errors import Refused
from tasks.fates import FIXED, STEADY
from tasks.live import diff, labels, quality, registry
from tasks.live.handoff.desk import AnnotateParams
from tasks.live.kept import Gone, Kept, Tagged
from tasks.live.lake import Lake
from tasks.live.registry.journal import CHANGES
from tasks.live.report.asof import AsOf
from tasks.live.serving.decisions import decisions
from tasks.live.snapshot import digest_at
from tasks.live.workspace import Workspace
from tasks.records import Label
from tasks.reliability import Reliability
from tasks.report import (
    Clause,
    Data,
    Detector,
    Event,
    Failure,
    Kind,
    Left,
    People,
    Person,
    Rate,
    Spent,
    Table,
    Turn,
    shortened,
)

# Batches as they were sent, by our clock: by it a batch belongs to a turn. `until` is the newest traffic of its window.
BATCHES = """
    SELECT c.batch_id, max(i.ts) AS until,
           coalesce((SELECT min(ts) FROM events e WHERE e.batch_id = c.batch_id AND e.what = 'asked'),
                    (SELECT min(ts) FROM asks a WHERE a.batch_id = c.batch_id), 0) AS sent
    FROM candidates c JOIN interactions i USING (interaction_id) GROUP BY c.batch_id ORDER BY sent, until, c.batch_id
"""
CLUSTERS = """
    SELECT c.*, coalesce(nullif(i.question, ''), i.response, '') AS text
    FROM clusters c LEFT JOIN interactions i ON i.interaction_id = c.example ORDER BY c.turn, c.cluster_id
"""
NOT_GOOD = ("good", "unknown")
VALUE = 80  # characters of a setting
EXAMPLE_GONE = "(the example was erased)"


def turn(workspace: Workspace, objects: Kept, of: Tagged, before: Tagged | None, number: int) -> Turn:
    """What happened after the snapshot `before`, up to and with the snapshot `of`."""
    then = AsOf(workspace, objects, of)
    gone: list[str] = []
    heard, people, agreed = None, None, []
    try:
        heard = then.heard()
        found = quality.of(heard, then.params("annotate", AnnotateParams), then.params("curate", AgreementParams))
        agreed = aggregate(heard.answers, heard.served, then.params("curate", AgreementParams)).labels
        people = _people(found, len(heard.answers), _earlier(workspace, objects, before, gone))
    except Gone as e:
        gone.append(f"what people had answered: {e.why}")
    batches = Lake(workspace.lake).query(BATCHES).to_pylist()
    rates, trend, detectors = _rates(workspace, agreed, batches, then.until)
    since = (before.time + 1) * 1_000_000 if before else 0
    missing: list[tuple[str, str]] = []
    try:
        missing = then.missing()
    except Gone as e:
        gone.append(f"its training rows: {e.why}")
    answered = {a.interaction_id for a in heard.answers} if heard else set()
    return Turn(
        tag=of.tag, number=number, before=before.tag if before else "", made=moment(of.time), commit=of.commit,
        digest=digest_at(workspace, of.commit), verdict=then.report("verdict"), rates=rates, trend=trend,
        failures=_failures(workspace, batches, since, then.until, answered), people=people,
        data=_data(workspace, then, AsOf(workspace, objects, before) if before else None),
        attribution=then.report("attribution"), detectors=detectors, missing=missing,
        events=events(workspace, moment(before.time) if before else "", moment(of.time)), gone=gone,
    )  # fmt: skip


def moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def day(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1e6, UTC).date().isoformat()


def events(workspace: Workspace, after: str, until: str = "9999") -> list[Event]:
    """Who became champion or was brought back, what people were asked about it, and what serving decided, in that time."""
    told = [Event(e.at, e.action, e.version, e.snapshot, e.by, e.why) for e in registry.history(workspace)]
    for d in decisions(workspace.state / "serve"):
        newer, older = d.newer.get("version", ""), d.older.get("version", "")
        at = f"{d.at[:19]}Z"
        told.append(Event(at, f"{d.trial}: {d.decision}", newer, "", "flywheel serve", f"beside version {older}: {d.reason}"))
    return sorted((e for e in told if after < e.at <= until), key=lambda e: e.at)


def champions(workspace: Workspace, batches: Sequence[Mapping[str, Any]], until: str = "9999") -> dict[str, str]:
    """Batch -> the version that became champion last before it was sent, where that changed since the batch before."""
    found: dict[str, str] = {}
    changes = [e for e in registry.history(workspace) if e.action in CHANGES and e.at <= until]
    for one, other in pairwise(batches):
        between = [e for e in changes if one["sent"] < _microseconds(e.at) <= other["sent"]]
        if between:
            found[other["batch_id"]] = between[-1].version or between[-1].snapshot
    return found


def _microseconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp() * 1e6


def _earlier(workspace: Workspace, objects: Kept, before: Tagged | None, gone: list[str]) -> Spent | None:
    """What had been spent by the snapshot before; nothing had been by the one before the first."""
    if before is None:
        return Spent(0, 0, 0, 0.0, 0.0, math.nan)
    then = AsOf(workspace, objects, before)
    try:
        heard = then.heard()
    except Gone as e:
        gone.append(f"what people had answered by {before.tag}: {e.why}")
        return None
    return _spent(quality.of(heard, then.params("annotate", AnnotateParams), then.params("curate", AgreementParams)), heard)


def _spent(found: quality.Quality, heard: quality.Heard | int) -> Spent:
    answers = heard if isinstance(heard, int) else len(heard.answers)
    on_answers = round(sum(k.cost for k in found.kinds if k.kind == ANSWER), 2)
    return Spent(answers, sum(k.settled for k in found.kinds), found.errors, found.cost, on_answers, found.cost_per_error)


def _people(found: quality.Quality, answers: int, before: Spent | None) -> People:
    a = found.audited
    return People(
        _spent(found, answers), before,
        [Kind(k.kind, k.out, k.back, k.settled, k.disputed, k.cost, {f: _told(r) for f, r in k.agreement.items()})
         for k in found.kinds],
        [Person(c.annotator, c.verdict, "; ".join(c.why), c.answers) for c in found.annotators if c.verdict not in NOT_GOOD],
        [Clause(c.guideline, c.clause, c.questions, c.disagreed, c.low, c.high) for c in found.clauses],
        a.labels, a.wrong, a.low, a.high,
    )  # fmt: skip


def _told(r: Reliability) -> str:
    if math.isnan(r.raw):
        return "unknown (nobody overlaps)"
    value = "unknown" if math.isnan(r.value) else f"{r.value:.2f} ({r.low:.2f} to {r.high:.2f})"
    return f"{r.measure} {value}, {r.raw:.0%} of pairs the same"


def _rates(
    workspace: Workspace, agreed: list[Label], batches: Sequence[Mapping[str, Any]], until: int
) -> tuple[list[Rate], str, list[Detector]]:
    """What the audits said by then: later batches had been neither sent nor answered."""
    if not agreed:
        return [], "", []
    found = labels.rates(workspace, agreed)
    sent = {b["batch_id"]: b for b in batches if b["sent"] <= until}
    marked = champions(workspace, batches, moment(until // 1_000_000))
    audits = {a.batch_id: a.estimate for a in found.audits}
    rates = [
        Rate(b, day(sent[b]["until"]), audits[b].value, audits[b].low, audits[b].high, audits[b].n, marked.get(b, ""))
        for b in sent if b in audits
    ]  # fmt: skip
    dropped = [Detector(d.detector, d.verdict, d.lift.value, d.lift.low, d.lift.high) for d in found.detectors
               if d.verdict in (STOPPED, WORTHLESS)]  # fmt: skip
    return rates, found.trend.statement if found.trend else "", dropped


def _failures(
    workspace: Workspace, batches: Sequence[Mapping[str, Any]], since: int, until: int, answered: set[str]
) -> list[Failure]:
    """Every cluster as it stood, the commonest first; those that were fixed before this turn are left out."""
    fresh = {b["batch_id"] for b in batches if since < b["sent"] <= until}
    known = {b["batch_id"] for b in batches if b["sent"] <= until}
    rows = [r for r in Lake(workspace.lake).query(CLUSTERS).to_pylist() if r["batch_id"] in known]
    found = []
    for row in {r["cluster_id"]: r for r in rows}.values():  # in the order of turns: the latest stays
        if row["state"] == FIXED and row["batch_id"] not in fresh:
            continue
        exemplars = orjson.loads(row["exemplars"])
        found.append(
            Failure(
                row["cluster_id"], shortened(row["name"]), row["state"], row["batch_id"] in fresh and row["state"] != STEADY,
                row["count"], row["window"], row["share"], row["trend"], row["example"],
                shortened(row["text"]) if row["text"] else EXAMPLE_GONE, len(exemplars), sum(i in answered for i in exemplars),
            )
        )  # fmt: skip
    return sorted(found, key=lambda f: (not f.fresh, -f.share, f.id))


def _data(workspace: Workspace, then: AsOf, before: AsOf | None) -> Data:
    changes = _changes(workspace, then.of, before.of if before else None)
    build, was = then.report("build"), before.report("build") if before else {}
    tables = []
    found = {(t.table, t.side): t for t in changes.tables}
    for side, rows in build.get("rows", {}).items():
        for name, now in rows.items():
            t = found.get((name, side))
            counts = (t.added, t.removed, t.changed) if t else (None, None, None)
            earlier = was.get("rows", {}).get(side, {}).get(name) if before else 0
            if now or earlier:
                tables.append(Table(name, side, earlier, now, *counts))
    left = []
    for stage in ("curate", "build"):
        earlier = before.report(stage).get("dropped", {}) if before else {}
        rows = then.report(stage).get("dropped", {})
        left += [Left(stage, reason, n, earlier.get(reason, 0) if before else None) for reason, n in rows.items()]
    validation = then.report("validation")
    failed = [f"{f.get('severity', '')}: {f.get('table', '')}: {f.get('why', '')}" for f in validation.get("findings", ())
              if not f.get("passed")]  # fmt: skip
    return Data(
        summary(changes) if before else "the first snapshot", changes.unknown if before else "",
        sorted(tables, key=lambda t: (t.side != "train", t.table)), sorted(left, key=lambda r: (-r.rows, r.reason)),
        [_flipped(f) for f in changes.flips if f.flipped],
        [(key, _value(a), _value(b)) for key, a, b in changes.params], failed, [str(a) for a in build.get("alerts") or ()],
    )  # fmt: skip


def _changes(workspace: Workspace, of: Tagged, before: Tagged | None) -> Changes:
    if before is None:
        return Changes(before="", after=of.tag)
    try:
        return diff.between(workspace, before.tag, of.tag)
    except Refused as e:  # an older one was erased, or the remote that has it is down
        return Changes(before=before.tag, after=of.tag, unknown=e.why)


def _flipped(found: Flips) -> str:
    turns = "; ".join(f"{shortened(a)} → {shortened(b)} ({n:,})" for a, b, n in found.turns[:5])
    return f"{found.kind}: {found.flipped:,} say something else now: {turns}"


def _value(value: Any) -> str:
    said = "absent" if value is None else orjson.dumps(value, default=str).decode()
    return said if len(said) <= VALUE else said[: VALUE - 1] + "…"
