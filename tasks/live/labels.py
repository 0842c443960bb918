"""What people have said so far: answers in the lake -> labels, error rate and the detectors' precision, as of now."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import orjson

from tasks.agreement import ANSWER, Agreement, AgreementParams, aggregate, served_action
from tasks.earning import Earning, EarningParams, Turn, earning
from tasks.estimate import (
    Audited,
    Estimate,
    Precision,
    Stratum,
    Trend,
    detector_precision,
    error_rate,
    error_rate_in,
    trend,
)
from tasks.guidelines import Guideline, newest, parse, touched
from tasks.judged import DRAWN, Calibration, LLMJudgeParams, corrected_rate
from tasks.judgements import Judgement, judgements
from tasks.live.lake import Lake
from tasks.live.pool import slices_of
from tasks.live.workspace import Workspace
from tasks.overlap import Limits
from tasks.records import Annotation, Approved, Label, read_records
from tasks.select import AUDIT_HOLDOUT, AUDIT_OPEN, SelectParams

# Of several answers by one person to one ask the last counts; `annotation_id` breaks a tie of times for good. Gold questions
# measure people, and are no second opinion on what experts decided.
LATEST = """
    SELECT * FROM (
        SELECT a.* FROM annotations a SEMI JOIN interactions USING (interaction_id)
        WHERE a.candidate_id NOT IN (SELECT candidate_id FROM asks WHERE gold)
        QUALIFY row_number() OVER (PARTITION BY interaction_id, kind, annotator ORDER BY a.ts DESC, annotation_id DESC) = 1
    ) WHERE status = 'submitted' ORDER BY annotation_id
"""


def latest_annotations(workspace: Workspace) -> list[Annotation]:
    """What counts by now: each person's last answer to each ask, unless a changed guideline asks for it anew."""
    found = Lake(workspace.lake).rows(Annotation, LATEST)
    return in_force(found, guidelines(workspace))


def in_force(found: Sequence[Annotation], versions: Mapping[str, Guideline]) -> list[Annotation]:
    """The answers that the guidelines in force leave standing: all but those that a changed clause touches."""
    current = newest(versions.values())
    together: dict[tuple[str, str], list[Annotation]] = {}
    for a in found:
        together.setdefault((a.interaction_id, a.kind), []).append(a)
    gone: set[str] = set()
    for (_, kind), answers in together.items():
        for version in {a.guideline for a in answers} - {current[kind].version} if kind in current else set():
            if version in versions and touched([a.parsed for a in answers], versions[version], current[kind]):
                gone |= {a.annotation_id for a in answers if a.guideline == version}
    return [a for a in found if a.annotation_id not in gone]


def guidelines(workspace: Workspace) -> dict[str, Guideline]:
    """Every version in the workspace, by version. Raises Refused for a malformed one."""
    found = (parse(p.stem, p.read_text(encoding="utf-8")) for p in sorted((workspace.data / "guidelines").glob("*.md")))
    return {g.version: g for g in found}


def catalogue(workspace: Workspace) -> list[Approved]:
    """The approved answers, by id. Raises Refused where the workspace has none."""
    return sorted(read_records(workspace.catalogue, Approved), key=lambda a: a.id)


def agreement(workspace: Workspace, params: AgreementParams | None = None) -> Agreement:
    """Aggregate every answer in the lake to whether what was served was right."""
    params = params or workspace.params("curate", AgreementParams)
    return aggregate(latest_annotations(workspace), served_answers(workspace), params)


def served_answers(workspace: Workspace) -> dict[str, str]:
    """Of every interaction that people answered: the id of the approved answer that was served, '' if it was none."""
    by_text = {a.text.strip(): a for a in catalogue(workspace)}
    rows = Lake(workspace.lake).query(
        "SELECT interaction_id, response FROM interactions SEMI JOIN annotations USING (interaction_id)"
    )
    return {r["interaction_id"]: served_action(r["response"], by_text) for r in rows.to_pylist()}


def judged(workspace: Workspace, limits: Limits | None = None) -> dict[str, list[Judgement]]:
    """What people agree on by now, by kind, for all kinds but `answer`, which `agreement` is about."""
    params = workspace.params("curate", AgreementParams)
    limits = limits or Limits(first=params.min_votes, sure=params.min_confidence)
    versions = newest(guidelines(workspace).values())
    by_kind: dict[str, list[Annotation]] = {}
    for a in latest_annotations(workspace):
        by_kind.setdefault(a.kind, []).append(a)
    return {
        kind: judgements(versions[kind].kind, answers, limits)
        for kind, answers in sorted(by_kind.items())
        if kind != ANSWER
    }


