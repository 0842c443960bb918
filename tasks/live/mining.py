"""Mine: new interactions in the lake -> their place at the wall, and the detectors' signals."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from tasks.judged import DRAWN, LLMJudgeParams
from tasks.live import known, registry
from tasks.live.feedback import RESOLVED, stream
from tasks.live.lake import Lake, Pending, writing
from tasks.live.workspace import Workspace
from tasks.metrics import FeedbackParams, metrics
from tasks.split import Asked, Known, SplitParams, members

# What tells models apart: the one that served, as the provider names it, or else the application's own version of it.
MODEL = "coalesce(nullif(model_served, ''), model_version)"
PEERS = 4  # other models' answers to the same conversation that an answer is compared with
# What users said and did after each interaction. A score of a whole session says little about its last answer; that a
# person had to take over does. Windows and groups run over narrow columns; texts are fetched for the rows that need them, so
# that a million interactions stream through in batches.
EXCHANGES = f"""
    WITH {RESOLVED},
    said AS (
        SELECT interaction_id,
               bool_and(polarity > 0) FILTER (name <> 'escalation' AND value_type <> 'number' AND by_people) AS thumb,
               min(name || ' ' || value) FILTER (polarity < 0 AND value_type = 'number' AND by_people) AS low_rating,
               max(CASE WHEN comment <> '' THEN comment
                        WHEN value_type = 'comment' THEN json_extract_string(value, '$') END) AS comment,
               max(CASE WHEN value_type = 'demonstration' THEN json_extract_string(value, '$') END) AS edit,
               bool_or(CASE WHEN name = 'escalation' THEN value = 'true' END) AS escalation,
               bool_or(CASE WHEN lower(name) IN ('copy', 'copied') THEN value = 'true' END) AS copied
        FROM (SELECT *, source_kind NOT IN ('llm_judge', 'code') AS by_people FROM resolved)
        WHERE interaction_id IS NOT NULL AND (resolution <> 'session' OR name = 'escalation')
        GROUP BY interaction_id
    ),
    asked AS (
        SELECT interaction_id, tenant, session_id, ts, {MODEL} AS model,
               md5_number(messages) AS prompt
        FROM interactions WHERE question <> ''
    ),
    sequenced AS (
        SELECT interaction_id, model, lead(interaction_id) OVER session AS next_id,
               (lead(ts) OVER session - ts) / 1e6 AS next_after_s,
               lead(prompt) OVER session = prompt AS same_prompt_again,
               CASE WHEN lead(ts) OVER session IS NULL THEN ((SELECT max(ts) FROM asked) - ts) / 1e6 END AS silent_s
        FROM asked WINDOW session AS (PARTITION BY tenant, session_id ORDER BY ts, interaction_id)
    ),
    -- What other models answered to the very same conversation, one answer a model, at most {PEERS}.
    compared AS (SELECT prompt FROM asked GROUP BY prompt HAVING min(model) <> max(model)),
    answered AS (
        SELECT a.prompt, a.model, min_by(i.response, a.interaction_id) AS response
        FROM asked a SEMI JOIN compared c ON a.prompt = c.prompt JOIN interactions i USING (interaction_id) GROUP BY ALL
    ),
    peered AS (
        SELECT a.interaction_id, list(o.response ORDER BY o.model)[:{PEERS}] AS peers
        FROM asked a JOIN answered o ON o.prompt = a.prompt AND o.model <> a.model GROUP BY ALL
    )
    SELECT i.interaction_id, s.model, i.prompt_name, i.messages, i.question,
           i.response, i.contexts, i.outputs, i.tools, i.params, i.finish_reason, i.status, i.error, i.confidence,
           i.latency_ms, i.ttft_ms, i.cost_usd, i.input_tokens, i.output_tokens, peers,
           thumb, low_rating, comment, edit, escalation, copied,
           n.question AS next_question, n.contexts AS next_contexts, s.next_after_s, s.same_prompt_again, s.silent_s,
           i.interaction_id NOT IN (SELECT interaction_id FROM members) AS is_new
    FROM interactions i JOIN sequenced s USING (interaction_id) LEFT JOIN said USING (interaction_id)
    LEFT JOIN interactions n ON n.interaction_id = s.next_id LEFT JOIN peered USING (interaction_id)
    -- Open: not yet in any batch's window. And those that users complained about after their window had closed.
    WHERE i.interaction_id NOT IN (SELECT interaction_id FROM candidates)
       OR (said.interaction_id IS NOT NULL AND i.interaction_id NOT IN (SELECT interaction_id FROM candidates WHERE part <> ''))
