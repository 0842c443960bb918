"""The wheel as a whole: the real command, real Prefect, MLflow, git and DVC."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from demo.annotators import CARELESS, SKILLS, SPAMMER
from tasks.live.lake import Lake
from tasks.live.quality import quality
from tasks.live.workspace import Workspace
from tests.conftest import ROOT, Played, flywheel, git
from tests.next_week import play_until_answered

pytestmark = pytest.mark.slow

FIELDS = {
    "turn", "true_error_rate", "estimate", "captured", "rejected", "sent", "errors_found", "errors_found_by_random",
    "label_accuracy", "verdict", "verdict_right", "snapshot",
}  # fmt: skip
STEPS = ("freeze", "curate", "build", "validate", "train", "evaluate", "judge", "publish", "record", "promote")


def test_the_demo_prints_one_document_in_which_errors_fall(played: Played) -> None:
    turns = played.document["turns"]
    assert played.document["seed"] == 1
    assert all(set(t) >= FIELDS for t in turns)
    assert [t["turn"] for t in turns] == [0, 1]
    assert all(t["verdict"] in ("promote", "refuse", "inconclusive") for t in turns)
    assert any(t["verdict"] == "promote" for t in turns)
    assert not any(t["verdict"] == "promote" and not t["verdict_right"] for t in turns)
    assert played.document["after"] < 0.75 * turns[0]["true_error_rate"]
    assert all(t["errors_found"] > t["errors_found_by_random"] for t in turns)
    assert all(t["label_accuracy"] > 0.95 for t in turns)
    assert all(t["rejected"] == 1 for t in turns), "one torn line a week is written among the logs"


def test_every_turn_left_a_snapshot_in_git(played: Played) -> None:
    tags = git(played.workspace, "tag", "--list", "snapshot-*").splitlines()
    assert set(tags) == {t["snapshot"] for t in played.document["turns"]}
    pages = {p.name for p in (played.workspace / ".flywheel" / "report").iterdir()}
    assert pages == {"index.html", *(f"{tag}.{ending}" for tag in tags for ending in ("html", "json"))}, "and is told"
    subjects = git(played.workspace, "log", "--format=%s").splitlines()
    assert all(any(s.startswith(tag) for s in subjects) for tag in tags)
    assert git(played.workspace, "status", "--porcelain") == ""


def test_an_operator_sees_the_stages_and_readable_artifacts(played: Played, prefect_server: str) -> None:
    assert _post(prefect_server, "flow_runs/count", {}) >= 4
    stages = {r["name"] for r in _post(prefect_server, "task_runs/filter", {"limit": 200})}
    assert {"curate", "build", "validate", "train", "evaluate", "judge"} <= stages
    keys = {a["key"]: a["data"] for a in _post(prefect_server, "artifacts/latest/filter", {})}
    assert {"captured", "received", "batch", "mined-signals", "error-rate", "validation", "verdict"} <= set(keys)
    assert {"people", "annotators", "guideline-debugger", "report"} <= set(keys) and "questions open" in keys["people"]
    assert "| stored | duplicate | rejected |" in keys["captured"]
    assert "p = " in keys["verdict"] or "| p |" in keys["verdict"]
    for key in ("error-rate-plot", "failure-clusters-plot", "verdict-plot"):
        assert keys[key].startswith("data:image/svg+xml;base64,"), "no request to anywhere"


def test_a_turn_with_nothing_new_changes_no_file(played: Played) -> None:
    before = _bytes_of(played.workspace)
    done = flywheel("turn", "--json", cwd=played.workspace)  # embedded Prefect: no server is named
    assert done.code == 0, done.err[-3000:]
    document = done.document()
    assert document["captured"]["seen"] == document["received"]["seen"] == 0
    assert document["sent"] is document["retrained"] is document["promoted"] is None
    assert _bytes_of(played.workspace) == before


def test_an_old_snapshot_is_reproduced_to_the_same_hashes_in_a_clone(played: Played, tmp_path: Path) -> None:
    tag = played.document["turns"][0]["snapshot"]
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", str(played.workspace), str(clone))
    git(clone, "checkout", "--quiet", tag)
    recorded = (clone / "dvc.lock").read_bytes()
    assert "Everything is up to date" not in _dvc(clone, "pull")
    assert "didn't change, skipping" in _dvc(clone, "repro")
    assert (clone / "dvc.lock").read_bytes() == recorded
    _dvc(clone, "repro", "--force")  # not from the cache: every stage runs again
    assert (clone / "dvc.lock").read_bytes() == recorded
    assert git(clone, "status", "--porcelain") == ""


def test_a_turn_killed_after_any_step_converges_to_the_same_snapshot(
    played: Played, tmp_path: Path, prefect_server: str
) -> None:
    straight = shutil.copytree(played.workspace, tmp_path / "straight", symlinks=True)
    play_until_answered(straight, 2, played.document["seed"])
    killed = shutil.copytree(straight, tmp_path / "killed", symlinks=True)

    done = flywheel("turn", "--json", cwd=straight, PREFECT_API_URL=prefect_server)
    expected = done.document()["retrained"]
    lives = subprocess.run(
        [sys.executable, "-m", "tests.killed", str(killed), *STEPS],
        cwd=ROOT,
        env={**os.environ, "PREFECT_API_URL": prefect_server},
        capture_output=True,
        text=True,
        check=True,
    )
    died = json.loads(lives.stdout.splitlines()[-1])
    assert died[:9] == list(STEPS[:9])
    assert ("promote" in died) == (expected["decision"] == "promote")
    again = flywheel("turn", "--json", cwd=killed, PREFECT_API_URL=prefect_server)
    assert again.code == done.code, again.err[-3000:]
    assert git(killed, "tag", "--list", "snapshot-*") == git(straight, "tag", "--list", "snapshot-*")
    assert (killed / "dvc.lock").read_bytes() == (straight / "dvc.lock").read_bytes()
    versions = [_versions(folder) for folder in (straight, killed)]
    assert versions[0] == versions[1], "one model version a snapshot, however often recording was tried"
    looked = flywheel("doctor", "--deep", "--json", cwd=killed, PREFECT_API_URL=prefect_server)
    assert [f for f in looked.document() if f["level"] == "fault" or (f["check"] == "orphan" and f["level"] != "ok")] == []


def _versions(folder: Path) -> list:
    code = f"""
