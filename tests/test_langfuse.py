"""Langfuse in the shapes that no sample has: other versions, other exporters, other frameworks behind it."""

from __future__ import annotations

import csv
import decimal
import io
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.formats import parse
from tasks.formats.fields import RawInteraction
from tasks.live.capture import capture
from tasks.live.feedback import resolved
from tasks.live.lake import Lake
from tasks.live.workspace import Workspace
from tests.handmade import log, workspace

ASKED, SAID = [{"role": "user", "content": "when?"}], {"role": "assistant", "content": "soon"}


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return workspace(tmp_path / "work")


def generation(**changes: Any) -> dict[str, Any]:
    return {
        "id": "o-1", "traceId": "t-1", "type": "GENERATION", "name": "answer", "parentObservationId": None,
        "startTime": "2026-01-05T12:00:00.000Z", "endTime": "2026-01-05T12:00:01.500Z", "model": "gpt-4o",
        "input": ASKED, "output": SAID, "level": "DEFAULT", "usageDetails": {"input": 10, "output": 5},
    } | changes  # fmt: skip


def trace(*observations: Any, **changes: Any) -> dict[str, Any]:
    """A whole trace as the API gives it."""
    return {
        "id": "t-1", "timestamp": "2026-01-05T12:00:00.000Z", "name": "turn", "userId": "kim", "sessionId": "s-1",
        "htmlPath": "/t-1", "tags": ["billing"], "observations": list(observations), "scores": [],
    } | changes  # fmt: skip


def score(**changes: Any) -> dict[str, Any]:
    return {
        "id": "sc-1", "traceId": "t-1", "observationId": "o-1", "name": "thumb", "source": "API", "dataType": "BOOLEAN",
        "value": 1, "stringValue": "True", "timestamp": "2026-01-05T12:05:00.000Z", "createdAt": "2026-01-05T12:05:00.000Z",
        "updatedAt": "2026-01-05T12:05:00.000Z",
    } | changes  # fmt: skip


def snake(row: dict[str, Any]) -> dict[str, Any]:
    return {re.sub(r"(?<!^)([A-Z])", r"_\1", k).lower(): v for k, v in row.items()}


def only(document: dict[str, Any]) -> RawInteraction:
    parsed = parse(document)
    (read,) = parsed.interactions
    assert not parsed.rejects
    return read


def counted(document: dict[str, Any]) -> tuple[int, int, int, int]:
    """(interactions, feedback, rejected, attached)"""
    parsed = parse(document)
    return len(parsed.interactions), len(parsed.feedback), len(parsed.rejects), parsed.attached


