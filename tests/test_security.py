"""The classes of real vulnerabilities of this field's tools, each with a test: what data may never do to the machine, and what
nobody may ever read.

Where a class has a module of its own (personal data: test_privacy.py; erasure; poisoning: test_hygiene_poison.py; bombs:
test_sources.py; what a page shows: test_dossier.py, test_validate_page.py, test_review_browser.py; the review page's sessions:
test_review.py), it is not repeated here. A whole turn over data that means harm is in test_security_turn.py.
"""

from __future__ import annotations

import ast
import json
import re
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import yaml
from starlette.testclient import TestClient

from flows import capture_cli, review_cli, serve_cli
from tasks.live import receiver, spool
from tasks.live.handoff.sheet import guarded, unguarded
from tasks.live.masked import MASK, masked
from tasks.live.report import app as report_app
from tasks.live.services.table import HOST, PORTS, table
from tasks.live.serving import app as serving
from tests.handmade import traces, workspace
from tests.imports import ROOT

FOLDERS = ("flows", "tasks", "expectations", "demo", "benchmarks", "trainer", "data")
PROGRAMS = sorted(p for folder in FOLDERS for p in (ROOT / folder).rglob("*.py"))
name = {p: p.relative_to(ROOT).as_posix() for p in PROGRAMS}.__getitem__


# What could run code that stands in data


FORBIDDEN_MODULES = {
    "pickle", "cPickle", "joblib", "cloudpickle", "dill", "shelve", "marshal", "tarfile", "pty", "code", "codeop", "xmlrpc",
}  # fmt: skip
FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "os.execvp", "os.spawnl", "torch.load", "yaml.load",
    "yaml.unsafe_load", "yaml.full_load", "subprocess.getoutput", "subprocess.getstatusoutput", "asyncio.create_subprocess_shell",
    "tempfile.mktemp",
}  # fmt: skip
FORBIDDEN_METHODS = {"extractall", "extract", "unpack_archive", "read_pickle", "to_pickle"}
STARTERS = {"subprocess.run", "subprocess.Popen", "subprocess.call", "subprocess.check_call", "subprocess.check_output"}
UNSAFE_ARGUMENTS = {"shell": True, "allow_pickle": True, "trust_remote_code": True, "weights_only": False, "verify": False}


def dangers(source: str) -> list[str]:
    """What in a program could run code out of data, or hand data to a shell."""
    tree = ast.parse(source)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [f"{node.lineno}: import {m}" for m in modules if m.split(".")[0] in FORBIDDEN_MODULES]
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called in FORBIDDEN_CALLS or called.split(".")[-1] in FORBIDDEN_METHODS:
            found.append(f"{node.lineno}: {called}()")
        for keyword in node.keywords:
            value = getattr(keyword.value, "value", True)  # what is no constant could be anything
            if keyword.arg in UNSAFE_ARGUMENTS and bool(value) == UNSAFE_ARGUMENTS[keyword.arg]:
                found.append(f"{node.lineno}: {keyword.arg}={value}")
        if called in STARTERS and not isinstance(node.args[0] if node.args else None, ast.List | ast.Name | ast.Attribute):
            found.append(f"{node.lineno}: {called} of a text")
    return found


@pytest.mark.parametrize("path", PROGRAMS, ids=name)
def test_no_program_runs_what_stands_in_data(path: Path):
    assert dangers(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "line",
    [
        "import joblib", "from pickle import loads", "import tarfile", "torch.load(p)", "yaml.load(text)", "yaml.unsafe_load(t)",
        "archive.extractall(to)", "shutil.unpack_archive(p)", "os.system(f'rm {x}')", "subprocess.run(f'git {x}')", "eval(x)",
        "subprocess.run('git pull')", "subprocess.run(c, shell=True)", "subprocess.run(c, shell=s)", 
        "np.load(p, allow_pickle=True)", "AutoModel.from_pretrained(x, trust_remote_code=True)", "httpx.get(u, verify=False)",
        "pd.read_pickle(p)", "torch.load(p, weights_only=False)", "subprocess.Popen(' '.join(c))",
    ],
)  # fmt: skip
def test_the_look_sees_each_danger(line: str):
    assert dangers(line)


