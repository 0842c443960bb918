"""The hand-off by files: batches that appear whole, answers in lines and in sheets, and names that lead nowhere."""

from __future__ import annotations

import csv
import io
import os
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import BadRecord, Refused
from tasks.kinds import KINDS, RANKING, RATING, SPANS, TEXT, Ask, Kind, checked, with_options
from tasks.live.handoff import sheet as sheets
from tasks.live.handoff.files import Files
from tasks.live.handoff.notation import read, written
from tasks.live.handoff.sheet import column, guarded, sheet, unguarded
from tasks.live.handoff.tool import Handout, shuffled
from tasks.live.workspace import Workspace
from tests.handmade import workspace
from tests.tool_conformance import APPROVED, BATCH, SCENARIOS, VALUES, ask, handout, taken

TIME = "2026-01-06T09:{:02}:{:02}Z"


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return workspace(tmp_path / "work")


@pytest.fixture
def tool(place: Workspace) -> Files:
    return Files(place)


class AtLines:
    """Somebody whose own program appends answer lines."""

    kinds = tuple(KINDS)
    withdraws = skips = True

    def __init__(self, place: Workspace):
        self.place, self.said = place, 0

    def answer(self, ask: Ask, annotator: str, value: dict[str, Any]) -> None:
        self._say(ask, annotator, value, "submitted")

    def skip(self, ask: Ask, annotator: str) -> None:
        self._say(ask, annotator, {}, "skipped")

    def withdraw(self, ask: Ask, annotator: str) -> None:
        self._say(ask, annotator, {}, "withdrawn")

    def _say(self, ask: Ask, annotator: str, value: dict[str, Any], status: str) -> None:
        self.said += 1
        line = {
            "batch_id": ask.batch_id, "candidate_id": ask.candidate_id, "kind": ask.kind, "content_hash": ask.content_hash,
            "annotator": annotator, "value": value, "time": TIME.format(*divmod(self.said, 60)), "status": status,
            "shown": [a["id"] for a in shuffled(ask)],
        }  # fmt: skip
        with (self.place.answers / f"{annotator}.jsonl").open("ab") as f:
            f.write(orjson.dumps(line) + b"\n")


class AtSheets(AtLines):
    """Somebody with a spreadsheet: opens batch.csv, fills in rows, saves it under her own name."""

    def _say(self, ask: Ask, annotator: str, value: dict[str, Any], status: str) -> None:
        self.said += 1
        file = self.place.answers / f"{annotator}.csv"
        if not file.exists():
            file.write_bytes(b"")
        names, rows = _opened(file.read_bytes())
        for source in sorted((self.place.outbox / ask.batch_id).glob("batch*.csv")):
            more, found = _opened(source.read_bytes())
            names += [n for n in more if n not in names]
            have = {(r["candidate_id"], r["kind"], r["round"]) for r in rows}
            rows += [r for r in found if (r["candidate_id"], r["kind"], r["round"]) not in have]
        (row,) = (r for r in rows if (r["candidate_id"], r["kind"], r["round"]) == (ask.candidate_id, ask.kind, str(ask.round)))
        kind = KINDS[ask.kind]
        cells = written(kind, checked(kind, value, ask, APPROVED), replace(ask, answers=shuffled(ask))) if value else {}
        row.update({column(f.name): guarded(cells.get(f.name, "")) for f in kind.fields})
        row.update({"annotator": annotator, "status": status, "time": TIME.format(*divmod(self.said, 60))})
        file.write_bytes(_saved(names, rows))


def _opened(data: bytes) -> tuple[list[str], list[dict[str, str]]]:
    reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""))
    rows = list(reader)
    return list(reader.fieldnames or []), rows


def _saved(names: list[str], rows: list[dict[str, str]], **options: Any) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names, restval="", **options)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


@pytest.mark.parametrize("person", [AtLines, AtSheets])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.__name__)
def test_files_conform(scenario, person, place: Workspace, tool: Files):
    scenario(tool, person(place))


# Sending


def test_a_batch_is_a_folder_of_deterministic_files(place: Workspace, tool: Files, tmp_path: Path):
    out = handout(KINDS)
    folder = Path(tool.send(out))
    assert [p.name for p in place.outbox.iterdir()] == [BATCH]
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    guidelines = sorted(f"guidelines/{k}-1.md" for k in KINDS)
    assert names == sorted(["batch.csv", "batch.jsonl", "catalogue.jsonl", "kinds.json", *guidelines])
    asks = [orjson.loads(line) for line in (folder / "batch.jsonl").read_bytes().splitlines()]
    assert asks == [asdict(replace(a, answers=shuffled(a))) for a in out.asks]
    other = Path(Files(workspace(tmp_path / "other")).send(out))
    assert all((folder / n).read_bytes() == (other / n).read_bytes() for n in names)
    assert oct(folder.stat().st_mode & 0o777) == "0o700"


