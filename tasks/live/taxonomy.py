"""The taxonomy of failures in the lake: one turn a batch, from what was wrong or suspected in the batch's window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson
import pyarrow as pa

from tasks.fates import FIXED, TaxonomyParams, alarms
from tasks.live.lake import Lake
from tasks.live.workspace import Workspace
from tasks.records import Cluster

# The batches in the order in which their windows happened, with the size of the window, and whether it has its clusters.
TURNS = """
    SELECT c.batch_id, count(*) AS n, max(i.ts) AS until, c.batch_id IN (SELECT batch_id FROM clusters) AS done
    FROM candidates c JOIN interactions i USING (interaction_id) WHERE c."window" > 0
    GROUP BY c.batch_id ORDER BY until, c.batch_id
"""
# Of a window alone: what was passed over before and has drawn a complaint since is not in the denominator either.
SUSPECTED = """
    SELECT c.interaction_id, coalesce(nullif(i.question, ''), i.response) AS text
    FROM candidates c JOIN interactions i USING (interaction_id)
    WHERE c.batch_id = $batch AND c."window" > 0
      AND c.interaction_id IN (
          SELECT interaction_id FROM signals WHERE score >= $suspicion AND NOT list_contains($good, detector))
    ORDER BY c.interaction_id
"""
# All traffic, a sample that depends on the ids alone.
ORDINARY = """
    SELECT question FROM members JOIN interactions USING (interaction_id)
    QUALIFY row_number() OVER (PARTITION BY question_key ORDER BY interaction_id) = 1 ORDER BY question_key LIMIT 3000
"""
LATEST = "SELECT * FROM clusters QUALIFY row_number() OVER (PARTITION BY cluster_id ORDER BY turn DESC) = 1 ORDER BY cluster_id"
# One query, without a table handed in: to take one, DuckDB imports pandas, and `status` would wait for it.
SHOWN = f"""
    SELECT c.*, coalesce(nullif(i.question, ''), i.response, '') AS text
    FROM ({LATEST}) c LEFT JOIN interactions i ON i.interaction_id = c.example
    WHERE c.state <> '{FIXED}' OR c.turn = (SELECT max(turn) FROM clusters)
    ORDER BY c.share DESC, c.cluster_id LIMIT {{most}}
"""
ALL = 1_000_000


@dataclass(frozen=True, slots=True)
class Shown:
    """A cluster as people read it: its latest row, and the text of its example."""

    row: Cluster
    text: str


def classify(workspace: Workspace, lake: Lake) -> int:
    """Append the clusters of every batch that has none yet, oldest first; returns how many rows. Nothing new: nothing.

    For who holds the lake's lock. A batch is a turn: its window is settled when it is chosen, so a turn is judged once.
    """
    turns = list(enumerate(lake.query(TURNS).to_pylist(), 1))
    # One that happened before a judged one comes too late to be a turn: states are told in the order of time.
    after = max((number for number, batch in turns if batch["done"]), default=0)
    written = 0
    for number, batch in turns[after:]:
        written += _classify(workspace, lake, number, batch["batch_id"], batch["n"])
    return written


def _classify(workspace: Workspace, lake: Lake, number: int, batch_id: str, window: int) -> int:
    from tasks.signals import GOOD
    from tasks.taxonomy import Failure, taxonomy

    params = workspace.params("taxonomy", TaxonomyParams)
    asked = {"batch": batch_id, "suspicion": params.suspicion, "good": list(GOOD)}
    failures = [Failure(r["interaction_id"], r["text"]) for r in lake.query(SUSPECTED, asked).to_pylist()]
    known = lake.rows(Cluster, LATEST)
    exemplars = _texts(lake, [i for c in known for i in orjson.loads(c.exemplars)])
    ordinary = lake.query(ORDINARY)["question"].to_pylist()
    turn = max([number, *(c.turn + 1 for c in known)])
    rows = taxonomy(failures, window, turn, batch_id, known, exemplars, ordinary, params).rows
    return lake.append("clusters", rows)[0]


def shown(lake: Lake, most: int = ALL) -> list[Shown]:
    """Every cluster that is not fixed, and those fixed in the newest turn: the commonest first, `most` of them."""
    rows = lake.query(SHOWN.format(most=most)).to_pylist()
    return [Shown(text=row.pop("text"), row=Cluster(**row)) for row in rows]


def alarmed(lake: Lake) -> list[str]:
    """Failures that were fixed and came back in the newest turn."""
    return alarms(lake.rows(Cluster, "SELECT * FROM clusters WHERE turn = (SELECT max(turn) FROM clusters)"))


def newest(workspace: Workspace) -> tuple[list[Shown], list[str]]:
    """What an operator looks at after a batch: the clusters, and the alarms."""
    lake = Lake(workspace.lake)
    return shown(lake), alarmed(lake)


def turns(workspace: Workspace, cluster_ids: Sequence[str]) -> list[Cluster]:
    """These clusters, as they were in every turn."""
    query = "SELECT * FROM clusters WHERE list_contains($wanted, cluster_id) ORDER BY turn"
    return Lake(workspace.lake).rows(Cluster, query, {"wanted": list(cluster_ids)})


def _texts(lake: Lake, ids: Sequence[str]) -> dict[str, str]:
    wanted = pa.table({"interaction_id": pa.array(list(ids), pa.string())})
    found = lake.query(
        """SELECT interaction_id, coalesce(nullif(question, ''), response) AS text
           FROM interactions SEMI JOIN wanted USING (interaction_id)""",
        wanted=wanted,
    )
    return dict(zip(found["interaction_id"].to_pylist(), found["text"].to_pylist(), strict=True))
