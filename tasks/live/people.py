"""Who may answer, with which role, and by what name a tool knows them: the roster that a team keeps, or none.

    data/annotators.jsonl   {"annotator": "ana", "role": "expert", "token_sha256": "9f86d0…", "labelstudio": "ana@example.org"}
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from tasks.errors import Refused
from tasks.kinds import ANNOTATOR, EXPERT
from tasks.live.workspace import Workspace, write_durably
from tasks.records import read_jsonl


@dataclass(frozen=True, slots=True)
class Person:
    """`token_sha256` lets them into the review page ('' not at all); `labelstudio` is their address there."""

    annotator: str
    role: str = ANNOTATOR
    token_sha256: str = ""
    labelstudio: str = ""


def place(workspace: Workspace) -> Path:
    return workspace.data / "annotators.jsonl"


def roster(workspace: Workspace) -> dict[str, Person] | None:
    """Everybody by name; None where the team keeps no list: then anybody may answer, and nobody decides. Raises Refused."""
    path = place(workspace)
    if not path.is_file():
        return None
    try:
        people = [Person(**row) for row in read_jsonl(path)]
    except (TypeError, Refused) as e:
        raise Refused(f"{path} can't be read: {e}", "mend the line, or remove it and invite that person again") from None
    wrong = [p for p in people if not isinstance(p.annotator, str) or p.role not in (ANNOTATOR, EXPERT)]
    if wrong:
        raise Refused(f"{path} can't be read: {wrong[0]}", 'a line is {"annotator": NAME, "role": "annotator" or "expert"}')
    return {p.annotator: p for p in people}


def by_role(workspace: Workspace) -> dict[str, list[str]]:
    """Role -> names, in the order of the roster."""
    people = (roster(workspace) or {}).values()
    return {role: [p.annotator for p in people if p.role == role] for role in (ANNOTATOR, EXPERT)}


def write(workspace: Workspace, people: list[Person]) -> None:
    write_durably(place(workspace), b"".join(orjson.dumps(asdict(p)) + b"\n" for p in people))
    place(workspace).chmod(0o600)
