"""The README's shell blocks run as they stand, and what it says of the command is true."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_shell_blocks_run_in_order(tmp_path: Path, prefect_server: str) -> None:
    blocks = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    assert len(blocks) >= 3
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PREFECT_API_URL": prefect_server,
    }
    script = "set -eu\n" + "\n".join(blocks).replace(
        "flywheel init support", "flywheel init support --with-uncommitted"
    )
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 = 2 stored" in done.stdout
    assert "negative_feedback" in done.stdout


def test_the_make_targets_that_it_names_exist() -> None:
    targets = re.findall(r"^\$ make (\S+)", README, re.MULTILINE)
    assert {"demo", "test"} <= set(targets)
    for target in targets:
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, check=True)


def test_it_lists_every_verb_and_every_exit_code() -> None:
    from flows import cli
    from tasks import errors

    verbs = {c.callback.__name__ for c in cli.app.registered_commands} | {g.name for g in cli.app.registered_groups}
    listed = set(re.search(r"`flywheel VERB`: `([^`]*)`", README).group(1).split())
    assert listed == verbs
    codes = {
        errors.OK,
        errors.UNEXPECTED,
        errors.USAGE,
        errors.INVALID,
        errors.GATE_REFUSED,
        errors.BUSY,
        errors.PARTIAL,
        errors.INTERRUPTED,
    }
    assert {int(n) for n in re.findall(r"^\| (\d+) \| ", README, re.MULTILINE)} == codes


def test_the_files_it_links_to_exist() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / link).exists(), link