def test_a_killed_send_leaves_no_folder_and_is_done_again(place: Workspace, tool: Files, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(OSError("killed")))
        with pytest.raises(OSError, match="killed"):
            tool.send(handout(["note"]))
    assert not (place.outbox / BATCH).exists() and tool.status().open == 0
    tool.send(handout(["note"]))
    assert [p.name for p in place.outbox.iterdir()] == [BATCH]


def test_a_later_round_joins_the_folder_and_brings_what_is_new(place: Workspace, tool: Files):
    folder = Path(tool.send(handout(["sentiment", "answer"])))
    before = (folder / "batch.jsonl").read_bytes()
    tool.send(handout(["note"], round=2))
    assert (folder / "batch.jsonl").read_bytes() == before
    assert (folder / "batch-2.jsonl").is_file() and (folder / "batch-2.csv").is_file()
    assert (folder / "guidelines" / "note-1.md").is_file()
    assert sorted(orjson.loads((folder / "kinds.json").read_bytes())) == ["answer", "note", "sentiment"]
    assert tool.status().open == 3


@pytest.mark.parametrize("name", ["", ".", "..", "../out", "/tmp/out", "a/b", ".hidden", "../../etc"])
def test_a_batch_can_not_be_written_elsewhere(name: str, tool: Files, place: Workspace):
    with pytest.raises(Refused, match="can't be the name"):
        tool.send(Handout(name, 1, [], {}, {}, []))
    assert not place.outbox.exists() or not list(place.outbox.iterdir())


def test_a_link_in_the_outbox_is_not_followed(place: Workspace, tool: Files, tmp_path: Path):
    place.outbox.mkdir()
    (place.outbox / BATCH).symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(Refused, match="can't be the name"):
        tool.send(handout(["note"]))
    assert not (tmp_path / "batch.jsonl").exists()


def test_a_cancelled_ask_is_noted_once(place: Workspace, tool: Files):
    tool.send(handout(["note", "sentiment"]))
    for asks in (["as_note"], ["as_note", "as_nobody"], ["as_note", "as_sentiment"]):
        tool.cancel(asks)
    noted = (place.outbox / BATCH / "cancelled.jsonl").read_bytes()
    assert noted == b'{"ask_id":"as_note"}\n{"ask_id":"as_sentiment"}\n' and tool.status().open == 0


# Receiving


def test_a_torn_last_line_waits_and_is_told(place: Workspace, tool: Files):
    tool.send(handout(["sentiment"]))
    AtLines(place).answer(ask("sentiment"), "ana", VALUES["sentiment"][0])
    file = place.answers / "ana.jsonl"
    line = file.read_bytes()
    file.write_bytes(line + line[:40])
    assert len(taken(tool)) == 1
    assert tool.unfinished == ["ana.jsonl: 40 bytes without a line end wait for the rest"]
    file.write_bytes(line + line)
    assert len(taken(tool)) == 1 and tool.unfinished == []


def test_what_is_no_file_of_the_folder_is_not_read(place: Workspace, tool: Files, tmp_path: Path):
    secret = tmp_path / "secret.jsonl"
    secret.write_bytes(b'{"a":1}\n')
    (place.answers / "link.jsonl").symlink_to(secret)
    (place.answers / "link.csv").symlink_to(secret)
    (place.answers / "dangling.csv").symlink_to(tmp_path / "nothing")
    (place.answers / "folder.csv").mkdir()
    os.mkfifo(place.answers / "pipe.jsonl")
    (place.answers / ".ana.jsonl.tmp.csv").write_bytes(b"half")
    assert list(tool.receive()) == [] and tool.status().open == 0
    assert len(tool.unfinished) == 5 and all("it is not read" in t for t in tool.unfinished)


def filled(place: Workspace, kind: str = "sentiment", **cells: str) -> tuple[list[str], list[dict[str, str]]]:
    Files(place).send(handout([kind]))
    names, (row,) = _opened((place.outbox / BATCH / "batch.csv").read_bytes())
    return names, [row | {"annotator": "ana", "sentiment": "negative"} | cells]


