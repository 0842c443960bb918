"""Freeze: what the next snapshot rests on, from the lake into data/frozen. The only bridge into the file shell (door 1).

In shards, in order of arrival, canonical JSON, no time of freezing: an equal lake gives equal bytes, and DVC then skips every
stage; a lake that grew changes the last files.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from tasks import shards
from tasks.agreement import ANSWER, AgreementParams
from tasks.frozen import Exchange, Given, Thumb
from tasks.guidelines import file_name
from tasks.live import looks, registry, snapshot
from tasks.live.erasure.again import refuse_erased
from tasks.live.feedback import RESOLVED, query
from tasks.live.labels import catalogue, latest_annotations
from tasks.live.lake import Lake
from tasks.live.workspace import Workspace, write_durably
from tasks.metrics import FeedbackParams, metrics
from tasks.policy import folder_digest
from tasks.records import Annotation, canonical, write_jsonl

BATCH_ROWS = 8192
# An exchange arrived with the batch in which people were first asked about it, whose time is that of the newest exchange that it
# was chosen from: no clock of ours. One that nobody was asked about arrived when it happened.
EXCHANGES = """
    WITH batches AS (SELECT c.batch_id, max(i.ts) AS since FROM candidates c JOIN interactions i USING (interaction_id)
                     GROUP BY c.batch_id)
    SELECT i.interaction_id, coalesce(a.since, i.ts) AS arrived, m.group_id, m.side,
           coalesce(c.batch_id, '') AS batch_id, coalesce(c.part, '') AS part, coalesce(c.propensity, 0.0) AS propensity,
           i.session_id, i."user", i.tenant, i.ts, i.language, i.model_version, i.prompt_name, i.messages, i.question,
           i.response, i.outputs, i.contexts, i.tools
    FROM interactions i JOIN members m USING (interaction_id) SEMI JOIN wanted w ON w.interaction_id = i.interaction_id
         LEFT JOIN (SELECT interaction_id, min(since) AS since FROM candidates JOIN batches USING (batch_id)
                    WHERE part <> '' GROUP BY interaction_id) a USING (interaction_id)
         LEFT JOIN (SELECT * FROM candidates WHERE part <> ''
                    QUALIFY row_number() OVER (PARTITION BY interaction_id ORDER BY candidate_id) = 1) c USING (interaction_id)
    ORDER BY arrived, i.interaction_id
"""
# What users say of answers on the training side; what machines score is evidence for mining, and teaches nothing.
THUMBS = f"""
    WITH {RESOLVED}
    SELECT r.feedback_id, r.interaction_id, i.ts AS arrived, r."user", r.tenant, r.name, r.polarity::BIGINT AS polarity, r.comment,
           r.ts, coalesce(u.since, r.ts) AS user_since
    FROM resolved r JOIN members m USING (interaction_id) JOIN interactions i USING (interaction_id)
         LEFT JOIN (SELECT "user", min(ts) AS since
                    FROM (SELECT "user", ts FROM interactions UNION ALL SELECT "user", ts FROM feedback) GROUP BY "user") u
              ON u."user" = r."user"
    WHERE r.polarity IN (1, -1) AND r.source_kind IN ('human_end_user', 'unknown') AND m.side = 'train'
    ORDER BY md5(r.feedback_id)
"""
# What was ranked, as people saw it.
RANKED = """
    SELECT interaction_id, min(answers) AS answers FROM asks SEMI JOIN annotations USING (interaction_id)
    WHERE answers <> '[]' GROUP BY interaction_id ORDER BY interaction_id
"""
# Every cluster of failures that was fixed once, and the interactions by which it was known.
FIXED = """
    SELECT cluster_id, arg_min(name, turn) FILTER (WHERE state = 'fixed') AS cluster, list_sort(list_distinct(flatten(list(
               from_json(exemplars, '["VARCHAR"]'))))) AS interactions
    FROM clusters GROUP BY cluster_id HAVING bool_or(state = 'fixed') ORDER BY cluster_id
"""
# Every cluster as it stands, with the texts by which it is known; what was erased of them is gone.
CLUSTERS = """
    WITH latest AS (SELECT * FROM clusters QUALIFY row_number() OVER (PARTITION BY cluster_id ORDER BY turn DESC) = 1),
         named AS (SELECT cluster_id, unnest(from_json(exemplars, '["VARCHAR"]')) AS interaction_id FROM latest)
    SELECT l.cluster_id, l.name, l.state,
           coalesce(list({'interaction_id': i.interaction_id, 'text': coalesce(nullif(i.question, ''), i.response)}
                         ORDER BY i.interaction_id) FILTER (WHERE i.interaction_id IS NOT NULL), []) AS exemplars
    FROM latest l LEFT JOIN named USING (cluster_id) LEFT JOIN interactions i USING (interaction_id)
    GROUP BY ALL ORDER BY l.cluster_id
"""
QUESTIONS = """
    SELECT min_by(question, (ts, interaction_id)) AS question
    FROM members JOIN interactions USING (interaction_id) WHERE side = 'train'
    GROUP BY question_key ORDER BY question_key LIMIT $most
