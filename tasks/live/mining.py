"""Mine: new interactions in the lake -> their place at the wall, and the detectors' signals."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from tasks.engine import Engine, opened
from tasks.judged import DRAWN, LLMJudgeParams
from tasks.live import registry
from tasks.live.detection import detected
from tasks.live.lake import Lake
from tasks.live.workspace import Workspace
from tasks.split import Asked, Known, SplitParams, members

# The same session id in two tenants is two sessions.
SESSION = "CASE WHEN tenant = '' THEN session_id ELSE tenant || chr(31) || session_id END"

# The first document that was retrieved. Ids are the application's own, and so a tenant's; without one, the text tells.
DOCUMENT = """CASE WHEN coalesce(json_extract_string(contexts, '$[0].id'), '') <> ''
                   THEN tenant || chr(31) || json_extract_string(contexts, '$[0].id')
                   WHEN coalesce(json_extract_string(contexts, '$[0].text'), '') <> ''
                   THEN md5(json_extract_string(contexts, '$[0].text')) ELSE '' END"""


@dataclass(frozen=True, slots=True)
class Mined:
    """New interactions placed at the wall, by side, and new signals, by detector."""

    placed: dict[str, int] = field(default_factory=dict)
    signals: dict[str, int] = field(default_factory=dict)


def mine(workspace: Workspace) -> Mined:
    """Place what is new, then run every detector over what may still be sent. Nothing new: nothing is written."""
    with workspace.lock("lake"), opened(workspace.state) as engine:
        # Capture may be storing more at this moment: one look at what there is, for all that follows.
        lake = Lake(workspace.lake).pin("interactions", "feedback")
        # Signals first: being placed is the mark of having been looked at, and a process may die in between.
        signals = detected(workspace, lake, engine, _reward(workspace)) if lake.count("interactions") else {}
        mined = Mined(_place(workspace, lake, engine), signals)
    # Without the lock: an endpoint may take its time.
    return Mined(mined.placed, mined.signals | judged(workspace))


def _place(workspace: Workspace, lake: Lake, engine: Engine) -> dict[str, int]:
    params = workspace.params("split", SplitParams)
    asked = lake.query(
        f"""SELECT interaction_id, {SESSION} AS session_id, question,
                  row_number() OVER (PARTITION BY tenant, session_id ORDER BY ts, interaction_id) = 1 AS opens,
                  {DOCUMENT if params.by_document else "''"} AS document
           FROM interactions WHERE question <> '' QUALIFY interaction_id NOT IN (SELECT interaction_id FROM members)
           ORDER BY ts, interaction_id"""
    ).to_pylist()
    if not asked:
        return {}
    questions = lake.query(
        # Those who asked a question on one side share that side; one who straddled must not hide it, however late it came.
        """SELECT question_key, min_by(question, ts) AS question, min_by(group_id, ts) AS group_id,
                  coalesce(max(side) FILTER (side <> 'straddles'), 'straddles') AS side
           FROM members JOIN interactions USING (interaction_id) GROUP BY question_key ORDER BY question_key"""
    ).to_pylist()
    sessions = lake.query(
        f"""SELECT {SESSION} AS session_id, min_by(group_id, ts) AS group_id, bool_or(side = 'straddles') AS straddled
           FROM members JOIN interactions USING (interaction_id) GROUP BY ALL"""
    ).to_pylist()
    documents = (
        lake.query(  # all who used a document and did not straddle are on one side
            f"""SELECT {DOCUMENT} AS document, min_by(group_id, (ts, interaction_id)) AS group_id, min(side) AS side
               FROM members JOIN interactions USING (interaction_id) WHERE side <> 'straddles' GROUP BY ALL"""
        ).to_pylist()
        if params.by_document
        else []
    )
    before = Known(
        questions={r["question_key"]: (r["question"], r["side"]) for r in questions},
        groups={r["question_key"]: r["group_id"] for r in questions},
        sessions={r["session_id"]: (r["group_id"], r["straddled"]) for r in sessions},
        documents={r["document"]: (r["group_id"], r["side"]) for r in documents},
    )
    placed = members([Asked(**row) for row in asked], before, params, engine)
    lake.append("members", placed)
    return _counted(m.side for m in placed)


# First what the judge sees at random, from which an error rate of its own can be told; then the most suspicious.
UNJUDGED = f"""
    WITH suspicion AS (SELECT interaction_id, max(score) AS most FROM signals GROUP BY interaction_id)
    SELECT interaction_id, question, json_extract_string(contexts, '$[*].text') AS documents, response
    FROM interactions LEFT JOIN suspicion USING (interaction_id)
    WHERE question <> '' AND interaction_id NOT IN (SELECT interaction_id FROM candidates)
      AND interaction_id NOT IN (SELECT interaction_id FROM signals WHERE detector IN ('judge', 'judge_right'))
    ORDER BY {DRAWN.format(share="$share")} DESC, coalesce(most, 0) DESC, interaction_id LIMIT $most"""


def judged(workspace: Workspace) -> dict[str, int]:
    """What the judge thinks of interactions that may be sent; nothing without FLYWHEEL_JUDGE_URL and a model in params.yaml."""
    if not os.environ.get("FLYWHEEL_JUDGE_URL"):
        return {}
    from tasks.live import judge

    params, at = workspace.params("llm_judge", LLMJudgeParams), judge.endpoint()
    if not params.model or at is None:
        return {}
    rows = Lake(workspace.lake).query(UNJUDGED, {"share": params.random_share, "most": params.max_items}).to_pylist()
    looked = judge.Judge(at, params).look(judge.Seen(**r) for r in rows)
    found = judge.signals(looked.opinions, params.model)
    with workspace.lock("lake"):
        Lake(workspace.lake).append("signals", found)
    errors = {f"judge error: {code}": n for code, n in looked.errors.items()}
    left = {f"judge: left, {looked.stopped}": looked.left} if looked.left else {}
    return _counted(s.detector for s in found) | errors | left


def _reward(workspace: Workspace) -> Path | None:
    """The folder of the champion's reward model, if it has one."""
    from tasks.policy.reward import is_in

    champion = registry.champion(workspace)
    return champion.folder if is_in(champion.folder) else None


def _counted(names) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items()))
