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
from tasks.live.handoff.follow_up import follow_up
from tasks.live.handoff.receive import receive
from tasks.live.handoff.send import send
from tasks.live.labels import agreement, latest_annotations
from tasks.live.lake import Lake
from tasks.live.quality import quality
from tasks.live.workspace import Workspace
from tasks.records import Asked, Candidate, Event, Reject, Signal, content_id, write_jsonl
from tests.handmade import TEXT, interaction, log, member, workspace

EVIDENCE = "the secret reason of this test"
N = 80
PEOPLE = [{"annotator": n, "role": "annotator"} for n in ("ana", "ben", "cleo", "dot", "eve", "fay")]
PEOPLE += [{"annotator": "xenia", "role": "expert"}]


def question(k: int) -> str:
    """No two near-duplicates: of those only one is mined."""
    return f"question number {k} {content_id('about', k)[6:]}"


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    """A workspace whose lake holds a window of 80 interactions, a quarter on the holdout side, a few of them suspicious."""
    made = workspace(tmp_path / "work")
    lake = Lake(made.lake)
    lake.append(
        "interactions",
        [interaction(f"{k:03d}", question(k), ts=1_767_614_400_000_000 + k) for k in range(N)],
    )
    lake.append("members", [member(f"{k:03d}", "holdout" if k % 4 == 0 else "train") for k in range(N)])
    lake.append("signals", [Signal(f"sg_{k}", f"ix_{k:03d}", "rephrased", 0.7319, EVIDENCE) for k in range(1, N, 8)])
    text = (made.root / "params.yaml").read_text(encoding="utf-8")
    smaller = {"budget: 300": "budget: 20", "audit_holdout: 90": "audit_holdout: 6", "audit_open: 60": "audit_open: 6"}
    smaller |= {'["answer: 1", "action: 0.1", "relevance: 0.1"]': '["answer: 1"]', "audit_share: 0.05": "audit_share: 0.0"}
    change(made, smaller)
    write_jsonl(made.data / "annotators.jsonl", PEOPLE)
    return made


def change(place: Workspace, changes: dict[str, str]) -> None:
    path = place.root / "params.yaml"
    text = path.read_text(encoding="utf-8")
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [orjson.loads(x) for x in (folder / "batch.jsonl").read_bytes().splitlines()]


def answer(
    row: dict[str, Any], annotator: str = "ana", verdict: str = "right", correction: str = "", **changes: Any
) -> dict[str, Any]:
    return {
        "batch_id": row["batch_id"],
        "candidate_id": row["candidate_id"],
        "kind": row["kind"],
        "content_hash": row["content_hash"],
        "annotator": annotator,
        "value": {"verdict": verdict} | ({"correction": correction} if correction else {}),
        "time": "2026-01-06T09:00:00Z",
    } | changes


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


# Asking again


def answered(place: Workspace, *answers: dict[str, Any], file: str = "a.jsonl") -> None:
    log(place.answers / file, *answers)
    receive(place)


def asked(place: Workspace, number: int) -> list[dict[str, Any]]:
    """What the batch's folder asks in a round."""
    (folder,) = place.outbox.iterdir()
    path = folder / f"batch-{number}.jsonl"
    return [orjson.loads(x) for x in path.read_bytes().splitlines()] if path.is_file() else []


def test_people_who_agree_are_not_asked_again(place: Workspace, sent: list[dict]):
    answered(place, *(answer(r, who) for r in sent for who in ("ana", "ben")))
    done = follow_up(place)
    assert (done.again, done.experts, done.open) == ({}, {}, 0)
    assert asked(place, 2) == []


