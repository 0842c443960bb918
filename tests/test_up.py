"""The wheel left turning: `flywheel up`, three turns by schedule, people on the review page, an approval in a browser."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from demo.company import Company
from demo.workspace import new_workspace
from tasks.live import alarms, registry, services, snapshot
from tasks.live.lake import Lake
from tasks.live.workspace import Workspace
from tasks.policy import load
from tests.browser import chromium
from tests.conftest import ROOT, flywheel, git
from tests.visitors import Visitors

pytestmark = pytest.mark.slow
SEED, SESSIONS, TURNS = 1, 1150, 3
OFTEN = {
    "capture": "every 40 seconds", "mine": "every 45 seconds", "send": "every 45 seconds", "receive": "every 60 seconds",
    "retrain": "every 60 seconds", "retrain_anyway": "", "watch": "every 5 minutes", "maintain": "",
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    made = new_workspace(tmp_path_factory.mktemp("up") / "w", ROOT, SEED)
    text = (made.root / "params.yaml").read_text(encoding="utf-8")
    for name, often in OFTEN.items():
        text, n = re.subn(rf"(?m)^(  {name}: )(\"[^\"]*\"|every \d+ \w+)", rf'\g<1>"{often}"', text)
        assert n == 1, name
    # A retraining on the first of a batch's answers would be judged on a handful of prompts.
    text, n = re.subn(r"min_new_labels: \d+", "min_new_labels: 275", text)
    assert n == 1
    (made.root / "params.yaml").write_text(text, encoding="utf-8")
    git(made.root, "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-qam", "often")
    yield made
    flywheel("down", "--workspace", made.root)


@pytest.fixture(scope="module")
def up(place: Workspace) -> dict[str, str]:
    """The addresses of what `flywheel up` started."""
    done = flywheel("up", "--json", "--workspace", place.root)
    assert done.code == 0, done.err
    return {name: s["url"] for name, s in done.document()["services"].items()}


def test_three_turns_by_themselves_and_a_person_approves_in_the_browser(
    place: Workspace, up: dict[str, str], tmp_path: Path
):
    company = Company(place.root, place.state / "demo", SEED)
    people = Visitors(place, up["review"], SEED, tmp_path)
    approved = False
    for turn in range(TURNS):
        champion = registry.champion(place)
        company.serve(turn, SESSIONS, load(champion.folder), champion.version)
        batch = until(lambda n=turn: batches(place)[n] if len(batches(place)) > n else None, f"batch {turn} is sent")
        people.answer(batch)
        before = turn

        def judged(batch: Path = batch, before: int = before) -> bool:
            people.answer(batch)  # those who are asked again
            return len(snapshots(place)) > before

        until(judged, f"snapshot {turn} is made")
        settle(place)
        if registry.open_question(place) is not None and not approved:
            approve_in_browser(up["prefect"])
            until(lambda: registry.open_question(place) is None, "the answer arrives")
            approved = True
    assert approved, "none of three challengers was good enough: the test has nothing to show"
    entry = next(e for e in registry.history(place) if e.action == "promoted")
    assert entry.by == "robin" and entry.why.startswith("read twenty answers")
    assert len(snapshots(place)) >= TURNS
    shown = urllib.request.urlopen(up["report"], timeout=60).read().decode()
    assert all(s.tag in shown for s in snapshots(place))
    pages = [urllib.request.urlopen(f"{up['report']}/{s.tag}.html", timeout=60).read().decode() for s in snapshots(place)]
    assert any("robin" in page and "read twenty answers" in page for page in pages), "who approved, and why"
    assert failed(up["prefect"]) == []


def test_status_names_what_runs_where(place: Workspace, up: dict[str, str]):
    def shown() -> dict[str, Any]:
        return flywheel("status", "--json", "--workspace", place.root).document()["services"]

    assert {name: s["url"] for name, s in shown().items()} == up
    until(lambda: {s["state"] for s in shown().values()} == {"healthy"}, "all are well at once")


def test_a_service_that_is_killed_comes_back(place: Workspace, up: dict[str, str]):
    before = services.read(place).services["review"].pid
    os.kill(before, signal.SIGKILL)
    until(lambda: (s := services.read(place).services["review"]).state == "healthy" and s.pid != before, "it is back")
    assert services.read(place).services["review"].restarts == 1
    assert urllib.request.urlopen(up["review"], timeout=10).status == 200


def test_a_second_up_is_refused_and_says_who_runs(place: Workspace, up: dict[str, str]):
    done = flywheel("up", "--workspace", place.root)
    assert done.code == 6 and str(services.read(place).pid) in done.err and "flywheel down" in done.err


def test_a_paused_flow_does_not_start_and_a_resumed_one_does(place: Workspace, up: dict[str, str]):
    assert flywheel("pause", "capture", "--json", "--workspace", place.root).document() == {"paused": ["capture"]}
    assert deployment(up["prefect"], "capture")["paused"] is True and deployment(up["prefect"], "mine")["paused"] is False
    assert flywheel("resume", "--workspace", place.root).code == 0
    assert deployment(up["prefect"], "capture")["paused"] is False
    wrong = flywheel("pause", "captur", "--workspace", place.root)
    assert wrong.code == 2 and "captur" in wrong.err and "capture" in wrong.err


def test_a_flow_run_that_fails_is_told(place: Workspace, up: dict[str, str]):
    (place.inbox / "gone").symlink_to("/nowhere")
    key = place.state / "pseudonym.key"
    key.rename(key.with_suffix(".away"))
    try:
        (place.inbox / "new.jsonl").write_text(json.dumps({"schema": "flywheel.interaction/v1"}) + "\n", encoding="utf-8")
        found = until(lambda: [a for a in alarms.read(place) if "pseudonym.key is missing" in a["text"]], "the alarm is kept")
    finally:
        key.with_suffix(".away").rename(key)
    assert "capture" in found[-1]["subject"]
    assert found[-1]["subject"] in flywheel("status", "--workspace", place.root).out


def test_a_flow_run_that_died_with_its_runner_is_marked_and_told_and_its_place_is_free_again(place: Workspace, up: dict[str, str]):
    turn = deployment(up["prefect"], "turn")
    run = call(up["prefect"], f"/deployments/{turn['id']}/create_flow_run", {})["id"]
    until(lambda: state(up["prefect"], run) == "RUNNING", "it runs")
    runner = psutil.Process(services.read(place).services["deployments"].pid)
    for process in [runner, *runner.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            process.kill()
    until(lambda: state(up["prefect"], run) == "CRASHED", "the missing heartbeats are seen")
    until(lambda: any("crashed" in a["subject"] for a in alarms.read(place)), "it is told")
    again = call(up["prefect"], f"/deployments/{turn['id']}/create_flow_run", {})["id"]
    until(lambda: state(up["prefect"], again) == "COMPLETED", "the next one goes on from there")


def test_down_ends_everything_also_what_a_killed_supervisor_left(place: Workspace, up: dict[str, str]):
    known = services.read(place)
    os.kill(known.pid, signal.SIGKILL)
    pids = [s.pid for s in known.services.values()]
    assert all(map(psutil.pid_exists, pids))
    done = flywheel("down", "--json", "--workspace", place.root)
    assert set(done.document()["ended"]) == set(up)
    until(lambda: not any(map(psutil.pid_exists, pids)), "they are gone", 60)
    assert flywheel("status", "--json", "--workspace", place.root).document()["services"] == {}
    assert "nothing was running" in flywheel("down", "--workspace", place.root).out


def until(true: Callable[[], Any], what: str, seconds: float = 900) -> Any:
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, f"it never came true that {what}"
        time.sleep(1)
    return found


def batches(place: Workspace) -> list[Path]:
    """Oldest first."""
    rows = Lake(place.lake).query("SELECT batch_id, min(ts) AS began FROM candidates JOIN interactions USING (interaction_id)"
                                  " WHERE part <> '' GROUP BY ALL ORDER BY began").to_pylist()  # fmt: skip
    return [place.outbox / r["batch_id"] for r in rows if (place.outbox / r["batch_id"] / "batch.jsonl").is_file()]


def snapshots(place: Workspace) -> list[Any]:
    return list(snapshot.history(place))


def settle(place: Workspace) -> None:
    """Wait for the flow run that made the snapshot to promote or ask."""
    def at_rest() -> bool:
        newest = snapshot.last(place)
        return registry.is_recorded(place, newest) and not (place.state / "locks" / "snapshot.json").is_file()

    until(at_rest, "the snapshot is recorded")
    time.sleep(15)  # promote or ask follows at once, in a task of its own


def approve_in_browser(prefect: str) -> None:
    """What an operator does: open the flow run that waits, read, press Resume, fill in the form, submit."""
    from playwright.sync_api import TimeoutError, sync_playwright

    found = until(lambda: [r for r in flow_runs(prefect) if r["state_type"] == "PAUSED"], "a flow run waits")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium(), args=arguments)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(180_000)
        page.goto(f"{prefect}/runs/flow-run/{found[0]['id']}")
        page.get_by_role("button", name="Resume").first.click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_text("Make it champion?").wait_for()
        assert "right answers: better" in dialog.inner_text() and "What changed in the data" in dialog.inner_text()
        dialog.get_by_role("switch").click()
        dialog.locator("textarea").nth(0).fill("robin")
        dialog.locator("textarea").nth(1).fill("read twenty answers")
        for _ in range(5):  # the form stays open where Prefect could not take it at that moment, and a person presses again
            dialog.get_by_role("button", name="Submit").click()
            with contextlib.suppress(TimeoutError):
                dialog.wait_for(state="hidden", timeout=60_000)
                break
        browser.close()


def flow_runs(prefect: str) -> list[dict[str, Any]]:
    begun = {"state": {"type": {"not_any_": ["SCHEDULED"]}}}
    return call(prefect, "/flow_runs/filter", {"limit": 200, "sort": "START_TIME_DESC", "flow_runs": begun})


def failed(prefect: str) -> list[str]:
    return [f"{r['name']}: {r['state']['message']}" for r in flow_runs(prefect) if r["state_type"] == "FAILED"]


def state(prefect: str, run: str) -> str:
    return call(prefect, f"/flow_runs/{run}")["state_type"]


def deployment(prefect: str, name: str) -> dict[str, Any]:
    return call(prefect, f"/deployments/name/{name}/flywheel")


def call(prefect: str, path: str, sent: dict[str, Any] | None = None) -> Any:
    """Patient: on SQLite a busy Prefect waits up to a minute for a lock of its own."""
    request = urllib.request.Request(f"{prefect}/api{path}", json.dumps(sent).encode() if sent is not None else None,
                                     {"Content-Type": "application/json"})  # fmt: skip
    with urllib.request.urlopen(request, timeout=180) as answer:
        return json.loads(answer.read())
