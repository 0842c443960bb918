"""What a new version of a data set costs where snapshots are kept: bytes that the remote does not have yet, and seconds.

    python -m benchmarks.snapshots [--rows 1000000] [--keep DIR]

Two versions of the made-up traffic of benchmarks.datasets, the second with 1% more interactions, each curated and built by the real
stages, added to DVC, pushed to a remote (a folder) and compared by `flywheel diff`. A third one has the same labels and another
way of being asked: 1% of the old questions were answered by one more person.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks.datasets import ROOT, STAGES, frozen, stage
from tasks import shards
from tasks.frozen import Given
from tasks.live import store
from tasks.live.diff import between
from tasks.live.repository import COMMITTER, dvc, git
from tasks.live.workspace import Workspace, quiet_environment

FOLDERS = ("frozen", "curated", "dataset")


def workspace(root: Path) -> Workspace:
    place = Workspace(root)
    place.state.mkdir(parents=True)
    (root / ".dvc").mkdir()
    (root / ".gitignore").write_text(".flywheel/\n", encoding="utf-8")
    (root / ".dvc" / "config").write_text("[core]\n    analytics = false\n", encoding="utf-8")
    (root / ".dvc" / ".gitignore").write_text("/cache\n/tmp\n", encoding="utf-8")
    shutil.copy(ROOT / "params.yaml", root / "params.yaml")
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main", str(root)], check=True)
    store.configure(place, str(place.state / "remote"))
    return place


@contextmanager
def timed(spent: dict[str, float], what: str) -> Iterator[None]:
    before = resource.getrusage(resource.RUSAGE_SELF)
    yield
    after = resource.getrusage(resource.RUSAGE_SELF)
    spent[what] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def version(place: Workspace, name: str, change: Callable[[Path], None]) -> tuple[dict[str, tuple[int, int]], dict[str, float]]:
    """Make, add, push and commit a version: bytes of its folders, and those of them that the remote did not have."""
    spent: dict[str, float] = {}
    shutil.rmtree(place.data / "frozen", ignore_errors=True)
    change(place.data / "frozen")
    for stage_name, arguments in STAGES.items():
        shutil.copy(place.root / "params.yaml", place.data / "params.yaml")
        spent[stage_name] = stage(place.data, stage_name, arguments)[0]
    remote = place.state / "remote" / "files" / "md5"
    had = {p.parent.name + p.name for p in remote.glob("*/*")}
    with dvc(place) as repo:
        with timed(spent, "dvc add"):
            repo.add([str(place.data / f) for f in FOLDERS])
        with timed(spent, "dvc push"):
            repo.push()
    _pin(place)
    git(place.root, "add", "dvc.lock", "params.yaml", ".dvc/config", *(f"data/{f}.dvc" for f in FOLDERS))
    git(place.root, *COMMITTER, "commit", "--quiet", "-m", name)
    git(place.root, "tag", f"snapshot-{name}")
    sizes = {}
    for folder in FOLDERS:
        commit = git(place.root, "rev-parse", "HEAD")
        digests = set(store.files(place, commit, f"data/{folder}").values())
        of = {d: (remote / d[:2] / d[2:]).stat().st_size for d in digests}
        sizes[folder] = (sum(of.values()), sum(n for d, n in of.items() if d not in had))
    return sizes, spent


def _pin(place: Workspace) -> None:
    """What `dvc repro` would write: here the stages run by themselves, so that each can be measured."""
    import yaml

    outs = []
    for folder in FOLDERS:
        said = yaml.safe_load((place.data / f"{folder}.dvc").read_text(encoding="utf-8"))["outs"][0]
        outs.append({"path": f"data/{folder}", "md5": said["md5"]})
    (place.root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {"all": {"outs": outs}}}), encoding="utf-8")


def answered_again(folder: Path, rows: int) -> None:
    """The first traffic, in which one more person answered each hundredth question."""
    frozen(folder, rows)
    given = shards.read(folder / "annotations", Given)
    more = [
        replace(a, annotation_id=a.annotation_id[:-1] + "9", annotator="person-99")
        for k, a in enumerate(given)
        if a.annotation_id.endswith("0") and k % 300 == 0
    ]
    shards.write_rows(folder / "annotations", Given, [*given, *more])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.snapshots", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--keep", type=Path, help="work in this folder, and keep it")
    options = parser.parse_args(argv)
    quiet_environment()
    root = options.keep or Path(tempfile.mkdtemp(prefix="flywheel-snapshots-"))
    n = options.rows
    try:
        place = workspace(root)
        versions = {
            "first": lambda folder: frozen(folder, n),
            "one-percent-more": lambda folder: frozen(folder, n + n // 100),
            "answered-again": lambda folder: answered_again(folder, n),
        }
        print(f"{n:,} answered interactions, {platform.processor() or platform.machine()}, {os.cpu_count()} cores")
        print("| version | MB " + "| new MB, share: frozen | curated | dataset " + "| dvc add CPU s | push | diff | files read |")
        print("|---|---|---|---|---|---|---|---|---|")
        for name, change in versions.items():
            sizes, spent = version(place, name, change)
            total = sum(size for size, _ in sizes.values()) / 1e6
            shares = [f"{new / 1e6:,.1f} ({new / size:.1%})" for size, new in sizes.values()]
            told = ["", ""]
            if name != "first":
                with timed(spent, "diff"):
                    found = between(place, "snapshot-first", f"snapshot-{name}")
                told = [f"{spent['diff']:.1f}", f"{found.read[0]:,} of {found.read[1]:,}"]
            cells = [name, f"{total:,.0f}", *shares, f"{spent['dvc add']:.1f}", f"{spent['dvc push']:.1f}", *told]
            print("| " + " | ".join(cells) + " |", flush=True)
            if name != "first":
                of = {t.table: t for t in found.tables if t.any and t.side == "train"}
                print(f"  rows: {found.added:,} added, {found.removed:,} removed, {found.changed:,} changed; {of['sft'].columns}")
    finally:
        if not options.keep:
            shutil.rmtree(root, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