@pytest.mark.parametrize(
    "saved",
    [
        lambda data, rows: data.encode("utf-8-sig"),
        lambda data, rows: data.replace("\r\n", "\n").encode(),
        lambda data, rows: data.encode("utf-16"),
        lambda data, rows: _saved(*rows, delimiter=";"),
        lambda data, rows: _saved(*rows, delimiter="\t"),
        lambda data, rows: _saved(["mine", *rows[0]], rows[1]),
        lambda data, rows: _saved(list(reversed(rows[0])), rows[1]),
        lambda data, rows: (data + "\r\n,,,\r\n").encode(),
    ],
    ids=["bom", "lf", "utf-16", "semicolons", "tabs", "own column", "other order", "empty rows"],
)
def test_a_sheet_is_read_however_it_was_saved(saved, place: Workspace, tool: Files):
    rows = filled(place)
    (place.answers / "ana.csv").write_bytes(saved(_saved(*rows).decode(), rows))
    (row,) = taken(tool)
    assert row["value"] == {"sentiment": "negative"} and row["native_id"] == "line 2"
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", row["time"]), "when the sheet was saved"


@pytest.mark.parametrize(
    ("cells", "code", "message"),
    [
        ({"annotator": ""}, "missing_field", "no annotator"),
        ({"candidate_id": "cd_x"}, "unknown_candidate", "never sent"),
        ({"batch_id": "../../etc"}, "unknown_candidate", "never sent"),
        ({"kind": "safety"}, "unknown_candidate", "never sent"),
        ({"round": "7"}, "unknown_candidate", "never sent"),
        ({"content_hash": "ch_2"}, "changed_content", "content_hash"),
        ({"status": "perhaps"}, "bad_value", "status"),
    ],
)
def test_a_bad_row_is_a_flaw_with_its_line_and_the_rest_is_read(cells, code, message, place: Workspace, tool: Files):
    names, (row,) = filled(place)
    first = row | {"note": "two\nlines"}
    (place.answers / "ana.csv").write_bytes(_saved(names, [first, row | cells, row]))
    (delivery,) = tool.receive()
    (flaw,) = delivery.flaws
    line = _saved(names, [first]).count(b"\n") + 1
    assert flaw.code == code and flaw.message.startswith(f"line {line}: ") and message in flaw.message
    assert len(delivery.data.splitlines()) == 2
    delivery.accepted()
    assert list(tool.receive()) == []


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "bad_csv"),
        (b"\xff\xfe", "bad_csv"),
        (b"\x00\x00\x00", "bad_csv"),
        (b"a,b,c\r\n1,2,3\r\n", "bad_csv"),
        (b"batch_id,candidate_id,kind,annotator\r\n", "bad_csv"),
        ("batch_id,candidate_id,kind,content_hash,annotator\r\nZo\xeb".encode("latin-1"), "bad_encoding"),
        (b'batch_id,candidate_id,kind,content_hash,annotator\r\n"torn', "bad_csv"),
        (b'batch_id,candidate_id,kind,content_hash,annotator\r\n"a"b,c', "bad_csv"),
        (b"batch_id,candidate_id,kind,content_hash,annotator\r\n1,2,3,4,5,6\r\n", "bad_csv"),
        (b"PK\x03\x04" + bytes(range(256)), "bad_encoding"),
    ],
)
def test_a_file_that_is_no_sheet_is_a_flaw(data: bytes, code: str, place: Workspace, tool: Files):
    tool.send(handout(["sentiment"]))
    (place.answers / "ana.csv").write_bytes(data)
    (delivery,) = tool.receive()
    assert delivery.data == b"" and [f.code for f in delivery.flaws] == [code]
    assert delivery.flaws[0].message.startswith("line ")
    tool.status()
    delivery.accepted()
    assert list(tool.receive()) == []


def test_only_changed_rows_of_a_sheet_come_again(place: Workspace, tool: Files):
    person = AtSheets(place)
    out = handout(["sentiment", "intent"])
    tool.send(out)
    for a in out.asks:
        person.answer(a, "ana", VALUES[a.kind][0])
    assert len(taken(tool)) == 2
    person.answer(out.asks[0], "ana", VALUES["sentiment"][1])
    assert [r["kind"] for r in taken(tool)] == ["sentiment"]
    os.utime(place.answers / "ana.csv")
    assert taken(tool) == [], "saved again without a change"


def test_a_row_that_nobody_answered_is_no_answer(place: Workspace, tool: Files):
    Files(place).send(handout(["sentiment"]))
    names, (row,) = _opened((place.outbox / BATCH / "batch.csv").read_bytes())
    (place.answers / "ana.csv").write_bytes(_saved(names, [row, row | {"annotator": "ana"}]))
    (delivery,) = tool.receive()
    assert (delivery.data, delivery.flaws) == (b"", [])


# Sheets and their notation


