"""Those whom our data sets and exports are for read them: TRL, `datasets`, OpenAI's types, LLaMA-Factory, Axolotl, inspect,
lm-eval, promptfoo, MLflow. They run in an environment of their own (`make consumers`), without a network."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tasks.card import card
from tasks.card.facts import AboutParams, survey
from tasks.examples import TABLES, Example
from tasks.exports import dialects as exports
from tasks.live import export
from tasks.records import canonical
from tests.imports import ROOT
from tests.tables import ABOUT, SAID, TOLD, example, write_dataset

HOME = ROOT / ".venv-consumers"
PYTHON, PROMPTFOO = HOME / "bin" / "python", HOME / "promptfoo" / "node_modules" / ".bin" / "promptfoo"
PROGRAMS = ROOT / "tests" / "consumers"
ROWS = 12
OFFLINE = {
    "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1", "AXOLOTL_DO_NOT_TRACK": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1",
    "PROMPTFOO_DISABLE_TELEMETRY": "1", "PROMPTFOO_DISABLE_UPDATE": "1", "PROMPTFOO_DISABLE_REMOTE_GENERATION": "1",
    "PROMPTFOO_DISABLE_SHARING": "1", "CUDA_VISIBLE_DEVICES": "",
}  # fmt: skip
pytestmark = pytest.mark.slow

SCHEMA = {"type": "object", "properties": {"of": {"type": "integer"}}}
TOOL = {"type": "function", "function": {"name": "find", "description": "Find it", "parameters": SCHEMA}}
WORDS = "Ünïcode \u2028 and 🎉, \u201cquoted\u201d \\n \"so\" {{ env.HOME }} </s>"


def call(**arguments: Any) -> dict[str, Any]:
    """A turn that calls a tool, with arguments that no other row has."""
    function = {"name": "find", "arguments": canonical(arguments).decode()}
    return {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "type": "function", "function": function}]}


# The first row of each table is the plainest, so that a reader which takes the first for all is found out by the others.
TALKS: list[list[dict[str, Any]]] = [
    SAID,
    [{"role": "system", "content": "Be kind."}, *SAID, TOLD[0] | {"weight": 0}, {"role": "user", "content": "BAD? " + WORDS}],
    [*SAID, call(of=7), {"role": "tool", "content": "[1, 2]", "tool_call_id": "c1"}],
    [*SAID, call(name="x", deep={"a": [1, None, {"b": 0.25}]}, n=None), {"role": "tool", "content": "", "tool_call_id": "c1"}],
    [*SAID, TOLD[0] | {"weight": 1, "reasoning": "five, I think"}, {"role": "user", "content": "sure?"}],
]


def row(table: str, n: int) -> Example:
    talk = TALKS[n % len(TALKS)]
    values: dict[str, Any] = {}
    known = TABLES[table].row.__dataclass_fields__
    answered = [*talk, {"role": "assistant", "content": f"Right answer {n}. {WORDS}", "weight": 1}]
    worse = [{"role": "assistant", "content": f"Wrong answer {n}."}]
    if "messages" in known:
        values["messages"] = answered if table == "sft" else talk
    if "prompt" in known:
        values["prompt"] = talk
    if table in ("preference", "reward"):
        values |= {"chosen": answered[-1:], "rejected": worse}
    if table == "reward":
        values |= {"chosen": answered, "rejected": [*talk, *worse]}
    if table == "unpaired":
        values |= {"completion": answered[-1:], "label": n % 2 == 0}
    if "target_text" in known:
        rated = table == "evaluation" and n % 4 == 3
        values |= {"target_text": "" if rated else f"Right answer {n}."} | ({"rubric": ""} if table == "evaluation" else {})
        if table == "evaluation":
            values["offered"] = [{"text": WORDS, "right": False}, {"text": f"yes {n}", "right": True}] if rated else []
    texts = {k: v if isinstance(v, (str, bool)) else canonical(v).decode() for k, v in values.items()}
    if "tools" in known and n % len(TALKS) in (2, 3):
        texts["tools"] = canonical([TOOL]).decode()
    return example(table, n, **texts)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of every table, as a snapshot has it."""
    if not (HOME / ".installed").is_file():
        absent = f"{HOME.name} is not there: run `make consumers` (it needs the package registry)"
        if os.environ.get("FLYWHEEL_REQUIRE_CONSUMERS") == "1":
            raise RuntimeError(absent)
        pytest.skip(absent)
    folder = tmp_path_factory.mktemp("consumers") / "dataset"
    write_dataset(folder, ROWS, row)
    for name, data in card(survey(folder), AboutParams(**ABOUT)).items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def exported(dataset: Path) -> Path:
    """Every export of it, a folder each."""
    for name, to in exports.DIALECTS.items():
        folder, account = dataset.parent / "exports" / name, exports.Account()
        folder.mkdir(parents=True)
        for file, line in exports.lines(to, export.rows(dataset / "parquet", to), account):
            with (folder / file).open("ab") as f:
                f.write(line)
        for file, data in exports.beside(to, account.files).items():
            (folder / file).write_bytes(data)
    return dataset.parent / "exports"


