"""What the lake's audits say, as people read it: by batch and slice, over turns, detector by detector, and in `flywheel status`."""

from __future__ import annotations

import math
import subprocess
from pathlib import Path

import orjson
import pytest

from tasks.effort import ENOUGH, effort
from tasks.errors import Refused
from tasks.live import status
from tasks.live.labels import agreement, rates, write_rates
from tasks.live.lake import Lake
from tasks.live.pool import pool
from tasks.live.workspace import Workspace
from tasks.records import Signal
from tasks.select import SelectParams
from tests.handmade import annotation, candidate, interaction, member, workspace

N = 40


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    """Two answered batches: all is wrong in German and right in English; the detector `good` fires on German, `lot` anywhere."""
    made = workspace(tmp_path / "work")
    for git in (["init", "--quiet", "--initial-branch=main"], ["commit", "--quiet", "--allow-empty", "--message=empty"]):
        subprocess.run(["git", "-C", str(made.root), "-c", "user.name=test", "-c", "user.email=test@localhost", *git], check=True)
    lake = Lake(made.lake)
    names = [f"{batch}{k:02d}" for batch in "ab" for k in range(N)]
    german = {n for n in names if int(n[1:]) % 4 == 0}
    lake.append(
        "interactions",
        [
            interaction(n, f"about {n}", language="de" if n in german else "en", ts=1_767_614_400_000_000 + k)
            for k, n in enumerate(names)
        ],
    )
    lake.append("members", [member(n, "holdout" if int(n[1:]) < 10 else "train") for n in names])
    lake.append(
        "candidates",
        [
            candidate(
                n, "audit_holdout" if int(n[1:]) < 10 else "audit_open", batch=f"bt_{n[0]}",
                window=10 if int(n[1:]) < 10 else 30, propensity=1.0,
            )
            for n in names
        ],
    )  # fmt: skip
    lake.append(
        "annotations",
        [annotation(n, who, "wrong" if n in german else "right") for n in names for who in ("ana", "ben", "cleo")],
    )
    lake.append("signals", [Signal(f"sg_g{n}", f"ix_{n}", "good", 0.9, "e") for n in sorted(german)])
    lake.append("signals", [Signal(f"sg_l{n}", f"ix_{n}", "lot", 0.9, "e") for n in names if int(n[1:]) % 3 == 0])
    return made


def test_each_slice_has_its_own_rate(place: Workspace):
    newest = rates(place, agreement(place).labels).audits[-1]
    assert newest.estimate.value == pytest.approx(0.25, abs=0.02)
    assert newest.slices["language=de"].value == pytest.approx(1, abs=0.03)
    assert newest.slices["language=en"].value == pytest.approx(0, abs=0.03)
    assert newest.slices["language=de"].n == 10


def test_the_detectors_are_judged_on_the_audits(place: Workspace):
    found = {d.detector: d for d in rates(place, agreement(place).labels).detectors}
    assert found["good"].verdict == "earns" and found["good"].lift.value == pytest.approx(4, abs=0.3)
    assert found["lot"].verdict != "earns"
    assert found["good"].fired == 20


def test_status_shows_the_rates_as_of_the_last_answers(place: Workspace):
    assert status.read(place)["rates"] is None
    write_rates(place)
    document = orjson.loads(orjson.dumps(status.read(place)))
    assert [a["batch_id"] for a in document["rates"]["audits"]] == ["bt_a", "bt_b"]
    assert {d["detector"]: d["verdict"] for d in document["rates"]["detectors"]}["good"] == "earns"
    assert "error rate 2" in status.as_text(document) and "no change is proved" in status.as_text(document)


def test_a_batch_without_answers_is_unknown_and_silences_nobody(place: Workspace):
    before = rates(place, agreement(place).labels)
    lake = Lake(place.lake)
    lake.append("interactions", [interaction(f"c{k}", ts=1_767_614_500_000_000) for k in range(9)])
    lake.append("candidates", [candidate(f"c{k}", "audit_open", batch="bt_c", window=90) for k in range(9)])
    after = rates(place, agreement(place).labels)
    assert math.isnan(after.audits[-1].estimate.value) and after.audits[-1].slices == {}
    assert (after.detectors, after.trend) == (before.detectors, before.trend)


def test_the_pool_knows_slices_minutes_and_what_is_new(place: Workspace):
    lake = Lake(place.lake)
    lake.append("interactions", [interaction("new1", "about a01", language="fr"), interaction("new2", "x" * 4000)])
    lake.append("members", [member("new1"), member("new2")])
    params = place.params("select", SelectParams)
    short, long = pool(lake, params, overlap=3)
    assert "language=fr" in short.slices
    assert long.minutes > short.minutes > 0
    assert short.novelty < long.novelty


def judge_that(place: Workspace, names: list[str], wrong: set[str], least: int) -> None:
    Lake(place.lake).append(
        "signals",
        [Signal(f"sg_j{n}", f"ix_{n}", "judge" if n in wrong else "judge_right", 0.8, "because") for n in names],
    )
    path = place.root / "params.yaml"
    text = path.read_text().replace("min_labels: 50 ", f"min_labels: {least} ").replace("random_share: 0.02", "random_share: 1.0")
    path.write_text(text)


def test_a_judge_is_corrected_by_what_people_found_it_to_miss(place: Workspace):
    """It misses every fourth error and blames nobody; what nobody labelled is as wrong as the rest."""
    names = [f"{batch}{k:02d}" for batch in "ab" for k in range(N)]
    others = [f"u{k:03d}" for k in range(400)]
    german = {n for n in names if int(n[1:]) % 4 == 0} | {n for n in others if int(n[1:]) % 4 == 0}
    Lake(place.lake).append("interactions", [interaction(n) for n in others])
    judge_that(place, names + others, {n for n in german if int(n[1:]) % 16}, least=20)
    found = rates(place, agreement(place).labels).judge
    c = found.calibration
    assert (c.wrong, c.right, c.passed) == (20, 60, 60) and c.caught == 14
    assert found.estimate.low < 0.25 < found.estimate.high
    assert found.estimate.value > sum(int(n[1:]) % 16 > 0 for n in german) / 480, "more is wrong than it says"
    write_rates(place)
    assert "error rate by the judge, corrected" in status.as_text(status.read(place))


def test_a_judge_beside_too_few_labels_has_no_rate(place: Workspace):
    judge_that(place, [f"a{k:02d}" for k in range(N)], set(), least=50)
    assert math.isnan(rates(place, agreement(place).labels).judge.estimate.value)
    write_rates(place)
    assert "the judge is not calibrated, and only ranks" in status.as_text(status.read(place))


def test_a_slice_that_no_interaction_has_is_refused(place: Workspace):
    text = (place.root / "params.yaml").read_text(encoding="utf-8")
    (place.root / "params.yaml").write_text(text.replace("[model_version,", "[modell_version,"), encoding="utf-8")
    with pytest.raises(Refused, match="modell_version"):
        rates(place, [])


def test_effort_grows_with_length_and_follows_the_pace_of_those_who_answered():
    assumed = effort([1200, 6000], [], 3)
    assert assumed.tolist() == [4.5, 16.5]
    slow = [(1200, 3.0)] * ENOUGH
    assert effort([1200], slow, 3)[0] == pytest.approx(9.0)
    assert effort([1200], [*slow, (1200, 14.0)], 3)[0] == pytest.approx(9.0)  # one went for a coffee
    assert effort([1200], slow[1:], 3)[0] == 4.5  # too few to know