def test_who_disagree_get_a_third_opinion_by_somebody_else(place: Workspace, sent: list[dict]):
    answered(
        place,
        *(answer(r, who) for r in sent[1:] for who in ("ana", "ben")),
        answer(sent[0], "ana"),
        answer(sent[0], "ben", "wrong", "invoice"),
    )
    assert follow_up(place).again == {"answer": 1}
    (row,) = asked(place, 2)
    assert row["candidate_id"] == sent[0]["candidate_id"]
    assert (row["wanted"], row["role"], row["answered_by"]) == (1, "annotator", ["ana", "ben"])
    again = follow_up(place)
    assert (again.again, again.open) == ({}, 1) and asked(place, 3) == []  # it is out: nothing is asked twice


def test_what_stays_disputed_goes_to_an_expert_whose_word_stands(place: Workspace, sent: list[dict]):
    change(place, {"most: 5 ": "most: 3 ", "budget_share: 0.6": "budget_share: 1.0"})
    row, rest = sent[0], sent[1:]
    answered(place, *(answer(r, who) for r in rest for who in ("ana", "ben")), answer(row, "ana"), answer(row, "ben", "wrong", "invoice"))
    follow_up(place)
    answered(place, answer(row, "cleo", "wrong", "battery"), file="b.jsonl")
    assert follow_up(place).experts == {"answer": 1}
    (to_expert,) = asked(place, 3)
    assert to_expert["role"] == "expert"
    answered(place, answer(row, "xenia", "wrong", "puncture"), file="c.jsonl")
    assert follow_up(place).open == 0
    interaction_id = Lake(place.lake).rows(Candidate, f"SELECT * FROM candidates WHERE candidate_id = '{row['candidate_id']}'")[0].interaction_id
    label = {x.interaction_id: x for x in agreement(place).labels}[interaction_id]
    assert (label.target, label.state) == ("puncture", "agreed")


def test_an_expert_looks_at_settled_labels_by_lot_and_says_how_many_are_wrong(place: Workspace, sent: list[dict]):
    change(place, {"audit_share: 0.0": "audit_share: 0.4"})
    answered(place, *(answer(r, who) for r in sent for who in ("ana", "ben")))
    looked_at = follow_up(place).experts["answer"]
    assert 3 <= looked_at <= 14  # two in five of twenty, by lot
    to_expert = asked(place, 2)
    assert follow_up(place).experts == {}  # once
    answered(place, answer(to_expert[0], "xenia", "wrong", "invoice"), *(answer(r, "xenia") for r in to_expert[1:]), file="b.jsonl")
    found = quality(place).audited
    assert (found.labels, found.wrong) == (looked_at, 1) and found.low < 1 / looked_at < found.high


def test_who_is_no_expert_cannot_decide_what_experts_are_asked(place: Workspace, sent: list[dict]):
    lake = Lake(place.lake)
    first = lake.rows(Asked, "SELECT * FROM asks ORDER BY ask_id")[0]
    lake.append("asks", [first.__class__(**{**{f: getattr(first, f) for f in first.__slots__}, "ask_id": "ak_x", "candidate_id": "cd_x",
                                              "role": "expert"})])  # fmt: skip
    row = next(r for r in sent if r["candidate_id"] == first.candidate_id) | {"candidate_id": "cd_x"}
    log(place.answers / "a.jsonl", answer(row, "ana"), answer(row, "xenia"))
    account = receive(place)
    assert (account.stored, account.reasons) == (1, {"not_an_expert": 1})


def test_a_withdrawn_answer_counts_no_more(place: Workspace, sent: list[dict]):
    answered(place, answer(sent[0], "ana"), answer(sent[0], "ben", "wrong", "invoice"))
    taken_back = answer(sent[0], "ben", time="2026-01-07T09:00:00Z", status="withdrawn")
    answered(place, taken_back, file="b.jsonl")
    assert {a.annotator for a in latest_annotations(place)} == {"ana"}
    assert Lake(place.lake).count("annotations") == 3  # and stays in the audit trail


