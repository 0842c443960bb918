"""Rows and tasks for lm-evaluation-harness: free answers, and answers to choose from.

    evaluation.jsonl         {"id": "ex_1", "question": "when do I see my money?", "answer": "Refunds take five days.", …}
    flywheel_evaluation.yaml task: flywheel_evaluation, dataset_kwargs: {data_files: {test: evaluation.jsonl}}, …

    lm_eval run --tasks flywheel_evaluation --include_path . --model …        (inside the folder)

Its models read one text, so a conversation of several turns is written out, who spoke before each; calls of tools as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import yaml

from tasks.exports import chat
from tasks.exports.said import CannotSay, Said
from tasks.exports.sealed import READS, Sealed, about, choices

NAME = "lm-eval"
WHAT = "lm-evaluation-harness: rows and task files, with free answers or choices"
__all__ = ["READS"]
SPEAKERS = {"system": "System", "user": "User", "assistant": "Assistant", "tool": "Tool"}
MEAN = {"aggregation": "mean", "higher_is_better": True}
TASKS: dict[bool, dict[str, Any]] = {
    False: {
        "output_type": "generate_until",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": ["</s>", "<|im_end|>", "\nUser:"], "do_sample": False, "max_gen_toks": 512},
        "metric_list": [{"metric": "exact_match", "ignore_case": True, "ignore_punctuation": True} | MEAN],
    },
    True: {
        "output_type": "multiple_choice",
        "doc_to_target": "right",
        "doc_to_choice": "choices",
        "metric_list": [{"metric": "acc"} | MEAN],
    },
}


def line(table: str, row: Sealed) -> Said:
    found = chat.messages(row.messages)
    document: dict[str, Any] = {"id": row.example_id, "question": _written(found)}
    if row.target_text:
        document["answer"] = row.target_text
    else:
        offered, right = choices(row)
        if not right:
            raise CannotSay("no_reference_answer")
        if len(right) > 1:
            raise CannotSay("several_right_choices")
        document |= {"choices": offered, "right": right[0]}
    choose = "choices" in document
    without = [*chat.without(found), *(["contexts"] if row.contexts != "[]" else [])]
    if getattr(row, "rubric", ""):
        without.append("rubric")
    return Said(f"{table}{'_choice' if choose else ''}.jsonl", document | {"about": about(table, row)}, tuple(without))


def beside(files: Mapping[str, int]) -> dict[str, bytes]:
    made = {}
    for name in files:
        stem = name.removesuffix(".jsonl")
        task = {
            "task": f"flywheel_{stem}",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": name}},
            "test_split": "test",
            "doc_to_text": "{{question}}",
        }
        made[f"flywheel_{stem}.yaml"] = yaml.safe_dump(
            task | TASKS[stem.endswith("_choice")] | {"metadata": {"version": 1.0}}, sort_keys=False
        ).encode()
    return made


def _written(found: list[chat.Message]) -> str:
    if len(found) == 1:
        return found[0]["content"]
    said = [f"{SPEAKERS[m['role']]}: {_text(m)}" for m in found]
    return "\n".join([*said, "Assistant:"])


def _text(message: chat.Message) -> str:
    calls = [{"name": c["function"]["name"], "arguments": chat.arguments(c)} for c in message.get("tool_calls", ())]
    return " ".join(filter(None, [message["content"], *(orjson.dumps(c).decode() for c in calls)]))
