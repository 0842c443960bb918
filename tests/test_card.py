"""What a dataset says of itself is true, read by the tools that it is written for, and the same for the same rows."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from tasks import shards
from tasks.card import card, reports
from tasks.card.facts import AboutParams, Dataset, people_of, survey
from tasks.examples import HOLDOUT, TABLES, TRAIN
from tests.imports import ROOT
from tests.tables import ABOUT, example, label, refused, write_dataset, write_labels

ROWS = 9
# `datasets` reads folders here, and has nothing to ask of a hub.
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dataset with its card, and the labels beside it."""
    place = tmp_path / "dataset"
    write_dataset(place, ROWS, dropped=[refused(1, "near_a_holdout_row"), refused(2, "group_is_full"), refused(3, "group_is_full")])
    write_labels(tmp_path / "curated", [label(n) for n in range(ROWS)])
    people = people_of(tmp_path / "curated", {"answer": 0.71})
    for name, data in card(survey(place, people, {"build": {"max_rows_per_group": 4}}), AboutParams(**ABOUT)).items():
        (place / name).write_bytes(data)
    return place


def manifest(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_bytes())


def head(text: str) -> dict:
    return yaml.safe_load(text.split("---\n")[1])


def test_the_manifest_counts_every_row_and_names_every_file_with_its_digest(folder: Path) -> None:
    said = manifest(folder)
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.suffix in (".parquet", ".jsonl")}
    named = {s["path"]: s for part in said["tables"].values() for s in (*part["parquet"], *part["jsonl"])}
    assert named.keys() == {f for f in files if "dropped" not in f}
    for path, shard in named.items():
        data = (folder / path).read_bytes()
        assert (shard["sha256"], shard["bytes"]) == (hashlib.sha256(data).hexdigest(), len(data))
    assert said["rows"] == sum(part["rows"] for part in said["tables"].values()) == ROWS * len(TABLES)
    assert said["refused"] == {"build": {"group_is_full": 2, "near_a_holdout_row": 1}}
    sft = said["tables"]["train/sft"]["counts"]
    assert sft["origin"] == {"correction": 5, "agreed": 4} and sft["language"] == {"en": 6, "de": 3}
    assert sft["balance"] == {"words": 9} and said["tables"]["train/unpaired"]["counts"]["balance"] == {"true": 9}


def test_the_people_behind_it_are_counted_and_not_named(folder: Path) -> None:
    assert manifest(folder)["people"] == {"labels": {"answer": ROWS}, "each": [9, 5, 4], "agreement": {"answer": 0.71}}
    for name in ("README.md", "DATASHEET.md", "croissant.json", "manifest.json"):
        assert not {"ana", "ben", "cem"} & set((folder / name).read_text(encoding="utf-8").replace('"', " ").split())


