"""What goes wrong gets its exit code and a message with the fix, and nothing is lost."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tasks.live.segments import Segments
from tests.conftest import FLYWHEEL, ROOT, Played, flywheel, git
from tests.handmade import chat_span, log, traces

pytestmark = pytest.mark.slow


def test_a_corrupt_line_is_kept_and_counted_and_too_many_of_them_exit_7(a_copy: Path) -> None:
    log = a_copy / "data" / "inbox" / "broken.jsonl"
    log.write_bytes(b'{"flywheel": "feedback/1", "id": "f-x"}\n{"torn": \n')
    done = flywheel("capture", "--json", log, cwd=a_copy)
    assert done.code == 7
    account = done.document()
    assert account["seen"] == account["rejected"] == 2
    assert "fix:" in done.err
    assert any(b'{"torn": ' in body for _, body in Segments(a_copy / "data" / "raw").all())
    rejects = flywheel("status", "--json", cwd=a_copy).document()["newest_rejects"]
    assert {r["source"] for r in rejects} & {"broken.jsonl"}


def test_spans_without_content_are_counted_with_a_hint_and_are_no_failure(a_copy: Path) -> None:
    bare = [chat_span(f"{n:x}", attributes={"gen_ai.input.messages": None, "gen_ai.output.messages": None}) for n in range(9)]
    log(a_copy / "data" / "inbox" / "bare.jsonl", traces(*bare))
    done = flywheel("capture", cwd=a_copy)
    assert done.code == 0, done.err
    assert "9 no_content; switch content capture on" in done.out
    assert "OTEL_" in flywheel("quarantine", "list", "--code", "no_content", cwd=a_copy).out


def test_mining_and_status_go_on_while_a_large_log_is_captured(a_copy: Path) -> None:
    from benchmarks.log_lines import write_log

    planted = write_log(a_copy / "data" / "inbox" / "large.jsonl", 25_000, seed=3)
    before = flywheel("status", "--json", cwd=a_copy).document()["rows"]
    capture = subprocess.Popen([str(FLYWHEEL), "capture"], cwd=a_copy, stdout=subprocess.PIPE, text=True)
    meanwhile = 0
    while capture.poll() is None:
        for verb in ("status", "mine"):
            done = flywheel(verb, "--json", cwd=a_copy)
            assert done.code == 0, done.err
        meanwhile += 1
    assert capture.returncode == 0 and meanwhile
    assert flywheel("mine", cwd=a_copy).code == 0
    after = flywheel("status", "--json", cwd=a_copy).document()["rows"]
    assert after["interactions"] - before["interactions"] == planted.interactions
    assert after["members"] == after["interactions"], "each has its place at the wall, once"


def test_a_missing_file_exits_2_and_names_it(a_copy: Path) -> None:
    done = flywheel("capture", "nowhere.jsonl", cwd=a_copy)
    assert done.code == 2
    assert "nowhere.jsonl does not exist" in done.err


def test_outside_a_workspace_the_command_says_what_to_do(tmp_path: Path) -> None:
    done = flywheel("turn", cwd=tmp_path)
    assert done.code == 2
    assert "flywheel init" in done.err


def test_a_mistyped_parameter_exits_2_and_suggests_the_right_one(a_copy: Path) -> None:
    _change(a_copy, "select", "bugdet", 3)
    done = flywheel("send", cwd=a_copy)
    assert done.code == 2
    assert "did you mean 'select.budget'?" in done.err


def test_a_busy_lock_exits_6_and_names_the_process_that_holds_it(a_copy: Path) -> None:
    code = (
        "import time; from pathlib import Path; from tasks.live.workspace import Workspace\n"
        f"with Workspace(Path({str(a_copy)!r})).lock('capture'):\n    print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline().strip() == "held"
        done = flywheel("capture", cwd=a_copy)
        assert done.code == 6
        assert f"process {holder.pid}" in done.err
    finally:
        holder.kill()
        holder.wait()
    time.sleep(0.1)
    assert flywheel("capture", cwd=a_copy).code == 0, "the kernel frees the lock of a killed process"


def test_a_failing_expectation_exits_3_publishes_nothing_and_leaves_a_report(a_copy: Path, prefect_server: str) -> None:
    head = git(a_copy, "rev-parse", "HEAD")
    _change(a_copy, "validate", "min_rows", ["evaluation: 1000000"])
    done = flywheel("retrain", "--force", cwd=a_copy, PREFECT_API_URL=prefect_server)
    assert done.code == 3, done.err[-3000:]
    assert "validation failed, nothing was published" in done.err
    assert "validation.md" in done.err
    assert "FAIL" in (a_copy / "data" / "reports" / "validation.md").read_text(encoding="utf-8")
    assert git(a_copy, "rev-parse", "HEAD") == head


def test_a_worse_challenger_is_refused_with_exit_4_and_the_champion_stays(
    played: Played, a_copy: Path, prefect_server: str
) -> None:
    champion = played.document["turns"][-1]["champion"]
    # A model that is held to the base, whose words are blurred away: it knows nothing.
    _change(a_copy, "answers", "pull_to_base", 1e6)
    _change(a_copy, "answers", "sharpness", 1e-6)
    done = flywheel("retrain", "--force", "--json", cwd=a_copy, PREFECT_API_URL=prefect_server)
    assert done.code == 4, done.err[-3000:]
    assert done.document()["decision"] == "refuse"
    assert "right answers: worse" in " ".join(done.document()["reasons"])
    refused = flywheel("promote", cwd=a_copy)
    assert refused.code == 4
    assert "the gate says refuse" in refused.err
    assert _champion(a_copy) == champion


def test_promotion_is_refused_once_the_champion_has_changed_and_rollback_is_one_command(a_copy: Path) -> None:
    before = _champion(a_copy)
    back = flywheel("rollback", "--json", cwd=a_copy)
    assert back.code == 0, back.err[-2000:]
    assert back.document()["replaced"] == before
    again = flywheel("promote", cwd=a_copy)
    assert again.code == 4, "what was rolled back is not promoted again"
    assert "fix:" in again.err


def test_help_and_status_stay_light(a_copy: Path) -> None:
    code = (
        "import sys; sys.argv = ['flywheel', 'status', '--json']\nfrom flows import cli\n"
        "try:\n    cli.main()\nexcept SystemExit as e:\n    assert not e.code, e.code\n"
        "heavy = {'prefect', 'mlflow', 'great_expectations', 'torch', 'pandas', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=a_copy,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()


def _champion(root: Path) -> str:
    code = f"""
from pathlib import Path
from tasks.live import registry
from tasks.live.workspace import Workspace
print(registry.champion(Workspace(Path({str(root)!r}))).version)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.split()[-1]


def _change(root: Path, section: str, key: str, value: object) -> None:
    path = root / "params.yaml"
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    document[section][key] = value
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
