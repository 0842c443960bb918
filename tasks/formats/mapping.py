"""Log lines of any shape, by a mapping that the team writes: the record as our own line (native.py), before the edge sees it.

    # dialects.toml in the workspace; expressions are JMESPath
    [[interaction]]
    when = "app == 'shop'"              # true for records of this kind; first that says so wins
    id = "req.id"                       # without it: a digest of the record
    time = "at"
    session_id = "req.chat"
    user_id = "who"                     # becomes a pseudonym, because the mapping says that it is an identity
    question = "prompt.text"            # or messages
    response = "answer"

A JSON text inside a field is opened first, so `body.messages[-1].content` reaches into a logged body. What no expression
names survives in `attributes`.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jmespath
import orjson
from jmespath.exceptions import JMESPathError
from jmespath.parser import ParsedResult

from tasks.errors import BadRecord, Refused
from tasks.formats.fields import EPOCH, time_us
from tasks.formats.native import COUNTS, NUMBERS, TEXTS
from tasks.records import canonical, content_id

INTERACTION = {"id", "time", "question", "messages", "response", "outputs", "contexts", "tools", "params", "tags", *TEXTS, *NUMBERS,
               *COUNTS}  # fmt: skip
FEEDBACK = {"id", "time", "response_id", "target_id", "trace_id", "session_id", "name", "value", "comment", "source", "user_id",
            "tenant"}  # fmt: skip
NEEDED = {"interaction": ("time", "response"), "feedback": ("time", "name", "value")}
TARGETS = {"response_id": "response_id", "target_id": "id", "trace_id": "trace_id", "session_id": "session_id"}


@dataclass(frozen=True, slots=True)
class Mapping:
    kind: str  # interaction or feedback
    when: ParsedResult
    fields: dict[str, ParsedResult]
    names: frozenset[str]  # of the record's own keys that the expressions begin with


class Mappings:
    """What dialects.toml says. Raises Refused for what cannot be read, with the place."""

    def __init__(self, path: Path):
        self.rules: list[Mapping] = []
        if not path.is_file():
            return
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
            raise Refused(f"{path.name}: {e}", "write TOML; docs/dialects.md has an example") from None
        for kind, rules in document.items():
            if kind not in NEEDED or not isinstance(rules, list):
                raise Refused(f"{path.name}: [{kind}] is no kind", "write [[interaction]] or [[feedback]]")
            self.rules += [_rule(path.name, kind, n, rule) for n, rule in enumerate(rules, 1)]

    def line(self, document: dict[str, Any]) -> dict[str, Any] | None:
        """The record as our own line; None where no mapping speaks of it. Never raises: what is missing or of a wrong type is
        left for native.py to reject, after the edge has replaced the identities that the mapping named.
        """
        if not self.rules or "flywheel" in document:
            return None
        opened = {key: _opened(value) for key, value in document.items()}
        for rule in self.rules:
            if _search(rule.when, opened) is True:
                return _line(rule, opened, document)
        return None


def _rule(file: str, kind: str, n: int, rule: Any) -> Mapping:
    place = f"{file}: [[{kind}]] number {n}"
    known = INTERACTION if kind == "interaction" else FEEDBACK
    if not isinstance(rule, dict) or not all(isinstance(v, str) for v in rule.values()) or "when" not in rule:
        raise Refused(f"{place} needs 'when' and its fields, each an expression", "docs/dialects.md has an example")
    if unknown := sorted(rule.keys() - known - {"when"}):
        raise Refused(f"{place}: no field {unknown[0]!r}", f"known: {', '.join(sorted(known))}")
    if missing := [name for name in NEEDED[kind] if name not in rule]:
        raise Refused(f"{place}: '{missing[0]}' is missing", f"say where the {missing[0]} stands")
    if kind == "interaction" and not rule.keys() & {"question", "messages"}:
        raise Refused(f"{place}: neither 'question' nor 'messages'", "say where the question stands")
    if kind == "feedback" and not rule.keys() & TARGETS.keys():
        raise Refused(f"{place}: no target", f"one of {', '.join(TARGETS)}")
    compiled = {}
    for name, expression in rule.items():
        try:
            compiled[name] = jmespath.compile(expression)
        except JMESPathError as e:
            raise Refused(f"{place}: {name} = {expression!r} is no JMESPath: {e}", "https://jmespath.org") from None
    when = compiled.pop("when")
    return Mapping(kind, when, compiled, frozenset().union(*(_first_names(c.parsed) for c in compiled.values())))


def _first_names(node: dict[str, Any]) -> set[str]:
    """The keys of the record itself that an expression reads."""
    if node["type"] == "field":
        return {node["value"]}
    if node["type"] in (
        "subexpression",
        "index_expression",
        "projection",
        "value_projection",
        "filter_projection",
        "flatten",
        "pipe",
    ):
        return _first_names(node["children"][0])
    return {name for child in node["children"] if isinstance(child, dict) for name in _first_names(child)}


def _line(rule: Mapping, opened: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    found = {name: _search(expression, opened) for name, expression in rule.fields.items()}
    found = {name: value for name, value in found.items() if value is not None}
    line: dict[str, Any] = {"flywheel": f"{rule.kind}/1", "id": str(found.pop("id", "") or "")}
    line["id"] = line["id"] or content_id("id", canonical(document).decode())
    line["time"] = _written(found.pop("time", None))
    if rule.kind == "feedback":
        named = [name for name in TARGETS if found.get(name)]
        line["target"] = {TARGETS[name]: str(found[name]) for name in named[:1]}
        return line | {name: value for name, value in found.items() if name not in TARGETS}
    question = found.pop("question", None)
    if question is not None and "messages" not in found:
        found["messages"] = [{"role": "user", "content": question}]
    rest = {key: value for key, value in document.items() if key not in rule.names}
    texts = {name: value if isinstance(value, str) else str(value) for name, value in found.items() if name in TEXTS}
    return line | found | texts | ({"attributes": rest} if rest else {})


def _search(expression: ParsedResult, document: dict[str, Any]) -> Any:
    try:
        return expression.search(document)
    except JMESPathError:  # a function that got a value of another type than it takes
        return None


def _opened(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def _written(time: Any) -> Any:
    """A time as RFC 3339; as it is, where it is none."""
    try:
        moment: datetime = EPOCH + timedelta(microseconds=time_us(time))
    except BadRecord:
        return time
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
