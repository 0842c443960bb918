"""What people have said so far: answers in the lake -> labels, error rate and the detectors' precision, as of now."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.agreement import Agreement, AgreementParams, aggregate
from tasks.estimate import Estimate, Precision, Stratum, detector_precision, error_rate
from tasks.examples import served_action
from tasks.live.lake import Lake
from tasks.live.workspace import Workspace
from tasks.records import Annotation, Approved, Label, read_records
from tasks.select import AUDIT_HOLDOUT, AUDIT_OPEN, SelectParams

# Of several answers by one person to one interaction the last counts; `annotation_id` breaks a tie of times for good.
LATEST = """
    SELECT a.* FROM annotations a JOIN interactions USING (interaction_id)
    QUALIFY row_number() OVER (PARTITION BY interaction_id, annotator ORDER BY a.ts DESC, annotation_id DESC) = 1
    ORDER BY annotation_id
"""


def latest_annotations(lake: Lake) -> list[Annotation]:
    return lake.rows(Annotation, LATEST)


def catalogue(workspace: Workspace) -> list[Approved]:
    """The approved answers, by id. Raises Refused where the workspace has none."""
    return sorted(read_records(workspace.catalogue, Approved), key=lambda a: a.id)


def agreement(workspace: Workspace) -> Agreement:
    """Aggregate every answer in the lake."""
    lake = Lake(workspace.lake)
    annotations = latest_annotations(lake)
    by_text = {a.text.strip(): a for a in catalogue(workspace)}
    responses = lake.query(
        "SELECT interaction_id, response FROM interactions SEMI JOIN annotations USING (interaction_id)"
    )
    served = {r["interaction_id"]: served_action(r["response"], by_text) for r in responses.to_pylist()}
    return aggregate(annotations, served, workspace.params("curate", AgreementParams))


@dataclass(frozen=True, slots=True)
class Audit:
    """The error rate of one batch's window, from its random part."""

    batch_id: str
    estimate: Estimate


def audits(workspace: Workspace, labels: list[Label]) -> list[Audit]:
    """One estimate per batch, oldest first; NaN while its audit slice is unanswered."""
    wrong = {x.interaction_id: x.p_wrong for x in labels}
    rows = (
        Lake(workspace.lake)
        .query(
            """SELECT c.batch_id, c.part, c.interaction_id, c."window", min(i.ts) OVER (PARTITION BY c.batch_id) AS since
           FROM candidates c JOIN interactions i USING (interaction_id)
           WHERE c.part IN ($holdout, $open) ORDER BY since, c.batch_id, c.interaction_id""",
            {"holdout": AUDIT_HOLDOUT, "open": AUDIT_OPEN},
        )
        .to_pylist()
    )
    batches: dict[str, dict[str, tuple[list[float], int]]] = {}
    for row in rows:
        drawn, _ = batches.setdefault(row["batch_id"], {}).setdefault(row["part"], ([], row["window"]))
        if row["interaction_id"] in wrong:
            drawn.append(wrong[row["interaction_id"]])
    return [Audit(b, error_rate([Stratum(p, n) for p, n in parts.values()])) for b, parts in batches.items()]


def precisions(workspace: Workspace, labels: list[Label]) -> dict[str, Precision]:
    """Each detector's precision and recall on everything that was audited."""
    params = workspace.params("select", SelectParams)
    wrong = {x.interaction_id: x.p_wrong for x in labels}
    lake = Lake(workspace.lake)
    audited = lake.query(
        "SELECT interaction_id FROM candidates WHERE part IN ($holdout, $open)",
        {"holdout": AUDIT_HOLDOUT, "open": AUDIT_OPEN},
    )["interaction_id"].to_pylist()
    wrong = {i: wrong[i] for i in audited if i in wrong}
    fired: dict[str, set[str]] = {}
    for row in lake.query("SELECT DISTINCT detector, interaction_id FROM signals").to_pylist():
        fired.setdefault(row["detector"], set()).add(row["interaction_id"])
    return detector_precision(fired, wrong, params.prior_precision, params.prior_strength)