def test_no_stage_of_dvc_is_started_with_text_from_elsewhere():
    """DVC hands `cmd` to a shell: it holds names of our own files and nothing that is put in later."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    for stage, said in stages.items():
        assert re.fullmatch(r"python -m tasks\.stages\.[a-z]+(?: --[a-z-]+ [a-z][a-zA-Z0-9_./-]*)+\s*", said["cmd"]), stage
        assert not {"foreach", "matrix", "vars"} & set(said), stage


# What is compared with a secret


SECRET_WORD = re.compile(r"(?:^|_)(?:token|token_sha256|signature|password|secret|authorization|api_key)$")


def compared(source: str) -> list[str]:
    """Places where something that is a secret by its name is compared letter by letter."""
    found = []
    for node in ast.walk(ast.parse(source)) if re.search(r"(?i)token|signature|password|secret|authoriz|api_key", source) else ():
        if not isinstance(node, ast.Compare) or not isinstance(node.ops[0], ast.Eq | ast.NotEq | ast.In | ast.NotIn):
            continue
        parts = [node.left, *node.comparators]
        parts += [v for p in parts if isinstance(p, ast.JoinedStr | ast.List | ast.Tuple | ast.Set) for v in ast.walk(p)]
        names = [p.attr if isinstance(p, ast.Attribute) else p.id for p in parts if isinstance(p, ast.Attribute | ast.Name)]
        if any(SECRET_WORD.search(n) for n in names):
            found.append(f"{node.lineno}: {ast.unparse(node)}")
    return found


def test_a_secret_is_compared_in_constant_time_wherever_one_is():
    live = {name(p): p.read_text(encoding="utf-8") for p in PROGRAMS if name(p).startswith(("tasks/live/", "flows/"))}
    assert {p: c for p, source in live.items() if (c := compared(source))} == {}
    doors = {p: source for p, source in live.items() if 'headers.get("authorization"' in source}
    assert len(doors) >= 2  # the receiver and the champion
    assert [p for p, source in doors.items() if "hmac.compare_digest" not in source] == []


@pytest.mark.parametrize("line", ["token == given", "if self.token != x: pass", "header in [f'Bearer {token}']"])
def test_the_look_sees_a_comparison_that_tells_how_far_it_came(line: str):
    assert compared(line)


# Who can reach a server


@pytest.mark.parametrize("verb", [capture_cli.listen, review_cli.review, serve_cli.serve])
def test_a_server_is_for_this_machine_unless_somebody_says_otherwise(verb: Any):
    assert signature(verb).parameters["host"].default == "127.0.0.1"


def test_the_report_is_for_this_machine_whatever_is_said():
    """It shows what users wrote, to whoever asks: so it has no option to listen for others."""
    assert report_app.HOST == "127.0.0.1" and "host" not in signature(report_app.serve).parameters


def test_what_up_starts_listens_on_this_machine_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for known in ("PREFECT_API_URL", "FLYWHEEL_TRACKING_URI"):
        monkeypatch.delenv(known, raising=False)
    services = table(workspace(tmp_path / "w"), {n: 40_000 + k for k, n in enumerate(PORTS)})
    assert {s.name for s in services} >= set(PORTS) and HOST == "127.0.0.1"
    for service in services:
        said = " ".join([*service.command, *service.environment.values()])
        assert not re.search(r"0\.0\.0\.0|\[::\]|--allow-host|--allowed-hosts", said), service.name
        assert service.url.startswith("http://127.0.0.1:") and service.health.startswith("http://127.0.0.1:"), service.name
        hosts = [service.command[k + 1] for k, a in enumerate(service.command) if a == "--host"]
        assert set(hosts) <= {HOST}
    # Those that are not ours listen where they are told to; ours do by themselves (above).
    told = {s.name for s in services if "--host" in s.command or "PREFECT_SERVER_API_HOST" in s.environment}
    assert told == {"mlflow", "prefect"}


TOKEN = "canary-of-the-door"
HEALTHY = ("/health", "/healthz")


def called(door: str, folder: Path, **headers: str) -> TestClient:
    """Somebody who calls a server of ours, which was not begun: whom it turns away it needs nothing for."""
    made = {"receiver": receiver.application, "champion": serving.application}[door]
    return TestClient(made(workspace(folder / "w"), TOKEN), base_url="http://127.0.0.1", headers=headers)


@pytest.mark.parametrize("door", ["receiver", "champion"])
@pytest.mark.parametrize(
    "path",
    [
        "/v1/traces/health", "/v1/traces/healthz", "/v1/traces?x=/health", "/v1/traces;/health", "/v1/traces/../health/v1/traces",
        "/v1/chat/completions/health", "/v1/chat/completions?/healthz", "/health/v1/traces", "/healthz/../v1/feedback",
        "//v1/traces", "/v1/feedback/ready", "/HEALTH", "/v1/models/healthz", "/hooks/answers/health",
    ],
)  # fmt: skip
def test_only_health_itself_needs_no_token(tmp_path: Path, door: str, path: str):
    """Prefect let in whatever ended in 'health' (CVE-2026-3514)."""
    client = called(door, tmp_path)
    for answer in (client.post(path, json=traces()), client.get(path)):
        assert answer.status_code in (401, 404, 405) or answer.request.url.path in HEALTHY, (answer.status_code, path)


@pytest.mark.parametrize(
    "given", ["", TOKEN, f"bearer {TOKEN}", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x", "Bearer ", f"Basic {TOKEN}"]
)
@pytest.mark.parametrize("door", ["receiver", "champion"])
def test_a_token_that_is_nearly_right_is_wrong(tmp_path: Path, door: str, given: str):
    path = {"receiver": "/v1/traces", "champion": "/v1/chat/completions"}[door]
    answer = called(door, tmp_path, authorization=given).post(path, json=traces())
    assert answer.status_code == 401 and TOKEN not in answer.text


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "[::1].evil.example", "0", "a.b:80"]
)
@pytest.mark.parametrize("door", ["receiver", "champion"])
def test_who_calls_by_another_name_gets_nothing_even_with_the_token(tmp_path: Path, door: str, host: str):
    client = called(door, tmp_path, authorization=f"Bearer {TOKEN}", host=host)
    for path in ("/v1/traces", "/v1/chat/completions", "/v1/feedback"):
        assert client.post(path, json=traces()).status_code in (403, 404)
    assert {client.get(path).status_code for path in HEALTHY} == {403, 404}


# What is installed


INSTALLERS = ("Makefile", ".ci/run", "tests/install_chromium.sh")
WITHOUT_HASHES = {
    # What is installed without a hash, and why that is right.
    "pip install --quiet --no-deps --no-build-isolation --editable .": "the project itself, from this folder; it brings nothing",
    "npm ci": "the lock has the SHA-512 of each package",
    "npm install --package-lock-only": "`make lock` resolves; nothing is installed",
    "apt-get install -y -qq --no-install-recommends chromium": "packages that the distribution signs",
}
LOCKS = sorted(ROOT.glob("requirements*.lock"))


INSTALLS = re.compile(r"\b(?:pip|npm|apt-get|uv|conda)\b[^|]*\b(?:install|ci|sync|add)\b")


def installs(text: str) -> list[str]:
    """The commands that install something, with their continued lines put together; no comments and no messages."""
    lines = [line for line in text.replace("\\\n", " ").splitlines() if not line.lstrip().startswith("#")]
    parts = [" ".join(part.split()) for line in lines for part in re.split(r"&&|\|\||;|\bthen\b", line)]
    return [p for p in parts if INSTALLS.search(p) and not p.startswith(("why=", "echo "))]


def test_all_that_is_installed_is_held_to_its_hash_or_named_here():
    found = {path: installs((ROOT / path).read_text(encoding="utf-8")) for path in INSTALLERS}
    assert len(found["Makefile"]) > 8
    loose = [c for commands in found.values() for c in commands if "--require-hashes" not in c]
    unknown = [c for c in loose if not any(known in c for known in WITHOUT_HASHES)]
    assert unknown == []
    assert not re.search(r"curl|wget", "".join((ROOT / p).read_text(encoding="utf-8") for p in INSTALLERS))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda p: p.name)
def test_each_package_of_a_lock_has_one_version_and_its_hashes_and_no_registry(lock: Path):
    text = lock.read_text(encoding="utf-8")
    assert not re.search(r"--(?:extra-)?index-url|--find-links|--trusted-host|https?://|@ (?:git|file)", text)
    stated = re.compile(r"[A-Za-z0-9._-]+(?:\[[^]]*\])?==[^ ]+(?: ; [^\\]+?)?(?: +--hash=sha256:[0-9a-f]{64})+ *")
    packages = [line for line in text.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")]
    assert packages
    for package in packages:
        assert stated.fullmatch(package), package


def test_each_package_of_npm_has_its_hash_and_no_registry():
    lock = json.loads((ROOT / "tests" / "promptfoo" / "package-lock.json").read_text(encoding="utf-8"))
    for package, said in lock["packages"].items():
        if package and not said.get("link"):
            assert said.get("integrity", "").startswith("sha512-"), package
            assert "resolved" not in said, package


def test_steps_of_ci_that_others_wrote_are_pinned_by_their_commit():
    """LiteLLM's releases were poisoned by way of a scanner that its CI took by a movable tag."""
    flows = [p for folder in (".github", ".gitlab", ".ci") for p in (ROOT / folder).rglob("*") if p.is_file()]
    uses = [u for p in flows for u in re.findall(r"uses:\s*(\S+)", p.read_text(encoding="utf-8"))]
    assert [u for u in uses if not u.startswith("./") and not re.search(r"@[0-9a-f]{40}$", u)] == []


