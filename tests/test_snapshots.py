"""Snapshots as people receive them: kept in a folder, an S3 store or behind SSH, made again elsewhere, never half made."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from tasks import shards
from tasks.errors import Refused
from tasks.examples import TABLES, Supervised, example_id
from tasks.live import repository, snapshot, store
from tasks.live.repository import COMMITTER, git, git_locks, mend, unlock
from tasks.live.workspace import Workspace, quiet_environment
from tasks.records import arrow_schema
from tests import small, stores
from tests.conftest import flywheel
from tests.handmade import NOON
from tests.imports import ROOT

quiet_environment()
pytestmark = pytest.mark.slow
BIN = Path(sys.executable).parent


def dvc(folder: Path, *arguments: str, **environment: str) -> str:
    env = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1", **environment}
    done = subprocess.run([BIN / "dvc", *arguments], cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def elsewhere(place: Workspace, folder: Path, tag: str) -> Path:
    """A second machine: a clone at a tag, with nothing but git's history."""
    git(folder.parent, "clone", "--quiet", str(place.root), str(folder))
    git(folder, "checkout", "--quiet", tag)
    return folder


def reproduced(folder: Path, **environment: str) -> None:
    """From the remote every stage is skipped; run again, each gives the recorded hashes."""
    recorded = (folder / "dvc.lock").read_bytes()
    dvc(folder, "pull", **environment)
    assert "didn't change, skipping" in dvc(folder, "repro", **environment)
    dvc(folder, "repro", "--force", **environment)
    assert (folder / "dvc.lock").read_bytes() == recorded
    assert git(folder, "status", "--porcelain") == ""


def wiped(place: Workspace) -> None:
    """Lose this machine's copy of the data: its cache and its files."""
    for folder in (place.root / ".dvc" / "cache", place.data / "dataset", place.data / "curated", place.frozen):
        shutil.rmtree(folder)


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return small.workspace(tmp_path / "here" / "w")


def test_a_second_machine_makes_a_tagged_snapshot_again_from_a_clone_and_the_remote(place: Workspace, tmp_path: Path) -> None:
    first = small.publish(place, 30)
    small.publish(place, 40)
    wiped(place)
    folder = elsewhere(place, tmp_path / "ein Ordner auf einer anderen Maschine", first.tag)
    reproduced(folder, LC_ALL="C", TZ="Asia/Tokyo", PYTHONHASHSEED="5", OMP_NUM_THREADS="1", ARROW_DEFAULT_MEMORY_POOL="system")


def test_an_s3_store_keeps_snapshots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("moto")
    with stores.s3(tmp_path / "s3.log") as url:
        for key, value in stores.KEYS.items():
            monkeypatch.setenv(key, value)
        place = small.workspace(tmp_path / "w", "s3://snapshots/support", [f"endpointurl={url}"])
        first = small.publish(place, 30)
        assert first.unpushed == "" and first.new
        held = stores.s3_objects(url)
        assert held and all(key.startswith("support/files/md5/") for key in held)
        committed = (place.root / ".dvc" / "config").read_text(encoding="utf-8")
        assert not any(secret in committed for secret in (stores.KEYS["AWS_ACCESS_KEY_ID"], stores.KEYS["AWS_SECRET_ACCESS_KEY"]))

        small.publish(place, 40)
        wiped(place)
        reproduced(elsewhere(place, tmp_path / "clone", first.tag), **stores.KEYS)
        again = Workspace(tmp_path / "clone")
        again.state.mkdir()
        from tasks.live.diff import between

        shutil.rmtree(again.root / ".dvc" / "cache")
        newest = snapshot.last(place)
        assert between(again, first.tag, newest.tag).added == 130


def test_a_machine_behind_ssh_keeps_snapshots(tmp_path: Path) -> None:
    pytest.importorskip("dvc_ssh")
    (tmp_path / "server").mkdir()
    with stores.ssh(tmp_path / "server") as (port, key):
        settings = [f"port={port}", f"keyfile={key}", "user=flywheel", "allow_agent=false"]
        place = small.workspace(tmp_path / "w", "ssh://127.0.0.1/support", settings)
        first = small.publish(place, 30)
        assert first.unpushed == ""
        assert (tmp_path / "server" / "support" / "files" / "md5").is_dir()
        wiped(place)
        reproduced(elsewhere(place, tmp_path / "clone", first.tag))


