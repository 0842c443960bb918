"""Mine: new interactions in the lake -> their place at the wall, and the detectors' signals."""

from __future__ import annotations

from dataclasses import dataclass, field

import orjson
import pandas as pd

from tasks.live import registry
from tasks.live.lake import Lake
from tasks.live.workspace import Workspace
from tasks.split import Asked, Known, SplitParams, members

# What users did after each interaction. Feedback may name a response, a log's own id, or a trace; of a trace it means
# the last generation. The last event of one person about one thing counts.
EXCHANGES = """
    WITH targets AS (
        SELECT response_id AS target, min(interaction_id) AS interaction_id, 1 AS rung FROM interactions GROUP BY response_id
        UNION ALL SELECT native_id, min(interaction_id), 2 FROM interactions GROUP BY native_id
        UNION ALL SELECT trace_id, max_by(interaction_id, ts), 3 FROM interactions WHERE trace_id <> '' GROUP BY trace_id
    ),
    resolved AS (
        SELECT f.*, t.interaction_id FROM feedback f JOIN targets t USING (target)
        QUALIFY row_number() OVER (PARTITION BY f.feedback_id ORDER BY t.rung) = 1
    ),
    latest AS (
        SELECT * FROM resolved
        QUALIFY row_number() OVER (PARTITION BY interaction_id, name, "user" ORDER BY ts DESC, feedback_id DESC) = 1
    ),
    said AS (
        SELECT interaction_id,
               bool_and(CASE WHEN name = 'thumb' THEN value = 'true' END) AS thumb,
               max(CASE WHEN name = 'comment' THEN json_extract_string(value, '$') END) AS comment,
               max(CASE WHEN name = 'edit' THEN json_extract_string(value, '$') END) AS edit,
               bool_or(CASE WHEN name = 'escalation' THEN value = 'true' END) AS escalation
        FROM latest GROUP BY interaction_id
    ),
    sequenced AS (
        SELECT *, lead(question) OVER session AS next_question, lead(contexts) OVER session AS next_contexts,
               (lead(ts) OVER session - ts) / 1e6 AS next_after_s
        FROM interactions WINDOW session AS (PARTITION BY session_id ORDER BY ts, interaction_id)
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


@dataclass(frozen=True, slots=True)
class Mined:
    """New interactions placed at the wall, by side, and new signals, by detector."""

    placed: dict[str, int] = field(default_factory=dict)
    signals: dict[str, int] = field(default_factory=dict)


def mine(workspace: Workspace) -> Mined:
    """Place what is new, then run every detector over what may still be sent. Nothing new: nothing is written."""
    with workspace.lock("lake"):
        lake = Lake(workspace.lake)
        # Signals first: being placed is the mark of having been looked at, and a process may die in between.
        signals = _detect(workspace, lake)
        return Mined(_place(workspace, lake), signals)


def _place(workspace: Workspace, lake: Lake) -> dict[str, int]:
    asked = lake.query(
        """SELECT interaction_id, session_id, question,
                  row_number() OVER (PARTITION BY session_id ORDER BY ts, interaction_id) = 1 AS opens
           FROM interactions QUALIFY interaction_id NOT IN (SELECT interaction_id FROM members)
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
        """SELECT session_id, min_by(group_id, ts) AS group_id, bool_or(side = 'straddles') AS straddled
           FROM members JOIN interactions USING (interaction_id) GROUP BY session_id"""
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
    exchanges = lake.query(EXCHANGES)
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
