"""A workspace with git, DVC and a remote whose two stages take a second: what the data of a snapshot does, without a model.

    place = workspace(tmp_path / "w"); publish(place, rows=90); publish(place, rows=100)      -> two snapshots
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tasks.live import snapshot, store
from tasks.live.repository import COMMITTER, git
from tasks.live.workspace import Workspace
from tests.imports import ROOT

# The stage's own code lies in the workspace and is a dependency, as that of the real stages is.
STAGE = '''
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tasks.card import card, reports
from tasks.card.facts import AboutParams, people_of, survey
from tasks.records import canonical
from tests.tables import ABOUT, example, label, write_dataset, write_labels
said = json.loads(Path("data/frozen/said.json").read_text(encoding="utf-8"))
def row(table, n):
    return example(table, n, **(said["changes"].get(str(n), {}) if table in ("sft", "safety") else {}))
write_labels(Path("data/curated"), [label(n, target=said["targets"].get(str(n), "refund")) for n in range(said["rows"])])
write_dataset(Path("data/dataset"), said["rows"], row)
made = survey(Path("data/dataset"), people_of(Path("data/curated"), {"answer": 0.71}))
for name, data in card(made, AboutParams(**ABOUT)).items():
    Path("data/dataset", name).write_bytes(data)
Path("data/reports").mkdir(exist_ok=True)
for name, data in reports(made).items():
    Path("data/reports", name).write_bytes(data)
rows = {"train": {"sft": said["rows"], "preference": 0}, "holdout": {"evaluation": 0}}
Path("data/reports/build.json").write_bytes(canonical({"rows": rows}))
Path("data/reports/curves.csv").write_bytes(b"step,metric,value\\n1,sft.loss,2.5\\n2,sft.loss,1.5\\n")
Path("data/reports/verdict.json").write_bytes(canonical({"decision": "promote", "reasons": ["it is better"]}))
'''
PLOTS = yaml.safe_dump({"plots": yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["plots"]})
PIPELINE = f"""
stages:
  build:
    cmd: python stage.py {ROOT}
    params: [build]
    deps: [data/frozen/said.json, stage.py]
    outs: [data/curated, data/dataset, data/reports/curves.csv: {{cache: false}}]
    metrics:
      - data/reports/build.json: {{cache: false}}
      - data/reports/verdict.json: {{cache: false}}
      - data/reports/dataset.json: {{cache: false}}
{PLOTS}"""


def workspace(root: Path, remote: str | None = None, settings: Sequence[str] = ()) -> Workspace:
    """A git repository with a pipeline and a remote (a folder inside, by default), before its first snapshot."""
    place = Workspace(root)
    for folder in (place.state, place.frozen, place.reports):
        folder.mkdir(parents=True)
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main", str(root)], check=True)
    for name in (".dvc/config", ".dvc/.gitignore", ".gitignore", ".dvcignore", "data/.gitignore"):
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    (root / "stage.py").write_text(STAGE, encoding="utf-8")
    (root / "dvc.yaml").write_text(PIPELINE, encoding="utf-8")
    (root / "params.yaml").write_text("build:\n  max_rows_per_group: 4\n", encoding="utf-8")
    store.configure(place, remote or str(place.state / "remote"), settings)
    git(root, "add", "--all")
    git(root, *COMMITTER, "commit", "--quiet", "-m", "a workspace")
    return place


def build(place: Workspace, rows: int, changes: dict[int, Any] | None = None, targets: dict[int, str] | None = None) -> None:
    """Bring the data to `rows` rows a table; `changes` of sft and safety rows, other `targets` of labels, by their number."""
    said = {"rows": rows, "changes": changes or {}, "targets": targets or {}}
    (place.frozen / "said.json").write_text(json.dumps(said), encoding="utf-8")
    snapshot.track_frozen(place)
    snapshot.run_stage(place, "build")


def publish(place: Workspace, rows: int, **changes: Any) -> snapshot.Snapshot:
    build(place, rows, **changes)
    return snapshot.publish(place)