def test_the_digest_of_the_lines_is_what_sha256sum_prints(folder: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", "cat jsonl/train/sft/*.jsonl | sha256sum"], cwd=folder, capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[0] == manifest(folder)["tables"]["train/sft"]["lines"]


def test_the_digest_of_the_content_is_of_values_and_not_of_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = manifest(folder)["tables"]
    monkeypatch.setattr(shards, "ROWS", 2)  # other shards
    monkeypatch.setattr(shards, "CODEC", "gzip")
    again = folder.parent / "again"
    write_dataset(again, ROWS)
    after = {f"{p.side}/{p.table}": p for p in survey(again).parts}
    assert {k: p.content for k, p in after.items()} == {k: p["content"] for k, p in before.items()}
    assert {k: p.lines for k, p in after.items()} == {k: p["lines"] for k, p in before.items()}
    assert len(after["train/sft"].parquet) > 1

    write_dataset(again, ROWS, lambda t, n: example(t, n, weight=0.25 if (t, n) == ("sft", 3) else 0.5))
    changed = {f"{p.side}/{p.table}" for p in survey(again).parts if p.content != before[f"{p.side}/{p.table}"]["content"]}
    assert changed == {"train/sft"}


def test_every_table_is_read_by_datasets_as_the_card_says(folder: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    configs = head((folder / "README.md").read_text(encoding="utf-8"))["configs"]
    assert [c["config_name"] for c in configs] == list(TABLES) and configs[0]["default"]
    for name, table in TABLES.items():
        loaded = datasets.load_dataset(str(folder), name, cache_dir=str(tmp_path / "cache"))
        assert set(loaded) == {{TRAIN: "train", HOLDOUT: "test"}[side] for side in table.sides}
        for side in table.sides:
            lines = [
                json.loads(line)
                for path in sorted((folder / "jsonl" / side / name).glob("*.jsonl"))
                for line in path.read_text(encoding="utf-8").splitlines()
            ]
            assert loaded[{TRAIN: "train", HOLDOUT: "test"}[side]].to_list() == lines, f"no key is added, none is lost: {name}"


def test_a_row_may_have_another_shape_than_those_before_it(tmp_path: Path) -> None:
    """What a loader would infer from a first file without tools breaks at the second."""
    datasets = pytest.importorskip("datasets")
    write_dataset(tmp_path / "d", 0)
    table = TABLES["sft"]
    rows = [example("sft", n) for n in (0, 2, 4, 1)]
    place = tmp_path / "d" / "jsonl" / "train" / "sft"
    shards.write_rows(tmp_path / "d" / "parquet" / "train" / "sft", table.row, rows, place, table.trains)
    whole = next(iter(place.glob("*.jsonl")))
    lines = whole.read_bytes().splitlines(keepends=True)
    whole.write_bytes(b"".join(sorted(lines, key=lambda x: b"tool_calls" in x)[:3]))
    (place / "9.jsonl").write_bytes(next(x for x in lines if b"tool_calls" in x))
    (tmp_path / "d" / "README.md").write_bytes(card(survey(tmp_path / "d"), AboutParams(**ABOUT))["README.md"])
    loaded = datasets.load_dataset(str(tmp_path / "d"), "sft", split="train", cache_dir=str(tmp_path / "cache"))
    assert len(loaded) == 4 and "tool_calls" in json.dumps(loaded[3])


def test_an_empty_table_is_no_configuration_and_an_empty_dataset_has_a_card(tmp_path: Path) -> None:
    write_dataset(tmp_path / "d", 0)
    files = card(survey(tmp_path / "d"), AboutParams(**ABOUT))
    said = head(files["README.md"].decode())
    assert said["configs"] == [] and said["size_categories"] == ["n<1K"]
    assert json.loads(files["croissant.json"])["recordSet"] == []


def test_croissant_is_valid_and_its_records_are_the_rows(folder: Path) -> None:
    croissant = pytest.importorskip("mlcroissant")
    dataset = croissant.Dataset(str(folder / "croissant.json"))
    issues = dataset.metadata.ctx.issues
    assert not issues.errors and not issues.warnings, issues.report()
    for name in ("sft-train", "safety-holdout"):
        table, side = name.split("-")
        rows = {r[f"{name}/example_id"].decode() for r in dataset.records(name)}
        assert rows == set(pq.read_table(folder / "parquet" / side / table)["example_id"].to_pylist())


def test_values_from_outside_are_text_in_the_card(tmp_path: Path) -> None:
    hostile = "a|b`<script>alert(1)</script>\n# Title [x](javascript:1)"
    write_dataset(tmp_path / "d", 3, lambda t, n: example(t, n, topic=hostile, language="xx: [1]"))
    dataset = survey(tmp_path / "d")
    text = card(dataset, AboutParams(**ABOUT))["README.md"].decode()
    assert "<script>" not in text and "\n# Title" not in text and "[x](" not in text.replace("\\[", "")
    assert "language" not in head(text), "only what looks like a language code is one"
    assert all(line.count(",") == 3 for line in reports(dataset)["slices.csv"].decode().splitlines() if "script" not in line)


def test_a_cell_of_a_report_is_no_formula(tmp_path: Path) -> None:
    write_dataset(tmp_path / "d", 2, lambda t, n: example(t, n, topic='=cmd|"x"'))
    assert "topic,\"'=cmd|\"\"x\"\"\"," in reports(survey(tmp_path / "d"))["slices.csv"].decode()


def test_what_nobody_has_said_is_named_as_missing(tmp_path: Path) -> None:
    write_dataset(tmp_path / "d", 3)
    about = dataclasses.replace(AboutParams(**ABOUT), contact="", license="apache-2.0")
    files = card(survey(tmp_path / "d"), about)
    assert "about.contact in params.yaml" in files["README.md"].decode()
    assert "`about.contact`" in files["DATASHEET.md"].decode()
    assert head(files["README.md"].decode())["license"] == "apache-2.0"


def test_the_datasheet_answers_each_part_of_the_questionnaire(folder: Path) -> None:
    text = (folder / "DATASHEET.md").read_text(encoding="utf-8")
    parts = ("Motivation", "Composition", "Collection", "Preprocessing", "Uses", "Distribution", "Maintenance")
    assert all(f"\n## {part}" in text for part in parts)
    assert "117 rows" in text and "2026-01-05" in text and "3 people" in text and "group_is_full: 2" in text


@pytest.mark.slow
def test_equal_rows_give_equal_bytes_in_another_locale_folder_and_number_of_threads(folder: Path, tmp_path: Path) -> None:
    code = """
import json, sys
from pathlib import Path
from tasks.card import card, reports
from tasks.card.facts import AboutParams, people_of, survey
from tests.tables import ABOUT
from tasks.records import digest
d = survey(Path(sys.argv[1]), people_of(Path(sys.argv[2]), {"answer": 0.71}), {"build": {"max_rows_per_group": 4}})
print(json.dumps({n: digest(b) for n, b in (card(d, AboutParams(**ABOUT)) | reports(d)).items()}))
"""
    other = tmp_path / "ein anderer Ordner"
    shutil.copytree(folder, other / "d")
    shutil.copytree(folder.parent / "curated", other / "c")
    printed = []
    for place, labels, env in (
        (folder, folder.parent / "curated", {}),
        (other / "d", other / "c", {"LC_ALL": "C", "TZ": "Asia/Tokyo", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "7"}),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, str(place), str(labels)], cwd=ROOT, env={**os.environ, **env},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        printed.append(json.loads(done.stdout))
    assert printed[0] == printed[1] and len(printed[0]) == 9
    assert printed[0]["README.md"] == hashlib.sha256((folder / "README.md").read_bytes()).hexdigest()


def test_reports_are_tables_that_dvc_can_plot(folder: Path) -> None:
    found = reports(survey(folder))
    assert found["tables.csv"].decode().splitlines()[0] == "table,side,rows,copies,weight"
    assert json.loads(found["dataset.json"])["tables"]["sft_train"] == ROWS
    assert '"de"' in found["slices.csv"].decode()


def test_nothing_is_made_of_no_dataset(tmp_path: Path) -> None:
    from tasks.errors import Refused

    with pytest.raises(Refused, match="does not exist"):
        survey(tmp_path)
    assert Dataset(parts=()).rows == 0
