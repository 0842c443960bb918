"""A training that dies, runs out of memory or disk, or whose loss is no number: what is lost is told, and nothing that was good is.

The faults are real: SIGKILL of the process that trains, a limit on its memory, a disk that refuses (tests/faulty.c), a learning
rate that leaves the numbers.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tasks.policy import folder_digest
from tasks.policy.llm import LlmParams
from tests import tiny
from tests.imports import ROOT
from tests.tiny import needs_torch

pytestmark = [pytest.mark.slow, needs_torch, pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")]
ALL = ["sft", "reward", "dpo", "kto", "grpo"]
ENOSPC = 28
OLD = b'{"kind":"best_of_n","trained":false}\n'


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    tiny.base(folder / "tiny")
    tiny.dataset(folder / "dataset")
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """A folder as the stage finds it: a dataset, params.yaml, and the model of the time before."""
    shutil.copytree(made / "dataset", tmp_path / "data" / "dataset")
    (tmp_path / "data" / "model").mkdir()
    (tmp_path / "data" / "model" / "policy.json").write_bytes(OLD)
    configure(tmp_path, made)
    return tmp_path


def configure(place: Path, made: Path, **changes: object) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["train"]["policy"] = "llm"
    given = tiny.params(base=str(made / "tiny"), methods=["sft", "dpo"])
    params["llm"] = {name: getattr(given, name) for name in LlmParams.__slots__} | changes
    (place / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


def stage(place: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The real stage, as DVC starts it."""
    return subprocess.run(command(), cwd=place, env=env(**environment), capture_output=True, text=True, check=False)


def command() -> list[str]:
    paths = {
        "frozen": "data/frozen", "dataset": "data/dataset", "model": "data/model", "checkpoints": "data/checkpoints",
        "curves": "data/reports/curves.csv", "report": "data/reports/training.json",
    }  # fmt: skip
    return [sys.executable, "-m", "tasks.stages.train", *(x for k, v in paths.items() for x in (f"--{k}", v))]


def env(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **more}


def outputs(place: Path) -> tuple[str, bytes, bytes]:
    return (
        folder_digest(place / "data" / "model"),
        *((place / "data" / "reports" / name).read_bytes() for name in ("curves.csv", "training.json")),
    )


@pytest.fixture(scope="module")
def unbroken(made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, bytes, bytes]:
    """What the stage makes of `place` when nothing goes wrong."""
    place = tmp_path_factory.mktemp("unbroken")
    shutil.copytree(made / "dataset", place / "data" / "dataset")
    configure(place, made)
    done = stage(place)
    assert done.returncode == 0, done.stderr[-3000:]
    return outputs(place)


def test_the_stage_run_again_makes_the_same_bytes(place, unbroken):
    assert stage(place).returncode == 0
    assert outputs(place) == unbroken, "model, curves and report"


def test_killed_the_stage_goes_on_from_its_checkpoint_and_ends_in_the_same_bytes(place, unbroken):
    running = subprocess.Popen(command(), cwd=place, env=env(), stderr=subprocess.DEVNULL, start_new_session=True)
    home = place / "data" / "checkpoints"
    waited(lambda: list(home.glob("*/1-dpo/checkpoint-2/whole")), running.poll)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert (place / "data" / "model" / "policy.json").read_bytes() == OLD
    done = stage(place)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "dpo: goes on from" in done.stderr and "sft: " not in done.stderr, "what was done is not done again"
    assert outputs(place) == unbroken
    assert not list(home.iterdir())


