"""Every log dialect: real samples become the rows that were agreed on, and whatever else a log holds is counted, never a crash."""

from __future__ import annotations

import copy
import gzip
import random
import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest

from tasks.errors import BadRecord
from tasks.formats import load_line, parse, protobuf
from tasks.formats.fields import Parsed
from tasks.live import feedback
from tasks.live.capture import capture
from tasks.live.lake import Lake
from tasks.live.sources import chunks
from tasks.live.workspace import Workspace
from tasks.metrics import FeedbackParams, metrics
from tests.handmade import SHARED, attribute, chat_span, log, traces, workspace

FORMATS, EXPORTS = SHARED / "formats", SHARED / "data" / "langfuse_traces"
LOGS = (".json", ".jsonl", ".pb", ".gz", ".log")
SAMPLES = sorted(p for p in FORMATS.glob("*.*") if p.suffix in LOGS and "normalised" not in p.name)
needs_samples = pytest.mark.skipif(not SAMPLES, reason="../shared/formats is not here")

SAME = (
    "trace_id", "session_id", "kind", "status", "finish_reason", "provider", "model_requested", "model_served", "prompt_name",
    "prompt_version", "app_version", "environment", "language", "tenant",
)  # fmt: skip
NUMBERS = ("latency_ms", "ttft_ms", "cost_usd", "input_tokens", "output_tokens")
# Where our rows differ from the reference on purpose; docs/dialects.md has the arguments.
#   a record without a session is a session of its own, so that everything that groups by sessions has no gaps
OWN_SESSION = {
    ("otlp", "f3b579227adbeb94e99499cfa91681fc:06a75d2c739a50d4"), ("openai_batch", "batch_req_1"),
    ("openai_batch", "batch_req_2"), ("openai_log", "chatcmpl-AbC"), ("gateway", "q-1"), ("vllm_log", "chatcmpl-9"),
}  # fmt: skip
#   MLflow's spans say their parent and finish reason; the reference leaves them out
SAYS_MORE = {("mlflow", "df1ef37956454168"): {"finish_reason"}}


@pytest.fixture(scope="module")
def captured(tmp_path_factory) -> Workspace:
    place = workspace(tmp_path_factory.mktemp("samples") / "work")
    for sample in SAMPLES:
        shutil.copy(sample, place.inbox / sample.name)
    account = capture(place)
    assert account.rejected == 0 and account.waiting == 0, account.reasons
    return place


def reference(name: str) -> list[dict[str, Any]]:
    path = FORMATS / f"normalised_{name}.jsonl"
    return [orjson.loads(row) for row in path.read_bytes().splitlines()] if path.exists() else []


def unspaced(value: Any) -> Any:
    """JSON inside strings, compared by what it says."""
    if isinstance(value, str) and value[:1] in "{[" and value:
        try:
            return unspaced(orjson.loads(value))
        except orjson.JSONDecodeError:
            return value
    if isinstance(value, dict):
        return {k: unspaced("" if v is None and k == "content" else v) for k, v in value.items() if k != "name"}
    return [unspaced(v) for v in value] if isinstance(value, list) else value


@needs_samples
def test_the_samples_are_exactly_the_expected_interactions(captured: Workspace):
    rows = Lake(captured.lake).query("SELECT dialect, native_id FROM interactions").to_pylist()
    assert {(r["dialect"], r["native_id"]) for r in rows} == {(r["source"], r["source_id"]) for r in reference("interactions")}
    assert len(rows) == 26