def run(home: Path, *command: str | Path) -> Any:
    """The last line that a program of the consumers prints, as a document."""
    home.mkdir(exist_ok=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("FLYWHEEL_", "MLFLOW_", "PYTHON"))}
    done = subprocess.run(
        [str(c) for c in command], env=environment | OFFLINE | {"HOME": str(home), "HF_HOME": str(home / "hf")}, cwd=home,
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def reads(name: str, exported: Path, *more: Path) -> Any:
    return run(exported.parent / "home", PYTHON, PROGRAMS / "exports_read.py", name, *more)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(x) for x in path.read_bytes().split(b"\n") if x]


@pytest.fixture(scope="module")
def trl(dataset: Path) -> dict[str, Any]:
    return run(dataset.parent / "home", PYTHON, PROGRAMS / "trl_trains.py", dataset, dataset.parent / "scratch")


def test_datasets_loads_every_table_and_reads_back_what_was_written(trl: dict[str, Any]) -> None:
    assert trl["loaded"].keys() == TABLES.keys()
    assert all(sum(splits.values()) == ROWS for splits in trl["loaded"].values())
    assert trl["differs"] == [], "no key was invented, none was lost"


def test_trl_takes_every_table_that_trains_for_a_conversation(trl: dict[str, Any]) -> None:
    assert trl["conversational"] == ["sft", "preference", "unpaired", "reward", "prompts"]
    with_calls = [t for t in trl["texts"]["sft"] if "<|call|>" in t["prompt"]]
    assert {t["prompt"].split("<|call|>find")[1].split("<|")[0] for t in with_calls} == {
        '{"of": 7}', '{"deep": {"a": [1, null, {"b": 0.25}]}, "n": null, "name": "x"}',
    }, "arguments are objects, each with its own keys"  # fmt: skip
    assert all("<|tools|>" in t["prompt"] for t in with_calls)


def test_all_five_trainers_take_steps_on_it(trl: dict[str, Any]) -> None:
    assert trl["trained"].keys() == {"sft", "preference", "unpaired", "reward", "prompts"}
    assert all(loss == loss for loss in trl["trained"].values())


def test_a_model_learns_the_answers_that_people_called_right_and_nothing_else(trl: dict[str, Any], dataset: Path) -> None:
    shards = sorted((dataset / "jsonl" / "train" / "sft").glob("*.jsonl"))
    answers = [r["completion"][0]["content"] for s in shards for r in lines(s)]
    assert trl["learned"] == [f"{a}<|end|>" for a in answers]


def test_a_reward_function_is_given_the_checks_as_they_are(trl: dict[str, Any]) -> None:
    assert trl["checked"] and all({"check", "value"} == set(c) for checks in trl["checked"] for c in checks)


def test_openais_own_types_take_every_message(exported: Path) -> None:
    for name in ("openai-sft", "openai-dpo", "openai-rft"):
        said = reads("openai", exported, exported / name)
        assert said[name.replace("-", "_")] >= 12


def test_llamafactory_reads_every_conversation_by_its_own_list(exported: Path) -> None:
    said = reads("llamafactory", exported, exported / "llamafactory")
    assert said.keys() == {"flywheel_sft", "flywheel_sft_mask_history", "flywheel_dpo"}
    assert all(r["_prompt"] and r["_response"] for rows in said.values() for r in rows), "none is broken to it"
    assert all(len(r["_response"]) == 2 for r in said["flywheel_dpo"])
    assert [r["_system"] for r in said["flywheel_sft_mask_history"]] == ["Be kind."] * 3
    calls = [m["content"] for r in said["flywheel_sft"] for m in r["_prompt"] if m["role"] == "function"]
    assert calls and all(set(json.loads(c)) == {"name", "arguments"} for c in calls)
    alpaca = reads("llamafactory", exported, exported / "alpaca")["alpaca"]
    assert len(alpaca) == len(lines(exported / "alpaca" / "alpaca.jsonl")) and all(r["_response"] for r in alpaca)


