"""The review page's server: who gets what, who gets in, and what an answer becomes on the disk."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from starlette.testclient import TestClient

from tasks.errors import Refused
from tasks.kinds import KINDS, checked
from tasks.live.handoff.tool import shuffled
from tasks.live.review import app as live
from tasks.live.review.desk import LEASE_SECONDS
from tasks.live.review.outbox import as_kind
from tasks.live.review.roster import invite
from tasks.live.workspace import Workspace
from tests.conftest import flywheel
from tests.outbox import BATCH, CATALOGUE, answers, ask, workspace, write

NOW = 1_767_690_000.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class Page:
    """One person's browser."""

    def __init__(self, application: Any):
        self.client = TestClient(application, base_url="http://127.0.0.1:8095")

    def post(self, path: str, document: Any = None, **headers: str) -> Any:
        own = {"Origin": "http://127.0.0.1:8095", "Sec-Fetch-Site": "same-origin", "Content-Type": "application/json"}
        return self.client.post(f"/api/{path}", content=orjson.dumps(document or {}), headers=own | headers)

    def sign_in(self, annotator: str, token: str = "", expert: bool = False) -> int:
        return self.post("sign-in", {"annotator": annotator, "token": token, "expert": expert}).status_code

    def next(self) -> dict[str, Any] | None:
        return self.post("next").json()["screen"]

    def say(self, screen: dict[str, Any], value: Any = None, status: str = "submitted", note: str = "", **more: Any) -> Any:
        """The same about every ask of a screen."""
        rows = [{"ask_id": a["ask_id"], "status": status, "value": value, "note": note, "seconds": 3.25} | more
                for a in screen["asks"]]  # fmt: skip
        return self.post("answers", {"answers": rows})


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return workspace(tmp_path)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def people(place: Workspace, clock: Clock) -> Iterator[Any]:
    application = live.application(place, now=clock)

    def person(name: str, expert: bool = False) -> Page:
        page = Page(application)
        assert page.sign_in(name, expert=expert) == 200
        return page

    return person


RIGHT = {"verdict": "right"}


def test_an_answer_is_a_line_of_the_neutral_shape_on_the_disk_before_it_is_confirmed(place: Workspace, people: Any):
    one = ask("ranking")
    write(place, [one])
    ana = people("ana")
    screen = ana.next()
    ranks = [["an_b"], ["an_a", "an_c"]]
    assert ana.say(screen, {"ranks": ranks, "unacceptable": ["an_c"]}, note="hm").json() == {"wrong": []}
    (line,) = answers(place, "ana")
    assert line == {
        "batch_id": BATCH, "candidate_id": "in_1", "kind": "ranking", "content_hash": "hash of in_1", "annotator": "ana",
        "value": {"ranks": ranks, "unacceptable": ["an_c"]}, "time": "2026-01-06T09:00:00.000000Z", "status": "submitted",
        "seconds": 3.2, "shown": [a["id"] for a in shuffled(one, "ana")], "note": "hm", "guideline": "answer/1",
        "native_id": "ak_in_1_ranking/ana",
    }  # fmt: skip
    assert [a["id"] for a in screen["asks"][0]["answers"]] == line["shown"]
    assert checked(KINDS["ranking"], line["value"], one, set()) == line["value"]
    assert (place.answers / "review-ana.jsonl").stat().st_mode & 0o777 == 0o600


