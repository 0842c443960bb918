"""Two sides of real texts that have nothing to do with each other, split by source: what they share is how people and models speak.

    sides()  ->  {"clinc150, by intent": ([training texts, …], [sealed texts, …]), …}
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

Side = tuple[list[str], list[str]]


def sides(data: Path, share: float = 0.25) -> dict[str, Side]:
    """By source in one set, and of each of four sets against all the others. A text stands on one side once, on neither twice."""
    sources = {
        "clinc150 questions, by intent": _clinc(data),
        "halueval questions": ((r["ID"], r["user_query"]) for r in _lines(data / "halueval/halueval_general.jsonl.gz")),
        "halueval answers": ((r["ID"], r["chatgpt_response"]) for r in _lines(data / "halueval/halueval_general.jsonl.gz")),
        "feedbackqa questions, by page": _feedbackqa(data, "question"),
        "mtrag questions": _mtrag(data, "input"),
        "mtrag answers": _mtrag(data, "targets"),
        "answers of 30 models, by source": (
            (r["source_id"], r["response"]) for r in _lines(data / "rag_log/rag_log_30models_2025-04.jsonl.gz")
        ),
    }
    read = {name: list(rows) for name, rows in sources.items()}
    found = {name: _split(rows, share) for name, rows in read.items()}
    whole: dict[str, list[str]] = {}
    for name, rows in read.items():
        whole.setdefault(name.split()[0], []).extend(text for _, text in rows)
    del whole["answers"]
    for name, sealed in whole.items():
        others = [text for n, rows in read.items() if not n.startswith(name) for _, text in rows]
        found[f"{name}, of all others"] = (others, sealed)
    return found


def _split(rows: Iterable[tuple[Any, str]], share: float) -> Side:
    sealed, training = [], []
    for source, text in rows:
        low = int.from_bytes(hashlib.sha256(str(source).encode()).digest()[:4], "big") < share * 2**32
        (sealed if low else training).append(text)
    return list(dict.fromkeys(training)), list(dict.fromkeys(sealed))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path) as file:
        yield from map(json.loads, file)


def _clinc(data: Path) -> Iterator[tuple[str, str]]:
    parts = json.loads(gzip.decompress((data / "clinc150/data__data_full.json.gz").read_bytes()))
    yield from ((intent, text) for part in parts.values() for text, intent in part if intent != "oos")


def _feedbackqa(data: Path, field: str) -> Iterator[tuple[str, str]]:
    for path in sorted((data / "feedbackqa").glob("*.json.gz")):
        for row in json.loads(gzip.decompress(path.read_bytes())):
            yield row["passage"]["reference"]["page_title"], row[field]


def _mtrag(data: Path, field: str) -> Iterator[tuple[str, str]]:
    for row in _lines(data / "mtrag/mtragun-human__generation_tasks__reference.jsonl.gz"):
        for said in row[field][-1:]:
            yield row["conversation_id"], said["text"]
