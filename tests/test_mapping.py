"""Log lines of a team's own shape, read by a mapping that it writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks.errors import Refused
from tasks.live import quarantine
from tasks.live.capture import capture, rebuild
from tasks.live.feedback import resolved
from tasks.live.lake import Lake
from tasks.live.segments import Segments
from tasks.live.workspace import Workspace
from tests.handmade import log, workspace

MAPPING = """
[[interaction]]
when = "app == 'shop'"
id = "req.id"
time = "at"
session_id = "req.chat"
user_id = "who"
question = "prompt"
response = "body.answer.text"
model_served = "body.model"
latency_ms = "took"

[[feedback]]
when = "event == 'rated'"
time = "at"
response_id = "about"
name = "'stars'"
value = "stars"
user_id = "who"
"""


def asked(n: int, **changes) -> dict:
    return {
        "app": "shop", "req": {"id": f"q-{n}", "chat": "c-1"}, "at": 1767614400 + n, "who": "kim-the-user",
        "prompt": f"where is {n}?",
        "body": json.dumps({"answer": {"text": "On its way to kim@example.org."}, "model": "m-1"}), "took": 12.5, "region": "eu",
    } | changes  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return workspace(tmp_path / "work")


def write(place: Workspace, text: str = MAPPING) -> None:
    (place.root / "dialects.toml").write_text(text, encoding="utf-8")


def test_a_mapped_line_is_an_interaction_with_its_identities_replaced(place: Workspace):
    write(place)
    rated = {"event": "rated", "at": "2026-01-05T12:10:00Z", "about": "q-1", "stars": 2, "who": "kim-the-user"}
    log(place.inbox / "a.jsonl", asked(1), rated)
    assert capture(place).stored == 2
    lake = Lake(place.lake)
    (row,) = lake.query("SELECT * FROM interactions").to_pylist()
    assert (row["native_id"], row["session_id"], row["question"]) == ("q-1", "c-1", "where is 1?")
    assert (row["model_served"], row["latency_ms"], row["ts"]) == ("m-1", 12.5, 1767614401000000)
    assert row["response"].startswith("On its way to [EMAIL_")
    assert json.loads(row["attributes"]) == {"app": "shop", "region": "eu"}
    (event,) = resolved(lake, []).to_pylist()
    assert event["interaction_id"] == row["interaction_id"] and event["user"] == row["user"]
    for path in [*place.raw.rglob("*"), *place.lake.rglob("*.parquet")]:
        assert b"kim-the-user" not in path.read_bytes()


def test_what_was_rejected_before_the_mapping_was_written_is_read_by_replay_and_by_rebuild(place: Workspace):
    log(place.inbox / "a.jsonl", asked(1), asked(2), {"app": "another"})
    assert capture(place).reasons == {"unknown_dialect": 3}
    write(place)
    done = quarantine.replay(place)
    assert (done.tried, done.released, done.stored) == (3, 2, 2)
    rows = lambda: Lake(place.lake).query("SELECT * FROM interactions ORDER BY native_id").to_pylist()  # noqa: E731
    before = rows()
    assert all(r["user"].startswith("u_") for r in before)
    rebuild(place)
    assert rows() == before


def test_without_an_id_the_record_is_its_own(place: Workspace):
    write(place, MAPPING.replace('id = "req.id"\n', "", 1))
    log(place.inbox / "a.jsonl", asked(1), asked(2), asked(1))
    account = capture(place)
    assert (account.stored, account.duplicate) == (2, 1)


def test_a_mapping_does_not_touch_other_dialects(place: Workspace):
    write(place, MAPPING.replace("app == 'shop'", "`true`"))
    log(place.inbox / "a.jsonl", {"flywheel": "feedback/1", "id": "f", "target": {"id": "x"}, "name": "thumb", "value": True,
                                  "time": "2026-01-05T12:00:00Z"})  # fmt: skip
    assert capture(place).stored == 1


@pytest.mark.parametrize(
    ("change", "code"),
    [({"at": "yesterday"}, "bad_time"), ({"prompt": None}, "no_content"), ({"body": "{}"}, "missing_field"),
     ({"took": "long"}, "bad_number"), ({"prompt": 7}, "bad_message")],
)  # fmt: skip
def test_a_mapped_line_that_lacks_something_is_rejected_with_its_reason(place: Workspace, change: dict, code: str):
    write(place)
    log(place.inbox / "a.jsonl", asked(1, **change), asked(2))
    account = capture(place)
    assert (account.stored, account.reasons) == (1, {code: 1})
    ((_, body),) = Segments(place.raw).all()
    assert b"kim-the-user" not in body, "nor is who it was kept in the quarantine"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[[interaction]", "dialects.toml"),
        ("[[span]]\nwhen='a'", r"\[span\] is no kind"),
        ("[[interaction]]\nwhen = \"a == \"\ntime='t'\nresponse='r'\nquestion='q'", "is no JMESPath"),
        ("[[interaction]]\nwhen = 'a'\nresponse='r'\nquestion='q'", "'time' is missing"),
        ("[[interaction]]\nwhen = 'a'\ntime='t'\nresponse='r'", "neither 'question' nor 'messages'"),
        ("[[interaction]]\nwhen = 'a'\ntime='t'\nresponse='r'\nquestion='q'\nmood='m'", "no field 'mood'"),
        ("[[feedback]]\nwhen = 'a'\ntime='t'\nname='r'\nvalue='q'", "no target"),
    ],
)
def test_a_mapping_that_cannot_be_read_is_refused_before_anything_is_captured(place: Workspace, text: str, why: str):
    write(place, text)
    log(place.inbox / "a.jsonl", asked(1))
    with pytest.raises(Refused, match=why) as caught:
        capture(place)
    assert caught.value.what_to_do
    assert not place.raw.exists() or not list(place.raw.iterdir())
