"""The checker finds each corruption that is made in a workspace that has lived, and nothing in one that is as it should be."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tasks.live import invariants, kept
from tasks.live.capture import capture, rebuild
from tasks.live.erasure.erase import Wish, erase
from tasks.live.finding import FAULT, OK, WARNING, Finding
from tasks.live.lake import Lake, Pending
from tasks.live.registry import journal
from tasks.live.registry.journal import BASE, PROMOTED, RECORDED, ROLLED_BACK, Entry
from tasks.live.workspace import Workspace
from tests.handmade import asked, log
from tests.lived import KIM, copied, lived

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    before = os.umask(0o077)
    try:
        return lived(tmp_path_factory.mktemp("invariants") / "w")
    finally:
        os.umask(before)


@pytest.fixture
def place(whole: Workspace, tmp_path: Path) -> Workspace:
    return copied(whole, tmp_path / "w")


def bad(place: Workspace, look: str) -> list[Finding]:
    """What one look finds, so that a test costs one look."""
    return [f for f in invariants.LOOKS[look](place) if f.level != OK]


def test_a_workspace_that_has_lived_is_as_it_should_be_and_is_not_changed_by_the_look(whole: Workspace):
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in (whole.root / "data").rglob("*")}
    found = invariants.invariants(whole)
    assert [f for f in found if f.level == FAULT] == []
    account = next(f.why for f in found if f.check == "account")
    seen, _, parts = account.partition(" = ")
    numbers = [int(word.replace(",", "")) for word in parts.split() if word[0].isdigit()]
    assert int(seen.split()[0].replace(",", "")) == sum(numbers) > 70
    assert {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in (whole.root / "data").rglob("*")} == before


def _without(table: str, where: Callable[[dict], bool]) -> Callable[[Workspace], None]:
    """Rows are gone from a table of the lake."""

    def lose(place: Workspace) -> None:
        gone = Lake(place.lake).rewrite(table, lambda rows: rows.filter([not where(r) for r in rows.to_pylist()]))
        assert gone

    return lose


def _again(table: str) -> Callable[[Workspace], None]:
    """The first row of a table is committed a second time, as by a commit without a look at what is there."""

    def double(place: Workspace) -> None:
        pending = Pending(place.lake, table)
        pending.write(Lake(place.lake).query(f"SELECT * FROM {table} LIMIT 1"))
        pending.commit()

    return double


def _invented(place: Workspace) -> None:
    """A row that no log ever had."""
    rows = Lake(place.lake).query("SELECT * FROM interactions LIMIT 1")
    at = rows.schema.get_field_index("interaction_id")
    pending = Pending(place.lake, "interactions")
    pending.write(rows.set_column(at, rows.schema.field(at), [["ix_invented"]]))
    pending.commit()


def _objects(place: Workspace) -> list[Path]:
    return sorted((place.root / ".dvc" / "cache" / "files" / "md5").rglob("*"))


def _rotten(place: Workspace) -> None:
    """One object of the cache has other bytes than its name says."""
    path = max((p for p in _objects(place) if p.is_file()), key=lambda p: p.stat().st_size)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1])


def _gone(place: Workspace) -> None:
    """A file of the snapshot is neither in the cache nor in any remote."""
    with kept.opened(place) as objects:
        md5 = next(iter(objects.files("HEAD").values()))
        for odb in objects.stores.values():
            Path(odb.oid_to_path(md5)).unlink(missing_ok=True)


def _journal(*entries: Entry) -> Callable[[Workspace], None]:
    return lambda place: journal.add(place, lambda _: entries) and None


def _torn_segment(place: Workspace) -> None:
    path = next(p for p in sorted(place.raw.glob("*.zst")) if p.stat().st_size > 500)
    path.write_bytes(path.read_bytes()[:-20])


def _key_in_a_report(place: Workspace) -> None:
    (place.reports / "debug.json").write_bytes(b'{"key": "' + (place.state / "pseudonym.key").read_bytes() + b'"}')


def _key_in_a_table(place: Workspace) -> None:
    import pyarrow as pa

    key = (place.state / "pseudonym.key").read_text()
    pq.write_table(pa.table({"note": [f"the key is {key}"]}), place.data / "dataset" / "more.parquet", compression="zstd")


def _unnamed(place: Workspace) -> None:
    """As a process leaves it that dies between a file's name and its commit."""
    file = next((place.lake / "members").glob("*.parquet"))
    shutil.copy(file, file.with_name(f"0_{file.name}"))


def _touch(name: str) -> Callable[[Workspace], None]:
    def touch(place: Workspace) -> None:
        (place.root / name).parent.mkdir(parents=True, exist_ok=True)
        (place.root / name).write_bytes(b"half")

    return touch


