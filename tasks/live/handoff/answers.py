"""One answer line from a tool -> an annotation, or a reject with its reason. Nothing about it is believed unchecked.

What becomes of an answer (each has one outcome):
    the same line again                    duplicate
    the same person, later                 replaces the earlier one; both stay in the lake
    withdrawn                              the person's answer counts no more
    skipped                                counts as no answer; another person is asked
    after the ask was due, or extra        stored and used: it cost somebody's time
    an ask that was never made, a changed text, a value of another shape, an unknown person or role, a time to come
                                           rejected: unknown_candidate, not_asked, changed_content, bad_value, changed_text,
                                           unknown_answer, missing_field, unknown_annotator, not_an_expert, time_to_come
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from tasks.errors import BadRecord
from tasks.formats.fields import number, required_text, rfc3339_us, text
from tasks.guidelines import Guideline
from tasks.kinds import Ask, checked
from tasks.live.people import ANNOTATOR, EXPERT, Person
from tasks.records import Annotation, Asked, canonical, content_id

STATUSES = ("submitted", "skipped", "withdrawn")
TOLERANCE_US = 24 * 3_600_000_000  # a tool's clock and its time zone may be off; a year may not


@dataclass(frozen=True, slots=True)
class Expected:
    """What may come back: every ask by (batch, candidate, kind), as the ledger has it and as people saw it."""

    asked: Mapping[tuple[str, str, str], list[Asked]]
    shown: Mapping[str, Ask]
    guidelines: Mapping[str, Guideline]
    approved: frozenset[str]
    people: Mapping[str, Person] | None


def annotation(line: bytes, source: str, expected: Expected, now: int) -> Annotation:
    """Raises BadRecord."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as e:
        raise BadRecord("bad_json", str(e)) from None
    if not isinstance(row, dict):
        raise BadRecord("bad_json", "an answer is a JSON object")
    batch_id, candidate_id = required_text(row, "batch_id"), required_text(row, "candidate_id")
    kind, annotator = required_text(row, "kind"), required_text(row, "annotator")
    asks = _asks(expected, batch_id, candidate_id, kind)
    if row.get("content_hash") != asks[-1].content_hash:
        raise BadRecord("changed_content", "content_hash is not that of the candidate: the text was changed on the way")
    role = _role(expected.people, annotator, asks)
    status = text(row, "status") or "submitted"
    if status not in STATUSES:
        raise BadRecord("bad_value", f"status is {status!r}, not one of {', '.join(STATUSES)}")
    asked = _under(asks, text(row, "guideline"))
    ts = rfc3339_us(row.get("time"))
    if ts > now + TOLERANCE_US:
        raise BadRecord("time_to_come", f"time {row.get('time')!r} is yet to come: it would outdo every later answer")
    ask = expected.shown[asked.ask_id]
    value: dict[str, Any] = {}
    if status == "submitted":
        value = checked(expected.guidelines[asked.guideline].kind, row.get("value"), ask, expected.approved)
    seconds = number(row, "seconds")
    said = canonical(value).decode()
    return Annotation(
        annotation_id=content_id("an", batch_id, candidate_id, kind, annotator, said, status, text(row, "note"), ts),
        batch_id=batch_id,
        candidate_id=candidate_id,
        interaction_id=asked.interaction_id,
        kind=kind,
        annotator=annotator,
        role=role,
        value=said,
        status=status,
        note=text(row, "note"),
        guideline=asked.guideline,
        ts=ts,
        received=now,
        seconds=seconds if seconds is not None and seconds >= 0 else None,
        shown=_shown(row.get("shown"), ask),
        source=source,
        native_id=text(row, "native_id"),
    )


def _asks(expected: Expected, batch_id: str, candidate_id: str, kind: str) -> list[Asked]:
    asks = expected.asked.get((batch_id, candidate_id, kind))
    if asks:
        return asks
    if any(b == batch_id and c == candidate_id for b, c, _ in expected.asked):
        raise BadRecord("not_asked", f"candidate {candidate_id} was not asked for {kind}")
    raise BadRecord("unknown_candidate", f"candidate {candidate_id} of batch {batch_id} was never sent")


def _role(people: Mapping[str, Person] | None, annotator: str, asks: list[Asked]) -> str:
    """Experts answer as annotators until they are asked as experts."""
    if people is not None and annotator not in people:
        raise BadRecord("unknown_annotator", f"{annotator!r} is not on the list of data/annotators.jsonl")
    as_expert = any(a.role == EXPERT for a in asks)
    if not any(a.role == ANNOTATOR for a in asks) and (people is None or people[annotator].role != EXPERT):
        raise BadRecord("not_an_expert", f"{annotator!r} may not decide what experts are asked")
    return EXPERT if as_expert and people is not None and people[annotator].role == EXPERT else ANNOTATOR


def _under(asks: list[Asked], guideline: str) -> Asked:
    """The ask that was answered: the newest under the guideline that the answer names, else the newest."""
    if not guideline:
        return asks[-1]
    same = [a for a in asks if a.guideline == guideline]
    if not same:
        raise BadRecord("not_asked", f"it was asked under {asks[-1].guideline}, not under {guideline!r}")
    return same[-1]


def _shown(given: Any, ask: Ask) -> str:
    if given in (None, []):
        return "[]"
    if not isinstance(given, list) or sorted(map(str, given)) != sorted(a["id"] for a in ask.answers):
        raise BadRecord("bad_value", "shown is the order of the answers that were asked about")
    return canonical(given).decode()
