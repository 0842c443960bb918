"""Hand-off by a real Label Studio server: out, answered as its page does, and back, whatever happens in between."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import BadRecord, Refused
from tasks.kinds import KINDS, Ask, checked
from tasks.live.handoff.labelstudio import LabelStudio
from tasks.live.handoff.labelstudio.server import Server
from tasks.live.handoff.tool import Handout, shuffled
from tasks.live.workspace import Workspace
from tests.handmade import CATALOGUE
from tests.labelstudio_server import Person, Running, invited, results
from tests.test_labelstudio_config import APPROVED, CONTEXTS, QUESTION, RESPONSE, ask

pytestmark = pytest.mark.slow
NUMBERS = itertools.count(1)
PAYLOADS = (
    "<script>window.pwned=1</script>",
    "<img src=x onerror=window.pwned=1>",
    '"><svg/onload=window.pwned=1>',
    "<iframe srcdoc='<script>parent.pwned=1</script>'></iframe>",
    "[x](javascript:window.pwned=1) ![x](http://127.0.0.1:9/beacon.png)",
    "<style>@import 'http://127.0.0.1:9/beacon.css';</style><form action=http://127.0.0.1:9/><input name=password></form>",
    "{{constructor.constructor('window.pwned=1')()}} ${window.pwned=1} $response",
    "javascript:window.pwned=1",
    "http://127.0.0.1:9/beacon.txt",
)


@pytest.fixture
def batch(labelstudio: Running) -> Iterator[str]:
    """A batch id that no other test or process has. Its projects go with the test: a pull looks at all there are."""
    made = f"bt_{next(NUMBERS):02d}{time.time_ns() % 10**9:09d}{threading.get_native_id():07d}"
    yield made
    server = Server(labelstudio.url, labelstudio.token)
    for project in server.projects(f"flywheel {made[:27]}"):
        server.delete(f"/api/projects/{project['id']}/")


@pytest.fixture
def tool(labelstudio: Running, batch: str, tmp_path: Path) -> LabelStudio:
    return fresh(labelstudio, tmp_path)


@pytest.fixture(scope="module")
def owner(labelstudio: Running) -> Person:
    return Person(labelstudio.url)


def fresh(labelstudio: Running, place: Path, people: Sequence[str] = ()) -> LabelStudio:
    return LabelStudio(Workspace(place), {"annotator": people}, Server(labelstudio.url, labelstudio.token))


def handout(batch: str, *asks: Ask) -> Handout:
    made = [replace(a, batch_id=batch, ask_id=f"{batch}/{a.candidate_id}/{a.kind}") for a in asks]
    return Handout(batch, 1, made, KINDS, {f"{k}/1": f"# {k}" for k in KINDS}, CATALOGUE)


def candidates(n: int, kind: str = "answer", **changes: Any) -> list[Ask]:
    return [ask(kind, candidate_id=f"cd_{i}", **changes) for i in range(n)]


def tasks(tool: LabelStudio, batch: str) -> list[dict[str, Any]]:
    """The tasks of a batch, with their data; by candidate."""
    projects = tool.server.projects(f"flywheel {batch[:27]}")
    found = [t | {"project": p["id"]} for p in projects for t in tool.server.tasks(p["id"], "id,data,is_labeled,overlap")]
    return sorted(found, key=lambda t: (t["data"]["flywheel"]["asks"][0]["candidate_id"], t["id"]))


def received(tool: LabelStudio, batch: str, accept: bool = True) -> list[dict[str, Any]]:
    """The lines of this batch (the server is shared with other tests)."""
    lines = []
    for delivery in tool.receive():
        lines += [json.loads(line) for line in delivery.data.splitlines()]
        if accept:
            delivery.accepted()
    return [line for line in lines if line["batch_id"] == batch]


def choose(verdict: str, correction: str = "") -> list[dict]:
    value = {"verdict": verdict} | ({"correction": correction} if correction else {})
    return results(KINDS["answer"], value, {})


VALUES = {
    "answer": {"verdict": "wrong", "correction": "refund"},
    "correction": {"text": "Within 14 days.\n😀 <b>", "errors": ["factual", "tone"]},
    "ranking": {"ranks": [["an_b"], ["an_a", "an_c"], ["an_d"]], "unacceptable": ["an_c", "an_d"]},
    "spans": {"spans": [
        {"start": 29, "end": 36, "text": RESPONSE[29:36], "label": "contradicted",
         "evidence": {"context": 0, "start": 11, "end": 34, "text": CONTEXTS[0][11:34]}},
        {"start": 37, "end": 43, "text": RESPONSE[37:43], "label": "unsupported"}]},
    "grounded": {"grounded": "not_grounded"},
    "safety": {"policies": []},
    "action": {"action": "escalate", "route": "billing"},
    "relevance": {"grades": {"0": 3, "1": 0, "2": 1}},
    "rubric": {f.name: 4 for f in KINDS["rubric"].fields},
    "intent": {"intent": "question"},
    "sentiment": {"sentiment": "neutral"},
    "topics": {"topics": ["billing", "other"]},
    "entities": {"entities": [
        {"start": 10, "end": 13, "text": "Ada", "label": "person"},
        {"start": QUESTION.index("40"), "end": QUESTION.index("40") + 6, "text": "40 EUR", "label": "amount"}]},
    "note": {"note": "ask the\nbilling team 👍🏽"},
}  # fmt: skip


def test_every_kind_goes_out_is_answered_and_comes_back(tool: LabelStudio, batch: str, owner: Person):
    assert set(VALUES) == set(KINDS)
    sent = handout(batch, *[ask(kind, candidate_id=f"cd_{kind}") for kind in KINDS], *[ask(kind) for kind in KINDS])
    where = tool.send(sent)
    assert where.startswith(tool.server.url)
    there = tasks(tool, batch)
    assert len(there) == len(KINDS) + 1, "all kinds of one candidate are one task"
    for task in there:
        given = [r for a in task["data"]["flywheel"]["asks"] for r in results(KINDS[a["kind"]], VALUES[a["kind"]], task["data"])]
        owner.answer(task["id"], [r | {"id": f"{i}" if r["id"][1:].isdigit() else r["id"]} for i, r in enumerate(given)])
    asked = {(a.candidate_id, a.kind): a for a in sent.asks}
    lines = received(tool, batch)
    assert len(lines) == 2 * len(KINDS)
    for line in lines:
        kind = KINDS[line["kind"]]
        assert checked(kind, line["value"], asked[line["candidate_id"], kind.name], APPROVED) == VALUES[kind.name], kind.name
        assert (line["annotator"], line["status"], line["guideline"]) == ("admin", "submitted", f"{kind.name}/1")
        assert line["content_hash"] == "ch_1" and line["native_id"].isdecimal() and line["time"].endswith("Z")
        seen = [a["id"] for a in shuffled(asked[line["candidate_id"], kind.name])] if kind.name == "ranking" else []
        assert line["shown"] == seen, "the order in which answers were seen"
    one = [line["seconds"] for line in lines if line["candidate_id"] == "cd_1"]
    assert sum(one) == pytest.approx(12.5, abs=0.01), "the page's time is shared out over the kinds that it asked"
    assert received(tool, batch) == [], "a replay adds nothing"


def test_what_was_not_accepted_comes_again(tool: LabelStudio, batch: str, owner: Person, labelstudio: Running):
    tool.send(handout(batch, *candidates(2)))
    for task in tasks(tool, batch):
        owner.answer(task["id"], choose("right"))
    first = received(tool, batch, accept=False)
    again = received(fresh(labelstudio, tool.workspace.root), batch)
    assert len(first) == 2 and again == first
    assert received(fresh(labelstudio, tool.workspace.root), batch) == []
    assert received(fresh(labelstudio, tool.workspace.root / "lost"), batch) == first, "without the note, the same lines"


def test_edits_deletions_and_skips_come_as_later_lines(tool: LabelStudio, batch: str, owner: Person):
    tool.send(handout(batch, *candidates(4)))
    edited, deleted, skipped, gone = (t["id"] for t in tasks(tool, batch))
    edit, delete = owner.answer(edited, choose("right")), owner.answer(deleted, choose("right"))
    owner.answer(gone, choose("right"))
    before = {line["candidate_id"]: line for line in received(tool, batch)}
    assert set(before) == {"cd_0", "cd_1", "cd_3"}
    owner.edit(edit, choose("wrong", "invoice"))
    owner.call("DELETE", f"/api/annotations/{delete}/")
    owner.skip(skipped)
    owner.call("DELETE", f"/api/tasks/{gone}/")
    after = {line["candidate_id"]: line for line in received(tool, batch)}
    assert {c: line["status"] for c, line in after.items()} == {
        "cd_0": "submitted", "cd_1": "withdrawn", "cd_2": "skipped", "cd_3": "withdrawn",
    }  # fmt: skip
    assert after["cd_0"]["value"] == {"verdict": "wrong", "correction": "invoice"}
    assert after["cd_0"]["native_id"] == before["cd_0"]["native_id"]
    for candidate in before:
        assert after[candidate]["time"] > before[candidate]["time"] and after[candidate]["annotator"] == "admin"
    owner.answer(deleted, choose("wrong", "refund"))
    owner.answer(skipped, choose("right"))
    last = {line["candidate_id"]: line for line in received(tool, batch)}
    assert {c: (line["status"], line["time"] > after[c]["time"]) for c, line in last.items()} == {
        "cd_1": ("submitted", True), "cd_2": ("submitted", True),
    }  # fmt: skip
    assert received(tool, batch) == []


def test_a_second_answer_of_one_person_is_an_edit_and_deleting_it_brings_the_first_back(
    tool: LabelStudio, batch: str, owner: Person
):
    tool.send(handout(batch, *candidates(1)))
    (task,) = tasks(tool, batch)
    owner.answer(task["id"], choose("right"))
    (first,) = received(tool, batch)
    second = owner.answer(task["id"], choose("wrong", "refund"))
    (edit,) = received(tool, batch)
    owner.call("DELETE", f"/api/annotations/{second}/")
    (back,) = received(tool, batch)
    assert [line["value"]["verdict"] for line in (first, edit, back)] == ["right", "wrong", "right"]
    assert first["time"] < edit["time"] < back["time"] and back["status"] == "submitted"


def test_people_who_share_a_project_are_told_apart(tool: LabelStudio, batch: str, labelstudio: Running, owner: Person):
    kim, ada = invited(labelstudio.url, f"kim{batch}"), invited(labelstudio.url, f"ada{batch}")
    tool.workspace.data.mkdir(parents=True)
    row = json.dumps({"annotator": "kim", "labelstudio": kim.email.upper()})
    (tool.workspace.data / "annotators.jsonl").write_text(f"{row}\n")
    tool.send(handout(batch, *candidates(1, wanted=2)))
    (task,) = tasks(tool, batch)
    assert task["overlap"] == 2
    kim.answer(task["id"], choose("right"))
    ada.answer(task["id"], choose("wrong", "refund"))
    answered = {line["annotator"]: line["value"]["verdict"] for line in received(tool, batch)}
    assert answered == {"kim": "right", f"ada{batch}": "wrong"}


def test_a_project_for_each_person_keeps_them_apart_whoever_is_said_to_have_answered(
    labelstudio: Running, batch: str, owner: Person, tmp_path: Path
):
    tool = fresh(labelstudio, tmp_path, ("kim", "ada", "bo"))
    sent = handout(batch, *candidates(30, wanted=2), *[replace(a, answered_by=["bo"]) for a in candidates(30, "intent", wanted=2)])
    tool.send(sent)
    there = tasks(tool, batch)
    people: dict[str, set[str]] = {}
    for task in there:
        for a in task["data"]["flywheel"]["asks"]:
            people.setdefault(a["ask_id"], set()).add(task["data"]["flywheel"]["person"])
    assert all(len(p) == 2 for p in people.values()) and len(people) == 60
    assert all("bo" not in p for ask_id, p in people.items() if ask_id.endswith("intent")), "who answered is not asked again"
    assert all(task["overlap"] == 1 for task in there)
    tool.send(sent)
    fresh(labelstudio, tmp_path, ("kim", "ada", "bo", "zoe")).send(sent)
    assert len(tasks(tool, batch)) == len(there), "sent again, also with one more person: nobody is asked twice"
    one = next(t for t in there if t["data"]["flywheel"]["person"] == "ada" and len(t["data"]["flywheel"]["asks"]) == 2)
    owner.answer(one["id"], choose("right"))
    assert {line["annotator"] for line in received(tool, batch)} == {"ada"}


class Dying(Server):
    """Ends like a process that is killed after its n-th import, which the server has taken."""

    left = 1

    def post(self, path: str, body: Any, **params: Any) -> Any:
        answer = super().post(path, body, **params)
        if path.endswith("/import"):
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
        return answer


def test_a_crash_between_chunks_and_a_second_sender_leave_each_candidate_once(
    labelstudio: Running, batch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tasks.live.handoff.labelstudio.PAGE", 40)
    sent = handout(batch, *candidates(150))
    with pytest.raises(KeyboardInterrupt):
        LabelStudio(Workspace(tmp_path), (), Dying(labelstudio.url, labelstudio.token)).send(sent)
    tool = fresh(labelstudio, tmp_path)
    assert len(tasks(tool, batch)) == 80
    senders = [threading.Thread(target=fresh(labelstudio, tmp_path).send, args=(sent,)) for _ in range(2)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    tool.send(sent)
    names = [t["data"]["flywheel"]["asks"][0]["candidate_id"] for t in tasks(tool, batch)]
    assert len(names) == len(set(names)) == 150
    assert len({t["project"] for t in tasks(tool, batch)}) == 1


def test_other_guidelines_and_kinds_are_another_project(tool: LabelStudio, batch: str):
    tool.send(handout(batch, *candidates(1)))
    more = handout(batch, *candidates(1), ask("safety", candidate_id="cd_9"))
    tool.send(more)
    tool.send(replace(more, guidelines={"answer/1": "changed"}))
    assert len(tasks(tool, batch)) == 2, "what is there stays as it is"
    assert len({t["project"] for t in tasks(tool, batch)}) == 2


def test_cancelled_asks_are_asked_no_longer_and_their_answers_still_come(tool: LabelStudio, batch: str, owner: Person):
    sent = handout(batch, *candidates(3, wanted=3))
    tool.send(sent)
    first, *_, project = [*(t["id"] for t in tasks(tool, batch)), tasks(tool, batch)[0]["project"]]
    owner.answer(first, choose("right"))
    owner.call("POST", f"/api/tasks/{tasks(tool, batch)[2]['id']}/drafts", {"result": choose("right"), "lead_time": 1})
    before = tool.status()
    assert before.drafts > 0 and not any("LS_CSP_REPORT_ONLY" in w for w in before.warnings)
    tool.cancel([a.ask_id for a in sent.asks[:2]])
    tool.cancel([a.ask_id for a in sent.asks[:2]])
    assert [t["data"]["flywheel"]["asks"][0]["candidate_id"] for t in tasks(tool, batch)] == ["cd_0", "cd_2"]
    assert before.open - tool.status().open == 1 and before.answered == tool.status().answered > 0
    (line,) = received(tool, batch)
    assert line["candidate_id"] == "cd_0" and line["status"] == "submitted"
    kim = invited(tool.server.url, f"kim{batch}")
    offered = kim.call("POST", f"/api/dm/actions?id=next_task&project={project}", {})
    assert offered["data"]["flywheel"]["asks"][0]["candidate_id"] == "cd_2"
    kim.answer(offered["id"], choose("right"))
    kim.call("POST", f"/api/dm/actions?id=next_task&project={project}", {}, expect=[404])
    late = kim.answer(first, choose("wrong", "refund"))
    assert str(late) in {line["native_id"] for line in received(tool, batch)}


def test_a_token_is_renewed_before_and_when_it_ends(tool: LabelStudio, labelstudio: Running):
    now = [0.0]
    server = Server(labelstudio.url, labelstudio.token, clock=lambda: now[0])
    server.version()
    first = server._access
    server.version()
    assert server._access == first, "kept while it lives"
    time.sleep(1.1)
    now[0] = 250.0
    server.version()
    assert server._access != first, "renewed before it ends"
    server._access = first[:-4] + "AAAA"
    assert server.get("/api/projects/")["results"] is not None, "refused early, it is exchanged once more"
    assert Server(labelstudio.url, labelstudio.legacy).version() >= (1, 23)


def test_a_wrong_token_address_or_version_is_told_with_what_to_do(labelstudio: Running, monkeypatch: pytest.MonkeyPatch):
    for token in ("0" * 40, labelstudio.token[:-4] + "AAAA", "nonsense"):
        with pytest.raises(Refused, match="FLYWHEEL_LABELSTUDIO_TOKEN") as refused:
            Server(labelstudio.url, token).projects("")
        assert token not in str(refused.value) and "make a new one" in refused.value.what_to_do
    with pytest.raises(Refused, match="does not answer"):
        Server("http://127.0.0.1:9", "0" * 40).version()
    server = Server(labelstudio.url, labelstudio.token)
    monkeypatch.setattr(server, "get", lambda path: {"release": "1.20.0"})
    with pytest.raises(Refused, match=r"1\.20\.0"):
        server.version()


def test_forged_answers_and_foreign_tasks_are_told_and_stop_nothing(tool: LabelStudio, batch: str, owner: Person):
    sent = handout(batch, *candidates(1), *candidates(2, "spans"))
    tool.send(sent)
    by_kind = {t["data"]["flywheel"]["asks"][0]["kind"]: t for t in tasks(tool, batch)}
    owner.answer(by_kind["answer"]["id"], [choose("right")[0] | {"value": {"choices": ["not an option"]}}])
    task = by_kind["spans"]
    moved = results(KINDS["spans"], VALUES["spans"], task["data"])
    moved[0]["value"]["start"] -= 1
    owner.answer(task["id"], moved)
    for data in ({"question": "", "response": "", "history": [], "contexts": [], "answers": [], "flywheel": {"asks": 5}},
                 {"question": "", "response": "", "history": [], "contexts": [], "answers": []}):  # fmt: skip
        owner.call("POST", f"/api/projects/{task['project']}/import", [{"data": data}])
    for other in tool.server.tasks(task["project"], "id,data")[-2:]:
        owner.answer(other["id"], choose("right"))
    asked = {a.kind: a for a in sent.asks}
    flaws, codes = [], {}
    for delivery in tool.receive():
        flaws += [f for f in delivery.flaws if f"projects/{task['project']}/" in f.message]
        for line in map(json.loads, delivery.data.splitlines()):
            if line["batch_id"] == batch:
                with pytest.raises(BadRecord) as refused:
                    checked(KINDS[line["kind"]], line["value"], asked[line["kind"]], APPROVED)
                codes[line["kind"]] = refused.value.code
        delivery.accepted()
    assert codes == {"answer": "bad_value", "spans": "changed_text"}
    assert [f.code for f in flaws] == ["bad_item", "bad_item"]
    assert received(tool, batch) == [] and tool.status().answered > 0
    tool.send(sent)
    tool.cancel([a.ask_id for a in sent.asks])


def hostile(batch: str) -> Handout:
    made = []
    for number, payload in enumerate(PAYLOADS):
        texts = {
            "question": payload, "response": payload, "history": [{"role": payload, "content": payload}],
            "contexts": [{"id": payload, "text": payload}], "answers": [{"id": f"an_{i}", "text": payload} for i in "ab"],
            "candidate_id": f"cd_{number}",
        }  # fmt: skip
        made += [ask(kind, **texts) for kind in ("answer", "correction", "ranking", "spans")]
    sent = handout(batch, *made)
    return replace(sent, guidelines={g: "\n".join(PAYLOADS) for g in sent.guidelines})


def test_hostile_texts_are_stored_as_they_are(tool: LabelStudio, batch: str):
    tool.send(hostile(batch))
    for payload, task in zip(PAYLOADS, tasks(tool, batch), strict=True):
        assert task["data"]["question"] == task["data"]["response"] == task["data"]["contexts"][0]["text"] == payload
    project = tool.server.get(f"/api/projects/{task['project']}/")
    assert "<script" not in project["label_config"] + project["expert_instruction"]


@pytest.fixture
def page(labelstudio: Running, owner: Person) -> Iterator[Any]:
    """A page of Chromium, logged in. Without the browser the test is skipped: nothing else tells what a page runs."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not Path("/usr/bin/chromium").is_file():
        pytest.skip("there is no /usr/bin/chromium")
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1400, "height": 3000})
        context.add_cookies([{"name": n, "value": v, "url": labelstudio.url} for n, v in owner.http.cookies.items()])
        yield context.new_page()
        browser.close()


