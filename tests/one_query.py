"""Mining as one query over the whole lake, and the detectors over all of it at once: what every partitioning must equal."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.detecting import MODEL
from tasks.live.detection import PEERS
from tasks.live.feedback import RESOLVED, query
from tasks.live.lake import Lake
from tasks.live.workspace import Workspace
from tasks.metrics import FeedbackParams, metrics
from tasks.signals import DETECTORS, REFERENCE, USER_SIDE, SignalParams, detect

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
        SELECT interaction_id, tenant, session_id, ts, {MODEL} AS model, md5(messages) AS prompt
        FROM interactions WHERE question <> ''
    ),
    sequenced AS (
        SELECT interaction_id, model, lead(interaction_id) OVER session AS next_id,
               (lead(ts) OVER session - ts) / 1e6 AS next_after_s,
               lead(prompt) OVER session = prompt AS same_prompt_again,
               CASE WHEN lead(ts) OVER session IS NULL THEN ((SELECT max(ts) FROM asked) - ts) / 1e6 END AS silent_s
        FROM asked WINDOW session AS (PARTITION BY tenant, session_id ORDER BY ts, interaction_id)
    ),
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
    WHERE i.interaction_id NOT IN (SELECT interaction_id FROM candidates)
       OR (said.interaction_id IS NOT NULL AND i.interaction_id NOT IN (SELECT interaction_id FROM candidates WHERE part <> ''))
"""


def signals(place: Workspace) -> list[dict[str, Any]]:
    """The signals of everything in the lake, sorted by their ids."""
    lake, params = Lake(place.lake), place.params("signals", SignalParams)
    usual = lake.query(REFERENCE.replace("FROM interactions", f"FROM (SELECT *, {MODEL} AS model FROM interactions)"))
    rows = query(lake, EXCHANGES, metrics(place.params("feedback", FeedbackParams)))
    new, old = rows.filter(rows["is_new"]), rows.filter(pc.invert(rows["is_new"]))
    found = [detect(new, DETECTORS, params, usual), detect(old, USER_SIDE, params, usual)]
    return pa.concat_tables(found).sort_by("signal_id").to_pylist()
