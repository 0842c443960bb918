"""Records, logs and workspaces made by hand: the smallest real things that a test can run on."""

from __future__ import annotations

import json
import shutil
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from tasks.frozen import Exchange, Given
from tasks.live.workspace import Workspace
from tasks.records import Annotation, Approved, Candidate, Interaction, Member, canonical, content_id, write_jsonl
from tests.imports import ROOT

SHARED = ROOT.parent / "shared"
NOON = 1_767_614_400_000_000  # 2026-01-05T12:00:00Z, in microseconds

CATALOGUE = tuple(
    Approved(id, kind, topic, title, text, f"help/{id}")
    for id, kind, topic, title, text in (
        ("refund", "answer", "billing", "Refund time", "Refunds take five working days to reach your bank account."),
        ("invoice", "answer", "billing", "Invoice", "Open the app, choose billing and download the invoice as a file."),
        ("battery", "answer", "bike", "Charging the battery", "Charge the battery for six hours with its own charger."),
        (
            "puncture",
            "answer",
            "bike",
            "Flat tyre",
            "Book a visit in the app and a mechanic mends the tyre at your door.",
        ),
        ("escalate", "escalate", "people", "Hand over", "A colleague takes over and writes to you today."),
        ("refuse", "refuse", "scope", "Decline", "I can only help with bicycle subscriptions."),
    )
)
TEXT = {a.id: a.text for a in CATALOGUE}


def interaction(name: str, question: str = "when do I see my money?", **changes: Any) -> Interaction:
    """An interaction whose ids derive from its name."""
    messages = canonical([{"role": "user", "content": question}]).decode()
    made = Interaction(
        interaction_id=f"ix_{name}",
        dialect="flywheel",
        native_id=name,
        response_id=name,
        trace_id="",
        session_id=f"s-{name}",
        user="",
        ts=NOON,
        messages=messages,
        question=question,
        response=TEXT["refund"],
        contexts="[]",
        finish_reason="stop",
        model_version="1",
        confidence=0.8,
        latency_ms=None,
        input_tokens=None,
        output_tokens=None,
        content_hash="",
        raw_segment="",
        raw_line=0,
    )
    made = replace(made, **changes)
    return replace(made, content_hash=content_id("ch", made.messages, made.response))


def exchange(name: str, question: str = "when do I see my money?", side: str = "train", **changes: Any) -> Exchange:
    """An interaction with its place, as it is frozen."""
    made = Exchange(
        interaction_id=f"ix_{name}",
        arrived=NOON,
        group_id=f"gr_{name}",
        side=side,
        batch_id="bt_1",
        part="mined",
        propensity=0.5,
        session_id=f"s-{name}",
        user="",
        tenant="",
        ts=NOON,
        language="en",
        model_version="1",
        prompt_name="",
        messages=canonical([{"role": "user", "content": question}]).decode(),
        question=question,
        response=TEXT["refund"],
        outputs="[]",
        contexts="[]",
        tools="[]",
    )
    return replace(made, **changes)


def given(made: Annotation) -> Given:
    """An annotation as it is frozen."""
    if isinstance(made, Given):
        return made
    return Given(**{f.name: getattr(made, f.name) for f in fields(Annotation)}, arrived=NOON)


def member(name: str, side: str = "train", group: str = "") -> Member:
    return Member(f"ix_{name}", group or f"gr_{name}", side, f"qk_{name}")


def candidate(name: str, part: str = "mined", side: str = "train", batch: str = "bt_1", **changes: Any) -> Candidate:
    made = Candidate(
        f"cd_{name}", batch, f"ix_{name}", part, side, 0.5, 10, 0.73, 3, '{"rephrased":[0.73,"asked again"]}'
    )
    return replace(made, **changes)


def annotation(name: str, annotator: str, verdict: str = "right", correction: str = "", **changes: Any) -> Annotation:
    """One person's answer, by default of kind `answer`; `value` in `changes` may be a dict."""
    value = changes.pop("value", {"verdict": verdict} | ({"correction": correction} if correction else {}))
    made = Annotation(
        annotation_id=f"an_{name}_{annotator}",
        batch_id="bt_1",
        candidate_id=f"cd_{name}",
        interaction_id=f"ix_{name}",
        kind="answer",
        annotator=annotator,
        role="annotator",
        value=canonical(value).decode(),
        status="submitted",
        note="",
        guideline="answer/1",
        ts=NOON,
        received=NOON,
        seconds=None,
        shown="[]",
        source="answers.jsonl",
        native_id="",
    )
    return replace(made, **changes)


def workspace(root: Path) -> Workspace:
    """A workspace without a git clone around it: folders, a key, the shipped params.yaml, guideline and a catalogue."""
    place = Workspace(root)
    for folder in (place.state, place.inbox, place.answers, place.data / "guidelines"):
        folder.mkdir(parents=True)
    (place.state / "pseudonym.key").write_text("a key of this test", encoding="ascii")
    shutil.copy(ROOT / "params.yaml", root / "params.yaml")
    shutil.copytree(ROOT / "data" / "guidelines", place.data / "guidelines", dirs_exist_ok=True)
    write_jsonl(place.catalogue, CATALOGUE)
    return place


def asked(name: str, **changes: Any) -> dict[str, Any]:
    """One interaction as an application logs it, in the project's own lines."""
    return {
        "flywheel": "interaction/1",
        "id": name,
        "session_id": "s-1",
        "time": "2026-01-05T12:00:00Z",
        "user_id": "u-9",
        "messages": [{"role": "user", "content": f"question {name}"}],
        "response": "Refunds take five days.",
    } | changes


def said(name: str, about: str, **changes: Any) -> dict[str, Any]:
    """One feedback event as an application logs it."""
    return {
        "flywheel": "feedback/1",
        "id": name,
        "target": {"response_id": about},
        "name": "thumb",
        "value": False,
        "user_id": "u-9",
        "time": "2026-01-05T12:01:00Z",
    } | changes


def attribute(key: str, value: Any) -> dict[str, Any]:
    """One OTLP attribute with its typed value."""
    return {"key": key, "value": _any_value(value)}


def _any_value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_any_value(v) for v in value]}}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": [attribute(k, v) for k, v in value.items()]}}
    return {"stringValue": value}


def chat_span(span_id: str = "5a17", **changes: Any) -> dict[str, Any]:
    """A generation span; `attributes` in `changes` are laid over the ordinary ones, None takes one away."""
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.response.id": f"resp-{span_id}",
        "gen_ai.conversation.id": "s-1",
        "user.id": "u-9",
        "gen_ai.input.messages": json.dumps([{"role": "user", "parts": [{"type": "text", "content": "when?"}]}]),
        "gen_ai.output.messages": json.dumps(
            [{"role": "assistant", "parts": [{"type": "text", "content": "In five days."}], "finish_reason": "stop"}]
        ),
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 12,
        "flywheel.confidence": 0.75,
    } | changes.pop("attributes", {})
    return {
        "traceId": "65747c7a70eb81d8",
        "spanId": span_id,
        "name": "chat support",
        "startTimeUnixNano": "1767614400000000000",
        "endTimeUnixNano": "1767614401500000000",
        "attributes": [attribute(k, v) for k, v in attributes.items() if v is not None],
    } | changes


def traces(*spans: Any) -> dict[str, Any]:
    return {"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]}


def line(document: Any) -> bytes:
    return json.dumps(document).encode()


def log(path: Path, *documents: Any) -> Path:
    """Write a log file of whole lines; bytes are written as they are."""
    lines = [d if isinstance(d, bytes) else line(d) for d in documents]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(x + b"\n" for x in lines))
    return path