@dataclass(frozen=True, slots=True)
class Audit:
    """The error rate of one batch's window, from its random part; `slices`: that of each slice with labels."""

    batch_id: str
    estimate: Estimate
    slices: dict[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Judge:
    """The judge beside people, on the audits; and the error rate of what it saw at random, corrected (NaN: uncalibrated)."""

    calibration: Calibration
    estimate: Estimate


@dataclass(frozen=True, slots=True)
class Rates:
    """What the audits say by now: each batch's, how the rate moves over them, which detectors earn their place, and what a
    judge is worth where there is one.
    """

    audits: list[Audit]
    trend: Trend | None
    detectors: list[Earning]
    judge: Judge | None


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A batch's audit: its strata as drawn, its labels, and what slices they are of."""

    strata: dict[str, Stratum]
    labelled: list[Audited]
    slices: dict[str, set[str]]

    @property
    def answered(self) -> bool:
        return not math.isnan(error_rate(list(self.strata.values())).value)


def audits(workspace: Workspace, labels: list[Label]) -> list[Audit]:
    """One estimate per batch, oldest first; NaN while its audit slice is unanswered."""
    return [_audit(b, drawn) for b, drawn in _drawn(workspace, labels).items()]


def rates(workspace: Workspace, labels: list[Label]) -> Rates:
    """Everything that the audits say. Batches whose audit is not yet answered say nothing about detectors."""
    drawn = _drawn(workspace, labels)
    found = [_audit(b, d) for b, d in drawn.items()]
    fired: dict[str, dict[str, set[str]]] = {}
    lake = Lake(workspace.lake)
    for row in lake.query(
        """SELECT DISTINCT c.batch_id, s.detector, s.interaction_id FROM signals s JOIN candidates c USING (interaction_id)
           WHERE c."window" > 0"""
    ).to_pylist():
        fired.setdefault(row["batch_id"], {}).setdefault(row["detector"], set()).add(row["interaction_id"])
    turns = [
        Turn(d.labelled, sum(s.window for s in d.strata.values()), fired.get(b, {}))
        for b, d in drawn.items()
        if d.answered
    ]
    params = workspace.params("earning", EarningParams)
    judge = _judge(workspace, [a for t in turns for a in t.audited])
    return Rates(found, trend([a.estimate for a in found], params.alpha), earning(turns, params), judge)


def precisions(workspace: Workspace, labels: list[Label]) -> dict[str, Precision]:
    """Each detector's precision and recall on everything that was audited."""
    params = workspace.params("select", SelectParams)
    audited = [a for d in _drawn(workspace, labels).values() if d.answered for a in d.labelled]
    fired: dict[str, set[str]] = {}
    for row in Lake(workspace.lake).query("SELECT DISTINCT detector, interaction_id FROM signals").to_pylist():
        fired.setdefault(row["detector"], set()).add(row["interaction_id"])
    return detector_precision(fired, audited, params.prior_precision, params.prior_strength)


def write_rates(workspace: Workspace) -> None:
    """Leave the rates where `flywheel status` finds them without computing anything. Rebuilt at every receiving."""
    found = asdict(rates(workspace, agreement(workspace).labels))
    temporary = workspace.rates.with_suffix(".tmp")
    temporary.write_bytes(orjson.dumps(found, option=orjson.OPT_SORT_KEYS))  # NaN becomes null: unknown, not zero
    temporary.replace(workspace.rates)


def _audit(batch_id: str, drawn: _Drawn) -> Audit:
    estimate = error_rate(list(drawn.strata.values()))
    known = {} if math.isnan(estimate.value) else {s: error_rate_in(drawn.labelled, i) for s, i in drawn.slices.items()}
    return Audit(batch_id, estimate, dict(sorted(known.items())))


def _judge(workspace: Workspace, audited: list[Audited]) -> Judge | None:
    """Calibrated on random labels only: of what was mined, a judge sees the errors that detectors see."""
    params = workspace.params("llm_judge", LLMJudgeParams)
    rows = Lake(workspace.lake).query(
        f"""SELECT interaction_id, bool_or(detector = 'judge') AS wrong, {DRAWN.format(share=params.random_share)} AS drawn
            FROM signals WHERE detector IN ('judge', 'judge_right') GROUP BY interaction_id"""
    ).to_pylist()
    if not rows:
        return None
    called = {r["interaction_id"]: r["wrong"] for r in rows}
    beside = [(called[a.interaction_id], a.wrong >= 0.5) for a in audited if a.interaction_id in called]
    wrong, right = [c for c, label in beside if label], [not c for c, label in beside if not label]
    calibration = Calibration(sum(wrong), len(wrong), sum(right), len(right))
    seen = [r["wrong"] for r in rows if r["drawn"]]
    return Judge(calibration, corrected_rate(sum(seen), len(seen), calibration, params.min_labels))


def _drawn(workspace: Workspace, labels: list[Label]) -> dict[str, _Drawn]:
    """Each batch's audit, oldest batch first."""
    wrong = {x.interaction_id: x.p_wrong for x in labels}
    slices = slices_of(workspace.params("select", SelectParams), "i.")
    rows = (
        Lake(workspace.lake)
        .query(
            f"""SELECT c.batch_id, c.part, c.interaction_id, c."window", {slices} AS slices,
                      min(i.ts) OVER (PARTITION BY c.batch_id) AS since
           FROM candidates c JOIN interactions i USING (interaction_id)
           WHERE c.part IN ($holdout, $open) ORDER BY since, c.batch_id, c.interaction_id""",
            {"holdout": AUDIT_HOLDOUT, "open": AUDIT_OPEN},
        )
        .to_pylist()
    )
    batches: dict[str, _Drawn] = {}
    for row in rows:
        drawn = batches.setdefault(row["batch_id"], _Drawn({}, [], {}))
        stratum = drawn.strata.setdefault(row["part"], Stratum([], row["window"]))
        if row["interaction_id"] not in wrong:
            continue
        p = wrong[row["interaction_id"]]
        stratum.wrong.append(p)
        drawn.labelled.append(Audited(row["interaction_id"], f"{row['batch_id']}/{row['part']}", row["window"], p))
        for s in row["slices"]:
            drawn.slices.setdefault(s, set()).add(row["interaction_id"])
    return batches
