"""What an operator reads in the Prefect UI: one keyed artifact per subject, with its history."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from prefect import get_run_logger
from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from flows import gate, plots
from flows.people import annotator_row, audited_text, money, reliability_text, share
from tasks.drift import Drift
from tasks.earning import STOPPED, WORTHLESS
from tasks.estimate import Estimate
from tasks.live.handoff.follow_up import FollowUp
from tasks.live.handoff.send import Batch
from tasks.live.intake import Account
from tasks.live.labels import Rates
from tasks.live.live_champion import Live
from tasks.live.mining import Mined
from tasks.live.quality import Quality
from tasks.live.registry.journal import Entry
from tasks.live.taxonomy import Shown
from tasks.records import Cluster


def account(key: str, title: str, counted: Account) -> None:
    """in = stored + duplicate + rejected + attached, with the reasons and what is still unfinished."""
    lines = [
        f"**{title}**: {counted.seen:,} records from {counted.files} files",
        "",
        "| stored | duplicate | rejected | attached to another record | conflicts |",
        "|---|---|---|---|---|",
        f"| {counted.stored:,} | {counted.duplicate:,} | {counted.rejected:,} | {counted.attached:,} | {counted.conflicts:,} |",
    ]
    lines += [f"- rejected: {n} × `{reason}`" for reason, n in sorted(counted.reasons.items())]
    lines += [f"- waiting: {text}" for text in counted.unfinished]
    if counted.waiting:
        lines.append(f"- waiting: {counted.waiting:,} interactions for the record that holds their prompt")
    lines += [f"- redacted: {n:,} × {kind}" for kind, n in counted.redacted.items()]
    get_run_logger().info("%s: %s", title, counted.as_dict())
    create_markdown_artifact(key=key, markdown="\n".join(lines), description=title)


def mined(found: Mined) -> None:
    if found.signals:
        get_run_logger().info("placed %s, new signals %s", found.placed, found.signals)
        rows = [{"detector": d, "new signals": n} for d, n in found.signals.items()]
        placed = ", ".join(f"{n:,} {side}" for side, n in found.placed.items())
        create_table_artifact(key="mined-signals", table=rows, description=f"Placed at the wall: {placed or 'nothing new'}")


def batch(sent: Batch) -> None:
    lines = [
        f"**{sent.batch_id}**: {sum(sent.parts.values())} of {sent.window:,} interactions",
        "",
        "| part | candidates |",
    ]
    lines += ["|---|---|", *(f"| {part} | {n} |" for part, n in sent.parts.items())]
    lines += ["", "| question | asked |", "|---|---|", *(f"| {kind} | {n} |" for kind, n in sent.asks.items())]
    lines += ["", f"{sent.gold} gold questions among them; {sent.withheld} candidates withheld for personal data"]
    lines += ["", f"Where: `{sent.folder}`"]
    text = "\n".join(lines)
    get_run_logger().info("sent %s of %s to %s", sent.parts, sent.window, sent.folder)
    create_markdown_artifact(key="batch", markdown=text, description="The batch that was handed to people")


def people(followed: FollowUp, found: Quality) -> None:
    """How many questions are out, back, disputed and late; who answers how well; what people disagree about."""
    if not found.kinds:
        return
    asked = sum(followed.again.values()), sum(followed.experts.values()), sum(followed.reworded.values())
    lines = [
        f"**{followed.open:,} questions open**, {followed.late:,} of them late, {followed.expired:,} given up; asked again"
        f" {asked[0]:,}, of experts {asked[1]:,}, anew under a changed guideline {asked[2]:,}",
        "",
        "| question | out | back | settled | disputed | answers each | cost a label | agreement |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {k.kind} | {k.out:,} | {k.back:,} | {k.settled:,} | {k.disputed:,} | {k.answers_each:.1f} | {money(k.cost_per_label)} |"
        f" {'; '.join(f'{name}: {reliability_text(r)}' for name, r in k.agreement.items())} |"
        for k in found.kinds
    ]
    lines += ["", f"Cost so far {found.cost:,.2f}; of a corrected error {money(found.cost_per_error)}"]
    lines += ["", audited_text(found.audited)]
    get_run_logger().info("people: open %d, late %d, asked again %d, experts %d", followed.open, followed.late, *asked[:2])
    description = "Questions to people, and how far they agree"
    create_markdown_artifact(key="people", markdown="\n".join(lines), description=description)
    named = [f"{c.annotator} is {c.verdict}: {'; '.join(c.why)}" for c in found.annotators if c.verdict not in ("good", "unknown")]
    for text in named:
        get_run_logger().warning("annotator %s", text)
    rows = [annotator_row(c) for c in found.annotators]
    create_table_artifact(key="annotators", table=rows, description=" · ".join(named) or "Nobody stands out")
    rows = [{"clause": f"{c.guideline} {c.clause}", "questions": c.questions, "disagreed": share(c)} for c in found.clauses]
    description = "The guideline debugger: clauses that people disagree about, most first"
    create_table_artifact(key="guideline-debugger", table=rows, description=description)


def clusters(found: list[Shown], alarms: list[str], turns: Sequence[Cluster]) -> None:
    """The living taxonomy of failures: the commonest first, with its state and what it rests on. `turns`: each of them in every
    turn so far."""
    if not found:
        return
    rows = [
        {
            "cluster": c.row.name,
            "state": c.row.state,
            "share": f"{c.row.share:.2%} ({c.row.count:,} of {c.row.window:,})",
            "trend": f"{c.row.trend:+.2%}",
            "first seen": f"turn {c.row.first_seen}",
            "last seen": f"turn {c.row.last_seen}",
            "example": c.text[:200],
            "id": c.row.cluster_id,
        }
        for c in found
    ]
    for text in alarms:
        get_run_logger().warning("%s", text)
    description = "Failures that look alike" + "".join(f" · ALARM: {text}" for text in alarms)
    create_table_artifact(key="failure-clusters", table=rows, description=description)
    _picture("failure-clusters-plot", plots.clusters(turns), "How the share of the commonest failures moved")


def drift(found: list[Drift]) -> None:
    """What inputs and outputs look like against the windows before: real and large enough first."""
    if not found:
        return
    rows = [
        {
            "column": d.column,
            "drifted": "yes" if d.drifted else "",
            "effect": f"{d.measure} {d.effect:.3f}",
            "p": f"{d.p_value:.2g}",
            "rows": f"{d.reference:,} -> {d.current:,}",
            "evidence": d.evidence,
        }
        for d in found
    ]
    moved = [d.column for d in found if d.drifted]
    if moved:
        get_run_logger().warning("drifted: %s", ", ".join(moved))
    create_table_artifact(key="drift", table=rows, description=f"Drifted: {', '.join(moved) or 'nothing'}")


def rates(found: Rates) -> None:
    """The newest error rate with its slices and trend, and which detectors earn their place."""
    answered = [a for a in found.audits if math.isfinite(a.estimate.value)]
    if not answered:
        return
    audit = answered[-1]
    lines = [
        f"Error rate of {audit.batch_id}'s window: **{interval(audit.estimate)}** ({audit.estimate.n} random labels)"
    ]
    if found.trend:
        lines += ["", f"Trend: {found.trend.statement}"]
    if found.judge:
        c = found.judge.calibration
        lines += [
            "",
            f"The judge, corrected: {interval(found.judge.estimate)}; it caught {c.caught} of {c.wrong} errors and passed"
            f" {c.passed} of {c.right} right answers beside people",
        ]
    if audit.slices:
        lines += ["", "| slice | error rate, 95% interval | labels |", "|---|---|---|"]
        lines += [f"| {name} | {interval(e)} | {e.n} |" for name, e in audit.slices.items()]
    create_markdown_artifact(
        key="error-rate", markdown="\n".join(lines), description="Estimated from the random audit slice alone"
    )
    _picture("error-rate-plot", plots.error_rate(found.audits), "Estimated from the random audit slice alone")
    if found.detectors:
        table = [
            {
                "detector": d.detector,
                "fired": d.fired,
                "precision": interval(d.precision),
                "recall": interval(d.recall),
                "lift": interval(d.lift, "{:.2f}"),
                "verdict": d.verdict,
            }
            for d in found.detectors
        ]
        dropped = [d.detector for d in found.detectors if d.verdict in (STOPPED, WORTHLESS)]
        if dropped:
            get_run_logger().warning("detectors that no longer earn their place: %s", ", ".join(dropped))
        create_table_artifact(key="detectors", table=table, description="Measured on the random audits, 95% intervals")


def interval(e: Estimate, form: str = "{:.1%}") -> str:
    """'12.0% (8.1% to 17.2%)', or 'unknown'."""
    if not math.isfinite(e.value):
        return "unknown"
    return f"{form.format(e.value)} ({form.format(e.low)} to {form.format(e.high)})"


def dataset(built: dict[str, Any]) -> None:
    """The rows of each table and what they were made of; what was refused, with its reason."""
    lines = ["| side | table | rows | made of |", "|---|---|---|---|"]
    for side, tables in built["rows"].items():
        for table, rows in sorted(tables.items()):
            made = ", ".join(f"{n:,} {origin}" for origin, n in sorted(built["origins"].get(f"{side}/{table}", {}).items()))
            lines += [f"| {side} | {table} | {rows:,} | {made} |"] if rows else []
    lines += ["", *(f"- ALERT: {text}" for text in built["alerts"])]
    lines += [f"- pairs: {found['says']}" for found in built["pairs"] if found["level"] != "ok"]
    lines += [f"- labels that look wrong beside alike rows: {built['noise']['share']:.1%}"] if built["noise"]["share"] else []
    lines += ["", *(f"- refused: {n:,} × `{reason}`" for reason, n in sorted(built["dropped"].items()))]
    get_run_logger().info("dataset: %s, refused %s", built["rows"], built["dropped"])
    create_markdown_artifact(key="dataset", markdown="\n".join(lines), description="The tables of the newest dataset")


def progress(subject: str, steps: Sequence[str]) -> Iterator[str]:
    """Each step in turn, with how many of them are done for whoever looks."""
    shown = create_progress_artifact(progress=0.0, key=f"{subject}-progress", description=f"0 of {len(steps)}: {steps[0]}")
    for done, step in enumerate(steps):
        update_progress_artifact(shown, progress=100 * done / len(steps), description=f"{done} of {len(steps)} done: {step}")
        yield step
    update_progress_artifact(shown, progress=100.0, description=f"all {len(steps)} done")


def changed(tag: str, entry: str) -> None:
    """What a snapshot changed in the data: its entry of the changelog."""
    description = "What changed in the dataset since the snapshot before"
    create_markdown_artifact(key="data-diff", markdown=f"**{tag}**\n\n{entry}", description=description)


def links(tag: str, commit: str, version: str, model: str, url: dict[str, str]) -> None:
    """Where to look further: the snapshot, its model in MLflow (`model`: its page), the page where people answer."""
    lines = [f"- snapshot `{tag}`, commit `{commit[:12]}`: `flywheel dossier {tag}`, `flywheel report {tag}`"]
    if model:
        lines.append(f"- its model in MLflow: [version {version}]({model})")
    else:
        lines.append(f"- its model: version {version or 'not recorded yet'}")
    pages = {"review": "where people answer", "champion": "the champion's endpoint"}
    lines += [f"- [{name}]({url[service]})" for service, name in pages.items() if service in url]
    create_markdown_artifact(key="links", markdown="\n".join(lines), description="Where to look further")


def validation(page: str) -> None:
    create_markdown_artifact(key="validation", markdown=page, description="Every expectation on every table")


def verdict(document: dict[str, Any]) -> None:
    get_run_logger().info("%s: %s", document["decision"], "; ".join(document["reasons"]))
    description = "Challenger against champion, same prompts"
    create_markdown_artifact(key="verdict", markdown=gate.page(document), description=description)
    _picture("verdict-plot", plots.verdict(document), description)


def _picture(key: str, image: str, description: str) -> None:
    if image:
        create_image_artifact(key=key, image_url=image, description=description)


def champions(entries: Sequence[Entry]) -> None:
    """Who was champion, when, why and by whom, the newest first."""
    rows = [{"at": e.at, "what": e.action, "version": e.version, "snapshot": e.snapshot, "by": e.by, "why": e.why} for e in entries]
    create_table_artifact(key="champions", table=rows[::-1], description="What was champion, and what people were asked about it")


def report(index: str) -> None:
    """Where the turns are told: a page of its own each, and what waits for a person."""
    description = f"What each turn did, what it cost and what it needs: {index}"
    create_link_artifact(key="report", link=index, link_text="The turns", description=description)


def live(found: Live) -> None:
    """What users met from each of the newest model versions."""
    rows = [
        {
            "version": v.version or "unknown",
            "answers": f"{v.answers:,}",
            "rated": f"{v.rated:,}",
            "bad feedback": f"{v.bad / v.rated:.1%} ({v.low:.1%} to {v.high:.1%})" if v.rated else "unknown",
            "flagged by a detector": f"{v.flagged / v.answers:.1%}",
        }
        for v in found.versions
    ]
    for text in found.alarms:
        get_run_logger().warning("%s", text)
    description = f"Champion: version {found.champion}" + "".join(f" · ALARM: {text}" for text in found.alarms)
    create_table_artifact(key="live-champion", table=rows, description=description)
