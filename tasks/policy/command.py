"""Training by the team's own program: it gets folders, and leaves a model folder of a kind that we can load.

    command.argv: [python, trainer/train.py]   with FLYWHEEL_DATASET, FLYWHEEL_OUTPUT, … in its environment
    ->  output/policy.json, output/model.safetensors, output/curves.csv

The contract is trainer/README.md. No shell; a process group of its own, which is told to end (SIGTERM) when we are, and whose lock
outlives us: while the program of a killed training still runs, no second one is started.
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import math
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

from safetensors import SafetensorError, safe_open

from tasks.errors import BUSY, INTERRUPTED, INVALID, Refused
from tasks.policy import Point, Trained, load

LOG, LOCK, CURVES = "log.txt", "lock", "curves.csv"
GRACE_S = 30.0  # between SIGTERM and SIGKILL
LAST_LINES, LONGEST_LINE = 15, 400
# Weights are safetensors: what these hold runs code when it is loaded.
PICKLED = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".joblib", ".ckpt", ".npy", ".npz", ".dill", ".msgpack", ".h5", ".keras"}
PICKLE_MARKS = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))
ZIP_MARK = b"PK\x03\x04"


@dataclass(frozen=True, slots=True)
class CommandParams:
    """`base` goes to the program as it is: a folder, the id of a model on a hub, or ''. `timeout_hours` 0: none."""

    argv: list[str]
    base: str
    seed: int
    timeout_hours: float


def train(frozen: Path, dataset: Path, model: Path, checkpoints: Path, params: CommandParams) -> Trained:
    """Run the program and take its folder. Raises Refused where it can't be run, fails, takes too long, or leaves what may not be
    loaded; its last lines are in the message, all of them in the log."""
    if not params.argv:
        raise Refused("params.yaml: command.argv is empty", "name the program, as in [python, trainer/train.py]")
    folder = checkpoints.absolute() / "command"
    folder.mkdir(parents=True, exist_ok=True)
    places = {
        "FLYWHEEL_DATASET": str(dataset.absolute()),
        "FLYWHEEL_CATALOGUE": str(frozen.absolute() / "catalogue.jsonl"),
        "FLYWHEEL_BASE": params.base,
        "FLYWHEEL_OUTPUT": str(model.absolute()),
        "FLYWHEEL_CHECKPOINTS": str(folder / "kept"),
        "FLYWHEEL_SEED": str(params.seed),
    }
    (folder / "kept").mkdir(exist_ok=True)
    with _alone(folder) as lock:
        shutil.rmtree(model, ignore_errors=True)
        model.mkdir(parents=True)
        _run(params, places, folder / LOG, lock)
    curves = _curves(model / CURVES)
    (model / CURVES).unlink(missing_ok=True)
    _refuse_what_runs(model)
    load(model)  # raises Refused for a folder without policy.json, or of an unknown kind
    return Trained({"argv": params.argv, "base": params.base, "log_bytes": (folder / LOG).stat().st_size}, curves)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[int]:
    """Hold the lock that the program inherits; the kernel frees it when the last of its processes ends."""
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        group = os.read(handle, 32).decode().strip()
        os.close(handle)
        raise Refused(
            f"the program of an earlier training still runs (process group {group})",
            f"wait for it, or end it: kill -- -{group}",
            BUSY,
        ) from None
    try:
        yield handle
    finally:
        os.close(handle)


def _run(params: CommandParams, places: Mapping[str, str], log: Path, lock: int) -> None:
    with log.open("wb") as out, _ends_with_us():
        program = _started(params, places, out, lock)
        try:
            code = program.wait(params.timeout_hours * 3600 or None)
        except subprocess.TimeoutExpired:
            _end(program)
            why = f"took longer than command.timeout_hours ({params.timeout_hours:g})"
            fix = "raise it in params.yaml; what the program kept in FLYWHEEL_CHECKPOINTS is there"
            raise Refused(_told(params, why, log), fix) from None
        except BaseException:  # a signal: whoever waits for us must not find our program running on
            _end(program)
            raise
    if code:
        why = f"ended with exit code {code}" if code > 0 else f"was ended by {signal.Signals(-code).name}"
        raise Refused(_told(params, why, log), f"all that it said is in {log}")


def _started(params: CommandParams, places: Mapping[str, str], out: IO[bytes], lock: int) -> subprocess.Popen[bytes]:
    # Our keys, tokens and addresses with passwords are no business of the program's.
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("FLYWHEEL_")}
    try:
        program = subprocess.Popen(
            params.argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            env=inherited | dict(places), pass_fds=(lock,),
        )  # fmt: skip
    except OSError as e:
        raise Refused(f"command.argv can't be run: {e.strerror}: {params.argv[0]}", "mend it in params.yaml: command") from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{program.pid}\n".encode(), 0)
    return program


@contextlib.contextmanager
def _ends_with_us() -> Iterator[None]:
    """SIGTERM becomes an exception while the program runs, so that its process group is ended too. (Of SIGKILL the lock tells.)"""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupted(number: int, frame: FrameType | None) -> None:
        raise Refused("the training was interrupted", "dvc repro train starts the program again", INTERRUPTED)

    before = signal.signal(signal.SIGTERM, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(program: subprocess.Popen[bytes]) -> None:
    """End the whole process group: asked first, then made to."""
    for number, patience in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, None)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(patience)
            break
    with contextlib.suppress(ProcessLookupError):  # children that outlived their parent
        os.killpg(program.pid, signal.SIGKILL)


def _told(params: CommandParams, why: str, log: Path) -> str:
    with log.open("rb") as said:
        said.seek(max(0, log.stat().st_size - LAST_LINES * LONGEST_LINE))
        lines = said.read().decode("utf-8", "replace").splitlines()[-LAST_LINES:]
    told = "\n".join(f"    {x[:LONGEST_LINE]}" for x in lines) or "    (it said nothing)"
    return f"{' '.join(params.argv)} {why}; its last lines:\n{told}"


def _curves(path: Path) -> list[Point]:
    """step,metric,value; none where there is no such file. Raises Refused for another shape or a number that is none."""
    if not path.is_file():
        return []
    found = []
    with path.open(encoding="utf-8", newline="") as file:
        for n, row in enumerate(csv.DictReader(file), start=2):
            try:
                point = Point(int(row["step"]), str(row["metric"]), float(row["value"]))
            except (KeyError, TypeError, ValueError):
                why = f"{CURVES}, line {n}: {dict(row)} is no step, metric and value"
                raise Refused(why, "see trainer/README.md", INVALID) from None
            if not math.isfinite(point.value):
                raise Refused(
                    f"{CURVES}, line {n}: {point.metric} is {point.value} at step {point.step}: the training broke down",
                    "a lower learning rate, or look into the examples of that step",
                    INVALID,
                )
            found.append(point)
    return found


def _refuse_what_runs(model: Path) -> None:
    """Only what can't run code when it is loaded, and lies in the folder itself."""
    for path in sorted(model.rglob("*")):
        name = path.relative_to(model)
        if path.is_symlink():
            raise Refused(f"the model folder holds a link: {name}", "write the file itself there", INVALID)
        if not path.is_file():
            continue
        if _may_run(path):
            raise Refused(
                f"the model folder holds {name}, whose format may run code when it is loaded",
                "save weights as safetensors (save_pretrained does), and delete what else the trainer left",
                INVALID,
            )


def _may_run(path: Path) -> bool:
    if path.suffix == ".safetensors":
        # The first bytes of one are a length, and may look like anything: only reading it tells.
        try:
            with safe_open(path, "numpy"):
                return False
        except SafetensorError:
            return True
    with path.open("rb") as file:
        start = file.read(4)
    return path.suffix.lower() in PICKLED or start.startswith(PICKLE_MARKS) or start == ZIP_MARK
