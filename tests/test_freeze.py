"""What goes through the door: whom people answered, what users said of it, which failures were fixed; the same bytes each time."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tasks import shards
from tasks.frozen import Exchange, Given, Thumb
from tasks.gate.looks import Look
from tasks.live.capture import capture
from tasks.live.freeze import freeze
from tasks.live.lake import Lake
from tasks.live.repository import TAG
from tasks.live.snapshot import COMMITTER
from tasks.live.workspace import Workspace
from tasks.policy import folder_digest
from tasks.records import Cluster, Member, canonical, content_id, read_jsonl, read_records
from tests.conftest import git
from tests.handmade import NOON, annotation, asked, candidate, log, said, workspace

MINUTE = 60_000_000
pytestmark = pytest.mark.slow  # the champion comes from a real MLflow store


def ix(name: str) -> str:
    return content_id("ix", "flywheel", "", name)


def cluster(turn: int, state: str, exemplars: str) -> Cluster:
    return Cluster(
        f"ct_{turn}", "cl_1", turn, "bt_1", f"money {turn}", state, 5, 50, 0.1, 0.0, 1.0, 1, turn, "", exemplars, 0, 0, 0, 0
    )


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    """Five exchanges: people answered r1 and h1 (holdout), users rated r1, r2 and h1, nobody looked at r3; r4 a machine scored."""
    made = workspace(tmp_path / "work")
    git(made.root, "init", "--quiet")
    git(made.root, *COMMITTER, "commit", "--quiet", "--allow-empty", "-m", "workspace")
    log(
        made.inbox / "logs.jsonl",
        *(
            asked(name, session_id=f"s-{name}", time=f"2026-01-05T12:0{k}:00Z")
            for k, name in enumerate(("r1", "r2", "r3", "r4", "h1"))
        ),
        said("f1", "r1", value=True),
        said("f2", "r1", value=False, time="2026-01-05T12:09:00Z"),
        said("f3", "r2", value=True, user_id="u-2"),
        said("f4", "h1"),
        said("f5", "r4", source="llm_judge"),
    )
    capture(made)
    lake = Lake(made.lake)
    sides = {name: "holdout" if name == "h1" else "train" for name in ("r1", "r2", "r3", "r4", "h1")}
    lake.append("members", [Member(ix(n), f"gr_{n}", side, f"qk_{n}") for n, side in sides.items()])
    drawn = [("r1", "mined", 1), ("r1", "mined", 2), ("h1", "audit_holdout", 2), ("r3", "", 1), ("r4", "", 2)]
    lake.append("candidates", [
        replace(candidate(n, part, batch=f"bt_{b}"), candidate_id=f"cd_{n}{b}", interaction_id=ix(n), side=sides[n])
        for n, part, b in drawn
    ])  # fmt: skip
    answers = [replace(annotation(n, w), interaction_id=ix(n)) for n in ("r1", "h1") for w in "ab"]
    lake.append("annotations", answers)
    lake.append("clusters", [
        cluster(1, "born", f'["{ix("r1")}"]'), cluster(2, "fixed", f'["{ix("h1")}"]'), cluster(3, "regressed", f'["{ix("r1")}"]'),
    ])  # fmt: skip
    return made


def test_what_people_answered_and_users_rated_is_frozen_with_its_place(place: Workspace):
    report = freeze(place)
    rows = {e.interaction_id: e for e in shards.read(place.frozen / "exchanges", Exchange)}
    assert set(rows) == {ix("r1"), ix("r2"), ix("h1")} and report.interactions == 3
    # The time of a batch is that of the newest exchange it was chosen from; r1 was asked about twice, first in batch 1.
    first, second = NOON + 2 * MINUTE, NOON + 4 * MINUTE
    assert (rows[ix("r1")].arrived, rows[ix("r1")].part, rows[ix("r1")].side) == (first, "mined", "train")
    assert (rows[ix("h1")].arrived, rows[ix("h1")].part, rows[ix("h1")].side) == (second, "audit_holdout", "holdout")
    assert (rows[ix("r2")].arrived, rows[ix("r2")].part) == (rows[ix("r2")].ts, "")
    answers = shards.read(place.frozen / "annotations", Given)
    assert {(a.interaction_id, a.annotator, a.arrived) for a in answers} == {
        (ix("r1"), "a", first), (ix("r1"), "b", first), (ix("h1"), "a", second), (ix("h1"), "b", second),
    }  # fmt: skip


def test_a_users_last_word_counts_and_neither_a_machines_nor_one_about_the_holdout(place: Workspace):
    freeze(place)
    thumbs = shards.read(place.frozen / "thumbs", Thumb)
    assert {(t.interaction_id, t.polarity) for t in thumbs} == {(ix("r1"), -1), (ix("r2"), 1)}
    assert all(t.user and t.user_since <= t.ts for t in thumbs)


def test_a_cluster_that_was_fixed_once_stays_in_the_regression_suite(place: Workspace):
    freeze(place)
    assert list(read_jsonl(place.frozen / "regression.jsonl")) == [
        {"cluster_id": "cl_1", "cluster": "money 2", "interactions": sorted([ix("r1"), ix("h1")])}
    ]


def test_an_equal_lake_gives_equal_bytes_and_says_so(place: Workspace):
    assert freeze(place).changed
    first = folder_digest(place.frozen)
    again = freeze(place)
    assert not again.changed and folder_digest(place.frozen) == first
    shutil.rmtree(place.frozen)
    assert freeze(place).changed and folder_digest(place.frozen) == first


# What the gate said before


def judged(place: Workspace, n: int, decision: str, **changes: object) -> str:
    """Commit and tag what lies in the reports as a snapshot with this verdict."""
    verdict = {"decision": decision, "tested": True, "level": 0.02, "primary": {"p_value": n / 100}} | changes
    (place.reports / "verdict.json").write_bytes(canonical(verdict))
    (place.reports / "profile.json").write_bytes(b"{}")
    (place.root / "dvc.lock").write_text("stages: {}\n", encoding="utf-8")
    (place.data / "frozen.dvc").write_text(f"outs:\n- md5: '{n}'\n", encoding="utf-8")
    git(place.root, "add", "--force", "--", "data/reports", "dvc.lock", "data/frozen.dvc")
    git(place.root, *COMMITTER, "commit", "--quiet", "--allow-empty", "-m", f"snapshot {n}")
    git(place.root, *COMMITTER, "tag", "--annotate", f"{TAG}{n}", "-m", decision)
    return f"{TAG}{n}"


def looks(place: Workspace) -> list[Look]:
    return read_records(place.frozen / "looks.jsonl", Look)


def grow(place: Workspace, name: str) -> None:
    """One person more has answered: other data."""
    lake = Lake(place.lake)
    lake.append("annotations", [replace(annotation("h1", name), interaction_id=ix("h1"))])


def test_judging_is_no_look_at_itself_and_every_other_verdict_is(place: Workspace):
    freeze(place)
    assert looks(place) == []
    first = judged(place, 1, "inconclusive")
    again = freeze(place)
    assert not again.changed and looks(place) == [], "the same data, champion and parameters: nothing new was looked at"
    grow(place, "c")
    freeze(place)
    assert looks(place) == [Look(first, "inconclusive", 0.01, 0.02)]
    second = judged(place, 2, "promote")
    assert not freeze(place).changed
    grow(place, "d")
    freeze(place)
    assert [x.snapshot for x in looks(place)] == [first, second]


def test_other_parameters_on_the_same_data_are_another_look_and_going_back_is_none(place: Workspace):
    params = place.root / "params.yaml"
    before = params.read_text(encoding="utf-8")
    freeze(place)
    frozen = folder_digest(place.frozen)
    first = judged(place, 1, "inconclusive")
    params.write_text(before.replace("seed: 1", "seed: 2"), encoding="utf-8")
    assert before != params.read_text(encoding="utf-8")
    freeze(place)
    assert [x.snapshot for x in looks(place)] == [first]
    judged(place, 2, "inconclusive")
    params.write_text(before + "# a remark\n", encoding="utf-8")
    freeze(place)
    assert looks(place) == [] and folder_digest(place.frozen) == frozen


def test_a_verdict_that_tested_nothing_costs_no_look(place: Workspace):
    freeze(place)
    judged(place, 1, "inconclusive", tested=False)
    grow(place, "c")
    freeze(place)
    judged(place, 2, "refuse", tested=False)
    grow(place, "d")
    freeze(place)
    assert looks(place) == []
