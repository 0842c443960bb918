"""What the detectors cost: CPU seconds, rows a second and peak memory of each family, against the goal and the code before.

    python -m benchmarks.detectors --interactions 1000000 --json

The table is generated (the texts of `log_lines`, sessions and feedback among them), written once as Parquet and read in batches,
as mining reads the lake. The baseline is how the first version did it: pandas, one text after the other, on a sample.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import re
import resource
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.feature_extraction.text import HashingVectorizer

from benchmarks.log_lines import START, Texts, _interaction
from tasks.records import content_id
from tasks.signals import DETECTORS, FAMILIES, REFERENCE, ROWS, calculator, find, prepare, typed
from tasks.signals.detector import COLUMNS
from tasks.words import unsupported_words

USUAL, SHARED = "what is usual", "words and sentences"
PEAK_ROWS = 2 * ROWS  # memory is flat from the second chunk on
GOAL_S = 60.0  # of CPU, for a million interactions
SAMPLE = 20_000
SCHEMA = pa.schema(list(COLUMNS.items()))


def write_table(path: Path, interactions: int, seed: int = 1) -> None:
    """Exchanges as mining hands them to the detectors: each knows what its session did next."""
    texts, chance = Texts(seed, 0.03), random.Random(seed + 1)
    rows: list[dict] = []
    session = made = 0
    with pq.ParquetWriter(path, SCHEMA, compression="zstd", compression_level=1) as out:
        while made < interactions:
            session += 1
            history: list[dict] = []
            last = None
            for turn in range(min(1 + int(chance.expovariate(0.7)), 12)):
                line, _ = _interaction(texts, chance, f"{session}-{turn}", session, "", START, history)
                row = _row(line, f"ix_{chance.getrandbits(96):024x}", chance)
                if last is not None:
                    last |= {"next_question": row["question"], "next_contexts": row["contexts"], "silent_s": None,
                             "next_after_s": chance.uniform(5, 1800), "same_prompt_again": chance.random() < 0.01}  # fmt: skip
                rows.append(row)
                last = row
                history = [*line["messages"], {"role": "assistant", "content": line["response"]}][-6:]
            while len(rows) >= ROWS or made + len(rows) >= interactions > made:
                part = rows[: min(ROWS, interactions - made)]
                out.write_table(pa.Table.from_pylist(part, schema=SCHEMA))
                made += len(part)
                rows = rows[len(part) :]


def _row(line: dict, name: str, chance: random.Random) -> dict:
    messages, contexts = (
        json.dumps(line[k], ensure_ascii=False, separators=(",", ":")) for k in ("messages", "contexts")
    )
    question = line["messages"][-1]["content"]
    return {
        "interaction_id": name, "model": chance.choice(("velora-large-2", "velora-small-1")), "peers": [],
        "prompt_name": chance.choice(("faq", "chat")), "messages": messages, "question": question, "contexts": contexts,
        "response": line["response"], "outputs": "[]", "tools": "[]", "params": "{}", "finish_reason": "stop", "status": "ok",
        "error": "", "confidence": chance.random(), "latency_ms": line["latency_ms"], "input_tokens": line["input_tokens"],
        "output_tokens": line["output_tokens"], "thumb": chance.random() < 0.6 if chance.random() < 0.08 else None,
        "comment": question[:80] if chance.random() < 0.02 else None, "silent_s": 86_400.0,
    }  # fmt: skip


def run(path: Path, families: list[str], at_most: int | None = None) -> dict:
    """Run the families over the table in batches; CPU seconds by phase and family, and the peak of this process in MB."""
    spent = dict.fromkeys([USUAL, SHARED, *families], 0.0)
    fired: Counter[str] = Counter()
    rows = 0
    chosen = {f.FAMILY: f.DETECTORS for f in FAMILIES if f.FAMILY in families}

    def timed(phase: str, work):
        start = time.process_time()
        done = work()
        spent[phase] += time.process_time() - start
        return done

    with calculator() as engine:
        engine.register("usual", timed(USUAL, lambda: _usual(path)))
        for batch in pq.ParquetFile(path).iter_batches(ROWS):
            chunk = pa.Table.from_batches([batch])
            timed(SHARED, lambda c=chunk: prepare(engine, typed(c)))
            for family, listed in chosen.items():
                found = timed(family, lambda d=listed: find(engine, d))
                fired.update({v["values"]: v["counts"] for v in found["detector"].value_counts().to_pylist()})
            rows += chunk.num_rows
            if at_most and rows >= at_most:
                break
    return {"interactions": rows, "cpu_s": spent, "peak_mb": _peak_mb(), "fired": dict(sorted(fired.items()))}


def _usual(path: Path) -> pa.Table:
    """What is usual, asked of the whole file as mining asks the lake."""
    with duckdb.connect(":memory:", config={"memory_limit": "1GB"}) as engine:
        engine.execute("SET enable_progress_bar = false")
        engine.execute(f"CREATE VIEW interactions AS SELECT * FROM read_parquet('{path}')")
        return engine.execute(REFERENCE).to_arrow_table()


def before(path: Path, sample: int) -> dict:
    """CPU seconds of the first version's ways on the first rows: a set of words a text, a vectoriser, a pattern in pandas."""
    frame = pa.Table.from_batches([next(pq.ParquetFile(path).iter_batches(sample))]).to_pandas()
    spent = {}

    def ungrounded() -> None:
        for response, contexts in zip(frame["response"], frame["contexts"], strict=True):
            unsupported_words(response or "", contexts)

    def rephrased() -> None:
        grams = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 4), alternate_sign=False)
        now, then = (grams.transform(frame[c].fillna("")) for c in ("question", "next_question"))
        now.multiply(then).sum(axis=1)

    def refusal() -> None:
        declines = re.compile(r"\b(?:i (?:can ?not|can't|am unable to)|i'?m sorry,? but|as an ai)\b", re.IGNORECASE)
        frame["response"].str.contains(declines)

    def ids() -> None:
        for name in frame["interaction_id"]:
            content_id("sg", name, "ungrounded", 0.5, "evidence")

    for work in (ungrounded, rephrased, refusal, ids):
        start = time.process_time()
        work()
        spent[work.__name__] = time.process_time() - start
    return {"interactions": len(frame), "cpu_s": spent}


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _alone(work, *arguments):
    """In a process of its own, so that its peak is its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def measure(path: Path) -> dict:
    families = [f.FAMILY for f in FAMILIES]
    whole = _alone(run, path, families)
    old = _alone(before, path, SAMPLE)
    n = whole["interactions"]
    total = sum(whole["cpu_s"].values())
    was = sum(old["cpu_s"].values()) * n / old["interactions"]
    return {
        "detectors": len(DETECTORS),
        **whole,
        "rows_per_cpu_s": {name: n / max(s, 1e-9) for name, s in whole["cpu_s"].items()},
        "peak_mb_of_family": {f: _alone(run, path, [f], PEAK_ROWS)["peak_mb"] for f in families},
        "total_cpu_s": total,
        "goal_cpu_s": GOAL_S * n / 1e6,
        "reached": total <= GOAL_S * n / 1e6,
        "first_version": {**old, "cpu_s_for_all": was, "times_as_long": was / total},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interactions", type=int, default=1_000_000)
    parser.add_argument(
        "--table", type=Path, help="a Parquet file of exchanges to use, or to write if it does not exist"
    )
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.table or Path(folder) / "exchanges.parquet"
        if not path.exists():
            _alone(write_table, path, arguments.interactions)
        found = measure(path)
    print(json.dumps(found) if arguments.json else _table(found))
    return 0 if found["reached"] else 1


def _table(found: dict) -> str:
    lines = [
        f"{found['interactions']:,} interactions, {found['detectors']} detectors",
        "",
        f"{'':<22}CPU s   rows/CPU s   peak MB",
    ]
    for name, seconds in found["cpu_s"].items():
        peak = found["peak_mb_of_family"].get(name)
        lines.append(
            f"{name:<20}{seconds:>7.1f}{found['rows_per_cpu_s'][name]:>13,.0f}{f'{peak:,.0f}' if peak else '':>10}"
        )
    old, total = found["first_version"], found["total_cpu_s"]
    lines += [
        f"{'together':<20}{total:>7.1f}{found['interactions'] / total:>13,.0f}{found['peak_mb']:>10,.0f}",
        f"goal {found['goal_cpu_s']:.1f} CPU s: {'reached' if found['reached'] else 'NOT reached'}",
        f"the first version's four costliest steps, from {old['interactions']:,} rows: {old['cpu_s_for_all']:.0f} CPU s "
        f"({old['times_as_long']:.1f} times as long)",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
