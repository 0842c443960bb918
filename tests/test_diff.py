"""What changed from one snapshot to another is told exactly, and without reading what did not change."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tasks import changes, shards
from tasks.errors import Refused
from tasks.examples import TABLES, Supervised
from tasks.live import diff, snapshot, store
from tasks.live.repository import git
from tasks.live.workspace import Workspace, quiet_environment
from tasks.records import to_arrow
from tests import small
from tests.conftest import flywheel
from tests.tables import example

quiet_environment()


def sft(*numbers: int, **changed: object) -> object:
    return to_arrow(Supervised, [example("sft", n, **changed) for n in numbers])


def test_rows_are_added_removed_or_changed_by_their_id() -> None:
    found = changes.compare("sft", "train", sft(1, 2, 3), sft(2, 3, 4, 5))
    assert (found.added, found.removed, found.changed) == (2, 1, 0) and found.any
    assert found.slices["language"] == {"en": {"added": 1, "removed": 1}, "de": {"added": 1}}
    assert found.examples == {"added": [example("sft", n).example_id for n in (4, 5)], "removed": [example("sft", 1).example_id]}


def test_a_changed_row_names_its_columns() -> None:
    found = changes.compare("sft", "train", sft(1, 2), sft(1, 2, weight=0.25, topic="bike"))
    assert (found.added, found.removed, found.changed) == (0, 0, 2)
    assert found.columns == {"weight": 2, "topic": 1}, "row 1 was of that topic before"


@pytest.mark.parametrize(("old", "new"), [((), (1, 2)), ((1, 2), ()), ((), ())])
def test_an_empty_side_is_no_special_case(old: tuple, new: tuple) -> None:
    found = changes.compare("sft", "train", sft(*old), sft(*new))
    assert (found.added, found.removed, found.changed) == (len(new), len(old), 0)


def test_the_changes_back_are_the_changes_mirrored() -> None:
    there, back = (changes.compare("sft", "train", *pair) for pair in ((sft(1, 2, 3), sft(3, 4)), (sft(3, 4), sft(1, 2, 3))))
    assert (there.added, there.removed, there.changed) == (back.removed, back.added, back.changed)
    assert there.examples["added"] == back.examples["removed"]


def test_settings_that_came_went_or_changed_are_told_by_their_dotted_key() -> None:
    before = {"build": {"cap": 4, "old": True}, "judge": {"alpha": 0.05}}
    after = {"build": {"cap": 5}, "judge": {"alpha": 0.05}, "about": {"name": "x"}}
    assert changes.settings(before, after) == [("about.name", None, "x"), ("build.cap", 4, 5), ("build.old", True, None)]


def test_a_changelog_has_the_newest_first_and_each_snapshot_once() -> None:
    one = changes.changelog("", "snapshot-1", "## snapshot-1: promote\n\nThe first.\n")
    two = changes.changelog(one, "snapshot-2", "## snapshot-2: promote\n\nMore.\n")
    assert two.startswith("# What changed in the data") and two.count("# What changed") == 1
    assert two.index("snapshot-2") < two.index("snapshot-1")
    assert changes.changelog(two, "snapshot-2", "## snapshot-2: promote\n\nMore.\n") == two
    assert changes.changelog(two, "snapshot-1", "## snapshot-1: promote\n\nThe first.\n") == two


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Two snapshots: ten rows more, two of them changed, one removed by another topic…, three labels flipped."""
    patch = pytest.MonkeyPatch()
    patch.setattr(shards, "ROWS", 16)
    made = small.workspace(tmp_path_factory.mktemp("diff") / "w")
    (made.root / "stage.py").write_text(
        small.STAGE.replace("said = json", "from tasks import shards\nshards.ROWS = 16\nsaid = json"), encoding="utf-8"
    )
    git(made.root, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "-am", "smaller shards")
    small.publish(made, 200)
    (made.root / "params.yaml").write_text("build:\n  max_rows_per_group: 5\n", encoding="utf-8")
    small.publish(made, 210, changes={3: {"topic": "bike"}}, targets={3: "invoice", 4: "invoice"})
    patch.undo()
    return made


def tags(place: Workspace) -> list[str]:
    return [s.tag for s in snapshot.history(place)][::-1]


