"""What a training ran on and what it took: measured while DVC ran the stage, for a record that may come later.

    with watched(workspace): snapshot.run_stage(workspace, "train")     ->  .flywheel/registry/trainings/9f1c….json

A stage may not look at the clock, and what it writes is the same on every machine; so its processes are watched from outside. A
training that DVC took from its cache took nothing, and its run says so. A watch that never ended tells of a loop that died.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import orjson

from tasks.errors import Refused
from tasks.live.masked import masked
from tasks.live.repository import git_bytes
from tasks.live.workspace import Workspace, write_durably
from tasks.records import digest

EVERY_S = 1.0
MOST = 600  # samples; of a longer training every second, third … is kept
# What moves numbers from one version to the next; absent where it is not installed.
PACKAGES = ("numpy", "scipy", "scikit-learn", "torch", "transformers", "trl", "peft", "accelerate", "tokenizers", "safetensors")
DIED = "the process that trained ended without a word (killed, out of memory, or the machine went down)"


@dataclass(slots=True)
class Watch:
    """One run of the training stage. `why` is how it failed, '' where it did not; samples are seconds, CPU in percent of one core,
    and MB of memory of the stage's processes together."""

    name: str
    at: float
    params: str
    why: str = DIED
    took: float = 0.0
    cpu_s: float = 0.0
    samples: list[tuple[float, float, float]] = field(default_factory=list)


@contextlib.contextmanager
def watched(workspace: Workspace, stage: str) -> Iterator[Watch]:
    """Watch the processes that this one starts. Leaves a note from the beginning on: it stays where the training failed or died."""
    now = time.time()
    watch = Watch(f"{stage}-{int(now * 1000)}", now, (workspace.root / "params.yaml").read_text(encoding="utf-8"))
    note = _notes(workspace) / f"{watch.name}.begun"
    write_durably(note, orjson.dumps(asdict(watch)))
    stop = threading.Event()
    thread = threading.Thread(target=_sample, args=(watch, stop), daemon=True)
    thread.start()
    before = os.times()
    try:
        yield watch
        watch.why = ""
    except BaseException as e:
        watch.why = masked(f"{type(e).__name__}: {e}")
        raise
    finally:
        stop.set()
        thread.join()
        after = os.times()
        watch.took = time.time() - now
        watch.cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
        if watch.why:
            write_durably(note, orjson.dumps(asdict(watch)))
        else:
            note.unlink(missing_ok=True)


def keep(workspace: Workspace, watch: Watch, model_digest: str) -> None:
    """Note what the training of this model took, for its record."""
    step = len(watch.samples) // MOST + 1
    kept = asdict(watch) | {"params": "", "samples": watch.samples[::step]} | of_machine()
    write_durably(_notes(workspace) / f"{model_digest[:16]}.json", orjson.dumps(kept))


def failures(workspace: Workspace) -> list[tuple[Path, Watch]]:
    """Trainings that left no model, and that MLflow was not told of yet. Not while one may be going on."""
    notes = sorted(_notes(workspace).glob("*.begun")) if _notes(workspace).is_dir() else []
    return [(note, Watch(**orjson.loads(note.read_bytes()))) for note in notes]


def of_training(workspace: Workspace, model_digest: str) -> tuple[dict[str, str], list[tuple[int, str, float]]]:
    """Tags of what a model was trained on, and points (second, name, value) of what it took; both empty where it was not here."""
    note = _notes(workspace) / f"{model_digest[:16]}.json"
    if not note.is_file():
        return {"trained": "not by this workspace, or taken from DVC's cache: nothing was measured"}, []
    kept = orjson.loads(note.read_bytes())
    tags = {"trained": "here", **{k: v for k, v in kept.items() if k.startswith("environment.")}}
    points = [(0, "train_seconds", kept["took"]), (0, "train_cpu_seconds", kept["cpu_s"])]
    for second, cpu, memory in kept["samples"]:
        points += [(int(second), "cpu_percent", cpu), (int(second), "memory_mb", memory)]
    return tags, points


def of_machine() -> dict[str, str]:
    """What Python, system and packages are."""
    import psutil

    found = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": str(os.cpu_count()),
        "memory_gb": f"{psutil.virtual_memory().total / 1e9:.0f}",
    }
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return {f"environment.{k}": v for k, v in found.items()}


def of_code(workspace: Workspace, commit: str) -> dict[str, str]:
    """The lock file that the snapshot was made with, by its digest."""
    with contextlib.suppress(Refused):
        return {"environment.requirements_lock": digest(git_bytes(workspace.root, "show", f"{commit}:requirements.lock"))[:16]}
    return {}


def _sample(watch: Watch, stop: threading.Event) -> None:
    import psutil

    me, known = psutil.Process(), {}
    before = {child.pid for child in me.children(recursive=True)}  # an embedded Prefect server
    while not stop.wait(EVERY_S if len(watch.samples) > 20 else 0.2):
        cpu = memory = 0.0
        with contextlib.suppress(psutil.Error):
            for child in me.children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if child.pid in before:
                        continue
                    process = known.setdefault(child.pid, child)
                    cpu += process.cpu_percent()
                    memory += process.memory_info().rss / 1e6
            watch.samples.append((time.time() - watch.at, cpu, memory))


def _notes(workspace: Workspace) -> Path:
    return workspace.state / "registry" / "trainings"