NOBODY = "d" * 64
CORRUPTIONS: dict[str, tuple[Callable[[Workspace], None], str, str]] = {
    # what was done: (how, the look that tells, the check that it is told as)
    "an interaction is lost": (_without("interactions", lambda r: "asks number 3 " in r["question"]), "lost", "lost"),
    "feedback is lost": (_without("feedback", lambda r: r["native_id"] == "event-12"), "lost", "lost"),
    "a reject is lost": (_without("rejects", lambda r: r["raw_line"] > 0), "lost", "lost"),
    "an answer is lost": (_without("annotations", lambda r: r["annotator"] == "ana"), "answers", "lost"),
    "a row out of nowhere": (_invented, "lost", "without raw"),
    "an answer out of nowhere": (lambda p: shutil.rmtree(p.raw / "answers"), "answers", "without raw"),
    "a torn raw segment": (_torn_segment, "lost", "lost"),
    "an interaction twice": (_again("interactions"), "doubled", "doubled"),
    "an answer twice": (_again("annotations"), "doubled", "doubled"),
    "a place at the wall of nothing": (
        _without("interactions", lambda r: "asks number 5 " in r["question"]), "doubled", "without raw",
    ),
    "a rotten object": (_rotten, "snapshot", "snapshot"),
    "an object that is nowhere": (_gone, "snapshot", "snapshot"),
    "a torn journal": (_touch(".flywheel/registry/journal.jsonl"), "champion", "champion"),
    "a champion that no verdict made": (_journal(Entry(PROMOTED, NOBODY, "", snapshot="")), "champion", "promotion"),
    "a champion who replaced somebody else": (_journal(Entry(PROMOTED, NOBODY, "e" * 64, snapshot=BASE)), "champion", "champion"),
    "a model recorded twice": (
        _journal(Entry(RECORDED, NOBODY, snapshot=BASE), Entry(RECORDED, NOBODY, snapshot=BASE)), "champion", "doubled",
    ),
    "a rollback to nobody": (_journal(Entry(ROLLED_BACK, NOBODY, "")), "champion", "champion"),
    "the key in a report": (_key_in_a_report, "secret", "secret"),
    "the key in a packed table": (_key_in_a_table, "secret", "secret"),
    "a credential in the outbox": (_touch("data/outbox/x.json"), "secret", "secret"),
    "raw data that others can read": (lambda p: p.raw.chmod(0o755), "modes", "modes"),
    "a key that others can read": (lambda p: (p.state / "pseudonym.key").chmod(0o640), "modes", "modes"),
    "a lock of a git that died": (_touch(".git/index.lock"), "orphan", "orphan"),
}  # fmt: skip
LITTER: dict[str, Callable[[Workspace], None]] = {
    "a file that was never finished": _touch("data/lake/interactions/.uncommitted-7.parquet"),
    "a file that no version names": _unnamed,
    "half a raw segment": _touch("data/raw/.00000001-a.jsonl.zst.999999999.tmp"),
    "half a model": _touch(".flywheel/models/.new-abc/policy.json"),
    "a spool that nobody closed": _touch("data/spool/1767571200123456.open"),
    "half of what is frozen": _touch("data/.frozen.tmp/exchanges.jsonl"),
}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_corruption_is_found(place: Workspace, name: str):
    corrupt, look, check = CORRUPTIONS[name]
    corrupt(place)
    if name == "a credential in the outbox":
        (place.outbox / "x.json").write_bytes(b'{"text": "use sk-proj-Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5MDEyMzQ1"}')
    try:
        found = bad(place, look)
    except invariants.Refused as e:  # a look that can't go on: invariants() makes a finding of it
        found = [Finding(FAULT, look, e.why, e.what_to_do)]
    assert check in {f.check for f in found if f.level == FAULT}, found
    assert all(f.fix for f in found), "each says what to do"


@pytest.mark.parametrize("name", LITTER)
def test_what_a_process_left_that_died_is_told_apart_from_what_belongs_there(place: Workspace, name: str):
    assert bad(place, "orphan") == []
    LITTER[name](place)
    (found,) = bad(place, "orphan")
    assert (found.check, found.level) == ("orphan", WARNING) and found.fix


def test_the_same_log_twice_and_a_record_that_waits_are_accounted_for(place: Workspace):
    before = {name: _part(_account(place), name) for name in ("duplicate", "stored", "rejected")}
    log(place.inbox / "wednesday.jsonl", asked("new-1"), asked("new-1"), b"junk")
    capture(place)
    log(place.inbox / "thursday.jsonl", asked("new-1"), asked("new-2"))
    capture(place)
    assert [f for f in invariants.records(place) if f.level != OK] == []
    assert _part(_account(place), "duplicate") == before["duplicate"] + 2
    assert _part(_account(place), "stored") == before["stored"] + 2
    assert _part(_account(place), "rejected") == before["rejected"] + 1


def test_an_erasure_leaves_nothing_to_complain_of(place: Workspace):
    erase(place, Wish(user=KIM))
    assert [f for look in ("lost", "answers", "doubled", "snapshot") for f in bad(place, look) if f.level == FAULT] == []


def _account(place: Workspace) -> str:
    return next(f.why for f in invariants.records(place) if f.check == "account")


def _part(account: str, name: str) -> int:
    words = account.replace(",", "").split()
    return int(words[words.index(name) - 1])


def test_what_rebuilds_the_lake_ends_in_the_same_account(place: Workspace):
    before = _account(place)
    rebuild(place)
    assert _account(place) == before
