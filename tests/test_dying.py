"""Whatever the disk refuses, and wherever the process dies: the same command run again ends in the same tables.

The faults are real: a small library between the process and the system (faulty.c) makes the n-th write, fsync or rename below
the workspace fail or kill the process, in Python, Arrow and Rust alike.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.live.capture import rebuild
from tasks.live.finding import OK
from tasks.live.invariants import invariants
from tasks.live.lake import Lake
from tasks.live.workspace import Workspace
from tests.conftest import flywheel
from tests.handmade import asked, chat_span, line, log, said, traces, workspace
from tests.imports import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux" or not shutil.which("cc"), reason="needs Linux and a C compiler"),
]
ENOSPC, EIO = 28, 5
WHOLE, WHOLE_IN_STEPS = "0:0", "s0:0"  # a life in which nothing goes wrong
TABLES = ("interactions", "feedback", "parts", "waiting", "rejects")


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("faulty") / "faulty.so"
    source = ROOT / "tests" / "faulty.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl", "-pthread"], check=True)
    return library


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Three logs with everything that capture keeps state for: duplicates, rejects, feedback, a part that comes later."""
    place = workspace(tmp_path_factory.mktemp("template") / "work")
    first = [d for k in range(30) for d in (asked(f"r-{k}", response="so " * 40), said(f"f-{k}", f"r-{k}"))]
    log(place.inbox / "a.jsonl", *first, b"junk", first[6], asked("r-4", time="noon"))
    spans = [traces(chat_span(f"{k:x}", traceId=f"{k:032x}")) for k in range(20)]
    log(place.inbox / "b.jsonl", *spans, asked("r-1", response="another"), *[asked(f"q-{k}") for k in range(20)])
    prompt = {"custom_id": "c-1", "method": "POST", "url": "/v1/chat/completions",
              "body": {"model": "m", "messages": [{"role": "user", "content": "and the batch?"}]}}  # fmt: skip
    body = {"id": "cmpl-1", "object": "chat.completion", "created": 1767614400, "model": "m",
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "here"}}]}  # fmt: skip
    answer = {"id": "b-1", "custom_id": "c-1", "response": {"status_code": 200, "request_id": "q", "body": body}, "error": None}
    log(place.inbox / "c.jsonl", answer, *[asked(f"p-{k}") for k in range(20)], prompt)
    return place


