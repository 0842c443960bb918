"""Detectors: evidence that an interaction may be wrong. One file a family; the same ones run in production and on the holdout.

A table of exchanges (columns in `detector.COLUMNS`) in, a table of signals (the noun `Signal`) out:
    signal_id   interaction_id   detector     score   evidence
    sg_81f…     ix_5c0…          ungrounded   0.83    "5 of 6 content words are in no retrieved text: refund, …"
with a score in (0, 1]; where a detector sees nothing, it gives no row. To add one, put a file with DETECTORS into tasks/signals/own
(docs/extend.md). docs/detectors.md lists those that come with the project.

DuckDB is used as a calculator (tasks/calculator.py): over the tables handed in, without access to anything outside.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from tasks.calculator import Engine
from tasks.calculator import calculator as locked_in
from tasks.errors import Refused
from tasks.own import own
from tasks.records import Signal, arrow_schema
from tasks.signals import answer, behaviour, feedback, formats, grounding, model, operations, retrieval, safety
from tasks.signals.detector import ANSWER, COLUMNS, USER, Detector
from tasks.signals.measures import measured
from tasks.signals.safety import SignalParams, terms

__all__ = [
    "ANSWER_SIDE",
    "COLUMNS",
    "DETECTORS",
    "GOOD",
    "MEASURED",
    "REFERENCE",
    "SCORED",
    "USER_SIDE",
    "USUAL",
    "Detector",
    "SignalParams",
    "detect",
    "references",
]


def _new(detectors: Iterable[Detector]) -> dict[str, Detector]:
    """By name. Raises Refused where two have one name: what was found could not be told apart."""
    found: dict[str, Detector] = {}
    for d in detectors:
        if d.name in SHIPPED or d.name in found:
            raise Refused(f"tasks/signals/own: there is a detector {d.name!r} already", "give it another name")
        found[d.name] = d
    return found


FAMILIES = (feedback, behaviour, answer, formats, grounding, retrieval, safety, operations, model)
SHIPPED: dict[str, Detector] = {d.name: d for family in FAMILIES for d in family.DETECTORS}
DETECTORS = SHIPPED | _new(d for family in own("tasks.signals") for d in family.DETECTORS)
USER_SIDE = tuple(name for name, d in DETECTORS.items() if d.side == USER)
ANSWER_SIDE = tuple(name for name, d in DETECTORS.items() if d.side == ANSWER)
# Evidence that an answer is right; "judge_right" is written by tasks/live/judge.py.
GOOD = (*(name for name, d in DETECTORS.items() if d.good), "judge_right")

ROWS = 32_768  # at a time: some 100 MB with all that is derived from them
EVIDENCE = 500  # characters at most, for people to read
# What is usual among the answers of one model to one prompt: medians and robust spreads (interquartile range / 1.349, which is
# the standard deviation of a normal distribution) of logarithms, because lengths, times and costs are skewed.
REFERRED = {
    "length": "length(response)", "latency_ms": "latency_ms", "ttft_ms": "ttft_ms", "cost_usd": "cost_usd",
    "input_tokens": "input_tokens", "output_tokens": "output_tokens",
}  # fmt: skip
ENOUGH = 30  # values from which a median and a spread say what is usual
LEAST_SPREAD = 0.1  # a tenth more or less is never unusual, however constant the rest
BEST_SCORE = "list_max(TRY(json_extract(contexts, '$[*].score')::DOUBLE[]))"
_LOGS = {name: f"CASE WHEN {value} > 0 THEN ln({value}) END" for name, value in REFERRED.items()}
_LOGS["retrieval"] = "best_score"  # of cosines and the like: as they are
# What is usual takes these few numbers of each row, over a relation with the column `best_score` (BEST_SCORE of `contexts`) …
MEASURED = ", ".join([
    "prompt_name", "CASE WHEN contexts IS NOT NULL THEN (contexts <> '[]')::INTEGER END AS documented",
    *(f"{log} AS {name}_log" for name, log in _LOGS.items()),
])  # fmt: skip
# … and sums them up over any relation `measured` that has them and `model`, whatever it is that tells models apart.
USUAL = f"""
    SELECT coalesce(model, '') AS model, coalesce(prompt_name, '') AS prompt_name,
           avg(documented) AS with_documents, count(documented) AS of_documents,
           {", ".join(f"count({n}_log) AS {n}_n, quantile_cont({n}_log, [0.25, 0.5, 0.75]) AS {n}_q" for n in _LOGS)}
    FROM measured GROUP BY ALL"""
SCORED = f"SELECT *, CASE WHEN contexts <> '[]' THEN {BEST_SCORE} END AS best_score"
REFERENCE = f"WITH measured AS (SELECT model, {MEASURED} FROM ({SCORED} FROM interactions)) {USUAL}"


def detect(
    exchanges: pa.Table,
    detectors: Iterable[str] = DETECTORS,
    params: SignalParams | None = None,
    usual: pa.Table | None = None,
) -> pa.Table:
    """Run detectors over exchanges; missing columns are taken as unknown, never as good.

    `usual` is what `references` gives for a larger population; by default it is taken from the exchanges themselves.
    Gives the signals sorted by interaction and detector. Raises KeyError for a detector that does not exist.
    """
    chosen = [DETECTORS[name] for name in detectors]
    whole = typed(exchanges)
    found = [arrow_schema(Signal).empty_table()]
    with calculator(params) as engine:
        engine.register("usual", references(whole) if usual is None else usual)
        found += [_detected(engine, whole.slice(at, ROWS), chosen) for at in range(0, whole.num_rows, ROWS)]
    return pa.concat_tables(found).sort_by([("interaction_id", "ascending"), ("detector", "ascending")])


def references(exchanges: pa.Table) -> pa.Table:
    """What is usual per model and prompt: one row each, by the query REFERENCE."""
    with calculator() as engine:
        engine.register("interactions", typed(exchanges))
        return engine.execute(REFERENCE).to_arrow_table()


def calculator(params: SignalParams | None = None) -> Engine:
    """DuckDB in memory without a way out, knowing the terms of params.yaml."""
    engine = locked_in()
    for name in ("policy_terms", "safety_terms"):
        pattern = terms(getattr(params, name) if params else ())
        engine.execute(f"SET VARIABLE {name} = {_literal(pattern)}")
    return engine


def _detected(engine: Engine, chunk: pa.Table, detectors: Sequence[Detector]) -> pa.Table:
    prepare(engine, chunk)
    return find(engine, detectors)


def prepare(engine: Engine, chunk: pa.Table) -> None:
    """Make the table `exchanges` that detectors ask: the columns handed in, what was measured, what is usual."""
    engine.register("given", chunk)
    texts = engine.execute(f"SELECT {_EACH.format('contexts', 'text')} AS texts FROM given").to_arrow_table()
    lists = texts["texts"].combine_chunks()
    parents = pc.list_parent_indices(lists).to_numpy()
    # One Arrow table, so that nothing is copied and each detector reads the columns that it names.
    exchanges = _beside(chunk, measured(chunk, pc.list_flatten(lists), parents))
    engine.register("given", exchanges.append_column("row", pa.array(range(chunk.num_rows))))
    engine.register("exchanges", _beside(exchanges, engine.execute(_DERIVED).to_arrow_table()))


def find(engine: Engine, detectors: Sequence[Detector]) -> pa.Table:
    """What the detectors find in the table `exchanges`."""
    signals = " UNION ALL ".join(_select(d) for d in detectors)
    found = engine.execute(
        f"""SELECT 'sg_' || left(sha256(concat_ws(chr(31), interaction_id, detector, printf('%.6f', score), evidence)), 24) AS signal_id,
                   interaction_id, detector, score, evidence FROM ({signals})"""
    )
    return found.to_arrow_table().cast(arrow_schema(Signal))


def _select(detector: Detector) -> str:
    # The score is filtered before evidence is made: most rows are no finding.
    return f"""
        SELECT interaction_id, '{detector.name}' AS detector, round(least(found, 1.0), 6) AS score,
               left(coalesce({detector.evidence}, '{detector.name}'), {EVIDENCE}) AS evidence
        FROM (SELECT *, ({detector.score})::DOUBLE AS found FROM exchanges) WHERE found > 0.0000005 AND NOT isnan(found)"""


def _z(name: str, value: str) -> str:
    middle, spread = f"{name}_q[2]", f"greatest(({name}_q[3] - {name}_q[1]) / 1.349, {LEAST_SPREAD})"
    return f"CASE WHEN {name}_n >= {ENOUGH} THEN ({value} - {middle}) / {spread} END AS {name}_z"


_EACH = "TRY(json_extract_string({}, '$[*].{}'))"  # NULL for what is no JSON
_IDS, _NEXT_IDS = (f"list_distinct({_EACH.format(c, 'id')})" for c in ("g.contexts", "g.next_contexts"))
_DERIVED = f"""
    SELECT {", ".join(_z(name, log) for name, log in _LOGS.items())}, best_score,
           CASE WHEN of_documents >= {ENOUGH} THEN with_documents END AS with_documents,
           CASE WHEN g.next_contexts <> '[]' AND g.contexts <> '[]' THEN
               len(list_intersect({_IDS}, {_NEXT_IDS})) / nullif(len(list_distinct(list_concat({_IDS}, {_NEXT_IDS}))), 0)
           END AS same_documents,
           {answer.REFUSED} AS refused, {grounding.BEYOND_NUMBERS} AS beyond_numbers, {grounding.BEYOND_NAMES} AS beyond_names
    FROM ({SCORED} FROM given) g
    LEFT JOIN usual u ON u.model = coalesce(g.model, '') AND u.prompt_name = coalesce(g.prompt_name, '')
    ORDER BY g.row"""


def _beside(left: pa.Table, right: pa.Table) -> pa.Table:
    return pa.table([*left.columns, *right.columns], names=[*left.column_names, *right.column_names])


def typed(exchanges: pa.Table) -> pa.Table:
    """All the columns in their types; NaN is unknown."""
    columns = []
    for name, kind in COLUMNS.items():
        column = exchanges[name] if name in exchanges.column_names else pa.nulls(exchanges.num_rows, kind)
        if pa.types.is_floating(column.type):
            column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
        columns.append(column.cast(kind))
    return pa.table(columns, names=list(COLUMNS)).combine_chunks()


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
