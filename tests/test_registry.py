"""Champion, challenger and MLflow: one run a training, whatever the server does; one champion, whoever dies; rollback alone.

The workspace is the played demo's, set back to its first snapshot, with nothing registered yet; the server is a real one.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tasks.errors import BUSY, Refused
from tasks.live import registry, snapshot
from tasks.live.registry import environment, journal, mirror, recording, tracking
from tasks.live.registry.journal import FIRST, MOVED, PROMOTED, ROLLED_BACK
from tasks.live.repository import git_bytes
from tasks.live.status import as_text, read
from tasks.live.workspace import Workspace
from tasks.policy import folder_digest, load
from tests.conftest import ROOT, Played, flywheel, git
from tests.mlflow_servers import Proxy, Server, running

pytestmark = pytest.mark.slow
QUESTIONS = ["when do I see my money?", "how do I return a bike?", "is the shop open on Sunday?"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("mlflow")) as server:
        yield server


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    proxy = Proxy(server)
    yield proxy
    proxy.close()


@pytest.fixture
def place(played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The first snapshot of the demo, whose verdict promotes; nobody was told of it. MLflow is a file of its own."""
    root = shutil.copytree(played.workspace, tmp_path / "workspace", symlinks=True)
    first, second = (t["snapshot"] for t in played.document["turns"])
    for path in ("registry", "models", "artifacts"):
        shutil.rmtree(root / ".flywheel" / path, ignore_errors=True)
    (root / ".flywheel" / "mlflow.db").unlink(missing_ok=True)
    git(root, "reset", "--quiet", "--hard", first)
    git(root, "tag", "--delete", second)
    monkeypatch.delenv("FLYWHEEL_TRACKING_URI", raising=False)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")  # DVC starts stages as `python`
    return Workspace(root)


@pytest.fixture
def told(place: Workspace) -> snapshot.Snapshot:
    """The snapshot, recorded."""
    newest = snapshot.last(place)
    registry.champion(place)
    assert registry.record(place, newest) == "2", registry.pending(place)
    return newest


def own(place: Workspace, server: Server, monkeypatch: pytest.MonkeyPatch, uri: str = "") -> None:
    """This workspace's own names on a server that tests share."""
    name = f"flywheel-{place.root.parent.name}"
    for module in (tracking, recording, mirror):
        monkeypatch.setattr(module, "MODEL", name)
    monkeypatch.setattr(tracking, "EXPERIMENT", name)
    monkeypatch.setenv("FLYWHEEL_TRACKING_URI", uri or server.uri)
    tracking._connected.cache_clear()