def test_a_sheet_is_sane_csv_for_others(place: Workspace, tool: Files):
    path = Path(tool.send(handout(KINDS))) / "batch.csv"
    names, rows = _opened(path.read_bytes())
    assert names[:5] == ["batch_id", "candidate_id", "kind", "content_hash", "round"] and len(rows) == len(KINDS)
    assert "value.note" in names and names.count("note") == 1
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert frame.to_dict("records") == rows
    table = duckdb.sql(f"SELECT * FROM read_csv('{path}', all_varchar=true, header=true, quote='\"', escape='\"')")
    assert [dict(zip(names, (c or "" for c in r), strict=True)) for r in table.fetchall()] == rows
    assert not [c for r in rows for c in r.values() if sheets.FORMULA.match(c)], "a cell that would be run"
    assert rows[0]["question"] == ask("answer").question and rows[0]["response"] == ask("answer").response


@pytest.mark.parametrize("start", [*"=+-@\t\r\n＝＋－＠", "  =", '"=', "'=", "' \"＝", "\ufeff="])
def test_what_a_spreadsheet_would_run_is_led_by_one_apostrophe(start: str):
    text = f"{start}cmd|' /C calc'!A0"
    assert guarded(text) == f"'{text}" and unguarded(guarded(text)) == text


def test_a_text_keeps_its_own_apostrophe_also_where_a_program_swallows_the_first():
    assert guarded("'tis fine") == "''tis fine"
    assert unguarded("''tis fine") == unguarded("'tis fine") == "'tis fine"


@given(st.text())
def test_the_guard_is_taken_away_exactly(text: str):
    assert unguarded(guarded(text)) == text
    assert unguarded(unguarded(guarded("'" + text))) in (text, "'" + text)
    assert sheets.FORMULA.match(guarded(text)) is None or guarded(text).startswith("'")


WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
OPTION = WORDS.filter(str.strip)


@st.composite
def answered(draw) -> tuple[Kind, Ask, dict[str, Any]]:
    """Any kind, some with options of their own, on any texts, and any value that it may have."""
    kind = draw(st.sampled_from(list(KINDS.values())))
    optional = [f.name for f in kind.fields if f.options and not any(g.when for g in kind.fields)]
    options = draw(st.lists(OPTION, min_size=2, max_size=4, unique=True))
    kind = with_options(kind, dict.fromkeys(optional, options)) if draw(st.booleans()) else kind
    text = draw(st.text("ab 😀\"',;:@<-[1]=\n\r\t\u2028{}", min_size=3, max_size=40))
    made = replace(ask(kind.name), question=text, response=text, contexts=[{"text": text}, {"text": "x" + text}])
    value: dict[str, Any] = {}
    for f in kind.fields:
        if f.when is not None and value.get(f.when[0]) != f.when[1]:
            continue
        if f.type == TEXT:
            value[f.name] = draw(WORDS.filter(str.strip))
        elif f.type == RATING:
            grade = st.integers(f.low, f.high)
            value[f.name] = {"0": draw(grade), "1": draw(grade)} if f.each else draw(grade)
        elif f.type == RANKING:
            order = draw(st.permutations([a["id"] for a in made.answers]))
            cut = draw(st.integers(0, 2))
            value[f.name] = [order[: cut + 1], *[[a] for a in order[cut + 1 :]]]
            value["unacceptable"] = draw(st.lists(st.sampled_from(order), unique=True))
        elif f.type == SPANS:
            value[f.name] = []
            for _ in range(draw(st.integers(0, 3))):
                label = draw(st.sampled_from(f.options))
                span = {**draw(_parts(text)), "label": label}
                if f.evidence and draw(st.booleans()):
                    place = draw(st.integers(0, 1))
                    span["evidence"] = {"context": place, **draw(_parts(made.contexts[place]["text"]))}
                value[f.name].append(span)
        elif f.source:
            value[f.name] = draw(st.sampled_from(sorted(APPROVED)))
        elif f.type == "choices":
            value[f.name] = draw(st.lists(st.sampled_from(f.options), unique=True))
        else:
            value[f.name] = draw(st.sampled_from(f.options))
    return kind, made, value


@st.composite
def _parts(draw, text: str) -> dict[str, Any]:
    start = draw(st.integers(0, len(text) - 1))
    end = draw(st.integers(start + 1, len(text)))
    return {"start": start, "end": end, "text": text[start:end]}


