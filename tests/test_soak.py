"""A few faults of the soak: they strike, and the checker and the comparison with an undisturbed twin would tell."""

from __future__ import annotations

import random
import shutil
import sys
from pathlib import Path

import pytest

from benchmarks.soak import DOUBLED, LOST, ORPHANS, STUCK, WRONG, Soak, table
from benchmarks.soak_faults import TORN, Fault, Measured, some
from tests.handmade import asked, log, workspace

FLOWS = ("collect", "annotate", "retrain", "promote", "approve", "rollback", "rebuild", "turn")


def test_every_kind_of_fault_can_strike_some_flow():
    chance, of = random.Random(1), Measured(4.0, 100, 1000, {})
    drawn = {flow: {some(chance, flow, of).kind for _ in range(400)} for flow in FLOWS}
    kinds = set().union(*drawn.values())
    assert {"SIGKILL at a time", "SIGKILL at a write", "disk full from a write on", "clock jumps", "two at once", "torn file",
            "Prefect killed in the middle", "MLflow down", "promote and rollback at once"} <= kinds  # fmt: skip
    assert all("SIGKILL at a write" in of_flow for of_flow in drawn.values())
    assert "MLflow down" not in drawn["collect"] and "Prefect down" not in drawn["rollback"]


def test_a_kill_falls_within_the_life_that_was_measured():
    chance, of = random.Random(2), Measured(4.0, 100, 1000, {})
    faults = [some(chance, "collect", of) for _ in range(500)]
    assert all(0 < f.order["kill_after"] < 4.0 for f in faults if "kill_after" in f.order)
    assert all(1 <= f.order["at"] <= 100 for f in faults if "at" in f.order)
    assert all(1 <= f.order["jump_at"] <= 1000 for f in faults if "jump" in f.order)


def test_what_tears_a_file_cuts_it_and_nothing_else(tmp_path: Path):
    for name in (".flywheel/offsets-logs.json", "data/reports/verdict.json", ".git/index"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"0123456789")
    torn = {tear(tmp_path, random.Random(3)) for tear in TORN} - {""}
    assert torn == {".flywheel/offsets-logs.json", "data/reports/verdict.json", ".git/index"}
    assert all(b"0123456789".startswith((tmp_path / name).read_bytes()) for name in torn)
    assert all((tmp_path / name).stat().st_size < 10 for name in torn)


def test_the_table_counts_what_struck_and_what_was_found():
    done = Soak(played=3, compared=3, different=1)
    done.struck[("SIGKILL at a write", "retrain")] += 2
    done.bad[LOST] += 1
    text = table(done)
    assert "| SIGKILL at a write | 2 | 2 |" in text
    assert f"3 played, 2 struck; {LOST} = 1, {DOUBLED} = 0, {WRONG} = 0, {ORPHANS} = 0" in text and f"{STUCK} = 0" in text
    assert "2 of 3 ended as the undisturbed twin did" in text


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("cc"), reason="needs Linux and a C compiler")
def test_five_faults_of_a_capture_are_survived(tmp_path: Path):
    """The soak's own lives on the smallest workspace: without Prefect and a world, which take minutes."""
    import subprocess

    from benchmarks.soak import Lives
    from tests.imports import ROOT

    library = tmp_path / "faulty.so"
    source = ROOT / "tests" / "faulty.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl", "-pthread"], check=True)
    place = workspace(tmp_path / "w")
    lives = Lives(library, "http://127.0.0.1:9/api")
    faults = [
        Fault("killed", {"at": 3, "how": 0}), Fault("disk refuses", {"at": 2, "how": 5}), Fault("disk full", {"at": 4, "how": -28}),
        Fault("clock", {"jump": -86_400, "jump_at": 1}), Fault("killed", {"at": 9, "how": 0}),
    ]  # fmt: skip
    try:
        struck = 0
        for n, fault in enumerate(faults):
            log(place.inbox / f"{n}.jsonl", *[asked(f"r-{n}-{k}") for k in range(20)], asked("r-0-0"), b"junk")
            order = {"flow": "capture", "workspace": str(place.root)}
            ended = lives.ask(order | fault.order)
            struck += ended["killed"] or ended["ended"] != "done" or ended["looks"] > 0
            assert lives.ask(order)["ended"] == "done"
            seen = lives.ask({"flow": "look at the lake", "workspace": str(place.root)})["look"]
            wrong = [f for f in seen["findings"] if f["check"] not in ("modes",)]
            assert wrong == [], (fault, wrong)
        assert struck == len(faults)
    finally:
        lives.close()
    from tasks.live.lake import Lake

    assert Lake(place.lake).count("interactions") == 20 * len(faults)