def waited(seen: Callable[[], object], ended: Callable[[], object]) -> None:
    for _ in range(60_000):
        if seen():
            return
        assert ended() is None, "it ended before it could be killed"
        time.sleep(0.004)
    raise AssertionError("it never came so far")


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_killed_in_each_method_in_turn_it_ends_in_the_same_weights(made, tmp_path, tuning):
    """Lives are forks of this process, which has imported everything: what dies is the training, by SIGKILL."""
    params = tiny.params(
        base=str(made / "tiny"), methods=ALL, tuning=tuning, lora_dropout=0.1, grpo_steps=6, dpo_sft_share=0.2,
        sft_epochs=2.0, checkpoint_every=2,
    )  # fmt: skip
    whole = fork(made, tmp_path / "whole", params)
    assert os.waitpid(whole, 0)[1] == 0
    broken = tmp_path / "broken"
    killed = 0
    for number, method in enumerate(ALL):
        life = fork(made, broken, params)
        marks = (f"{number}-{method}/checkpoint-2/whole", f"{number}-{method}/done")
        ends: list[int] = []

        def ended(life: int = life, ends: list[int] = ends) -> object:
            found, status = os.waitpid(life, os.WNOHANG)
            ends.extend([status] if found else [])
            return ends[0] if ends else None

        waited(lambda marks=marks: any(list(broken.glob(f"checkpoints/*/{m}")) for m in marks), ended)
        os.kill(life, signal.SIGKILL)
        killed += os.waitpid(life, 0)[1] == signal.SIGKILL
    assert killed == len(ALL)
    assert os.waitpid(fork(made, broken, params), 0)[1] == 0
    assert folder_digest(broken / "model") == folder_digest(tmp_path / "whole" / "model")


def fork(made: Path, place: Path, params: LlmParams, limit: int = 0) -> int:
    """A process that trains on its own; it ends with 0, or 3 and the reason in `refused`."""
    from tasks.policy.llm import training

    place.mkdir(exist_ok=True)
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        if limit:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + limit, used + limit))
        training.train(made / "dataset", place / "model", place / "checkpoints", params)
        code = 0
    except training.Refused as e:
        (place / "refused").write_text(str(e))
        code = 3
    finally:
        os._exit(code)


def test_a_checkpoint_that_was_not_written_to_its_end_is_not_gone_on_from(made, tmp_path):
    from tasks.policy.llm import trainers

    for step, whole in ((2, True), (4, True), (6, False)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if whole:
            (tmp_path / f"checkpoint-{step}" / trainers.WHOLE).touch()
    assert trainers._last_whole(tmp_path) == str(tmp_path / "checkpoint-4")
    assert not (tmp_path / "checkpoint-6").exists()


def test_a_loss_that_is_no_number_stops_the_training_and_no_model_comes_of_it(place, made, unbroken):
    configure(place, made, sft_rate=1e30)
    done = stage(place)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr[-3000:]
    assert "sft: the " in done.stderr and "at step" in done.stderr and "lower llm.sft_rate" in done.stderr
    assert (place / "data" / "model" / "policy.json").read_bytes() == OLD
    assert not list((place / "data" / "checkpoints").glob("*/*/checkpoint-*")), (
        "weights that are no numbers are no start"
    )
    configure(place, made)
    assert stage(place).returncode == 0
    assert outputs(place) == unbroken


def test_out_of_memory_is_said_with_what_to_do_and_what_was_reached_is_kept(made, tmp_path):
    """Real: the process may take less memory than one step of a batch of all rows needs."""
    rows = tiny.dataset(tmp_path / "dataset", 1500)
    params = tiny.params(base=str(made / "tiny"), methods=["dpo"], batch=1500, tuning="full")
    place = tmp_path / "place"
    assert os.waitstatus_to_exitcode(os.waitpid(fork(tmp_path, place, params, limit=400 << 20), 0)[1]) == 3
    told = (place / "refused").read_text()
    assert "out of memory" in told and "llm.batch (it is 1500" in told and str(place / "checkpoints") in told
    assert not (place / "model").exists() and rows.is_dir()


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("cc"):
        pytest.skip("needs a C compiler")
    library = tmp_path_factory.mktemp("faulty") / "faulty.so"
    source = ROOT / "tests" / "faulty.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl", "-pthread"], check=True)
    return library


@pytest.mark.parametrize(("under", "what"), [("checkpoints", "sft"), ("model", "saving the model")])
def test_a_full_disk_is_told_the_old_model_stays_and_the_same_command_goes_on(place, unbroken, faulty, under, what):
    fault = {
        "LD_PRELOAD": str(faulty),
        "FAULT_AT": "3",
        "FAULT_HOW": str(-ENOSPC),
        "FAULT_UNDER": str(place / "data" / under),
    }
    full = stage(place, **fault)
    assert full.returncode == 2 and "Traceback" not in full.stderr, full.stderr[-3000:]
    assert f"{what}: the disk is full" in full.stderr and "free space" in full.stderr
    assert (place / "data" / "model" / "policy.json").read_bytes() == OLD
    done = stage(place)
    assert done.returncode == 0, done.stderr[-3000:]
    assert outputs(place) == unbroken
