"""The dossier: every number that decided is on it, nothing comes from anywhere else, and no text of a user is on it unasked."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import orjson
import pytest

from tasks.dossier import Case, Event, Evidence, Pinned, Reviewer, Version
from tasks.dossier.gate import compared
from tasks.dossier.page import page
from tasks.errors import Refused
from tests.browser import chromium
from tests.conftest import Played, flywheel, git
from tests.test_validate_page import HOSTILE

BETTER = {
    "n": 180,
    "groups": 134,
    "fixed": 41,
    "broken": 12,
    "difference": 0.161,
    "low": 0.083,
    "high": 0.239,
    "p_value": 0.00012,
}
SAME = {
    "n": 22,
    "groups": 18,
    "fixed": 1,
    "broken": 2,
    "difference": -0.045,
    "low": -0.21,
    "high": 0.12,
    "p_value": 0.75,
}
NEW = {
    "decision": "promote",
    "reasons": ["right answers: better, fixed 41, broken 12"],
    "notes": ["free of leaks: nothing to look at"],
    "champion": "c0ffee01",
    "challenger": "c0ffee02",
    "holdout": "c0ffee03",
    "champion_right": 0.45,
    "challenger_right": 0.611,
    "look": 3,
    "level": 0.0213,
    "tested": True,
    "primary": BETTER,
    "guards": {
        "right where refuse is due": {"key": "refuse", "margin": 0.05, "state": "shown", "needed": 90, "compared": SAME}
    },
    "slices": {"topic billing": {"compared": SAME, "tested": True, "adjusted": 1.0, "worse": False}},
}
# As the first version of the gate wrote them.
OLD = {
    "decision": "inconclusive",
    "reasons": ["right answers: no evidence of a difference"],
    "champion": "c0ffee01",
    "challenger": "c0ffee02",
    "holdout": "c0ffee03",
    "champion_right": 0.45,
    "challenger_right": 0.494,
    "primary": SAME,
    "guards": {"free of refusal": SAME},
}
NOTHING = {
    "decision": "refuse",
    "reasons": ["the data did not pass validation"],
    "notes": [],
    "look": 1,
    "tested": False,
    "champion": "a",
    "challenger": "b",
    "holdout": "c",
    "champion_right": 0.4,
    "challenger_right": 0.5,
}
SIDE = {"right": 0.45, "brier": 0.154, "right_by_kind": {"answer": [66, 149]}, "signals": {"refusal": 38}}
REPORTS = {
    "verdict": NEW,
    "evaluation": {
        "champion": SIDE,
        "challenger": SIDE | {"right": 0.611, "ece": 0.0712},
        "rows_digest": "c0ffee04",
        "parts": {
            "holdout": {
                "n": 180,
                "champion": {"right": 81, "scores": {"grounding": [0.8123, 176]}},
                "challenger": {"right": 110, "scores": {}},
            },
            "regression": {"n": 17, "champion": {"right": 11, "scores": {}}, "challenger": {"right": 16, "scores": {}}},
        },
        "slices": [{"by": "topic", "value": "billing", "n": 61, "champion": 29, "challenger": 37}],
    },
    "training": {"policy": "answers", "sft": 397, "digest": "c0ffee02", "temperature": 1.1708},
    "build": {
        "rows": {"train": {"sft": 397}, "holdout": {"evaluation": 180}},
        "dropped": {"near_duplicate": 14},
        "origins": {"train/sft": {"correction": 332, "confirmed": 65}},
        "authors": {},
        "alerts": ["somebody votes a lot"],
    },
    "dataset": {
        "parts": [{"table": "sft", "side": "train", "rows": 397, "counts": {"topic": {"billing": 201, "bike": 196}}}]
    },
    "curate": {"alpha": 0.6553},
    "validation": {
        "success": True,
        "checked": 212,
        "findings": [{"passed": False, "severity": "warning", "table": "sft", "why": "skewed"}],
    },
    "attribution": {
        "method": "exact",
        "rows": [
            {"by": "annotator", "group": "an_1", "rows": 93, "effect": -0.0312, "low": -0.051, "high": -0.007, "excess": -3.4,
             "verdict": "hurt"}
        ],
    },
}
WHOLE = Evidence(
    tag="snapshot-3f9c2a1b",
    digest="3f9c2a1b77",
    commit="9b1d5e",
    made="2026-01-05T12:00Z",
    reports=REPORTS,
    params={
        "about": {"name": "Support", "description": "", "source": "a shop"},
        "train": {"policy": "answers"},
        "judge": {"alpha": 0.05},
    },
    curves=[(1, "loss", 2.5), (2, "loss", 1.25)],
    pinned=[Pinned("train", "data/model", "5d41402abc")],
    cases=[
        Case(
            example_id="ex_fixed",
            part="holdout",
            kind="answer",
            topic="billing",
            language="en",
            fixed=True,
            question="when do I see it?",
            right="In five days.",
            champion="invoice",
            challenger="refund",
        ),
        Case(example_id="ex_broken", part="holdout", kind="refuse", topic="", language="", fixed=False),
    ],
    reviewers=[Reviewer("an_5c0e", True, 267, 225, 223)],
    events=[Event("2026-01-06T09:00Z", "promoted", "grace", "looks right")],
    history=[
        Version("snapshot-3f9c2a1b", "2026-01-05T12:00Z", "promote", 397, 0.45, 0.611),
        Version("snapshot-0000aaaa", "", "", None, None, None),
    ],
    with_texts=True,
)


def of(**reports: Any) -> Evidence:
    return replace(WHOLE, reports=REPORTS | reports)


class Words(HTMLParser):
    """What a reader sees, and everything that would be fetched."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.fetched: list[str] = []
        self.tags: set[str] = set()
        self._silent = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._silent = tag == "style"
        self.fetched += [
            str(v)
            for k, v in attrs
            if k in ("src", "href", "data", "action", "xlink:href", "srcset") and not str(v).startswith("#")
        ]
        self.fetched += [k for k, _ in attrs if k.startswith("on")]

    def handle_endtag(self, tag: str) -> None:
        self._silent = False

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


