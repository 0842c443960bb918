"""What changed from one snapshot to another, or to the work tree: through git, DVC's cache and the remote.

    between(workspace, "snapshot-22d82ccb", "snapshot-81ef4657") -> Changes(tables=[TableChange("sft", "train", added=12, …)], …)

Only shards whose digests differ are read, and only those are fetched. Who gave the label of a row stands in the shard of
data/curated that covers the time when the row `arrived`, so of that table too a small change reads few shards.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from tasks import changes
from tasks.changes import Changes
from tasks.errors import Refused
from tasks.examples import TABLES
from tasks.frozen import Curated, CuratedJudgement
from tasks.live import store
from tasks.live.repository import TAG, git
from tasks.live.workspace import Workspace
from tasks.records import arrow_schema

DATASET, CURATED = "data/dataset", "data/curated"
WORK_TREE = "the work tree"


def between(workspace: Workspace, before: str, after: str = "") -> Changes:
    """Compare two versions, each a tag, the digest in its name, or any commit; `after` the work tree by default.

    Raises Refused where one is not known or its data cannot be had.
    """
    old, new = _version(workspace, before), _version(workspace, after)
    for version in (old, new):
        if not any(name.startswith("parquet/") for name in version.files(DATASET)):
            raise Refused(
                f"{version.name} holds no dataset in shards: it is older than they are, or was not built",
                "dvc diff compares the files of any two commits",
            )
    return Changes(
        before=old.name,
        after=new.name,
        tables=[_table(old, new, table, side) for table in TABLES for side in TABLES[table].sides],
        flips=_flips(old, new),
        params=changes.settings(old.params(), new.params()),
        read=(
            len({d for v in (old, new) for d in v.looked}),
            len({d for v in (old, new) for folder in (DATASET, CURATED) for d in v.files(folder).values()}),
        ),
    )


def since(workspace: Workspace, tag: str) -> Changes:
    """What the work tree changes of the newest snapshot. Says `unknown` where that one's data is not to be had: a snapshot must
    not fail because an older one was erased, or because the remote is down."""
    try:
        return between(workspace, tag)
    except Refused as e:
        return Changes(before=tag, after=WORK_TREE, unknown=e.why)


def sizes(workspace: Workspace) -> dict[str, int]:
    """Rows by side/table of the dataset in the work tree, {} where it has no manifest."""
    return _Version(workspace, WORK_TREE, "").sizes()


@dataclass(frozen=True, slots=True)
class _Version:
    """One of the two; `commit` is '' for the work tree. `looked` are the digests of what was read."""

    workspace: Workspace
    name: str
    commit: str
    listed: dict[str, dict[str, str]] = field(default_factory=dict)
    looked: set[str] = field(default_factory=set)

    def files(self, folder: str) -> dict[str, str]:
        """Its files in a folder, by path, with their digests."""
        if folder not in self.listed:
            self.listed[folder] = store.files(self.workspace, self.commit, folder) if self.commit else self._hashed(folder)
        return self.listed[folder]

    def places(self, folder: str, names: Iterable[str]) -> list[Path]:
        """Where those files lie on this machine, fetched where they did not."""
        names = list(names)
        digests = [self.files(folder)[name] for name in names]
        self.looked.update(digests)
        if not self.commit:
            return [self.workspace.root / folder / name for name in names]
        store.fetch(self.workspace, digests)
        return [store.cached(self.workspace, digest) for digest in digests]

    def rows(self, folder: str, names: Iterable[str], row: type, columns: Iterable[str] = ()) -> pa.Table:
        """The rows of some shards; a column that they do not have yet is null."""
        schema = arrow_schema(row)
        wanted = pa.schema([f.with_nullable(True) for f in schema if not columns or f.name in columns])
        shards = [pq.read_table(place) for place in self.places(folder, names)]
        return pa.concat_tables([wanted.empty_table(), *(_shaped(s, wanted) for s in shards)])

    def sizes(self) -> dict[str, int]:
        """Rows by side/table, from its manifest; {} where it has none."""
        if "manifest.json" not in self.files(DATASET):
            return {}
        place = self.places(DATASET, ["manifest.json"])[0]
        return {name: part["rows"] for name, part in orjson.loads(place.read_bytes())["tables"].items()}

    def params(self) -> dict:
        if self.commit:
            return yaml.safe_load(git(self.workspace.root, "show", f"{self.commit}:params.yaml"))
        return yaml.safe_load((self.workspace.root / "params.yaml").read_text(encoding="utf-8"))

    def annotators(self, rows: pa.Table) -> list[list[str]]:
        """Who gave the labels and judgements that each row rests on."""
        given: dict[str, set[str]] = {}
        for table, row in (("labels", Curated), ("judgements", CuratedJudgement)):
            names = sorted(n for n in self.files(CURATED) if n.startswith(f"{table}/"))
            covering = _covering(names, rows["arrived"].to_numpy())
            found = self.rows(CURATED, covering, row, ("interaction_id", "annotators"))
            for interaction, people in zip(found["interaction_id"].to_pylist(), found["annotators"].to_pylist(), strict=True):
                given.setdefault(interaction, set()).update(orjson.loads(people))
        return [sorted(given.get(i, ())) for i in rows["interaction_id"].to_pylist()]

    def _hashed(self, folder: str) -> dict[str, str]:
        """DVC's digests of what lies in the work tree, computed anew: it may have been changed since DVC saw it."""
        root = self.workspace.root / folder
        if not root.is_dir():
            raise Refused(f"{root} does not exist", "dvc pull (a snapshot's data), or dvc repro")
        return {
            p.relative_to(root).as_posix(): hashlib.md5(p.read_bytes(), usedforsecurity=False).hexdigest()
            for p in sorted(root.rglob("*"))
            if p.is_file()
        }