"""


@dataclass(frozen=True, slots=True)
class RetrainParams:
    min_new_labels: int
    max_questions: int
    max_thumbs: int


@dataclass(frozen=True, slots=True)
class Frozen:
    """What was frozen. `judged` names what will be judged (tasks/live/looks.py); `changed` is False where data/frozen already
    held exactly these bytes."""

    interactions: int
    annotations: int
    thumbs: int
    answered: int
    questions: int
    champion: str
    baseline: str
    data_digest: str
    judged: str
    changed: bool


def freeze(workspace: Workspace) -> Frozen:
    """Write data/frozen and its report. The champion is pinned as an input, so that evaluating against it is pure; so is the
    profile of the newest snapshot of other data, so that drift from it is; and what the gate said before, which makes it
    stricter."""
    refuse_erased(workspace)
    params = workspace.params("retrain", RetrainParams)
    lake = Lake(workspace.lake)
    annotations = latest_annotations(workspace)
    known = metrics(workspace.params("feedback", FeedbackParams))
    thumbs = query(lake, f"{THUMBS} LIMIT {params.max_thumbs}", known)
    questions = lake.query(QUESTIONS, {"most": params.max_questions}).to_pylist()
    champion = registry.champion(workspace)

    staging = workspace.data / ".frozen.tmp"
    shutil.rmtree(staging, ignore_errors=True)
    answered = {a.interaction_id for a in annotations}
    wanted = pa.table({"interaction_id": sorted(answered | set(thumbs["interaction_id"].to_pylist()))})
    arrived: dict[str, int] = {}
    exchanges = _noted(lake.stream(EXCHANGES, BATCH_ROWS, wanted=wanted), arrived)
    interactions = shards.write(staging / "exchanges", Exchange, exchanges)
    shards.write_rows(staging / "annotations", Given, [_given(a, arrived[a.interaction_id]) for a in annotations])
    shards.write_rows(staging / "thumbs", Thumb, [Thumb(**r) for r in thumbs.to_pylist()])
    write_jsonl(staging / "questions.jsonl", questions)
    write_jsonl(staging / "catalogue.jsonl", catalogue(workspace))
    ranked = lake.query(RANKED).to_pylist()
    rows = [{"interaction_id": r["interaction_id"], "answers": orjson.loads(r["answers"])} for r in ranked]
    write_jsonl(staging / "answers.jsonl", rows)
    write_jsonl(staging / "regression.jsonl", lake.query(FIXED).to_pylist())
    write_jsonl(staging / "clusters.jsonl", lake.query(CLUSTERS).to_pylist())
    anchors = workspace.data / "anchors.jsonl"
    (staging / "anchors.jsonl").write_bytes(anchors.read_bytes() if anchors.is_file() else b"")
    (staging / "guidelines").mkdir()
    for version in sorted({a.guideline for a in annotations}):
        name = file_name(version)
        shutil.copyfile(workspace.data / "guidelines" / name, staging / "guidelines" / name)
    data_digest = folder_digest(staging)
    baseline, profile = _baseline(workspace, data_digest)
    (staging / "baseline.json").write_bytes(canonical(profile) + b"\n")
    judged = looks.identity(workspace, data_digest, champion.digest)
    write_jsonl(staging / "looks.jsonl", looks.earlier(workspace, judged))
    shutil.copytree(champion.folder, staging / "champion")

    changed = not workspace.frozen.is_dir() or folder_digest(staging) != folder_digest(workspace.frozen)
    if changed:
        shutil.rmtree(workspace.frozen, ignore_errors=True)
        staging.rename(workspace.frozen)
    else:
        shutil.rmtree(staging)
    report = {
        "interactions": interactions,
        "annotations": len(annotations),
        "thumbs": thumbs.num_rows,
        "answered": _answered(annotations, workspace.params("curate", AgreementParams).min_votes),
        "questions": len(questions),
        "champion": champion.version,
        "baseline": baseline,
        "data_digest": data_digest,
        "judged": judged,
    }
    _write_if_changed(workspace.reports / "freeze.json", canonical(report) + b"\n")
    return Frozen(**report, changed=changed)


def new_labels(workspace: Workspace, least: int | None = None) -> int:
    """Interactions with enough answers that the last snapshot did not hold; 0 while they are fewer than `least` (it takes
    retrain.min_new_labels).

    Counted against what was committed, so that a turn which died half-way is taken up again and ends in the same snapshot.
    """
    least = workspace.params("retrain", RetrainParams).min_new_labels if least is None else least
    votes = workspace.params("curate", AgreementParams).min_votes
    answered = _answered(latest_annotations(workspace), votes)
    before = snapshot.last(workspace)
    held = snapshot.report_at(workspace, before.commit, "freeze")["answered"] if before else 0
    return answered - held if answered - held >= least else 0


def _noted(batches: Iterator[pa.Table], arrived: dict[str, int]) -> Iterator[pa.Table]:
    """The batches as they come; when each interaction arrived is noted by the way."""
    for batch in batches:
        arrived |= zip(batch["interaction_id"].to_pylist(), batch["arrived"].to_pylist(), strict=True)
        yield batch


def _given(annotation: Annotation, arrived: int) -> Given:
    # When an answer reached the loop is no property of the data.
    values: dict[str, Any] = {f.name: getattr(annotation, f.name) for f in fields(Annotation)}
    return Given(**values | {"received": 0}, arrived=arrived)


def _baseline(workspace: Workspace, data_digest: str) -> tuple[str, dict[str, Any]]:
    """The newest snapshot that holds other data, and its profile; ('', {}) where there is none.

    Not simply the newest: freezing the same data again must give the same bytes.
    """
    for before in snapshot.history(workspace):
        if snapshot.report_at(workspace, before.commit, "freeze")["data_digest"] != data_digest:
            return before.tag, snapshot.report_at(workspace, before.commit, "profile")
    return "", {}


def _answered(annotations: list[Annotation], votes: int) -> int:
    """How many interactions have at least `votes` people's answers."""
    people = Counter(a.interaction_id for a in annotations if a.kind == ANSWER)
    return sum(1 for n in people.values() if n >= votes)


def _write_if_changed(path: Path, data: bytes) -> None:
    if not path.is_file() or path.read_bytes() != data:
        write_durably(path, data)