import json
from pathlib import Path
from tasks.live import registry
from tasks.live.workspace import Workspace
print(json.dumps(registry.versions(Workspace(Path({str(folder)!r})))))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _bytes_of(root: Path) -> dict[str, str]:
    """Digest and time of every file of a workspace but the state folder (Prefect's and MLflow's own databases)."""
    files = (p for p in root.rglob("*") if p.is_file() and p.relative_to(root).parts[0] not in (".flywheel", ".dvc"))
    return {
        str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in files
        if p.name != "index" and "__pycache__" not in p.parts  # git refreshes its index when it is asked for the status
    }


def _dvc(folder: Path, *arguments: str) -> str:
    bin_dir = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{bin_dir}{os.pathsep}{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}
    command = [str(bin_dir / "dvc"), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _post(api: str, path: str, body: dict) -> object:
    request = urllib.request.Request(f"{api}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def test_the_careless_and_the_spammer_are_named_by_the_second_turn_and_weigh_less(played: Played):
    found = quality(Workspace(played.workspace))
    cards = {c.annotator: c for c in found.annotators}
    assert cards[CARELESS].verdict in ("careless", "spam") and cards[SPAMMER].verdict == "spam"
    good = {name for name in SKILLS if name not in (CARELESS, SPAMMER)}
    assert {cards[name].verdict for name in good} <= {"good", "watch"}
    least = min(cards[name].quality for name in good)
    assert cards[SPAMMER].quality < cards[CARELESS].quality < least


def test_what_an_expert_looked_at_by_lot_says_that_labels_are_right(played: Played):
    audited = quality(Workspace(played.workspace)).audited
    assert audited.labels >= 10 and audited.low <= 0.05
    assert audited.wrong / audited.labels < 0.2


def test_no_question_of_the_demo_was_handed_to_the_same_person_twice(played: Played):
    rows = Lake(Workspace(played.workspace).lake).query(
        "SELECT count(*) AS n, count(DISTINCT (candidate_id, kind, annotator)) AS people FROM annotations"
    )
    assert rows["n"][0].as_py() == rows["people"][0].as_py() > 1200