def test_who_passes_is_replaced_by_another(place: Workspace, sent: list[dict]):
    rest = [answer(r, who) for r in sent[1:] for who in ("ana", "ben")]
    passed = answer(sent[0], "ben", status="skipped", note="a language that I do not read")
    answered(place, *rest, answer(sent[0], "ana"), passed)
    assert follow_up(place).again == {"answer": 1}
    (row,) = asked(place, 2)
    assert row["answered_by"] == ["ana", "ben"]


def test_a_late_and_an_extra_answer_are_used(place: Workspace, sent: list[dict]):
    answered(place, *(answer(sent[0], who) for who in ("ana", "ben", "cleo")))
    (label,) = agreement(place).labels
    assert label.votes == 3


def test_what_is_late_goes_to_an_expert_and_then_is_given_up(place: Workspace, sent: list[dict], monkeypatch: pytest.MonkeyPatch):
    from tasks.live.handoff import follow_up as module

    now = module.time.time_ns()
    day = 86_400_000_000_000
    answered(place, *(answer(r, who) for r in sent[2:] for who in ("ana", "ben")), answer(sent[1], "ana"))
    monkeypatch.setattr(module.time, "time_ns", lambda: now + 8 * day)
    late = follow_up(place)
    assert (late.late, late.experts, late.expired) == (2, {"answer": 2}, 0)
    monkeypatch.setattr(module.time, "time_ns", lambda: now + 15 * day)
    over = follow_up(place)
    assert over.expired == 2 and follow_up(place).open == 0
    events = Lake(place.lake).rows(Event, "SELECT * FROM events WHERE what = 'expired' ORDER BY detail")
    assert [e.detail[:1] for e in events] == ["0", "1"] and {e.guideline for e in events} == {"answer/1"}
    (folder,) = place.outbox.iterdir()
    cancelled = {orjson.loads(x)["ask_id"] for x in (folder / "cancelled.jsonl").read_bytes().splitlines()}
    open_ = Lake(place.lake).rows(Asked, "SELECT * FROM asks")
    over_ids = {r["candidate_id"] for r in sent[:2]}
    assert cancelled == {a.ask_id for a in open_ if a.candidate_id in over_ids}


def test_a_death_between_the_ledger_and_the_tool_is_made_good(place: Workspace, sent: list[dict], monkeypatch: pytest.MonkeyPatch):
    answered(place, answer(sent[0], "ana"), answer(sent[0], "ben", "wrong", "invoice"))
    with monkeypatch.context() as patch:
        patch.setattr(Files, "send", lambda *_: (_ for _ in ()).throw(RuntimeError("killed")))
        with pytest.raises(RuntimeError, match="killed"):
            follow_up(place)
    assert asked(place, 2) == []
    follow_up(place)
    assert [r["candidate_id"] for r in asked(place, 2)] == [sent[0]["candidate_id"]]


# Guidelines, gold, and what must not leave


def test_a_changed_clause_asks_anew_what_it_touches_and_nothing_else(place: Workspace, sent: list[dict]):
    wrong, right = sent[0], sent[1:]
    answered(place, *(answer(r, who) for r in right for who in ("ana", "ben")), *(answer(wrong, w, "wrong", "escalate") for w in ("ana", "ben")))
    assert follow_up(place).open == 0
    text = (place.data / "guidelines" / "answer-1.md").read_text(encoding="utf-8")
    (place.data / "guidelines" / "answer-2.md").write_text(text.replace("complaints about staff", "lost bicycles"), encoding="utf-8")
    done = follow_up(place)
    assert (done.reworded, done.again) == ({"answer": 1}, {})
    (row,) = asked(place, 2)
    assert (row["candidate_id"], row["guideline"], row["wanted"], row["answered_by"]) == (wrong["candidate_id"], "answer/2", 2, [])
    assert len(agreement(place).labels) == len(right)
    later = {"guideline": "answer/2", "time": "2026-01-09T09:00:00Z"}
    answered(place, *(answer(row, w, "wrong", "invoice", **later) for w in ("ana", "ben")), file="b.jsonl")
    assert (follow_up(place).open, len(agreement(place).labels)) == (0, len(sent))


