"""Erasure where others keep the data: an S3 store, a machine behind SSH, Label Studio, MLflow; and on a disk that fails."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tasks.live import kept
from tasks.live.erasure.erase import erase, unfinished
from tasks.live.erasure.mail import label_studio, mlflow_reviews
from tasks.live.erasure.subject import Subject, Wish
from tasks.live.lake import Lake
from tasks.live.repository import dvc
from tasks.live.status import as_text, read
from tasks.live.workspace import Workspace
from tests import stores
from tests.conftest import flywheel, git
from tests.imports import ROOT
from tests.labelstudio_server import Running
from tests.lived import KIM, THEIRS, copied
from tests.test_erasure import WISH, holding, ids, original, place, roots, state
from tests.test_labelstudio import batch, candidates, handout, tasks, tool
from tests.test_mlflow_review import review
from tests.test_mlflow_server import ask as traced
from tests.test_mlflow_server import server

pytestmark = pytest.mark.slow
FIXTURES = (original, place, batch, tool, review, server)  # taken from the tests of these


def with_remote(place: Workspace, name: str, section: dict[str, object]) -> None:
    with dvc(place) as repo, repo.config.edit("local") as config:
        config["remote"][name] = section
    with dvc(place) as repo:
        repo.push(remote=name)


def downloaded(place: Workspace, name: str, to: Path) -> dict[str, int]:
    """The objects of a remote, as files to look into."""
    to.mkdir()
    sizes = {}
    with kept.opened(place) as objects:
        odb = objects.stores[name]
        for md5 in list(odb.all()):
            data = odb.fs.cat_file(odb.oid_to_path(md5))
            (to / md5).write_bytes(data)
            sizes[md5] = len(data)
    return sizes


def erased_from(place: Workspace, name: str, tmp_path: Path) -> None:
    words = [w for w in (*THEIRS, *ids(place))]
    before = downloaded(place, name, tmp_path / "before")
    assert len({w for w, _ in holding(words, tmp_path / "before")}) > 10
    done = erase(place, WISH)
    after = downloaded(place, name, tmp_path / "after")
    assert holding(words, tmp_path / "after") == [] and done.hits == 0
    assert done.proof[f"remote {name}"].files == len(after)
    lost = {md5 for files in done.files.values() for md5 in files.values()}
    assert set(before) - set(after) == lost and {m: n for m, n in before.items() if m in after} == after
    assert done.done["objects of snapshots"][name] == len(lost)


def test_objects_leave_an_s3_store(place: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("moto")
    for key, value in stores.KEYS.items():
        monkeypatch.setenv(key, value)
    with stores.s3(tmp_path / "s3.log") as url:
        with_remote(place, "bucket", {"url": "s3://snapshots/support", "endpointurl": url})
        erased_from(place, "bucket", tmp_path)


def test_objects_leave_a_machine_behind_ssh(place: Workspace, tmp_path: Path):
    pytest.importorskip("dvc_ssh")
    (tmp_path / "server").mkdir()
    with stores.ssh(tmp_path / "server") as (port, key):
        section = {"url": "ssh://127.0.0.1/support", "port": port, "keyfile": str(key), "user": "flywheel", "allow_agent": False}
        with_remote(place, "machine", section)
        erased_from(place, "machine", tmp_path)


def test_a_store_that_is_down_is_told_of_and_cleared_by_the_same_command_later(
    place: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("moto")
    words = [*THEIRS, *ids(place)]
    for key, value in stores.KEYS.items():
        monkeypatch.setenv(key, value)
    port = stores.free_port()
    monkeypatch.setattr(stores, "free_port", lambda: port)
    section = {"url": "s3://snapshots", "endpointurl": f"http://127.0.0.1:{port}", "connect_timeout": 1}
    with stores.s3(tmp_path / "s3.log"):
        with_remote(place, "bucket", section)
        first = downloaded(place, "bucket", tmp_path / "before")
    done = erase(place, WISH)
    assert any(t.startswith("remote bucket (") and "delete these objects" in t for t in done.by_hand)
    with stores.s3(tmp_path / "s3.log"):
        client = stores.s3_client(f"http://127.0.0.1:{port}")
        for md5 in first:
            body = (tmp_path / "before" / md5).read_bytes()
            client.put_object(Bucket="snapshots", Key=f"files/md5/{md5[:2]}/{md5[2:]}", Body=body)
        again = erase(place, WISH)
        assert again.hits == 0 and not any("remote bucket" in t for t in again.by_hand)
        downloaded(place, "bucket", tmp_path / "after")
    assert holding(words, tmp_path / "before") and holding(words, tmp_path / "after") == []


def test_tasks_leave_label_studio_with_what_was_answered(labelstudio: Running, tool, batch, monkeypatch, tmp_path: Path):
    tool.send(handout(batch, *candidates(3)))
    assert [t["data"]["flywheel"]["asks"][0]["candidate_id"] for t in tasks(tool, batch)] == ["cd_0", "cd_1", "cd_2"]
    monkeypatch.setenv("FLYWHEEL_LABELSTUDIO_URL", labelstudio.url)
    monkeypatch.setenv("FLYWHEEL_LABELSTUDIO_TOKEN", labelstudio.token)
    theirs = Subject(set(), "", candidates=["cd_1"])
    gone, by_hand = label_studio(Workspace(tmp_path), theirs)
    assert gone >= 1 and [t["data"]["flywheel"]["asks"][0]["candidate_id"] for t in tasks(tool, batch)] == ["cd_0", "cd_2"]
    assert by_hand and "backups" in by_hand[0]
    assert label_studio(Workspace(tmp_path), theirs) == (0, [])
    monkeypatch.setenv("FLYWHEEL_LABELSTUDIO_URL", "http://127.0.0.1:9")
    gone, by_hand = label_studio(Workspace(tmp_path), theirs)
    assert gone == 0 and "does not answer" in by_hand[0] and "cd_1" in by_hand[0]


def test_traces_leave_the_mlflow_server_of_the_reviews(review, server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    from mlflow import MlflowClient

    other = review.trace_of("cd_other")
    mine = traced(server, review.experiment, "the question of somebody who leaves", "an answer")
    monkeypatch.setenv("FLYWHEEL_MLFLOW_REVIEW_URL", server)
    monkeypatch.setenv("FLYWHEEL_MLFLOW_REVIEW_EXPERIMENT", review.experiment)
    theirs = Subject(set(), "", traces=[mine])
    assert mlflow_reviews(Workspace(tmp_path), theirs) == (1, [])
    client = MlflowClient(tracking_uri=server)
    experiment = client.get_experiment_by_name(review.experiment).experiment_id
    left = {t.info.trace_id for t in client.search_traces(locations=[experiment])}
    assert mine not in left and other in left
    assert mlflow_reviews(Workspace(tmp_path), theirs) == (0, []), "gone already"
    monkeypatch.setenv("FLYWHEEL_MLFLOW_REVIEW_URL", "http://127.0.0.1:9")
    gone, by_hand = mlflow_reviews(Workspace(tmp_path), theirs)
    assert gone == 0 and mine in by_hand[0]


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("cc"), reason="needs Linux and a C compiler")
def test_whatever_the_disk_refuses_the_same_command_ends_in_the_same_place(original: Workspace, tmp_path: Path):
    library = tmp_path / "faulty.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, ROOT / "tests/faulty.c", "-ldl", "-pthread"], check=True)
    straight = copied(original, tmp_path / "straight" / "work")
    erase(straight, WISH)
    want = state(straight)
    pick = random.Random(7)
    for n, how in enumerate((0, 28, 5)):
        broken = copied(original, tmp_path / f"broken-{n}" / "work")
        points = [f"{pick.randint(1, 500)}:{how}" for _ in range(6)]
        done = subprocess.run(
            [sys.executable, "-m", "tests.erasing", str(broken.root), KIM, *points],
            cwd=ROOT, env={**os.environ, "LD_PRELOAD": str(library)}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert how or len(json.loads(done.stdout)) >= 2, done.stdout
        last = erase(broken, WISH)
        assert last.hits == 0 and state(broken) == want, points
        assert not unfinished(broken) and not list(broken.root.rglob("*.tmp"))
        assert holding(THEIRS, *roots(broken)) == []


def test_a_whole_workspace_forgets_somebody_and_its_loop_goes_on(a_copy: Path, played, prefect_server: str):
    """The demo's own loop: real traffic over OTLP, two snapshots, a champion; then a snapshot more."""
    config = a_copy / ".dvc" / "config"  # a copy must not reach into the original's remote
    config.write_text(config.read_text().replace(str(played.workspace), str(a_copy)))
    git(a_copy, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "-am", "moved")
    place = Workspace(a_copy)
    newest = kept.snapshots(place)[-1]
    with kept.opened(place) as objects:
        files = objects.files(newest.commit)
        taught = [pq.read_table(objects.path(m)) for p, m in files.items() if p.startswith("data/dataset/parquet/train/sft/")]
    rows = {r["interaction_id"] for t in taught for r in t.to_pylist()}
    who = Lake(place.lake).query(
        """SELECT "user", list(interaction_id) AS own, list(question) AS said FROM interactions WHERE "user" <> '' AND "user" IN
           (SELECT "user" FROM interactions WHERE list_contains($rows, interaction_id)) GROUP BY ALL ORDER BY "user" LIMIT 1""",
        {"rows": sorted(rows)},
    ).to_pylist()[0]
    done = erase(place, Wish(user=who["user"]))
    assert done.hits == 0 and newest.tag in done.files and done.retrain
    words = [who["user"], *who["own"]]
    left = holding(words, a_copy)
    assert [x for x in left if not x[1].endswith(".git") and "/reports/" not in x[1]] == []
    again = flywheel("retrain", "--force", "--json", "--workspace", a_copy, PREFECT_API_URL=prefect_server)
    assert again.code in (0, 4), again.err[-2000:]
    assert again.document()["snapshot"] not in (newest.tag, "") and "holds what was erased" not in as_text(read(place))
    assert [x for x in holding(words, a_copy) if not x[1].endswith(".git") and "/reports/" not in x[1]] == []
