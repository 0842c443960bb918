"""The loop on servers: PostgreSQL behind Prefect and MLflow, an S3 store for lake, snapshots and artifacts, workers on two hosts.

Each host is a network namespace, which reaches the servers by its wire only; the workspace's folder is shared, as over NFS. One
host is lost in the middle of a turn, and what the other ends in is held against a turn on this machine that nothing disturbed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from demo.annotators import PEOPLE
from demo.company import Company
from demo.knowledge import approved_answers, load_knowledge
from demo.play import response_ids
from tasks.live import alarms, registry, snapshot
from tasks.live.lake import Lake
from tasks.live.repository import COMMITTER
from tasks.live.workspace import Workspace
from tasks.policy import load
from tasks.records import write_jsonl
from tests import servers
from tests.conftest import FLYWHEEL, ROOT, flywheel, git
from tests.mlflow_servers import running
from tests.namespaces import Network, forbidden, network
from tests.stores import KEYS, s3, s3_client, s3_objects

pytestmark = pytest.mark.slow
SESSIONS = 300  # some 400 interactions
STAGE = "build"  # the turn's host is lost once this stage is done


@dataclass
class Servers:
    """What runs where, and the environment that names it to a process of the loop."""

    net: Network
    api: str
    database: servers.Database
    store: str
    environment: dict[str, str]


def required(name: str, why_not: str) -> None:
    if why_not and os.environ.get(name) == "1":
        pytest.fail(why_not)
    if why_not:
        pytest.skip(why_not)


@pytest.fixture(scope="module")
def hosts() -> Iterator[Network]:
    required("FLYWHEEL_REQUIRE_NAMESPACES", forbidden())
    with network(2) as net:
        yield net


@pytest.fixture(scope="module")
def running_servers(hosts: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    required("FLYWHEEL_REQUIRE_POSTGRES", servers.missing())
    folder, host = tmp_path_factory.mktemp("servers"), hosts.address
    with contextlib.ExitStack() as all_of:
        database = all_of.enter_context(servers.postgres(host, ("prefect", "mlflow", "moved")))
        store = all_of.enter_context(s3(folder / "s3.log", "snapshots", host))
        for bucket in ("lake", "artifacts"):
            s3_client(store).create_bucket(Bucket=bucket)
        aws = {**KEYS, "AWS_ENDPOINT_URL": store, "MLFLOW_S3_ENDPOINT_URL": store}
        here = all_of.enter_context(pytest.MonkeyPatch.context())
        for name, value in aws.items():
            here.setenv(name, value)
        mlflow = all_of.enter_context(
            running(folder / "mlflow", host=host, store=database.url("mlflow"), artifacts="s3://artifacts/flywheel")
        )
        api = all_of.enter_context(servers.prefect(folder / "prefect", database.url("prefect", "asyncpg"), host))
        environment = {
            **aws, "PREFECT_API_URL": api, "FLYWHEEL_TRACKING_URI": mlflow.uri, "FLYWHEEL_LAKE": "s3://lake/flywheel",
        }  # fmt: skip
        yield Servers(hosts, api, database, store, environment)


def new_workspace(directory: Path, remote: str | None = None, settings: tuple[str, ...] = ()) -> Workspace:
    """The demo's company in a small world, with one key, so that both workspaces know everybody by the same name."""
    answers = directory.parent / f"{directory.name}.answers.jsonl"
    write_jsonl(answers, approved_answers(load_knowledge()))
    place = snapshot.init(directory, ROOT, answers, remote, True, settings)
    write_jsonl(place.data / "annotators.jsonl", PEOPLE)
    (place.state / "pseudonym.key").write_text("of this test", encoding="ascii")
    params = place.root / "params.yaml"
    text = params.read_text(encoding="utf-8").replace("approval: first", "approval: never")
    params.write_text(text.replace("budget: 300 ", "budget: 160 "), encoding="utf-8")
    git(place.root, "add", "params.yaml")
    git(place.root, *COMMITTER, "commit", "--quiet", "-m", "a small world in which nobody waits for a person")
    return place