"""


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
    with writing(workspace):
        # Capture may be storing more at this moment: one look at what there is, for all that follows.
        lake = Lake(workspace.lake).pin("interactions", "feedback")
        # Signals first: being placed is the mark of having been looked at, and a process may die in between.
        signals = detected(workspace, lake, _rated(workspace)) if lake.count("interactions") else {}
        mined = Mined(_place(workspace, lake), signals)
    # Without the lock: an endpoint may take its time.
    return Mined(mined.placed, mined.signals | judged(workspace))


def _place(workspace: Workspace, lake: Lake) -> dict[str, int]:
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
    placed = members([Asked(**row) for row in asked], before, params)
    lake.append("members", placed)
    return _counted(m.side for m in placed)


def detected(workspace: Workspace, lake: Lake, rated: Callable[[pa.Table], pa.Table]) -> dict[str, int]:
    """Write what the detectors find and the lake does not yet have; gives the counts by detector. Memory stays flat.

    `rated` adds the column `reward` to new exchanges.
    """
    from tasks.signals import DETECTORS, REFERENCE, ROWS, USER_SIDE, SignalParams, detect

    params = workspace.params("signals", SignalParams)
    usual = lake.query(REFERENCE.replace("FROM interactions", f"FROM (SELECT *, {MODEL} AS model FROM interactions)"))
    seen, pending = known.Known(lake, "signals"), Pending(lake.root, "signals")
    counts: dict[str, int] = {}
    for batch in stream(lake, EXCHANGES, metrics(workspace.params("feedback", FeedbackParams)), ROWS):
        new, old = batch.filter(batch["is_new"]), batch.filter(pc.invert(batch["is_new"]))
        # An answer is looked at once, by the models of its day; what users do goes on for as long as it may be sent.
        for exchanges, detectors in ((rated(new), DETECTORS), (old, USER_SIDE)):
            found = detect(exchanges, detectors, params, usual)
            found = found.filter(pa.array(seen.remember(found["signal_id"])))
            pending.write(found)
            for row in found["detector"].value_counts().to_pylist():
                counts[row["values"]] = counts.get(row["values"], 0) + row["counts"]
    pending.commit()
    return dict(sorted(counts.items()))


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
    with writing(workspace):
        Lake(workspace.lake).append("signals", found)
    errors = {f"judge error: {code}": n for code, n in looked.errors.items()}
    left = {f"judge: left, {looked.stopped}": looked.left} if looked.left else {}
    return _counted(s.detector for s in found) | errors | left


def _rated(workspace: Workspace) -> Callable[[pa.Table], pa.Table]:
    """Adds the column `reward`: what the champion's reward model thinks of each answer; absent where it has none."""
    from tasks.policy.reward import RewardModel, is_in

    champion = registry.champion(workspace)
    if not is_in(champion.folder):
        return lambda exchanges: exchanges
    model = RewardModel.load(champion.folder)

    def rated(exchanges: pa.Table) -> pa.Table:
        goodness = model.goodness(
            [orjson.loads(m) for m in exchanges["messages"].to_pylist()],
            [orjson.loads(c) for c in exchanges["contexts"].to_pylist()],
            exchanges["response"].to_pylist(),
        )
        return exchanges.append_column("reward", pa.array(goodness, pa.float64()))

    return rated


def _counted(names) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items()))
