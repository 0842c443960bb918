"""Training by the team's own program: it gets folders, its failures are told, and nothing that could run code gets into a model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import BUSY, INTERRUPTED, INVALID, Refused
from tasks.policy import command, load
from tasks.policy.answers import AnswersParams, base
from tasks.policy.command import CommandParams
from tasks.policy.encoder import Encoder
from tasks.records import write_jsonl
from tests.handmade import CATALOGUE, TEXT
from tests.imports import ROOT

# What a team's program may look like, with our own base model as the thing that it trains.
TRAINS = """
import json, os, shutil, sys
from pathlib import Path
out = Path(os.environ["FLYWHEEL_OUTPUT"])
shutil.copytree(os.environ["FLYWHEEL_BASE"], out, dirs_exist_ok=True)
(out / "curves.csv").write_text("step,metric,value\\n1,loss,2.5\\n2,loss,1.25\\n")
told = {k: v for k, v in os.environ.items() if k.startswith("FLYWHEEL_")}
(Path(os.environ["FLYWHEEL_CHECKPOINTS"]) / "told.json").write_text(json.dumps(told))
print("trained on", os.listdir(os.environ["FLYWHEEL_DATASET"]))
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for folder in ("dataset/jsonl", "frozen"):
        (tmp_path / folder).mkdir(parents=True)
    write_jsonl(tmp_path / "frozen/catalogue.jsonl", CATALOGUE)
    encoder = Encoder.fit([a.text for a in CATALOGUE], 4)
    base(CATALOGUE, encoder, AnswersParams(12.0, 0.02, 1.0, 0.1, 3, 1)).save(tmp_path / "base")
    return tmp_path


def train(place: Path, program: str, *arguments: str, **changes: Any) -> Any:
    (place / "train.py").write_text(program, encoding="utf-8")
    settings = {"argv": [sys.executable, str(place / "train.py"), *arguments], "base": str(place / "base"), "seed": 7}
    params = CommandParams(**(settings | {"timeout_hours": 1.0} | changes))
    return command.train(place / "frozen", place / "dataset", place / "model", place / "checkpoints", params)


def after(*lines: str) -> str:
    """The program that trains, and then does more."""
    return TRAINS + "\n".join(lines)


def test_a_program_gets_the_folders_and_its_model_answers(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith("FLYWHEEL_REQUIRE_")]:
        monkeypatch.delenv(name)  # what CI asks of the tests
    monkeypatch.setenv("FLYWHEEL_PROVIDER_KEY", "sk-secret")
    done = train(place, TRAINS)
    told = json.loads((place / "checkpoints/command/kept/told.json").read_text())
    assert told == {
        "FLYWHEEL_DATASET": str(place / "dataset"), "FLYWHEEL_CATALOGUE": str(place / "frozen/catalogue.jsonl"),
        "FLYWHEEL_BASE": str(place / "base"), "FLYWHEEL_OUTPUT": str(place / "model"),
        "FLYWHEEL_CHECKPOINTS": str(place / "checkpoints/command/kept"), "FLYWHEEL_SEED": "7",
    }  # fmt: skip
    assert [(c.step, c.metric, c.value) for c in done.curves] == [(1, "loss", 2.5), (2, "loss", 1.25)]
    assert (place / "checkpoints/command/log.txt").read_text() == "trained on ['jsonl']\n"
    assert load(place / "model").respond([[{"role": "user", "content": TEXT["refund"]}]], [[]])[0][0].action == "refund"
    assert not (place / "model/curves.csv").exists()


def test_what_an_earlier_training_left_in_the_model_folder_is_gone(place: Path) -> None:
    (place / "model").mkdir()
    (place / "model/old.safetensors").write_bytes(b"old")
    train(place, TRAINS)
    assert {p.name for p in (place / "model").iterdir()} == {p.name for p in (place / "base").iterdir()}


def test_checkpoints_outlive_a_failed_training(place: Path) -> None:
    program = after(
        "mark = Path(os.environ['FLYWHEEL_CHECKPOINTS']) / 'step-1'",
        "if not mark.exists():",
        "    mark.touch()",
        "    sys.exit(3)",
    )
    with pytest.raises(Refused, match="exit code 3"):
        train(place, program)
    train(place, program)


def test_a_failure_is_refused_with_the_last_that_the_program_said(place: Path) -> None:
    program = "print('\\n'.join(f'step {n}' for n in range(100)))\nraise ValueError('CUDA out of memory')"
    with pytest.raises(Refused) as refused:
        train(place, program)
    said = refused.value.why
    assert "ended with exit code 1" in said and "ValueError: CUDA out of memory" in said
    assert "step 99" in said and "step 1\n" not in said
    assert "command/log.txt" in refused.value.what_to_do


def test_a_program_that_is_not_there_is_refused(place: Path) -> None:
    with pytest.raises(Refused, match="can't be run"):
        train(place, "", argv=["no-such-program-77"])
    with pytest.raises(Refused, match="argv is empty"):
        train(place, "", argv=[])


def test_no_shell_reads_the_arguments(place: Path) -> None:
    train(place, after("assert sys.argv[1:] == ['$(touch hacked); *']"), "$(touch hacked); *")
    assert not list(place.rglob("hacked"))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "optimizer.pt", "deep/state.pkl", "model.CKPT", "rng.npz"])
