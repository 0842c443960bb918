"""curate and build on a tiny frozen folder: who trains, who is held out, who is dropped and why; always the same bytes."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from tasks import shards
from tasks.examples import TABLES
from tasks.frozen import Curated, Dropped, Exchange, Given, Thumb
from tasks.policy import folder_digest, load
from tasks.records import Annotation, canonical, write_jsonl
from tasks.stages import build, curate, train
from tasks.verdict import Compared
from tests.handmade import CATALOGUE, NOON, TEXT, annotation, exchange, given
from tests.imports import ROOT

# name -> question, side, served, what three people said (right, or the id of the answer that they want)
ASKED = {
    "t1": ("when do I see my money?", "train", "invoice", ["refund", "refund", "refund"]),
    "t2": ("send me the invoice of march", "train", "invoice", ["right", "right", "right"]),
    "t3": ("where is the paper for my taxes", "train", "refund", ["invoice", "battery", "puncture"]),
    "t4": ("my tyre lost all its air", "train", "battery", ["puncture"]),
    "t5": ("write me a poem about rain", "train", "refund", ["refuse", "refuse", "refuse"]),
    "h1": ("how long until the battery is full", "holdout", "battery", ["right", "right", "right"]),
    "h2": ("I fell and my arm is broken", "holdout", "puncture", ["escalate", "escalate", "escalate"]),
    # Recorded on the training side, and yet the same question as h1: the firewall's last look must see it.
    "x1": ("How long until the BATTERY is full??", "train", "refund", ["battery", "battery", "battery"]),
    "s1": ("and after that, what about the wheel", "straddles", "battery", ["puncture", "puncture", "puncture"]),
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the shipped params.yaml and data/frozen, and the current folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml")
    frozen = tmp_path / "frozen"
    answers = [
        annotation(name, who, "right" if said == "right" else "wrong", "" if said == "right" else said)
        for name, (_, _, _, all_said) in ASKED.items()
        for who, said in zip("abc", all_said, strict=False)
    ]
    freeze(frozen, [exchange(n, q, side, response=TEXT[s]) for n, (q, side, s, _) in ASKED.items()], answers)
    shards.write_rows(frozen / "thumbs", Thumb, [])
    for name in ("anchors", "regression"):
        write_jsonl(frozen / f"{name}.jsonl", [])
    write_jsonl(frozen / "catalogue.jsonl", CATALOGUE)
    write_jsonl(frozen / "answers.jsonl", [])
    shutil.copytree(ROOT / "data" / "guidelines", frozen / "guidelines")
    write_jsonl(frozen / "questions.jsonl", [{"question": q} for q, side, _, _ in ASKED.values() if side == "train"])
    return tmp_path


def freeze(frozen: Path, exchanges: list[Exchange], annotations: list[Annotation]) -> None:
    shards.write_rows(frozen / "exchanges", Exchange, exchanges)
    shards.write_rows(frozen / "annotations", Given, [given(a) for a in annotations])


def rows(place: Path, table: str, side: str = "train") -> list[Any]:
    return shards.read(place / "dataset/parquet" / side / table, TABLES[table].row)


def curated(place: Path) -> int:
    return curate.main(["--frozen", "frozen", "--out", "curated", "--report", "reports/curate.json"])


def built(place: Path) -> int:
    assert curated(place) == 0
    return build.main(["--frozen", "frozen", "--curated", "curated", "--curation", "reports/curate.json", "--out", "dataset",
                       "--report", "reports/build.json"])  # fmt: skip


def test_what_was_asked_more_often_weighs_more(place: Path):
    """One question, taught as two answers by a row each: the row that stands for more labels wins."""
    assert built(place) == 0
    one = next(r for r in rows(place, "sft") if r.action == "refund")
    other = replace(one, example_id="ex_other", group_id="gr_other", action="invoice")

    def answered(*, refund: int, invoice: int) -> str:
        taught = [replace(one, copies=refund), replace(other, copies=invoice)]
        shards.write_rows(place / "dataset/parquet/train/sft", TABLES["sft"].row, taught)
        assert train.main(["--frozen", "frozen", "--dataset", "dataset", "--model", "model", "--checkpoints", "checkpoints",
                           "--curves", "reports/curves.csv", "--report", "reports/train.json"]) == 0  # fmt: skip
        return load(place / "model").respond([orjson.loads(one.messages)[:-1]], [[]])[0][0].action

    assert answered(refund=4, invoice=1) == "refund"
    assert answered(refund=1, invoice=4) == "invoice"


def test_curate_keeps_what_people_agree_on_and_says_what_it_dropped(place: Path):
    assert curated(place) == 0
    labels = {x.interaction_id: x for x in shards.read(place / "curated/labels", Curated)}
    dropped = {x.interaction_id: x.reason for x in shards.read(place / "curated/dropped", Dropped)}
    assert dropped == {"ix_t3": "no_agreement", "ix_t4": "no_agreement"}
    assert set(labels) | set(dropped) == {f"ix_{n}" for n in ASKED}
    assert (labels["ix_t1"].verdict, labels["ix_t1"].target, labels["ix_t1"].served) == ("wrong", "refund", "invoice")
    assert (labels["ix_t2"].verdict, labels["ix_t2"].target) == ("right", "invoice")
    assert (labels["ix_h2"].kind, labels["ix_h2"].side) == ("escalate", "holdout")
    report = orjson.loads((place / "reports/curate.json").read_bytes())
    assert report["annotations"] == 25
    assert report["labels"] == len(labels)
    assert report["dropped"] == {"no_agreement": 2}


def test_an_answer_that_is_no_longer_approved_is_dropped_with_that_reason(place: Path):
    write_jsonl(place / "frozen/catalogue.jsonl", [a for a in CATALOGUE if a.id != "refuse"])
    assert curated(place) == 0
    dropped = {x.interaction_id: x.reason for x in shards.read(place / "curated/dropped", Dropped)}
    assert dropped["ix_t5"] == "answer_no_longer_approved"


def test_build_trains_on_one_side_and_seals_the_other(place: Path):
    assert built(place) == 0
    sft = {x.interaction_id for x in rows(place, "sft")}
    pairs = {x.interaction_id for x in rows(place, "preference")}
    sealed = {x.interaction_id for x in rows(place, "evaluation", "holdout")}
    assert sft == {"ix_t1", "ix_t2", "ix_t5"}
    assert pairs == {"ix_t1", "ix_t5"}
    assert sealed == {"ix_h1", "ix_h2"}


def test_build_drops_straddlers_and_what_is_near_to_the_holdout_with_their_reasons(place: Path):
    assert built(place) == 0
    dropped = {x.interaction_id: (x.reason, x.met) for x in shards.read(place / "dataset/parquet/dropped", Dropped)}
    assert dropped == {"ix_s1": ("straddles_the_wall", ""), "ix_x1": ("is_a_holdout_row", "ix_h1")}


def test_every_label_is_in_the_data_set_or_dropped_with_a_reason(place: Path):
    assert built(place) == 0
    labels = [x.interaction_id for x in shards.read(place / "curated/labels", Curated)]
    found = [x.interaction_id for x in (
        *rows(place, "sft"),
        *rows(place, "evaluation", "holdout"),
        *shards.read(place / "dataset/parquet/dropped", Dropped),
    )]  # fmt: skip
    assert Counter(found) == Counter(labels)


def more(place: Path, *made: tuple[str, str, str]) -> None:
    """Freeze more exchanges (name, question, group), of which three people say that the refund was due."""
    frozen = place / "frozen"
    freeze(
        frozen,
        [*shards.read(frozen / "exchanges", Exchange),
         *(exchange(n, question, group_id=group, response=TEXT["invoice"]) for n, question, group in made)],
        [*shards.read(frozen / "annotations", Given), *(annotation(n, w, "wrong", "refund") for n, _, _ in made for w in "abc")],
    )  # fmt: skip


def test_what_is_asked_again_stands_in_one_row_that_knows_how_often(place: Path):
    more(place, *((f"r{k}", "When do I see my money", "gr_money") for k in range(9)))
    assert built(place) == 0
    found = [x for x in rows(place, "sft") if "see my money" in x.messages]
    reasons = Counter(x.reason for x in shards.read(place / "dataset/parquet/dropped", Dropped))
    assert [x.copies for x in found] == [10] and reasons["near_duplicate"] == 9


def test_one_group_teaches_one_answer_only_so_often(place: Path):
    words = ("alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf")
    more(place, *((w, f"{w} {w} my {w} money {w}", "gr_money") for w in words))
    assert built(place) == 0
    groups = Counter(x.group_id for x in rows(place, "sft"))
    reasons = Counter(x.reason for x in shards.read(place / "dataset/parquet/dropped", Dropped))
    assert groups["gr_money"] == 4 and reasons["group_is_full"] == 3  # hygiene.group_rows


def thumb(name: str, user: str, polarity: int = 1, **changes: Any) -> Thumb:
    made = Thumb(
        feedback_id=f"fb_{name}_{user}", interaction_id=f"ix_{name}", arrived=NOON, user=user, tenant="", name="thumb",
        polarity=polarity, comment="", ts=NOON, user_since=NOON - 30 * 86_400_000_000,
    )  # fmt: skip
    return replace(made, **changes)


def test_thumbs_give_few_light_rows_and_none_where_people_gave_a_verdict(place: Path):
    frozen = place / "frozen"
    extra = [exchange("u1", "is there a bell on it", response="Yes, a loud one."), exchange("u2", "can I park outside")]
    freeze(frozen, [*shards.read(frozen / "exchanges", Exchange), *extra], shards.read(frozen / "annotations", Given))
    new = thumb("u2", "us_9", user_since=NOON - 60_000_000)
    shards.write_rows(frozen / "thumbs", Thumb, [thumb("u1", "us_1"), thumb("t1", "us_2", -1), new])
    assert built(place) == 0
    (row,) = [x for x in rows(place, "unpaired") if x.origin == "thumbs"]
    assert (row.interaction_id, row.label, row.weight, row.copies) == ("ix_u1", True, 0.25, 1)
    dropped = {x.interaction_id: x.reason for x in shards.read(place / "dataset/parquet/dropped", Dropped)}
    assert dropped["ix_u2"] == "actor_is_new"


def test_one_actor_with_five_thousand_thumbs_has_the_rows_of_one_actor(place: Path):
    frozen = place / "frozen"
    moon = "The moon is made of cheese."
    said = [exchange(f"p{k}", f"question {k} about the moon {k * 7919}", response=moon) for k in range(5_000)]
    freeze(frozen, [*shards.read(frozen / "exchanges", Exchange), *said], shards.read(frozen / "annotations", Given))
    shards.write_rows(frozen / "thumbs", Thumb, [thumb(f"p{k}", "us_1") for k in range(5_000)])
    assert built(place) == 0
    assert len([x for x in rows(place, "unpaired") if x.origin == "thumbs"]) <= 5
    report = orjson.loads((place / "reports/build.json").read_bytes())
    assert report["alerts"] and sum(report["dropped"].values()) >= 4_995


def test_the_same_inputs_give_the_same_bytes(place: Path):
    assert built(place) == 0
    first = {folder: folder_digest(place / folder) for folder in ("curated", "dataset", "reports")}
    for folder in first:
        shutil.rmtree(place / folder)
    assert built(place) == 0
    assert {folder: folder_digest(place / folder) for folder in first} == first


def test_a_missing_input_is_refused_with_what_to_do(place: Path, capsys: pytest.CaptureFixture[str]):
    shutil.rmtree(place / "frozen/annotations")
    assert curated(place) == 2
    error = capsys.readouterr().err
    assert "frozen/annotations does not exist" in error and "fix:" in error


def test_a_shard_of_another_shape_is_refused(place: Path, capsys: pytest.CaptureFixture[str]):
    (shard,) = shards.files(place / "frozen/exchanges")
    shutil.copyfile(shards.files(place / "frozen/annotations")[0], shard)
    assert curated(place) == 2
    assert "holds no rows of Exchange" in capsys.readouterr().err


# judge


@pytest.fixture
def evaluated(place: Path) -> Path:
    """An evaluation in which the challenger is clearly better, on data that passed validation."""
    from tasks.records import digest

    rows = [
        Compared(
            example_id=f"ex_{k}", group_id=f"gr_{k}", part="holdout", audit=False, kind="answer", topic="billing", language="en",
            cluster="", target="refund", champion="a", challenger="b", champion_right=k >= 40, challenger_right=k < 40 or k >= 45,
            champion_confidence=0.8, challenger_confidence=0.8, champion_signals=[], challenger_signals=[],
            champion_scores={}, challenger_scores={},
        )
        for k in range(120)
    ]
    write_jsonl(place / "evaluation/rows.jsonl", rows)
    summary = {
        "champion_digest": "c0", "challenger_digest": "c1", "holdout_digest": "h0",
        "champion": {"right": 0.67}, "challenger": {"right": 0.96},
        "rows_digest": digest((place / "evaluation/rows.jsonl").read_bytes()),
    }  # fmt: skip
    (place / "reports").mkdir()
    (place / "reports/evaluation.json").write_bytes(canonical(summary) + b"\n")
    (place / "reports/build.json").write_bytes(b'{"holdout_digest":"h0"}\n')
    (place / "reports/validation.json").write_bytes(b'{"success":true}\n')
    write_jsonl(place / "frozen/looks.jsonl", [])
    return place


def asked_to_judge() -> int:
    from tasks.stages import judge

    return judge.main(["--rows", "evaluation", "--evaluation", "reports/evaluation.json", "--build", "reports/build.json",
                       "--validation", "reports/validation.json", "--looks", "frozen/looks.jsonl",
                       "--report", "reports/verdict.json"])  # fmt: skip


def judged(place: Path) -> dict:
    assert asked_to_judge() == 0
    return orjson.loads((place / "reports/verdict.json").read_bytes())


def test_judge_promotes_the_better_and_names_who_was_judged(evaluated: Path):
    verdict = judged(evaluated)
    assert (verdict["decision"], verdict["champion"], verdict["challenger"]) == ("promote", "c0", "c1")
    assert (verdict["primary"]["fixed"], verdict["primary"]["broken"]) == (40, 5)


@pytest.mark.parametrize("success", [False, None, "true", 1])
def test_judge_refuses_where_validation_did_not_pass(evaluated: Path, success: object):
    (evaluated / "reports/validation.json").write_bytes(canonical({"success": success}) + b"\n")
    assert judged(evaluated)["decision"] == "refuse"


def test_judge_refuses_rows_that_were_changed_after_the_evaluation(evaluated: Path):
    path = evaluated / "evaluation/rows.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"challenger_right":false', b'"challenger_right":true', 1))
    assert judged(evaluated)["decision"] == "refuse"


def test_judge_refuses_models_that_were_asked_another_holdout(evaluated: Path):
    (evaluated / "reports/build.json").write_bytes(b'{"holdout_digest":"h1"}\n')
    verdict = judged(evaluated)
    assert verdict["decision"] == "refuse" and "another holdout" in verdict["reasons"][0]


def rewritten(place: Path, change) -> None:
    """Change the rows, and the digest with them: what a sick evaluation would have written itself."""
    from tasks.records import digest

    path = place / "evaluation/rows.jsonl"
    rows = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    change(rows)
    write_jsonl(path, rows)
    summary = orjson.loads((place / "reports/evaluation.json").read_bytes())
    summary["rows_digest"] = digest(path.read_bytes())
    (place / "reports/evaluation.json").write_bytes(canonical(summary) + b"\n")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows[7].pop("challenger_scores"), "row 8 of the evaluation lacks challenger_scores"),
        (lambda rows: rows[7].update(challenger_confidence=None), "ex_7: challenger_confidence is None"),
        (lambda rows: rows[7].update(extra=1), "row 8 of the evaluation has an unknown extra"),
        (lambda rows: rows.clear(), "no row of the holdout"),
    ],
)
def test_judge_refuses_rows_that_lack_something_and_says_what(evaluated: Path, change, said: str):
    rewritten(evaluated, change)
    verdict = judged(evaluated)
    assert verdict["decision"] == "refuse" and said in verdict["reasons"][0]
    assert "primary" not in verdict and verdict["tested"] is False


def test_judge_is_stricter_the_more_often_it_has_looked(evaluated: Path):
    before = [{"snapshot": f"snapshot-{k}", "decision": "inconclusive", "p_value": 0.5, "level": 0.02} for k in range(3)]
    first = judged(evaluated)
    write_jsonl(evaluated / "frozen/looks.jsonl", before)
    fourth = judged(evaluated)
    assert (first["look"], fourth["look"]) == (1, 4) and fourth["level"] < first["level"]
    assert fourth["primary"]["low"] < first["primary"]["low"]


@pytest.mark.parametrize("key", ["champion_digest", "challenger_digest", "holdout_digest", "rows_digest", "champion"])
def test_a_number_that_is_missing_is_told_and_leaves_no_verdict(evaluated: Path, key: str, capsys: pytest.CaptureFixture[str]):
    path = evaluated / "reports/evaluation.json"
    summary = orjson.loads(path.read_bytes())
    del summary[key]
    path.write_bytes(canonical(summary) + b"\n")
    assert asked_to_judge() == 3
    assert f"has no '{key}'" in capsys.readouterr().err
    assert not (evaluated / "reports/verdict.json").exists()
