"""What every annotation tool must do for the loop, whatever it is: one scenario a function, run by the tests of each adapter.

    @pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.__name__)
    def test_it_conforms(scenario, tool, person):
        scenario(tool, person)

`person` answers in the tool as people do there. Its annotators are "ana" and "ben".
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict
from typing import Any, Protocol

import orjson

from tasks.kinds import KINDS, Ask, checked
from tasks.live.handoff.tool import Delivery, Handout, Tool
from tasks.records import Approved

BATCH = "bt_5c0ffee"
QUESTION = "When does Zoë 😀👍🏽 get the 30 €?\r\n=HYPERLINK(\"http://x\") <script>alert(1)</script>"
RESPONSE = "Refunds take 30 days 😀,\r\nor 30 days\u2028more; \"sure\" <- [1] e\u0301."
CONTEXT = "Refunds are possible for 14 days 👍🏽.\nAfter 14 days, no."
TEXT = "  'tis =1+1 😀👍🏽 e\u0301\r\n\"a\",;\t<img src=x onerror=alert(1)> \u202e‮ "
CATALOGUE = (
    Approved("refund", "answer", "billing", "Refund", "Refunds take five days.", "help/refund"),
    Approved("=invoice", "answer", "billing", "Invoice", "+49 is our number", "help/invoice"),
)
APPROVED = frozenset(a.id for a in CATALOGUE)


class Person(Protocol):
    """Somebody at the tool. `kinds` are those that the tool can show; `withdraws` and `skips` whether it has such a thing."""

    kinds: Collection[str]
    withdraws: bool
    skips: bool

    def answer(self, ask: Ask, annotator: str, value: dict[str, Any]) -> None:
        """Answer the ask, or change the answer that was given before."""

    def skip(self, ask: Ask, annotator: str) -> None: ...

    def withdraw(self, ask: Ask, annotator: str) -> None: ...


def _span(text: str, part: str, label: str, nth: int = 0) -> dict[str, Any]:
    start = -1
    for _ in range(nth + 1):
        start = text.index(part, start + 1)
    return {"start": start, "end": start + len(part), "text": part, "label": label}


def _evidence(part: str, nth: int) -> dict[str, Any]:
    span = _span(CONTEXT, part, "", nth)
    return {"context": 0, "start": span["start"], "end": span["end"], "text": part}


VALUES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "answer": ({"verdict": "wrong", "correction": "=invoice"}, {"verdict": "right"}),
    "correction": ({"text": TEXT, "errors": ["tone", "factual"]}, {"text": "=" + TEXT}),
    "ranking": (
        {"ranks": [["an_b"], ["an_a", "an_c"]], "unacceptable": ["an_c", "an_a"]},
        {"ranks": [["an_a"], ["an_c"], ["an_b"]], "unacceptable": []},
    ),
    "spans": (
        {
            "spans": [
                _span(RESPONSE, "30 days", "contradicted", 1) | {"evidence": _evidence("14 days", 1)},
                _span(RESPONSE, "😀,\r\nor", "unsupported"),
                _span(RESPONSE, '"sure" <- [1] e\u0301', "unverifiable"),
            ]
        },
        {"spans": []},
    ),
    "grounded": ({"grounded": "not_grounded"}, {"grounded": "grounded"}),
    "safety": ({"policies": ["privacy", "hate"]}, {"policies": []}),
    "action": ({"action": "escalate", "route": "billing"}, {"action": "refuse"}),
    "relevance": ({"grades": {"0": 3, "1": 0}}, {"grades": {"0": 1, "1": 2}}),
    "rubric": ({f.name: n % 5 + 1 for n, f in enumerate(KINDS["rubric"].fields)}, {f.name: 5 for f in KINDS["rubric"].fields}),
    "intent": ({"intent": "complaint"}, {"intent": "other"}),
    "sentiment": ({"sentiment": "negative"}, {"sentiment": "positive"}),
    "topics": ({"topics": ["delivery", "billing"]}, {"topics": ["other"]}),
    "entities": ({"entities": [_span(QUESTION, "Zoë", "person"), _span(QUESTION, "30 €", "amount")]}, {"entities": []}),
    "note": ({"note": TEXT}, {"note": "@" + TEXT}),
}  # fmt: skip


def ask(kind: str, candidate: str = "", **changes: Any) -> Ask:
    made = Ask(
        ask_id=f"as_{kind}{candidate}", batch_id=BATCH, candidate_id=candidate or f"cd_{kind}", kind=kind, content_hash="ch_1",
        question=QUESTION, history=[{"role": "user", "content": "-1 <b>hello</b>"}, {"role": "assistant", "content": "@you"}],
        contexts=[{"id": "doc-1", "text": CONTEXT}, {"id": "doc-2", "text": "+nothing"}], response=RESPONSE,
        answers=[{"id": f"an_{n}", "text": f"={n}\r\n{RESPONSE}"} for n in "abc"] if kind == "ranking" else [],
        wanted=2, answered_by=[], role="annotator", round=1, guideline=f"{kind}/1", due="",
    )  # fmt: skip
    return Ask(**(asdict(made) | changes))


def handout(kinds: Iterable[str], **changes: Any) -> Handout:
    asks = [ask(kind, **changes) for kind in kinds]
    guidelines = {a.guideline: f"# {a.kind}\nLook closely 😀." for a in asks}
    return Handout(BATCH, asks[0].round, asks, {k: KINDS[k] for k in kinds}, guidelines, CATALOGUE)


def taken(tool: Tool, accept: bool = True) -> list[dict[str, Any]]:
    """Everything that comes, as rows; no delivery may have a flaw."""
    deliveries: list[Delivery] = []
    for delivery in tool.receive():
        deliveries.append(delivery)
        assert not delivery.flaws, delivery.flaws
        if accept:
            delivery.accepted()
    return [orjson.loads(line) for d in deliveries for line in d.data.splitlines() if line.strip()]


def _only(rows: list[dict[str, Any]]) -> dict[str, Any]:
    (row,) = rows
    return row


def _kind(person: Person) -> str:
    return next(k for k in ("sentiment", "grounded", "intent", "answer") if k in person.kinds)


def sending_twice_shows_every_ask_once(tool: Tool, person: Person) -> None:
    out = handout(person.kinds)
    where = tool.send(out)
    before = tool.status()
    assert before.open == len(out.asks) and before.answered == 0
    assert tool.send(out) == where
    assert tool.status() == before
    assert taken(tool) == [], "nobody has answered yet"


def what_is_not_accepted_comes_again_and_then_no_more(tool: Tool, person: Person) -> None:
    kind = _kind(person)
    out = handout([kind])
    tool.send(out)
    person.answer(out.asks[0], "ana", VALUES[kind][0])
    first = taken(tool, accept=False)
    assert len(first) == 1
    assert taken(tool, accept=False) == first
    assert taken(tool) == first
    assert taken(tool) == []
    tool.send(out)
    assert taken(tool) == [], "sending again brings nothing back"


def every_kind_comes_back_as_it_was_given(tool: Tool, person: Person) -> None:
    out = handout(person.kinds)
    tool.send(out)
    for number in (0, 1):
        for a in out.asks:
            person.answer(a, "ana", VALUES[a.kind][number])
        rows = {r["candidate_id"]: r for r in taken(tool)}
        assert set(rows) == {a.candidate_id for a in out.asks}
        for a in out.asks:
            row, kind = rows[a.candidate_id], KINDS[a.kind]
            want = checked(kind, VALUES[a.kind][number], a, APPROVED)
            assert checked(kind, row["value"], a, APPROVED) == want, a.kind
            assert (row["batch_id"], row["kind"], row["content_hash"]) == (BATCH, a.kind, a.content_hash)
            assert row["annotator"] == "ana" and row.get("status", "submitted") == "submitted"
            if a.kind == "ranking":
                assert sorted(row["shown"]) == ["an_a", "an_b", "an_c"]


def an_edit_is_the_same_answer_later(tool: Tool, person: Person) -> None:
    kind = _kind(person)
    out = handout([kind])
    tool.send(out)
    times = []
    for number in (0, 1, 0):  # there and back again
        person.answer(out.asks[0], "ana", VALUES[kind][number])
        row = _only(taken(tool))
        assert row["value"] == VALUES[kind][number] and row["annotator"] == "ana"
        times.append(row["time"])
    assert times == sorted(times) and len(set(times)) == 3


def people_answer_independently(tool: Tool, person: Person) -> None:
    kind = _kind(person)
    out = handout([kind])
    tool.send(out)
    person.answer(out.asks[0], "ana", VALUES[kind][0])
    assert tool.status().open == 1, "two people are wanted"
    person.answer(out.asks[0], "ben", VALUES[kind][1])
    assert {r["annotator"]: r["value"] for r in taken(tool)} == {"ana": VALUES[kind][0], "ben": VALUES[kind][1]}
    assert (tool.status().open, tool.status().answered) == (0, 1)


def an_answer_can_be_taken_back(tool: Tool, person: Person) -> None:
    if not person.withdraws:
        return
    kind = _kind(person)
    out = handout([kind])
    tool.send(out)
    person.answer(out.asks[0], "ana", VALUES[kind][0])
    given = _only(taken(tool))
    person.withdraw(out.asks[0], "ana")
    row = _only(taken(tool))
    assert row["status"] == "withdrawn" and row["time"] > given["time"]
    assert [row[k] for k in ("candidate_id", "kind", "annotator")] == [given[k] for k in ("candidate_id", "kind", "annotator")]
    assert taken(tool) == []


def a_skip_is_told(tool: Tool, person: Person) -> None:
    if not person.skips:
        return
    kind = _kind(person)
    out = handout([kind])
    tool.send(out)
    person.skip(out.asks[0], "ana")
    row = _only(taken(tool))
    assert (row["status"], row["annotator"], row["kind"]) == ("skipped", "ana", kind)
    assert taken(tool) == []


def a_cancelled_ask_is_not_open_but_still_delivered(tool: Tool, person: Person) -> None:
    kinds = list(person.kinds)[:2]
    out = handout(kinds)
    tool.send(out)
    for _ in range(2):
        tool.cancel([out.asks[0].ask_id])
        assert tool.status().open == 1
    tool.send(out)
    assert tool.status().open == 1, "sending again does not ask again"
    person.answer(out.asks[0], "ana", VALUES[kinds[0]][0])
    assert _only(taken(tool))["candidate_id"] == out.asks[0].candidate_id
    tool.cancel(["as_nobody"])


def a_later_round_asks_again(tool: Tool, person: Person) -> None:
    kind = _kind(person)
    tool.send(handout([kind], wanted=1))
    first = handout([kind], wanted=1).asks[0]
    person.answer(first, "ana", VALUES[kind][0])
    assert _only(taken(tool))["annotator"] == "ana"
    assert tool.status().open == 0
    again = handout([kind], ask_id="as_again", round=2, wanted=1, answered_by=["ana"])
    tool.send(again)
    tool.send(again)
    assert tool.status().open == 1
    person.answer(again.asks[0], "ben", VALUES[kind][1])
    assert _only(taken(tool))["annotator"] == "ben"
    assert tool.status().open == 0


SCENARIOS: tuple[Callable[[Tool, Person], None], ...] = (
    sending_twice_shows_every_ask_once,
    what_is_not_accepted_comes_again_and_then_no_more,
    every_kind_comes_back_as_it_was_given,
    an_edit_is_the_same_answer_later,
    people_answer_independently,
    an_answer_can_be_taken_back,
    a_skip_is_told,
    a_cancelled_ask_is_not_open_but_still_delivered,
    a_later_round_asks_again,
)
