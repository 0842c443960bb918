"""Lineage: where a model, a snapshot or a row comes from, down to the log line; and where a log line or a person's word went.

    why("ex_5c0…")          row of sft in snapshot-3f9c2a1b <- ana, ben: wrong, refund-time <- ix_9f1… <- 00000017-5c0f….jsonl.zst:4
    where_used("ix_9f1…")   asked in bt_77…; sft 1, preference 1 in snapshot-3f9c2a1b, on which version 4 (champion) was trained

What people said is read from the lake, what was trained on from the snapshots themselves, also from old ones, whose files come
from DVC's cache or remote. A file that stands in several snapshots is read once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.errors import Refused
from tasks.live import kept
from tasks.live.kept import Gone, Kept, Tagged
from tasks.live.lake import Lake
from tasks.live.repository import NOTES, TAG, git, git_bytes
from tasks.live.segments import SUFFIX, Segments
from tasks.live.workspace import Workspace
from tasks.records import Annotation, Interaction
from tasks.redact import Edge

DATASET, FROZEN, CURATED = "data/dataset/parquet/", "data/frozen/", "data/curated/"
# The columns by which rows name an interaction.
ABOUT = ("interaction_id", "beside")
SAMPLES = 3  # rows of a table that are named of a model or a snapshot
PLACED = """
    SELECT * FROM interactions WHERE interaction_id = $id OR native_id = $id OR response_id = $id OR trace_id = $id
    ORDER BY ts, interaction_id
"""
DRAWN = """
    SELECT batch_id, candidate_id, part, side, propensity FROM candidates
    WHERE interaction_id = $id AND part <> '' ORDER BY batch_id, candidate_id
"""
EVENTS = """
    SELECT feedback_id, name, value, comment, "user", ts, raw_segment, raw_line FROM feedback
    WHERE target IN ($native, $response, $trace) AND target <> '' AND tenant IN ($tenant, '') ORDER BY ts, feedback_id
