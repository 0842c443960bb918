"""The turn report: its page shows all of its document, nothing runs or is fetched, and what is unknown is said to be so."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import pytest

from tasks.dossier.figures import SHARES_HIGH, SHARES_WIDE, shares
from tasks.live.erasure.blank import blanked
from tasks.live.erasure.needles import Needles, pieces
from tasks.report import (
    Clause,
    Data,
    Detector,
    Event,
    Failure,
    Kind,
    Left,
    People,
    Person,
    Rate,
    Spent,
    Table,
    Turn,
    document,
    shortened,
)
from tasks.report.index import index, line
from tasks.report.page import page
from tasks.report.steps import steps
from tests.browser import chromium
from tests.test_dossier import NEW, OLD, Words
from tests.test_validate_page import HOSTILE

NAN = math.nan
SAID = "when do I see the money for my bicycle again, which I gave back last Tuesday?"
HURT = {
    "by": "annotator",
    "group": "gus",
    "rows": 93,
    "effect": -0.03,
    "low": -0.05,
    "high": -0.01,
    "excess": -3.4,
    "verdict": "hurt",
}
LOST = Failure("fc_lost", "parcel · lost", "regressed", True, 41, 1427, 0.0287, 0.0287, "ix_2", "where is it?", 16, 3)
LATE = Failure("fc_late", "refund · late", "steady", False, 35, 1427, 0.0245, 0.0109, "ix_1", SAID, 15, 4)
SPENT = Spent(1762, 725, 468, 714.6, 632.4, 1.35)
BEFORE = Spent(893, 365, 262, 366.5, 324.9, 1.24)
PEOPLE = People(
    SPENT,
    BEFORE,
    [Kind("answer", 600, 1489, 571, 17, 632.4, {"verdict": "alpha nominal 0.43 (0.36 to 0.49)"})],
    [Person("gus", "careless", "skill 0.21 (0.15 to 0.27)", 210)],
    [Clause("answer/1", "escalate", 31, 12, 0.23, 0.56)],
    23,
    1,
    0.01,
    0.21,
)
DATA = Data(
    "1,247 rows added, 10 removed, 47 changed",
    "",
    [Table("sft", "train", 204, 397, 195, 2, 3)],
    [Left("build", "near_duplicate", 14, 9)],
    ["answer: 3 say something else now: right → wrong (3)"],
    [("judge.alpha", "0.05", "0.01")],
    ["warning: sft: skewed"],
    ["somebody votes a lot"],
)
WHOLE = Turn(
    tag="snapshot-3f9c2a1b",
    number=4,
    before="snapshot-0000aaaa",
    made="2026-01-05T12:00:00Z",
    commit="9b1d5e",
    digest="3f9c2a1b77",
    verdict=NEW,
    rates=[
        Rate("bt_1", "2026-01-11", 0.77, 0.67, 0.85, 150),
        Rate("bt_2", "2026-01-18", 0.52, 0.41, 0.63, 149, "2"),
        Rate("bt_3", "2026-01-25", NAN, NAN, NAN, 0),
    ],
    trend="it fell (p = 0.00072)",
    failures=[LOST, LATE],
    people=PEOPLE,
    data=DATA,
    attribution={"method": "exact", "rows": [HURT]},
    detectors=[Detector("low_relevance", "worthless", 0.92, 0.72, 1.12)],
    missing=[("KTO", "31 more answers that people called good")],
    events=[Event("2026-01-04T09:00:00Z", "rolled back", "2", "snapshot-0000aaaa", "kim", "wrong language")],
    gone=["its training rows: erased"],
    dossier="../dossiers/snapshot-3f9c2a1b.html",
)
# What the document has for machines alone: ids behind a name, and numbers of the gate that the dossier explains.
NOT_SHOWN = re.compile(
    r"report|rates\.\d\.batch|failures\.\d\.(id|example_id|fresh)|people\.(total|before)\.answer_cost|people\.before\.cost_per_error"
    r"|verdict\.(champion|challenger|holdout|tested|guards\.[^.]*\.(key|needed))|verdict\.slices\..*\.(tested|adjusted|worse)|dossier"
    r"|attribution\.method|data\.unknown|detectors.*|missing.*|rates\.2\.(n|low|high)|people\.(total|before)\.(answers|cost|errors|labels)"
)


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any, Any, Any]]:
    """(dotted path, what holds it, its key, the value) of everything that is no list or mapping."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        where = f"{path}.{key}" if path else str(key)
        if isinstance(inner, (dict, list)):
            yield from leaves(inner, where)
        else:
            yield where, value, key, inner


def other(value: Any) -> Any:
    if isinstance(value, (bool, type(None))):
        return not value
    return "another " + value if isinstance(value, str) else value + 7 if isinstance(value, int) else value / 2 + 0.001


