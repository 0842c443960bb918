"""Real logs of a retrieval-augmented application, in the project's own JSON lines, and the human labels kept apart from them.

    ../shared/data/rag_log/ragtruth_*.jsonl.gz     143 sources, about six responses each, hallucination spans marked by people
    ../shared/data/rag_log/rag_log_*.jsonl.gz      4,290 responses of 30 newer models to the same sources; no human label

A source (a question with its passages, an article, a record of a business) is one question at the wall: the last user message
names it, and is the same for every response to it. What is to be done with it stands in the system message, because
an instruction shared by all would make all questions near-duplicates. The source's text is the retrieved context.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tasks.records import digest

TASKS = ("qa", "summary", "data2txt")
INSTRUCTIONS = {
    "qa": "Answer the question from the passages. If they do not hold the answer, say so.",
    "summary": "Summarise the article that opens with these words.",
    "data2txt": "Write an objective overview of the business from its record.",
}
OPENING = 160  # characters of an article that name it
WEEKS = (datetime(2025, 1, 6, tzinfo=UTC), datetime(2025, 1, 13, tzinfo=UTC))


@dataclass(frozen=True, slots=True)
class Source:
    source_id: str
    task: str
    question: str
    documents: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Served:
    """One response in a log. `right` is what people found (no hallucination span), None where nobody looked;
    `suspected` is what an LLM judge said of it, None where none was asked. Neither is ever written into a log."""

    native_id: str
    source: Source
    model: str
    time: datetime
    response: str
    right: bool | None
    suspected: bool | None

    def line(self) -> dict[str, Any]:
        """As `interaction/1`. Every response is a conversation of its own."""
        documents = self.source.documents
        return {
            "flywheel": "interaction/1",
            "id": self.native_id,
            "session_id": self.native_id,
            "time": self.time.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "messages": [
                {"role": "system", "content": INSTRUCTIONS[self.source.task]},
                {"role": "user", "content": self.source.question},
            ],
            "response": self.response,
            "contexts": [{"id": f"{self.source.source_id}-{k}", "text": d} for k, d in enumerate(documents)],
            "model_version": self.model,
        }


def read(folder: Path) -> tuple[list[Served], list[Served], list[Served]]:
    """Two weeks of the responses that people have labelled, half of each source's in each, and the unlabelled log.

    RagTruth tells no times: which half comes first is the digest of the response's id, and the hours are invented.
    """
    weeks: tuple[list[Served], list[Served]] = ([], [])
    sources: dict[str, Source] = {}
    for task in TASKS:
        for row in rows_of(folder / f"ragtruth_{task}.jsonl.gz"):
            source = source_of(task, str(row["source_id"]), row["source"])
            sources[source.source_id] = source
            responses = [(f"{source.source_id}/{r['model']}", r) for r in row["responses"]]
            responses.sort(key=lambda r: digest(r[0].encode()))
            for k, (native_id, r) in enumerate(responses):
                week = int(k >= len(responses) / 2)
                time = WEEKS[week] + timedelta(seconds=int(digest(native_id.encode())[:8], 16) % (5 * 86_400))
                weeks[week].append(
                    Served(native_id, source, r["model"], time, r["response"], not r["labels"], suspected=None)
                )
    newer = []
    for row in rows_of(folder / "rag_log_30models_2025-04.jsonl.gz"):
        time = datetime.strptime(row["run"], "%Y%m%d_%H%M%S").replace(tzinfo=UTC)
        source = sources[str(row["source_id"])]
        native_id = f"{source.source_id}/{row['model']}"
        newer.append(
            Served(native_id, source, row["model"], time, row["response"], None, row["verdict"] == "Inconsistent")
        )
    return _in_time(weeks[0]), _in_time(weeks[1]), _in_time(newer)


def source_of(task: str, source_id: str, source: Any) -> Source:
    if task == "qa":
        passages = tuple(p.strip() for p in source["passages"].split("\n\n") if p.strip())
        return Source(source_id, task, source["question"], passages)
    if task == "summary":
        return Source(source_id, task, source[:OPENING], (source,))
    named = f"{source['name']} ({source['categories']}), {source['address']}, {source['city']}"
    return Source(source_id, task, named, ("\n".join(_lines(source)),))


def _lines(value: Any, path: str = "") -> Iterator[str]:
    """A nested record as plain lines, 'hours Monday: 7:0-14:0'."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _lines(inner, f"{path} {key}".strip())
    elif isinstance(value, list):
        for number, inner in enumerate(value, 1):
            yield from _lines(inner, f"{path} {number}")
    else:
        yield f"{path}: {value}"


def _in_time(served: Sequence[Served]) -> list[Served]:
    return sorted(served, key=lambda s: (s.time, s.native_id))


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from (json.loads(line) for line in lines)