"""


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a raw segment: `line` of its records (its first line is a head, so `zstdcat` shows it as line + 1), `offset` and
    `length` in bytes of the unpacked file. `source` is the log it came from."""

    segment: str
    file: str
    source: str
    line: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Origin:
    """An interaction with what people said about it and where its line lies."""

    interaction: Interaction
    batches: list[dict[str, Any]]
    annotations: list[Annotation]
    feedback: list[dict[str, Any]]
    place: Place | None


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a dataset. `table` is train/sft, holdout/evaluation, dropped, …; `snapshots` those that hold it, oldest first."""

    id: str
    table: str
    file: str
    snapshots: list[str]
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Version:
    """A model version. `erased` says since when it is known that it was trained on what has been erased, '' not."""

    version: str
    aliases: list[str]
    snapshot: str
    decision: str
    erased: str


@dataclass(frozen=True, slots=True)
class Made:
    """A snapshot: its verdict, the rows of each of its tables, some of their ids, and what was erased from it since."""

    tag: str
    commit: str
    time: int
    decision: str
    reasons: list[str]
    rows: dict[str, int]
    samples: dict[str, list[str]]
    models: list[Version]
    erased: str


@dataclass(frozen=True, slots=True)
class Why:
    """`kind` is model, snapshot, row, interaction or annotation; what does not apply is empty."""

    id: str
    kind: str
    model: Version | None = None
    snapshot: Made | None = None
    row: Row | None = None
    models: list[Version] = field(default_factory=list)
    origins: list[Origin] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Holds:
    """What one snapshot holds of what was asked about: row ids by table, and the models and exports made of it."""

    tag: str
    rows: dict[str, list[str]]
    models: list[Version]
    exports: list[str]


@dataclass(frozen=True, slots=True)
class Used:
    """Where something went. `annotations` counts, `batches` names those in which people were asked about it."""

    id: str
    kind: str
    interactions: list[str]
    batches: list[str]
    annotations: int
    snapshots: list[Holds]
    unreadable: list[str] = field(default_factory=list)


def why(workspace: Workspace, id: str) -> Why:
    """Where `id` comes from. Raises Refused for one that nothing has."""
    if id.startswith(TAG):
        with kept.opened(workspace) as objects:
            return Why(id, "snapshot", snapshot=_made(workspace, objects, kept.tagged(workspace, id)))
    if id in ("champion", "challenger") or id.isdigit():
        return _why_model(workspace, id)
    if id.startswith("ex_"):
        return _why_row(workspace, id)
    lake = Lake(workspace.lake)
    if id.startswith("an_"):
        found = lake.rows(Annotation, "SELECT * FROM annotations WHERE annotation_id = $id", {"id": id})
        if found:
            return Why(id, "annotation", origins=_origins(workspace, lake, [found[0].interaction_id]))
    interactions = lake.rows(Interaction, PLACED, {"id": _about(lake, id)})
    if interactions:
        return Why(id, "interaction", origins=_origins(workspace, lake, [i.interaction_id for i in interactions]))
    return _why_row(workspace, id)


def where_used(workspace: Workspace, id: str, tenant: str = "") -> Used:
    """What came of an interaction, an annotation, an annotator, a user (as logged, or the pseudonym) or a raw segment (a line of
    it: "segment:line"). Raises Refused for one that nothing has."""
    lake = Lake(workspace.lake)
    kind, interactions = _subject(workspace, lake, id, tenant)
    batches = lake.query(
        "SELECT DISTINCT batch_id FROM candidates WHERE part <> '' AND list_contains($ids, interaction_id) ORDER BY ALL",
        {"ids": interactions},
    )["batch_id"].to_pylist()
    annotations = lake.query(
        "SELECT count(*) AS n FROM annotations WHERE list_contains($ids, interaction_id)", {"ids": interactions}
    )["n"][0].as_py()
    with kept.opened(workspace) as objects:
        holds, unreadable = _holds(workspace, objects, interactions)
    return Used(id, kind, interactions, batches, annotations, holds, unreadable)


def versions(workspace: Workspace) -> list[Version]:
    """The model versions, oldest first."""
    from tasks.live import registry  # MLflow takes seconds to import, and an interaction has no model

    return [
        Version(v["version"], v["aliases"], v["snapshot"], v["decision"], v.get("erased", ""))
        for v in registry.versions(workspace)
    ]


def exports(workspace: Workspace) -> list[tuple[str, str]]:
    """What was exported, as it was noted when it was written: the folder, and the snapshot's tag."""
    path = workspace.state / "exports.jsonl"
    rows = [orjson.loads(line) for line in path.read_bytes().splitlines() if line] if path.is_file() else []
    return list(dict.fromkeys((str(row["out"]), str(row["snapshot"])) for row in rows))


def erased_from(workspace: Workspace, commit: str) -> str:
    """What a note on the snapshot's commit says was erased from it, '' nothing."""
    try:
        return git_bytes(workspace.root, "notes", "--ref", NOTES, "show", commit).decode().strip()
    except Refused:
        return ""


def _why_model(workspace: Workspace, id: str) -> Why:
    found = [v for v in versions(workspace) if v.version == id or id in v.aliases]
    if not found:
        raise Refused(f"there is no model version {id}", "flywheel status; mlflow ui shows all versions")
    model = found[-1]
    if not model.snapshot.startswith(TAG):
        return Why(id, "model", model=model)
    with kept.opened(workspace) as objects:
        return Why(id, "model", model=model, snapshot=_made(workspace, objects, kept.tagged(workspace, model.snapshot)))


def _why_row(workspace: Workspace, id: str) -> Why:
    with kept.opened(workspace) as objects:
        row = _row(workspace, objects, id)
    if row is None:
        raise Refused(
            f"{id} is no model, snapshot, row, interaction or annotation of this workspace",
            "give a version, snapshot-…, ex_…, ix_…, an_… or the application's own id of a response or trace",
        )
    lake = Lake(workspace.lake)
    about = [row.values[c] for c in ABOUT if row.values.get(c)]
    models = [v for v in versions(workspace) if v.snapshot in row.snapshots]
    return Why(id, "row", row=row, models=models, origins=_origins(workspace, lake, about))