@settings(max_examples=400, deadline=None)
@given(answered())
def test_a_value_is_the_same_after_a_spreadsheet(case: tuple[Kind, Ask, dict[str, Any]]):
    kind, made, value = case
    want = checked(kind, value, made, APPROVED)
    cells = written(kind, want, made)
    assert checked(kind, read(kind, cells, made), made, APPROVED) == want
    row = {column(name): cell for name, cell in cells.items()} | {"annotator": "ana", "time": TIME.format(0, 0)}
    data = sheet([made], {kind.name: kind}, {made.ask_id: row})
    (back,) = sheets.answers(data, lambda *ids: (made, kind))
    assert checked(kind, back.answer["value"], made, APPROVED) == want


@pytest.mark.parametrize(
    ("kind", "cells", "code"),
    [
        ("spans", {"spans": "contradicted: 30 days"}, "bad_value"),
        ("spans", {"spans": "contradicted: 31 days"}, "changed_text"),
        ("spans", {"spans": "contradicted@3: 30 days"}, "changed_text"),
        ("spans", {"spans": "contradicted"}, "bad_value"),
        ("spans", {"spans": "contradicted:"}, "changed_text"),
        ("spans", {"spans": "contradicted@13: 30 days <- [9] 14 days"}, "bad_value"),
        ("spans", {"spans": "contradicted@13: 30 days <- [1] 14 days"}, "bad_value"),
        ("spans", {"spans": 'contradicted: "30 days'}, "bad_value"),
        ("spans", {"spans": 'contradicted: "\\ud800"'}, "bad_value"),
        ("ranking", {"ranks": "a > b > z"}, "unknown_answer"),
        ("ranking", {"ranks": "a > b > c ! z"}, "unknown_answer"),
        ("ranking", {"ranks": ">"}, "unknown_answer"),
        ("relevance", {"grades": "3"}, "bad_value"),
        ("relevance", {"grades": "3; high"}, "bad_value"),
        ("relevance", {"grades": "3; " + "9" * 5000}, "bad_value"),
        ("rubric", {"tone": "4.5"}, "bad_value"),
    ],
)
def test_a_cell_that_can_not_be_meant_is_refused(kind: str, cells: dict[str, str], code: str):
    with pytest.raises(BadRecord) as caught:
        read(KINDS[kind], cells, ask(kind))
    assert caught.value.code == code and len(caught.value.message) < 300


def test_an_option_may_be_called_none():
    kind = with_options(KINDS["topics"], {"topics": ["none", "other"]})
    for value in ({"topics": []}, {"topics": ["none"]}):
        cells = written(kind, value, ask("topics"))
        assert read(kind, cells, ask("topics")) == value
    assert read(KINDS["topics"], {"topics": "none"}, ask("topics")) == {"topics": []}


def test_people_may_write_as_people_do():
    assert read(KINDS["ranking"], {"ranks": "B>A=c!C , a"}, ask("ranking")) == {
        "ranks": [["an_b"], ["an_a", "an_c"]],
        "unacceptable": ["an_c", "an_a"],
    }
    assert read(KINDS["relevance"], {"grades": "3,0; 1.0"}, ask("relevance")) == {"grades": {"0": 3, "1": 1}}
    assert read(KINDS["topics"], {"topics": " billing;delivery ; "}, ask("topics")) == {"topics": ["billing", "delivery"]}
    assert read(KINDS["safety"], {"policies": "none"}, ask("safety")) == {"policies": []}


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_are_too_strange_for_a_sheet(data: bytes, headed: bool):
    header = b"batch_id,candidate_id,kind,content_hash,annotator,spans\r\nbt,cd,spans,ch_1,ana," if headed else b""
    for row in sheets.answers(header + data, lambda *ids: (ask("spans"), KINDS["spans"])):
        assert isinstance(row, sheets.Row) or row.message.startswith("line ")


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.text(st.sampled_from('ab30 days"[]<-:;@>=!,.\\ud8\n😀contradicted'), max_size=40))
def test_no_cell_is_too_strange_to_be_read_or_refused(name: str, cell: str):
    kind, made = KINDS[name], ask(name)
    try:
        value = read(kind, {f.name: cell for f in kind.fields}, made)
        orjson.dumps(value)
        checked(kind, value, made, APPROVED)
    except BadRecord:
        pass


def test_a_sheet_beyond_all_measure_is_not_read(place: Workspace, tool: Files, monkeypatch: pytest.MonkeyPatch):
    tool.send(handout(["note"]))
    (place.answers / "ana.csv").write_bytes(b"x" * 1000)
    monkeypatch.setattr("tasks.live.handoff.files.MAX_DOCUMENT_BYTES", 999)
    (delivery,) = tool.receive()
    assert [f.code for f in delivery.flaws] == ["too_long"]
    delivery.accepted()
    assert list(tool.receive()) == [] and tool.status().open == 1
