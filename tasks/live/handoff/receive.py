"""Receive: answers from every tool -> annotations or rejects; then whoever is not sure yet is asked again.

    in 640 = stored 631 + duplicate 4 + rejected 5;  asked again 41, of experts 6, late 3, expired 0
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import orjson

from tasks.errors import BadRecord
from tasks.formats.native import ERASED_WHY
from tasks.live.erasure.lines import TOMBSTONE
from tasks.live.erasure.theirs import CANDIDATE, Tombstones
from tasks.live.handoff.answers import Expected, annotation
from tasks.live.handoff.desk import FILES, AnnotateParams, asks_of, seen, tool
from tasks.live.handoff.files import Files
from tasks.live.handoff.tool import Delivery
from tasks.live.intake import Account
from tasks.live.labels import catalogue, guidelines, write_rates
from tasks.live.lake import Lake, writing
from tasks.live.people import roster
from tasks.live.segments import Segments
from tasks.live.workspace import Workspace
from tasks.records import Asked, Reject, content_id


def receive(workspace: Workspace) -> Account:
    """Take in what came back: from the configured tool, and always from answer files (the review page writes those)."""
    with writing(workspace):
        lake = Lake(workspace.lake)
        account = Account()
        expected: Expected | None = None
        segments = Segments(workspace.raw / "answers")
        files, erased = Files(workspace), Tombstones.of(workspace)
        for delivery in _deliveries(workspace, files):
            expected = expected or expected_answers(workspace, lake)
            now = time.time_ns() // 1000
            data = _without_erased(delivery.data, erased)
            segment = segments.write(data, delivery.source, "answers", now).name
            annotations = []
            rejects = [
                Reject(content_id("rj", delivery.source, e.code, e.message), delivery.source, e.code, e.message, segment, 0)
                for e in delivery.flaws
            ]
            for number, line in enumerate(data.split(b"\n"), 1):
                if not line.strip():
                    continue
                if line == TOMBSTONE:
                    id = content_id("rj", segment, number, 0)
                    rejects.append(Reject(id, delivery.source, "erased", ERASED_WHY, segment, number))
                    continue
                try:
                    annotations.append(annotation(line, delivery.source, expected, now))
                except BadRecord as e:
                    id = content_id("rj", segment, number, 0)
                    rejects.append(Reject(id, delivery.source, e.code, e.message, segment, number))
            stored, duplicate = lake.append("annotations", annotations)
            lake.append("rejects", rejects)
            account.files += 1
            account.add(stored, duplicate, rejects)
            delivery.accepted()
        account.unfinished += files.unfinished
        if account.files:
            write_rates(workspace)
        return account


def _deliveries(workspace: Workspace, files: Files) -> Iterator[Delivery]:
    yield from files.receive()
    name = workspace.params("annotate", AnnotateParams).tool
    if name != FILES:
        yield from tool(workspace, name).receive()


def _without_erased(data: bytes, erased: Tombstones) -> bytes:
    """Answers about somebody who was erased meanwhile are not kept either."""
    if not erased:
        return data
    return b"\n".join(TOMBSTONE if _is_about(line, erased) else line for line in data.split(b"\n"))


def _is_about(line: bytes, erased: Tombstones) -> bool:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return isinstance(row, dict) and isinstance(c := row.get("candidate_id"), str) and erased.has(CANDIDATE, "", c)


def expected_answers(workspace: Workspace, lake: Lake) -> Expected:
    """Every ask that was made, and what an answer to it is checked against."""
    asked = lake.rows(Asked, "SELECT * FROM asks ORDER BY round, ts, ask_id")
    by_place: dict[tuple[str, str, str], list[Asked]] = {}
    for a in asked:
        by_place.setdefault((a.batch_id, a.candidate_id, a.kind), []).append(a)
    shown = asks_of(asked, seen(lake, sorted({a.interaction_id for a in asked})), {})
    return Expected(
        by_place,
        {a.ask_id: a for a in shown},
        guidelines(workspace),
        frozenset(a.id for a in catalogue(workspace)),
        roster(workspace),
    )