def _version(workspace: Workspace, name: str) -> _Version:
    if not name:
        return _Version(workspace, WORK_TREE, "")
    for tried in (name, TAG + name):
        try:
            commit = git(workspace.root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{tried}^{{commit}}")
        except Refused:
            continue
        return _Version(workspace, tried, commit)
    raise Refused(
        f"{name!r} is no snapshot of this workspace",
        "git tag --list 'snapshot-*' names them; in a shallow clone: git fetch --unshallow --tags",
    )


def _table(old: _Version, new: _Version, table: str, side: str) -> changes.TableChange:
    was, names = _differing(old, new, DATASET, f"parquet/{side}/{table}/")
    row = TABLES[table].row
    sizes = [v.sizes().get(f"{side}/{table}") for v in (old, new)]
    return changes.compare(
        table,
        side,
        old.rows(DATASET, was, row),
        new.rows(DATASET, names, row),
        (sizes[0], sizes[1]),
        lambda which, rows: (old if which == "old" else new).annotators(rows),
    )


def _flips(old: _Version, new: _Version) -> list[changes.Flips]:
    was, names = _differing(old, new, CURATED, "labels/")
    says = ("verdict", "target")
    columns = ("interaction_id", *says)
    found = [changes.flips("answer", old.rows(CURATED, was, Curated, columns), new.rows(CURATED, names, Curated, columns), says)]
    was, names = _differing(old, new, CURATED, "judgements/")
    columns = ("judgement_id", "kind", "value")
    before, after = (v.rows(CURATED, n, CuratedJudgement, columns) for v, n in ((old, was), (new, names)))
    for kind in sorted(set(after["kind"].to_pylist())):
        of_kind = [t.filter(pc.equal(t["kind"], kind)) for t in (before, after)]
        found.append(changes.flips(kind, *of_kind, ("value",)))
    return found


def _differing(old: _Version, new: _Version, folder: str, prefix: str) -> tuple[list[str], list[str]]:
    """The shards of a table that only one of the two has, of each."""
    mine, theirs = ({n: d for n, d in v.files(folder).items() if n.startswith(prefix)} for v in (old, new))
    same = set(mine.values()) & set(theirs.values())
    return [n for n, d in sorted(mine.items()) if d not in same], [n for n, d in sorted(theirs.items()) if d not in same]


def _covering(names: list[str], arrived: np.ndarray) -> list[str]:
    """The shards, named after the time of their first row, that may hold rows of those times."""
    if not names or not len(arrived):
        return []
    starts = np.array([int(Path(n).name.split("-")[0]) for n in names])
    times = np.unique(arrived)
    first = np.maximum(np.searchsorted(starts, times, side="left") - 1, 0)  # one before may end with rows of the same time
    last = np.searchsorted(starts, times, side="right") - 1
    wanted = {k for a, b in zip(first.tolist(), last.tolist(), strict=True) for k in range(a, b + 1)}
    return [names[k] for k in sorted(wanted)]


def _shaped(shard: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = [shard[f.name] if f.name in shard.column_names else pa.nulls(shard.num_rows, f.type) for f in schema]
    return pa.table(dict(zip(schema.names, columns, strict=True))).cast(schema)