def test_nothing_of_a_hostile_text_runs_or_loads_in_the_labeling_page(page: Any, tool: LabelStudio, batch: str):
    tool.send(hostile(batch))
    asked: list[str] = []
    page.on("request", lambda r: asked.append(r.url))
    dialogs: list[str] = []
    page.on("dialog", lambda d: (dialogs.append(d.message), d.dismiss()))
    for task in tasks(tool, batch):
        page.goto(f"{tool.server.url}/projects/{task['project']}/data?task={task['id']}")
        page.get_by_text("Is this the right answer?").wait_for(timeout=60_000)
        page.wait_for_timeout(500)
        assert page.evaluate("window.pwned === undefined") and not dialogs
        assert task["data"]["question"] in page.locator(".lsf-main-content, .lsf-main-view, body").first.inner_text()
    page.get_by_text("Instructions").first.click()
    page.wait_for_timeout(1000)
    assert page.evaluate("window.pwned === undefined")
    assert not [url for url in asked if ":9/" in url or "beacon" in url.rpartition("?")[0]]


def test_what_a_person_clicks_is_what_comes_back(page: Any, tool: LabelStudio, batch: str):
    asked = handout(batch, ask("answer"), ask("correction"), ask("spans"), ask("relevance"), ask("ranking"))
    tool.send(asked)
    (task,) = tasks(tool, batch)
    page.goto(f"{tool.server.url}/projects/{task['project']}/data?task={task['id']}")
    page.get_by_text("Is this the right answer?").wait_for(timeout=60_000)
    click_through(page)
    page.get_by_role("button", name="Submit").click()
    page.wait_for_timeout(2000)
    lines = {line["kind"]: line["value"] for line in received(tool, batch)}
    shown = [a["id"] for a in task["data"]["answers"]]
    want = {
        "answer": {"verdict": "wrong", "correction": "refund"},
        "correction": {"text": "Corrected 😀", "errors": ["tone"]},
        "relevance": {"grades": {"0": 0, "1": 1, "2": 2}},
        "ranking": {"ranks": [sorted(shown[:2]), sorted(shown[2:])], "unacceptable": [shown[3]]},
    }
    for asking in asked.asks:
        kept = checked(KINDS[asking.kind], lines[asking.kind], asking, APPROVED)
        if asking.kind != "spans":
            assert kept == want[asking.kind]
        else:
            across, span = kept["spans"]
            assert across["text"] == "possible within\r\n30" and across["label"] == "unsupported"
            assert span["text"] == " days 👍🏽" and span["label"] == "contradicted"
            assert span["evidence"]["text"] == "refunds within 14 days."