def evil(value: Any, hostile: str) -> Any:
    """The same with every text in it replaced, keys of the gate's tables too."""
    if isinstance(value, dict):
        own = value.get("state") if "compared" in value else None  # the gate's, from a list of its own
        return {(hostile if " " in k else k): v if v is own else evil(v, hostile) for k, v in value.items()}
    if isinstance(value, list):
        return [evil(v, hostile) for v in value]
    return hostile if isinstance(value, str) else value


def overview(turn: dict[str, Any]) -> dict[str, Any]:
    return {
        "workspace": "support",
        "newest": turn["tag"],
        "since": turn["made"],
        "now": [{"name": "answers that came since", "value": 12}],
        "waits": turn["next"][:1],
        "next": turn["next"][1:],
        "events": turn["events"],
        "rates": turn["rates"],
        "turns": [line(turn, "snapshot-3f9c2a1b.html", turn["dossier"])],
    }


def test_whatever_the_document_says_is_on_the_page() -> None:
    """One value after the other is changed, and the page with it: so the JSON says no more than a reader sees, and no less."""
    whole = document(WHOLE)
    shown, silent = page(whole), []
    for where, holder, key, value in list(leaves(whole)):
        holder[key] = other(value)
        if page(whole) == shown:
            silent.append(where)
        holder[key] = value
    assert [s for s in silent if not NOT_SHOWN.fullmatch(s)] == []


@pytest.mark.parametrize(
    "said",
    [
        "Turn 4",
        "snapshot-3f9c2a1b",
        "Right answers: better, fixed 41, broken 12.",
        "52.0%",
        "41.0% to 63.0%",
        "206",
        "360",
        "348.10",
        "1.35",
        "regressed",
        "refund · late",
        SAID,
        "35 of 1,427",
        "+1.1 points",
        "4 of 15",
        "1 of 23",
        "alpha nominal 0.43",
        "careless",
        "escalate",
        "near duplicate",
        "somebody votes a lot",
        "judge.alpha",
        "+0.083 to +0.239",
        "beyond chance",
        "rolled back",
        "wrong language",
        "its training rows: erased",
        "1.49",
    ],
)
def test_a_reader_finds_it(said: str) -> None:
    """206 errors more than before, 360 labels, a cost of 348.10; 307.5 for the answers by which those errors were found."""
    assert said in re.sub(r"\s+", " ", Words(page(document(WHOLE))).text)


@pytest.mark.parametrize("made", [page(document(WHOLE)), index(overview(document(WHOLE)))], ids=["turn", "index"])
def test_nothing_is_fetched_and_links_lead_to_pages_beside_it(made: str) -> None:
    seen = Words(made)
    assert all(re.fullmatch(r"(\.\./dossiers/)?[\w-]+\.html", link) for link in seen.fetched)
    assert not seen.tags & {"script", "link", "img", "iframe", "object", "base", "form"}
    assert not re.search(r"(?:https?:)?//|url\(|@import", made.split("</style>")[1])


@pytest.mark.parametrize("hostile", HOSTILE)
def test_whatever_stands_in_a_value_is_text(hostile: str) -> None:
    """Of a user, an annotator, a cluster, a reason, a tag: all at once."""
    turn = document(WHOLE)
    bad = evil(copy.deepcopy(turn), hostile)
    for shown, plain in (
        (page(bad), page(turn)),
        (index(overview(bad) | {"workspace": hostile}), index(overview(turn))),
    ):
        seen = Words(shown)
        assert seen.tags <= Words(plain).tags
        assert not [f for f in seen.fetched if ":" in f or f.startswith(("//", "on"))]
        assert "".join(c if c >= " " else "\ufffd" for c in hostile) in seen.text


def test_what_is_not_known_is_null_in_the_document_and_unknown_on_the_page() -> None:
    unknown = replace(
        WHOLE,
        verdict={},
        rates=[Rate("bt_1", "2026-01-11", NAN, NAN, NAN, 0)],
        people=None,
        attribution={},
        trend="",
        failures=[replace(LATE, share=NAN, trend=NAN)],
        data=replace(DATA, tables=[Table("sft", "train", None, 9, None, None, None)]),
    )
    found = document(unknown)
    assert found["rates"][0]["value"] is None and found["people"] is None
    seen = re.sub(r"\s+", " ", Words(page(found)).text)
    assert not re.search(r"\bnan\b|\b0\.0%|\binf\b", seen)
    assert "unknown error rate" in seen and "unknown errors found" in seen and "unknown → unknown" in seen
    assert "This snapshot has no verdict" in seen and "sft (train) unknown → 9" in seen
    assert line(found, "x.html")["errors_new"] is None


def test_the_first_turn_counts_from_nothing_and_an_unknown_start_gives_no_gain() -> None:
    first = replace(WHOLE, people=replace(PEOPLE, before=Spent(0, 0, 0, 0.0, 0.0, NAN)), before="")
    assert line(document(first), "x.html")["errors_new"] == SPENT.errors
    lost = replace(WHOLE, people=replace(PEOPLE, before=None))
    assert line(document(lost), "x.html")["errors_new"] is None


