"""Feedback: each event finds the one interaction that it is about, sooner or later; the last word of a person counts."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import orjson
import pytest

from tasks.errors import Refused
from tasks.live.capture import capture
from tasks.live.feedback import resolved, unresolved
from tasks.live.lake import Lake
from tasks.live.workspace import Workspace
from tasks.metrics import FeedbackParams, Metric, metrics
from tests.handmade import asked, log, said, workspace

DAY = 86_400_000_000
THUMB = (Metric("thumb", 1, 0.5), Metric("stars", 1, 3.5), Metric("toxicity", -1, 0.5))


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return workspace(tmp_path / "work")


def taken(place: Workspace, name: str, *documents: dict[str, Any]) -> Workspace:
    log(place.inbox / f"{name}.jsonl", *documents)
    capture(place)
    return place


def found(place: Workspace, **given: Any) -> list[tuple[str, str | None, str, int | None]]:
    """(event, native id of its interaction, rung, polarity) of the feedback that counts."""
    lake = Lake(place.lake)
    ids = dict(lake.query("SELECT interaction_id, native_id FROM interactions").to_pandas().itertuples(index=False))
    rows = resolved(lake, THUMB, **given).to_pylist()
    return sorted((r["native_id"], ids.get(r["interaction_id"]), r["resolution"], r["polarity"]) for r in rows)


def at(minute: int) -> str:
    return f"2026-01-05T12:{minute:02}:00Z"


def talk(session: str = "s-1", **changes: Any) -> list[dict[str, Any]]:
    """Three generations: two of one trace, one of the next, all of one session."""
    return [
        asked(f"{session}/1", session_id=session, trace_id=f"{session}-t1", time=at(1), response_id=f"{session}-resp-1", **changes),
        asked(f"{session}/2", session_id=session, trace_id=f"{session}-t1", time=at(2), response_id=f"{session}-resp-2", **changes),
        asked(f"{session}/3", session_id=session, trace_id=f"{session}-t2", time=at(9), response_id=f"{session}-resp-3", **changes),
    ]


@pytest.mark.parametrize(
    ("target", "about", "rung"),
    [
        ({"id": "s-1/2"}, "s-1/2", "exact"),
        ({"response_id": "s-1-resp-1"}, "s-1/1", "response_id"),
        ({"trace_id": "s-1-t1"}, "s-1/2", "trace_last_generation"),
        ({"session_id": "s-1"}, "s-1/2", "session"),  # the last one before it was said
        ({"id": "s-1-t2"}, "s-1/3", "trace_last_generation"),
        ({"id": "nowhere"}, None, "unresolved"),
        ({"session_id": "s-1/2"}, None, "unresolved"),  # an id of something else is not a session
    ],
)
def test_each_event_is_about_one_interaction_by_the_most_exact_rung(place, target, about, rung):
    taken(place, "a", *talk(), said("f", "", target=target, time=at(5)))
    assert found(place) == [("f", about, rung, -1)]


def test_the_rows_do_not_depend_on_what_was_logged_first(place: Workspace, tmp_path: Path):
    documents = [*talk("s-1"), *talk("s-2"), *[said(f"f-{n}", "", target={"session_id": f"s-{n}"}, time=at(5)) for n in (1, 2)],
                 said("f-3", "s-2-resp-3", time=at(3))]  # fmt: skip
    expected = None
    for seed in range(4):
        random.Random(seed).shuffle(documents)
        other = workspace(tmp_path / f"w{seed}")
        for n, document in enumerate(documents[:4]):
            taken(other, f"early-{n}", document)
        taken(other, "rest", *documents[4:])
        expected = expected or found(other)
        assert found(other) == expected
    assert len(expected) == 3 and all(about for _, about, _, _ in expected)


def test_a_score_of_a_session_is_about_one_turn_and_never_fanned_out(place: Workspace):
    taken(place, "a", *talk(), said("f", "", target={"session_id": "s-1"}, time="2026-02-05T12:00:00Z"))
    assert [about for _, about, _, _ in found(place)] == ["s-1/3"]


def test_feedback_that_comes_a_month_before_or_after_its_interaction_resolves_when_both_are_there(place: Workspace):
    taken(place, "a", said("f", "s-1-resp-3", time="2025-12-05T12:00:00Z"))
    assert found(place) == [("f", None, "unresolved", -1)]
    now = 1_767_614_400_000_000
    assert unresolved(Lake(place.lake), now, 60 * DAY)["waiting"] == 1
    late = unresolved(Lake(place.lake), now, 10 * DAY)
    assert (late["waiting"], late["expired"], late["newest"][0]["target"]) == (0, 1, "s-1-resp-3")
    taken(place, "b", *talk())
    assert found(place) == [("f", "s-1/3", "response_id", -1)]
    assert unresolved(Lake(place.lake), now, 10 * DAY) == {"waiting": 0, "expired": 0, "newest": []}


def test_the_same_session_in_two_tenants_is_two_sessions(place: Workspace):
    one, two = talk(tenant="acme"), talk(tenant="bolt")
    taken(
        place, "a", *one, *two, said("f-acme", "", target={"session_id": "s-1"}, tenant="acme", time=at(10)),
        said("f-nobody", "", target={"session_id": "s-1"}, time=at(10)),
    )  # fmt: skip
    lake = Lake(place.lake)
    rows = {r["native_id"]: r for r in resolved(lake, THUMB).to_pylist()}
    tenant = lake.query("SELECT interaction_id, tenant FROM interactions").to_pylist()
    of = {r["interaction_id"]: r["tenant"] for r in tenant}
    assert of[rows["f-acme"]["interaction_id"]] == "acme"
    assert rows["f-nobody"]["resolution"] == "unresolved", "it does not say whose session, so it counts for neither"


def test_the_last_word_of_a_person_counts_and_null_takes_it_back(place: Workspace):
    events = [
        said("f-1", "s-1-resp-1", value=False, time=at(3)),
        said("f-2", "s-1-resp-1", value=True, time=at(4)),
        said("f-3", "s-1-resp-1", value=False, time=at(4), user_id="u-2"),  # another person
        said("f-4", "s-1-resp-2", value=False, time=at(3)),
        said("f-5", "s-1-resp-2", value=None, time=at(4)),  # taken back
        said("f-6", "s-1-resp-3", value=False, time=at(4)),
        said("f-7", "s-1-resp-3", value=True, time=at(3)),  # came later, was said before
    ]
    taken(place, "a", *talk(), *events)
    assert [(f, p) for f, _, _, p in found(place)] == [("f-2", 1), ("f-3", -1), ("f-6", -1)]


def test_what_a_person_says_of_a_turn_by_two_ids_of_it_is_said_once(place: Workspace):
    first, second = said("f-1", "", target={"id": "s-1/1"}, time=at(3)), said("f-2", "s-1-resp-1", value=True, time=at(4))
    taken(place, "a", *talk(), first, second)
    assert found(place) == [("f-2", "s-1/1", "response_id", 1)]


def test_a_judge_does_not_overrule_a_person(place: Workspace):
    judged = said("f-2", "s-1-resp-1", value=True, time=at(4), source="llm_judge")
    taken(place, "a", *talk(), said("f-1", "s-1-resp-1", time=at(3)), judged)
    assert [(f, p) for f, _, _, p in found(place)] == [("f-1", -1), ("f-2", 1)]


def test_a_snapshot_of_then_does_not_change_by_what_is_said_later(place: Workspace):
    taken(place, "a", *talk(), said("f-1", "s-1-resp-1", value=False, time=at(3)))
    lake = Lake(place.lake)
    then = lake.query("SELECT max(received) AS t FROM feedback")["t"][0].as_py()
    before = found(place, as_of=then)
    # Said earlier than what is known already, and captured later: event time decides who is right, capture time what was known.
    taken(place, "b", said("f-2", "s-1-resp-1", value=True, time=at(4)), said("f-0", "s-1-resp-2", value=False, time=at(2)))
    assert found(place, as_of=then) == before == [("f-1", "s-1/1", "response_id", -1)]
    assert [(f, p) for f, _, _, p in found(place)] == [("f-0", -1), ("f-2", 1)]


@pytest.mark.parametrize(
    ("name", "value", "polarity"),
    [("thumb", True, 1), ("Thumb", False, -1), ("stars", 4, 1), ("stars", 3, -1), ("toxicity", 0.9, -1), ("toxicity", 0.1, 1),
     ("mood", True, None), ("thumb", "fine", None), ("toxicity", False, 1)],
)  # fmt: skip
def test_which_way_a_metric_points_is_configuration(place: Workspace, name: str, value: Any, polarity: int | None):
    taken(place, "a", *talk(), said("f", "s-1-resp-1", value=value) | {"name": name})
    assert [p for *_, p in found(place)] == [polarity]


def test_every_kind_of_value_survives(place: Workspace):
    values: list[tuple[str, Any]] = [
        ("bool", True), ("number", 0.25), ("category", "tone"), ("comment", "too long"), ("demonstration", "Better: in five days."),
        ("preference", {"chosen": "a", "rejected": "b"}),
    ]  # fmt: skip
    taken(place, "a", *talk(), *[said(f"f-{t}", "s-1-resp-1", value=v, type=t) | {"name": t} for t, v in values])
    rows = Lake(place.lake).query("SELECT native_id, value_type, value FROM feedback").to_pylist()
    assert {(r["native_id"], r["value_type"]): orjson.loads(r["value"]) for r in rows} == {(f"f-{t}", t): v for t, v in values}


def test_the_rules_of_params_are_read_and_doubled_ones_refused():
    assert metrics(FeedbackParams(["thumb", "csat >= 3.5"], ["toxicity"], 30)) == [
        Metric("thumb", 1, 0.5), Metric("csat", 1, 3.5), Metric("toxicity", -1, 0.5),
    ]  # fmt: skip
    with pytest.raises(Refused, match="given twice"):
        metrics(FeedbackParams(["thumb"], ["thumb"], 30))
