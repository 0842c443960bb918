"""Detecting, partition by partition: three pure functions over the files of the table of interactions, for any engine.

    glance    a partition's texts                 -> the few numbers of each row by which rows of all partitions are put together
    lend      the rows that others need           -> their texts, addressed to who needs them
    detect    a partition's texts, its plan       -> the signals of its rows

Conversations, the answers of other models and what is usual reach over partitions. Their texts don't: between `glance` and `lend`
somebody (live/detection.py) looks at narrow rows of all partitions, and plans which row needs which other.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks import addressed
from tasks.calculator import Engine, calculator
from tasks.engine import OfPartition, whole
from tasks.pieces import Partition, read, reader
from tasks.signals import DETECTORS, MEASURED, ROWS, SCORED, USER_SIDE, SignalParams
from tasks.signals import detect as found_by

# What tells models apart: the one that served, as the provider names it, or else the application's own version of it.
MODEL = "coalesce(nullif(model_served, ''), model_version)"
GLANCED = ["interaction_id", "tenant", "session_id", "ts", "question", "model_served", "model_version", "messages", "prompt_name",
           "response", "contexts", "latency_ms", "ttft_ms", "cost_usd", "input_tokens", "output_tokens"]  # fmt: skip
GLANCE = f"""
    SELECT interaction_id, tenant, session_id, ts, question <> '' AS asked, {MODEL} AS model, unhex(md5(messages)) AS prompt,
           {MEASURED}
    FROM ({SCORED} FROM interactions)"""
TEXTS = pa.schema([(name, pa.string()) for name in ("interaction_id", "question", "contexts", "response")])
WANTED = pa.schema([("borrower", pa.int32()), ("interaction_id", pa.string())])
# One row of a plan: what a row of the table needs to know of the others.
OTHER = pa.struct([("part", pa.int32()), ("interaction_id", pa.string())])
PLAN = pa.schema([
    ("interaction_id", pa.string()), ("model", pa.string()), ("peers", pa.list_(OTHER)), ("next", OTHER),
    ("next_after_s", pa.float64()), ("same_prompt_again", pa.bool_()), ("silent_s", pa.float64()),
    ("thumb", pa.bool_()), ("low_rating", pa.string()), ("comment", pa.string()), ("edit", pa.string()),
    ("escalation", pa.bool_()), ("copied", pa.bool_()), ("is_new", pa.bool_()),
])  # fmt: skip
ANSWERED = ["interaction_id", "prompt_name", "messages", "question", "response", "contexts", "outputs", "tools", "params",
            "finish_reason", "status", "error", "confidence", "latency_ms", "ttft_ms", "cost_usd", "input_tokens",
            "output_tokens"]  # fmt: skip
EXCHANGES = f"""
    SELECT {", ".join(f"i.{c}" for c in ANSWERED)}, p.model, e.peers,
           p.thumb, p.low_rating, p.comment, p.edit, p.escalation, p.copied,
           n.question AS next_question, n.contexts AS next_contexts, p.next_after_s, p.same_prompt_again, p.silent_s, p.is_new
    FROM interactions i JOIN plan p USING (interaction_id) LEFT JOIN peered e USING (interaction_id)
    LEFT JOIN texts n ON n.interaction_id = p.next.interaction_id"""
PEERED = """
    CREATE TABLE peered AS
    SELECT interaction_id, list(response ORDER BY place) AS peers FROM (
        SELECT p.interaction_id, unnest(p.peers).interaction_id AS peer, generate_subscripts(p.peers, 1) AS place FROM plan p
    ) JOIN (SELECT interaction_id AS peer, response FROM texts) USING (peer) GROUP BY interaction_id"""
# Of a plan: the rows whose texts it needs.
OTHERS = "SELECT next AS other FROM plan WHERE next IS NOT NULL UNION ALL SELECT unnest(peers) FROM plan"


@dataclass(frozen=True, slots=True)
class Glancing(OfPartition):
    partition: Partition
    out: Path


@dataclass(frozen=True, slots=True)
class Lending(OfPartition):
    """`wanted`: an addressed file of the rows that others need."""

    partition: Partition
    wanted: str
    out: Path


@dataclass(frozen=True, slots=True)
class Detecting(OfPartition):
    """`plan` and `lent` are addressed files, `usual` is what is usual in the whole table, `reward` the folder of the champion's
    model."""

    partition: Partition
    plan: str
    lent: tuple[str, ...]
    usual: Path
    params: SignalParams
    reward: Path | None
    out: Path


def glance(part: Glancing) -> str:
    with calculator() as engine:
        engine.register("interactions", reader(part.partition, GLANCED, ROWS))
        found = engine.execute(GLANCE).to_arrow_table()
    number = pa.array([part.partition.number]).cast(pa.int32()).take(pa.array([0] * found.num_rows, pa.int32()))
    return _written(part.out, found.append_column(addressed.PART, number))


def lend(part: Lending) -> str:
    """The file of what is lent, '' where nothing is."""
    wanted = addressed.read([part.wanted], part.partition.number, WANTED)
    with calculator() as engine:
        engine.register("wanted", wanted)
        engine.register("interactions", reader(part.partition, TEXTS.names, ROWS))
        found = engine.execute(
            """SELECT w.borrower AS part, i.* FROM interactions i JOIN wanted w USING (interaction_id)
               ORDER BY part, interaction_id"""
        )
        return addressed.write(part.out, [found.to_arrow_table()])[0]


def detect(part: Detecting) -> str:
    """The file of the partition's signals; each row is looked at by the detectors that its plan asks for."""
    plan = addressed.read([part.plan], part.partition.number, PLAN)
    usual = pq.read_table(part.usual)
    rated = _rated(part.reward)
    found = [found_by(pa.table({}), USER_SIDE, part.params, usual)]
    with calculator() as engine:
        engine.register("plan", plan)
        engine.register("texts", _texts(engine, part))
        engine.execute(PEERED)
        for rows in read(part.partition, ANSWERED, ROWS):
            engine.register("interactions", rows)
            exchanges = engine.execute(EXCHANGES).to_arrow_table()
            new, old = exchanges.filter(exchanges["is_new"]), exchanges.filter(pc.invert(exchanges["is_new"]))
            # An answer is looked at once, by the models of its day; what users do goes on for as long as it may be sent.
            for some, detectors in ((rated(new), DETECTORS), (old, USER_SIDE)):
                if some.num_rows:
                    found.append(found_by(some, detectors, part.params, usual))
    return _written(part.out, pa.concat_tables(found))