def unheard(place: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a champion, and no server has heard of anything."""
    monkeypatch.setenv("FLYWHEEL_TRACKING_URI", "http://127.0.0.1:9")
    registry.champion(place)


def runs(place: Workspace, what: str = "training") -> list:
    with tracking.asking(place) as client:
        return client.search_runs([tracking.experiment(client, place)], f"tags.flywheel = '{what}'")


def versions(place: Workspace) -> list:
    with tracking.asking(place) as client:
        return tracking.model_versions(client)


def alias(place: Workspace) -> str:
    with tracking.asking(place) as client:
        return tracking.aliases(client).get("champion", "")


def kim(note: str = "read its answers") -> registry.Approval:
    return registry.Approval("kim", note)


# What a run holds


def test_a_run_holds_what_was_trained_from_what_and_how_it_was_judged(place: Workspace, told: snapshot.Snapshot):
    (run,) = runs(place)
    assert run.info.status == "FINISHED" and run.data.tags["commit"] == told.commit
    assert run.data.params["answers.folds"] == "3" and run.data.params["train.policy"] == '"answers"'
    metrics = run.data.metrics
    assert 0 < metrics["champion/right"] < metrics["challenger/right"] < 1
    assert metrics["verdict/primary/fixed"] > metrics["verdict/primary/broken"] and metrics["rows/train/sft"] > 10
    inputs = {d.dataset.name: {t.key: t.value for t in d.tags} for d in run.inputs.dataset_inputs}
    assert inputs["train/sft"] == {"mlflow.data.context": "training", "snapshot": told.tag}
    assert inputs["holdout/evaluation"]["mlflow.data.context"] == "evaluation"
    assert len({d.dataset.digest for d in run.inputs.dataset_inputs}) == len(inputs)
    verdict = snapshot.report_at(place, told.commit, "verdict")
    assert run.data.tags["decision"] == "promote" and run.data.tags["reasons"] == "\n".join(verdict["reasons"])
    with tracking.asking(place) as client:
        rows = client.download_artifacts(run.info.run_id, "evaluation/rows.jsonl")
        assert json.loads(Path(rows).read_text().splitlines()[0])["example_id"]
        names = {f.path for f in client.list_artifacts(run.info.run_id, "reports")}
    assert {"reports/verdict.json", "reports/training.json", "reports/validation.md"} <= names


def test_snapshot_and_model_lead_to_each_other(place: Workspace, told: snapshot.Snapshot):
    version = versions(place)[-1]
    assert (version.tags["snapshot"], version.tags["commit"]) == (told.tag, told.commit)
    note = git_bytes(place.root, "notes", "--ref", "models", "show", told.commit).decode()
    assert note.strip() == f"MLflow: version 2 of {tracking.MODEL}, run {version.run_id}"
    assert version.tags["digest"] == registry.challenger(place).digest == folder_digest(registry.challenger(place).folder)


def test_the_model_loads_by_pyfunc_without_pickle_and_answers_like_the_policy(place: Workspace, told, tmp_path: Path):
    import mlflow

    registry.promote(place, kim())
    mlflow.set_tracking_uri(place.tracking_uri)
    uri = f"models:/{tracking.MODEL}@champion"
    files = [p for p in Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(tmp_path / "model"))).rglob("*") if p.is_file()]
    assert {p.suffix for p in files} <= {".jsonl", ".json", ".safetensors", ".py", ".yaml", ".txt", ""}
    model = mlflow.pyfunc.load_model(uri)
    policy = load(registry.champion(place).folder)
    asked = [[{"role": "user", "content": q}] for q in QUESTIONS]
    want = policy.respond(asked, [[]] * 3, 2)
    got = model.predict([{"messages": m, "contexts": [], "n": 2} for m in asked])
    assert [[(r["action"], r["text"]) for r in row] for row in got] == [[(r.action, r.text) for r in row] for row in want]
    assert [len(row) for row in model.predict([{"messages": m} for m in asked])] == [1, 1, 1]


def test_the_model_brings_the_code_that_it_needs(place: Workspace, told, tmp_path: Path):
    """In a process that has no flywheel: only what pip_requirements name, and the artifact."""
    import mlflow

    mlflow.set_tracking_uri(place.tracking_uri)
    mlflow.artifacts.download_artifacts(f"models:/{tracking.MODEL}/2", dst_path=str(tmp_path / "model"))
    code = (
        "import sys\nsys.path = [p for p in sys.path if 'work' not in p or 'site-packages' in p or 'lib' in p.split('/')[-1]]\n"
        "sys.meta_path = [f for f in sys.meta_path if 'editable' not in str(f).lower()]\n"
        f"import mlflow\nm = mlflow.pyfunc.load_model({str(tmp_path / 'model')!r})\n"
        "import tasks\nassert 'model/code' in tasks.__path__[0] or 'model/code' in str(tasks.__file__), tasks.__path__\n"
        "print(m.predict([{'messages': [{'role': 'user', 'content': 'hello'}]}])[0][0]['action'])"
    )
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.strip(), done.stderr


def test_erasing_takes_the_rows_of_an_evaluation_from_the_server(place: Workspace, server: Server, monkeypatch: pytest.MonkeyPatch):
    own(place, server, monkeypatch)
    registry.champion(place)
    (run,) = runs(place)
    with tracking.asking(place) as client:
        assert {f.path for f in client.list_artifacts(run.info.run_id, "evaluation")} >= {"evaluation/rows.jsonl"}
        assert registry.forget_rows(place, [run.data.tags["snapshot"], "snapshot-00000000"]) == 1
        assert client.list_artifacts(run.info.run_id, "evaluation") == []
        assert client.list_artifacts(run.info.run_id, "reports")
    assert registry.forget_rows(place, [run.data.tags["snapshot"]]) == 0
    monkeypatch.setenv("FLYWHEEL_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(Refused, match="rows of evaluations are still in MLflow"):
        registry.forget_rows(place, [run.data.tags["snapshot"]])


# The server is down, slow, or answers with errors


def test_everything_but_the_record_goes_on_without_a_server_and_the_next_turn_records_it(
    place: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    server = Server(tmp_path / "later")
    monkeypatch.setenv("FLYWHEEL_TRACKING_URI", server.uri)
    base = registry.champion(place)
    assert base.version == "base" and (base.folder / "policy.json").is_file()
    newest = snapshot.last(place)
    assert registry.record(place, newest) == "" and not registry.is_recorded(place, newest)
    owed = registry.pending(place)
    assert owed["snapshots"] == [newest.tag] and "refused" in owed["why"]
    assert f"record pending: MLflow was not told of {newest.tag}" in as_text(read(place))
    assert not registry.promotion_is_due(place)
    with pytest.raises(Refused, match="is not registered yet"):
        registry.promote(place, kim())
    try:
        server.start()
        assert registry.settle(place) == ""
        assert registry.pending(place) == {"snapshots": [], "changes": [], "why": ""}
        assert [v.tags["snapshot"] for v in versions(place)] == ["base", newest.tag]
        assert len(runs(place)) == 1 and alias(place) == registry.champion(place).version
        assert registry.promote(place, kim()).changed
        assert alias(place) == "2"
    finally:
        server.kill()
        tracking._connected.cache_clear()


@pytest.mark.parametrize("how", ["drop", "refuse"])
def test_a_server_that_dies_at_any_request_leaves_one_run_and_one_version(
    place: Workspace, server: Server, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, how: str
):
    """Each life ends one request later than the one before; with 'drop' the server did it, and nobody heard."""
    own(place, server, monkeypatch, proxy.uri)
    newest = snapshot.last(place)
    deaths = 0
    for life in range(1, 400):
        proxy.arm(life, how)
        if registry.settle(place) == "" and journal.read(place).champion and registry.is_recorded(place, newest):
            break
        if not journal.read(place).champion:
            registry.champion(place)
        deaths += 1
    assert deaths > 15
    proxy.arm(0, "")
    assert registry.settle(place) == ""
    (run,) = runs(place)
    assert run.info.status == "FINISHED" and len(runs(place, "base model")) == 1
    assert sorted(v.tags["snapshot"] for v in versions(place)) == ["base", newest.tag]
    with tracking.asking(place) as client:
        history = client.get_metric_history(run.info.run_id, "champion/right")
        assert len(history) == 1, "a value that was told twice is one value"
        ready = [m for m in client.search_logged_models([run.info.experiment_id]) if m.status == "READY"]
    assert len(ready) == 2


def test_a_server_killed_in_the_middle_of_a_record_is_gone_on_with(
    place: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    unheard(place, monkeypatch)
    newest = snapshot.last(place)
    with running(tmp_path / "server") as server:
        monkeypatch.setenv("FLYWHEEL_TRACKING_URI", server.uri)
        for seconds in (0.3, 0.8):
            killer = threading.Timer(seconds, lambda: server.signal(signal.SIGKILL))
            killer.start()
            done = registry.record(place, newest)
            killer.join()
            server.process.wait()
            assert done or registry.pending(place)["snapshots"] == [newest.tag]
            server.start()
            tracking._connected.cache_clear()
        assert registry.record(place, newest)
        assert len(runs(place)) == 1 and runs(place)[0].info.status == "FINISHED"
        assert [v.tags["snapshot"] for v in versions(place)].count(newest.tag) == 1


def test_a_server_that_hangs_costs_seconds(place: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    unheard(place, monkeypatch)
    with running(tmp_path / "server") as server:
        monkeypatch.setenv("FLYWHEEL_TRACKING_URI", server.uri)
        server.signal(signal.SIGSTOP)
        began = time.monotonic()
        assert registry.record(place, snapshot.last(place)) == ""
        assert time.monotonic() - began < 3 * tracking.PROBE_S
        server.signal(signal.SIGCONT)
        assert registry.record(place, snapshot.last(place))
        assert len(runs(place)) == 1


# Promotion


def test_the_first_promotion_waits_for_a_person_and_nobody_else(place: Workspace, told: snapshot.Snapshot):
    asked = registry.promote(place)
    assert isinstance(asked, registry.Asked) and asked.version == "2" and alias(place) == "1"
    assert registry.promote(place) == asked and registry.open_question(place) == asked
    assert [e.action for e in registry.history(place)] == [FIRST, "asked"], "asked once"
    assert "WAITS FOR A PERSON: version 2" in as_text(read(place))
    assert flywheel("promote", "--workspace", place.root).code == 4
    done = registry.promote(place, kim("read 20 answers"))
    assert done.changed and (done.version, done.replaced, done.pending) == ("2", "1", "")
    assert alias(place) == "2" and registry.open_question(place) is None
    tags = versions(place)[1].tags
    assert tags["promoted_by"] == "kim" and tags["promoted_why"].startswith("read 20 answers; the gate: right answers")
    assert registry.promote(place) == registry.Promoted("2", "1", False), "repeated, it changes nothing"


def test_never_means_nobody_and_always_means_each(place: Workspace, told: snapshot.Snapshot):
    rule(place, "always")
    assert isinstance(registry.promote(place), registry.Asked)
    rule(place, "never")
    assert registry.promote(place).changed and registry.history(place)[-1].by == "the gate"
    rule(place, "sometimes")
    with pytest.raises(Refused, match="one of first, always, never"):
        registry.promote(place)


def test_a_stale_approval_is_refused(place: Workspace, told: snapshot.Snapshot):
    asked = registry.promote(place)
    from dataclasses import replace

    for seen in (replace(asked, challenger="0" * 64), replace(asked, champion="0" * 64)):
        with pytest.raises(Refused, match="is not what waits now"):
            registry.promote(place, registry.Approval("kim", "", seen))
    assert registry.champion(place).version == "1"
    assert flywheel("promote", "--approve", "--snapshot", "snapshot-00000000", "--workspace", place.root).code == 4
    assert registry.promote(place, registry.Approval("kim", "", asked)).changed


def test_who_declines_is_not_asked_again(place: Workspace, told: snapshot.Snapshot):
    registry.promote(place)
    done = flywheel("promote", "--decline", "--by", "kim", "--note", "rude", "--json", "--workspace", place.root)
    assert done.code == 0, done.err
    assert not registry.promotion_is_due(place) and registry.open_question(place) is None
    with pytest.raises(Refused, match="kim declined version 2: rude"):
        registry.promote(place)
    assert registry.promote(place, kim("had another look")).changed, "a person may think again"


def test_rollback_brings_back_the_bytes_with_every_server_down_and_mlflow_follows(
    place: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with running(tmp_path / "server") as server:
        monkeypatch.setenv("FLYWHEEL_TRACKING_URI", server.uri)
        before = registry.champion(place)
        bytes_before = {p.name: p.read_bytes() for p in before.folder.iterdir()}
        registry.record(place, snapshot.last(place))
        registry.promote(place, kim())
        server.kill()
        began = time.monotonic()
        done = flywheel("rollback", "--by", "ada", "--note", "wrong language", "--workspace", place.root)
        took = time.monotonic() - began
        assert done.code == 0, done.err
        assert "MLflow's alias follows with the next turn" in done.out and took < 5
        now = registry.champion(place)
        assert now == before and {p.name: p.read_bytes() for p in now.folder.iterdir()} == bytes_before
        assert "who is champion" in as_text(read(place))
        server.start()
        tracking._connected.cache_clear()
        assert alias(place) == "2"
        assert registry.settle(place) == "" and alias(place) == before.version == "1"
        tags = versions(place)[1].tags
        assert (tags["rolled_back"], tags["rolled_back_by"], tags["rolled_back_why"]) == ("true", "ada", "wrong language")
    with pytest.raises(Refused, match="was rolled back"):
        registry.promote(place, kim())
    with pytest.raises(Refused, match="nothing to go back to"):
        registry.rollback(place)


def test_an_alias_moved_in_mlflow_is_taken_over_and_judged_against(place: Workspace, told: snapshot.Snapshot):
    with tracking.asking(place) as client:
        client.set_registered_model_alias(tracking.MODEL, "champion", "2")
    assert registry.settle(place) == "" and registry.champion(place).version == "2"
    assert registry.history(place)[-1].action == MOVED
    registry.rollback(place, "kim")
    assert registry.champion(place).version == "1" == alias(place)


def test_a_rollback_wins_over_the_server_unless_somebody_moved_the_alias_meanwhile(place: Workspace, told: snapshot.Snapshot):
    registry.promote(place, kim())
    registry.rollback(place, "kim", mirrored=False)
    assert alias(place) == "2" and registry.settle(place) == "" and alias(place) == "1"


def test_a_lost_state_folder_is_made_again_from_mlflow(place: Workspace, told: snapshot.Snapshot):
    registry.promote(place, kim())
    champion = registry.champion(place)
    shutil.rmtree(place.state / "registry")
    shutil.rmtree(place.state / "models")
    assert registry.champion(place) == champion and folder_digest(champion.folder) == champion.digest
    assert registry.pending(place)["snapshots"] == [] and not registry.promote(place).changed
    back = registry.rollback(place)
    assert back.version == "1" and registry.champion(place).folder.is_dir()


def test_two_promotions_at_once_have_one_winner(place: Workspace, told: snapshot.Snapshot):
    command = ("promote", "--approve", "--by", "kim", "--json", "--workspace", place.root)
    ended: list = []
    threads = [threading.Thread(target=lambda: ended.append(flywheel(*command))) for _ in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert {e.code for e in ended} <= {0, BUSY}, [e.err for e in ended]
    assert sum(e.document()["changed"] for e in ended if e.code == 0) == 1
    assert sum(e.action == PROMOTED for e in registry.history(place)) == 1
    registry.settle(place)
    assert alias(place) == "2"


KILLED = """
import os, signal, sys
from pathlib import Path
from tasks.live import registry
from tasks.live.registry import journal, mirror
from tasks.live.workspace import Workspace
place, where, when = Workspace(Path(sys.argv[1])), sys.argv[2], sys.argv[3]
module, name = {{"journal": (journal, "add"), "tags": (mirror, "_set"), "durable": (journal, "write_durably")}}[where]
real = getattr(module, name)
def fatal(*a, **k):
    if when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    real(*a, **k)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(module, name, fatal)
registry.{call}
"""


@pytest.mark.parametrize("where", ["journal", "durable", "tags"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("what", ["promote", "rollback"])
def test_killed_between_journal_and_alias_there_is_one_winner_and_the_same_command_gets_there(
    place: Workspace, told: snapshot.Snapshot, where: str, when: str, what: str
):
    call = "promote(place, registry.Approval('kim', ''))"
    if what == "rollback":
        registry.promote(place, kim())
        call = "rollback(place, 'kim')"
    code = KILLED.format(call=call)
    died = subprocess.run([sys.executable, "-c", code, str(place.root), where, when], cwd=ROOT, capture_output=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()[-2000:]
    now = journal.read(place)
    assert now.champion and folder_digest(registry.champion(place).folder) == now.champion
    done = {"promote": PROMOTED, "rollback": ROLLED_BACK}[what]
    if not any(e.action == done for e in now.entries):
        registry.promote(place, kim()) if what == "promote" else registry.rollback(place, "kim")
    assert registry.settle(place) == ""
    assert sum(e.action == done for e in registry.history(place)) == 1
    assert alias(place) == registry.champion(place).version == ("2" if what == "promote" else "1")


def test_history_tells_what_when_why_and_by_whom(place: Workspace, told: snapshot.Snapshot):
    registry.promote(place, kim("read 20 answers"))
    registry.rollback(place, "ada", "wrong language")
    shown = flywheel("history", "--json", "--workspace", place.root).document()
    assert [(e["action"], e["version"], e["by"]) for e in shown] == [
        ("first", "1", "flywheel"), ("promoted", "2", "kim"), ("rolled back", "1", "ada"),
    ]  # fmt: skip
    assert shown[2]["why"] == "wrong language" and shown[1]["replaced"] == shown[2]["digest"]
    text = flywheel("history", "--workspace", place.root).out
    assert "rolled back" in text.splitlines()[1] and "wrong language" in text


def rule(place: Workspace, approval: str) -> None:
    path = place.root / "params.yaml"
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    document["promote"]["approval"] = approval
    path.write_text(yaml.safe_dump(document), encoding="utf-8")


# Trainings that fail


def trains(place: Workspace) -> None:
    from flows.retrain import _watched

    _watched(place, "train")


def test_a_training_that_fails_is_a_failed_run_and_nobody_else_is_touched(place: Workspace, told: snapshot.Snapshot):
    registry.promote(place, kim())
    path = place.root / "params.yaml"
    good = path.read_text(encoding="utf-8")
    path.write_text(good.replace("policy: answers", "policy: nonsense"), encoding="utf-8")
    with pytest.raises(RuntimeError, match="stage train failed"):
        trains(place)
    (run,) = runs(place, "failed training")
    assert run.info.status == "FAILED" and run.data.tags["stage"] == "train"
    assert "stage train failed" in run.data.tags["error"] and run.data.params["train.policy"] == '"nonsense"'
    assert registry.settle(place, failures=True) == "" and len(runs(place, "failed training")) == 1
    assert alias(place) == registry.champion(place).version == "2"
    path.write_text(good, encoding="utf-8")
    trains(place)
    assert (place.data / "model" / "policy.json").is_file() and len(runs(place, "failed training")) == 1


def test_a_training_killed_by_the_system_is_told_when_mlflow_is_back(place: Workspace, told, monkeypatch: pytest.MonkeyPatch):
    """The stage's process dies by SIGKILL, as when memory runs out; then the whole loop does."""
    import psutil

    def kill_the_stage() -> None:
        for _ in range(600):
            for child in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if "tasks.stages.train" in child.cmdline() and "python" in child.name():
                        child.kill()
                        return
            time.sleep(0.02)

    shutil.rmtree(place.data / "model")
    (place.root / "params.yaml").write_text(
        (place.root / "params.yaml").read_text().replace("copies: 4", "copies: 3"), encoding="utf-8"
    )
    monkeypatch.setenv("FLYWHEEL_TRACKING_URI", "http://127.0.0.1:9")
    killer = threading.Thread(target=kill_the_stage)
    killer.start()
    with pytest.raises(RuntimeError, match=r"stage train failed.*exited with (-9|137)"):
        trains(place)
    killer.join()
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom tasks.live import registry\n"
        "from tasks.live.workspace import Workspace\n"
        "with registry.watched(Workspace(Path(sys.argv[1])), 'train'):\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(place.root)], cwd=ROOT, check=False)
    monkeypatch.delenv("FLYWHEEL_TRACKING_URI")
    assert registry.settle(place, failures=True) == ""
    (why, died) = sorted(r.data.tags["error"] for r in runs(place, "failed training"))
    assert re.search(r"exited with (-9|137)", why) and "ended without a word" in died
    assert {r.info.status for r in runs(place, "failed training")} == {"FAILED"}


def test_what_a_training_took_is_part_of_its_record(place: Workspace):
    registry.champion(place)
    (place.root / "params.yaml").write_text(
        (place.root / "params.yaml").read_text().replace("copies: 4", "copies: 3"), encoding="utf-8"
    )
    trains(place)
    made = snapshot.report(place, "training")["digest"]
    tags, points = environment.of_training(place, made)
    values = {name: value for _, name, value in points}
    assert tags["trained"] == "here" and tags["environment.numpy"] and tags["environment.python"]
    assert values["train_cpu_seconds"] > 0 and 0 < values["train_seconds"] < 600 and max(
        v for _, n, v in points if n == "memory_mb"
    ) > 30
    assert "nothing was measured" in environment.of_training(place, "0" * 64)[0]["trained"]


# A disk that refuses


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("cc"), reason="needs Linux and a C compiler")
def test_a_full_disk_promotes_wholly_or_not_at_all(place: Workspace, told: snapshot.Snapshot, tmp_path: Path):
    library = tmp_path / "faulty.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, ROOT / "tests/faulty.c", "-ldl", "-pthread"], check=True)
    under = str(place.state / "registry")
    for n in range(1, 5):
        fault = {"LD_PRELOAD": str(library), "FAULT_AT": str(n), "FAULT_HOW": "-28", "FAULT_UNDER": under}
        done = flywheel("promote", "--approve", "--by", "kim", "--workspace", place.root, **fault)
        now = journal.read(place)
        assert (done.code == 0) == (now.champion != now.champions[0].digest) or n > 2, done.err
        assert folder_digest(registry.champion(place).folder) == now.champion
    assert flywheel("promote", "--approve", "--by", "kim", "--workspace", place.root).code == 0
    assert registry.settle(place) == "" and alias(place) == "2"
    assert sum(e.action == PROMOTED for e in registry.history(place)) == 1