def test_with_the_remote_down_a_snapshot_is_kept_and_pushed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("moto")
    for key, value in stores.KEYS.items():
        monkeypatch.setenv(key, value)
    port = stores.free_port()
    place = small.workspace(tmp_path / "w", "s3://snapshots", [f"endpointurl=http://127.0.0.1:{port}", "connect_timeout=1"])
    first = small.publish(place, 30)
    assert first.new and first.unpushed and store.pending(place) == [first.tag]
    assert git(place.root, "tag", "--list") == first.tag and git(place.root, "status", "--porcelain") == ""
    second = small.publish(place, 40)
    assert store.pending(place) == [first.tag, second.tag]

    monkeypatch.setattr(stores, "free_port", lambda: port)
    with stores.s3(tmp_path / "s3.log"):
        assert snapshot.publish(place).unpushed == "" and store.pending(place) == []
        wiped(place)
        for tag in (first.tag, second.tag):
            dvc(elsewhere(place, tmp_path / tag, tag), "pull", **stores.KEYS)


def test_a_folder_that_is_away_is_a_remote_that_is_down(place: Workspace) -> None:
    remote = place.state / "remote"
    remote.write_text("not a folder", encoding="utf-8")
    first = small.publish(place, 30)
    assert first.unpushed and store.pending(place) == [first.tag]
    remote.unlink()
    assert snapshot.push_pending(place) == "" and store.pending(place) == []
    assert remote.is_dir()


def held(remote: Path) -> dict[str, int]:
    return {p.parent.name + p.name: p.stat().st_size for p in (remote / "files" / "md5").glob("*/*")}


