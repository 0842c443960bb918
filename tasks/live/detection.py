"""Detection: the detectors over everything in the lake that may still be sent, partition by partition, on the engine.

    lake's files ──glance──▶ narrow rows ──FACTS, here──▶ plan ──lend──▶ texts that partitions lend each other ──detect──▶ signals

What is here looks at narrow rows only (some hundred bytes an interaction); texts are read where a partition is worked on.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tasks import addressed
from tasks.detecting import PLAN, Detecting, Glancing, Lending, detect, glance, lend
from tasks.engine import Engine
from tasks.live import known
from tasks.live.feedback import RESOLVED, stream
from tasks.live.lake import Lake, Pending
from tasks.live.workspace import Workspace
from tasks.metrics import FeedbackParams, metrics
from tasks.pieces import cut
from tasks.signals import USUAL, SignalParams

PEERS = 4  # other models' answers to the same conversation that an answer is compared with
NARROW_ROWS = 65_536
# What users said and did after each interaction. A score of a whole session says little about its last answer; that a
# person had to take over does. `glanced` is a narrow row of every interaction.
FACTS = f"""
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
    asked AS (SELECT * FROM $glanced WHERE asked),
    sequenced AS (
        SELECT part, interaction_id, model,
               CASE WHEN lead(part) OVER session IS NOT NULL THEN
                   {{'part': lead(part) OVER session, 'interaction_id': lead(interaction_id) OVER session}} END AS next,
               (lead(ts) OVER session - ts) / 1e6 AS next_after_s,
               lead(prompt) OVER session = prompt AS same_prompt_again,
               CASE WHEN lead(ts) OVER session IS NULL THEN ((SELECT max(ts) FROM asked) - ts) / 1e6 END AS silent_s
        FROM asked WINDOW session AS (PARTITION BY tenant, session_id ORDER BY ts, interaction_id)
    ),
    -- What other models answered to the very same conversation, one answer a model, at most {PEERS}.
    compared AS (SELECT prompt FROM asked GROUP BY prompt HAVING min(model) <> max(model)),
    answered AS (
        SELECT prompt, model, {{'part': min_by(part, interaction_id), 'interaction_id': min(interaction_id)}} AS answer
        FROM asked SEMI JOIN compared USING (prompt) GROUP BY ALL
    ),
    peered AS (
        SELECT a.interaction_id, list(o.answer ORDER BY o.model)[:{PEERS}] AS peers
        FROM asked a JOIN answered o ON o.prompt = a.prompt AND o.model <> a.model GROUP BY ALL
    )
    SELECT s.part, {", ".join(PLAN.names)}
    FROM (SELECT *, interaction_id NOT IN (SELECT interaction_id FROM members) AS is_new FROM sequenced) s
    LEFT JOIN said USING (interaction_id) LEFT JOIN peered USING (interaction_id)
    -- Open: not yet in any batch's window. And those that users complained about after their window had closed.
    WHERE interaction_id NOT IN (SELECT interaction_id FROM candidates)
       OR (said.interaction_id IS NOT NULL AND interaction_id NOT IN (SELECT interaction_id FROM candidates WHERE part <> ''))
    ORDER BY s.part, interaction_id
"""
# From which partition must be borrowed: rows of others that the plan names.
BORROWED = """
    SELECT DISTINCT other.part AS part, borrower, other.interaction_id AS interaction_id
    FROM (SELECT part AS borrower, next AS other FROM $plan WHERE next IS NOT NULL
          UNION ALL SELECT part, unnest(peers) FROM $plan)
    WHERE other.part <> borrower ORDER BY part, borrower, interaction_id"""


def detected(workspace: Workspace, lake: Lake, engine: Engine, reward: Path | None = None) -> dict[str, int]:
    """Write what the detectors find and the lake does not yet have; gives the counts by detector. Memory stays flat.

    `reward`: a folder with the champion's reward model.
    """
    parts = {p.number: p for p in cut(lake.files("interactions"), engine.part_bytes)}
    folder = engine.folder
    glances = list(engine.run(glance, [Glancing(p, folder / f"glance-{k:06d}.parquet") for k, p in parts.items()]))
    usual = folder / "usual.parquet"
    pq.write_table(lake.query(USUAL.replace("FROM measured", f"FROM {_files(glances)}")), usual)
    plan, with_rows = addressed.write(folder / "plan.parquet", _planned(workspace, lake, glances))
    if not with_rows:
        return {}
    lent = _lent(lake, engine, parts, plan)
    params = workspace.params("signals", SignalParams)
    asked = [
        Detecting(parts[k], plan, lent, usual, params, reward, folder / f"signals-{k:06d}.parquet") for k in sorted(with_rows)
    ]
    seen, pending = known.Known(lake, "signals"), Pending(lake.root, "signals")
    counts: dict[str, int] = {}
    for path in engine.run(detect, asked):
        found = pq.read_table(path)
        found = found.filter(pa.array(seen.remember(found["signal_id"])))
        pending.write(found)
        for row in found["detector"].value_counts().to_pylist():
            counts[row["values"]] = counts.get(row["values"], 0) + row["counts"]
        Path(path).unlink()
    pending.commit()
    return dict(sorted(counts.items()))


def _planned(workspace: Workspace, lake: Lake, glances: list[str]) -> Iterator[pa.Table]:
    known_metrics = metrics(workspace.params("feedback", FeedbackParams))
    for rows in stream(lake, FACTS.replace("$glanced", _files(glances)), known_metrics, NARROW_ROWS):
        yield rows.cast(pa.schema([(addressed.PART, pa.int32()), *PLAN]))


def _lent(lake: Lake, engine: Engine, parts: dict, plan: str) -> tuple[str, ...]:
    borrowed = lake.stream(BORROWED.replace("$plan", _files([plan])), NARROW_ROWS)
    wanted, lenders = addressed.write(engine.folder / "wanted.parquet", borrowed)
    asked = [Lending(parts[k], wanted, engine.folder / f"lent-{k:06d}.parquet") for k in sorted(lenders)]
    return tuple(filter(None, engine.run(lend, asked)))


def _files(paths: list[str]) -> str:
    """What DuckDB reads these files by."""
    quoted = ", ".join("'" + p.replace("'", "''") + "'" for p in paths)
    return f"read_parquet([{quoted}])"