@pytest.mark.slow
def test_two_snapshots_are_compared_by_table_slice_annotator_and_setting(place: Workspace) -> None:
    found = diff.between(place, *tags(place))
    of = {(t.table, t.side): t for t in found.tables}
    train = of["sft", "train"]
    assert train.rows == (200, 210) and (train.added, train.removed, train.changed) == (10, 0, 1)
    assert train.columns == {"topic": 1} and train.examples["changed"] == [example("sft", 3).example_id]
    assert sum(v.get("added", 0) for v in train.slices["source"].values()) == 10
    assert train.slices["annotator"] == {"ana": {"added": 10, "changed": 1}, "ben": {"added": 5}, "cem": {"added": 5, "changed": 1}}
    assert train.slices["guideline"] == {"answer/1": {"added": 10, "changed": 1}}
    safety = [of["safety", side] for side in ("train", "holdout")]
    assert sum(t.added for t in safety) == 10 and sum(t.changed for t in safety) == 1
    (flips,) = [f for f in found.flips if f.flipped]
    assert flips.turns == [("wrong refund", "wrong invoice", 2)] and flips.examples == ["ix_3", "ix_4"]
    assert found.params == [("build.max_rows_per_group", 4, 5)]
    assert found.added == 10 * len(TABLES)


@pytest.mark.slow
def test_a_version_compared_with_itself_has_not_changed_and_nothing_of_it_is_read(place: Workspace) -> None:
    newest = tags(place)[-1]
    for after in (newest, ""):  # the work tree holds the newest
        found = diff.between(place, newest, after)
        assert (found.added, found.removed, found.changed) == (0, 0, 0)
        assert not found.params and found.read[0] == 1, "the manifest, which says how many rows there are"


@pytest.mark.slow
def test_only_shards_that_differ_are_fetched(place: Workspace, tmp_path: Path) -> None:
    clone = Workspace(tmp_path / "clone")
    git(tmp_path, "clone", "--quiet", str(place.root), str(clone.root))
    clone.state.mkdir()
    found = diff.between(clone, *tags(place))
    assert found == diff.between(place, *tags(place))
    cache = [p for p in (clone.root / ".dvc" / "cache").rglob("*") if p.is_file()]
    assert found.read[0] < found.read[1] / 2
    assert len(cache) <= found.read[0] + 4, "what was looked into, and four listings of folders"


@pytest.mark.slow
def test_it_is_told_by_the_command_in_words_and_as_a_document(place: Workspace) -> None:
    before, after = tags(place)
    said = flywheel("diff", before.removeprefix("snapshot-"), after, "--workspace", place.root)
    assert said.code == 0, said.err
    assert f"{before} -> {after}: 130 rows added, 0 removed, 2 changed" in said.out
    assert "2 labels flipped: wrong refund -> wrong invoice (2), as ix_3, ix_4" in said.out
    assert "params.yaml: build.max_rows_per_group: 4 -> 5" in said.out and "by annotator: ana 130 added, 2 changed" in said.out
    assert "sft (train), 200 -> 210 rows: 10 added, 1 changed (topic in 1)" in said.out
    document = flywheel("diff", before, "--json", "--workspace", place.root).document()
    assert document["after"] == "the work tree" and document["tables"][0]["added"] == 10
    unknown = flywheel("diff", "snapshot-nowhere", "--workspace", place.root)
    assert unknown.code == 2 and "is no snapshot of this workspace" in unknown.err


@pytest.mark.slow
def test_the_changelog_is_committed_with_each_snapshot_and_told_by_its_tag(place: Workspace) -> None:
    before, after = tags(place)
    text = git(place.root, "show", f"{after}:data/CHANGELOG.md")
    assert text.index(f"## {after}: promote") < text.index(f"## {before}: promote")
    assert "The first snapshot: 2,600 rows." in text and "| sft | train | 210 | 10 | 0 | 1 |" in text
    assert "by annotator: ana 130 added, 2 changed" in text
    assert f"since {before}: 130 rows added, 0 removed, 2 changed" in git(place.root, "tag", "--list", "-n9", after)
    assert snapshot.publish(place).new is False
    assert git(place.root, "status", "--porcelain") == ""


@pytest.mark.slow
def test_what_is_gone_from_cache_and_remote_is_refused_with_its_reason(place: Workspace, tmp_path: Path) -> None:
    lost = Workspace(shutil.copytree(place.root, tmp_path / "lost", symlinks=True))
    store.configure(lost, str(lost.state / "remote"))
    before, after = tags(place)
    names = store.files(lost, git(lost.root, "rev-parse", f"{before}^{{commit}}"), "data/dataset")
    kept = set(store.files(lost, git(lost.root, "rev-parse", f"{after}^{{commit}}"), "data/dataset").values())
    gone = next(d for n, d in names.items() if d not in kept and n.startswith("parquet/train/sft"))
    for folder in (lost.root / ".dvc" / "cache", lost.state / "remote"):
        (folder / "files" / "md5" / gone[:2] / gone[2:]).unlink()
    with pytest.raises(Refused, match="erased at a person's request"):
        diff.between(lost, before, after)
    assert "erased" in diff.since(lost, before).unknown, "and a new snapshot is made all the same"
    assert json.dumps(diff.since(lost, before).tables) == "[]"
