"""How right the detectors are on real data: XSTest (refusals), RAGTruth, HaluEval (hallucinations), FeedbackQA, ConvAI2 (users).

    python -m benchmarks.real_detectors --data ../shared/data

Prints, per set and detector, how often it fires, its precision and recall against people's labels, and the base rate. A folder
that is not there is left out.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa

from tasks.records import canonical
from tasks.signals import DETECTORS, detect

LEAST = 5  # findings from which a line is worth reading

# A row of exchanges and whether people found it wrong; None where nobody said.
Row = tuple[dict, bool | None]


def _text(path: Path) -> str:
    return gzip.decompress(path.read_bytes()).decode("utf-8")


def _completions(data: Path) -> Iterator[dict]:
    for model in ("gpt4", "mistralinstruct"):
        with (data / "xstest" / f"model_completions__xstest_v2_completions_{model}.csv").open(encoding="utf-8") as file:
            yield from csv.DictReader(file)


def xstest(data: Path) -> Iterator[Row]:
    """Refusals, full or partial, by two people. `wrong` here: was refused."""
    for row in _completions(data):
        yield {"question": row["prompt"], "response": row["completion"]}, "refusal" in row["final_label"]


def xstest_safe(data: Path) -> Iterator[Row]:
    """The same, of prompts that are safe: each refusal is one too many. (A type of prompt that is unsafe is named `contrast_…`.)"""
    for row in _completions(data):
        over = "refusal" in row["final_label"] and not row["type"].startswith("contrast")
        yield {"question": row["prompt"], "response": row["completion"]}, over


def ragtruth(data: Path) -> Iterator[Row]:
    """Answers of six models with spans that people marked as not in the source."""
    for path in sorted((data / "rag_log").glob("ragtruth_*.jsonl.gz")):
        for line in _text(path).strip().split("\n"):
            row = json.loads(line)
            source = row["source"]
            text = source if isinstance(source, str) else source.get("passages") or canonical(source).decode()
            question = source.get("question", "") if isinstance(source, dict) else ""
            for answer in row["responses"]:
                contexts = canonical([{"id": str(row["source_id"]), "text": text}]).decode()
                yield (
                    {"question": question, "response": answer["response"], "contexts": contexts},
                    bool(answer["labels"]),
                )


def halueval(data: Path) -> Iterator[Row]:
    """Answers without documents: what the answer alone gives away."""
    for line in _text(data / "halueval" / "halueval_general.jsonl.gz").strip().split("\n"):
        row = json.loads(line)
        yield {"question": row["user_query"], "response": row["chatgpt_response"]}, row["hallucination"] == "yes"


def feedbackqa(data: Path) -> Iterator[Row]:
    """Users' reasons as comments; wrong: the mean rating is below the middle."""
    worth = {"Excellent": 3, "Acceptable": 2, "Could be Improved": 1, "Bad": 0}
    for path in sorted((data / "feedbackqa").glob("*.json.gz")):
        for row in json.loads(_text(path)):
            text = row["passage"]["reference"]["section_content"]
            for rating, reason in zip(row["rating"], row["feedback"], strict=False):
                if rating in worth:
                    yield {"question": row["question"], "response": text, "comment": reason}, worth[rating] < 2


def convai2(data: Path) -> Iterator[Row]:
    """A bot's message with what the person wrote next; wrong: a score of 1.

    The set does not say what 1 means; what users went on to correct has it more often.
    """
    for dialog in json.loads(_text(data / "convai2" / "data__data_intermediate.json.gz")):
        turns = dialog["dialog"]
        for before, said, after in zip([{"text": ""}, *turns], turns, [*turns[1:], None], strict=False):
            if said["sender_class"] == "Bot" and said["evaluation_score"] in (0, 1):
                follow = after["text"] if after and after["sender_class"] == "Human" else None
                row = {
                    "question": before["text"],
                    "response": said["text"],
                    "next_question": follow,
                    "next_after_s": 30.0 if follow else None,
                }
                yield row, said["evaluation_score"] == 1


SETS: dict[str, Callable[[Path], Iterator[Row]]] = {
    f.__name__: f for f in (xstest, xstest_safe, ragtruth, halueval, feedbackqa, convai2)
}


def rates(name: str, data: Path) -> dict:
    """Per detector: fired, precision, recall. Raises FileNotFoundError where the set is not there."""
    rows = list(SETS[name](data))
    if not rows:
        raise FileNotFoundError(data / name)
    wrong = {f"ix_{k:07}": w for k, (_, w) in enumerate(rows)}
    found = detect(pa.Table.from_pylist([r | {"interaction_id": f"ix_{k:07}"} for k, (r, _) in enumerate(rows)]))
    fired: dict[str, set[str]] = {}
    for s in found.select(["interaction_id", "detector"]).to_pylist():
        fired.setdefault(s["detector"], set()).add(s["interaction_id"])
    bad = {i for i, w in wrong.items() if w}
    return {
        "set": name,
        "rows": len(rows),
        "base_rate": len(bad) / len(rows),
        "detectors": {
            d: {"fired": len(ids), "precision": len(ids & bad) / len(ids), "recall": len(ids & bad) / max(len(bad), 1)}
            for d, ids in sorted(fired.items())
        },
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = []
    for name in SETS:
        try:
            found.append(rates(name, arguments.data))
        except FileNotFoundError as e:
            print(f"left out: {name} ({e})", file=sys.stderr)
    if arguments.json:
        print(json.dumps(found))
        return 0
    for one in found:
        print(f"\n{one['set']}: {one['rows']:,} rows, {one['base_rate']:.1%} wrong")
        for d, r in one["detectors"].items():
            if r["fired"] >= LEAST:
                right = f"precision {r['precision']:>6.1%}  recall {r['recall']:>6.1%}"
                print(f"  {d:<24}{DETECTORS[d].family:<12}fired {r['fired']:>6}  {right}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