def test_axolotl_takes_the_configurations_and_learns_what_is_to_be_learned(exported: Path, dataset: Path) -> None:
    said = reads("axolotl", exported, exported / "axolotl", dataset)
    for line, learned in zip(lines(exported / "axolotl" / "sft.jsonl"), said["sft"], strict=True):
        for m in line["messages"]:
            if m["role"] == "assistant" and m["content"]:
                assert (m["content"] in learned) == m["train"]
    pairs = lines(exported / "axolotl" / "dpo.jsonl")
    for pair, shown in zip(pairs, said["dpo"], strict=True):
        assert pair["prompt"][-1]["content"] in shown["prompt"]
        assert pair["chosen"][0]["content"] in shown["chosen"] and pair["rejected"][0]["content"] in shown["rejected"]


def test_inspect_reads_the_samples(exported: Path) -> None:
    said = reads("inspect", exported, exported / "inspect")
    for table in ("evaluation", "regression"):
        given = lines(exported / "inspect" / f"{table}.jsonl")
        assert [(s["id"], s["target"], s["choices"], s["metadata"]) for s in said[table]] == [
            (g["id"], g["target"], g.get("choices"), g["metadata"]) for g in given
        ]
        assert [s["roles"] for s in said[table]] == [[m["role"] for m in g["input"]] for g in given]


def test_lm_eval_runs_the_tasks(exported: Path) -> None:
    said = reads("lm_eval", exported, exported / "lm-eval")
    assert said.keys() == {"flywheel_evaluation", "flywheel_evaluation_choice", "flywheel_regression"}
    for task, samples in said.items():
        given = {g["id"]: g for g in lines(exported / "lm-eval" / f"{task.removeprefix('flywheel_')}.jsonl")}
        assert {s["id"] for s in samples} == set(given)
        assert all(s["asked"] == given[s["id"]]["question"] for s in samples)
        assert all(s["target"] == given[s["id"]].get("answer", given[s["id"]].get("right")) for s in samples)


def test_promptfoo_runs_the_tests_and_a_users_words_stay_as_they_are(exported: Path) -> None:
    if not (HOME / "promptfoo" / ".installed").is_file():
        pytest.skip("promptfoo is not there: `make consumers` installs it where there is npm")
    home = exported.parent / "promptfoo"
    home.mkdir()
    for name in ("evaluation", "regression", "prompts"):
        out = home / f"{name}.json"
        done = subprocess.run(
            [str(PROMPTFOO), "eval", "-c", f"{name}.yaml", "--no-cache", "--no-write", "--no-table", "-o", str(out)],
            cwd=exported / "promptfoo", env=os.environ | OFFLINE | {"PROMPTFOO_CONFIG_DIR": str(home), "HOME": str(home)},
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode in (0, 100), done.stdout + done.stderr  # 100: some test failed, as it must: the model is an echo
        results = json.loads(out.read_bytes())["results"]["results"]
        given = {g["description"]: g for g in lines(exported / "promptfoo" / f"{name}.jsonl")}
        assert len(results) == len(given)
        for result in results:
            line = given[result["testCase"]["description"]]
            expected = json.loads(line["vars"]["messages"].removeprefix("{% raw %}").removesuffix("{% endraw %}"))
            assert json.loads(result["response"]["output"]) == expected
            assert len(result["gradingResult"]["componentResults"]) == len(line["assert"])


def test_mlflow_takes_the_records_each_as_one(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow
    import mlflow.genai.datasets as genai

    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    try:
        for table in ("evaluation", "regression"):
            records = lines(exported / "mlflow" / f"{table}.jsonl")
            kept = genai.create_dataset(name=table).merge_records(records).to_df()
            assert len(kept) == len(records)
            known = {canonical(r["inputs"]): r for r in records}
            for inputs, expectations, tags in zip(kept["inputs"], kept["expectations"], kept["tags"], strict=True):
                wanted = known[canonical(inputs)]
                assert expectations == wanted["expectations"] and wanted["tags"].items() <= tags.items()
    finally:
        mlflow.set_tracking_uri(before)
