"""Drift of inputs and outputs: the newest batch's window against those before it. Reads the lake, writes nothing."""

from __future__ import annotations

from tasks.drift import CATEGORY, NUMBER, TEXT, Drift, DriftParams, drift
from tasks.live.lake import Lake
from tasks.live.workspace import Workspace

KINDS = {
    "question": TEXT, "question_length": NUMBER, "language": CATEGORY, "documents": NUMBER, "kind": CATEGORY,
    "app_version": CATEGORY, "prompt_version": CATEGORY,
    "response": TEXT, "response_length": NUMBER, "finish_reason": CATEGORY, "status": CATEGORY, "model_version": CATEGORY,
    "confidence": NUMBER, "latency_ms": NUMBER, "output_tokens": NUMBER, "cost_usd": NUMBER,
}  # fmt: skip
# Windows in the order of time, the newest last; those passed over before belong to the window in which they were first.
COLUMNS = """
    WITH windows AS (
        SELECT c.batch_id, row_number() OVER (ORDER BY max(i.ts) DESC, c.batch_id) - 1 AS back
        FROM candidates c JOIN interactions i USING (interaction_id) WHERE c."window" > 0 GROUP BY c.batch_id
    )
    SELECT w.back = 0 AS current, i.question, length(i.question) AS question_length, i.language, i.kind, i.app_version,
           CASE WHEN json_valid(i.contexts) THEN json_array_length(i.contexts) END AS documents, i.prompt_version, i.response,
           length(i.response) AS response_length, i.finish_reason, i.status, i.model_version, i.confidence, i.latency_ms,
           i.output_tokens, i.cost_usd
    FROM candidates c JOIN windows w USING (batch_id) JOIN interactions i USING (interaction_id)
    WHERE c."window" > 0 AND w.back <= $reference ORDER BY i.interaction_id
"""


def drifts(workspace: Workspace) -> list[Drift]:
    """Every column that can be compared, the drifted ones first; empty while there is one window only."""
    params = workspace.params("drift", DriftParams)
    rows = Lake(workspace.lake).query(COLUMNS, {"reference": params.reference})
    current = rows.filter(rows["current"]).to_pydict()
    reference = rows.filter([not c for c in rows["current"].to_pylist()]).to_pydict()
    return drift(reference, current, KINDS, params)