@pytest.mark.parametrize(
    "said",
    [
        "Promote",
        "snapshot-3f9c2a1b",
        "Right answers: better, fixed 41, broken 12.",
        "Free of leaks: nothing to look at.",
        "45.0%",
        "61.1%",
        "41, 12",
        "180, 134",
        "0.00012",
        "look number 3",
        "0.021",
        "180 (134)",
        "+0.161",
        "+0.083 to +0.239",
        "right where refuse is due",
        "-0.045",
        "-0.210 to +0.120",
        "0.75",
        "5 points",
        "shown",
        "slice topic billing",
        "66 of 149 (44.3%)",
        "0.154",
        "0.0712",
        "0.812 of 176",
        "38",
        "topic: billing",
        "29 of 61 (47.5%)",
        "16 of 17 (94.1%)",
        "when do I see it?",
        "In five days.",
        "-0.031",
        "-0.051 to -0.007",
        "93",
        "Support",
        "a shop",
        "397",
        "near_duplicate",
        "14",
        "correction 332, confirmed 65",
        "somebody votes a lot",
        "212 expectations, 1 not met",
        "warning: sft: skewed",
        "billing 201, bike 196",
        "1.1708",
        "loss: 2.5 to 1.25",
        "judge.alpha: 0.05",
        "0.655",
        "an_5c0e",
        "223 of 225",
        "99.1%",
        "grace",
        "looks right",
        "3f9c2a1b77",
        "9b1d5e",
        "c0ffee01",
        "c0ffee02",
        "c0ffee03",
        "c0ffee04",
        "5d41402abc",
        "data/model",
        "snapshot-0000aaaa",
    ],
)
def test_what_decided_is_on_the_page(said: str) -> None:
    assert said in Words(page(WHOLE)).text