# What is shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://fly:hunter22@db/mlflow is down", f"postgresql://{MASK}@db/mlflow is down"),
        ("the key sk-canary-0123 is wrong", f"the key {MASK} is wrong"),
        ("smtp password p@ss/word!", f"smtp password {MASK}"),
        ("as p%40ss%2Fword! too", f"as {MASK} too"),
        ("http://127.0.0.1:5000/health and a@b.example", "http://127.0.0.1:5000/health and a@b.example"),
        ("posted to https://hooks.example/T0/B0/canary", f"posted to {MASK}"),
        ("a short pin: 1234", "a short pin: 1234"),
    ],
)
def test_a_text_is_shown_without_the_secrets_of_the_environment(text: str, shown: str):
    environment = {
        "FLYWHEEL_JUDGE_KEY": "sk-canary-0123", "FLYWHEEL_SMTP": "smtp://fly:p%40ss%2Fword!@mail.example:587", "A_TOKEN": "1234",
        "FLYWHEEL_ALARM_WEBHOOK": "https://hooks.example/T0/B0/canary", "HOME": "/home/fly", "MONKEY": "a short",
    }  # fmt: skip
    assert masked(text, environment) == shown


FORMULAS = ("=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(1)", "\t=1", "\r=1", "\n=1", "\u200b=1", "\uff1d1", "'=1", '"=1', "-")