@needs_samples
@pytest.mark.parametrize("wanted", reference("interactions"), ids=lambda r: f"{r['source']}:{r['source_id'][-12:]}")
def test_a_sample_becomes_the_expected_row(captured: Workspace, wanted: dict[str, Any]):
    key = (wanted["source"], wanted["source_id"])
    (row,) = Lake(captured.lake).query(
        "SELECT * FROM interactions WHERE dialect = $source AND native_id = $id", {"source": key[0], "id": key[1]}
    ).to_pylist()
    system = [{"role": "system", "content": wanted["system"]}] if wanted["system"] else []
    assert unspaced(orjson.loads(row["messages"])) == unspaced(system + wanted["input_messages"])
    outputs = orjson.loads(row["outputs"]) or [{"role": "assistant", "content": row["response"]}]
    assert not wanted["output_messages"] or unspaced(outputs) == unspaced(wanted["output_messages"])
    for name in SAME:
        if name == "session_id" and key in OWN_SESSION:
            assert wanted[name] is None and row[name] == (row["trace_id"] or row["native_id"])
        elif name not in SAYS_MORE.get(key, ()):
            assert (row[name] or "").lower() == (wanted[name] or "").lower(), name
    for name in NUMBERS:
        # Ours are measured in nanoseconds, the reference's in microseconds.
        assert row[name] == (None if wanted[name] is None else pytest.approx(float(wanted[name]), rel=1e-6, abs=1e-3)), name
    assert [d["id"] for d in orjson.loads(row["contexts"])] == [d["id"] for d in wanted["retrieved_documents"] or []]
    assert bool(row["user"]) == bool(wanted["user_raw"]), "the same users, as pseudonyms"
    assert not wanted["user_raw"] or wanted["user_raw"] not in str(row)


@needs_samples
def test_the_samples_feedback_is_all_there_and_each_event_is_about_one_interaction(captured: Workspace):
    events = feedback.resolved(Lake(captured.lake), metrics(captured.params("feedback", FeedbackParams))).to_pylist()
    wanted = reference("feedback")
    assert len(events) == len(wanted) == 19
    count = lambda rows, of: sorted((of(r) for r in rows), key=str)  # noqa: E731
    # Phoenix and OTLP are one dialect here: it is the span that says whose convention it follows.
    assert count(events, lambda e: e["dialect"]) == count(wanted, lambda w: w["source"].replace("openinference", "otlp"))
    assert count(events, lambda e: e["name"].lower()) == count(wanted, lambda w: w["name"].lower())
    # A provider's unknown source stays unknown; and nobody is guessed.
    assert count(events, lambda e: e["source_kind"]) == count(wanted, lambda w: w["source_kind"])
    # The reference fans session feedback out and leaves the root-span thumb alone; ours are about one interaction each.
    assert all(e["interaction_id"] for e in events)
    assert {e["resolution"] for e in events} >= {"exact", "response_id", "trace_last_generation", "session"}


@needs_samples
@pytest.mark.parametrize(
    "name", ["openinference", "otel_genai_current", "otel_genai_legacy_events", "otel_genai_logs", "otel_openllmetry"]
)
def test_otlp_as_json_protobuf_and_gzip_is_the_same(name: str):
    (as_json,) = [b"".join(c.data for c in chunks(FORMATS / f"{name}.json"))]
    documents = [load_line(x) for x in as_json.splitlines()]
    for suffix in (".pb", ".pb.gz"):
        path = FORMATS / f"{name}{suffix}"
        if path.exists():
            other = [load_line(x) for x in b"".join(c.data for c in chunks(path)).splitlines()]
            assert [parse(d) for d in other] == [parse(d) for d in documents]


@pytest.mark.skipif(not EXPORTS.exists(), reason="../shared/data/langfuse_traces is not here")
@pytest.mark.parametrize("path", sorted(EXPORTS.glob("*.json")), ids=lambda p: p.stem.partition(".")[0])
def test_real_exports_of_many_frameworks_become_rows_with_questions_and_answers(path: Path, tmp_path: Path):
    place = workspace(tmp_path / "work")
    account = capture(place, [path])
    rows = Lake(place.lake).query("SELECT * FROM interactions").to_pylist()
    assert rows and account.waiting == 0
    assert set(account.reasons) <= {"no_content"}, "what the application did not log, and nothing else"
    for row in rows:
        assert orjson.loads(row["messages"]) and (row["response"] or orjson.loads(row["outputs"]) or row["status"] == "error")
    assert any(row["question"] for row in rows) and all(row["trace_id"] for row in rows)


def records() -> list[tuple[str, dict]]:
    found = []
    for sample in SAMPLES:
        for chunk in chunks(sample):
            for text in chunk.data.splitlines():
                try:
                    found.append((sample.name, load_line(text)))
                except BadRecord:
                    continue
    return found


