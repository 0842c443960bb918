"""Run by the consumers' Python: those whom the exports are for read them.

    python exports_read.py READER FOLDER   ->  what it read, as JSON (the last line)
"""

from __future__ import annotations

import json
import os
import sys
import types
import typing
from pathlib import Path
from typing import Any

import yaml


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


def inspect(folder: Path) -> dict[str, Any]:
    from inspect_ai.dataset import json_dataset

    said = {}
    for path in sorted(folder.glob("*.jsonl")):
        found = json_dataset(str(path))
        said[path.stem] = [
            {"id": s.id, "roles": [m.role for m in s.input], "target": s.target, "choices": s.choices, "metadata": s.metadata}
            for s in found
        ]
    return said


def lm_eval(folder: Path) -> dict[str, Any]:
    """The whole harness, with a model that answers nothing."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    os.chdir(folder)
    names = [yaml.safe_load(p.read_text(encoding="utf-8"))["task"] for p in sorted(folder.glob("*.yaml"))]
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    done = simple_evaluate("dummy", tasks=names, task_manager=manager, log_samples=True, bootstrap_iters=0)
    return {
        name: [{"id": s["doc"]["id"], "asked": s["arguments"][0][0], "target": s["target"]} for s in samples]
        for name, samples in done["samples"].items()
    }


def llamafactory(folder: Path) -> dict[str, Any]:
    """Its own reading of dataset_info.json and of each line. Its package imports audio and video first, which we do without."""
    import llamafactory

    data = types.ModuleType("llamafactory.data")
    data.__path__ = [str(Path(llamafactory.__file__).parent / "data")]
    sys.modules["llamafactory.data"] = data
    from llamafactory.data.converter import get_dataset_converter
    from llamafactory.data.parser import get_dataset_list

    columns = {"prompt": "instruction", "query": "input", "response": "output", "system": "system", "history": "history"}
    info = folder / "dataset_info.json"
    known = json.loads(info.read_bytes()) if info.is_file() else {"alpaca": {"file_name": "alpaca.jsonl", "columns": columns}}
    said = {}
    for name, one in zip(known, get_dataset_list(list(known), known), strict=True):
        convert = get_dataset_converter(one.formatting, one, types.SimpleNamespace(media_dir="."))
        said[name] = [convert(row) for row in loaded(folder / one.dataset_name)]
    return said


def loaded(path: Path) -> Any:
    import datasets

    return datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=str(path.parent / ".cache"))


def axolotl(folder: Path) -> dict[str, Any]:
    """Its own check of the configuration, and what it would learn of each line, in words."""
    from axolotl.prompt_strategies.chat_template import load
    from axolotl.prompt_strategies.dpo.chat_template import default
    from axolotl.utils.dict import DictDefault
    from axolotl.utils.schemas.config import AxolotlInputConfig

    sys.path.insert(0, str(Path(__file__).parent))
    from trl_trains import tokenizer

    tokens = tokenizer(Path(sys.argv[3]))
    rest = {"base_model": "m", "micro_batch_size": 1, "gradient_accumulation_steps": 1, "num_epochs": 1, "learning_rate": 1e-4,
            "sequence_len": 2048, "chat_template": "tokenizer_default"}  # fmt: skip
    said: dict[str, Any] = {}
    for path in sorted(folder.glob("*.yaml")):
        given = yaml.safe_load(path.read_text(encoding="utf-8")) | rest
        AxolotlInputConfig(**given)
        config = DictDefault(given | {"train_on_inputs": False})
        source = config.datasets[0]
        rows = loaded(folder / source.path)
        if config.rl == "dpo":
            convert = default(config)
            convert = convert[0] if isinstance(convert, tuple) else convert
            said[path.stem] = [convert(dict(row), tokenizer=tokens) for row in rows]
        else:
            strategy = load(tokens, config, ds_cfg=dict(source))
            said[path.stem] = [
                tokens.decode([t for t in strategy.tokenize_prompt(dict(row))["labels"] if t != -100]) for row in rows
            ]
    return said


def openai(folder: Path) -> dict[str, Any]:
    """The types of OpenAI's own client: each message is one that its chat API takes, with no key that it does not know."""
    from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
    from pydantic import TypeAdapter

    keys = [typing.get_type_hints(t) for t in typing.get_args(ChatCompletionMessageParam)]
    kinds = {typing.get_args(k["role"])[0]: set(k) for k in keys}
    one, tool = TypeAdapter(ChatCompletionMessageParam), TypeAdapter(ChatCompletionToolParam)
    said: dict[str, Any] = {"roles": sorted(kinds)}
    for path in sorted(folder.glob("*.jsonl")):
        count = 0
        for line in read_lines(path):
            asked = line.get("input", line)
            spoken = [*asked["messages"], *line.get("preferred_output", ()), *line.get("non_preferred_output", ())]
            for message in spoken:
                weight = message.pop("weight", 1)
                assert weight in (0, 1) and not isinstance(weight, bool), message
                assert set(message) <= kinds[message["role"]], message
                one.validate_python(message, strict=True)
                count += 1
            for t in asked.get("tools", ()):
                tool.validate_python(t, strict=True)
        said[path.stem] = count
    return said


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](Path(sys.argv[2])), default=str))
