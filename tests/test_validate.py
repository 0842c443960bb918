"""The stage that validates: a clean data set passes, and every fault of every table is found, with the row that has it."""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.errors import Refused
from tasks.params import load
from tasks.policy import folder_digest
from tasks.records import canonical
from tasks.stages import validate
from tasks.validation import facts, report, suites, tables
from tests import clean
from tests.imports import ROOT
from tests.planted import NO_QUESTION, PLANTS, World

pytestmark = pytest.mark.slow  # Great Expectations takes seconds to import, and as many to look at a data set
ARGUMENTS = {
    "frozen": "frozen", "curated": "curated", "dataset": "dataset", "report": "reports/validation.json",
    "page": "reports/validation.md", "profile": "reports/profile.json", "quarantine": "reports/validation-quarantine.jsonl",
}  # fmt: skip
COMMAND = [x for name, path in ARGUMENTS.items() for x in (f"--{name}", path)]
# Found in a table as a whole, or in several rows at once: planted one by one below.
OF_TABLES = {
    "too_few_rows", "one_row", "all_duplicates", "single_class", "one_sided", "one_answer", "imbalance", "drift", "duplicate_id",
    "duplicate_interaction", "judged_twice", "answered_twice", "malformed_json", "few_groups", "disagreement",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """A data set in a folder of its own, and what the stage says of it."""

    root: Path

    def rows(self, table: str) -> list[dict[str, Any]]:
        return [asdict(r) for r in clean.read(self.root, table)]

    def change(self, table: str, to: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
        clean.rewrite(self.root, table, to(self.rows(table)))

    def run(self) -> int:
        with contextlib.chdir(self.root):
            return validate.main(COMMAND)

    def document(self) -> dict[str, Any]:
        return orjson.loads((self.root / ARGUMENTS["report"]).read_bytes())

    def quarantined(self) -> list[dict[str, Any]]:
        return [orjson.loads(x) for x in (self.root / ARGUMENTS["quarantine"]).read_bytes().splitlines()]

    def broken(self, *tables_: str, **changes: Any) -> list[Any]:
        """Findings that failed, of some tables only: a tenth of the time."""
        with contextlib.chdir(self.root):
            params = load(Path("params.yaml"), "validate", validate.ValidateParams)
            places = clean.folders(self.root)
            listed = suites.read(validate.SUITES, places)
            needed = facts.minimums(changes.get("min_rows", params.min_rows), places)
            found = validate.examine(listed, places, self.root / "frozen", needed, params, tables_)
        return [f for f in found.findings if not f.passed]

    def codes(self, *tables_: str, **changes: Any) -> set[tuple[str, str, str]]:
        return {(f.table, f.severity, f.code) for f in self.broken(*tables_, **changes)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean data set with some rows of every table."""
    root = tmp_path_factory.mktemp("clean")
    clean.dataset(root)
    return root


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean data set with so many rows of every table that each fault has one of its own."""
    root = tmp_path_factory.mktemp("wide")
    clean.dataset(root, exchanges=260, kinds=13)
    # Every guideline has an older version, which said something else.
    for guideline in sorted((root / "frozen/guidelines").glob("*-1.md")):
        older = guideline.with_name(guideline.name.replace("-1.md", "-0.md"))
        older.write_text(guideline.read_text(encoding="utf-8") + "\n## gone\nWhat was once so.\n", encoding="utf-8")
    return root


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Iterator[Place]:
    yield Place(Path(shutil.copytree(made, tmp_path / "d")))


def test_a_clean_data_set_passes_with_no_finding_of_any_severity(place: Place):
    assert place.run() == 0
    document = place.document()
    assert document["success"] is True and document["failed"] == {"critical": 0, "warning": 0, "info": 0}
    assert [f for f in document["findings"] if not f["passed"]] == []
    assert place.quarantined() == [] and document["quarantined"] == {"rows": 0, "by": {}}
    assert min(document["tables"][t] for t in document["tables"] if not t.startswith("dropped")) > 0


@pytest.mark.parametrize("seed", range(1, 4))
def test_no_clean_data_set_raises_a_false_alarm(tmp_path: Path, seed: int):
    clean.dataset(tmp_path, seed, exchanges=120)
    place = Place(tmp_path)
    assert place.run() == 0
    assert [f for f in place.document()["findings"] if not f["passed"]] == []


# Every expectation of every suite, broken once


@pytest.mark.parametrize("table", sorted(PLANTS))
def test_every_planted_fault_of_a_table_is_found_in_its_row_and_nowhere_else(wide: Path, tmp_path: Path, table: str):
    place = Place(Path(shutil.copytree(wide, tmp_path / "d")))
    world = World({name: place.rows(name) for name in ("exchanges", "evaluation")})
    rows = place.rows(table)
    id = next(iter(rows[0]))
    expected, used = set(), set()
    for plant in PLANTS[table]:
        number = next(n for n, row in enumerate(rows) if n not in used and plant.fits(row))
        used.add(number)
        rows[number] = rows[number] | plant.change(rows[number], world)
        expected |= {(code, rows[number][id]) for code in {plant.code, *plant.also}}
    clean.rewrite(place.root, table, rows)
    with contextlib.chdir(place.root):
        params = load(Path("params.yaml"), "validate", validate.ValidateParams)
        places = clean.folders(place.root)
        listed = suites.read(validate.SUITES, places)
        found = validate.examine(listed, places, place.root / "frozen", dict.fromkeys(places, 0), params, [table])
    assert {(r["code"], r["row"]) for r in found.quarantined} == expected
    assert [f for f in found.findings if not f.passed and not f.rows] == [], "and nothing is said of a table as a whole"


def test_every_expectation_has_a_fault_that_breaks_it():
    listed = suites.read(validate.SUITES, clean.folders(Path("nowhere")))
    missing = {
        (table, e["meta"]["code"])
        for s in listed
        for table in s.tables
        for e in s.expectations
        if e["meta"]["code"] not in OF_TABLES | {p.code for p in PLANTS.get(table, PLANTS["dropped"])}
    }
    # Of many questions together, below; and a table without texts can hold no personal data.
    assert missing == {
        ("exchanges", "no_question"),
        ("dropped", "personal_data"),
        ("dropped_by_build", "personal_data"),
    }


def test_suites_declare_the_columns_that_the_stages_write():
    from tasks.records import arrow_schema

    types = {"string": "VARCHAR", "int64": "BIGINT", "double": "DOUBLE", "bool": "BOOLEAN"}
    for s in suites.read(validate.SUITES, clean.folders(Path("nowhere"))):
        for table in s.tables:
            written = {f.name: types[str(f.type)] for f in arrow_schema(clean.row_of(table))}
            declared = {c: "VARCHAR" if kind == "JSON" else kind for c, kind in s.columns.items()}
            assert declared == written, table


def test_each_table_of_the_data_set_has_a_suite():
    listed = suites.read(validate.SUITES, places := clean.folders(Path("nowhere")))
    assert {t for s in listed for t in s.tables} == set(places)


# A table as a whole


def test_an_empty_table_that_is_needed_is_refused_and_another_is_not(place: Place):
    place.change("sft", lambda rows: [])
    place.change("rubric", lambda rows: [])
    assert place.run() == 3
    failed = [f for f in place.document()["findings"] if not f["passed"]]
    assert [(f["table"], f["code"], f["observed"]) for f in failed if f["severity"] == "critical"] == [
        ("sft", "empty_table", "0")
    ]


def test_too_few_rows_are_refused_with_their_number(place: Place):
    place.change("evaluation", lambda rows: rows[:7])
    (finding,) = [f for f in place.broken("evaluation") if f.severity == "critical"]
    assert (finding.code, finding.observed) == ("too_few_rows", "7")


@pytest.mark.parametrize(
    ("kept", "code"),
    [
        (lambda rows: rows[:1], "one_row"),
        (lambda rows: [r | {k: rows[0][k] for k in ("messages", "action")} for r in rows], "all_duplicates"),
        (lambda rows: [r | {"messages": _answered(r["messages"], rows[0]["messages"])} for r in rows], "single_class"),
    ],
)  # fmt: skip
def test_a_data_set_that_teaches_one_thing_only_is_refused_with_a_reason(place: Place, kept: Callable, code: str):
    place.change("sft", kept)
    found = place.codes("sft", min_rows=["sft: 1"])
    assert ("sft", "critical", code) in found
    assert {c for _, severity, c in found if severity == "critical"} <= {code, "single_class", "all_duplicates"}


def _answered(messages: str, other: str) -> str:
    return canonical([*orjson.loads(messages)[:-1], orjson.loads(other)[-1]]).decode()


def test_labels_of_one_class_and_lopsided_ones_are_told_apart(place: Place):
    place.change("unpaired", lambda rows: [r | {"label": True} for r in rows])
    assert place.codes("unpaired", min_rows=["unpaired: 20"]) == {
        ("unpaired", "critical", "single_class"),
        ("unpaired", "warning", "one_sided"),
    }
    assert place.codes("unpaired") == {("unpaired", "warning", "one_sided")}, "nobody asked for it"
    place.change("unpaired", lambda rows: [r | {"label": n > 3} for n, r in enumerate(rows)])
    assert place.codes("unpaired", min_rows=["unpaired: 20"]) == {("unpaired", "warning", "one_sided")}


def test_an_answer_that_is_most_of_the_targets_is_a_warning(place: Place):
    place.change(
        "sft",
        lambda rows: [
            r | ({"messages": _answered(r["messages"], rows[0]["messages"])} if n % 3 else {})
            for n, r in enumerate(rows)
        ],
    )
    assert place.codes("sft") == {("sft", "warning", "one_answer")}


def test_an_id_that_two_rows_have_is_refused(place: Place):
    place.change("sft", lambda rows: [rows[0] | {"example_id": rows[1]["example_id"]}, *rows[1:]])
    (finding,) = place.broken("sft")
    assert (finding.code, finding.count, finding.rows) == ("duplicate_id", 2, [place.rows("sft")[0]["example_id"]])


@pytest.mark.parametrize(
    ("table", "columns", "code", "severity"),
    [
        ("evaluation", ("interaction_id", "group_id"), "duplicate_interaction", "critical"),
        ("judgements", ("interaction_id", "kind", "group_id", "side", "part"), "judged_twice", "critical"),
        ("annotations", ("interaction_id", "kind", "annotator"), "answered_twice", "warning"),
        ("thumbs", ("interaction_id", "user"), "answered_twice", "critical"),
    ],
)
def test_what_may_happen_once_is_found_where_it_happens_twice(
    place: Place, table: str, columns: tuple[str, ...], code: str, severity: str
):
    place.change(table, lambda rows: [rows[0] | {c: rows[1][c] for c in columns}, *rows[1:]])
    assert (table, severity, code) in place.codes(table)
    assert {s for _, s, c in place.codes(table) if c != code} <= {"info"}


def test_labels_of_few_groups_are_a_warning(place: Place):
    place.change("exchanges", lambda rows: [r | {"group_id": f"gr_{r['side']}"} for r in rows])
    place.change("labels", lambda rows: [r | {"group_id": f"gr_{r['side']}"} for r in rows])
    assert place.codes("labels") == {("labels", "warning", "few_groups")}


def test_people_who_agree_by_chance_only_are_a_warning(place: Place):
    choices = [
        {"verdict": "right"},
        {"verdict": "wrong", "correction": "refund"},
        {"verdict": "wrong", "correction": "battery"},
    ]
    by = {"ana": 0, "ben": 1, "cem": 2}
    place.change("annotations", lambda rows: [
        r | ({"value": canonical(choices[(n + by[r["annotator"]]) % 3]).decode()} if r["kind"] == "answer" else {})
        for n, r in enumerate(rows)
    ])  # fmt: skip
    (finding,) = place.broken("annotations")
    assert (finding.severity, finding.code) == ("warning", "disagreement")
    assert finding.observed.startswith("answer: alpha")


def test_questions_without_words_are_a_warning_when_they_are_many(place: Place):
    place.change("exchanges", lambda rows: [r | ({"question": ""} if n < 8 else {}) for n, r in enumerate(rows)])
    assert place.codes("exchanges") == {("exchanges", "warning", "no_question")}


def test_json_that_is_none_is_refused_by_its_row_and_stops_no_other_check(place: Place):
    rows = place.rows("sft")
    place.change("sft", lambda rows: [rows[0] | {"messages": '[{"role": "user"'}, rows[1] | {"weight": 7.0}, *rows[2:]])
    found = {(f.code, *f.rows) for f in place.broken("sft")}
    assert {("malformed_json", rows[0]["example_id"]), ("bad_weight", rows[1]["example_id"])} <= found
    assert not any("crashed" in f.why for f in place.broken("sft"))


# Columns


def _reshaped(place: Place, table: str, to: Callable[[pa.Table], pa.Table], second: bool = False) -> None:
    """Another shape of all rows, or of a second shard that holds half of them."""
    folder = clean.folders(place.root)[table]
    whole = pq.read_table(folder)
    shutil.rmtree(folder)
    folder.mkdir()
    half = whole.num_rows // 2 if second else 0
    if second:
        pq.write_table(whole.slice(0, half), folder / "0.parquet")
    pq.write_table(to(whole.slice(half)), folder / "1.parquet")


@pytest.mark.parametrize(
    ("to", "codes"),
    [
        (lambda t: t.drop_columns(["weight"]), {"missing_column"}),
        (
            lambda t: t.rename_columns(["wait" if c == "weight" else c for c in t.column_names]),
            {"missing_column", "extra_column"},
        ),
        (
            lambda t: t.set_column(t.column_names.index("weight"), "weight", t["weight"].cast(pa.string())),
            {"retyped_column"},
        ),
        (lambda t: t.append_column("mood", pa.array(["good"] * len(t))), {"extra_column"}),
    ],
    ids=["missing", "renamed", "retyped", "extra"],
)
@pytest.mark.parametrize("second", [False, True], ids=["in all shards", "in one shard"])
def test_a_column_that_is_not_as_declared_is_refused_with_its_shard(
    place: Place, to: Callable, codes: set[str], second: bool
):
    _reshaped(place, "sft", to, second)
    assert place.run() == 3
    failed = [f for f in place.document()["findings"] if not f["passed"] and f["severity"] == "critical"]
    assert {(f["table"], f["code"]) for f in failed} == {("sft", c) for c in codes}
    assert all(f["rows"] == ["1.parquet"] and f["expectation"] == "schema" for f in failed)


@pytest.mark.parametrize(
    ("contract", "severity", "code"), [("evolve", "warning", 0), ("discard", "info", 0), ("freeze", "critical", 3)]
)
def test_a_column_that_nobody_declared_is_treated_as_the_contract_says(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, contract: str, severity: str, code: int
):
    _own_suites(tmp_path, monkeypatch, sft=lambda s: s["meta"].update(contract=contract))
    _reshaped(place, "sft", lambda t: t.append_column("mood", pa.array(["good"] * len(t))), second=True)
    assert place.run() == code
    (finding,) = [f for f in place.document()["findings"] if not f["passed"]]
    assert (finding["severity"], finding["code"], finding["observed"]) == (
        severity,
        "extra_column",
        f"contract: {contract}",
    )
    if contract != "freeze":
        assert place.document()["tables"]["sft"] == len(
            pq.read_table(clean.folders(place.root)["sft"], columns=["example_id"])
        )


def test_a_shard_that_cannot_be_read_is_refused_by_its_name(place: Place):
    (clean.folders(place.root)["preference"] / "9.parquet").write_bytes(b"PAR1 and then nothing")
    assert place.run() == 3
    (finding,) = [f for f in place.document()["findings"] if not f["passed"] and f["severity"] == "critical"]
    assert (finding["table"], finding["code"], finding["rows"]) == ("preference", "unreadable_shard", ["9.parquet"])


def test_a_table_that_is_not_there_is_refused(place: Place):
    shutil.rmtree(clean.folders(place.root)["holdout_spans"])
    assert place.run() == 3
    (finding,) = [f for f in place.document()["findings"] if not f["passed"] and f["severity"] == "critical"]
    assert (finding["table"], finding["code"]) == ("holdout_spans", "missing_table")


# The wall


def _asking(row: dict[str, Any], text: str) -> dict[str, Any]:
    messages = orjson.loads(row["messages"])
    last = max(k for k, m in enumerate(messages) if m["role"] == "user")
    messages[last] = {**messages[last], "content": text}
    return row | {"messages": canonical(messages).decode()}


def test_planted_contamination_stops_the_snapshot_and_names_each_row_and_what_it_met(place: Place):
    sealed = place.rows("evaluation")
    questions = [orjson.loads(r["messages"])[-1]["content"] for r in sealed]
    long = next(n for n, q in enumerate(questions) if len(q.split()) > 11)
    place.change("sft", lambda rows: [
        _asking(rows[0], questions[3]),
        _asking(rows[1], "\u200b" + questions[4].upper().replace(" ", " - ") + "?!"),
        _asking(rows[2], f"hello there, {questions[long]} and that is all for today"),
        rows[3] | {"group_id": sealed[5]["group_id"]},
        rows[4] | {"beside": sealed[6]["interaction_id"]},
        *rows[5:],
    ])  # fmt: skip
    assert place.run() == 3
    rows = place.rows("sft")
    of = {
        r["example_id"]: r["interaction_id"]
        for name in clean.folders(place.root)
        if name.startswith(("hold", "eval"))
        for r in place.rows(name)
    }
    found = {
        (r["code"], r["row"], of[r["seen"].split()[-1]])
        for r in place.quarantined()
        if r["code"] not in ("wrong_side", "wrong_group")
    }
    assert found == {
        ("same_question", rows[0]["example_id"], sealed[3]["interaction_id"]),
        ("same_question", rows[1]["example_id"], sealed[4]["interaction_id"]),
        ("shared_passage", rows[2]["example_id"], sealed[long]["interaction_id"]),
        ("shared_group", rows[3]["example_id"], sealed[5]["interaction_id"]),
        ("shared_interaction", rows[4]["example_id"], sealed[6]["interaction_id"]),
    }


def test_words_that_everybody_says_give_nothing_away(place: Place):
    greeting = "good morning dear support team i hope that you are all very well on this fine day"
    (sealed, *_) = place.rows("evaluation")
    place.change("evaluation", lambda rows: [_asking(rows[0], f"{greeting} ku"), *rows[1:]])
    place.change("sft", lambda rows: [_asking(r, f"{greeting} {n}") for n, r in enumerate(rows)])
    assert ("sft", "critical", "shared_passage") not in place.codes("sft")
    place.change(
        "sft",
        lambda rows: [_asking(rows[0], f"{greeting} so"), *(_asking(r, f"so {n}") for n, r in enumerate(rows[1:]))],
    )
    assert ("sft", "critical", "shared_passage") in place.codes("sft"), (
        f"one who says it alone met {sealed['example_id']}"
    )


def test_a_part_of_a_short_question_gives_nothing_away_the_whole_does(place: Place):
    short = "when does your shop in the old harbour open"
    place.change("evaluation", lambda rows: [_asking(rows[0], f"{short} today"), *rows[1:]])
    place.change("sft", lambda rows: [_asking(rows[0], f"{short} tomorrow"), *rows[1:]])
    assert ("sft", "critical", "shared_passage") not in place.codes("sft")
    place.change("sft", lambda rows: [_asking(rows[0], f"tell me {short} today please"), *rows[1:]])
    assert ("sft", "critical", "shared_passage") in place.codes("sft")


def test_a_question_as_long_as_a_book_costs_no_memory(place: Place):
    place.change("sft", lambda rows: [_asking(rows[0], "one word after the other " * 40_000), *rows[1:]])
    assert place.codes("sft") == {("sft", "warning", "too_long")}


# Against the snapshot before


def test_slices_and_columns_that_changed_since_the_snapshot_before_are_warnings(place: Place):
    assert place.run() == 0
    shutil.copy(place.root / ARGUMENTS["profile"], place.root / "frozen/baseline.json")
    assert place.run() == 0
    assert place.document()["failed"] == {"critical": 0, "warning": 0, "info": 0}, "nothing has changed"
    place.change(
        "exchanges", lambda rows: [r | {"language": "fr" if n % 2 else r["language"]} for n, r in enumerate(rows)]
    )
    place.change("sft", lambda rows: [r | {"topic": "bike", "weight": 0.05} for r in rows])
    assert place.run() == 0
    failed = {
        (f["table"], f["severity"], f["code"]): f["observed"] for f in place.document()["findings"] if not f["passed"]
    }
    assert set(failed) == {
        ("exchanges", "warning", "imbalance"),
        ("sft", "warning", "imbalance"),
        ("sft", "warning", "drift"),
    }
    assert "-> 100.0%" in failed["sft", "warning", "imbalance"] and "median" in failed["sft", "warning", "drift"]
    assert "fr 0.0% -> 50.0%" in failed["exchanges", "warning", "imbalance"]


# Personal data


def test_a_hotline_of_ours_in_an_approved_answer_is_nobodys_personal_data(place: Place):
    ours, theirs = "call us at +49 30 901820", "call me at +49 30 1234567"
    path = place.root / "frozen/catalogue.jsonl"
    lines = [orjson.loads(x) for x in path.read_bytes().splitlines()]
    path.write_bytes(
        b"".join(canonical(a | ({"text": f"Please {ours}."} if a["id"] == "refuse" else {})) + b"\n" for a in lines)
    )

    def said(row: dict[str, Any], text: str) -> dict[str, Any]:
        messages = orjson.loads(row["messages"])
        return row | {
            "messages": canonical([*messages[:-1], {"role": "assistant", "content": f"Well\n{text}"}]).decode()
        }

    place.change("sft", lambda rows: [said(rows[0], ours), said(rows[1], theirs), *rows[2:]])
    (finding,) = place.broken("sft")
    assert (finding.code, finding.rows, finding.observed) == (
        "personal_data",
        [place.rows("sft")[1]["example_id"]],
        "PHONE",
    )


PERSONAL = (
    "kim.lee@example.org", "DE89 3704 0044 0532 0130 00", "4111 1111 1111 1111", "sk-proj-abcdefgh12345678XY",
    "my ssn is 536-90-4399",
    "192.168.17.33", "password=hunter2x", "k\u200bim.lee@example.org", "+49 30 1234567",
)  # fmt: skip


def test_what_redaction_would_find_is_found_wherever_it_stands(place: Place):
    said = [wrapped.format(text) for text in PERSONAL for wrapped in ("{}", "so\n{}\nyes", '"{}"', "tab\t{}")]

    def called(row: dict[str, Any], text: str) -> dict[str, Any]:
        function = {"name": "find", "arguments": canonical({"of": text}).decode()}
        call = {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "1", "type": "function", "function": function}],
        }
        return row | {"messages": canonical([{"role": "user", "content": "so"}, call]).decode()}

    def documented(row: dict[str, Any], text: str) -> dict[str, Any]:
        return row | {"contexts": canonical([{"id": "d1", "text": f"a {text} b"}]).decode()}

    for table, change in (("sft", called), ("prompts", documented)):
        place.change(
            table,
            lambda rows, change=change: [
                change(r, said[n // 2]) if n % 2 and n < 2 * len(said) else r for n, r in enumerate(rows)
            ],
        )
        rows = place.rows(table)
        expected = {rows[n]["example_id"] for n in range(1, 2 * len(said), 2)}
        assert place.run() == 3
        assert {
            r["row"] for r in place.quarantined() if r["table"] == table and r["code"] == "personal_data"
        } == expected


# Reports


def test_a_failing_row_is_in_the_quarantine_with_its_reason_and_all_of_them_are(place: Place):
    place.change("sft", lambda rows: [r | {"weight": 2.0} if n < 30 else r for n, r in enumerate(rows)])
    assert place.run() == 3
    (finding,) = [f for f in place.document()["findings"] if not f["passed"]]
    assert (finding["code"], finding["count"], len(finding["rows"])) == ("bad_weight", 30, validate.SHOWN_ROWS)
    rows = place.quarantined()
    assert {r["row"] for r in rows} == {r["example_id"] for r in place.rows("sft") if r["weight"] == 2.0}
    assert {(r["table"], r["code"], r["severity"], r["seen"]) for r in rows} == {
        ("sft", "bad_weight", "critical", "2.0")
    }
    assert place.document()["quarantined"] == {"rows": 30, "by": {"sft": 30}}


def test_warnings_pass_and_are_shown(place: Place):
    place.change("retrieval", lambda rows: [rows[0] | {"document": ""}, *rows[1:]])
    assert place.run() == 0
    document = place.document()
    assert document["success"] is True and document["failed"]["warning"] == 1
    assert "**warning**" in (place.root / ARGUMENTS["page"]).read_text(encoding="utf-8")


def test_reports_hold_no_text_of_anybody(place: Place):
    secret = "zanzibar unicorn"
    place.change("sft", lambda rows: [_said(r, f"{{{{ name }}}} {secret}") if n < 3 else r for n, r in enumerate(rows)])
    place.change(
        "exchanges",
        lambda rows: [
            r | {"question": "", "user": secret, "session_id": secret} if n < 9 else r for n, r in enumerate(rows)
        ],
    )
    place.run()
    assert sum(place.document()["failed"].values()) >= 2
    for name in ("report", "page", "profile", "quarantine"):
        assert secret not in (place.root / ARGUMENTS[name]).read_text(encoding="utf-8")


def _said(row: dict[str, Any], text: str) -> dict[str, Any]:
    messages = orjson.loads(row["messages"])
    return row | {"messages": canonical([*messages[:-1], {"role": "assistant", "content": text}]).decode()}


def test_markdown_of_hostile_values_is_text(place: Place):
    evil = "<img src=x onerror=alert(1)>|`**[x](javascript:1)"
    assert place.run() == 0
    document = place.document()
    document["findings"][0] |= {"passed": False, "table": evil, "observed": evil}
    page = report.as_markdown(document)
    assert "<img" not in page and "&lt;img" in page and r"\[x\](javascript" in page and "\\`" in page


def test_threads_and_places_change_no_byte(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    place.change("sft", lambda rows: [r | {"weight": 2.0, "copies": 0} if n % 2 else r for n, r in enumerate(rows)])
    digests = set()
    for threads, where in ((1, "a"), (4, "a much longer name of a folder")):
        monkeypatch.setattr(validate, "THREADS", threads)
        copy = Place(Path(shutil.copytree(place.root, tmp_path / where)))
        assert copy.run() == 3
        digests.add(folder_digest(copy.root / "reports"))
    assert len(digests) == 1


# Suites of a team's own


def _own_suites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **changes: Callable[[dict[str, Any]], Any]) -> Path:
    folder = Path(shutil.copytree(ROOT / "expectations", tmp_path / "expectations"))
    for name, change in changes.items():
        document = orjson.loads((folder / f"{name}.json").read_bytes())
        change(document)
        (folder / f"{name}.json").write_bytes(orjson.dumps(document))
    monkeypatch.setattr(validate, "SUITES", folder)
    return folder


OURS = {
    "name": "ours",
    "meta": {"tables": ["sft"], "id": "example_id", "derived": {"names_a_rival": "contains(lower(taught), 'acme')"}},
    "expectations": [
        {"type": "expect_column_values_to_be_in_set", "severity": "critical", "meta": {"code": "names_a_rival"},
         "description": "no answer names a rival", "kwargs": {"column": "names_a_rival", "value_set": [False]}}
    ],
}  # fmt: skip


def test_a_team_adds_a_suite_by_adding_a_file(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = _own_suites(tmp_path, monkeypatch)
    (folder / "ours.json").write_bytes(orjson.dumps(OURS))
    assert place.run() == 0
    place.change("sft", lambda rows: [_said(rows[0], "Ask Acme."), *rows[1:]])
    assert place.run() == 3
    (finding,) = [f for f in place.document()["findings"] if not f["passed"]]
    assert (finding["code"], finding["suite"], finding["rows"]) == (
        "names_a_rival",
        "ours",
        [place.rows("sft")[0]["example_id"]],
    )


@pytest.mark.parametrize("severity", ["critical", "warning", "info"])
def test_a_severity_is_one_word_of_a_suite(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, severity: str
):
    def change(suite: dict[str, Any]) -> None:
        next(e for e in suite["expectations"] if e["meta"]["code"] == "no_question")["severity"] = severity

    _own_suites(tmp_path, monkeypatch, prompts=change)
    ends = NO_QUESTION.change(place.rows("prompts")[0], World({}))
    place.change("prompts", lambda rows: [rows[0] | ends, *rows[1:]])
    assert place.run() == (3 if severity == "critical" else 0)
    assert place.document()["failed"][severity] == 1


def test_a_check_that_crashes_never_passes_whatever_its_severity(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = _own_suites(tmp_path, monkeypatch)
    sql = {"type": "unexpected_rows_expectation", "severity": "info", "meta": {"code": "x"}, "description": "it is so",
           "kwargs": {"unexpected_rows_query": "SELECT example_id FROM {batch} WHERE no_such_column"}}  # fmt: skip
    column = {"type": "expect_column_values_to_not_be_null", "severity": "warning", "meta": {"code": "y"},
    "description": "it is there",
              "kwargs": {"column": "no_such_column"}}  # fmt: skip
    (folder / "ours.json").write_bytes(orjson.dumps(OURS | {"expectations": [sql, column]}))
    assert place.run() == 3
    failed = [f for f in place.document()["findings"] if not f["passed"]]
    assert Counter((f["code"], f["severity"]) for f in failed) == {("x", "critical"): 1, ("y", "critical"): 1}
    assert all("crashed" in f["why"] and "no_such_column" in f["observed"] for f in failed)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (b"{not JSON", "is not JSON"),
        ({"meta": None}, "no 'meta'"),
        ({"meta": {"tables": ["sfd"], "id": "example_id"}}, "no table 'sfd'"),
        ({"meta": {"tables": ["sft"]}}, "no 'id' column"),
        ({"meta": {"tables": ["sft"], "id": "example_id", "colums": {}}}, "no key 'colums'"),
        ({"meta": {"tables": ["sft"], "id": "example_id", "columns": {"example_id": "VARCHAR"}}}, "declared by ours.json already"),
        ({"meta": {"tables": ["sft"], "id": "example_id", "includes": ["everything"]}}, "nothing to include as 'everything'"),
        ({"meta": OURS["meta"] | {"derived": {"taught": "'other'"}}}, "'taught' of 'sft' is said by"),
        ({"meta": OURS["meta"] | {"derived": {"origin": "'other'"}}}, "'origin' of 'sft' is said by sft.json"),
        ({"meta": {"tables": ["sft"], "id": "example_id", "derived": {"x": "no_such_word(taught)"}}}, "no_such_word"),
        ({"expectations": {}}, "no list of 'expectations'"),
        ({"expectations": [{}]}, "no 'type'"),
        ({"expectations": [OURS["expectations"][0] | {"severity": "urgent"}]}, "severity 'urgent'"),
        ({"expectations": [OURS["expectations"][0] | {"description": ""}]}, "doesn't say what must hold"),
        ({"expectations": [OURS["expectations"][0] | {"type": "expect_the_best"}]}, "no expectation expect_the_best"),
        ({"expectations": [OURS["expectations"][0] | {"kwargs": {"colum": "x"}}]}, "colum"),
    ],
)  # fmt: skip
def test_a_malformed_suite_is_refused_with_its_name_and_what_to_mend(
    place: Place,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: Any,
    says: str,
):
    folder = _own_suites(tmp_path, monkeypatch)
    (folder / "ours.json").write_bytes(change if isinstance(change, bytes) else orjson.dumps(OURS | change))
    assert place.run() == 3
    error = capsys.readouterr().err
    assert says in error and "fix:" in error and ("expectations/ours.json" in error or "expectations/sft.json" in error)


def test_a_folder_without_suites_is_refused(place: Place, tmp_path: Path):
    with pytest.raises(Refused, match="holds no suite"):
        suites.read(tmp_path, {})


@pytest.mark.parametrize("entry", ["sfd: 3", "sft", "sft: many", "sft: -1"])
def test_a_minimum_of_no_table_is_refused(entry: str):
    with pytest.raises(Refused, match="no table with a number"):
        facts.minimums([entry], {"sft": Path()})


def test_the_seal_and_the_training_side_are_told_apart():
    names = tables.places(Path("f"), Path("c"), Path("d"))
    assert (
        str(names["holdout_safety"]) == "d/parquet/holdout/safety" and str(names["safety"]) == "d/parquet/train/safety"
    )
    assert str(names["evaluation"]) == "d/parquet/holdout/evaluation" and "holdout_evaluation" not in names