@pytest.fixture(scope="module")
def undisturbed(running_servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A week and a turn on this machine, with everything in the workspace's folder."""
    place = new_workspace(tmp_path_factory.mktemp("here") / "work")
    company = Company(place.root, place.state, 1)
    champion = registry.champion(place)
    company.serve(0, SESSIONS, load(champion.folder), champion.version)
    turned = flywheel("turn", "--workspace", place.root, PREFECT_API_URL=running_servers.api)
    assert turned.code == 0, turned.err[-3000:]
    (batch,) = Lake(place.lake).query("SELECT DISTINCT batch_id FROM asks")["batch_id"].to_pylist()
    company.annotate(place.outbox / batch, response_ids(place, batch))
    turned = flywheel("turn", "--workspace", place.root, PREFECT_API_URL=running_servers.api)
    assert turned.code in (0, 4), turned.err[-3000:]
    return place


def wait_for(what: Callable[[], Any], said: str, seconds: float = 1200) -> Any:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := what():
            return found
        time.sleep(0.25)
    raise AssertionError(f"{said} did not come about in {seconds:.0f} s")


def post(api: str, path: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{api}/{path}", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def begin(api: str) -> str:
    """Order a turn, from whichever worker is there; its flow run's id."""
    deployment = post(api, "deployments/name/turn/flywheel")["id"]
    return post(api, f"deployments/{deployment}/create_flow_run", {"state": {"type": "SCHEDULED"}})["id"]


def state(api: str, run: str) -> str:
    return post(api, f"flow_runs/{run}")["state"]["type"]


def ended(api: str, run: str, logs: Path) -> None:
    got = wait_for(
        lambda: (s := state(api, run)) in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") and s, "the turn's end"
    )
    said = post(api, f"flow_runs/{run}")["state"]
    assert got == "COMPLETED" and said["name"] == "Completed", (
        said,
        [p.read_text()[-3000:] for p in logs.glob("worker*")],
    )


def host_of(net: Network, run: str) -> int:
    """Which host runs a flow run: there is a process for it."""

    def found() -> tuple[int] | None:
        for n in range(len(net.hosts)):
            if any("prefect" in line and "worker" not in line for line in net.commands(n).values()):
                return (n,)
        return None

    return wait_for(found, f"a process of flow run {run}")[0]


def rows(place: Workspace) -> dict[str, list]:
    """Every row of every table, without when it came and in which segment it lies.

    Read by a process of its own, which is inside the network as a whole: Delta's client keeps threads, and those that another
    module of tests made in this process are outside.
    """
    read = f"""
import orjson, sys
from tasks.live.lake import TABLES, Lake
clock = "('raw_segment', 'raw_line', 'received', 'due', 'ts')"
query = f"SELECT COLUMNS(c -> c NOT IN {{clock}}) FROM {{{{}}}} ORDER BY ALL"
found = {{table: Lake({str(place.lake)!r}).query(query.format(table)).to_pylist() for table in TABLES}}
sys.stdout.buffer.write(orjson.dumps(found))
"""
    return json.loads(subprocess.run([sys.executable, "-c", read], cwd=ROOT, check=True, capture_output=True).stdout)


def test_a_turn_whose_host_is_lost_is_taken_up_by_the_other_and_ends_as_if_nothing_had_been(
    running_servers: Servers, undisturbed: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    net, api, environment = running_servers.net, running_servers.api, running_servers.environment
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    place = new_workspace(tmp_path / "work", "s3://snapshots/flywheel", (f"endpointurl={running_servers.store}",))
    shutil.copytree(undisturbed.inbox, place.inbox, dirs_exist_ok=True)
    deployed = flywheel("deploy", "--workspace", place.root)
    assert deployed.code == 0, deployed.err
    assert flywheel("pause", "--workspace", place.root).code == 0  # nothing but what this test orders
    for n in range(2):
        command = [FLYWHEEL.parent / "prefect", *f"worker start --pool flywheel --type process --name host-{n}".split()]
        net.start(
            n, command, tmp_path / f"worker-{n}", PREFECT_HOME=str(tmp_path / f"home-{n}"), PYTHONPATH=str(ROOT),
            FLYWHEEL_WORKSPACE=str(place.root), PREFECT_WORKER_QUERY_SECONDS="1",
        )  # fmt: skip
    ended(api, begin(api), tmp_path)
    assert not (place.data / "lake").exists() and s3_objects(running_servers.store, "lake")
    before = rows(place)
    assert before["asks"] and not before["annotations"]

    shutil.copytree(undisturbed.answers, place.answers, dirs_exist_ok=True)
    lost = begin(api)
    host = host_of(net, lost)
    wait_for((place.reports / "build.json").is_file, f"the end of stage {STAGE}")
    assert net.lose(host) >= 3, "a worker, its flow run, and the stage at which it was"
    assert git(place.root, "tag", "--list", "snapshot-*") == "", "it was lost in the middle"
    assert net.commands(1 - host), "the other host goes on"

    assert state(api, lost) == "RUNNING", "nobody is left who could say that it died"
    wait_for(lambda: state(api, lost) == "CRASHED", "what the server makes of missing heartbeats")
    told = wait_for(lambda: alarms.read(place), "the alarm, told by the other host's worker")
    assert "crashed" in told[-1]["subject"] and "no heartbeat" in told[-1]["text"]
    ended(api, begin(api), tmp_path)

    stored = rows(place)
    tags = git(place.root, "tag", "--list", "snapshot-*")
    with without(monkeypatch, environment):
        assert stored == rows(undisturbed), "nothing lost, nothing doubled"  # a lake that the environment does not name
        assert tags and tags == git(undisturbed.root, "tag", "--list", "snapshot-*")
        there = [(v["snapshot"], v["decision"], v["aliases"]) for v in registry.versions(undisturbed)]
        champion_there = registry.champion(undisturbed).digest
    assert (place.root / "dvc.lock").read_bytes() == (undisturbed.root / "dvc.lock").read_bytes()
    assert [(v["snapshot"], v["decision"], v["aliases"]) for v in registry.versions(place)] == there
    assert registry.champion(place).digest == champion_there
    held_by_postgres = running_servers.database.rows("mlflow", "SELECT version FROM model_versions")
    assert len(held_by_postgres) == len(there), "one version a snapshot, however often recording was tried"
    assert s3_objects(running_servers.store, "artifacts") and not list((place.state).glob("mlflow.db"))
    runs = dict(running_servers.database.rows("prefect", "SELECT id::text, state_type::text FROM flow_run"))
    assert runs[lost] == "CRASHED" and list(runs.values()).count("COMPLETED") >= 2, "history is in PostgreSQL"

    # And all of it can be had by a third machine that has git and the store.
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", str(place.root), str(clone))
    subprocess.run(
        [FLYWHEEL.parent / "dvc", "pull", "--quiet"], cwd=clone, check=True, timeout=600, capture_output=True
    )
    assert (clone / "data" / "dataset").is_dir()


@contextlib.contextmanager
def without(monkeypatch: pytest.MonkeyPatch, names: dict[str, str]) -> Iterator[None]:
    with monkeypatch.context() as bare:
        for name in names:
            bare.delenv(name, raising=False)
        yield


def test_mlflow_s_history_moves_from_the_embedded_database_as_the_docs_say(
    running_servers: Servers, undisturbed: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    page = (ROOT / "docs" / "servers.md").read_text(encoding="utf-8")
    block = re.search(r"^( +)```python\n(.*?)^ +```", page, re.DOTALL | re.MULTILINE)
    (tmp_path / "move.py").write_text(textwrap.dedent(block.group(2)), encoding="utf-8")
    url = running_servers.database.url("moved")
    copied = [tmp_path / "move.py", f"sqlite:///{undisturbed.state}/mlflow.db", url]
    for command in (["-m", "mlflow", "db", "upgrade", url], copied):
        subprocess.run([sys.executable, *command], check=True, capture_output=True, text=True)
    before = registry.versions(undisturbed)
    monkeypatch.setenv("FLYWHEEL_TRACKING_URI", url)
    assert registry.versions(undisturbed) == before != []
    assert registry.settle(undisturbed) == "", "and the next turn finds nothing to mend"
    assert len(running_servers.database.rows("moved", "SELECT * FROM model_versions")) == len(before)