def test_a_format_that_may_run_code_is_refused_by_its_name(place: Path, name: str) -> None:
    program = after(f"path = out / {name!r}", "path.parent.mkdir(exist_ok=True)", "path.write_bytes(b'x')")
    with pytest.raises(Refused, match=name.rsplit("/", maxsplit=1)[-1]) as refused:
        train(place, program)
    assert refused.value.exit_code == INVALID and "safetensors" in refused.value.what_to_do


@pytest.mark.parametrize("writes", ["import pickle; b = pickle.dumps({'a': 1})", "b = b'PK\\x03\\x04archive/data.pkl'"])
def test_a_pickle_by_another_name_is_refused(place: Path, writes: str) -> None:
    with pytest.raises(Refused, match=r"weights\.safetensors"):
        train(place, after(writes, "(out / 'weights.safetensors').write_bytes(b)"))


def test_weights_whose_first_bytes_look_like_a_pickle_are_weights(place: Path) -> None:
    """A safetensors file begins with the length of its head: 640 is 0x80 0x02, as a pickle begins."""
    writes = "import numpy as np; from safetensors.numpy import save_file"
    saves = "save_file({'w': np.zeros(2)}, out / 'more.safetensors', {'note': 'x' * pad})"
    looks = "    if list((out / 'more.safetensors').read_bytes()[:2]) == [128, 2]: break"
    train(place, after(writes, "for pad in range(540, 600, 8):", f"    {saves}", looks, "else: sys.exit('none found')"))


def test_a_link_out_of_the_folder_is_refused(place: Path) -> None:
    with pytest.raises(Refused, match="a link: passwd"):
        train(place, after("(out / 'passwd').symlink_to('/etc/passwd')"))


def test_a_folder_that_we_can_not_load_is_refused(place: Path) -> None:
    with pytest.raises(Refused, match="holds no model"):
        train(place, "pass")
    with pytest.raises(Refused, match="unknown kind of policy 'magic'"):
        train(place, after("(out / 'policy.json').write_text('{\"kind\": \"magic\"}')"))


@pytest.mark.parametrize(
    ("line", "said"), [("3,loss,nan", "loss is nan at step 3"), ("3,loss,inf", "is inf"), ("x,loss,1", "no step")]
)
def test_a_curve_that_broke_down_refuses_the_training(place: Path, line: str, said: str) -> None:
    with pytest.raises(Refused, match=said):
        train(place, after(f"(out / 'curves.csv').open('a').write({line!r})"))


def ended(pid: int) -> bool:
    """Whether a process is gone (or waits as a zombie for whoever inherits it to look)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_for(what: Any, seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.02)


# It starts a process of its own, says who both are, and waits.
WAITS = """
import os, subprocess, sys, time
from pathlib import Path
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
note = Path(os.environ["FLYWHEEL_CHECKPOINTS"]) / "pids"
note.with_suffix(".half").write_text(f"{os.getpid()} {child.pid}")
note.with_suffix(".half").replace(note)
time.sleep(600)
"""


def test_a_program_that_takes_too_long_is_ended_with_its_children(place: Path) -> None:
    with pytest.raises(Refused, match="took longer than command"):
        train(place, WAITS, timeout_hours=1.5 / 3600)
    pids = [int(x) for x in (place / "checkpoints/command/kept/pids").read_text().split()]
    wait_for(lambda: all(map(ended, pids)))


# A stage that runs the program: in a process of its own, to be interrupted.
STAGE = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from tasks.errors import Refused
from tasks.policy import command
place = Path(sys.argv[1])
params = command.CommandParams([sys.executable, str(place / "train.py")], "", 1, 0.0)
try:
    command.train(place / "frozen", place / "dataset", place / "model", place / "checkpoints", params)
except Refused as e:
    sys.exit(e.exit_code)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_training_ends_the_program_and_its_children(place: Path, number: signal.Signals) -> None:
    (place / "train.py").write_text(WAITS, encoding="utf-8")
    stage = subprocess.Popen([sys.executable, "-c", STAGE, str(place)], start_new_session=True, stderr=subprocess.DEVNULL)
    note = place / "checkpoints/command/kept/pids"
    wait_for(note.exists)
    os.kill(stage.pid, number)
    assert stage.wait(60) in (INTERRUPTED, -signal.SIGINT)
    wait_for(lambda: all(ended(int(x)) for x in note.read_text().split()))


@pytest.mark.slow
def test_a_second_training_does_not_start_while_the_program_of_a_killed_one_runs(place: Path) -> None:
    (place / "train.py").write_text(WAITS, encoding="utf-8")
    stage = subprocess.Popen([sys.executable, "-c", STAGE, str(place)], start_new_session=True)
    note = place / "checkpoints/command/kept/pids"
    wait_for(note.exists)
    stage.kill()
    stage.wait()
    program = int(note.read_text().split()[0])
    with pytest.raises(Refused, match=f"process group {program}") as refused:
        train(place, TRAINS)
    assert refused.value.exit_code == BUSY
    os.killpg(program, signal.SIGKILL)
    wait_for(lambda: ended(program))
    train(place, TRAINS)
