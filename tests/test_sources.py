"""Files of every kind and in every state: what can be read is, what cannot is counted with where it stood, in bounded memory."""

from __future__ import annotations

import codecs
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
import zstandard

from tasks.formats import MAX_LINE_BYTES
from tasks.live.capture import capture
from tasks.live.intake import Account
from tasks.live.lake import Lake
from tasks.live.segments import Segments
from tasks.live.workspace import Workspace, quiet_environment
from tests.handmade import asked, chat_span, line, log, traces, workspace
from tests.imports import ROOT


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return workspace(tmp_path / "work")


def stored(place: Workspace) -> list[str]:
    return Lake(place.lake).query("SELECT native_id FROM interactions ORDER BY native_id")["native_id"].to_pylist()


def rejected(place: Workspace) -> list[tuple[str, str]]:
    found = Lake(place.lake).query("SELECT code, message FROM rejects ORDER BY raw_line").to_pylist()
    return [(r["code"], r["message"]) for r in found]


def balanced(account: Account) -> bool:
    known = account.stored + account.duplicate + account.rejected + account.attached + account.waiting
    return account.seen + account.resumed == known


def whole(n: int = 3) -> bytes:
    return b"".join(line(asked(f"r-{k}")) + b"\n" for k in range(n))


@pytest.mark.parametrize(
    ("name", "pack"),
    [("a.jsonl.gz", gzip.compress), ("a.jsonl.zst", lambda b: zstandard.ZstdCompressor().compress(b)), ("a.log", bytes),
     ("a.json", lambda b: b"[" + b",".join(b.splitlines()) + b"]"), ("a.ndjson", bytes),
     ("two.jsonl.gz", lambda b: gzip.compress(b[:100]) + gzip.compress(b[100:]))],
)  # fmt: skip
def test_packed_and_plain_files_are_the_same(place: Workspace, name: str, pack):
    (place.inbox / name).write_bytes(pack(whole()))
    assert capture(place).stored == 3
    assert stored(place) == ["r-0", "r-1", "r-2"]
    assert capture(place) == Account()