def test_all_that_is_asked_about_a_candidate_stands_on_one_screen_and_is_saved_whole_or_not_at_all(
    place: Workspace, people: Any
):
    write(place, [ask("answer"), ask("grounded"), ask("answer", "in_2")])
    ana = people("ana")
    screen = ana.next()
    assert [a["kind"] for a in screen["asks"]] == ["answer", "grounded"]
    refused = ana.say(screen, RIGHT)
    assert refused.status_code == 422
    assert [(w["ask_id"], w["code"]) for w in refused.json()["wrong"]] == [("ak_in_1_grounded", "bad_value")]
    assert answers(place) == []


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ({}, "missing_field"),
        ({"verdict": "maybe"}, "bad_value"),
        ({"verdict": "right", "correction": "escalate"}, "bad_value"),
        ({"verdict": "wrong", "correction": "no-such"}, "unknown_answer"),
        ({"verdict": "right", "more": 1}, "bad_value"),
        ([1], "bad_value"),
    ],
)
def test_what_the_loop_would_reject_is_told_at_once(place: Workspace, people: Any, value: Any, code: str):
    write(place, [ask()])
    ana = people("ana")
    refused = ana.say(ana.next(), value)
    assert (refused.status_code, refused.json()["wrong"][0]["code"]) == (422, code)
    assert answers(place) == []


def test_an_edit_a_withdrawal_and_a_skip_are_lines_with_later_times(place: Workspace, people: Any, clock: Clock):
    write(place, [ask()])
    ana = people("ana")
    screen = ana.next()
    ana.say(screen, RIGHT)
    clock.now -= 60  # whatever the clock does
    ana.say(screen, {"verdict": "wrong"})
    assert ana.next() is None
    own = ana.client.get("/api/own", params={"batch_id": BATCH, "candidate_id": "in_1"}).json()["screen"]
    assert own["asks"][0]["mine"] == {"status": "submitted", "value": {"verdict": "wrong"}, "note": ""}
    assert ana.say(screen, status="withdrawn").status_code == 200
    assert ana.say(screen, status="withdrawn").status_code == 422  # there is nothing left to take back
    assert ana.next() is not None  # it is asked again
    assert ana.say(screen, status="skipped").json()["wrong"][0]["code"] == "missing_field"
    ana.say(screen, status="skipped", note="unsure")
    lines = answers(place)
    assert [line["status"] for line in lines] == ["submitted", "submitted", "withdrawn", "skipped"]
    assert [line["time"] for line in lines] == sorted({line["time"] for line in lines})
    assert (lines[3]["note"], lines[3]["value"]) == ("unsure", {})
    assert ana.next() is None


def test_no_more_people_than_wanted_have_the_same_candidate_before_them(place: Workspace, people: Any, clock: Clock):
    write(place, [ask(wanted=1), ask(candidate="in_2", wanted=1)])
    ana, bob, eve = people("ana"), people("bob"), people("eve")
    handed = [p.next()["candidate_id"] for p in (ana, bob)]
    assert sorted(handed) == ["in_1", "in_2"]
    assert eve.next() is None
    assert ana.next()["candidate_id"] == handed[0]  # a reload keeps what is before her
    clock.now += LEASE_SECONDS - 1
    bob.post("keep", {"batch_id": BATCH, "candidate_id": handed[1]})
    clock.now += 2
    late = eve.next()
    assert late["candidate_id"] == handed[0]  # ana has been away for too long; bob has not
    eve.say(late, RIGHT)
    assert eve.next() is None
    # She comes back, and what she did is not thrown away.
    first = {"asks": [{"ask_id": f"ak_{handed[0]}_answer"}]}
    assert ana.say(first, RIGHT).status_code == 200
    assert ana.next() is None


def test_people_who_ask_at_the_same_moment_are_never_handed_more_than_is_wanted(place: Workspace, people: Any):
    write(place, [ask(candidate=f"in_{i}", wanted=2) for i in range(6)])
    crowd = [people(f"p{i}") for i in range(8)]
    handed: list[str] = []
    start = threading.Barrier(len(crowd))

    def work(page: Page) -> None:
        start.wait()
        while screen := page.next():
            handed.append(screen["candidate_id"])
            assert page.say(screen, RIGHT).status_code == 200

    threads = [threading.Thread(target=work, args=(p,)) for p in crowd]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert sorted(handed) == sorted([f"in_{i}" for i in range(6)] * 2)
    assert len({(a["candidate_id"], a["annotator"]) for a in answers(place)}) == 12


