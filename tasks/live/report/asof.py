"""What was known when a snapshot was made: its answers, guidelines and approved texts as it pins them, of the lake what was there.

    with kept.opened(workspace) as objects:
        then = AsOf(workspace, objects, of)
        then.heard()        ->  Heard(answers=[…], …), as tasks/live/quality.py takes it;   raises Gone where it was erased
        then.report("build"), then.params("annotate", AnnotateParams)
"""

from __future__ import annotations

import io
import tempfile
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import orjson
import pyarrow.parquet as pq
import yaml

from tasks import params
from tasks.agreement import served_action
from tasks.errors import Refused
from tasks.frozen import Given
from tasks.guidelines import Guideline, newest, parse
from tasks.live import labels, quality
from tasks.live.kept import Gone, Kept, Tagged
from tasks.live.repository import git_bytes
from tasks.live.workspace import Workspace
from tasks.policy import advisor
from tasks.records import Annotation, Approved

T = TypeVar("T")
FROZEN, TRAIN = "data/frozen/", "data/dataset/parquet/train/"


@dataclass(frozen=True)
class AsOf:
    """A snapshot and the time (µs) up to which the lake is looked at for it."""

    workspace: Workspace
    objects: Kept
    of: Tagged

    @property
    def until(self) -> int:
        return (self.of.time + 1) * 1_000_000  # git keeps whole seconds

    @cached_property
    def files(self) -> dict[str, str]:
        return self.objects.files(self.of.commit)

    @cached_property
    def _settings(self) -> dict[str, Any]:
        return yaml.safe_load(self.file("params.yaml") or b"") or {}

    def file(self, path: str) -> bytes | None:
        """A file as it was committed; None where the commit has none."""
        if not git_bytes(self.workspace.root, "ls-tree", "--name-only", self.of.commit, "--", path):
            return None
        return git_bytes(self.workspace.root, "show", f"{self.of.commit}:{path}")

    def report(self, name: str) -> Any:
        data = self.file(f"data/reports/{name}.json")
        return {} if data is None else orjson.loads(data)

    def params(self, section: str, cls: type[T]) -> T:
        """A section as it stood then; today's where an older version had another one."""
        try:
            return params.parse(dict(self._settings.get(section) or {}), section, cls)
        except Refused:
            return self.workspace.params(section, cls)

    def heard(self) -> quality.Heard:
        """What people had said. Raises Gone where its objects are nowhere any more."""
        answers = self._answers()
        by_text = {a.text.strip(): a for a in self._approved()}
        exchanges = self._rows("exchanges", ["interaction_id", "response"])
        served = {r["interaction_id"]: served_action(r["response"], by_text) for r in exchanges}
        return quality.Heard(
            [a for a in answers if a.interaction_id in served],
            quality.gold(self.workspace, self.until),
            served,
            # Of a kind that nobody had answered yet nothing was frozen.
            newest(labels.guidelines(self.workspace).values()) | newest(self._guidelines()),
            quality.asked(self.workspace, self.until),
        )

    def missing(self) -> list[tuple[str, str]]:
        """Ways of training that its dataset does not support, and what it lacks. Raises Gone."""
        asks = self.params("advise", advisor.AdviseParams)
        with tempfile.TemporaryDirectory() as folder:
            for path, md5 in self.files.items():
                if path.startswith(TRAIN):
                    file = Path(folder, "parquet", "train", path.removeprefix(TRAIN))
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(self.objects.read(md5))
            if not any(Path(folder).iterdir()):
                return []
            for table in advisor.TEXTS:
                Path(folder, "parquet", "train", table).mkdir(parents=True, exist_ok=True)
            held = advisor.read(Path(folder), asks)
        return [(a.name, "; ".join(a.missing)) for a in advisor.advise(held, asks) if not a.ready]

    def _answers(self) -> list[Annotation]:
        names = [f.name for f in fields(Annotation)]
        given = [Given(**row) for row in self._rows("annotations", [f.name for f in fields(Given)])]
        return sorted((Annotation(**{n: getattr(a, n) for n in names}) for a in given), key=lambda a: a.annotation_id)

    def _approved(self) -> list[Approved]:
        return [Approved(**orjson.loads(x)) for x in self._frozen("catalogue.jsonl").splitlines()]

    def _guidelines(self) -> list[Guideline]:
        names = [p for p in self.files if p.startswith(f"{FROZEN}guidelines/")]
        return [parse(Path(p).stem, self.objects.read(self.files[p]).decode()) for p in sorted(names)]

    def _frozen(self, name: str) -> bytes:
        if FROZEN + name not in self.files:
            raise Gone(f"{self.of.tag} pins no {FROZEN}{name}", "name another snapshot")
        return self.objects.read(self.files[FROZEN + name])

    def _rows(self, table: str, columns: list[str]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for path, md5 in sorted(self.files.items()):
            if path.startswith(f"{FROZEN}{table}/"):
                found += pq.read_table(io.BytesIO(self.objects.read(md5)), columns=columns).to_pylist()
        return found
