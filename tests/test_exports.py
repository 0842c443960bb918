"""Exports: every row is in a file or left out with a reason, and a folder is there whole or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tasks import shards
from tasks.errors import Refused
from tasks.examples import TABLES, Example
from tasks.exports import dialects as exports
from tasks.live import export, snapshot, store
from tasks.live.repository import git
from tasks.live.workspace import Workspace, quiet_environment
from tasks.records import canonical
from tests import small
from tests.conftest import flywheel
from tests.handmade import SHARED
from tests.tables import CALLED, SAID, TOLD, example

OUTPUTS = SHARED / "formats" / "outputs"
ASKS = {"id": "", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CALL = {"role": "assistant", "content": "", "tool_calls": [ASKS]}
RESULT = {"role": "tool", "content": "7"}


def made(name: str, *rows: tuple[str, Example]) -> tuple[list[tuple[str, Any]], exports.Account]:
    account = exports.Account()
    return [(f, json.loads(x)) for f, x in exports.lines(exports.dialect(name), rows, account)], account


def one(name: str, table: str = "sft", n: int = 0, **changes: Any) -> Any:
    """The line of a row, or the reason why there is none."""
    said, account = made(name, (table, example(table, n, **{k: v if isinstance(v, str) else text(v) for k, v in changes.items()})))
    return said[0][1] if said else next(iter(account.left_out[table]))


def text(value: Any) -> str:
    return canonical(value).decode()


@pytest.mark.parametrize("name", exports.DIALECTS)
def test_every_row_that_is_read_is_in_a_file_or_left_out(name: str) -> None:
    to = exports.dialect(name)
    odd = {
        "messages": text([*SAID, {"role": "assistant", "content": "", "media": [{"type": "image"}]}]),
        "prompt": text([RESULT]), "target_text": "", "ground_truth": "",
    }  # fmt: skip
    rows = [
        (t, example(t, n, **({k: v for k, v in odd.items() if k in TABLES[t].row.__dataclass_fields__} if n == 4 else {})))
        for tables in to.READS.values() for t in tables for n in range(6)
    ]  # fmt: skip
    lines, account = made(name, *rows)
    left = sum((Counter(reasons) for reasons in account.left_out.values()), Counter())
    assert account.rows == len(rows) == len(lines) + left.total() == account.tables.total()
    assert dict(account.files) == dict(Counter(file for file, _ in lines))
    assert {f"{t}/{r}" for t, rs in account.left_out.items() for r in rs} <= account.examples.keys()


def test_a_name_that_is_no_format_is_refused_with_those_that_are() -> None:
    with pytest.raises(Refused, match="no export format 'opnai'") as refused:
        exports.dialect("opnai")
    assert "openai-sft" in str(refused.value)


def test_each_turn_of_the_assistant_has_its_weight() -> None:
    said = one("openai-sft", messages=[*SAID, TOLD[0] | {"weight": 0}, *SAID, TOLD[0] | {"weight": 1}])
    assert [m.get("weight") for m in said["messages"]] == [None, 0, None, 1]
    assert one("openai-sft", messages=[*SAID, TOLD[0] | {"weight": 0}]) == "nothing_to_learn"


def test_openai_is_given_the_keys_that_it_knows_and_no_other() -> None:
    rich = TOLD[0] | {"reasoning": "hm", "refusal": "no", "weight": 1}
    lines, account = made("openai-sft", ("sft", example("sft", 0, messages=text([*SAID, rich]))))
    assert lines[0][1] == {"messages": [*SAID, TOLD[0] | {"weight": 1}]}
    assert account.without == {"sft": {"reasoning": 1, "refusal": 1}}


def test_a_call_without_an_id_gets_one_that_its_result_names() -> None:
    said = one("openai-sft", messages=[*SAID, CALL, RESULT, CALL, RESULT, *TOLD])["messages"]
    assert [m["tool_calls"][0]["id"] for m in said if "tool_calls" in m] == ["call_1", "call_2"]
    assert [m["tool_call_id"] for m in said if m["role"] == "tool"] == ["call_1", "call_2"]
    assert said[1]["content"] is None
    assert one("openai-sft", messages=[*SAID, RESULT, *TOLD]) == "result_without_a_call"
    assert one("openai-sft", messages=[*SAID, CALL, *SAID, *TOLD]) == "call_without_a_result"


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("openai-sft", {"messages": [*SAID, {"role": "assistant", "content": ""}]}, "empty_answer"),
        ("openai-sft", {"messages": SAID}, "ends_without_an_answer"),
        ("openai-sft", {"messages": [{"role": "user", "content": "this", "media": [{"type": "image"}]}, *TOLD]}, "media"),
        ("llamafactory", {"messages": [*SAID, *SAID, *TOLD]}, "speakers_not_in_turn"),
        ("llamafactory", {"messages": [*SAID, CALL, RESULT, RESULT, *TOLD]}, "several_tool_results"),
        ("llamafactory", {"messages": [*SAID, CALL | {"content": "let me see"}, RESULT, *TOLD]}, "text_beside_a_call"),
        ("alpaca", {"messages": CALLED}, "tool_calls"),
        ("alpaca", {"messages": [*SAID, TOLD[0] | {"weight": 0}, *SAID, *TOLD]}, "turn_not_to_be_learned"),
        ("alpaca", {"messages": TOLD}, "speakers_not_in_turn"),
    ],
)
def test_what_a_format_cannot_say_is_left_out_under_its_reason(name: str, changes: dict, reason: str) -> None:
    assert one(name, **changes) == reason


def test_conversations_with_an_answer_that_must_not_be_learned_are_a_dataset_of_their_own() -> None:
    rows = [("sft", example("sft", 0)), ("sft", example("sft", 1)), ("preference", example("preference", 0))]
    lines, account = made("llamafactory", *rows)
    assert [f for f, _ in lines] == ["flywheel_sft.jsonl", "flywheel_sft_mask_history.jsonl", "flywheel_dpo.jsonl"]
    info = json.loads(exports.beside(exports.dialect("llamafactory"), account.files)["dataset_info.json"])
    assert {v["file_name"] for v in info.values()} == set(account.files)


def test_answers_that_people_rated_become_choices() -> None:
    offered = text([{"text": "Never.", "right": False}, {"text": "Five days.", "right": True}])
    said = one("inspect", "evaluation", target_text="", offered=offered)
    assert (said["choices"], said["target"]) == (["Never.", "Five days."], ["B"])
    assert one("lm-eval", "evaluation", target_text="", offered=offered)["right"] == 1
    wrong = one("mlflow", "evaluation", target_text="", offered=offered)["expectations"]
    assert wrong["acceptable_responses"] == ["Five days."] and wrong["wrong_responses"] == ["Never."]
    assert one("inspect", "evaluation", target_text="", offered="[]") == "no_reference_answer"


def test_a_users_words_are_no_template_of_promptfoo_and_no_name_of_a_file() -> None:
    said = one("promptfoo", "evaluation", target_text="file:///etc/passwd", messages=[{"role": "user", "content": "{{ env.KEY }}"}])
    assert said["assert"][0]["value"] == "{% raw %}file:///etc/passwd{% endraw %}"
    assert all(v.startswith("{% raw %}") for k, v in said["vars"].items() if k != "contexts")
    assert one("promptfoo", "evaluation", target_text="{% endraw %}") == "template_text"


def test_each_check_becomes_an_assert_or_is_counted() -> None:
    checks = [{"check": "action", "value": "refund"}, {"check": "grounded", "value": True}, {"check": "schema", "value": {}}]
    lines, account = made("promptfoo", ("prompts", example("prompts", 0, checks=text(checks), ground_truth="Five days.")))
    assert lines[0][1]["assert"] == [{"type": "icontains", "value": "Five days."}, {"type": "is-json", "value": {}}]
    assert account.without == {"prompts": {"check_grounded": 1}}


def test_mlflow_is_given_a_prompt_once() -> None:
    lines, account = made("mlflow", *[("evaluation", example("evaluation", 0, example_id=f"ex_{k}")) for k in range(3)])
    assert len(lines) == 1 and account.left_out == {"evaluation": {"same_prompt_twice": 2}}


SAMPLES = {
    "openai-sft": ("openai_sft.jsonl", "sft"), "openai-dpo": ("openai_dpo.jsonl", "preference"),
    "llamafactory": ("llamafactory_sharegpt.jsonl", "sft"), "alpaca": ("alpaca.jsonl", "sft"),
    "inspect": ("inspect_samples.jsonl", "evaluation"), "promptfoo": ("promptfoo_tests.jsonl", "evaluation"),
    "mlflow": ("mlflow_eval_records.jsonl", "evaluation"), "openai-rft": ("openai_rft.jsonl", "prompts"),
}  # fmt: skip


@pytest.mark.skipif(not OUTPUTS.is_dir(), reason="no examples of the formats beside the project")
@pytest.mark.parametrize("name", SAMPLES)
def test_a_line_has_the_keys_of_a_valid_example(name: str) -> None:
    """Keys are optional where the examples have them on some lines only; ours must be known, the required ones there."""
    file, table = SAMPLES[name]
    samples = [json.loads(x) for x in (OUTPUTS / file).read_text(encoding="utf-8").splitlines()]
    required = set.intersection(*(set(s) for s in samples)) - {"source"}
    allowed = set.union(*(set(s) for s in samples)) | {"choices", "checks"}
    said = one(name, table, 0)
    assert required <= set(said) <= allowed


def test_a_million_rows_need_no_more_memory_than_a_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times the rows, and the peak is of one shard: they differ in size."""
    monkeypatch.setattr(shards, "ROWS", 64)
    peaks = []
    for count in (1_500, 15_000):
        folder = tmp_path / str(count)
        shards.write_rows(folder / "train" / "sft", TABLES["sft"].row, [example("sft", n) for n in range(count)])
        to = exports.dialect("openai-sft")
        list(exports.lines(to, export.rows(tmp_path / "1500", to), exports.Account()))  # caches
        tracemalloc.start()
        account = exports.Account()
        for _ in exports.lines(to, export.rows(folder, to), account):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert account.rows == count
    assert peaks[1] < 4 * peaks[0]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace of two snapshots."""
    quiet_environment()
    made = small.workspace(tmp_path_factory.mktemp("exports") / "w")
    small.publish(made, 20)
    small.publish(made, 30)
    return made


@pytest.mark.slow
def test_an_export_says_which_snapshot_it_is_of_and_where_its_rows_went(place: Workspace, tmp_path: Path) -> None:
    newest = snapshot.last(place)
    said = flywheel("export", "axolotl", "--out", tmp_path / "out", "--workspace", place.root, "--json")
    assert said.code == 0, said.err
    manifest = json.loads((tmp_path / "out" / "export-manifest.json").read_bytes())
    assert said.document() == manifest | {"out": str(tmp_path / "out")}
    assert (manifest["snapshot"], manifest["digest"]) == (newest.tag, newest.digest)
    assert manifest["read"] == 60 == manifest["written"] + sum(n for r in manifest["left_out"].values() for n in r.values())
    for name, file in manifest["files"].items():
        data = (tmp_path / "out" / name).read_bytes()
        assert (file["bytes"], file["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
        assert file.get("rows", data.count(b"\n")) == data.count(b"\n")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {*manifest["files"], "export-manifest.json"}
    noted = export.noted(place)[-1]
    assert (noted["out"], noted["snapshot"], noted["digest"]) == (str(tmp_path / "out"), newest.tag, newest.digest)


@pytest.mark.slow
def test_an_older_snapshot_is_exported_without_touching_the_work_tree(place: Workspace, tmp_path: Path) -> None:
    _, oldest = snapshot.history(place)
    before = git(place.root, "status", "--porcelain")
    done = export.export(place, "openai-sft", oldest.digest[:8], tmp_path / "old")
    assert (done.snapshot, done.read) == (oldest.tag, 20)
    assert git(place.root, "status", "--porcelain") == before and not list(place.state.glob("export-*"))
    again = export.export(place, "openai-sft", oldest.tag)
    assert Path(again.out) == place.state / "exports" / f"openai-sft-{oldest.digest[:8]}"
    theirs = {p.name: p.read_bytes() for p in (tmp_path / "old").iterdir()}
    assert {p.name: p.read_bytes() for p in Path(again.out).iterdir()} == theirs, "the same bytes, wherever they lie"
    with pytest.raises(Refused, match="is no snapshot"):
        export.export(place, "openai-sft", "snapshot-00000000")


@pytest.mark.slow
def test_an_export_is_whole_or_not_there(place: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = export.export(place, "openai-sft", out=tmp_path / "out")
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}

    def dies(*_: Any) -> Any:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(export, "_settle", dies)
        for target in ("out", "new"):
            with pytest.raises(OSError, match="no space"):
                export.export(place, "openai-dpo", out=tmp_path / target)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert export.noted(place)[-1]["out"] == str(tmp_path / "new"), "noted before its first byte: an erasure finds what was left"
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before
    left = tmp_path / ".out.999999999.exporting"  # of a process that was killed
    shutil.copytree(tmp_path / "out", left)
    second = export.export(place, "openai-dpo", out=tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"openai_dpo.jsonl", "export-manifest.json"} and not left.exists()
    assert first.out == second.out


@pytest.mark.slow
def test_a_folder_with_other_things_in_it_is_refused(place: Workspace, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(Refused, match="holds other things"):
        export.export(place, "openai-sft", out=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.slow
def test_what_is_not_on_this_machine_comes_from_the_remote_and_only_what_is_read(place: Workspace, tmp_path: Path) -> None:
    clone = Workspace(tmp_path / "clone")
    git(tmp_path, "clone", "--quiet", str(place.root), str(clone.root))
    clone.state.mkdir()
    done = export.export(clone, "openai-sft", out=tmp_path / "out")
    assert done.read == 30
    objects = [p for p in (clone.root / ".dvc" / "cache").rglob("*") if p.is_file()]
    commit = snapshot.last(clone).commit
    wanted = [n for n in store.files(clone, commit, "data/dataset") if n.startswith("parquet/train/sft")]
    assert len(objects) == len(wanted) + 1, "its shards, and the listing of the folder"