def _texts(engine: Engine, part: Detecting) -> pa.Table:
    """The texts of other rows that this partition's rows need: its own, and what was lent."""
    lent = addressed.read(part.lent, part.partition.number, TEXTS)
    own = engine.execute(
        f"SELECT DISTINCT other.interaction_id FROM ({OTHERS}) WHERE other.part = {part.partition.number}"
    ).to_arrow_table()
    if not own.num_rows:
        return lent
    engine.register("own", own)
    engine.register("interactions", reader(part.partition, TEXTS.names, ROWS))
    sql = f"SELECT {', '.join(TEXTS.names)} FROM interactions SEMI JOIN own USING (interaction_id)"
    return pa.concat_tables([lent, engine.execute(sql).to_arrow_table().cast(TEXTS)])


def _rated(folder: Path | None) -> Callable[[pa.Table], pa.Table]:
    """Adds the column `reward`: what the champion's reward model thinks of each answer; absent where it has none."""
    if folder is None:
        return lambda exchanges: exchanges
    model = _reward_model(folder)

    def rated(exchanges: pa.Table) -> pa.Table:
        goodness = model.goodness(
            [orjson.loads(m) for m in exchanges["messages"].to_pylist()],
            [orjson.loads(c) for c in exchanges["contexts"].to_pylist()],
            exchanges["response"].to_pylist(),
        )
        return exchanges.append_column("reward", pa.array(goodness, pa.float64()))

    return rated


@functools.lru_cache(maxsize=2)
def _reward_model(folder: Path):
    from tasks.policy.reward import RewardModel

    return RewardModel.load(folder)


def _written(path: Path, table: pa.Table) -> str:
    with whole(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", compression_level=1)
    return str(path)