def test_nobody_is_handed_what_they_answered_anywhere(place: Workspace, people: Any):
    write(place, [ask(), ask(candidate="in_2", answered_by=["ana"]), ask(candidate="in_3")])
    elsewhere = {"batch_id": BATCH, "candidate_id": "in_1", "kind": "answer", "content_hash": "hash of in_1", "annotator": "ana",
                 "value": RIGHT, "time": "2026-01-05T09:00:00Z"}  # fmt: skip
    place.answers.mkdir()
    (place.answers / "sheet.jsonl").write_bytes(b"no JSON\n[]\n{}\n" + orjson.dumps(elsewhere) + b"\n" + b'{"half')
    ana = people("ana")
    assert ana.next()["candidate_id"] == "in_3"
    bob, eve = people("bob"), people("eve")
    assert bob.next()["candidate_id"] == "in_1"
    assert eve.next()["candidate_id"] != "in_1"  # one answer and one lease are the two that are wanted


def test_who_answers_in_another_round_is_counted_anew_and_what_is_cancelled_is_gone(place: Workspace, people: Any):
    write(place, [ask(wanted=1), ask(candidate="in_2")])
    ana, bob = people("ana"), people("bob")
    ana.say(ana.next(), RIGHT)
    write(place, [ask(ask_id="ak_2", wanted=1, answered_by=["ana"], round=2)], cancelled=["ak_in_2_answer"])
    assert ana.next() is None
    screen = bob.next()
    assert [a["ask_id"] for a in screen["asks"]] == ["ak_2"]
    bob.say(screen, RIGHT)
    assert bob.next() is None
    assert people("eve").next() is None


def test_an_expert_decides_and_sees_votes_without_names(place: Workspace, people: Any):
    write(place, [ask(), ask(candidate="in_2")])
    ana, bob = people("ana"), people("bob")
    for page, value in ((ana, RIGHT), (bob, {"verdict": "wrong"})):
        screen = page.next()
        assert screen["asks"][0]["votes"] == []
        page.say(screen, value, note="because")
    write(place, [ask(ask_id="ak_x", role="expert", wanted=1, answered_by=["ana", "bob"], round=2)])
    assert people("eve").next()["candidate_id"] == "in_2"
    carla = people("carla", expert=True)
    screen = carla.next()
    assert screen["candidate_id"] == "in_1"
    votes = screen["asks"][0]["votes"]
    assert sorted(v["value"]["verdict"] for v in votes) == ["right", "wrong"]
    assert "ana" not in str(screen) and "bob" not in str(screen)
    carla.say(screen, RIGHT)
    assert answers(place, "carla")[0]["value"] == RIGHT


def test_nobody_gives_more_answers_to_a_batch_than_the_cap(place: Workspace):
    write(place, [ask(candidate=f"in_{i}") for i in range(4)] + [ask("grounded", candidate="in_0")])
    ana = Page(live.application(place, cap=3))
    ana.sign_in("ana")
    n = 0
    while screen := ana.next():
        rows = [{"ask_id": a["ask_id"], "status": "submitted", "seconds": 1,
                 "value": RIGHT if a["kind"] == "answer" else {"grounded": "grounded"}} for a in screen["asks"]]  # fmt: skip
        assert ana.post("answers", {"answers": rows}).status_code == 200
        n += len(rows)
    assert n == 3
    more = {"asks": [{"ask_id": "ak_in_3_answer"}]}
    assert ana.say(more, RIGHT).json()["wrong"][0]["code"] == "not_yours"


def test_a_restart_and_a_cut_off_line_lose_nothing(place: Workspace):
    write(place, [ask(wanted=1), ask(candidate="in_2", wanted=1)])
    ana = Page(live.application(place))
    ana.sign_in("ana")
    ana.say(ana.next(), RIGHT)
    file = place.answers / "review-ana.jsonl"
    with file.open("ab") as f:
        f.write(b'{"batch_id": "bt_')  # the machine died in the middle of the next line
    again = Page(live.application(place))
    again.client.cookies = ana.client.cookies  # the session outlives the server
    screen = again.next()
    assert screen["candidate_id"] == "in_2"
    again.say(screen, RIGHT)
    whole = [line for line in file.read_bytes().split(b"\n") if line.endswith(b"}")]
    assert len(whole) == 2 and again.next() is None


