"""What the page is told: a candidate with what is asked about it, and how far a batch is. JSON documents, names left out.

    screen(desk, group, ana)  ->  {"batch_id", "candidate_id", "question", "history", "contexts", "response", "asks": [{…}]}
    progress(desk, ana)       ->  {"batches": [{"batch_id", "asked": 90, "answered": 31, "open": 59, "mine": 12, …}], …}
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict
from itertools import combinations
from typing import Any

import orjson

from tasks.kinds import SPANS, TEXT, Ask, Field, Kind
from tasks.live.handoff.tool import shuffled
from tasks.live.people import EXPERT, Person
from tasks.live.review.desk import Desk, counts, key_of
from tasks.live.review.given import SUBMITTED, WITHDRAWN, Given
from tasks.live.review.outbox import Batch, Group
from tasks.records import canonical

# With fewer candidates a share of agreement would tell people what the other one said.
LEAST_PAIRED = 5


def screen(desk: Desk, group: Group, person: Person) -> dict[str, Any]:
    """One candidate, as it stands before one person."""
    first = group.asks[0]
    batch = desk.outbox.batches[group.batch_id]
    return {
        "batch_id": group.batch_id,
        "candidate_id": group.candidate_id,
        "question": first.question,
        "history": [_message(m) for m in first.history],
        "contexts": [_document(c) for c in first.contexts],
        "response": first.response,
        "due": first.due,
        "asks": [_ask(desk, batch, ask, person) for ask in group.asks],
    }


def guideline(desk: Desk, batch_id: str, version: str) -> str | None:
    """Its text, as it was when the batch went out."""
    batch = desk.outbox.batches.get(batch_id)
    return batch.guidelines.get(version.replace("/", "-")) if batch else None


def progress(desk: Desk, person: Person) -> dict[str, Any]:
    """How far each batch is. Agreement is anonymous, and of kinds that enough people answered."""
    desk.refresh()
    batches = []
    for batch in sorted(desk.outbox.batches.values(), key=lambda b: (b.written, b.batch_id)):
        asks = [a for g in batch.groups for a in g.asks]
        due = min((a.due for a in asks if a.due), default="")
        batches.append(tally(desk, batch, person) | {"due": due, "agreement": agreement(desk, batch.kinds, asks)})
    return {"batches": batches, "cap": desk.cap, "unreadable": desk.outbox.unreadable}


def tally(desk: Desk, batch: Batch, person: Person) -> dict[str, Any]:
    """How many questions of a batch have the answers that they need, and how many this person answered."""
    asks = [a for g in batch.groups for a in g.asks]
    answered = sum(len(desk.counted(a)) >= a.wanted for a in asks)
    mine = [desk.mine(a, person) for a in asks]
    return {
        "batch_id": batch.batch_id,
        "asked": len(asks),
        "answered": answered,
        "open": len(asks) - answered,
        "mine": sum(m is not None and m.status == SUBMITTED for m in mine),
    }


def agreement(desk: Desk, kinds: Any, asks: Iterable[Ask]) -> list[dict[str, Any]]:
    """Of each kind, the share of pairs of answers to the same candidate that agree on the kind's first field."""
    shares: dict[str, list[float]] = {}
    for ask in asks:
        values = [g.value for g in desk.answers.of(key_of(ask)).values() if counts(g, ask)]
        main = kinds[ask.kind].main
        pairs = [_alike(main, a.get(main.name), b.get(main.name)) for a, b in combinations(values, 2)]
        if pairs and main.type != TEXT:
            shares.setdefault(ask.kind, []).append(sum(pairs) / len(pairs))
    return [
        {"kind": kind, "candidates": len(s), "share": round(sum(s) / len(s), 3)}
        for kind, s in sorted(shares.items())
        if len(s) >= LEAST_PAIRED
    ]


def _alike(field: Field, a: Any, b: Any) -> float:
    """1 for the same, 0 for another; of marked passages, how much of the marked characters both marked alike."""
    if field.type != SPANS:
        return float(canonical(a) == canonical(b))
    try:
        one, other = ({(i, s["label"]) for s in v for i in range(s["start"], min(s["end"], 10**6))} for v in (a, b))
    except (KeyError, TypeError):  # a line from elsewhere that was not checked yet
        return 0.0
    return 2 * len(one & other) / (len(one) + len(other)) if one or other else 1.0


def _ask(desk: Desk, batch: Batch, ask: Ask, person: Person) -> dict[str, Any]:
    kind: Kind = batch.kinds[ask.kind]
    mine = desk.mine(ask, person)
    return {
        "ask_id": ask.ask_id,
        "content_hash": ask.content_hash,
        "kind": kind.name,
        "question": kind.question,
        "fields": [asdict(f) for f in kind.fields],
        "role": ask.role,
        "guideline": ask.guideline,
        "answers": [{"id": a["id"], "text": str(a.get("text", ""))} for a in shuffled(ask, person.annotator)],
        "mine": None
        if mine is None or mine.status == WITHDRAWN
        else {"status": mine.status, "value": mine.value, "note": mine.note},
        "votes": _votes(desk.answers.of(key_of(ask)).values(), ask, person) if ask.role == EXPERT else [],
    }


def _votes(given: Iterable[Given], ask: Ask, person: Person) -> list[dict[str, Any]]:
    """What others answered, for who decides: without names, and in an order that tells nothing of who came first."""
    votes = [
        {"value": g.value, "note": g.note} for g in given if counts(g, ask) and g.annotator != person.annotator
    ]
    return sorted(votes, key=lambda v: hashlib.sha256(ask.ask_id.encode() + canonical(v)).digest())


def _message(message: Any) -> dict[str, str]:
    """A chat message as a person reads it. Parts of it that are no text are shown as JSON."""
    if not isinstance(message, dict):
        return {"role": "", "text": _plain(message)}
    others = {k: v for k, v in message.items() if k not in ("role", "content") and v not in (None, "", [], {})}
    text = _plain(message.get("content"))
    return {"role": str(message.get("role", "")), "text": f"{text}\n{_plain(others)}".strip() if others else text}


def _document(context: Any) -> dict[str, Any]:
    """A source. Its text is what offsets count in, so it is handed on as it is; the rest stands in its heading."""
    if not isinstance(context, dict):
        return {"title": "", "text": ""}
    named = [str(context[k]) for k in ("title", "source", "url", "id") if context.get(k)]
    return {"title": " · ".join(dict.fromkeys(named)), "text": str(context.get("text", ""))}


def _plain(content: Any) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in content):
        return "\n".join(p["text"] for p in content)
    return orjson.dumps(content, option=orjson.OPT_INDENT_2).decode()
