"""A lake of made traffic, of any size: conversations that overlap in time, openings that several models answered, feedback.

The texts are those of `log_lines`. Conversations lie across row groups and files, as in real logs; same seed, same rows.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from benchmarks.log_lines import Texts
from tasks.live.lake import Pending
from tasks.records import Feedback, Interaction, arrow_schema, content_id

NOON = 1_767_614_400_000_000  # 2026-01-05T12:00:00Z, in microseconds
MODELS = ("velora-large-2", "velora-small-1", "velora-nano-3")
OPENINGS = 40  # questions with which one conversation in ten begins
AT_ONCE = 200  # conversations at a time
GROUP_ROWS = 4096  # of a row group, about a chunk of capture's
BLANK = {
    "user": "", "tenant": "", "raw_segment": "", "raw_line": 0, "dialect": "flywheel", "trace_id": "", "content_hash": "",
    "kind": "chat", "status": "ok", "error": "", "parent_id": "", "outputs": "[]", "tools": "[]", "params": "{}",
    "provider": "", "model_requested": "", "prompt_name": "faq", "prompt_version": "7", "prompt_variables": "{}",
    "app_version": "", "environment": "", "language": "", "tags": "[]", "attributes": "{}", "finish_reason": "stop",
    "model_version": "1",
}  # fmt: skip


def write_lake(lake: Path, interactions: int, files: int, seed: int = 1, group_rows: int = GROUP_ROWS) -> int:
    """Tables of interactions (in so many files) and feedback; returns how many characters the interactions' texts have."""
    texts, chance = Texts(seed, 0.03), random.Random(seed + 1)
    written = size = 0
    ends = {interactions * (k + 1) // files for k in range(files)}
    events: list[dict[str, Any]] = []
    pending = Pending(lake, "interactions")
    rows: list[dict[str, Any]] = []
    for row in _turns(texts, chance, interactions):
        rows.append(row)
        size += sum(len(row[c]) for c in ("messages", "question", "response", "contexts"))
        if chance.random() < 0.1:
            events.append(_event(texts, chance, row))
        if len(rows) == group_rows or written + len(rows) in ends:
            pending.write(pa.Table.from_pylist(rows, schema=arrow_schema(Interaction)))
            written += len(rows)
            rows = []
            if written in ends:
                pending.commit()
    pending = Pending(lake, "feedback")
    pending.write(pa.Table.from_pylist(events, schema=arrow_schema(Feedback)))
    pending.commit()
    return size


def _turns(texts: Texts, chance: random.Random, interactions: int) -> Iterator[dict[str, Any]]:
    openings = [texts.text(2)[0] for _ in range(OPENINGS)]
    running: list[tuple[int, list[dict[str, str]], str]] = []
    begun = 0
    for number in range(interactions):
        if len(running) < AT_ONCE:
            begun += 1
            running.append((begun, [], chance.choice(MODELS)))
        at = chance.randrange(len(running))
        session, history, model = running[at]
        popular = not history and chance.random() < 0.1
        question = chance.choice(openings) if popular else texts.text(3)[0]
        if history and chance.random() < 0.03:
            question = next(m["content"] for m in reversed(history) if m["role"] == "user")  # asked again
        answer = "" if chance.random() < 0.01 else texts.text(6)[0]
        messages = [*history, {"role": "user", "content": question}]
        documents = [
            {"id": f"kb-{chance.randint(1, 5000)}", "text": texts.text(5)[0], "score": chance.random()}
            for _ in range(chance.choice((0, 0, 1, 2, 3)))
        ]
        name = f"r-{session}-{len(history) // 2}-{number:x}"
        yield BLANK | {
            "interaction_id": content_id("ix", name), "native_id": name, "response_id": name, "session_id": f"s-{session}",
            "ts": NOON + number * 100_000 + chance.randrange(90_000), "messages": orjson.dumps(messages).decode(),
            "question": question, "response": answer, "contexts": orjson.dumps(documents).decode(), "model_served": model,
            "confidence": chance.random(), "latency_ms": chance.lognormvariate(6.5, 0.6), "ttft_ms": None, "cost_usd": None,
            "cached_input_tokens": None, "reasoning_tokens": None, "input_tokens": chance.randint(20, 4000),
            "output_tokens": chance.randint(1, 900),
        }  # fmt: skip
        running[at] = (session, [*messages, {"role": "assistant", "content": answer}][-6:], model)
        if chance.random() < 0.45:
            running.pop(at)



def _event(texts: Texts, chance: random.Random, row: dict[str, Any]) -> dict[str, Any]:
    kind = chance.choice(("response", "response", "session"))
    target = row["response_id"] if kind == "response" else row["session_id"]
    name = f"f-{row['native_id']}"
    return {
        "feedback_id": content_id("fb", name), "dialect": "flywheel", "native_id": name, "target_type": kind, "target": target,
        "name": "escalation" if kind == "session" else "thumb", "value_type": "boolean",
        "value": "true" if chance.random() < 0.5 else "false", "comment": texts.text(1)[0] if chance.random() < 0.2 else "",
        "source_kind": "user", "user": f"u-{chance.randint(1, 999)}", "tenant": "", "ts": row["ts"] + 60_000_000,
        "received": NOON, "raw_segment": "", "raw_line": 0,
    }  # fmt: skip