@pytest.mark.parametrize(
    "given",
    [
        "when?",
        {"messages": ASKED},
        orjson.dumps(orjson.dumps(ASKED).decode()).decode(),
        {"args": ["when?"], "kwargs": {}},
        {"args": [], "kwargs": {"question": "when?", "k": 3}},
        {"args": [], "kwargs": {"messages": ASKED, "model": "m"}},
        [[{"type": "human", "data": {"content": "when?"}}]],
        [{"lc": 1, "type": "constructor", "id": ["langchain", "schema", "HumanMessage"], "kwargs": {"content": "when?"}}],
        {"messages": [["human", "when?"]]},
        {"input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "when?"}]}]},
        {"prompt": '{"messages":[{"role":"user","content":[{"type":"text","text":"when?"}]}]}'},
        {"contents": [{"role": "user", "parts": [{"text": "when?"}]}]},
        [{"role": "user", "content": {"text": "when?"}}],
    ],
    ids=["text", "messages", "json-twice", "args", "kwargs", "kwargs-messages", "langchain", "constructor", "pairs",
         "responses", "ai-sdk", "gemini", "text-object"],
)  # fmt: skip
def test_what_was_asked_is_read_whatever_framework_logged_it(given: Any):
    assert only(trace(generation(input=given))).messages == ASKED


@pytest.mark.parametrize(
    ("answered", "said"),
    [
        ("soon", "soon"),
        ({"choices": [{"message": SAID, "finish_reason": "stop"}]}, "soon"),
        ({"output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "soon"}]}]}, "soon"),
        ({"lc": 1, "type": "constructor", "id": ["langchain", "AIMessage"], "kwargs": {"content": "soon"}}, "soon"),
        ({"generations": [[{"text": "soon", "message": {"type": "ai", "content": "soon"}}]]}, "soon"),
        ({"candidates": [{"content": {"role": "model", "parts": [{"text": "soon"}]}, "finishReason": "STOP"}]}, "soon"),
        ({"text": "soon", "finishReason": "stop"}, "soon"),
        ([{"type": "text", "text": "soon"}], "soon"),
        ({"role": "assistant", "content": None, "audio": {"id": "a-1", "transcript": "soon"}}, "soon"),
        (42, "42"),
        (0, "0"),
        (False, "false"),
        ({"category": "billing"}, '{"category":"billing"}'),
        ("{not json", "{not json"),
    ],
    ids=["text", "openai", "responses", "constructor", "langchain", "gemini", "ai-sdk", "blocks", "audio", "number", "zero",
         "false", "object", "brace"],
)  # fmt: skip
def test_what_was_answered_is_read_whatever_framework_logged_it(answered: Any, said: str):
    assert only(trace(generation(output=answered))).outputs[0]["content"] == said


@pytest.mark.parametrize(
    "answered",
    [
        {"toolCalls": [{"toolCallId": "c-1", "toolName": "find", "args": {"id": 7}}], "finishReason": "tool-calls"},
        {"text": "", "toolCalls": '[{"toolCallId":"c-1","toolName":"find","input":"{\\"id\\":7}"}]'},
        {"tool_calls": [{"id": "c-1", "type": "function", "function": {"name": "find", "arguments": '{"id":7}'}}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c-1", "name": "find", "input": {"id": 7}}]},
        {"type": "ai", "content": "", "tool_calls": [{"name": "find", "args": {"id": 7}, "id": "c-1"}]},
    ],
    ids=["ai-sdk", "ai-sdk-text", "openai", "anthropic", "langchain"],
)
def test_a_tool_call_is_a_tool_call_also_where_no_role_is_named(answered: Any):
    (output,) = only(trace(generation(output=answered))).outputs
    assert output["content"] == ""
    assert output["tool_calls"] == [
        {"id": "c-1", "type": "function", "function": {"name": "find", "arguments": '{"id":7}'}}
    ]


@pytest.mark.parametrize(
    "usage",
    [
        {"usage": {"input": 10, "output": 5, "unit": "TOKENS", "totalCost": 0.3}},
        {"promptTokens": 10, "completionTokens": 5, "calculatedTotalCost": "0.3"},
        {"usageDetails": {"prompt_tokens": 10, "completion_tokens": 5}, "costDetails": {"total": 0.3}},
        {"usage_details": '{"input": 10, "output": 5}', "total_cost": "0.3"},
    ],
    ids=["usage", "tokens", "openai-names", "csv"],
)
def test_tokens_and_cost_are_read_under_the_names_of_every_version(usage: dict[str, Any]):
    read = only(trace({k: v for k, v in generation().items() if k != "usageDetails"} | usage))
    assert (read.input_tokens, read.output_tokens, read.cost_usd) == (10, 5, 0.3)


@pytest.mark.parametrize(
    "document",
    [
        trace(generation()),
        snake(trace(snake(generation()))),
        {"trace": trace(), "observations": [generation()]},
        {"trace": {k: v for k, v in trace().items() if k != "observations"}, "observations": [generation()]},
        trace() | {"observations": orjson.dumps([generation()]).decode()},
        {"data": [trace(generation())], "meta": {"page": 1, "totalItems": 1}},
    ],
    ids=["api", "snake", "ui", "ui-apart", "text", "page"],
)
def test_a_whole_trace_is_read_in_every_wrapping(document: dict[str, Any]):
    read = only(document)
    assert (read.session_id, read.user_id, read.tags, read.trace_id) == ("s-1", "kim", ["billing"], "t-1")


def test_scores_beside_a_trace_are_its_feedback():
    (event,) = parse({"trace": trace(), "observations": [generation()], "scores": [score()]}).feedback
    assert (event.target, event.value) == ("o-1|t-1", True)


@pytest.mark.parametrize(
    "kind", ["SPAN", "EVENT", "AGENT", "TOOL", "CHAIN", "RETRIEVER", "EMBEDDING", "GUARDRAIL", None, 7]
)
def test_what_is_no_generation_is_attached(kind: Any):
    assert counted(trace(generation(), generation(id="o-2", type=kind))) == (1, 0, 0, 2)


@pytest.mark.parametrize(
    ("observations", "became"),
    [
        ([generation(id=None)], (0, 0, 1, 1)),
        ([generation(), generation()], (2, 0, 0, 1)),
        ([None, 1, [], generation()], (1, 0, 3, 1)),
        (["o-1", "o-2"], (0, 0, 0, 1)),
        ([generation(output=None)], (0, 0, 1, 1)),
        ([generation(output=None, level="ERROR", statusMessage="rate limit")], (1, 0, 0, 1)),
        ([generation(timeToFirstToken="soon", latency={"a": 1}, endTime=None)], (1, 0, 0, 1)),
        ([generation(model={"a": 1}), generation(id="o-2")], (1, 0, 1, 1)),
        # The outer one repeats the inner one, unless the inner one was logged without its content.
        ([generation(), generation(id="o-2", parentObservationId="o-1")], (1, 0, 0, 2)),
        ([generation(), generation(id="o-2", parentObservationId="o-1", output=None)], (1, 0, 1, 1)),
    ],
    ids=["no-id", "same-id", "junk", "ids", "no-output", "error", "odd-times", "odd-model", "wrapper", "hollow"],
)  # fmt: skip
def test_every_observation_is_stored_rejected_or_attached(observations: list[Any], became: tuple[int, int, int, int]):
    assert counted(trace(*observations)) == became


@pytest.mark.parametrize("observations", [{"o-1": {}}, 7, "none"])
def test_observations_that_are_no_list_are_rejected(observations: Any, place: Workspace):
    log(place.inbox / "a.jsonl", trace() | {"observations": observations})
    assert capture(place).reasons == {"bad_type": 1}


@pytest.mark.parametrize(
    ("changes", "value"),
    [
        ({"value": "0", "stringValue": "False"}, False),
        ({"value": "1", "stringValue": "True"}, True),
        ({"value": 0.0}, False),
        ({"value": None, "stringValue": "False"}, False),
        ({"value": True}, True),
        ({"dataType": "NUMERIC", "value": "0.5"}, 0.5),
        ({"dataType": "CATEGORICAL", "value": None, "stringValue": "good"}, "good"),
        ({"dataType": "CATEGORICAL", "value": "good", "stringValue": None}, "good"),
        ({"dataType": "TEXT", "value": "too long", "stringValue": None}, "too long"),
        ({"dataType": None, "value": 0.4}, 0.4),
    ],
)
def test_a_score_is_what_it_says_also_as_the_cell_of_a_csv_file(changes: dict[str, Any], value: Any):
    (event,) = parse(score(**changes)).feedback
    assert event.value == value and type(event.value) is type(value)


@pytest.mark.parametrize(
    "changes",
    [
        {"value": None, "stringValue": None},
        {"value": "perhaps"},
        {"dataType": "NUMERIC", "value": None},
        {"dataType": "NUMERIC", "value": "many"},
        {"dataType": "STARS"},
        {"traceId": None, "observationId": None},
    ],
)
def test_a_score_that_says_nothing_is_rejected_and_takes_nothing_back(changes: dict[str, Any], place: Workspace):
    log(place.inbox / "a.jsonl", score(**changes))
    assert capture(place).rejected == 1


def test_a_page_of_the_api_is_its_rows(place: Workspace):
    for name, rows in (
        ("traces", [trace("o-1")]), ("observations", [generation(), generation(id="o-2", type="SPAN")]), ("scores", [score()]),
    ):  # fmt: skip
        page = orjson.dumps({"data": rows, "meta": {"page": 1, "limit": 50, "totalItems": len(rows), "totalPages": 1}})
        (place.inbox / f"{name}.json").write_bytes(page)
    (place.inbox / "empty.json").write_bytes(b'{"data": [], "meta": {"page": 9}}')
    account = capture(place)
    assert (account.seen, account.stored, account.attached, account.rejected) == (4, 2, 2, 0)
    (row,) = Lake(place.lake).query("SELECT session_id FROM interactions").to_pylist()
    assert row["session_id"] == "s-1", "the row of the page of observations found its trace in the other page"


def test_a_page_on_one_line_is_its_rows_too(place: Workspace):
    log(place.inbox / "a.jsonl", {"data": [score(), score(id="sc-2", value="perhaps"), None], "meta": {"page": 1}})
    account = capture(place)
    assert (account.stored, account.rejected, account.seen) == (1, 2, 3)


def test_a_blob_export_as_csv_and_parquet_is_the_same_as_json_lines(tmp_path: Path):
    rows = {
        "observations": {
            "id": "o-1", "trace_id": "t-1", "type": "GENERATION", "parent_observation_id": None,
            "start_time": "2026-01-05 12:00:00.000", "end_time": "2026-01-05 12:00:01.500", "input": orjson.dumps(ASKED).decode(),
            "output": "soon", "provided_model_name": "m",
            "usage_details": {"input": 10, "output": 5}, "total_cost": 0.25,
        },
        "traces": {
            "id": "t-1", "timestamp": "2026-01-05 12:00:00.000", "project_id": "p", "session_id": "s-1", "user_id": "kim",
            "release": "2", "tags": ["billing"], "bookmarked": False,
        },
        "scores": {
            "id": "sc-1", "timestamp": "2026-01-05 12:05:00.000", "trace_id": "t-1", "observation_id": "o-1", "name": "thumb",
            "value": 0, "source": "API", "data_type": "BOOLEAN", "string_value": "False",
        },
    }  # fmt: skip
    found = []
    for kind in ("jsonl", "csv", "parquet"):
        place = workspace(tmp_path / kind)
        for name, row in rows.items():
            path = place.inbox / name / f"12.{kind}"
            path.parent.mkdir()
            if kind == "jsonl":
                log(path, row)
            elif kind == "csv":
                text = io.StringIO()
                writer = csv.DictWriter(text, row)
                writer.writeheader()
                writer.writerow(
                    {k: orjson.dumps(v).decode() if isinstance(v, dict | list) else v for k, v in row.items()}
                )
                path.write_text(text.getvalue(), encoding="utf-8")
            else:
                pq.write_table(_typed(row), path)
        account = capture(place)
        assert (account.stored, account.waiting, account.rejected) == (2, 0, 0), account.reasons
        lake = Lake(place.lake)
        of = "interaction_id, session_id, question, response, input_tokens, output_tokens, cost_usd, latency_ms, tags"
        found.append(
            (
                lake.query(f"SELECT {of} FROM interactions").to_pylist(),
                lake.query("SELECT value, ts FROM feedback").to_pylist(),
            )
        )
    assert found[0] == found[1] == found[2]


def _typed(row: dict[str, Any]) -> pa.Table:
    """A row with the types that a blob export has in Parquet: times, decimals and maps."""
    columns: dict[str, Any] = {}
    for key, value in row.items():
        if key.endswith("_time") or key == "timestamp":
            columns[key] = pa.array([datetime.fromisoformat(value)], pa.timestamp("ms"))
        elif isinstance(value, dict):
            columns[key] = pa.array([list(value.items())], pa.map_(pa.string(), pa.int64()))
        elif isinstance(value, float):
            columns[key] = pa.array([decimal.Decimal(str(value))])
        else:
            columns[key] = [value]
    return pa.table(columns)


def test_a_row_that_has_its_traces_columns_does_not_wait_for_the_trace(place: Workspace):
    row = snake(generation()) | {"session_id": "s-1", "user_id": "kim", "release": "2", "tags": ["billing"]}
    log(place.inbox / "observations_v2" / "12.jsonl", row)
    assert capture(place).waiting == 0
    (stored,) = Lake(place.lake).query("SELECT session_id, app_version, tags FROM interactions").to_pylist()
    assert stored == {"session_id": "s-1", "app_version": "2", "tags": '["billing"]'}


def test_a_score_that_was_changed_in_its_place_counts_as_it_is_now(place: Workspace):
    log(place.inbox / "a.jsonl", trace(generation(), scores=[score()]))
    capture(place)
    for at, value in (("12:30", 0), ("12:40", 1), ("12:50", 0)):
        log(
            place.inbox / f"{at[-2:]}.jsonl",
            score(value=value, stringValue=str(bool(value)), updatedAt=f"2026-01-05T{at}:00.000Z"),
        )
        assert capture(place).stored == 1
        (event,) = resolved(Lake(place.lake), []).to_pylist()
        assert event["value"] == str(bool(value)).lower()
    log(place.inbox / "again.jsonl", score(value=0, stringValue="False", updatedAt="2026-01-05T12:50:00Z"))
    assert capture(place).duplicate == 1, "the same state of it is the same event"


def test_a_score_of_a_span_is_about_the_last_generation_of_its_trace(place: Workspace):
    root, tool = generation(id="root", type="AGENT"), generation(id="tool", type="TOOL", parentObservationId="root")
    first, last = generation(parentObservationId="root"), generation(id="o-2", startTime="2026-01-05T12:00:02.000Z")
    log(place.inbox / "a.jsonl", trace(root, first, tool, last))
    log(place.inbox / "b.jsonl", score(observationId="root"), score(id="sc-2", name="exact"))
    capture(place)
    of = {r["interaction_id"]: r["native_id"] for r in Lake(place.lake).query("SELECT * FROM interactions").to_pylist()}
    events = {e["name"]: (of[e["interaction_id"]], e["resolution"]) for e in resolved(Lake(place.lake), []).to_pylist()}
    assert events == {"thumb": ("o-2", "trace_last_generation"), "exact": ("o-1", "exact")}
