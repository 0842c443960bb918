"""The hand-off: people see what they need and no more; answers are stored, or rejected with a reason."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest

from tasks.errors import Refused
from tasks.live.handoff.files import Files
from tasks.live.handoff.receive import receive
from tasks.live.handoff.send import send
from tasks.live.labels import agreement, latest_annotations
from tasks.live.lake import Lake
from tasks.live.workspace import Workspace
from tasks.records import Candidate, Reject
from tests.handmade import TEXT, interaction, log, member
from tests.sendable import EVIDENCE, N, answer, rows_of, sendable


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return sendable(tmp_path / "work")


# Sending


def test_a_batch_holds_what_was_chosen_and_what_people_need(place: Workspace):
    batch = send(place)
    rows = rows_of(batch.folder)
    assert batch.folder == place.outbox / batch.batch_id
    assert batch.window == N
    assert batch.parts == {"audit_holdout": 6, "audit_open": 6, "mined": 8}
    assert len(rows) == 20 and {r["batch_id"] for r in rows} == {batch.batch_id}
    assert {r["wanted"] for r in rows} == {2} and {r["response"] for r in rows} == {TEXT["refund"]}
    assert all(r["question"].startswith("question number") and r["history"] == [] for r in rows)
    written = sorted(p.name for p in batch.folder.iterdir())
    assert written == ["batch.csv", "batch.jsonl", "catalogue.jsonl", "guidelines", "kinds.json"]
    assert [p.name for p in place.outbox.iterdir()] == [batch.batch_id]  # nothing half-written beside it


def test_a_batch_never_says_why_a_candidate_was_chosen(place: Workspace):
    batch = send(place)
    written = b"".join(p.read_bytes() for p in batch.folder.rglob("*") if p.is_file()).decode()
    words = ("score", "reason", "propensity", "audit", "mined", "holdout", "cluster", "signal")
    for told in (EVIDENCE, "rephrased", "0.7319", *words):
        assert told not in json.dumps(rows_of(batch.folder)), told
    assert EVIDENCE not in written and "propensity" not in written


def test_the_order_of_a_batch_says_nothing_either(place: Workspace):
    batch = send(place)
    sent = {c.candidate_id: c.part for c in Lake(place.lake).rows(Candidate, "SELECT * FROM candidates")}
    parts = [sent[r["candidate_id"]] for r in rows_of(batch.folder)]
    changes = sum(a != b for a, b in pairwise(parts))
    assert changes > 4  # three blocks, one after the other, would change twice


def test_the_whole_window_is_recorded_with_its_propensities(place: Workspace):
    batch = send(place)
    recorded = Lake(place.lake).rows(Candidate, "SELECT * FROM candidates")
    assert len(recorded) == N
    assert {c.batch_id for c in recorded} == {batch.batch_id}
    assert {c.propensity for c in recorded if c.part == "audit_holdout"} == {6 / 20}
    assert {c.propensity for c in recorded if c.part == "audit_open"} == {6 / 60}


def test_a_window_is_sent_once(place: Workspace):
    assert send(place) is not None
    before = {p: p.read_bytes() for p in place.outbox.rglob("*") if p.is_file()}
    assert send(place) is None
    assert {p: p.read_bytes() for p in place.outbox.rglob("*") if p.is_file()} == before


def test_a_window_that_is_too_small_waits(place: Workspace):
    send(place)
    lake = Lake(place.lake)
    lake.append("interactions", [interaction(f"new-{k}") for k in range(49)])
    lake.append("members", [member(f"new-{k}") for k in range(49)])
    assert send(place) is None
    lake.append("interactions", [interaction("new-49")])
    lake.append("members", [member("new-49")])
    assert send(place).window >= 50


def test_an_interrupted_send_is_finished(place: Workspace, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        patch.setattr(Files, "send", lambda *_: (_ for _ in ()).throw(RuntimeError("killed")))
        with pytest.raises(RuntimeError, match="killed"):
            send(place)
    assert not place.outbox.exists() or not list(place.outbox.iterdir())
    chosen = Lake(place.lake).rows(Candidate, "SELECT * FROM candidates WHERE part <> ''")
    assert send(place) is None  # nothing new, but what was chosen is now written
    (folder,) = place.outbox.iterdir()
    assert {r["candidate_id"] for r in rows_of(folder)} == {c.candidate_id for c in chosen}


def test_a_send_that_died_between_the_ledger_and_the_trail_says_in_the_trail_that_it_asked(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
):
    lake, append = Lake(place.lake), Lake.append

    def dies(self: Lake, table: str, rows: Any) -> Any:
        if table == "events" and self.count("asks"):
            raise RuntimeError("killed")
        return append(self, table, rows)

    with monkeypatch.context() as patch:
        patch.setattr(Lake, "append", dies)
        with pytest.raises(RuntimeError, match="killed"):
            send(place)
    asked = "SELECT batch_id FROM events WHERE what = 'asked'"
    assert lake.count("asks") and not lake.query(asked).num_rows
    assert send(place) is None
    assert lake.query(asked).to_pylist() == lake.query("SELECT DISTINCT batch_id FROM asks").to_pylist()


def test_a_busy_lake_refuses_to_send(place: Workspace):
    with place.lock("lake"), pytest.raises(Refused) as caught:
        send(place)
    assert caught.value.exit_code == 6


# Receiving


@pytest.fixture
def sent(place: Workspace) -> list[dict[str, Any]]:
    return rows_of(send(place).folder)


def test_answers_are_stored_once(place: Workspace, sent: list[dict]):
    log(
        place.answers / "monday.jsonl",
        *(answer(r, who) for r in sent for who in ("ana", "ben")),
        answer(sent[0], "ana"),
    )
    account = receive(place)
    assert (account.stored, account.duplicate, account.rejected) == (40, 1, 0)
    assert receive(place).seen == 0
    log(place.answers / "again.jsonl", *(answer(r, "ana") for r in sent))
    assert (receive(place).duplicate, Lake(place.lake).count("annotations")) == (20, 40)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"candidate_id": "cd_nobody"}, "unknown_candidate"),
        ({"batch_id": "bt_nobody"}, "unknown_candidate"),
        ({"content_hash": "ch_other"}, "changed_content"),
        ({"content_hash": None}, "changed_content"),
        ({"value": {"verdict": "perhaps"}}, "bad_value"),
        ({"value": {"verdict": "right", "correction": "invoice"}}, "bad_value"),
        ({"value": {"verdict": "wrong", "correction": "no-such-answer"}}, "unknown_answer"),
        ({"value": {}}, "missing_field"),
        ({"value": "right"}, "bad_value"),
        ({"value": {"verdict": "right", "and": "more"}}, "bad_value"),
        ({"kind": "safety"}, "not_asked"),
        ({"annotator": "mallory"}, "unknown_annotator"),
        ({"guideline": "answer/7"}, "not_asked"),
        ({"status": "approved"}, "bad_value"),
        ({"time": "2046-01-06T09:00:00Z"}, "time_to_come"),
        ({"annotator": ""}, "missing_field"),
        ({"annotator": 7}, "bad_type"),
        ({"value": {"verdict": ["right"]}}, "bad_value"),
        ({"time": "2026-01-06T09:00:00"}, "bad_time"),
        ({"time": None}, "bad_time"),
    ],
)
def test_an_answer_that_does_not_fit_is_rejected_with_its_reason(
    place: Workspace, sent: list[dict], changes: dict, code: str
):
    log(place.answers / "monday.jsonl", answer(sent[0]) | changes, answer(sent[1]))
    account = receive(place)
    assert (account.stored, account.rejected, account.reasons) == (1, 1, {code: 1})
    (reject,) = Lake(place.lake).rows(Reject, "SELECT * FROM rejects")
    assert (reject.source, reject.code, reject.raw_line) == ("monday.jsonl", code, 1)
    assert (place.raw / "answers" / f"{reject.raw_segment}.jsonl.zst").is_file()


@pytest.mark.parametrize("junk", [b"not json", b"[]", b"17", b"\xff", b"[" * 5000])
def test_a_line_that_is_no_answer_is_rejected_alone(place: Workspace, sent: list[dict], junk: bytes):
    log(place.answers / "monday.jsonl", answer(sent[0]), junk, answer(sent[1]))
    account = receive(place)
    assert (account.stored, account.reasons) == (2, {"bad_json": 1})


def test_an_interaction_that_was_not_sent_cannot_be_answered(place: Workspace, sent: list[dict]):
    passed_over = Lake(place.lake).rows(Candidate, "SELECT * FROM candidates WHERE part = '' LIMIT 1")[0]
    log(place.answers / "a.jsonl", answer(sent[0]) | {"candidate_id": passed_over.candidate_id})
    assert receive(place).reasons == {"unknown_candidate": 1}


def test_a_revised_answer_replaces_the_earlier_one_whatever_comes_first(place: Workspace, sent: list[dict]):
    later = answer(sent[0], "ana", "wrong", correction="invoice", time="2026-01-06T10:00:00Z")
    log(place.answers / "a.jsonl", later, answer(sent[0], "ben", "wrong", correction="invoice"))
    log(place.answers / "b.jsonl", answer(sent[0], "ana"))
    assert receive(place).stored == 3
    latest = {a.annotator: a for a in latest_annotations(place)}
    assert set(latest) == {"ana", "ben"}
    assert latest["ana"].parsed == {"verdict": "wrong", "correction": "invoice"}
    (label,) = agreement(place).labels
    assert (label.verdict, label.target, label.votes) == ("wrong", "invoice", 2)


def test_of_an_answer_file_that_grew_only_the_new_lines_are_read(place: Workspace, sent: list[dict]):
    path = log(place.answers / "a.jsonl", answer(sent[0]))
    receive(place)
    with path.open("ab") as f:
        f.write(orjson.dumps(answer(sent[1])) + b"\n")
    account = receive(place)
    assert (account.stored, account.duplicate) == (1, 0)


def test_a_half_written_answer_waits_for_the_rest_of_its_line(place: Workspace, sent: list[dict]):
    line = orjson.dumps(answer(sent[0])) + b"\n"
    path = place.answers / "a.jsonl"
    path.write_bytes(line[:40])
    account = receive(place)
    assert (account.seen, len(account.unfinished)) == (0, 1)
    path.write_bytes(line)
    assert receive(place).stored == 1


def test_a_death_before_the_answers_are_stored_loses_none(place: Workspace, sent: list[dict], monkeypatch):
    log(place.answers / "a.jsonl", *(answer(r) for r in sent))
    with monkeypatch.context() as patch:
        patch.setattr(Lake, "append", lambda *_: (_ for _ in ()).throw(RuntimeError("killed")))
        with pytest.raises(RuntimeError, match="killed"):
            receive(place)
    assert receive(place).stored == len(sent)


def test_a_batch_that_was_answered_is_not_written_again(place: Workspace, sent: list[dict]):
    log(place.answers / "a.jsonl", answer(sent[0]))
    receive(place)
    (folder,) = place.outbox.iterdir()
    (folder / "batch.jsonl").unlink()
    assert send(place) is None
    assert not (folder / "batch.jsonl").exists()
