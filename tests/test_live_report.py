"""The report of a real workspace: pages of old turns stay as they were, what was erased is said to be gone, no turn dies of it."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Any

import orjson
import pytest

from tasks.errors import Refused
from tasks.live import export, kept, report, snapshot
from tasks.live.handoff.receive import receive
from tasks.live.report.asof import FROZEN
from tasks.live.workspace import Workspace
from tasks.records import write_jsonl
from tests.conftest import ROOT, flywheel, git
from tests.handmade import CATALOGUE, log
from tests.lived import copied, lived, published
from tests.test_dossier import Words

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with one snapshot, and the report of it."""
    place = lived(tmp_path_factory.mktemp("report") / "work")
    report.write(place)
    return place


@pytest.fixture(scope="module")
def twice(once: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The same after somebody else has answered everything, otherwise, and there is a second snapshot; not reported yet."""
    place = copied(once, tmp_path_factory.mktemp("report-twice") / "work")
    names = ("batch_id", "candidate_id", "kind", "content_hash", "guideline")
    given = {"annotator": "cleo", "time": "2026-01-07T09:00:00Z", "value": {"verdict": "wrong", "correction": "refuse"}}
    log(place.answers / "cleo.jsonl", *[{n: row[n] for n in names} | given for row in questions(place)])
    receive(place)
    published(place)
    return place


def questions(place: Workspace) -> list[dict[str, Any]]:
    """What was asked."""
    (folder,) = place.outbox.iterdir()
    return [orjson.loads(x) for x in (folder / "batch.jsonl").read_bytes().splitlines()]


def pages(place: Workspace) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((place.state / report.FOLDER).iterdir())}


def said(page: bytes) -> str:
    return re.sub(r"\s+", " ", Words(page.decode()).text)


def test_a_first_turn_has_its_page_for_its_owner_alone(once: Workspace) -> None:
    (tag,) = (s.tag for s in kept.snapshots(once))
    made = pages(once)
    assert set(made) == {"index.html", f"{tag}.html", f"{tag}.json"}
    files = [once.state / report.FOLDER / name for name in made]
    assert {stat.S_IMODE(f.stat().st_mode) for f in files} == {0o600}
    assert git(once.root, "status", "--porcelain", "--", ".flywheel") == ""
    found = orjson.loads(made[f"{tag}.json"])
    assert found == report.read(once) and found["number"] == 1 and found["before"] == ""
    people = found["people"]
    asked = len(questions(once))
    assert people["total"]["answers"] == 2 * asked and people["before"]["answers"] == 0
    assert people["total"]["cost"] == pytest.approx(2 * asked * 0.4), "two answers to each question, at their price"
    assert "The first snapshot." in said(made[f"{tag}.html"]) and "It is better." in said(made[f"{tag}.html"])
    assert {n["out"] for n in export.noted(once)} >= {str(f) for f in files}, "an erasure must find all of them"


def test_a_new_turn_changes_no_page_before_it(once: Workspace, twice: Workspace, tmp_path: Path) -> None:
    """Neither the page that is there, nor the same page made again from what is kept, though the lake has gone on."""
    before = pages(once)
    first, second = (s.tag for s in kept.snapshots(twice))
    fresh = report.write(twice, out=tmp_path / "anew").parent
    report.write(twice)
    after = pages(twice)
    for name in (f"{first}.html", f"{first}.json"):
        assert after[name] == before[name]
        assert (fresh / name).read_bytes() == before[name]
    now = report.read(twice)
    assert now["tag"] == second and now["before"] == first
    asked = len(questions(twice))
    assert now["people"]["total"]["answers"] == 3 * asked and now["people"]["before"]["answers"] == 2 * asked
    assert now["data"]["unknown"] == "" and now["data"]["summary"][1:] in said(after[f"{second}.html"])
    assert second in said(after["index.html"]) and first in said(after["index.html"])


def test_what_is_not_to_be_had_any_more_is_said_to_be_so(twice: Workspace, tmp_path: Path) -> None:
    place = copied(twice, tmp_path / "work")
    with kept.opened(place) as objects:
        (first, second) = kept.snapshots(place)
        mine, theirs = ({p: m for p, m in objects.files(s.commit).items() if p.startswith(FROZEN)} for s in (first, second))
        for md5 in {m for p, m in mine.items() if p.startswith(f"{FROZEN}annotations/")} - set(theirs.values()):
            for odb in objects.stores.values():
                Path(odb.oid_to_path(md5)).unlink(missing_ok=True)
    folder = report.write(place, out=tmp_path / "anew").parent
    old, new = (said((folder / f"{s.tag}.html").read_bytes()) for s in (first, second))
    assert "Not to be had any more: what people had answered" in old and "unknown labels new in this turn" in old
    assert "It is better." in old, "what git keeps is there"
    assert f"what people had answered by {first.tag}" in new
    found = orjson.loads((folder / f"{first.tag}.json").read_bytes())
    assert found["people"] is None and found["rates"] == []


def test_the_command_tells_the_same_and_refuses_what_is_not_there(once: Workspace, tmp_path: Path) -> None:
    told = flywheel("report", "--json", "--workspace", once.root)
    assert told.code == 0 and told.document() == report.read(once)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(Refused, match="is a file"):
        report.write(once, out=tmp_path / "file")
    wrong = flywheel("report", "snapshot-00000000", "--workspace", once.root)
    assert wrong.code == 2 and "there is no snapshot snapshot-00000000" in wrong.err


def test_before_the_first_snapshot_there_is_an_index_and_a_report_that_fails_fails_no_turn(tmp_path: Path) -> None:
    """That a turn writes it where nothing is in its way, tests/test_turns.py sees."""
    approved = tmp_path / "approved.jsonl"
    write_jsonl(approved, CATALOGUE)
    place = snapshot.init(tmp_path / "work", ROOT, approved, None, with_uncommitted=True)
    folder = place.state / report.FOLDER
    folder.write_text("somebody's file, where the pages would go")
    done = flywheel("turn", "--json", "--workspace", place.root)
    assert done.code == 0 and "is a file" in done.document()["untold"] and done.document()["report"] is None
    folder.unlink()
    assert "There is no snapshot yet" in said(report.write(place).read_bytes())
    with pytest.raises(Refused, match="there is no snapshot yet"):
        report.read(place)
