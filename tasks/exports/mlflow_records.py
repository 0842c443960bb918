"""Records of an MLflow evaluation dataset (`mlflow.genai.datasets`, `merge_records`).

    {"inputs": {"messages": […]}, "expectations": {"expected_response": "…"}, "tags": {"language": "en", …}}

MLflow keys its records by their inputs and overwrites what it knows of them, so a prompt comes once; the snapshot stays the
truth, and a dataset in MLflow is a mirror of it.
"""

from __future__ import annotations

from typing import Any

import orjson

from tasks.exports import chat
from tasks.exports.said import Said
from tasks.exports.sealed import READS, Sealed, about, choices, reference

NAME = "mlflow"
WHAT = "MLflow evaluation dataset records"
__all__ = ["READS"]


def line(table: str, row: Sealed) -> Said:
    found = chat.messages(row.messages)
    expectations: dict[str, Any] = {}
    offered, right = choices(row)
    if row.target_text or not offered:
        expectations["expected_response"] = reference(row)
    else:
        expectations["acceptable_responses"] = [offered[k] for k in right]
        expectations["wrong_responses"] = [text for k, text in enumerate(offered) if k not in right]
    if rubric := getattr(row, "rubric", ""):
        expectations["guidelines"] = [rubric]
    if contexts := orjson.loads(row.contexts):
        expectations["contexts"] = contexts
    tags = about(table, row) | {"example": row.example_id}
    document = {"inputs": {"messages": chat.openai(found)}, "expectations": expectations, "tags": tags}
    return Said(f"{table}.jsonl", document, chat.without(found))


def UNIQUE(document: dict[str, Any]) -> Any:
    return document["inputs"]