def _row(workspace: Workspace, objects: Kept, id: str) -> Row | None:
    """The row with this id as the newest snapshot that has it shows it."""
    newest: tuple[str, str, dict[str, Any]] | None = None
    holding: list[str] = []
    hits: dict[str, bool] = {}
    for tag, path, md5 in _shards(workspace, objects, (DATASET,)):
        if md5 not in hits:
            table = _columns(objects, md5, 0)
            hits[md5] = table is not None and pc.is_in(table.column(0), pa.array([id], pa.string())).to_pylist().count(True) > 0
        if hits[md5]:
            holding.append(tag)
            if newest is None:
                rows = pq.read_table(pa.BufferReader(objects.read(md5)))
                row = rows.filter(pc.equal(rows.column(0), id)).to_pylist()[0]
                newest = (path.removeprefix(DATASET).rpartition("/")[0], path, row)
    if newest is None:
        return None
    return Row(id, *newest[:2], list(dict.fromkeys(reversed(holding))), newest[2])


def _shards(workspace: Workspace, objects: Kept, folders: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    """Tag, path and MD5 of every Parquet file of these folders, of the newest snapshot first."""
    for one in reversed(kept.snapshots(workspace)):
        try:
            files = objects.files(one.commit)
        except Gone:
            continue
        for path, md5 in sorted(files.items()):
            if path.startswith(folders) and path.endswith(".parquet"):
                yield one.tag, path, md5


def _columns(objects: Kept, md5: str, *columns: int | str) -> pa.Table | None:
    """Some columns of a Parquet file, by name or place; None where the file is gone or has none of them."""
    try:
        source = objects.path(md5) or pa.BufferReader(objects.read(md5))
    except Gone:
        return None
    with pq.ParquetFile(source) as file:
        names = file.schema_arrow.names
        wanted = [names[c] if isinstance(c, int) else c for c in columns]
        wanted = list(dict.fromkeys(c for c in wanted if c in names))
        return file.read(columns=wanted) if wanted else None


def _made(workspace: Workspace, objects: Kept, one: Tagged) -> Made:
    verdict = orjson.loads(git(workspace.root, "show", f"{one.commit}:data/reports/verdict.json"))
    rows: dict[str, int] = {}
    samples: dict[str, list[str]] = {}
    for path, md5 in sorted(objects.files(one.commit).items()):
        if path.startswith(DATASET) and path.endswith(".parquet"):
            table = path.removeprefix(DATASET).rpartition("/")[0]
            ids = _columns(objects, md5, 0)
            if ids is not None:
                rows[table] = rows.get(table, 0) + ids.num_rows
                samples[table] = (samples.get(table, []) + ids.column(0).slice(0, SAMPLES).to_pylist())[:SAMPLES]
    models = [v for v in versions(workspace) if v.snapshot == one.tag]
    decision, reasons = verdict["decision"], verdict["reasons"]
    return Made(one.tag, one.commit, one.time, decision, reasons, rows, samples, models, erased_from(workspace, one.commit))


def _about(lake: Lake, id: str) -> str:
    """The interaction that a candidate, an ask or a feedback event is about; the id itself where it is none of these."""
    sources = {
        "cd_": "SELECT interaction_id AS id FROM candidates WHERE candidate_id = $id",
        "ak_": "SELECT interaction_id AS id FROM asks WHERE ask_id = $id",
        "fb_": "SELECT target AS id FROM feedback WHERE feedback_id = $id",
    }
    sql = next((s for prefix, s in sources.items() if id.startswith(prefix)), "")
    found = lake.query(sql, {"id": id})["id"].to_pylist() if sql else []
    return found[0] if found else id


def _origins(workspace: Workspace, lake: Lake, ids: Iterable[str]) -> list[Origin]:
    segments = Segments(workspace.raw)
    found = []
    for id in dict.fromkeys(ids):
        for i in lake.rows(Interaction, "SELECT * FROM interactions WHERE interaction_id = $id", {"id": id}):
            said = "SELECT * FROM annotations WHERE interaction_id = $id ORDER BY ts, annotation_id"
            about = {"native": i.native_id, "response": i.response_id, "trace": i.trace_id, "tenant": i.tenant}
            found.append(
                Origin(
                    i, lake.query(DRAWN, {"id": id}).to_pylist(), lake.rows(Annotation, said, {"id": id}),
                    lake.query(EVENTS, about).to_pylist(), _place(segments, i.raw_segment, i.raw_line),
                )
            )  # fmt: skip
    return found


def _place(segments: Segments, name: str, line: int) -> Place | None:
    """Where a line lies; None where it came from no segment that is there."""
    if name not in segments.known or line < 1:
        return None
    offset, length = segments.place(name, line)
    return Place(name, str(segments.folder / f"{name}{SUFFIX}"), segments.head(name).source, line, offset, length)


def _subject(workspace: Workspace, lake: Lake, id: str, tenant: str) -> tuple[str, list[str]]:
    """What kind of thing `id` is, and the interactions that it is about."""
    segment, _, line = id.rpartition(":") if ":" in id else (id, "", "0")
    segment = segment.rpartition("/")[2].removesuffix(SUFFIX)
    asked = {
        "interaction": ("interaction_id = $id OR native_id = $id OR response_id = $id OR trace_id = $id OR session_id = $id", id),
        "user": ('"user" = $id', id),
        "user as logged": ('"user" = $id', Edge(workspace.pseudonym_key()).pseudonym(tenant, id)),
        "raw segment": ("raw_segment = $id AND $line IN (0, raw_line)", segment),
        "annotation": ("interaction_id IN (SELECT interaction_id FROM annotations WHERE annotation_id = $id)", id),
        "annotator": ("interaction_id IN (SELECT interaction_id FROM annotations WHERE annotator = $id)", id),
    }
    for kind, (where, value) in asked.items():
        given = {"id": value} | ({"line": int(line)} if "$line" in where and line.isdigit() else {})
        if "$line" in where and "line" not in given:
            continue
        found = lake.query(f"SELECT interaction_id FROM interactions WHERE {where} ORDER BY ts, interaction_id", given)
        if found.num_rows:
            return kind, found["interaction_id"].to_pylist()
    raise Refused(
        f"nothing in this workspace is or came from {id}",
        "give ix_…, an_…, a user (with --tenant where there are several), an annotator, or a raw segment[:line]",
    )


def _holds(workspace: Workspace, objects: Kept, interactions: list[str]) -> tuple[list[Holds], list[str]]:
    """What each snapshot that holds some of them holds, oldest first; and the files that could not be read."""
    wanted = pa.array(interactions, pa.string())
    by_file: dict[str, list[str]] = {}
    unreadable: dict[str, None] = {}
    rows: dict[str, dict[str, list[str]]] = {}
    for tag, path, md5 in _shards(workspace, objects, (DATASET, FROZEN, CURATED)):
        if md5 not in by_file:
            table = _columns(objects, md5, 0, *ABOUT)
            if table is None:
                unreadable[path] = None
            by_file[md5] = _rows_about(table, wanted) if table is not None else []
        if by_file[md5]:
            name = path.removeprefix("data/").removeprefix("dataset/parquet/").rpartition("/")[0]
            rows.setdefault(tag, {}).setdefault(name, []).extend(by_file[md5])
    made, written = versions(workspace), exports(workspace)
    return [
        Holds(
            tag, dict(sorted(of_tag.items())), [v for v in made if v.snapshot == tag],
            [folder for folder, of in written if of == tag],
        )
        for tag, of_tag in reversed(rows.items())
    ], list(unreadable)  # fmt: skip


def _rows_about(table: pa.Table, wanted: pa.Array) -> list[str]:
    """The ids of the rows that name one of the interactions."""
    named = [pc.is_in(table[c], wanted) for c in ABOUT if c in table.column_names]
    if not named:
        return []
    hit = named[0]
    for more in named[1:]:
        hit = pc.or_(hit, more)
    return table.column(0).filter(hit).to_pylist()