def lives(faulty: Path, *specs: tuple[Workspace, str]) -> list[dict]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.dying", *[f"{place.root}={spec}" for place, spec in specs]],
        cwd=ROOT, env={**os.environ, "LD_PRELOAD": str(faulty)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [json.loads(row) for row in done.stdout.splitlines()]


def content(place: Workspace) -> dict[str, list]:
    """What capture stored, but for when, and in which segment: that depends on where a life ended."""
    lake = Lake(place.lake)
    return {
        table: lake.query(
            f"SELECT COLUMNS(c -> c NOT IN ('raw_segment', 'raw_line', 'received', 'reject_id')) FROM {table} ORDER BY ALL"
        ).to_pylist()
        for table in TABLES
    }


@pytest.fixture(scope="module")
def reference(template: Workspace, faulty: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, list[str]]:
    """The tables of a life in which nothing went wrong; and the points at which one may go wrong: every fsync and rename, and
    some of the writes (a table's file alone has hundreds).
    """
    folder = tmp_path_factory.mktemp("reference")
    place = copied(template, folder / "work")
    whole, in_steps = lives(faulty, (place, WHOLE), (copied(template, folder / "steps"), WHOLE_IN_STEPS))
    account = whole["account"]
    assert (account["conflicts"], account["rejected"]) == (1, 2)
    assert account["seen"] == account["stored"] + account["duplicate"] + account["rejected"] + account["attached"] == 126
    found = content(place)
    assert len(found["interactions"]) == 91 and len(found["feedback"]) == 30
    steps, writes = in_steps["writes"], whole["writes"]
    assert steps > 20 and writes > 300
    some = sorted(random.Random(1).sample(range(1, writes + 1), 30))
    return found, [*[f"s{n}" for n in range(1, steps + 1)], *map(str, some)]


def copied(template: Workspace, to: Path) -> Workspace:
    return Workspace(shutil.copytree(template.root, to))


def tried(template: Workspace, tmp_path: Path, faulty: Path, specs: list[str]) -> Iterator[tuple[str, Workspace, dict]]:
    """Each spec on a copy of its own, then a whole life on what it left. Yields the copy and how the faulty life ended."""
    places = [(spec, copied(template, tmp_path / f"{n}")) for n, spec in enumerate(specs)]
    ended = lives(faulty, *[(place, s) for spec, place in places for s in (spec, WHOLE)])
    for n, (spec, place) in enumerate(places):
        after = ended[2 * n + 1]
        assert "account" in after, (spec, after)
        account = after["account"]
        known = account["stored"] + account["duplicate"] + account["rejected"] + account["attached"] + account["waiting"]
        assert account["seen"] + account["resumed"] == known
        yield spec, place, ended[2 * n]
        shutil.rmtree(place.root)


def check(place: Workspace, reference: dict, spec: str) -> None:
    assert content(place) == reference, spec
    assert [f for f in invariants(place, ("lost", "doubled", "orphan")) if f.level != OK] == [], spec


def test_killed_at_any_write_it_ends_in_the_same_tables(template, reference, faulty, tmp_path):
    tables, points = reference
    for spec, place, ended in tried(template, tmp_path, faulty, [f"{n}:0" for n in points]):
        assert ended["killed"], spec
        check(place, tables, spec)


def test_killed_at_any_time_it_ends_in_the_same_tables(template, reference, faulty, tmp_path):
    """With the test above, more than 200 points."""
    tables, points = reference
    chance = random.Random(7)
    specs = [f"t{chance.uniform(0.005, 0.3):.4f}" for _ in range(200 - len(points))]
    killed = 0
    for spec, place, ended in tried(template, tmp_path, faulty, specs):
        killed += ended["killed"]
        check(place, tables, spec)
    assert killed > len(specs) // 4


def test_dying_again_and_again_on_the_same_lake_it_still_gets_there(template, reference, faulty, tmp_path):
    tables, points = reference
    place = copied(template, tmp_path / "work")
    lives(faulty, *[(place, f"{n}:0") for n in random.Random(3).sample(points, 30)], (place, WHOLE))
    check(place, tables, "30 lives")
    rebuild(place)
    check(place, tables, "rebuilt")


def test_a_disk_that_refuses_any_one_write_loses_nothing(template, reference, faulty, tmp_path):
    tables, points = reference
    specs = [f"{point}:{(ENOSPC, EIO)[n % 2]}" for n, point in enumerate(points[:-20])]
    for spec, place, ended in tried(template, tmp_path, faulty, specs):
        # Either it was told, with the fix, or it did not matter (a fsync of a folder that the system does without).
        assert ended.get("code") == 1 or "account" in ended, (spec, ended)
        check(place, tables, spec)


def test_a_full_disk_is_told_with_the_bytes_needed_and_the_same_command_goes_on(template, reference, faulty, tmp_path):
    place = copied(template, tmp_path / "work")
    fault = {"LD_PRELOAD": str(faulty), "FAULT_AT": "5", "FAULT_HOW": str(-ENOSPC), "FAULT_UNDER": str(place.data)}
    full = flywheel("capture", "--json", "--workspace", place.root, **fault)
    assert full.code == 1, full.err
    assert "No space left on device" in full.err and "free at least" in full.err and "Traceback" not in full.err
    done = flywheel("capture", "--json", "--workspace", place.root)
    assert done.code == 0, done.err
    assert content(place) == reference[0]
    everything = fault | {"FAULT_AT": "1"}
    let_go = flywheel("quarantine", "dismiss", "bad_json", "--reason", "junk", "--workspace", place.root, **everything)
    assert let_go.code == 1 and "fix: flywheel doctor" in let_go.err and "Traceback" not in let_go.err, let_go.err
    rebuilt = flywheel("capture", "--rebuild", "--workspace", place.root, **fault)
    assert rebuilt.code == 1 and "free at least" in rebuilt.err and "Traceback" not in rebuilt.err, rebuilt.err
    assert content(place) == reference[0], "the old tables stay until the new ones are whole"
    assert flywheel("capture", "--rebuild", "--workspace", place.root).code == 0
    assert flywheel("capture", "--workspace", place.root).code == 0, "and what they left half-written is swept"
    check(place, reference[0], "rebuilt")


def test_what_is_in_the_log_meanwhile_is_not_forgotten(template, reference, faulty, tmp_path):
    """A log that grew between a death and the next life."""
    tables, _ = reference
    place = copied(template, tmp_path / "work")
    lives(faulty, (place, "25:0"))
    with (place.inbox / "a.jsonl").open("ab") as f:
        f.write(line(asked("new")) + b"\n")
    lives(faulty, (place, WHOLE))
    assert len(content(place)["interactions"]) == len(tables["interactions"]) + 1