def test_a_guideline_that_was_used_cannot_be_rewritten_in_place(place: Workspace, sent: list[dict]):
    (place.data / "guidelines" / "answer-1.md").write_text("# another text", encoding="utf-8")
    answered(place, answer(sent[0], "ana"), answer(sent[0], "ben", "wrong", "invoice"))
    with pytest.raises(Refused, match=r"answer/1 was changed.*\n.*answer-2\.md"):
        follow_up(place)


def test_what_experts_decided_measures_people_later_unseen(place: Workspace, sent: list[dict]):
    lake = Lake(place.lake)
    first = lake.rows(Asked, "SELECT * FROM asks ORDER BY ask_id LIMIT 3")
    expert = [{"batch_id": a.batch_id, "candidate_id": a.candidate_id, "kind": a.kind, "content_hash": a.content_hash} for a in first]
    lake.append("asks", [Asked(**({f: getattr(a, f) for f in a.__slots__} | {"ask_id": f"{a.ask_id}x", "role": "expert", "round": 2})) for a in first])  # fmt: skip
    answered(place, *(answer(r, "xenia", "wrong", "invoice") for r in expert))
    change(place, {"gold_share: 0.07": "gold_share: 0.25", "audit_share: 0.0": "audit_share: 1.0"})
    lake.append("interactions", [interaction(f"b{k:03d}", question(1000 + k), ts=1_767_714_400_000_000 + k) for k in range(N)])
    lake.append("members", [member(f"b{k:03d}", "holdout" if k % 4 == 0 else "train") for k in range(N)])
    batch = send(place)
    rows = rows_of(batch.folder)
    assert batch.gold == 3 and len(rows) == 15
    gold = {a.candidate_id for a in lake.rows(Asked, "SELECT * FROM asks WHERE gold")}
    assert len(gold) == 3
    assert len({frozenset(r) for r in rows}) == 1 and "gold" not in orjson.dumps(rows).decode()  # they look like all others
    before = {x.interaction_id: x for x in agreement(place).labels}
    answered(place, *(answer(r, "ana", "right") for r in rows if r["candidate_id"] in gold), file="b.jsonl")
    after = {x.interaction_id: x for x in agreement(place).labels}
    assert {i: after[i] for i in before} == before  # measured by it, nobody changes what was decided


def test_personal_data_that_was_captured_unredacted_does_not_leave(place: Workspace):
    lake = Lake(place.lake)
    lake.append("interactions", [interaction(f"p{k}", f"write to kim{k}@example.org about number {k}", ts=1_767_614_400_000_900 + k) for k in range(60)])
    lake.append("members", [member(f"p{k}") for k in range(60)])
    change(place, {"budget: 20": "budget: 60"})
    batch = send(place)
    assert batch.withheld > 0
    written = b"".join(p.read_bytes() for p in place.outbox.rglob("*") if p.is_file())
    assert b"@example.org" not in written
    events = lake.rows(Event, "SELECT * FROM events WHERE what = 'withheld'")
    assert len(events) == batch.withheld and {e.detail for e in events} == {"EMAIL"}


def test_one_candidate_may_be_asked_several_kinds(place: Workspace):
    change(place, {'["answer: 1"]': '["answer: 1", "sentiment: 1", "spans: 1"]'})
    batch = send(place)
    assert batch.asks == {"answer": 20, "sentiment": 20}  # no sources, so no spans
    rows = {r["kind"]: r for r in rows_of(batch.folder) if r["candidate_id"] == rows_of(batch.folder)[0]["candidate_id"]}
    row = rows["sentiment"]
    answered(place, *(answer(row, w) | {"value": {"sentiment": "negative"}} for w in ("ana", "ben")))
    from tasks.live.labels import judged

    (found,) = judged(place)["sentiment"]
    assert (found.parsed, found.state, found.votes) == ({"sentiment": "negative"}, "agreed", 2)
