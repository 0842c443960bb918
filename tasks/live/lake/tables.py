"""The tables of the lake: the noun in the rows of each, and how its files are written."""

from __future__ import annotations

from dataclasses import fields

from tasks.records import (
    Annotation,
    Asked,
    Candidate,
    Cluster,
    Event,
    Feedback,
    Interaction,
    Member,
    Part,
    Reject,
    Release,
    Signal,
    Waiting,
)

# table -> the noun in its rows. The first field of a noun is its id.
TABLES: dict[str, type] = {
    "interactions": Interaction,
    "feedback": Feedback,
    "parts": Part,
    "waiting": Waiting,
    "rejects": Reject,
    "releases": Release,
    "members": Member,
    "signals": Signal,
    "candidates": Candidate,
    "clusters": Cluster,
    "asks": Asked,
    "events": Event,
    "annotations": Annotation,
}
# Written under the lock "lake"; the others under "capture", and rejects under both.
UNDER_LAKE = ("members", "signals", "candidates", "clusters", "asks", "events", "annotations")
# Rejects that nobody has released, and interactions that still wait for a record that completes them.
HELD = "SELECT * FROM rejects WHERE reject_id NOT IN (SELECT reject_id FROM releases)"
OPEN = """
    SELECT * FROM waiting
    WHERE interaction_id NOT IN (SELECT interaction_id FROM interactions SEMI JOIN waiting USING (interaction_id))
      AND replace(waiting_id, 'wt_', 'rj_') NOT IN (SELECT reject_id FROM rejects)
    ORDER BY raw_segment, raw_line, waiting_id"""
# The least effort of zstd: level 3 saves another sixth of the disk for a quarter more of all of capture's time.
CODEC, LEVEL = "zstd", 1
# Dictionaries only for columns in which many rows are alike; of the others they would be built and thrown away.
UNLIKE_COLUMNS = {
    "interactions": {"interaction_id", "native_id", "response_id", "trace_id", "session_id", "user", "messages", "question",
                     "response", "contexts", "outputs", "content_hash", "ts", "raw_line"},
    "feedback": {"feedback_id", "native_id", "target", "comment", "ts", "raw_line"},
}  # fmt: skip


def key_of(table: str) -> str:
    """The column that is a table's id."""
    return fields(TABLES[table])[0].name
