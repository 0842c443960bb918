"""Following up: who is not sure is asked again, experts decide, late questions end, changed clauses ask anew, gold is unseen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from starlette.testclient import TestClient

from tasks.errors import Refused
from tasks.live.handoff.files import Files
from tasks.live.handoff.follow_up import follow_up
from tasks.live.handoff.receive import receive
from tasks.live.handoff.send import send
from tasks.live.labels import agreement, judged, latest_annotations
from tasks.live.lake import Lake
from tasks.live.quality import quality
from tasks.live.review.app import application
from tasks.live.review.roster import invite
from tasks.live.trail import trail
from tasks.live.workspace import Workspace
from tasks.records import Asked, Candidate, Event
from tests.handmade import NOON, interaction, log, member
from tests.sendable import N, answer, answered, asked, change, question, rows_of, sendable


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return sendable(tmp_path / "work")


@pytest.fixture
def sent(place: Workspace) -> list[dict[str, Any]]:
    return rows_of(send(place).folder)


# Asking again


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
    answered(
        place,
        *(answer(r, who) for r in rest for who in ("ana", "ben")),
        answer(row, "ana"),
        answer(row, "ben", "wrong", "invoice"),
    )
    follow_up(place)
    answered(place, answer(row, "cleo", "wrong", "battery"), file="b.jsonl")
    assert follow_up(place).experts == {"answer": 1}
    (to_expert,) = asked(place, 3)
    assert to_expert["role"] == "expert"
    answered(place, answer(row, "xenia", "wrong", "puncture"), file="c.jsonl")
    assert follow_up(place).open == 0
    places = {c.candidate_id: c.interaction_id for c in Lake(place.lake).rows(Candidate, "SELECT * FROM candidates")}
    label = {x.interaction_id: x for x in agreement(place).labels}[places[row["candidate_id"]]]
    assert (label.target, label.state) == ("puncture", "agreed")


def test_an_expert_looks_at_settled_labels_by_lot_and_says_how_many_are_wrong(place: Workspace, sent: list[dict]):
    change(place, {"audit_share: 0.0": "audit_share: 0.4"})
    answered(place, *(answer(r, who) for r in sent for who in ("ana", "ben")))
    looked_at = follow_up(place).experts["answer"]
    assert 3 <= looked_at <= 14  # two in five of twenty, by lot
    to_expert = asked(place, 2)
    assert follow_up(place).experts == {}  # once
    answered(
        place,
        answer(to_expert[0], "xenia", "wrong", "invoice"),
        *(answer(r, "xenia") for r in to_expert[1:]),
        file="b.jsonl",
    )
    found = quality(place).audited
    assert (found.labels, found.wrong) == (looked_at, 1) and found.low < 1 / looked_at < found.high


def test_who_is_no_expert_cannot_decide_what_experts_are_asked(place: Workspace, sent: list[dict]):
    lake = Lake(place.lake)
    first = lake.rows(Asked, "SELECT * FROM asks ORDER BY ask_id")[0]
    lake.append("asks", [replace(first, ask_id="ak_x", candidate_id="cd_x", role="expert")])
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


def test_what_is_late_goes_to_an_expert_and_then_is_given_up(
    place: Workspace, sent: list[dict], monkeypatch: pytest.MonkeyPatch
):
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


def test_a_death_between_the_ledger_and_the_tool_is_made_good(
    place: Workspace, sent: list[dict], monkeypatch: pytest.MonkeyPatch
):
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
    answered(
        place,
        *(answer(r, who) for r in right for who in ("ana", "ben")),
        *(answer(wrong, w, "wrong", "escalate") for w in ("ana", "ben")),
    )
    assert follow_up(place).open == 0
    text = (place.data / "guidelines" / "answer-1.md").read_text(encoding="utf-8")
    changed = text.replace("complaints about staff", "lost bicycles")
    (place.data / "guidelines" / "answer-2.md").write_text(changed, encoding="utf-8")
    done = follow_up(place)
    assert (done.reworded, done.again) == ({"answer": 1}, {})
    (row,) = asked(place, 2)
    assert (row["candidate_id"], row["guideline"], row["wanted"], row["answered_by"]) == (
        wrong["candidate_id"],
        "answer/2",
        2,
        [],
    )
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
    lake.append("asks", [replace(a, ask_id=f"{a.ask_id}x", role="expert", round=2) for a in first])
    known = {a.candidate_id for a in first}
    answered(place, *(answer(r, "xenia", "wrong", "invoice") for r in sent if r["candidate_id"] in known))
    change(place, {"gold_share: 0.07": "gold_share: 0.25", "audit_share: 0.0": "audit_share: 1.0"})
    lake.append(
        "interactions", [interaction(f"b{k:03d}", question(1000 + k), ts=1_767_714_400_000_000 + k) for k in range(N)]
    )
    lake.append("members", [member(f"b{k:03d}", "holdout" if k % 4 == 0 else "train") for k in range(N)])
    batch = send(place)
    rows = rows_of(batch.folder)
    assert batch.gold == 3 and len(rows) == 15
    gold = {a.candidate_id for a in lake.rows(Asked, "SELECT * FROM asks WHERE gold")}
    assert len(gold) == 3
    assert (
        len({frozenset(r) for r in rows}) == 1 and "gold" not in orjson.dumps(rows).decode()
    )  # they look like all others
    before = {x.interaction_id: x for x in agreement(place).labels}
    answered(place, *(answer(r, "ana", "right") for r in rows if r["candidate_id"] in gold), file="b.jsonl")
    after = {x.interaction_id: x for x in agreement(place).labels}
    assert {i: after[i] for i in before} == before  # measured by it, nobody changes what was decided


def test_personal_data_that_was_captured_unredacted_does_not_leave(place: Workspace):
    lake = Lake(place.lake)
    for k in range(60):
        lake.append(
            "interactions", [interaction(f"p{k}", f"write to kim{k}@example.org about number {k}", ts=NOON + 900 + k)]
        )
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
    rows = {
        r["kind"]: r for r in rows_of(batch.folder) if r["candidate_id"] == rows_of(batch.folder)[0]["candidate_id"]
    }
    row = rows["sentiment"]
    answered(place, *(answer(row, w) | {"value": {"sentiment": "negative"}} for w in ("ana", "ben")))
    (found,) = judged(place)["sentiment"]
    assert (found.parsed, found.state, found.votes) == ({"sentiment": "negative"}, "agreed", 2)


# How it is told, and the page


def test_the_trail_of_a_candidate_tells_who_did_what_under_which_guideline(place: Workspace, sent: list[dict]):
    answered(place, answer(sent[0], "ana", note="sure"), answer(sent[0], "ben", "wrong", "invoice"))
    follow_up(place)
    taken_back = answer(sent[0], "ben", time="2026-01-07T09:00:00Z", status="withdrawn")
    answered(place, taken_back, file="b.jsonl")
    steps = trail(place, sent[0]["candidate_id"])
    assert [(s.what, s.who) for s in steps if s.what != "asked"] == [
        ("submitted", "ana"),
        ("submitted", "ben"),
        ("withdrawn", "ben"),
    ]
    assert [s.detail for s in steps if s.what == "asked"] == ["round 1: 2 annotator", "round 2: 1 annotator"]
    assert {s.guideline for s in steps} == {"answer/1"} and "sure" in steps[1].detail
    by_interaction = trail(place, Lake(place.lake).rows(Asked, "SELECT * FROM asks LIMIT 1")[0].interaction_id)
    assert by_interaction and by_interaction[0].what == "asked"
    with pytest.raises(Refused, match="never handed to people"):
        trail(place, "cd_nobody")


def test_quality_counts_what_is_out_and_back_and_what_it_cost(place: Workspace, sent: list[dict]):
    answered(
        place,
        *(answer(r, who, "wrong", "invoice") for r in sent[:10] for who in ("ana", "ben")),
        answer(sent[10], "ana"),
    )
    found = quality(place)
    (kind,) = found.kinds
    assert (kind.out, kind.back, kind.settled, kind.disputed) == (20, 21, 10, 0)
    assert (kind.cost, kind.cost_per_label, found.cost_per_error) == (8.4, 0.84, 0.84)
    assert kind.agreement["verdict"].raw == 1.0 and kind.agreement["verdict"].items == 10
    assert {c.annotator: c.answers for c in found.annotators} == {"ana": 11, "ben": 10}


def test_the_guideline_debugger_names_the_clause_that_people_disagree_about(place: Workspace, sent: list[dict]):
    calm = [answer(r, who, "wrong", "invoice") for r in sent[:10] for who in ("ana", "ben")]
    apart = [answer(r, w, "wrong", c) for r in sent[10:18] for w, c in (("ana", "escalate"), ("ben", "battery"))]
    answered(place, *calm, *apart)
    worst = quality(place).clauses[0]
    assert (worst.guideline, worst.clause, worst.questions, worst.disagreed) == ("answer/1", "escalate", 8, 8)


def test_what_is_answered_on_the_review_page_is_received_like_any_other(place: Workspace, sent: list[dict]):
    people = {"ana": invite(place, "ana", False), "xenia": invite(place, "xenia", True)}
    page = TestClient(application(place, frozenset({"127.0.0.1"}), 0, True), base_url="http://127.0.0.1:8095")
    own = {"Origin": "http://127.0.0.1:8095", "Sec-Fetch-Site": "same-origin", "Content-Type": "application/json"}

    def post(path: str, document: Any = None) -> Any:
        response = page.post(f"/api/{path}", content=orjson.dumps(document or {}), headers=own)
        assert response.status_code == 200, response.text
        return response.json()

    post("sign-in", {"annotator": "ana", "token": people["ana"]})
    for _ in range(3):
        screen = post("next")["screen"]
        rows = [
            {"ask_id": a["ask_id"], "status": "submitted", "value": {"verdict": "right"}, "seconds": 4}
            for a in screen["asks"]
        ]
        post("answers", {"answers": rows})
    account = receive(place)
    assert (account.stored, account.rejected) == (3, 0)
    assert {(a.annotator, a.seconds, a.guideline) for a in latest_annotations(place)} == {("ana", 4.0, "answer/1")}


def test_a_ranking_is_about_the_answers_that_people_saw_whatever_the_prompt_gets_later(place: Workspace):
    lake = Lake(place.lake)
    change(place, {'["answer: 1"]': '["ranking: 1"]'})
    lake.append("interactions", [interaction("000b", question(0), response="Another answer.", ts=NOON + 900)])
    lake.append("members", [member("000b", "holdout")])
    batch = send(place)
    rows = [r for r in rows_of(batch.folder) if r["question"] == question(0)]
    assert rows, "with the seeds as they are, the prompt with two answers is in the batch"
    lake.append("interactions", [interaction("000c", question(0), response="A third answer, captured later.", ts=NOON + 999)])
    ranks = [[a["id"]] for a in rows[0]["answers"]]
    answered(place, answer(rows[0], "ana") | {"value": {"ranks": ranks}})
    assert [a.parsed["ranks"] for a in latest_annotations(place)] == [ranks]


def test_a_batch_that_died_between_what_was_withheld_and_what_was_asked_is_still_asked(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
):
    lake = Lake(place.lake)
    for k in range(60):
        lake.append("interactions", [interaction(f"p{k}", f"write to kim{k}@example.org, {k}", ts=NOON + 900 + k)])
    lake.append("members", [member(f"p{k}") for k in range(60)])
    change(place, {"budget: 20": "budget: 60"})
    append = Lake.append
    with monkeypatch.context() as patch:

        def dies(self: Lake, table: str, rows: Any) -> Any:
            if table == "asks":
                raise RuntimeError("killed")
            return append(self, table, rows)

        patch.setattr(Lake, "append", dies)
        with pytest.raises(RuntimeError, match="killed"):
            send(place)
    assert lake.count("asks") == 0 and lake.rows(Event, "SELECT * FROM events WHERE what = 'withheld'")
    assert send(place) is None
    chosen = lake.rows(Candidate, "SELECT * FROM candidates WHERE part <> ''")
    withheld = lake.rows(Event, "SELECT * FROM events WHERE what = 'withheld'")
    assert lake.count("asks") == len(chosen) - len(withheld) > 0
