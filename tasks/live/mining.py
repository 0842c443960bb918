"""Mine: new interactions in the lake -> their place at the wall, and the detectors' signals."""

from __future__ import annotations

from dataclasses import dataclass, field

import orjson
import pandas as pd

from tasks.live import registry
from tasks.live.feedback import RESOLVED, query
from tasks.live.lake import Lake
from tasks.live.workspace import Workspace
from tasks.metrics import FeedbackParams, metrics
from tasks.split import Asked, Known, SplitParams, members

# What users said and did after each interaction. A score of a whole session says little about its last answer; that a
# person had to take over does.
EXCHANGES = f"""
    WITH {RESOLVED},
    said AS (
        SELECT interaction_id,
               bool_and(polarity > 0) FILTER (name <> 'escalation' AND source_kind NOT IN ('llm_judge', 'code')) AS thumb,
               max(CASE WHEN comment <> '' THEN comment
                        WHEN value_type = 'comment' THEN json_extract_string(value, '$') END) AS comment,
               max(CASE WHEN value_type = 'demonstration' THEN json_extract_string(value, '$') END) AS edit,
               bool_or(CASE WHEN name = 'escalation' THEN value = 'true' END) AS escalation
        FROM resolved WHERE interaction_id IS NOT NULL AND (resolution <> 'session' OR name = 'escalation')
        GROUP BY interaction_id
    ),
    sequenced AS (
        SELECT *, lead(question) OVER session AS next_question, lead(contexts) OVER session AS next_contexts,
               (lead(ts) OVER session - ts) / 1e6 AS next_after_s
        FROM interactions WHERE question <> '' WINDOW session AS (PARTITION BY tenant, session_id ORDER BY ts, interaction_id)
    )
    SELECT s.interaction_id, s.messages, s.question, s.response, s.contexts, s.finish_reason, s.confidence,
           thumb, comment, edit, escalation, s.next_question, s.next_contexts, s.next_after_s,
           s.interaction_id NOT IN (SELECT interaction_id FROM members) AS is_new
    FROM sequenced s LEFT JOIN said USING (interaction_id)
    -- Open: not yet in any batch's window. And those that users complained about after their window had closed.
    WHERE s.interaction_id NOT IN (SELECT interaction_id FROM candidates)
       OR (said.interaction_id IS NOT NULL AND s.interaction_id NOT IN (SELECT interaction_id FROM candidates WHERE part <> ''))
    ORDER BY s.interaction_id
"""


# The same session id in two tenants is two sessions.
SESSION = "CASE WHEN tenant = '' THEN session_id ELSE tenant || chr(31) || session_id END"


@dataclass(frozen=True, slots=True)
class Mined:
    """New interactions placed at the wall, by side, and new signals, by detector."""

    placed: dict[str, int] = field(default_factory=dict)
    signals: dict[str, int] = field(default_factory=dict)


def mine(workspace: Workspace) -> Mined:
    """Place what is new, then run every detector over what may still be sent. Nothing new: nothing is written."""
    with workspace.lock("lake"):
        # Capture may be storing more at this moment: one look at what there is, for all that follows.
        lake = Lake(workspace.lake).pin("interactions", "feedback")
        # Signals first: being placed is the mark of having been looked at, and a process may die in between.
        signals = _detect(workspace, lake)
        return Mined(_place(workspace, lake), signals)


def _place(workspace: Workspace, lake: Lake) -> dict[str, int]:
    asked = lake.query(
        f"""SELECT interaction_id, {SESSION} AS session_id, question,
                  row_number() OVER (PARTITION BY tenant, session_id ORDER BY ts, interaction_id) = 1 AS opens
           FROM interactions WHERE question <> '' QUALIFY interaction_id NOT IN (SELECT interaction_id FROM members)
           ORDER BY ts, interaction_id"""
    ).to_pylist()
    if not asked:
        return {}
    before = lake.query(
        # Those who asked a question on one side share that side; one who straddled must not hide it, however late it came.
        """SELECT question_key, min_by(question, ts) AS question, min_by(group_id, ts) AS group_id,
                  coalesce(max(side) FILTER (side <> 'straddles'), 'straddles') AS side
           FROM members JOIN interactions USING (interaction_id) GROUP BY question_key ORDER BY question_key"""
    ).to_pylist()
    sessions = lake.query(
        f"""SELECT {SESSION} AS session_id, min_by(group_id, ts) AS group_id, bool_or(side = 'straddles') AS straddled
           FROM members JOIN interactions USING (interaction_id) GROUP BY ALL"""
    ).to_pylist()
    known = Known(
        questions={r["question_key"]: (r["question"], r["side"]) for r in before},
        groups={r["question_key"]: r["group_id"] for r in before},
        sessions={r["session_id"]: (r["group_id"], r["straddled"]) for r in sessions},
    )
    placed = members([Asked(**row) for row in asked], known, workspace.params("split", SplitParams))
    lake.append("members", placed)
    return _counted(m.side for m in placed)


def _detect(workspace: Workspace, lake: Lake) -> dict[str, int]:
    exchanges = query(lake, EXCHANGES, metrics(workspace.params("feedback", FeedbackParams)))
    if not exchanges.num_rows:
        return {}
    from tasks.signals import ANSWER_SIDE, USER_SIDE, detect

    frame = exchanges.to_pandas()
    # An answer is looked at once, by the models of its day; what users do goes on for as long as it may be sent.
    found = detect(_with_reward(workspace, frame[frame["is_new"]]), ANSWER_SIDE) + detect(frame, USER_SIDE)
    known = set(lake.query("SELECT signal_id FROM signals")["signal_id"].to_pylist())
    new = [s for s in found if s.signal_id not in known]
    lake.append("signals", new)
    return _counted(s.detector for s in new)


def _with_reward(workspace: Workspace, frame: pd.DataFrame) -> pd.DataFrame:
    """The column `reward`: what the champion's reward model thinks of each answer; absent where it has none."""
    from tasks.policy.reward import RewardModel, is_in

    champion = registry.champion(workspace)
    if frame.empty or not is_in(champion.folder):
        return frame
    goodness = RewardModel.load(champion.folder).goodness(
        [orjson.loads(m) for m in frame["messages"]],
        [orjson.loads(c) for c in frame["contexts"]],
        frame["response"].tolist(),
    )
    return frame.assign(reward=goodness)


def _counted(names) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items()))