def test_nothing_is_fetched_and_nothing_runs() -> None:
    html = page(WHOLE)
    seen = Words(html)
    assert seen.fetched == [] and not seen.tags & {"script", "link", "img", "iframe", "object", "base", "form"}
    assert not re.search(r"(?:https?:)?//|url\(|@import", html.split("</style>")[1].replace("<!doctype", ""))
    assert "default-src 'none'" in unescape(html)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_whatever_stands_in_a_value_is_text(hostile: str) -> None:
    """Of a user, a model, a reviewer, a parameter: each place at once."""
    case = replace(
        WHOLE.cases[0],
        question=hostile,
        right=hostile,
        champion=hostile,
        challenger=hostile,
        topic=hostile,
        example_id=hostile,
    )
    evil = replace(
        of(
            verdict=NEW | {"reasons": [hostile], "notes": [hostile], "guards": {hostile: SAME}},
            training={"policy": hostile, "note": hostile},
            attribution={"method": hostile, "rows": [
                {"by": hostile, "group": hostile, "rows": 1, "effect": None, "low": None, "high": None, "excess": 1.0,
                 "verdict": hostile}
            ]},
            build={"rows": {hostile: {hostile: 1}}, "alerts": [hostile], "dropped": {hostile: 1}},
        ),
        cases=[case],
        events=[Event(hostile, hostile, hostile, hostile)],
        reviewers=[Reviewer(hostile, False, 1, 1, 1)],
        params={"about": {"name": hostile}, "train": {hostile: hostile}},
        pinned=[Pinned(hostile, hostile, hostile)],
        curves=[(1, hostile, 1.0), (2, hostile, 2.0)],
        tag=hostile,
    )
    plain = Words(page(of(verdict=NEW)))
    seen = Words(page(evil))
    assert seen.tags <= plain.tags and seen.fetched == []
    assert "".join(c if c >= " " else "\ufffd" for c in hostile) in seen.text


@pytest.mark.parametrize(
    ("verdict", "said"),
    [(NEW, "Promote"), (OLD, "Inconclusive"), (NOTHING, "Refuse"), (OLD | {"decision": "refuse"}, "Refuse")],
)
def test_each_verdict_of_each_version_has_its_page(verdict: dict, said: str) -> None:
    assert said in Words(page(of(verdict=verdict))).words


def test_where_nothing_was_compared_the_page_says_so() -> None:
    seen = Words(page(of(verdict=NOTHING))).text
    assert "Nothing was compared" in seen and "The data did not pass validation." in seen and "not compared" in seen


def test_a_snapshot_of_an_older_version_has_the_sections_that_it_can_fill() -> None:
    bare = Evidence(tag="snapshot-0", digest="d", commit="c", made="", reports={"verdict": OLD})
    seen = Words(page(bare)).text
    assert "The gate" in seen and "Hashes" in seen
    assert (
        "Which data helped" not in seen
        and "Fixed and broken" not in seen
        and "There is no report of a validation" not in seen
    )
    assert "Nobody is on record" not in seen


def test_without_a_verdict_there_is_no_page() -> None:
    with pytest.raises(KeyError):
        page(replace(WHOLE, reports={}))


def test_texts_are_withheld_where_they_are_not_wanted() -> None:
    bare = [replace(c, question="", right="", champion="", challenger="") for c in WHOLE.cases]
    seen = Words(page(replace(WHOLE, cases=bare, with_texts=False))).text
    assert "ex_fixed" in seen and "ex_broken" in seen and "--with-examples shows them" in seen


def test_harm_is_marked_and_unknown_numbers_are_said_to_be_so() -> None:
    worse = SAME | {"fixed": 2, "broken": 31, "difference": -0.3, "high": -0.1, "p_value": 1e-6}
    html = page(
        of(
            verdict=NEW
            | {"guards": {"free of leaks": {"margin": 0.0, "state": "worse", "compared": worse}, "odd": {"n": 3}}}
        )
    )
    assert 'class="guard harm"' in html and html.count('class="decides harm"') == 0
    assert "unknown" in Words(html).text
    odd = next(c for c in compared({"guards": {"odd": {"n": None, "p_value": "x", "low": True}}}))
    assert odd.n != odd.n and odd.low != odd.low  # NaN: neither a text nor a truth value is a number


