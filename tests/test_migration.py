"""Another version of the loop: what an older one stored is migrated, row for row; what a newer one stored is left alone."""

from __future__ import annotations

from dataclasses import fields, make_dataclass
from pathlib import Path

import pytest

from tasks.errors import Refused
from tasks.live.lake import TABLES, Lake, sweep
from tasks.live.migration import migrate
from tasks.live.repository import COMMITTER
from tasks.live.workspace import Workspace
from tasks.records import Interaction, to_arrow
from tests.conftest import flywheel, git
from tests.handmade import interaction, workspace

ADDED = ("language", "app_version")  # as if these had come with this version
EVERYTHING = "SELECT * FROM interactions ORDER BY interaction_id"


def noun(*without: str, also: tuple[str, ...] = ()) -> type:
    kept = [(f.name, f.type) for f in fields(Interaction) if f.name not in without]
    return make_dataclass("Interaction", [*kept, *((name, "str") for name in also)])


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return workspace(tmp_path / "work")


def written(lake: Lake, as_: type, monkeypatch: pytest.MonkeyPatch, *names: str) -> list[Interaction]:
    """Rows that a version with this noun appended, a commit each."""
    rows = [interaction(name, language="", app_version="") for name in names]
    with monkeypatch.context() as other:
        other.setitem(TABLES, "interactions", as_)
        for row in rows:
            table = to_arrow(Interaction, [row])
            for column in {f.name for f in fields(as_)} - set(table.column_names):
                table = table.append_column(column, [["new"]])
            lake.add("interactions", table.select([f.name for f in fields(as_)]))
    return rows


def test_an_older_table_is_refused_with_the_fix_then_migrated_row_for_row(place: Workspace, monkeypatch: pytest.MonkeyPatch):
    lake = Lake(place.lake)
    rows = written(lake, noun(*ADDED), monkeypatch, "a", "b", "c")
    for use in (lambda: lake.query(EVERYTHING), lambda: lake.append("interactions", rows), lambda: lake.files("interactions")):
        with pytest.raises(Refused, match=r"older version of flywheel, without (language|app_version)") as refused:
            use()
        assert "flywheel migrate" in refused.value.what_to_do
    assert migrate(place) == {"interactions": sorted(ADDED)}
    assert lake.rows(Interaction, EVERYTHING) == rows
    assert migrate(place) == {}, "a second time there is nothing to do"
    assert lake.append("interactions", [*rows, interaction("d")]) == (1, 3)
    assert lake.compact("interactions") == 3 and lake.count("interactions") == 4


def test_a_migration_that_died_before_its_commit_is_begun_again(place: Workspace, monkeypatch: pytest.MonkeyPatch):
    lake = Lake(place.lake)
    rows = written(lake, noun(*ADDED), monkeypatch, "a", "b")
    with monkeypatch.context() as dying:
        dying.setattr("tasks.live.lake.folder.Folder.renew", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            migrate(place)
    assert migrate(place) == {"interactions": sorted(ADDED)}
    assert lake.rows(Interaction, EVERYTHING) == rows
    assert sweep(place.lake, ["interactions"]) == 2 and lake.count("interactions") == 2
    assert lake.vacuum("interactions") == 2, "the files of before"


def test_a_newer_table_is_left_alone(place: Workspace, monkeypatch: pytest.MonkeyPatch):
    lake = Lake(place.lake)
    written(lake, noun(also=("mood",)), monkeypatch, "a")
    before = sorted(p.name for p in (place.lake / "interactions").rglob("*"))
    for use in (lambda: lake.query(EVERYTHING), lambda: lake.append("interactions", [interaction("b")]), lambda: migrate(place)):
        with pytest.raises(Refused, match=r"another version of flywheel \(mood\)"):
            use()
    assert [n for n in sorted(p.name for p in (place.lake / "interactions").rglob("*")) if n in before] == before


def test_a_column_that_older_rows_can_have_no_value_for_is_refused(place: Workspace, monkeypatch: pytest.MonkeyPatch):
    lake = Lake(place.lake)
    with monkeypatch.context() as older:
        older.setitem(TABLES, "interactions", noun("response"))
        lake.add("interactions", to_arrow(Interaction, [interaction("a")]).drop_columns("response"))
    with pytest.raises(Refused, match=r"another version of flywheel \(response\)"):
        migrate(place)


@pytest.mark.slow
def test_the_command_says_what_it_did(place: Workspace, monkeypatch: pytest.MonkeyPatch):
    git(place.root, "init", "--quiet")
    git(place.root, *COMMITTER, "commit", "--quiet", "--allow-empty", "-m", "a workspace")
    written(Lake(place.lake), noun(*ADDED), monkeypatch, "a")
    refused = flywheel("status", "--workspace", place.root)
    assert refused.code == 2 and "fix: flywheel down, then flywheel migrate" in refused.err and "Traceback" not in refused.err
    done = flywheel("migrate", "--workspace", place.root)
    assert done.code == 0 and "interactions: its rows got app_version, language" in done.out
    assert flywheel("migrate", "--json", "--workspace", place.root).document() == {"migrated": {}}
    assert flywheel("status", "--json", "--workspace", place.root).document()["rows"]["interactions"] == 1
