"""docs/extend.md, done as it stands: its files and changes in a copy of the project, its commands run, its tests passed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.records import write_jsonl
from tests.handmade import CATALOGUE
from tests.imports import ROOT
from tests.lived import lived

pytestmark = pytest.mark.slow
PAGE = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
# A path in backticks on a line of its own, and the block that follows it.
FILES = re.findall(r"^`([\w./-]+)`\n\n```(\w+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^```bash\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
WORKSPACE = "support"


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with all that the page adds, committed, as a team's own checkout would be."""
    root = tmp_path_factory.mktemp("extended") / "project"
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for named in filter(None, listed.split("\0")):
        if (ROOT / named).is_file() and not (ROOT / named).is_symlink():
            (root / named).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / named, root / named)
    for path, language, text in FILES:
        if not path.startswith(WORKSPACE):
            put(root / path, language, text)
    git = ["git", "-C", str(root), "-c", "user.name=team", "-c", "user.email=team@example.org"]
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main", str(root)], check=True)
    subprocess.run([*git, "add", "--all"], check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", "our own parts"], check=True)
    return root


def put(path: Path, language: str, text: str) -> None:
    """A file as the page has it; of a diff, the lines that go (or stay) must stand there exactly once."""
    if language != "diff":
        assert not path.exists(), f"{path} is there already"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return
    lines = text.splitlines()
    old = "\n".join(line[1:] for line in lines if line[0] in " -")
    new = "\n".join(line[1:] for line in lines if line[0] in " +")
    before = path.read_text(encoding="utf-8")
    assert before.count(old) == 1, f"{path} has {before.count(old)} places {old!r}"
    path.write_text(before.replace(old, new), encoding="utf-8")


def run(command: list[str], folder: Path, project: Path, **more: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PYTHONPATH": str(project), "PATH": path} | more
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def test_every_part_of_the_table_has_its_example():
    promised = re.findall(r"^\| [^|]+ \| `([^`]+)`", PAGE, re.MULTILINE)
    written = {path for path, _, _ in FILES}
    for path in promised:
        pattern = re.escape(path).replace("NAME", r"\w+")
        assert any(re.fullmatch(rf"(?:{WORKSPACE}/)?{pattern}", w) for w in written), path
    assert len([w for w in written if w.startswith("tests/")]) == 5


def test_its_tests_pass_in_a_project_that_has_its_parts(extended: Path):
    tests = {path: text for path, _, text in FILES if path.startswith("tests/")}
    told = run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *tests], extended, extended)
    assert f"{sum(text.count('def test_') for text in tests.values())} passed" in told, told[-2000:]


def test_the_projects_own_rules_hold_with_its_parts(extended: Path):
    """Rooms, dependencies of stages, settings, detectors, kinds in every tool: nothing else has to be edited."""
    tests = ["tests/test_rooms.py", "tests/test_signals.py", "tests/test_kinds.py", "tests/test_labelstudio_config.py"]
    about = "kind or config or documented or every_detector or stage or room"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", "-k", about, *tests]
    run(command, extended, extended)


def test_a_mapping_reads_what_no_dialect_knew(extended: Path, tmp_path: Path):
    write_jsonl(tmp_path / "approved.jsonl", CATALOGUE)
    flywheel = [sys.executable, "-m", "flows.cli"]
    run([*flywheel, "init", str(tmp_path / WORKSPACE), "--answers", "approved.jsonl"], tmp_path, extended)
    for path, language, text in FILES:
        if path.startswith(WORKSPACE):
            put(tmp_path / path, language, text)
    (command,) = [c.split("#")[0].split() for c in COMMANDS if c.startswith("flywheel")]
    (claim,) = [c.split("#")[1].strip() for c in COMMANDS if c.startswith("flywheel")]
    assert claim in run([*flywheel, *command[1:]], tmp_path, extended)
    assert (tmp_path / WORKSPACE / "tasks/signals/own/promises.py").is_file()  # a workspace brings what was committed


def test_a_snapshot_is_made_again_from_what_was_frozen(tmp_path: Path):
    place = lived(tmp_path / WORKSPACE)
    (tag,) = subprocess.run(["git", "-C", place.root, "tag"], capture_output=True, text=True, check=True).stdout.split()
    (script,) = [c for c in COMMANDS if c.startswith("git clone")]
    told = run(["bash", "-euc", script], tmp_path, tmp_path / "copy", SNAPSHOT=tag)
    assert told.rstrip().endswith("the same bytes"), told
    assert list((tmp_path / "copy/data/dataset/jsonl/train/sft").glob("*.jsonl"))