def test_what_got_worse_comes_first_and_every_command_exists() -> None:
    from flows import cli

    verbs = {c.callback.__name__ for c in cli.app.registered_commands} | {g.name for g in cli.app.registered_groups}
    for verdict in (NEW, OLD, OLD | {"decision": "refuse"}):
        found = steps(replace(WHOLE, verdict=verdict))
        assert LOST.name in found[0].what and found[0].command == f"flywheel label --trail {LOST.example_id}"
        named = re.findall(r"flywheel (\w+)", " ".join(s.command for s in found))
        assert set(named) <= verbs and len(named) >= len(found) - 1
    told = " ".join(f"{s.what} {s.why} {s.command}" for s in steps(WHOLE))
    for said in (
        "refund · late",
        "gus",
        "escalate",
        "answer-2.md",
        "low_relevance",
        "31 more answers",
        "annotator gus",
        "skewed",
    ):
        assert said in told
    assert (
        steps(replace(WHOLE, verdict={}, failures=[], people=None, data=None, attribution={}, detectors=[], missing=[]))
        == []
    )


def test_the_clusters_about_which_least_is_known_are_asked_about() -> None:
    answered = replace(LATE, id="fc_a", name="answered", share=0.05, answered=15)
    fixed = replace(LATE, id="fc_f", name="fixed", state="fixed", share=0.9)
    found = [s.what for s in steps(replace(WHOLE, failures=[answered, fixed, LATE]))]
    asked = [w for w in found if w.startswith("Ask about")]
    assert asked == ["Ask about “refund · late”", "Ask about “answered”"]


def test_an_erasure_takes_their_words_and_leaves_the_page() -> None:
    made = page(document(WHOLE))
    left = blanked(made, Needles(texts=pieces(SAID), whole=[SAID]))
    assert "bicycle" in made and "bicycle" not in left and "[erased]" in left
    assert len(left.splitlines()) == len(made.splitlines()) and "refund · late" in left
    assert Words(left).tags == Words(made).tags


def test_a_long_text_is_cut_and_still_found_by_an_erasure() -> None:
    long = "my bike\tis  gone, " * 500
    assert len(shortened(long)) == 240
    assert Needles(texts=pieces(long)).any(shortened(long).encode())


def test_shares_are_drawn_within_the_picture_and_the_unknown_is_a_gap() -> None:
    for high in (0.004, 0.31, 1.0):
        parent = Element("div")
        shares(
            parent,
            [("a", high / 2, 0.0, high), ("b", None, None, None), ("c", high / 3, None, None)] * 20,
            {1: "2"},
            "x",
        )
        (svg,) = parent
        circles = svg.findall("circle")
        assert len(circles) == 40
        spots = [(float(c.get("cx")), float(c.get("cy"))) for c in circles]
        spots += [(float(x.get(f"x{n}")), float(x.get(f"y{n}"))) for x in svg.findall("line") for n in (1, 2)]
        assert all(0 <= x <= SHARES_WIDE and 0 <= y <= SHARES_HIGH for x, y in spots)
        assert len([t for t in svg.findall("text") if t.text in "abc"]) <= 6
    nothing = Element("div")
    shares(nothing, [("a", None, None, None)], {}, "x")
    assert list(nothing) == []


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser_nothing_runs_nothing_is_fetched_and_nothing_sticks_out(tmp_path: Path, width: int) -> None:
    from playwright.sync_api import sync_playwright

    long = replace(LATE, name="x" * 300, example="y" * 240)
    turns = [document(replace(WHOLE, failures=[LOST, long, *([LATE] * 9)]))]
    turns += [evil(document(WHOLE), text) for text in (" ".join(HOSTILE), "x" * 200)]
    pages = {f"{n}.html": page(t) for n, t in enumerate(turns)} | {
        f"i{n}.html": index(overview(t)) for n, t in enumerate(turns)
    }
    wrong: list[str] = []
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": width, "height": 900})
        view.on("request", lambda r: r.url.startswith("file:") or wrong.append(r.url))
        view.on("pageerror", lambda e: wrong.append(str(e)))
        view.on("console", lambda m: m.type in ("error", "warning") and wrong.append(m.text))
        view.on("dialog", lambda d: (wrong.append(d.message), d.dismiss()))
        for name, made in pages.items():
            path = tmp_path / name
            path.write_text(made, encoding="utf-8")
            view.goto(path.as_uri())
            wide = view.evaluate("document.documentElement.scrollWidth")
            cut = view.evaluate(
                "[...document.querySelectorAll('.wide')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
            )
            if (wide, cut) != (width, 0):
                wrong.append(f"{name}: {wide} wide, {cut} tables cut")
        drawn = view.evaluate("document.querySelector('svg.shares').getBoundingClientRect().height > 100")
        browser.close()
    assert wrong == [] and drawn