def test_a_full_disk_is_said_and_nothing_half_is_left(place: Workspace, people: Any, monkeypatch: pytest.MonkeyPatch):
    write(place, [ask()])
    ana = people("ana")
    screen = ana.next()
    real = os.write

    def short(file: int, data: bytes) -> int:
        return real(file, data[:10])

    monkeypatch.setattr(os, "write", short)
    refused = ana.say(screen, RIGHT)
    monkeypatch.undo()
    assert refused.status_code == 503 and "not saved" in refused.json()["message"]
    assert (place.answers / "review-ana.jsonl").read_bytes() == b""
    assert ana.say(screen, RIGHT).status_code == 200


def test_progress_counts_and_tells_agreement_only_of_enough_candidates(place: Workspace, people: Any):
    write(place, [ask(candidate=f"in_{i}") for i in range(6)] + [ask("spans", candidate=f"in_{i}") for i in range(6)])
    pages = [people("ana"), people("bob")]
    for i in range(6):
        if i == 4:
            (batch,) = pages[0].client.get("/api/progress").json()["batches"]
            assert batch["agreement"] == [] and (batch["answered"], batch["open"], batch["mine"]) == (8, 4, 8)
        for n, page in enumerate(pages):
            screen = page.next()
            marked = [{"start": 0, "end": 4 - 2 * n, "text": "Sure"[: 4 - 2 * n], "label": "unsupported"}]
            verdict = "wrong" if n and i in (0, 1, 2) else "right"
            values = {"answer": {"verdict": verdict}, "spans": {"spans": marked}}
            rows = [{"ask_id": a["ask_id"], "status": "submitted", "value": values[a["kind"]]} for a in screen["asks"]]
            assert page.post("answers", {"answers": rows}).status_code == 200
    (batch,) = pages[0].client.get("/api/progress").json()["batches"]
    assert (batch["asked"], batch["answered"], batch["open"], batch["mine"]) == (12, 12, 0, 12)
    assert batch["agreement"] == [
        {"kind": "answer", "candidates": 6, "share": 0.5}, {"kind": "spans", "candidates": 6, "share": 0.667},
    ]  # fmt: skip
    assert "bob" not in str(pages[0].client.get("/api/progress").json())


@pytest.mark.parametrize("name", ["", "../eve", "a/b", "a\\b", "ana\n", "a" * 65, "x|expert", "näme", ".\0", 7, None])
def test_a_name_is_never_a_path(place: Workspace, name: Any):
    page = Page(live.application(place))
    assert page.post("sign-in", {"annotator": name}).status_code in (400, 401)
    if isinstance(name, str):
        with pytest.raises(Refused):
            invite(place, name, expert=False)
    assert not place.answers.exists()


@pytest.mark.parametrize("name", ["..", ".", "a..b", "-rf"])
def test_an_odd_name_stays_in_the_folder(place: Workspace, people: Any, name: str):
    write(place, [ask()])
    page = people(name)
    page.say(page.next(), RIGHT)
    assert [p.name for p in place.answers.iterdir()] == [f"review-{name}.jsonl"]


def test_an_answer_file_that_leads_elsewhere_is_not_written_to(place: Workspace, people: Any, tmp_path: Path):
    write(place, [ask()])
    ana = people("ana")
    screen = ana.next()
    place.answers.mkdir()
    (tmp_path / "other").write_text("", encoding="utf-8")
    (place.answers / "review-ana.jsonl").symlink_to(tmp_path / "other")
    assert ana.say(screen, RIGHT).status_code == 503
    assert (tmp_path / "other").read_text(encoding="utf-8") == ""


