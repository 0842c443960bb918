"""What may be sent: the open window in the lake -> the pool that the selection chooses from."""

from __future__ import annotations

import math
from dataclasses import fields

from tasks.cells import novelty, typicality
from tasks.effort import effort
from tasks.errors import Refused
from tasks.live.lake import Lake
from tasks.policy.encoder import Encoder
from tasks.records import Interaction, Signal
from tasks.select import DIMENSIONS, Pooled, SelectParams
from tasks.signals import GOOD
from tasks.split import TRAIN

POOL = """
    SELECT m.interaction_id, m.group_id, m.side, i.question, i.confidence, {slices} AS slices,
           length(i.messages) + length(i.contexts) + length(i.response) AS characters,
           m.interaction_id NOT IN (SELECT interaction_id FROM candidates) AS in_window
    FROM members m JOIN interactions i USING (interaction_id)
    WHERE m.interaction_id NOT IN (SELECT interaction_id FROM candidates)
       OR m.interaction_id IN (
           SELECT interaction_id FROM signals WHERE detector IN ('negative_feedback', 'low_rating', 'escalated', 'edited')
           EXCEPT SELECT interaction_id FROM candidates WHERE part <> '')
    ORDER BY m.interaction_id
"""
# The strongest finding of a detector counts: a thumb that came later made an older finding stronger, not two of it.
# Evidence that an answer is right (`copied`) is for the error model, not a reason to suspect it.
STRONGEST = f"""
    SELECT * FROM signals WHERE detector NOT IN ({", ".join(f"'{d}'" for d in GOOD)})
    QUALIFY row_number() OVER (PARTITION BY interaction_id, detector ORDER BY score DESC, signal_id) = 1 ORDER BY signal_id
"""
# The time between two answers of one person; longer than a quarter of an hour is not reading.
TIMED = """
    SELECT length(messages) + length(contexts) + length(response) AS characters, minutes FROM (
        SELECT interaction_id, (ts - lag(ts) OVER (PARTITION BY annotator ORDER BY ts, annotation_id)) / 6e7 AS minutes
        FROM annotations
    ) JOIN interactions USING (interaction_id) WHERE minutes > 0 AND minutes < 15
"""


def pool(lake: Lake, params: SelectParams, overlap: int) -> list[Pooled]:
    """The open window, and what was passed over and complained about since."""
    signals: dict[str, list[Signal]] = {}
    for s in lake.rows(Signal, STRONGEST):
        signals.setdefault(s.interaction_id, []).append(s)
    rows = lake.query(POOL.format(slices=slices_of(params, "i."))).to_pylist()
    minutes = effort([r["characters"] for r in rows], _timed(lake, params), overlap)
    new, typical = _unlike_what_was_labelled(lake, rows)
    return [
        Pooled(
            r["interaction_id"],
            r["group_id"],
            r["side"],
            r["question"],
            r["in_window"],
            tuple(signals.get(r["interaction_id"], ())),
            # Half at least: an answer that was sure and wrong all the same must not vanish.
            uncertainty=1.0 if _unknown(r["confidence"]) else 1.0 - min(1.0, max(0.0, r["confidence"])) / 2,
            novelty=new.get(r["interaction_id"], 1.0),
            typicality=typical.get(r["interaction_id"], 1.0),
            slices=tuple(r["slices"]),
            minutes=float(m),
        )
        for r, m in zip(rows, minutes, strict=True)
    ]


def slices_of(params: SelectParams, table: str = "") -> str:
    """SQL: the list of an interaction's slices, "column=value". Raises Refused for a column that interactions lack."""
    known = {f.name for f in fields(Interaction) if f.type == "str"}
    for column in params.slices:
        if column not in known:
            raise Refused(
                f"params.yaml: select.slices names {column!r}, which is no text column of interactions",
                f"use some of: {', '.join(sorted(known))}",
            )
    return "[" + ", ".join(f"'{c}=' || {table}\"{c}\"" for c in params.slices) + "]::VARCHAR[]"


def _timed(lake: Lake, params: SelectParams) -> list[tuple[int, float]]:
    if params.minutes <= 0:
        return []
    return [(r["characters"], r["minutes"]) for r in lake.query(TIMED).to_pylist()]


def _unlike_what_was_labelled(lake: Lake, rows: list[dict]) -> tuple[dict[str, float], dict[str, float]]:
    """Of what may be mined: how unlike it is to all that people have answered, and how like the rest of the window."""
    open_ = [r for r in rows if r["side"] == TRAIN]
    if not open_:
        return {}, {}
    labelled = lake.query(
        "SELECT DISTINCT question FROM interactions SEMI JOIN annotations USING (interaction_id) ORDER BY question"
    )["question"].to_pylist()
    questions = [r["question"] for r in open_]
    encoder = Encoder.fit([*questions, *labelled], DIMENSIONS)
    vectors = encoder.texts(questions)
    ids = [r["interaction_id"] for r in open_]
    new = novelty(vectors, encoder.texts(labelled)) if labelled else [1.0] * len(ids)
    return dict(zip(ids, map(float, new), strict=True)), dict(
        zip(ids, map(float, typicality(vectors, questions)), strict=True)
    )


def _unknown(confidence: float | None) -> bool:
    return confidence is None or math.isnan(confidence)