def test_the_models_of_a_provider_are_said_to_be_no_weights_of_ours() -> None:
    assert "lie with a provider" in Words(page(of(training={"policy": "provider", "reproducible": False}))).text
    assert "lie with a provider" not in Words(page(WHOLE)).text


@pytest.mark.slow
@pytest.mark.parametrize("width", [1200, 380])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_read_at_any_width_in_light_and_dark(tmp_path: Path, width: int, scheme: Any) -> None:
    from playwright.sync_api import sync_playwright

    file = tmp_path / "dossier.html"
    file.write_text(page(WHOLE), encoding="utf-8")
    said: list[str] = []
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        shown = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        shown.on("console", lambda m: said.append(m.text))
        shown.on("request", lambda r: said.append(r.url) if not r.url.startswith("file:") else None)
        shown.goto(file.as_uri())
        wide = shown.evaluate("document.documentElement.scrollWidth")
        cut = shown.evaluate(
            "[...document.querySelectorAll('.wide')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
        )
        styled = shown.evaluate("getComputedStyle(document.querySelector('.decision')).borderLeftWidth")
        browser.close()
    assert (wide, cut, styled, said) == (width, 0, "10px", [])


@pytest.mark.slow
def test_the_dossier_of_a_real_snapshot(played: Played, a_copy: Path) -> None:
    """From git and DVC alone, of the newest and of an older one; nobody's words unless asked for, and noted for an erasure."""
    newest, oldest = (
        git(a_copy, "tag", "--sort=-creatordate").splitlines()[0],
        git(a_copy, "tag", "--sort=creatordate").splitlines()[0],
    )
    before = git(a_copy, "status", "--porcelain")
    told = flywheel("dossier", "--workspace", a_copy, "--json")
    assert told.code == 0, told.err
    path = Path(told.document()["dossier"])
    assert path == a_copy / ".flywheel" / "dossiers" / f"{newest}.html"
    verdict = orjson.loads((a_copy / "data/reports/verdict.json").read_bytes())
    plain = Words(path.read_text(encoding="utf-8")).text
    for reason in verdict["reasons"]:
        assert reason[1:] in plain
    assert verdict["challenger"] in plain and oldest in plain and "an_" in plain
    rows = [orjson.loads(x) for x in (a_copy / "data/evaluation/rows.jsonl").read_bytes().splitlines()]
    differ = [r for r in rows if r["champion_right"] != r["challenger_right"]]
    assert differ and all(r["example_id"] in plain for r in differ[:20])
    out = a_copy / "decision.html"
    assert flywheel("dossier", oldest, "--out", out, "--with-examples", "--workspace", a_copy).code == 0
    texts = Words(out.read_text(encoding="utf-8")).text
    assert "asked:" in texts and oldest in texts
    (asked,) = re.findall(r"asked:\s+(.{12,}?)\s+right:", texts)[:1]
    assert asked not in plain
    out.unlink()
    assert git(a_copy, "status", "--porcelain") == before, "nothing of it is for git"
    noted = [orjson.loads(x) for x in (a_copy / ".flywheel/exports.jsonl").read_bytes().splitlines()]
    assert [(n["format"], n["out"], n["snapshot"]) for n in noted][-2:] == [
        ("dossier", str(path), newest),
        ("dossier", str(out), oldest),
    ]
    assert flywheel("dossier", "snapshot-00000000", "--workspace", a_copy).code == 2


def test_a_workspace_without_a_snapshot_is_refused(tmp_path: Path) -> None:
    from tasks.live import dossier
    from tasks.live.workspace import Workspace

    git(tmp_path, "init", "--quiet")
    with pytest.raises(Refused, match="no snapshot yet"):
        dossier.html(Workspace(tmp_path))