def test_forged_asks_and_asks_of_others_are_refused(place: Workspace, people: Any):
    write(place, [ask(wanted=1), ask(candidate="in_2", role="expert"), ask(candidate="in_3", answered_by=["eve"])])
    ana, eve = people("ana"), people("eve")
    ana.say(ana.next(), RIGHT)
    for forged in ("ak_none", "ak_in_1_answer", "ak_in_2_answer", "ak_in_3_answer", "../../x"):
        refused = eve.say({"asks": [{"ask_id": forged}]}, RIGHT)
        assert refused.json()["wrong"][0]["code"] in ("unknown_ask", "not_yours"), forged
    twice = [{"ask_id": "ak_in_1_answer", "status": "submitted", "value": RIGHT}] * 2
    assert ana.post("answers", {"answers": twice}).status_code == 422
    for bad in (1, [1], [{"ask_id": 1}], [{"ask_id": "a", "status": "x", "seconds": "1"}]):
        assert ana.post("answers", {"answers": bad}).status_code == 400
    own = eve.client.get("/api/own", params={"batch_id": BATCH, "candidate_id": "in_1"})
    assert own.status_code == 404  # what ana answered is not hers to look at
    assert {a["annotator"] for a in answers(place)} == {"ana"}


def test_with_a_roster_a_token_lets_in_and_a_new_one_or_none_shuts_out(place: Workspace):
    write(place, [ask()])
    application = live.application(place)
    before = Page(application)
    assert before.sign_in("ana") == 200 and before.next()
    token = invite(place, "ana", expert=False)
    assert token not in (place.data / "annotators.jsonl").read_text(encoding="utf-8")
    assert (place.data / "annotators.jsonl").stat().st_mode & 0o777 == 0o600
    assert before.post("next").status_code == 401  # a name was enough until then
    ana = Page(application)
    assert [ana.sign_in("ana"), ana.sign_in("ana", token + "x"), ana.sign_in("bob", token), ana.sign_in("ana", "ü")] == [401] * 4
    response = ana.post("sign-in", {"annotator": "ana", "token": token, "expert": True})
    assert response.json() == {"annotator": "ana", "role": "annotator"}  # the roster says who decides
    cookie = response.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie and token.lower() not in cookie
    assert ana.next()
    session = ana.client.cookies["flywheel_review"].strip('"')
    for forged in (session.replace("annotator", "expert"), session.replace("ana", "bob"), session[:-1], "|||", "ana", "é|1"):
        other = Page(application)
        assert other.post("next", Cookie=f'flywheel_review="{forged}"'.encode("latin-1")).status_code == 401
    invite(place, "bob", expert=True)
    assert ana.post("next").status_code == 200
    invite(place, "ana", expert=False)
    assert ana.post("next").status_code == 401
    (place.data / "annotators.jsonl").write_text('{"annotator": 1}\n', encoding="utf-8")
    assert Page(application).sign_in("ana", token) == 503  # a broken roster lets nobody in


def test_a_session_ends(place: Workspace, clock: Clock):
    page = Page(live.application(place, now=clock))
    page.sign_in("ana")
    assert page.post("next").status_code == 200
    clock.now += 31 * 24 * 3600
    assert page.post("next").status_code == 401