@pytest.mark.parametrize("cell", FORMULAS)
def test_no_cell_is_a_formula_and_each_comes_back_as_it_was(cell: str):
    assert guarded(cell).startswith("'") and unguarded(guarded(cell)) == cell


def test_pages_are_made_in_one_way_which_makes_no_markup_of_a_value():
    """Whoever writes HTML does it through tasks/page.py (each has its corpus: test_dossier.py, test_report.py,
    test_validate_page.py); the review page and Label Studio's configuration have theirs (test_review_browser.py,
    test_labelstudio_config.py)."""
    markup = re.compile(r"<(?:html|div|span|p|td|script|a|img|b|h[1-6])\b[^>]*>", re.IGNORECASE)
    sources = {name(p): p.read_text(encoding="utf-8") for p in PROGRAMS if name(p).startswith(("tasks/", "flows/"))}
    for program, source in ((p, s) for p, s in sources.items() if markup.search(s)):
        texts = [n.value for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
        # What has lines is a docstring, which shows what comes out.
        assert [t for t in texts if markup.search(t) and "\n" not in t] == [], program
    pages = {program for program, source in sources.items() if "from tasks.page import" in source}
    folders = {program.rpartition("/")[0] for program in pages}
    assert folders == {"tasks/dossier", "tasks/report", "tasks/validation"}


# What a link may do


def test_a_link_in_the_spool_is_not_cut(tmp_path: Path):
    (tmp_path / "outside").write_bytes(b"whole\nhalf")
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "7.open").symlink_to(tmp_path / "outside")
    (tmp_path / "spool" / "8.open").write_bytes(b"whole\nhalf")
    spool.recover(tmp_path / "spool")
    assert (tmp_path / "outside").read_bytes() == b"whole\nhalf"
    assert (tmp_path / "spool" / "8.jsonl").read_bytes() == b"whole\n"
