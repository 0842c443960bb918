"""Feedback, resolved: each event -> the one interaction that it is about, and which way it points.

Events are only ever added; what they mean is derived anew whenever it is asked for, so an event that came before its
interaction, or names one that is still to come, resolves by itself once both are there.

The ladder, the most exact rung first: the interaction's own id -> the provider's response id -> the last generation of the
trace -> the last generation of the session before the event. Never fanned out: one event, at most one interaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

import orjson
import pyarrow as pa

from tasks.live.lake import Lake
from tasks.metrics import Metric

ALWAYS = 2**62  # as of the end of time

# $as_of (µs) is by when an event must have been captured: a late event changes no earlier snapshot.
RESOLVED = """
    metrics AS (
        SELECT unnest(from_json($metrics, '[{"name": "VARCHAR", "direction": "BIGINT", "threshold": "DOUBLE"}]'), recursive := true)
    ),
    events AS (
        SELECT *, CASE WHEN target_type IN ('pair', 'observation') THEN split_part(target, '|', 1) ELSE target END AS about,
               -- People rate what they see: a span around the generation, of which the log says the trace.
               CASE WHEN target_type = 'observation' THEN split_part(target, '|', 2)
                    WHEN target_type = 'interaction' AND dialect = 'otlp' THEN split_part(target, ':', 1) ELSE '' END AS around
        FROM feedback WHERE received <= $as_of
    ),
    named AS (SELECT about FROM events UNION SELECT around FROM events WHERE around <> ''),
    -- Only what is named at all is grouped: most interactions get no feedback.
    places AS (
        SELECT native_id AS about, 1 AS rung, dialect, tenant, interaction_id, ts
        FROM interactions SEMI JOIN named ON native_id = about
        UNION ALL
        SELECT response_id, 2, dialect, tenant, interaction_id, ts
        FROM interactions SEMI JOIN named ON response_id = about
        UNION ALL
        SELECT trace_id, 3, dialect, tenant, interaction_id, ts
        FROM interactions SEMI JOIN named ON trace_id = about
        UNION ALL
        SELECT session_id, 4, dialect, tenant, interaction_id, ts
        FROM interactions SEMI JOIN named ON session_id = about
    ),
    possible AS (
        SELECT e.feedback_id, p.*, e.dialect = p.dialect AS own,
               CASE WHEN p.rung >= 3 AND p.ts <= e.ts THEN 1 ELSE 0 END AS before
        FROM (SELECT *, false AS wider FROM events UNION ALL
              SELECT * REPLACE (around AS about), true FROM events WHERE around <> '') e JOIN places p USING (about)
        WHERE CASE WHEN e.wider THEN p.rung = 3
                   WHEN e.target_type IN ('interaction', 'pair', 'observation') THEN p.rung = 1
                   WHEN e.target_type = 'response' THEN p.rung = 2 WHEN e.target_type = 'trace' THEN p.rung = 3
                   WHEN e.target_type = 'session' THEN p.rung = 4 ELSE p.rung <= 3 END
          -- A provider's response id is the same in every log; other ids mean something in their own log only.
          AND (e.dialect = p.dialect OR e.dialect = 'flywheel' OR e.target_type = 'response')
          AND (e.tenant = p.tenant OR e.tenant = '')
    ),
    best AS (
        SELECT feedback_id, interaction_id, rung FROM (
            SELECT *, count(DISTINCT tenant) OVER (PARTITION BY feedback_id, rung) AS tenants FROM (
                SELECT *, min(rung) OVER (PARTITION BY feedback_id) AS lowest,
                       bool_or(own) OVER (PARTITION BY feedback_id, rung) AS owned FROM possible
            ) WHERE rung = lowest AND own >= owned
        -- The same session id in two tenants is two sessions, and the event does not say which: it stays unresolved.
        ) WHERE tenants = 1 OR rung < 4
        QUALIFY row_number() OVER (PARTITION BY feedback_id ORDER BY before DESC,
            CASE WHEN rung >= 3 AND before = 1 THEN ts END DESC, CASE WHEN rung >= 3 AND before = 0 THEN ts END, interaction_id) = 1
    ),
    judged AS (
        SELECT e.* EXCLUDE (about, around), b.interaction_id,
               CASE b.rung WHEN 1 THEN 'exact' WHEN 2 THEN 'response_id' WHEN 3 THEN 'trace_last_generation'
                           WHEN 4 THEN 'session' ELSE 'unresolved' END AS resolution,
               m.direction * CASE
                   WHEN e.value = 'true' THEN 1 WHEN e.value = 'false' THEN -1
                   WHEN e.value_type = 'number' AND e.value <> 'null'
                       THEN CASE WHEN CAST(e.value AS DOUBLE) >= m.threshold THEN 1 ELSE -1 END
               END AS polarity
        FROM events e LEFT JOIN best b USING (feedback_id) LEFT JOIN metrics m ON m.name = replace(lower(e.name), '-', '_')
    ),
    -- The last event of one person about one thing counts; null takes back what was said before.
    resolved AS (
        SELECT * FROM (
            SELECT * FROM judged
            QUALIFY row_number() OVER (PARTITION BY coalesce(interaction_id, dialect || ':' || target), target_type = 'session',
                                       name, "user", source_kind ORDER BY ts DESC, feedback_id DESC) = 1
        ) WHERE value <> 'null'
    )"""


def resolved(lake: Lake, metrics: Iterable[Metric], as_of: int = ALWAYS) -> pa.Table:
    """The feedback that counts, as of a time of capture: one row an event, with interaction_id, resolution and polarity."""
    return query(lake, f"WITH {RESOLVED} SELECT * FROM resolved ORDER BY feedback_id", metrics, as_of)


def query(lake: Lake, sql: str, metrics: Iterable[Metric], as_of: int = ALWAYS) -> pa.Table:
    """Run SQL that builds on RESOLVED."""
    return lake.query(_filled(sql, metrics, as_of))


def stream(lake: Lake, sql: str, metrics: Iterable[Metric], rows: int, as_of: int = ALWAYS) -> Iterator[pa.Table]:
    """Run SQL that builds on RESOLVED, some `rows` of the answer at a time."""
    return lake.stream(_filled(sql, metrics, as_of), rows)


def _filled(sql: str, metrics: Iterable[Metric], as_of: int) -> str:
    # Written into the SQL: given any parameter or table, DuckDB imports pandas, and `status` would take a second longer.
    known = orjson.dumps([asdict(m) for m in metrics]).decode().replace("'", "''")
    return sql.replace("$metrics", f"'{known}'").replace("$as_of", str(int(as_of)))


def unresolved(lake: Lake, now: int, patience_us: int) -> dict[str, Any]:
    """Events that point at nothing captured: how many still wait, and how many have waited longer than `patience_us`."""
    if not lake.count("feedback"):
        return {"waiting": 0, "expired": 0, "newest": []}
    table = query(
        lake,
        f"""WITH {RESOLVED} SELECT feedback_id, dialect, target_type, target, name, ts FROM judged
            WHERE resolution = 'unresolved' ORDER BY ts DESC""",
        [],
    )
    rows = table.to_pylist()
    expired = sum(1 for r in rows if now - r["ts"] > patience_us)
    return {"waiting": len(rows) - expired, "expired": expired, "newest": rows[:5]}