@pytest.mark.parametrize("cut", [20, 60, 120, 10**6])
def test_of_a_torn_archive_the_good_lines_are_kept_and_the_rest_is_one_reject_that_says_where(place: Workspace, cut: int):
    rows = b"".join(line(asked(f"r-{k}", response=os.urandom(40).hex())) + b"\n" for k in range(300))
    packed = gzip.compress(rows)
    torn = packed[: min(len(packed) - 9, len(packed) * cut // 200)]
    (place.inbox / "a.jsonl.gz").write_bytes(torn)
    account = capture(place)
    ((code, message),) = rejected(place)
    assert code == "truncated" and "bytes" in message and "a.jsonl.gz" in message
    assert stored(place) == sorted(f"r-{k}" for k in range(account.stored))
    if cut > 60:
        assert account.stored > 100
    (place.inbox / "a.jsonl.gz").write_bytes(packed)  # the upload was finished in the end
    assert capture(place).stored == 300 - account.stored


def test_torn_protobuf_is_one_reject(place: Workspace):
    from google.protobuf.json_format import ParseDict
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    span = chat_span("00000000000000a1", traceId="65747c7a70eb81d865747c7a70eb81d8")
    request = ParseDict(traces(span), ExportTraceServiceRequest())
    data = request.SerializeToString()
    (place.inbox / "torn.pb").write_bytes(data[:-20])
    log(place.inbox / "z.jsonl", asked("r-1"))
    account = capture(place)
    assert account.rejected == 1 and account.stored == 1


def test_a_gzip_bomb_is_one_reject_in_little_memory(place: Workspace):
    """486 kB that unpack to 500 MB: refused long before."""
    script = f"""
import resource, sys, time
from pathlib import Path
from tasks.live.capture import capture
from tasks.live.workspace import Workspace
place = Workspace(Path({str(place.root)!r}))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
account = capture(place)
print(account.stored, account.rejected, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    with gzip.open(place.inbox / "bomb.jsonl.gz", "wb") as f:
        f.write(line(asked("r-1")) + b"\n")
        for _ in range(500):
            f.write(b"0" * 1_000_000)
    assert (place.inbox / "bomb.jsonl.gz").stat().st_size < 600_000
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    kept, lost, megabytes = map(int, done.stdout.split())
    assert (kept, lost) == (1, 1)
    assert megabytes < 200  # of which DuckDB and Arrow are most


@pytest.mark.parametrize(
    "encode",
    [
        lambda b: codecs.BOM_UTF8 + b,
        lambda b: b.replace(b"\n", b"\r\n"),
        lambda b: b.decode().encode("utf-16"),
        lambda b: b.replace(b"question r-1", "question \u2028 \u0085 r-1".encode()),
    ],
)
def test_encodings_that_say_the_same_are_the_same(place: Workspace, encode):
    (place.inbox / "a.jsonl").write_bytes(encode(whole()))
    account = capture(place)
    assert (account.stored, account.rejected) == (3, 0)


def test_bytes_that_are_no_text_cost_their_own_line_only(place: Workspace):
    latin = json.dumps(asked("latin", response="größer"), ensure_ascii=False).encode("latin-1")
    lone = line(asked("lone", response="half")).replace(b"half", b"\\ud800")
    nul = line(asked("nul", response="a\x00b"))
    raw_nul = line(asked("raw-nul")).replace(b"five", b"fi\x00ve")
    log(place.inbox / "a.jsonl", asked("r-1"), latin, lone, nul, raw_nul, b"\xff\xfe\x00", asked("r-2"))
    account = capture(place)
    assert balanced(account) and account.seen == 7
    assert {"r-1", "r-2", "nul"} <= set(stored(place))
    assert "latin" not in stored(place)
    for path in place.lake.rglob("*.parquet"):
        assert path.stat().st_size
    Lake(place.lake).query("SELECT messages, response FROM interactions").to_pylist()  # all of it is good UTF-8


@pytest.mark.parametrize(
    ("bomb", "codes"),
    [
        (b"[" * 100_000 + b"]" * 100_000, {"bad_json", "not_an_object"}),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, {"bad_json"}),
        (b'{"flywheel":"interaction/1","input_tokens":' + b"9" * 5000 + b"}", {"bad_json", "missing_field"}),
        (b'{"flywheel":"interaction/1","id":"x","latency_ms":NaN}', {"bad_json"}),
        (b'{"flywheel":"interaction/1","id":"x","latency_ms":Infinity}', {"bad_json"}),
        (b"{" + b",".join(b'"k%d":1' % k for k in range(1_000_000)) + b"}", {"unknown_dialect"}),
    ],
)
def test_a_json_bomb_is_one_reject(place: Workspace, bomb: bytes, codes: set[str]):
    log(place.inbox / "a.jsonl", asked("r-1"), bomb, asked("r-2"))
    account = capture(place)
    assert (account.stored, account.rejected) == (2, 1)
    assert set(account.reasons) <= codes


def test_numbers_beyond_a_row_are_rejected_and_doubled_keys_keep_the_last(place: Workspace):
    log(
        place.inbox / "a.jsonl",
        asked("big", input_tokens=2**63), asked("minus", output_tokens=-1), asked("huge", latency_ms=1e308),
        line(asked("twice", response="first"))[:-1] + b',"response":"last"}',
    )  # fmt: skip
    account = capture(place)
    assert account.reasons == {"bad_number": 2}
    found = Lake(place.lake).query("SELECT response FROM interactions WHERE native_id = 'twice'")["response"].to_pylist()
    assert found == ["last"]


def test_a_line_beyond_all_measure_is_skipped_and_the_next_one_read(place: Workspace):
    with (place.inbox / "a.jsonl").open("wb") as f:
        f.write(line(asked("r-1")) + b"\n" + b'{"x":"')
        for _ in range(MAX_LINE_BYTES // 1_000_000 + 40):
            f.write(b"y" * 1_000_000)
        f.write(b'"}\n' + line(asked("r-2")) + b"\n")
    account = capture(place)
    assert stored(place) == ["r-1", "r-2"]
    assert account.reasons == {"too_long": 1}
    assert "at byte" in rejected(place)[0][1]


@pytest.mark.parametrize(
    ("moment", "what"),
    [
        ("1969-12-31T23:59:59Z", "bad_time"), ("2262-04-12T00:00:00Z", "bad_time"), ("2026-01-05T12:00:00", "bad_time"),
        (1767614400, "bad_time"), ("2026-10-25T02:30:00+02:00", ""), ("2026-10-25T02:30:00+01:00", ""),
        ("2026-01-05T12:00:00.123456789Z", ""),
    ],
)  # fmt: skip
def test_a_clock_that_cannot_be_right_is_told(place: Workspace, moment: object, what: str):
    log(place.inbox / "a.jsonl", asked("r-1", time=moment))
    assert capture(place).reasons == ({what: 1} if what else {})


def test_an_hour_that_comes_twice_stays_two_hours(place: Workspace):
    log(place.inbox / "a.jsonl", asked("r-1", time="2026-10-25T02:30:00+02:00"), asked("r-2", time="2026-10-25T02:30:00+01:00"))
    capture(place)
    first, second = Lake(place.lake).query("SELECT ts FROM interactions ORDER BY native_id")["ts"].to_pylist()
    assert second - first == 3_600_000_000


def test_latency_is_never_negative(place: Workspace):
    spans = [chat_span(f"a{k}", startTimeUnixNano="1767614400000000000", endTimeUnixNano=end)
             for k, end in enumerate(("1767614399000000000", "1767614400000000000", "0", ""))]  # fmt: skip
    log(place.inbox / "a.jsonl", *map(traces, spans), asked("r-1", latency_ms=-5))
    capture(place)
    found = Lake(place.lake).query("SELECT latency_ms FROM interactions")["latency_ms"].to_pylist()
    assert found and all(ms is None or ms >= 0 for ms in found)


def test_links_out_of_a_folder_and_hidden_files_are_left_alone(place: Workspace, tmp_path: Path):
    outside = log(tmp_path / "outside.jsonl", asked("r-1"))
    (place.inbox / "link.jsonl").symlink_to(outside)
    log(place.inbox / ".hidden.jsonl", asked("r-2"))
    log(place.inbox / "deep" / "er" / "c.jsonl", asked("r-3"))
    capture(place)
    assert stored(place) == ["r-3"]


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "a.tgz"])
def test_an_archive_is_told_and_never_unpacked(place: Workspace, name: str):
    (place.inbox / name).write_bytes(b"PK\x03\x04 whatever")
    account = capture(place)
    assert account.rejected == 1
    assert "unpack" in rejected(place)[0][1] or "archive" in rejected(place)[0][0] or rejected(place)[0][0] == "truncated"


@pytest.mark.parametrize("field", ["id", "session_id", "response_id", "tenant", "prompt_name", "model_served"])
@pytest.mark.parametrize(
    "value", ["../../etc/passwd", "'; DROP TABLE interactions; --", "$(touch x)", "{{7*7}}", "=1+1", "a" * 5000]
)
def test_odd_names_are_values_and_come_back_as_they_were(place: Workspace, field: str, value: str):
    before = sorted(p for p in place.root.parent.rglob("*") if not p.is_relative_to(place.root))
    log(place.inbox / "a.jsonl", asked("r-1") | {field: value})
    assert capture(place).stored == 1
    column = {"id": "native_id"}.get(field, field)
    assert Lake(place.lake).query(f"SELECT {column} AS v FROM interactions")["v"].to_pylist() == [value]
    assert sorted(p for p in place.root.parent.rglob("*") if not p.is_relative_to(place.root)) == before


def test_what_capture_writes_is_for_its_owner_alone(place: Workspace):
    log(place.inbox / "a.jsonl", asked("r-1"))
    old = os.umask(0o022)
    try:
        quiet_environment()
        capture(place)
    finally:
        os.umask(old)
    for path in [*place.raw.rglob("*"), *place.lake.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_the_raw_segments_hold_every_good_byte_of_what_was_rejected(place: Workspace):
    lines = [b"\xff not text", b'{"who": 1}', orjson.dumps(asked("r-1", time="noon"))]
    log(place.inbox / "a.jsonl", *lines)
    capture(place)
    ((_, body),) = Segments(place.raw).all()
    assert lines[0] in body and b'"who":1' in body.replace(b" ", b"")
