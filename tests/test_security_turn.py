"""A whole turn over data that means harm (tests/hostile.py), and verbs that work and fail, with canaries for secrets: whom it tried
to reach, what it wrote, who may read it, what came back, and what was shown.

A library stands between the processes and the system (dialled.c) and writes down each attempt to reach anything.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tasks.errors import USAGE
from tasks.live.lake import Lake
from tasks.live.workspace import Workspace
from tests.conftest import FLYWHEEL
from tests.hostile import CODE, OUTSIDE, PATHS, TOKEN_NAME, URLS, question
from tests.imports import ROOT
from tests.test_privacy import found_in

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux" or not shutil.which("cc"), reason="needs Linux and a C compiler"),
]
CANARY = "canary-7Qz4"
NAMES = (
    "FLYWHEEL_TOKEN", TOKEN_NAME, "FLYWHEEL_JUDGE_KEY", "FLYWHEEL_PROVIDER_KEY", "FLYWHEEL_LABELSTUDIO_TOKEN",
    "FLYWHEEL_PSEUDONYM_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID", "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN", "HF_TOKEN", "OPENAI_API_KEY", "PREFECT_API_KEY",
)  # fmt: skip
SECRETS = {named: f"{CANARY}-{n:02d}-{named.lower()}" for n, named in enumerate(NAMES)}
IN_ADDRESSES = {
    "FLYWHEEL_SMTP": f"smtp://fly:{CANARY}-smtp@127.0.0.1:9",
    "FLYWHEEL_ALARM_WEBHOOK": f"http://127.0.0.1:9/services/{CANARY}-hook",
    "FLYWHEEL_ALARM_EMAIL": "ops@example.org",
}


@dataclass(frozen=True)
class Harmed:
    """What the turn left in its world `root`; `said` is all that it printed, `dialled` whom it tried to reach."""

    root: Path
    said: str
    dialled: list[str]
    told: dict[str, Any]

    @property
    def place(self) -> Workspace:
        return Workspace(self.root / "work")

    def environment(self, **more: str) -> dict[str, str]:
        return os.environ | SECRETS | IN_ADDRESSES | {"HOME": str(self.root / "home"), "TMPDIR": str(self.root / "tmp")} | more


@pytest.fixture(scope="module")
def harmed(tmp_path_factory: pytest.TempPathFactory) -> Harmed:
    root = tmp_path_factory.mktemp("harmed")
    guard = root / "dialled.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", guard, ROOT / "tests" / "dialled.c", "-ldl"], check=True)
    for folder in ("home", "tmp"):
        (root / folder).mkdir(mode=0o700)
    shown = Harmed(root, "", [], {})
    environment = shown.environment(
        LD_PRELOAD=str(guard), DIALLED=str(root / "dialled"), DIALLED_ALLOW=socket.gethostname(), PYTHONPATH=str(ROOT)
    )
    for set_by_tests in ("PREFECT_API_URL", "FLYWHEEL_TRACKING_URI", "FLYWHEEL_WORKSPACE"):
        environment.pop(set_by_tests, None)
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile", str(root)], cwd=ROOT, env=environment, umask=0o022, capture_output=True, text=True,
        timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    dialled = root / "dialled"
    return Harmed(
        root, done.stdout + done.stderr, dialled.read_text().splitlines() if dialled.is_file() else [],
        json.loads((root / "told.json").read_text(encoding="utf-8")),
    )  # fmt: skip


def test_the_turn_did_everything(harmed: Harmed):
    """Else the tests below would look at nothing."""
    told = harmed.told
    assert told["captured"]["stored"] >= 100 and told["mined"] and told["received"]["stored"] > 40 and told["served"] == 12
    assert told["tag"].startswith("snapshot-") and {"openai-sft", "openai-dpo", "promptfoo", "inspect"} <= set(told["exported"])


def test_no_address_in_logs_answers_or_questions_is_ever_dialled(harmed: Harmed):
    assert harmed.dialled == []


def test_what_dials_would_have_been_seen(harmed: Harmed, tmp_path: Path):
    code = "import socket, urllib.request\ntry: urllib.request.urlopen('http://169.254.169.254/')\nexcept OSError: pass\n"
    code += "try: socket.create_connection(('127.0.0.1', 9))\nexcept OSError: pass"
    seen = tmp_path / "seen"
    environment = os.environ | {"LD_PRELOAD": str(harmed.root / "dialled.so"), "DIALLED": str(seen), "DIALLED_ALLOW": "127.0.0.10"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert {"169.254.169.254", "127.0.0.1"} <= {line.split()[1] for line in seen.read_text().splitlines()}


def test_no_name_leads_out_of_its_folder(harmed: Harmed):
    """Not an id, a session, a tag, a model, a person, a batch or a file: nothing is written under any of them, or executed."""
    ours = {"work", "backup", "home", "tmp", "outside", "approved.jsonl", "told.json", "dialled.so", "dialled"}
    assert {p.name for p in harmed.root.iterdir()} <= ours
    assert list((harmed.root / "home").rglob("*")) == list((harmed.root / "tmp").rglob("*")) == []
    theirs = {harmed.place.inbox, harmed.place.answers}  # the files there have such names themselves
    named = [p for p in harmed.root.rglob("*") if re.search(r"escaped|PWNED", p.name)]
    assert {p.parent for p in named} == theirs and not Path("/tmp/escaped").exists() and not (ROOT / "PWNED").exists()


def test_what_a_link_leads_to_is_neither_read_nor_cut(harmed: Harmed):
    outside = harmed.root / "outside" / "log.jsonl"
    assert outside.read_bytes().endswith(b'{"half') and [p.name for p in outside.parent.iterdir()] == ["log.jsonl"]
    copies = [harmed.place.root / "tests"]  # the project's own tests, which a workspace is a clone of
    assert found_in(harmed.place.root, [OUTSIDE.encode()], but=tuple(copies)) == {}


def open_to_others(root: Path) -> list[str]:
    """Files and folders that somebody else of this machine could read or change.

    DVC makes the objects of its cache and of a remote in a folder read-only for everybody (0444), and can't be told otherwise;
    they lie in folders that nobody else may enter.
    """
    found = []
    for path in (root, *root.rglob("*")):
        mode = path.lstat().st_mode & 0o777
        if path.is_symlink() or not mode & 0o077:
            continue
        objects = re.search(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}(?:\.dir)?$", path.as_posix())
        if not (objects and mode == 0o444):
            found.append(f"{path.relative_to(root)} {mode:o}")
    return found


def test_all_that_a_turn_writes_is_for_its_owner_alone(harmed: Harmed):
    for folder in ("work", "backup", "home", "tmp"):
        assert open_to_others(harmed.root / folder) == [], folder


def test_all_that_the_demo_wrote_is_for_its_owner_alone(played: Any):
    """With training, Prefect's and MLflow's databases, models and reports."""
    # What git wrote for another test that looked into the same workspace has that test's own umask.
    assert [p for p in open_to_others(played.workspace) if not p.startswith(".git/index ")] == []


def test_every_text_comes_back_as_it_was_said(harmed: Harmed):
    """SQL, shell, templates, markup and formulas are text: in the lake, before people, in what was frozen, in what trains."""
    harmless = {k: question(k) for k in range(64) if k % (len(CODE) + len(URLS)) < len(CODE)}
    lake = Lake(harmed.place.lake)
    stored = set(lake.query("SELECT question FROM interactions")["question"].to_pylist())
    assert len(harmless) > 35 and set(harmless.values()) <= stored
    (batch,) = [p for p in harmed.place.outbox.iterdir() if p.is_dir()]
    asked = {json.loads(line)["question"] for line in (batch / "batch.jsonl").read_bytes().splitlines()}
    assert len(asked) > 15 and asked <= stored
    frozen = set(parquet_column(harmed.place.frozen / "exchanges", "question"))
    assert frozen and frozen <= stored
    notes = set(lake.query("SELECT note FROM annotations")["note"].to_pylist())
    assert {f"{CODE[n]} {URLS[n % 12]}" for n in (0, 6, 9, 14)} & notes
    trained = (harmed.place.root / "data/dataset").rglob("*.jsonl")
    texts = " ".join(json.dumps(json.loads(line), ensure_ascii=False) for p in trained for line in p.read_bytes().splitlines())
    assert any(json.dumps(q, ensure_ascii=False)[1:-1] in texts for q in asked)


def parquet_column(folder: Path, column: str) -> list[Any]:
    return [v for p in sorted(folder.rglob("*.parquet")) for v in pq.read_table(p, columns=[column])[column].to_pylist()]


def test_a_forged_answer_names_nothing_that_exists(harmed: Harmed):
    received = harmed.told["received"]
    assert received["rejected"] == 6 * len(PATHS + CODE)
    assert {"unknown_annotator", "unknown_candidate", "not_asked", "bad_time"} == set(received["reasons"])
    people = set(Lake(harmed.place.lake).query("SELECT annotator FROM annotations")["annotator"].to_pylist())
    assert people == {"ana", "ben"}


def test_sheets_that_were_written_hold_no_formula(harmed: Harmed):
    sheets = list(harmed.place.outbox.rglob("*.csv"))
    assert sheets
    for path in sheets:
        for row in csv.reader(path.read_text(encoding="utf-8-sig").splitlines()):
            assert not [cell for cell in row if re.match(r"[\s\u200b]*[=+@\-\uff1d]", cell)], path
    reports = [p for folder in ("data/reports", "data/dataset") for p in (harmed.place.root / folder).rglob("*.csv")]
    for path in reports:
        assert not re.search(r"(?m)(?:^|,)\"?[=+@]", path.read_text(encoding="utf-8")), path


# Nobody reads a secret


VERBS: dict[str, tuple[list[str], dict[str, str]]] = {
    "status": (["status", "--json"], {}),
    "status beside other servers": (["status"], {"PREFECT_API_URL": f"http://fly:{CANARY}-prefect@127.0.0.1:9/api"}),
    "label": (["label", "--json"], {}),
    "quarantine": (["quarantine", "list", "--json"], {}),
    "an unknown option": (["capture", f"--{CANARY}-01-option"], {}),
    "a server that is down": (["capture", "--mlflow", f"http://fly:{CANARY}-mlflow@127.0.0.1:9"], {}),
    "mlflow is down": (["history", "--json"], {"FLYWHEEL_TRACKING_URI": f"http://fly:{CANARY}-mlflow@127.0.0.1:9"}),
    "promote while mlflow is down": (["promote"], {"FLYWHEEL_TRACKING_URI": f"http://fly:{CANARY}-mlflow@127.0.0.1:9"}),
    "a database that is none": (["promote"], {"FLYWHEEL_TRACKING_URI": f"postgresql://fly:{CANARY}-sql@127.0.0.1:9/mlflow"}),
    "a tool that is down": (["send"], {"FLYWHEEL_LABELSTUDIO_URL": "http://127.0.0.1:9"}),
    "a judge that is down": (["mine", "--json"], {"FLYWHEEL_JUDGE_URL": "http://127.0.0.1:9/v1"}),
    "a judge with a password": (["mine"], {"FLYWHEEL_JUDGE_URL": f"http://fly:{CANARY}-judge@127.0.0.1:9/v1"}),
    "an open door": (["listen", "--host", "0.0.0.0"], {"FLYWHEEL_TOKEN": ""}),
    "a remote with a password": (["init", "new", "--remote", f"ssh://fly:{CANARY}-ssh@127.0.0.1/x"], {}),
    "a remote with a key": (["init", "new", "--remote", "r", "--remote-setting", f"access_key_id={CANARY}-key"], {}),
}
GIVEN = {"an unknown option"}  # who types it in sees it again; it comes from no environment


def test_no_verb_shows_a_secret_whether_it_works_or_fails(harmed: Harmed, tmp_path: Path):
    """Keys, tokens and passwords of the environment and of addresses: not on the screen, in a document, a log, a report, a
    database or a note of any kind."""
    place = tmp_path / "copy"
    shutil.copytree(harmed.place.root, place, symlinks=True)

    def ran(verb: str) -> tuple[str, int, str]:
        arguments, more = VERBS[verb]
        environment = harmed.environment(FLYWHEEL_WORKSPACE=str(place), **more)
        for set_by_tests in {"PREFECT_API_URL", "FLYWHEEL_TRACKING_URI"} - set(more):
            environment.pop(set_by_tests, None)
        done = subprocess.run(
            [FLYWHEEL, *arguments], cwd=tmp_path, env=environment | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
            timeout=300, check=False,
        )  # fmt: skip
        return verb, done.returncode, done.stdout + done.stderr

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(ran, VERBS))
    shown = {verb: said for verb, _, said in results}
    assert {verb: said for verb, said in shown.items() if CANARY in said and verb not in GIVEN} == {}
    codes = {verb: code for verb, code, _ in results}
    assert codes["status"] == codes["label"] == codes["quarantine"] == 0, shown
    for refused in ("an unknown option", "an open door", "a remote with a password", "a remote with a key"):
        assert codes[refused] == USAGE and "fix:" in shown[refused], (refused, codes[refused], shown[refused][-500:])
    assert codes["a server that is down"] != 0 and "does not answer" in shown["a server that is down"]
    # Not in what they wrote, either, nor in what the turn itself had written and said.
    assert CANARY not in harmed.said
    sources = (place / "tests", harmed.place.root / "tests")
    assert found_in(place, [CANARY.encode()], but=sources) == found_in(harmed.root, [CANARY.encode()], but=sources) == {}