def changed(value: Any, rng: random.Random) -> Any:
    """A record with one thing in it gone, of another type, doubled or put elsewhere."""
    value = copy.deepcopy(value)
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key, inner in list(node.items() if isinstance(node, dict) else enumerate(node)):
            places.append((node, key))
            if isinstance(inner, dict | list):
                walk(inner)
            elif isinstance(inner, str) and inner[:1] in ("{", "["):
                try:
                    opened = orjson.loads(inner)
                except orjson.JSONDecodeError:
                    continue
                node[key] = orjson.dumps(changed(opened, rng)).decode() if rng.random() < 0.3 and opened else inner

    walk(value)
    if not places:
        return value
    node, key = rng.choice(places)
    what = rng.randrange(8)
    odd = [None, True, -1, 2**63, 1e308, "", "x" * 50, [], {}, [[[]]], {"a": {"b": []}}, "9999-99-99T99:99:99Z", [None], "\ud7ff"]
    if what == 0 and isinstance(node, dict):
        del node[key]
    elif what == 1:
        node[key] = [node[key]]
    elif what == 2:
        node[key] = {"value": node[key]}
    elif what == 3 and isinstance(node, dict):
        node[str(key) + "x"] = node.pop(key)
    else:
        node[key] = rng.choice(odd)
    return value


@needs_samples
@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_record_is_read_or_rejected_and_nothing_else(seed: int):
    rng = random.Random(seed)
    for name, record in records():
        for _ in range(6):
            document = record
            for _ in range(rng.randrange(1, 4)):
                document = changed(document, rng)
            try:
                parsed = parse(document, name)
            except BadRecord as e:
                assert e.code != "unreadable", f"{name}: {e.message}: {orjson.dumps(document, default=str)[:2000]}"
            else:
                assert isinstance(parsed, Parsed)


@needs_samples
def test_damaged_logs_of_all_dialects_are_accounted_for_to_the_last_record(tmp_path: Path):
    place, rng = workspace(tmp_path / "work"), random.Random(1)
    documents = [changed(record, rng) for _ in range(8) for _, record in records()]
    lines = [orjson.dumps(d, default=str) for d in documents]
    path = log(place.inbox / "all.jsonl", *lines)
    account = capture(place)
    assert account.seen == account.stored + account.duplicate + account.rejected + account.attached + account.waiting
    again = capture(place, [path])
    assert again.stored == 0, "the same damage again is nothing new"


def test_an_unknown_record_is_rejected_with_its_keys_and_where_to_look():
    with pytest.raises(BadRecord, match=r"no dialect has the keys colour, shape; docs/dialects.md") as e:
        parse({"shape": "round", "colour": "red"})
    assert e.value.code == "unknown_dialect"


@pytest.mark.parametrize(
    "attributes",
    [
        {f"gen_ai.prompt.{2**31}.content": "x", "gen_ai.prompt.0.role": "user"},
        {"llm.input_messages.999999999999.message.content": "x", "llm.input_messages.0.message.role": "user"},
        {"gen_ai.prompt.-1.content": "x"},
        {"llm.input_messages.0.message.__class__": "x", "__proto__.polluted": "y"},
        {f"k{n}": "v" for n in range(10_000)},
        {f"gen_ai.prompt.{n}.content": "v" for n in range(10_000)},
    ],
    ids=["index-2^31", "index-12-digits", "negative", "dunder", "10,000-attributes", "10,000-messages"],
)
def test_attributes_made_to_hurt_cost_nothing_but_their_record(attributes: dict):
    good = chat_span("2")
    bad = chat_span("1")
    bad["attributes"] = [attribute(k, v) for k, v in attributes.items()] + [
        attribute("openinference.span.kind", "LLM"), attribute("traceloop.span.kind", "llm"), attribute("llm.request.type", "chat")
    ]  # fmt: skip
    parsed = parse(traces(bad, good))
    assert [i.native_id for i in parsed.interactions][-1].endswith(":2")
    assert len(parsed.interactions) <= 2


