"""Tests for promptfoo, with asserts, and a configuration that names them.

    {"description": "ex_1", "vars": {"messages": "[{…}]"}, "assert": [{"type": "icontains", "value": "five days"}, …], …}

Asserts that need no model come first. Of a sealed prompt the right answer's words must be in the reply; where people wrote what a
judge should look at, that is an `llm-rubric`. Of prompts with checks (training side: for trying, not for judging a model that was
trained on them) each check that promptfoo can say becomes an assert. Add your provider to the configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import yaml

from tasks.examples import HOLDOUT, TRAIN, Example, Prompt
from tasks.exports import chat
from tasks.exports.said import CannotSay, Said
from tasks.exports.sealed import about, reference

NAME = "promptfoo"
WHAT = "promptfoo tests, with asserts from right answers, rubrics and checks"
READS = {TRAIN: ("prompts",), HOLDOUT: ("evaluation", "regression")}
TEMPLATES = ("{{", "{%", "{#")
Assert = dict[str, Any]


def line(table: str, row: Example) -> Said:
    if isinstance(row, Prompt):
        found, contexts = chat.messages(row.prompt), row.contexts
        asserts, without = _checked(row)
        metadata = {"table": table, "interaction": row.interaction_id, "topic": row.topic, "language": row.language}
    else:
        found, contexts = chat.messages(row.messages), row.contexts
        asserts, without = _judged(row), ()
        metadata = about(table, row)
    document = {
        "description": row.example_id,
        "vars": {
            "messages": _as_it_is(orjson.dumps(chat.openai(found)).decode()),
            "question": _as_it_is(_last(found)),
            "contexts": _as_it_is(_texts(contexts)),
        },
        "assert": asserts,
        "metadata": {k: v for k, v in metadata.items() if v},
    }
    return Said(f"{table}.jsonl", document, (*chat.without(found), *without))


def beside(files: Mapping[str, int]) -> dict[str, bytes]:
    """One configuration a file; `echo` answers with the prompt and is there to be replaced."""
    return {
        f"{name.removesuffix('.jsonl')}.yaml": yaml.safe_dump(
            {"description": name, "prompts": ["{{messages}}"], "providers": ["echo"], "tests": f"file://{name}"},
            sort_keys=False,
        ).encode()
        for name in files
    }


def _judged(row: Any) -> list[Assert]:
    said: list[Assert] = [{"type": "icontains", "value": _as_it_is(reference(row))}]
    if rubric := getattr(row, "rubric", ""):
        said.append({"type": "llm-rubric", "value": _as_it_is(rubric)})
    return said


def _checked(row: Prompt) -> tuple[list[Assert], tuple[str, ...]]:
    """The checks as asserts, and the names of those that have none. Raises CannotSay where nothing is left to assert."""
    said, without = [], []
    for check in orjson.loads(row.checks):
        name, value = check["check"], check["value"]
        made = _assert(name, value, row.ground_truth)
        if made is None:
            without.append(f"check_{name}")
        else:
            said.append(made)
    if not said and row.ground_truth:
        said = [{"type": "icontains", "value": _as_it_is(row.ground_truth)}]
    if not said:
        raise CannotSay("nothing_to_assert")
    return said, tuple(without)


def _assert(name: str, value: Any, ground_truth: str) -> Assert | None:
    """An action is to give an approved answer, so its text is what is looked for. Whether a text rests on documents, or which
    language it has, no assert of promptfoo's decides without a model."""
    if name == "action" and ground_truth:
        return {"type": "icontains", "value": _as_it_is(ground_truth)}
    if name in ("schema", "json_schema") and isinstance(value, dict):
        return {"type": "is-json", "value": value}
    plain = {"contains": "icontains", "not_contains": "not-icontains", "equals": "equals"}.get(name)
    return {"type": plain, "value": _as_it_is(value)} if plain and isinstance(value, str) else None


def _as_it_is(text: str) -> str:
    """promptfoo fills templates in whatever it reads and takes some values for names of files; a user's words are neither."""
    if not any(t in text for t in TEMPLATES) and not text.startswith(("file:", "package:", "python:", "http")):
        return text
    if "endraw" in text:
        raise CannotSay("template_text")
    return "{% raw %}" + text + "{% endraw %}"


def _last(found: list[chat.Message]) -> str:
    return next((m["content"] for m in reversed(found) if m["role"] == "user"), "")


def _texts(contexts: str) -> str:
    return "\n\n".join(str(d.get("text", "")) for d in orjson.loads(contexts))
