"""Capture: nothing is lost and nothing is silent, whatever a log holds and wherever it stops."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import orjson
import pytest

from tasks.errors import BUSY, USAGE, Refused
from tasks.live.capture import CaptureParams, capture, rebuild
from tasks.live.intake import Account
from tasks.live.lake import Lake, Pending
from tasks.live.segments import Segments
from tasks.live.workspace import Workspace
from tasks.records import Feedback, Interaction, Reject
from tests.handmade import asked, chat_span, line, log, said, traces, workspace
from tests.imports import ROOT


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return workspace(tmp_path / "work")


def balanced(account: Account) -> bool:
    return account.seen == account.stored + account.duplicate + account.rejected + account.attached


def counts(place: Workspace) -> dict[str, int]:
    lake = Lake(place.lake)
    return {table: lake.count(table) for table in ("interactions", "feedback", "rejects")}


def raw_line(place: Workspace, row: Interaction | Feedback | Reject) -> bytes:
    """The kept line that a row came from."""
    _, lines = Segments(place.raw).lines(row.raw_segment)
    return lines[row.raw_line - 1]


def tables(place: Workspace) -> list[list]:
    """Everything that capture stored, but for where in the raw bytes it stood."""
    lake = Lake(place.lake)
    return [
        lake.query(f"SELECT * EXCLUDE ({place_and_time}) FROM {t} ORDER BY ALL").to_pylist()
        for t, place_and_time in (
            ("interactions", "raw_segment, raw_line"),
            ("feedback", "raw_segment, raw_line, received"),
        )
    ]


def test_every_record_is_stored_or_counted_with_its_reason(place: Workspace):
    log(
        place.inbox / "a.jsonl",
        asked("r-1"), asked("r-2"), asked("r-1"), said("f-1", "r-1"), b"not json", asked("r-3", time="noon"), b"   ",
        traces(chat_span("1"), {"traceId": "65747c7a70eb81d8", "spanId": "2"}, chat_span("3", startTimeUnixNano="7")),
    )  # fmt: skip
    account = capture(place)
    assert balanced(account)
    assert (account.stored, account.duplicate, account.rejected, account.attached) == (4, 1, 3, 1)
    assert account.reasons == {"bad_json": 1, "bad_time": 2}
    assert counts(place) == {"interactions": 3, "feedback": 1, "rejects": 3}
    assert account.as_dict()["seen"] == 9


def test_the_same_file_twice_stores_nothing_twice(place: Workspace):
    path = log(place.inbox / "a.jsonl", asked("r-1"), asked("r-2"), b"not json")
    capture(place)
    before = counts(place)
    assert capture(place) == Account()  # read to its end already
    (place.state / "offsets-logs.json").unlink()  # and where that was forgotten, all of it is known
    again = capture(place, [path])
    assert (again.stored, again.duplicate, again.rejected) == (0, 2, 1)
    assert counts(place) == before


def test_a_copy_under_another_name_is_all_duplicates(place: Workspace):
    log(place.inbox / "a.jsonl", asked("r-1"), said("f-1", "r-1"))
    capture(place)
    log(place.inbox / "b.jsonl", asked("r-1"), said("f-1", "r-1"))
    account = capture(place)
    assert (account.stored, account.duplicate) == (0, 2)


def test_a_growing_file_is_read_where_it_was_left(place: Workspace):
    path = log(place.inbox / "a.jsonl", asked("r-1"))
    assert capture(place).stored == 1
    with path.open("ab") as f:
        f.write(line(asked("r-2")) + b"\n" + line(asked("r-3")) + b"\n")
    account = capture(place)
    assert (account.seen, account.stored) == (2, 2)


def test_a_torn_last_line_waits_and_then_lands(place: Workspace):
    path = log(place.inbox / "a.jsonl", asked("r-1"))
    whole = line(asked("r-2")) + b"\n"
    with path.open("ab") as f:
        f.write(whole[:40])
    account = capture(place)
    assert (account.stored, account.rejected) == (1, 0)
    assert account.unfinished == ["a.jsonl: 40 bytes without a line end wait for the rest"]
    with path.open("ab") as f:
        f.write(whole[40:])
    account = capture(place)
    assert (account.stored, account.rejected, account.unfinished) == (1, 0, [])
    assert counts(place)["interactions"] == 2


def test_a_whole_last_line_without_its_end_is_taken(place: Workspace):
    (place.inbox / "a.jsonl").write_bytes(line(asked("r-1")) + b"\n" + line(asked("r-2")))
    assert capture(place).stored == 2


@pytest.mark.parametrize("chunk", [150, 900])
def test_it_does_not_matter_where_a_file_is_cut_into_segments(
    place: Workspace, tmp_path: Path, monkeypatch, chunk: int
):
    documents = [d for k in range(7) for d in (asked(f"r-{k}"), said(f"f-{k}", f"r-{k}"))]
    log(place.inbox / "a.jsonl", *documents)
    capture(place)
    other = workspace(tmp_path / "other")
    log(other.inbox / "a.jsonl", *documents)
    monkeypatch.setattr("tasks.live.capture.CHUNK_BYTES", chunk)
    account = capture(other)
    assert (account.stored, account.rejected, account.unfinished) == (14, 0, [])
    assert tables(other) == tables(place)


def test_a_replaced_file_of_the_same_name_is_read_anew(place: Workspace):
    path = log(place.inbox / "a.jsonl", asked("r-1"), asked("r-2"))
    capture(place)
    log(place.inbox / "new", asked("r-3"), asked("r-4"), asked("r-5")).replace(path)
    assert capture(place).stored == 3


def test_a_rejected_line_keeps_its_place_and_its_raw_bytes(place: Workspace):
    junk = b'{"flywheel": "interaction/1", "id": \xff\xfe broken'
    log(place.inbox / "a.jsonl", asked("r-1"), junk, asked("r-2"))
    capture(place)
    (reject,) = Lake(place.lake).rows(Reject, "SELECT * FROM rejects")
    assert (reject.source, reject.code, reject.raw_line) == ("a.jsonl", "bad_json", 2)
    assert raw_line(place, reject) == junk


def test_every_row_points_at_the_raw_line_that_it_came_from(place: Workspace):
    log(place.inbox / "a.jsonl", asked("r-1"), b"", asked("r-2"), said("f-1", "r-2"))
    capture(place)
    lake = Lake(place.lake)
    rows = [*lake.rows(Interaction, "SELECT * FROM interactions"), *lake.rows(Feedback, "SELECT * FROM feedback")]
    for row in rows:
        assert orjson.loads(raw_line(place, row))["id"] == row.native_id


def test_the_raw_bytes_are_all_that_was_taken(place: Workspace):
    anonymous = {k: v for k, v in asked("r-1").items() if k != "user_id"}
    odd = asked("r-2", mood="blue", user_id=None)  # a key that no dialect knows is kept as well
    log(place.inbox / "a.jsonl", anonymous, b"junk", odd, traces(chat_span(attributes={"user.id": None})))
    capture(place)
    ((_, body),) = Segments(place.raw).all()
    lines = body.splitlines()
    kept = [line if line == b"junk" else orjson.loads(line) for line in lines]
    assert kept == [anonymous, b"junk", odd, traces(chat_span(attributes={"user.id": None}))]


@pytest.mark.parametrize("dies_at", ["interactions", "feedback", "rejects"])
def test_a_death_between_raw_and_lake_ends_in_the_same_tables(
    place: Workspace, tmp_path: Path, monkeypatch, dies_at: str
):
    documents = [asked("r-1"), said("f-1", "r-1"), b"junk", asked("r-2")]
    log(place.inbox / "a.jsonl", *documents)
    real = Pending.commit

    def dying(self):
        if self.folder.table == dies_at:
            raise RuntimeError("killed")
        return real(self)

    with monkeypatch.context() as patch:
        patch.setattr(Pending, "commit", dying)
        with pytest.raises(RuntimeError, match="killed"):
            capture(place)
    assert list(place.raw.iterdir())  # raw lands first
    account = capture(place)
    assert balanced(account) and account.seen == 4
    whole = workspace(tmp_path / "whole")
    log(whole.inbox / "a.jsonl", *documents)
    capture(whole)
    assert tables(place) == tables(whole)
    assert counts(place) == counts(whole)
    assert len(list(place.raw.iterdir())) == len(list(whole.raw.iterdir()))


def test_what_no_row_can_hold_is_the_same_reject_after_a_rebuild(place: Workspace):
    deep = b"[" * 230 + b"]" * 230
    log(place.inbox / "a.jsonl", line(asked("r-1", odd="HERE")).replace(b'"HERE"', deep), asked("r-2"))
    account = capture(place)
    assert (account.stored, account.reasons) == (1, {"bad_value": 1})
    before = tables(place)
    rebuild(place)
    assert tables(place) == before


def test_what_cannot_be_read_in_two_folders_is_two_rejects_though_the_names_are_alike(place: Workspace):
    for day in ("mon", "tue"):
        (place.inbox / day).mkdir()
        (place.inbox / day / "a.zip").write_bytes(b"PK")
    assert capture(place).rejected == 2
    assert counts(place)["rejects"] == 2


def test_two_logs_that_differ_about_one_record_are_a_conflict_and_the_first_is_kept(place: Workspace):
    log(place.inbox / "a.jsonl", asked("r-1", response="one"))
    log(place.inbox / "b.jsonl", asked("r-1", response="two"))
    account = capture(place)
    assert (account.stored, account.duplicate, account.conflicts) == (1, 1, 1)
    assert Lake(place.lake).query("SELECT response FROM interactions")["response"].to_pylist() == ["one"]


def test_no_user_id_gets_into_the_lake_and_the_same_user_stays_the_same(place: Workspace):
    other, nobody = asked("r-3", user_id="u-10"), asked("r-4", user_id=None)
    log(place.inbox / "a.jsonl", asked("r-1"), asked("r-2"), other, nobody, said("f-1", "r-1"))
    capture(place)
    lake = Lake(place.lake)
    users = {i.native_id: i.user for i in lake.rows(Interaction, "SELECT * FROM interactions")}
    (feedback,) = lake.rows(Feedback, "SELECT * FROM feedback")
    assert users["r-1"] == users["r-2"] == feedback.user != users["r-3"]
    assert users["r-4"] == ""
    assert not any("u-9" in u for u in users.values())


def test_another_key_makes_other_pseudonyms(place: Workspace, tmp_path: Path):
    other = workspace(tmp_path / "other")
    (other.state / "pseudonym.key").write_text("another key", encoding="ascii")
    users = []
    for w in (place, other):
        log(w.inbox / "a.jsonl", asked("r-1"))
        capture(w)
        users.append(Lake(w.lake).query('SELECT "user" FROM interactions')["user"][0].as_py())
    assert users[0] != users[1]


def test_without_the_key_nothing_is_captured_under_a_known_one(place: Workspace, monkeypatch):
    monkeypatch.delenv("FLYWHEEL_PSEUDONYM_KEY", raising=False)
    (place.state / "pseudonym.key").unlink()
    log(place.inbox / "a.jsonl", asked("r-1"))
    with pytest.raises(Refused, match=r"pseudonym\.key is missing"):
        capture(place)
    assert counts(place)["interactions"] == 0


def test_a_missing_file_is_refused(place: Workspace):
    with pytest.raises(Refused, match="does not exist") as caught:
        capture(place, [place.inbox / "none.jsonl"])
    assert caught.value.exit_code == USAGE


def test_an_empty_inbox_is_nothing_to_do(place: Workspace):
    assert capture(place) == Account()


def test_poison_never_stops_what_stands_after_it(place: Workspace):
    deep = b'{"flywheel":"feedback/1","id":"f","target":{"id":"r-1"},"name":"x","time":"2026-01-05T12:00:00Z","value":'
    log(
        place.inbox / "a.jsonl",
        asked("r-1"),
        deep + b"[" * 300 + b"]" * 300 + b"}",
        asked("r-2", time="0001-01-01T00:00:00+23:59"),
        traces(chat_span("1", endTimeUnixNano="9" * 4000)),
        b"\x00" * 100,
        b"[" * 100_000,
        asked("r-3"),
    )
    account = capture(place)
    assert balanced(account)
    assert {"r-1", "r-3"} <= set(Lake(place.lake).query("SELECT native_id FROM interactions")["native_id"].to_pylist())


HOLDER = """
import sys
from pathlib import Path
from tasks.live.workspace import Workspace
with Workspace(Path(sys.argv[1])).lock("capture"):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_busy_lake_is_refused_and_the_holder_named(place: Workspace):
    log(place.inbox / "a.jsonl", asked("r-1"))
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(place.root)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Refused, match=f"process {holder.pid} ") as caught:
            capture(place)
        assert caught.value.exit_code == BUSY == 6
    finally:
        holder.kill()
        holder.communicate()
    # The kernel frees the lock of a killed process; the note that it left behind stops nobody.
    assert capture(place).stored == 1


def test_a_second_thread_is_refused_as_well(place: Workspace):
    refused: list[Refused] = []

    def second() -> None:
        try:
            capture(place)
        except Refused as e:
            refused.append(e)

    with place.lock("capture"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert [e.exit_code for e in refused] == [BUSY]
    assert str(os.getpid()) in refused[0].why


def test_the_share_of_rejects_is_of_all_that_was_seen(place: Workspace):
    log(place.inbox / "a.jsonl", asked("r-1"), asked("r-1"), b"junk", asked("r-2"))
    assert capture(place).reject_share() == 0.25 > place.params("capture", CaptureParams).max_reject_share
    assert Account().reject_share() == 0