def test_feedback_of_phoenix_points_through_its_link_not_its_parent():
    late = {
        "traceId": "65747c7a70eb81d8", "spanId": "77", "parentSpanId": "99", "name": "annotation",
        "startTimeUnixNano": "1767614500000000000", "endTimeUnixNano": "1767614500000000000",
        "links": [{"traceId": "65747c7a70eb81d8", "spanId": "5a17"}],
        "attributes": [
            attribute("openinference.span.kind", "EVALUATOR"),
            attribute("annotations.0.annotation.name", "thumbs"),
            attribute("annotations.0.annotation.score", 0.0),
            attribute("annotations.0.annotation.annotator_kind", "HUMAN"),
        ],
    }  # fmt: skip
    parsed = parse(traces(chat_span(), late))
    (event,) = parsed.feedback
    assert event.target.endswith("5a17") and event.value == 0.0


def test_langsmiths_session_is_not_its_project():
    run = {
        "id": "r-1", "trace_id": "t-1", "session_id": "the-project", "run_type": "llm", "name": "ChatOpenAI",
        "start_time": "2026-01-05T12:00:00Z", "end_time": "2026-01-05T12:00:01Z",
        "inputs": {"messages": [[{"type": "human", "content": "when?"}]]},
        "outputs": {"generations": [[{"message": {"type": "ai", "content": "soon"}}]]},
        "extra": {"metadata": {"thread_id": "the-chat"}}, "dotted_order": "x",
    }  # fmt: skip
    (read,) = parse(run).interactions
    assert read.session_id == "the-chat"


def test_a_batch_answer_finds_its_prompt_in_its_own_folder_only(tmp_path: Path):
    place = workspace(tmp_path / "work")
    for folder, question in (("monday", "one?"), ("tuesday", "two?")):
        asked = {"custom_id": "c-1", "method": "POST", "url": "/v1/chat/completions",
                 "body": {"model": "m", "messages": [{"role": "user", "content": question}]}}  # fmt: skip
        answer = {
            "id": f"chatcmpl-{folder}", "object": "chat.completion", "created": 1767614400, "model": "m",
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": folder}}],
        }  # fmt: skip
        response = {"status_code": 200, "request_id": "r", "body": answer}
        said = {"id": f"batch_req_{folder}", "custom_id": "c-1", "error": None, "response": response}
        log(place.inbox / folder / "output.jsonl", said)  # the answers come first, and wait
        log(place.inbox / folder / "zz-input.jsonl", asked)
    assert capture(place).waiting == 0
    rows = Lake(place.lake).query("SELECT question, response FROM interactions ORDER BY response").to_pylist()
    assert rows == [{"question": "one?", "response": "monday"}, {"question": "two?", "response": "tuesday"}]


def test_the_boundary_row_of_overlapping_export_windows_is_stored_once(tmp_path: Path):
    place = workspace(tmp_path / "work")
    row = {
        "id": "obs-9", "trace_id": "t-9", "type": "GENERATION", "start_time": "2026-01-05T12:00:00Z",
        "end_time": "2026-01-05T12:00:01Z", "input": '[{"role": "user", "content": "when?"}]', "output": "soon",
        "provided_model_name": "m", "parent_observation_id": None,
    }  # fmt: skip
    trace = {
        "id": "t-9", "timestamp": "2026-01-05T12:00:00Z", "session_id": "s-9", "user_id": "kim", "bookmarked": False,
    }  # fmt: skip
    log(place.inbox / "observations" / "12.jsonl", row)
    log(place.inbox / "observations" / "13.jsonl", row)
    log(place.inbox / "traces" / "12.jsonl", trace)
    capture(place)
    (stored,) = Lake(place.lake).query('SELECT session_id, "user" FROM interactions').to_pylist()
    assert stored["session_id"] == "s-9" and stored["user"].startswith("u_")


def test_protobuf_that_is_none_is_told():
    with pytest.raises(BadRecord):
        protobuf.traces(b"\xff\xff\xff\xff")
    with pytest.raises(BadRecord):
        protobuf.traces(gzip.compress(b"{}"))