def test_only_the_pages_own_requests_are_answered(place: Workspace, people: Any):
    write(place, [ask()])
    ana = people("ana")
    assert ana.client.get("/", headers={"Host": "evil.example"}).status_code == 403
    assert ana.post("next", Host="evil.example:8095").status_code == 403
    assert ana.post("next", Origin="http://evil.example").status_code == 403
    assert ana.post("next", Origin="http://127.0.0.1:9999").status_code == 403
    assert ana.post("next", **{"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert ana.post("next", **{"Sec-Fetch-Site": "same-site"}).status_code == 403
    assert ana.client.post("/api/next", content=b"{}", headers={"Content-Type": "application/json"}).status_code == 403
    assert ana.post("next", **{"Content-Type": "text/plain"}).status_code == 415
    assert ana.post("answers", {"answers": "x" * (live.MAX_BODY_BYTES + 1)}).status_code == 413
    assert ana.post("next").status_code == 200
    for path in ("next", "keep", "answers"):
        assert Page(live.application(place)).post(path).status_code == 401
    for path in ("own", "history", "progress", "guideline", "approved"):
        assert Page(live.application(place)).client.get(f"/api/{path}").status_code == 401


@pytest.mark.parametrize("path", [*live.FILES, "/api/progress", "/api/me", "/no-such", "/../params.yaml", "/page/review.js"])
def test_every_response_carries_the_policy(place: Workspace, path: str):
    response = TestClient(live.application(place), base_url="http://localhost").get(path)
    assert {k: v for k, v in response.headers.items() if k.title() in live.HEADERS or k == "content-security-policy"}
    for name, value in live.HEADERS.items():
        assert response.headers[name] == value
    assert "unsafe" not in response.headers["Content-Security-Policy"]
    assert response.status_code == (200 if path in live.FILES or path == "/api/me" else 401 if "progress" in path else 404)


def test_the_page_holds_nothing_that_is_not_its_own():
    for name, _ in live.FILES.values():
        text = (live.PAGE / name).read_text(encoding="utf-8")
        for never in ("http://", "https://", "innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "style="):
            assert never not in text, (name, never)


def test_a_folder_that_can_t_be_read_is_named_and_the_others_go_on(place: Workspace, people: Any):
    write(place, [ask()])
    bad = place.outbox / "bt_bad"
    bad.mkdir()
    (bad / "batch.jsonl").write_text("{}\n", encoding="utf-8")
    (place.outbox / ".bt_new.tmp").mkdir()
    ana = people("ana")
    assert ana.next()["candidate_id"] == "in_1"
    assert list(ana.client.get("/api/progress").json()["unreadable"]) == ["bt_bad"]


def test_guideline_and_approved_answers_are_those_of_the_batch(place: Workspace, people: Any):
    write(place, [ask()])
    ana = people("ana")
    ana.next()
    text = ana.client.get("/api/guideline", params={"batch_id": BATCH, "version": "answer/1"}).json()["text"]
    assert text.startswith("# Guideline answer/1")
    for version in ("../../params", "answer/2", ""):
        assert ana.client.get("/api/guideline", params={"batch_id": BATCH, "version": version}).status_code == 404
    found = ana.client.get("/api/approved", params={"batch_id": BATCH}).json()["approved"]
    assert [a["id"] for a in found] == [a.id for a in CATALOGUE]


def test_kinds_come_back_from_json_as_they_were():
    from dataclasses import asdict

    assert {name: as_kind(orjson.loads(orjson.dumps(asdict(k)))) for name, k in KINDS.items()} == KINDS


@pytest.mark.parametrize(("host", "hosts"), [("0.0.0.0", ()), ("192.0.2.1", ()), ("127.0.0.1", ("review.example.org",))])
def test_a_page_that_others_reach_needs_people_who_were_invited(place: Workspace, host: str, hosts: tuple[str, ...]):
    with pytest.raises(Refused, match="in any name"):
        live.serve(place, host, 0, hosts)
    closed = Page(live.application(place, closed=True))
    assert closed.sign_in("ana") == 401  # nor does taking the roster away open it


@pytest.mark.slow
def test_the_verb_invites_and_says_why_it_will_not_serve(place: Workspace):
    refused = flywheel("review", "--host", "0.0.0.0", "--workspace", place.root)
    assert refused.code == 2 and "--invite" in refused.err
    ran = flywheel("review", "--invite", "ana", "--expert", "--json", "--workspace", place.root)
    made = ran.document()
    assert (made["annotator"], made["role"]) == ("ana", "expert")
    token = made["link"].partition("#")[2]
    assert made["link"] == f"http://127.0.0.1:8095/?ana#{token}"
    page = Page(live.application(place))
    assert page.sign_in("ana", token) == 200
    assert flywheel("review", "--invite", "a/b", "--workspace", place.root).code == 2
