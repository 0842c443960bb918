"""Who answers whom: a promotion is picked up, broken files never are, users stay on their side, and what is worse is taken back."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from tasks.live.registry import Registered
from tasks.live.serving.decisions import decisions
from tasks.live.serving.lineup import LineUp
from tasks.live.serving.model import Model
from tasks.live.serving.params import ServeParams
from tasks.live.serving.trial import CANARY, HOLDBACK, NEWER, Trial
from tasks.live.status import decided
from tasks.live.workspace import Workspace
from tasks.policy.answers import AnswersPolicy
from tests.handmade import TEXT, workspace
from tests.serving import Registry, always, ask, lines, serving, settings, until

HOUR = 3600.0


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    made = workspace(tmp_path / "work")
    settings(made, poll_s=0.05)
    return made


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Registered]:
    folder = tmp_path_factory.mktemp("models")
    return [always(folder / action, str(k + 1), action) for k, action in enumerate(("refund", "invoice", "battery"))]


class Clock:
    def __init__(self) -> None:
        self.now = 1_767_571_200.0

    def __call__(self) -> float:
        return self.now


def lineup(place: Workspace, clock: Clock, **changes: Any) -> LineUp:
    settings(place, **changes)
    return LineUp(place, place.params("serve", ServeParams).checked(), clock)


def traffic(made: LineUp, clock: Clock, users: int, bad: Callable[[Model], float], seed: int = 1) -> None:
    """Users come one a second, ask once, and say so where it was bad; then their time is over, and the trial is looked at."""
    draw = np.random.default_rng(seed)
    for k in range(users):
        if made.trial is None:
            return
        clock.now += 1
        trial, actor = made.trial, f"\0u\0user-{seed}-{k}"
        model = trial.model(trial.arm(actor))
        trial.answered(actor, f"r-{seed}-{k}", clock.now)
        if draw.random() < bad(model):
            assert trial.said_bad(f"r-{seed}-{k}", actor, clock.now + 1)
        if k % 50 == 0:
            made.look()
    clock.now += HOUR
    made.look()


# --- reload


def answer_of(client: TestClient) -> str:
    return ask(client).json()["choices"][0]["message"]["content"]


def test_a_promotion_is_picked_up_without_dropping_a_request(place, models, monkeypatch):
    registry = Registry(models[0])
    settings(place, holdback_share=0.0)
    with serving(place, registry, monkeypatch) as client:
        seen: list[tuple[int, str]] = []
        over = threading.Event()

        def asks() -> None:
            while not over.is_set():
                got = ask(client)
                seen.append((got.status_code, got.json()["choices"][0]["message"]["content"]))

        threads = [threading.Thread(target=asks) for _ in range(4)]
        for t in threads:
            t.start()
        until(lambda: len(seen) > 20)
        for champion in (models[1], models[0], models[2]):
            registry.champion = champion
            until(lambda: seen[-1][1] == TEXT[{"1": "refund", "2": "invoice", "3": "battery"}[champion.version]])  # noqa: B023
        over.set()
        for t in threads:
            t.join()
    assert {status for status, _ in seen} == {200}
    assert len(lines(place)) == len(seen)
    by = {row["model_version"].partition("-")[0]: row["response"] for row in lines(place)}
    assert by == {"1": TEXT["refund"], "2": TEXT["invoice"], "3": TEXT["battery"]}, "each answer names who gave it"


def test_a_champion_whose_files_are_broken_is_never_served(place, models, tmp_path, monkeypatch):
    broken = always(tmp_path / "broken", "9", "battery")
    (broken.folder / "head.safetensors").write_bytes(b"rubbish")
    registry = Registry(models[0])
    with serving(place, registry, monkeypatch) as client:
        registry.champion = broken
        until(lambda: client.get("/healthz").json()["problems"])
        assert "version 9" in client.get("/healthz").json()["problems"]["champion"]
        assert answer_of(client) == TEXT["refund"] and client.get("/healthz").status_code == 200
        registry.champion = models[1]
        until(lambda: client.get("/healthz").json()["models"]["champion"]["version"] == "2")
        assert client.get("/healthz").json()["problems"] == {}


def test_it_starts_with_whom_it_served_last_where_the_registry_is_gone(place, models, monkeypatch):
    registry = Registry(models[0])
    with serving(place, registry, monkeypatch) as client:
        registry.down = True
        until(lambda: client.get("/healthz").json()["registry"]["error"])
        assert answer_of(client) == TEXT["refund"], "and goes on while it serves"
    with serving(place, registry, monkeypatch) as client:
        until(lambda: client.get("/healthz").status_code == 200)
        assert answer_of(client) == TEXT["refund"]
        assert "gone" in client.get("/healthz").json()["registry"]["error"]


# --- who gets whom


@pytest.fixture
def trial(place: Workspace, models: list[Registered]) -> Trial:
    older, newer = (Model.load(m, 4) for m in models[:2])
    folder = place.state / "serve"
    folder.mkdir()
    return Trial(folder, CANARY, older, newer, 0.2, HOUR, b"key", 0.0)


def test_a_share_of_the_users_gets_the_newer_and_each_stays_on_a_side(trial: Trial):
    arms = [trial.arm(f"\0u\0user-{k}") for k in range(5000)]
    assert abs(arms.count(NEWER) / 5000 - 0.2) < 0.025
    assert arms == [trial.arm(f"\0u\0user-{k}") for k in range(5000)]
    assert trial.arm("") == "", "whom nobody names takes no part"


def test_a_user_counts_once_however_much_they_say(trial: Trial):
    for k in range(100):
        trial.answered("\0u\0kim", f"r-{k}", k)
    assert trial.said_bad("r-3", "\0u\0kim", 200.0)
    assert not any(trial.said_bad(f"r-{k}", "\0u\0kim", 201.0) for k in range(100))
    assert [o.bad for o in trial.outcomes(HOUR * 2)] == [True]


def test_nobody_speaks_for_another_or_of_what_was_never_answered_or_too_late(trial: Trial):
    trial.answered("\0u\0kim", "r-1", 0.0)
    assert not trial.said_bad("r-1", "\0u\0eve", 1.0)
    assert not trial.said_bad("r-guessed", "\0u\0kim", 1.0)
    assert not trial.said_bad("r-1", "\0u\0kim", HOUR + 1)
    assert [o.bad for o in trial.outcomes(HOUR + 2)] == [False]


def test_nobody_is_taken_out_of_turn(trial: Trial):
    """Bad news comes first; counted as it comes it would weigh more than the good."""
    for k, at in enumerate((0.0, 10.0, 20.0)):
        trial.answered(f"\0u\0user-{k}", f"r-{k}", at)
    trial.said_bad("r-2", "", 30.0)
    assert trial.outcomes(100.0) == [], "of the first nothing is known yet"
    assert [o.bad for o in trial.outcomes(HOUR + 5)] == [False]
    assert [o.bad for o in trial.outcomes(HOUR + 15)] == [False, False, True]


def test_a_restart_loses_nobody_and_a_torn_last_line_does_no_harm(trial: Trial, place: Workspace):
    trial.answered("\0u\0kim", "r-1", 0.0)
    trial.answered("\0u\0lee", "r-2", 1.0)
    trial.said_bad("r-1", "", 2.0)
    trial.close(decided=False)
    (path,) = (place.state / "serve").glob("trial-*")
    path.write_bytes(path.read_bytes() + b'{"at": 3, "act')
    assert "kim" not in path.read_text(), "users are hashed"
    again = Trial(path.parent, CANARY, trial.older, trial.newer, 0.2, HOUR, b"key", 0.0)
    assert again.said_bad("r-2", "", 5.0)
    assert [o.bad for o in again.outcomes(2 * HOUR)] == [True, True]
    again.close(decided=True)
    assert not path.exists()


# --- what follows


def test_a_worse_challenger_is_taken_back_and_never_comes_again(place, models):
    clock = Clock()
    made = lineup(place, clock, challenger_share=0.5)
    made.update(models[0], models[1], "promote")
    assert made.trial.kind == CANARY and (made.trial.older.version, made.trial.newer.version) == ("1", "2")
    traffic(made, clock, 3000, lambda m: 0.25 if m.version == "2" else 0.05)
    assert made.trial is None and made.challenger is None
    (done,) = decisions(made.folder)
    assert (done.trial, done.decision, done.newer["version"]) == ("canary", "breach", "2")
    told = decided(place)
    assert told["decision"] == "breach" and told["reason"] == done.reason, "flywheel status shows it"
    assert done.evidence["low"] > 0 and done.evidence["newer_bad"] > 0 and "valid at every look" in done.reason
    assert [m.version for m in made.to_mark] == ["2"]
    made.update(models[0], models[1], "promote")
    assert made.trial is None, "the same challenger again"
    again = lineup(place, clock)
    again.update(models[0], models[1], "promote")
    assert again.trial is None, "nor after a restart"
    again.update(models[0], models[2], "promote")
    assert again.trial.newer.version == "3"
    again.update(models[1], None, "")
    assert again.champion.version == "2" and again.trial.kind == HOLDBACK, "people may promote it all the same"


def test_a_good_challenger_is_recorded_as_evidence_and_goes_on(place, models):
    clock = Clock()
    made = lineup(place, clock, challenger_share=0.5)
    made.update(models[0], models[1], "promote")
    traffic(made, clock, 3000, lambda m: 0.02 if m.version == "2" else 0.08)
    assert [d.decision for d in decisions(made.folder)] == ["success"]
    assert made.trial is not None and made.champion.version == "1", "who is promoted the gate and people say"


@pytest.mark.parametrize(
    ("canary", "decision", "meets"),
    [("promote", "promote", True), ("promote", "inconclusive", False), ("inconclusive", "inconclusive", True),
     ("inconclusive", "refuse", False), ("inconclusive", "", False)],
)  # fmt: skip
def test_only_a_challenger_that_the_gate_let_through_meets_users(place, models, canary, decision, meets):
    made = lineup(place, Clock(), challenger_share=0.1, canary=canary)
    made.update(models[0], models[1], decision)
    assert (made.trial is not None) is meets


def test_a_fresh_champion_that_is_worse_is_rolled_back(place, models):
    clock = Clock()
    made = lineup(place, clock, holdback_share=0.3)
    made.update(models[0], None, "")
    assert made.trial is None, "there is nobody to compare the first with"
    made.update(models[1], None, "")
    assert made.trial.kind == HOLDBACK and made.champion.version == "2"
    traffic(made, clock, 3000, lambda m: 0.3 if m.version == "2" else 0.05)
    assert made.champion.version == "1" and made.trial is None
    assert "users" in made.taken_back(models[1])
    made.update(models[1], None, "")
    assert made.champion.version == "1", "although the registry does not know yet"
    again = lineup(place, clock)
    again.resume()
    again.update(models[1], None, "")
    assert again.champion.version == "1", "also after a restart"
    made.update(models[0], None, "")
    assert made.champion.version == "1" and made.trial is None, "the registry followed; nobody is on trial"


def test_a_promotion_that_no_user_suffers_from_ends_the_holdback(place, models):
    clock = Clock()
    made = lineup(place, clock, holdback_share=0.5, margin=0.1)
    made.update(models[0], None, "")
    made.update(models[1], None, "")
    traffic(made, clock, 3000, lambda m: 0.05)
    assert [d.decision for d in decisions(made.folder)] == ["success"]
    assert made.champion.version == "2" and made.previous is None and made.trial is None


def test_a_holdback_ends_with_its_days(place, models):
    clock = Clock()
    made = lineup(place, clock, holdback_share=0.1, holdback_days=2.0)
    made.update(models[0], None, "")
    made.update(models[1], None, "")
    clock.now += 3 * 24 * HOUR
    made.look()
    made.update(models[1], None, "")
    assert made.trial is None and [d.decision for d in decisions(made.folder)] == ["expired"]


def test_a_rollback_by_people_is_no_promotion(place, models):
    made = lineup(place, Clock())
    for champion in (models[0], models[1], models[0]):
        made.update(champion, None, "")
    assert made.champion.version == "1" and made.trial is None


def test_a_restart_goes_on_with_the_trial(place, models):
    clock = Clock()
    made = lineup(place, clock, holdback_share=0.3)
    made.update(models[0], None, "")
    made.update(models[1], None, "")
    made.trial.answered("\0u\0kim", "r-1", clock.now)
    made.close()
    again = lineup(place, clock)
    again.resume()
    again.update(models[1], None, "")
    assert again.trial.kind == HOLDBACK and again.trial.enrolled == 1 and again.trial.older.version == "1"


# --- over HTTP


def test_users_of_the_canary_get_the_challenger_and_the_registry_is_told_of_a_breach(place, models, monkeypatch):
    registry = Registry(models[0], models[1])
    settings(place, challenger_share=0.5, outcome_minutes=0.0005)
    with serving(place, registry, monkeypatch) as client:
        until(lambda: client.get("/healthz").json()["trial"])
        versions: dict[str, set[str]] = {}
        for _ in range(2):
            for k in range(20):
                got = ask(client, user=f"user-{k}")
                versions.setdefault(f"user-{k}", set()).add(got.headers["x-flywheel-version"])
        assert all(len(v) == 1 for v in versions.values()), "each on one side"
        assert {v for side in versions.values() for v in side} == {"1", "2"}
        assert {ask(client).headers["x-flywheel-version"] for _ in range(10)} == {"1"}, "nobody in particular: the champion"
        assert ask(client, model="challenger").headers["x-flywheel-version"] == "2"
        settle = 0
        while client.get("/healthz").json()["trial"] and settle < 400:
            got = ask(client, user=f"more-{settle}").json()
            if got["flywheel"]["version"] == "2":
                client.post("/v1/feedback", json={"response_id": got["id"], "thumb": False, "user": f"more-{settle}"})
            settle += 1
        until(lambda: registry.done)
        assert registry.done[0][:2] == ("refuse", "2")
        assert {ask(client, user=f"user-{k}").headers["x-flywheel-version"] for k in range(20)} == {"1"}
        (told,) = client.get("/healthz").json()["decisions"]
        assert told["decision"] == "breach" and told["evidence"]["newer_bad"] > told["evidence"]["older_bad"] == 0
    arms = {row["attributes"].get("arm", "") for row in lines(place) if row["flywheel"] == "interaction/1"}
    assert arms == {"older", "newer", ""}


def test_a_challenger_that_fails_costs_no_answer_and_counts_against_it(place, models, monkeypatch):
    respond = AnswersPolicy.respond
    registry = Registry(models[0], models[1])
    settings(place, challenger_share=0.5, outcome_minutes=0.0005)
    with serving(place, registry, monkeypatch) as client:
        until(lambda: client.get("/healthz").json()["trial"])

        def breaks(self, conversations, *more):
            if self.weights[:, -1].max() > 51.5:  # version 2
                raise RuntimeError("no")
            return respond(self, conversations, *more)

        monkeypatch.setattr(AnswersPolicy, "respond", breaks)
        k = 0
        while not registry.done and k < 400:
            got = ask(client, user=f"user-{k}")
            assert got.status_code == 200 and got.headers["x-flywheel-version"] == "1"
            k += 1
        until(lambda: registry.done)
        assert client.get("/healthz").json()["fell_back"] > 0 and client.get("/healthz").json()["failed"] == 0


def test_a_shadow_is_seen_by_nobody_counted_apart_and_delays_nothing(place, models, monkeypatch):
    respond, slow = AnswersPolicy.respond, threading.Event()
    registry = Registry(models[0], models[1])
    settings(place, shadow=True)

    def slowly(self, conversations, *more):
        if self.weights[:, -1].max() > 51.5:
            slow.wait(20)
        return respond(self, conversations, *more)

    with serving(place, registry, monkeypatch) as client:
        until(lambda: len(client.get("/v1/models").json()["data"]) == 2)
        monkeypatch.setattr(AnswersPolicy, "respond", slowly)
        for k in range(100):
            assert ask(client, user=f"user-{k}").headers["x-flywheel-version"] == "1", "the shadow hangs, and nobody waits"
        told = client.get("/healthz").json()["shadow"]
        assert told["left_out"] >= 30 and told["waiting"] <= 64
        slow.set()
        until(lambda: client.get("/healthz").json()["shadow"]["waiting"] == 0)
        (pair,) = client.get("/healthz").json()["shadow"]["pairs"].values()
        assert pair["disagreement"] == 1.0
    assert {row["model_version"].partition("-")[0] for row in lines(place)} == {"1"} and len(lines(place)) == 100
    rows = [json.loads(line) for line in (place.state / "serve" / "shadow.jsonl").read_text().splitlines()]
    assert rows and not any(TEXT["refund"] in str(row) or "money" in str(row) for row in rows), "no text is kept"