def many(folder: Path, rows: int) -> None:
    """A table of texts that don't compress to nothing, in the order in which they arrived."""
    schema, letters = arrow_schema(Supervised), random.Random(1)
    writer = shards.Writer(folder / "parquet", Supervised, folder / "jsonl", TABLES["sft"].trains)
    said = [f'[{{"content":"{letters.getrandbits(800):x}","role":"user"}}]' for _ in range(rows)]
    constant = {f.name: {"string": "x", "int64": 1, "double": 0.5}[str(f.type)] for f in schema}
    for start in range(0, rows, 20_000):
        numbers = range(start, min(start + 20_000, rows))
        columns = {name: [value] * len(numbers) for name, value in constant.items()} | {
            "example_id": [example_id("sft", str(n)) for n in numbers],
            "arrived": [NOON + n // 300 for n in numbers],
            "messages": [said[n] for n in numbers],
            "tools": ["[]"] * len(numbers),
        }
        writer.add(pa.table(columns, schema=schema))
    writer.close()


def test_one_percent_more_rows_upload_about_one_percent_of_the_bytes(place: Workspace) -> None:
    with repository.dvc(place) as repo:
        many(place.data / "many", 300_000)
        repo.add([str(place.data / "many")])
        repo.push()
        before = held(place.state / "remote")
        many(place.data / "many", 303_000)
        repo.add([str(place.data / "many")])
        repo.push()
    new = {name: size for name, size in held(place.state / "remote").items() if name not in before}
    assert 0.01 < sum(new.values()) / sum(before.values()) < 0.03, "what is new, and the shard that it goes on from, in both forms"
    assert len(new) <= 8 < len(before) / 10


def test_dvc_compares_the_metrics_of_two_snapshots_and_plots_them(place: Workspace) -> None:
    tags = [small.publish(place, rows).tag for rows in (30, 40)]
    compared = json.loads(dvc(place.root, "metrics", "diff", "--json", *tags))["data/reports/dataset.json"]
    assert compared["tables.sft_train"] == {"old": 30, "new": 40, "diff": 10} and "agreement.answer" not in compared
    shown = json.loads(dvc(place.root, "plots", "show", "--json"))
    assert "errors" not in shown
    points = {name: json.dumps(drawn) for name, drawn in shown["data"].items()}
    assert points.keys() == {"rows by table", "rows by slice", "balance", "agreement", "training curves"}
    assert "sft train" in points["rows by table"] and '"de"' in points["rows by slice"] and "0.71" in points["agreement"]
    both = json.dumps(json.loads(dvc(place.root, "plots", "diff", "--json", *tags)))
    assert all(tag in both for tag in tags)


DEATHS = {
    "push": "store.push",
    "changelog": "_log_changes",
    "add": "_git:add",
    "commit": "_git:commit",
    "tag": "_git:tag",
}


@pytest.mark.parametrize(("when", "step"), [*(("before", step) for step in DEATHS), ("after", "tag")])
def test_killed_around_any_step_the_next_call_ends_in_one_commit(place: Workspace, when: str, step: str) -> None:
    small.publish(place, 30)
    small.build(place, 40)
    code = f"""
import os, signal
from pathlib import Path
from tasks.live import snapshot, store
from tasks.live.workspace import Workspace, quiet_environment
quiet_environment()
def dying(real, only=None):
    def step(*arguments, **named):
        mine = only is None or (only in arguments and "--list" not in arguments)
        if mine and {when == "before"}: os.kill(os.getpid(), signal.SIGKILL)
        done = real(*arguments, **named)
        if mine: os.kill(os.getpid(), signal.SIGKILL)
        return done
    return step
name, _, only = {DEATHS[step]!r}.partition(":")
module, name = (store, name.split(".")[1]) if "." in name else (snapshot, name)
setattr(module, name, dying(getattr(module, name), only or None))
snapshot.publish(Workspace(Path({str(place.root)!r})))
"""
    died = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert died.returncode == -9, died.stderr
    done = snapshot.publish(place)
    history = list(snapshot.history(place))
    assert [s.tag for s in history] == [done.tag, history[1].tag]
    assert git(place.root, "log", "--format=%s").count("snapshot-") == 2
    assert place.changelog.read_text(encoding="utf-8").count("## snapshot-") == 2
    assert git(place.root, "status", "--porcelain") == "" and store.pending(place) == []
    with repository.dvc(place) as repo:
        assert repo.push(revs=[s.tag for s in history]) == 0, "the remote has everything"


def test_what_others_staged_is_not_in_the_commit_of_a_snapshot(place: Workspace) -> None:
    small.build(place, 30)
    (place.root / "notes.txt").write_text("a thought", encoding="utf-8")
    git(place.root, "add", "notes.txt")
    made = snapshot.publish(place)
    assert "notes.txt" not in git(place.root, "show", "--name-only", "--format=", made.commit)
    assert git(place.root, "status", "--porcelain") == "A  notes.txt"


def test_code_that_is_not_committed_makes_no_snapshot(place: Workspace) -> None:
    small.build(place, 30)
    (place.root / "stage.py").write_text(small.STAGE + "# better\n", encoding="utf-8")
    with pytest.raises(Refused, match=r"not committed: stage\.py"):
        snapshot.publish(place)
    assert git(place.root, "tag", "--list") == ""
    git(place.root, "checkout", "--quiet", "--", "stage.py")
    (place.root / "params.yaml").write_text("build:\n  max_rows_per_group: 9\n", encoding="utf-8")
    snapshot.run_stage(place, "build")
    made = snapshot.publish(place)  # settings are part of a snapshot, and committed with it
    assert "max_rows_per_group: 9" in git(place.root, "show", f"{made.tag}:params.yaml")


def test_a_detached_head_makes_no_snapshot_and_is_told_where_to_go(place: Workspace) -> None:
    first = small.publish(place, 30)
    git(place.root, "checkout", "--quiet", first.tag)
    small.build(place, 40)
    with pytest.raises(Refused, match="no branch checked out") as refused:
        snapshot.publish(place)
    assert refused.value.what_to_do == "git switch main"
    git(place.root, "switch", "--quiet", "main", "--force")
    assert small.publish(place, 40).new


def test_a_shallow_clone_reproduces_and_makes_no_snapshot(place: Workspace, tmp_path: Path) -> None:
    small.publish(place, 30)
    newest = small.publish(place, 40)
    shallow = Workspace(tmp_path / "shallow")
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{place.root}", str(shallow.root))
    shallow.state.mkdir()
    shallow.reports.mkdir(exist_ok=True)
    reproduced(shallow.root)
    with pytest.raises(Refused, match="shallow clone"):
        small.publish(shallow, 50)
    git(shallow.root, "fetch", "--quiet", "--unshallow", "--tags")
    assert snapshot.last(shallow).tag == newest.tag and small.publish(shallow, 50).new


def test_a_snapshot_of_another_branch_is_not_made_twice(place: Workspace) -> None:
    small.publish(place, 30)
    git(place.root, "switch", "--quiet", "--create", "trial")
    on_trial = small.publish(place, 40)
    git(place.root, "switch", "--quiet", "main")
    small.build(place, 40)
    with pytest.raises(Refused, match="another branch") as refused:
        snapshot.publish(place)
    assert f"git merge {on_trial.tag}" in refused.value.what_to_do
    git(place.root, "checkout", "--quiet", "--force", "main")
    git(place.root, "merge", "--quiet", on_trial.tag)
    assert snapshot.publish(place).tag == on_trial.tag


def test_a_merge_that_is_not_finished_makes_no_snapshot(place: Workspace) -> None:
    small.publish(place, 30)
    git(place.root, "switch", "--quiet", "--create", "trial")
    small.publish(place, 40)
    git(place.root, "switch", "--quiet", "main")
    small.publish(place, 50)
    with pytest.raises(Refused):
        git(place.root, "merge", "--quiet", "trial")
    with pytest.raises(Refused, match="a merge is not finished: data/CHANGELOG"):
        snapshot.publish(place)


def test_without_git_there_is_a_reason(place: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    small.build(place, 30)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Refused, match="git is not installed"):
        snapshot.publish(place)


@pytest.mark.parametrize(
    ("url", "settings", "why"),
    [
        ("ssh://me:word@host/path", [], "holds a password"),
        ("s3://bucket", ["secret_access_key=word"], "secret_access_key is a secret"),
        ("s3://bucket", ["endpointurl"], "is no setting"),
        ("s3://bucket", ["endpoint=http://x"], "DVC takes no such remote"),
        ("nowhere://bucket", [], "DVC takes no such remote"),
    ],
)
def test_a_remote_is_refused_before_anything_secret_is_committed(tmp_path: Path, url: str, settings: list[str], why: str) -> None:
    with pytest.raises(Refused, match=why) as refused:
        small.workspace(tmp_path / "w", url, settings)
    assert "word" not in str(refused.value).replace("password", "")
    assert "word" not in (tmp_path / "w" / ".dvc" / "config").read_text(encoding="utf-8").replace("password", "")


def test_init_refuses_a_secret_before_it_makes_anything_and_commits_the_other_settings(tmp_path: Path) -> None:
    refused = flywheel("init", tmp_path / "w", "--remote", "s3://bucket", "--remote-setting", "session_token=word")
    assert refused.code == 2 and "session_token is a secret" in refused.err and not (tmp_path / "w").exists()
    settings = ["--remote-setting", "endpointurl=http://127.0.0.1:9000", "--remote-setting", "region=eu-central-1"]
    made = flywheel("init", tmp_path / "w", "--remote", "s3://bucket/support", *settings)
    assert made.code == 0, made.err
    committed = git(tmp_path / "w", "show", "HEAD:.dvc/config")
    assert "url = s3://bucket/support" in committed
    assert "endpointurl = http://127.0.0.1:9000" in committed and "region = eu-central-1" in committed


def test_a_store_whose_package_is_missing_is_told_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(Refused, match="needs dvc-s3") as refused:
        store.check("s3://bucket")
    assert refused.value.what_to_do == 'pip install "flywheel[s3]"'


def test_a_remote_folder_is_named_as_seen_from_where_the_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    place = small.workspace(tmp_path / "w", "kept/here")
    small.publish(place, 30)
    assert (tmp_path / "kept" / "here" / "files").is_dir()


def test_status_shows_what_the_remote_has_not_taken(place: Workspace) -> None:
    from tasks.live import status

    (place.state / "remote").write_text("not a folder", encoding="utf-8")
    made = small.publish(place, 30)
    shutil.copy(ROOT / "params.yaml", place.root / "params.yaml")
    document = status.read(place)
    assert document["unpushed"] == [made.tag]
    assert f"push pending: the remote has not taken {made.tag} yet" in status.as_text(document)


@pytest.mark.slow
def test_a_git_that_was_killed_holds_no_later_snapshot_up_and_one_that_works_is_left_alone(tmp_path: Path) -> None:
    place = small.workspace(tmp_path / "w")
    for name in ("index.lock", "refs/tags/snapshot-1.lock"):
        (place.root / ".git" / name).parent.mkdir(exist_ok=True)
        (place.root / ".git" / name).touch()
    assert {p.name for p in git_locks(place.root)} == {"index.lock", "snapshot-1.lock"}
    works = subprocess.Popen(["git", "cat-file", "--batch"], cwd=place.root, stdin=subprocess.PIPE)
    try:
        assert unlock(place.root) == [] and len(git_locks(place.root)) == 2
    finally:
        works.stdin.close()
        works.wait()
    assert small.publish(place, rows=30).new
    assert git_locks(place.root) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, left", [("dvc.lock", ""), ("dvc.lock", "schema: '2.0'\nsta"), ("data/frozen.dvc", "outs:\n- md5: 1f")]
)
def test_half_of_what_dvc_wrote_when_it_was_killed_is_put_back(tmp_path: Path, name: str, left: str) -> None:
    place = small.workspace(tmp_path / "w")
    first = small.publish(place, rows=30)
    path = place.root / name
    whole = path.read_bytes()
    path.write_text(left, encoding="utf-8")
    assert mend(place) == [name] and path.read_bytes() == whole and mend(place) == []
    assert small.publish(place, rows=30) == replace(first, new=False)
    git(place.root, "rm", "--cached", "--quiet", name)
    git(place.root, *COMMITTER, "commit", "--quiet", "-m", "as before the first snapshot")
    path.write_text(left, encoding="utf-8")
    assert mend(place) == [name] and not path.exists()
