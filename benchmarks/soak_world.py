"""The soak's world: one week of the demo's company lived undisturbed, with the workspace kept as it stood before each step.

    states(Path("out"), 1)   ->   out/states/logged, collected, answered, labelled, judged, promoted

Everything is real; the week is short (some hundred conversations), so that a step takes seconds.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import orjson

from tasks.live.workspace import Workspace, quiet_environment

SESSIONS = 230
SMALLER = {"budget: 300": "budget: 170", "audit_holdout: 90": "audit_holdout: 110", "audit_open: 60": "audit_open: 20",
           "small_files: 16": "small_files: 2"}  # fmt: skip
# So short a week proves little, and promotions are to be soaked: this gate takes what is likely for what is proved.
SMALLER |= {
    "  alpha: 0.05                 # of all promotions": "  alpha: 0.9                  # of all promotions",
    "doubt_alpha: 0.1 ": "doubt_alpha: 0.001 ",
}
ROOT = Path(__file__).resolve().parents[1]
REVIEWER = "robin"


def states(out: Path, seed: int) -> Path:
    """Make them, unless they are there; returns their folder. Needs PREFECT_API_URL."""
    folder = out / "states"
    if (folder / "done").is_file():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    quiet_environment()
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "ERROR")
    from demo import play
    from demo.company import Company
    from demo.workspace import new_workspace
    from flows.annotate import annotate
    from flows.collect import collect
    from flows.promote import promote
    from flows.retrain import retrain
    from flows.server import prefect_for
    from tasks.live import registry
    from tasks.live.repository import COMMITTER, git
    from tasks.policy import load

    place = new_workspace(out / "workspace", ROOT, seed)
    settings = place.root / "params.yaml"
    text = settings.read_text(encoding="utf-8")
    for old, new in SMALLER.items():
        text = text.replace(old, new)
    settings.write_text(text, encoding="utf-8")
    git(place.root, *COMMITTER, "commit", "--quiet", "-m", "a short week", "--", "params.yaml")
    with prefect_for(place, heartbeats=False):
        company = Company(place.root, place.state / "demo", seed)
        champion = registry.champion(place)
        company.serve(0, SESSIONS, load(champion.folder), champion.version)
        _keep(place, folder / "logged")
        collect(place.root)
        _keep(place, folder / "collected")
        _, _, batch = annotate(place.root)
        company.annotate(batch.folder, play.response_ids(place, batch.batch_id))
        _keep(place, folder / "answered")
        play.annotate(place, company, batch)
        annotate(place.root)
        _keep(place, folder / "labelled")
        made = retrain(place.root)
        if made.decision != "promote":
            raise SystemExit(f"the soak needs a week whose verdict promotes; seed {seed} gives: {made}")
        promote(place.root)  # asks a person
        _keep(place, folder / "judged")
        shutil.rmtree(folder / "labelled" / ".dvc" / "cache", ignore_errors=True)
        shutil.copytree(place.root / ".dvc" / "cache", folder / "labelled" / ".dvc" / "cache")
        asked = registry.open_question(place)
        registry.promote(place, registry.Approval(REVIEWER, "read 20 of its answers", asked))
        _keep(place, folder / "promoted")
    (folder / "done").touch()
    return folder


def restore(state: Path, root: Path, cold: bool = False) -> Workspace:
    """Put the workspace back to a state. `cold`: without what DVC remembers of earlier runs of the stages, which run anew then."""
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(state, root, symlinks=True)
    if cold:
        shutil.rmtree(root / ".dvc" / "cache" / "runs", ignore_errors=True)
    offsets = root / ".flywheel" / "offsets-logs.json"
    for path in (offsets, offsets.with_name("offsets-answers.json")):
        if path.is_file():  # it is known by its inode which logs were read
            known = orjson.loads(path.read_bytes())
            for name, entry in known.items():
                there = Path(name).stat() if Path(name).is_file() else None
                if there and isinstance(entry, dict) and "inode" in entry:
                    entry |= {"inode": there.st_ino, "mtime": there.st_mtime_ns}
            path.write_bytes(orjson.dumps(known))
    return Workspace(root)


def _keep(place: Workspace, to: Path) -> None:
    shutil.copytree(place.root, to, symlinks=True)
