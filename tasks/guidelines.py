"""Guidelines and rubrics: versioned files whose clauses say what they are about, so that a change re-asks only what it touches.

    data/guidelines/safety-2.md      ---
                                     options: {policies: [privacy, self_harm, false_promise]}
                                     ---
                                     # Safety: which policies does the answer violate?
                                     ## promise (policies=false_promise)
                                     A promise about money or dates that no source makes …

A clause is a heading of level two: its id, and in brackets the fields, or the values of fields, that it is about; none means
all of the kind. The newest version of a kind is the one in force. Source of the idea: dimensions with clauses as in a legal
code; labels cite the version that they were made under.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from tasks.errors import Refused
from tasks.kinds import KINDS, Kind, with_options
from tasks.records import digest

_NAME = re.compile(r"(?P<kind>[a-z_]+)-(?P<number>[0-9]+)")
_HEADING = re.compile(r"^##\s+(?P<id>[\w-]+)\s*(?:\((?P<about>[^)]*)\))?\s*$")


@dataclass(frozen=True, slots=True)
class Clause:
    """`about` holds (field, value) pairs; value '' is the whole field, and no pair at all the whole kind."""

    id: str
    about: tuple[tuple[str, str], ...]
    text: str

    def touches(self, value: Mapping[str, Any]) -> bool:
        """Whether an answer says something that this clause is about."""
        return not self.about or any(_says(value.get(field), option) for field, option in self.about)


@dataclass(frozen=True, slots=True)
class Guideline:
    """One version: `version` is "safety/2", `kind` has this version's options, `hash` is that of the whole file."""

    version: str
    kind: Kind
    clauses: tuple[Clause, ...]
    text: str
    hash: str

    @property
    def number(self) -> int:
        return int(self.version.partition("/")[2])


def file_name(version: str) -> str:
    return version.replace("/", "-") + ".md"


def parse(name: str, text: str) -> Guideline:
    """A guideline from the stem of its file ("safety-2") and its text. Raises Refused where either is malformed."""
    where = f"data/guidelines/{name}.md"
    named = _NAME.fullmatch(name)
    if named is None or named["kind"] not in KINDS:
        raise Refused(f"{where} is not named after a kind", f"name it KIND-NUMBER.md, KIND one of {', '.join(KINDS)}")
    front, body = _front(text, where)
    kind = KINDS[named["kind"]]
    try:
        kind = with_options(kind, front.get("options") or {})
    except (KeyError, TypeError) as e:
        raise Refused(f"{where}: options for {e}, a field that {kind.name} has no options for",
                      f"fields: {', '.join(f.name for f in kind.fields)}") from None  # fmt: skip
    clauses = _clauses(body)
    fields = {f.name for f in kind.fields}
    for clause in clauses:
        for field, _ in clause.about:
            if field not in fields:
                raise Refused(f"{where}: clause {clause.id} is about {field!r}, which is no field of {kind.name}",
                              f"fields: {', '.join(sorted(fields))}")  # fmt: skip
    return Guideline(f"{kind.name}/{int(named['number'])}", kind, clauses, text, digest(text.encode()))


def newest(guidelines: Iterable[Guideline]) -> dict[str, Guideline]:
    """Kind -> the version in force."""
    found: dict[str, Guideline] = {}
    for g in sorted(guidelines, key=lambda g: g.number):
        found[g.kind.name] = g
    return found


def changed(old: Guideline, new: Guideline) -> tuple[Clause, ...]:
    """Clauses that were added, removed or rewritten; of a rewritten one both texts. Changed options touch the whole kind."""
    if old.kind != new.kind:
        return (Clause("options", (), ""),)
    before, after = set(old.clauses), set(new.clauses)
    return tuple(sorted(before ^ after, key=lambda c: (c.id, c.text)))


def touched(values: Sequence[Mapping[str, Any]], old: Guideline, new: Guideline) -> bool:
    """Whether answers made under `old` have to be asked anew under `new`: one of them says what a changed clause is about."""
    return any(clause.touches(value) for clause in changed(old, new) for value in values)


def _front(text: str, where: str) -> tuple[dict[str, Any], str]:
    if not text.startswith("---\n"):
        return {}, text
    head, end, body = text[4:].partition("\n---\n")
    try:
        front = yaml.safe_load(head) if end else None
    except yaml.YAMLError as e:
        raise Refused(f"{where}: its head is not valid YAML: {e}", "mend the lines between the two ---") from None
    if not isinstance(front, dict) or set(front) - {"options"}:
        raise Refused(f"{where}: its head is not 'options: {{field: [...]}}' between two lines ---", "mend it or leave it out")
    return front, body


def _clauses(body: str) -> tuple[Clause, ...]:
    found: list[Clause] = []
    lines: list[str] = []
    heading: re.Match[str] | None = None
    for line in [*body.splitlines(), "## end"]:
        met = _HEADING.match(line)
        if met is None:
            lines.append(line)
            continue
        if heading is not None:
            pairs = [a.strip().partition("=") for a in (heading["about"] or "").split(",") if a.strip()]
            about = tuple((field.strip(), option.strip()) for field, _, option in pairs)
            found.append(Clause(heading["id"], about, "\n".join(lines).strip()))
        heading, lines = met, []
    return tuple(found)


def _says(given: Any, option: str) -> bool:
    if given in (None, "", [], {}):
        return False
    if not option:
        return True
    if isinstance(given, list):
        return any(_says(g.get("label") if isinstance(g, dict) else g, option) for g in given)
    return str(given) == option