def click_through(page: Any) -> None:
    """By place: grades of three documents, the verdict, a text, four answers to rank, a span and where it is refuted."""
    radio, box = page.locator(".lsf-choice input[type=radio]"), page.locator(".lsf-choice input[type=checkbox]")

    def click(control: Any) -> None:
        control.locator("xpath=ancestor::label").click()

    for document in range(3):
        click(radio.nth(4 * document + document))
    click(radio.nth(13))  # wrong
    page.wait_for_timeout(300)
    page.get_by_test_id("select-trigger").first.click()
    page.get_by_text("refund: Refund time").last.click()
    page.keyboard.press("Escape")
    page.locator("textarea").first.fill("Corrected 😀")
    click(box.nth(2))  # tone
    for answer, rank in enumerate((1, 1, 3, 3)):
        click(radio.nth(14 + 4 * answer + rank - 1))
    click(box.last)  # the last answer is unacceptable
    page.get_by_text("unsupported", exact=True).click()
    drag(page, "possible within", "30")
    page.get_by_text("contradicted", exact=True).click()
    drag(page, " days 👍🏽", " days 👍🏽")
    left, right, middle = place(page, " days 👍🏽")
    page.mouse.click((left + right) / 2, middle)
    page.get_by_placeholder("word for word").fill("refunds within 14 days.")
    click(radio.nth(30))  # in the first document
    click(radio.nth(33))  # all are marked


def place(page: Any, text: str) -> list[float]:
    """Left, right and middle, in pixels, of a text of the answer."""
    return page.evaluate(
        """text => {
            const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
            for (let node, range = document.createRange(); (node = walk.nextNode()); ) {
                const at = node.data.indexOf(text);
                if (at < 0 || !node.parentElement.closest("[class*=richtext]")) continue;
                range.setStart(node, at), range.setEnd(node, at + text.length);
                const box = range.getBoundingClientRect();
                if (box.width) return [box.left, box.right, (box.top + box.bottom) / 2];
            }
        }""",
        text,
    )


def drag(page: Any, start: str, end: str) -> None:
    """Mark from the beginning of one text to the end of another."""
    page.wait_for_timeout(300)
    (left, _, top), (_, right, bottom) = place(page, start), place(page, end)
    page.mouse.move(left + 1, top)
    page.mouse.down()
    page.mouse.move((left + right) / 2, bottom, steps=4)
    page.mouse.move(right - 0.5, bottom, steps=4)
    page.mouse.up()
    page.wait_for_timeout(300)
