"""What the detectors cost: CPU seconds, rows a second and peak memory of each family, against the goal and the code before.

    python -m benchmarks.detectors --interactions 1000000 --json

The table is generated (the texts of `log_lines`, sessions and feedback among them), written once as Parquet and read in batches,
as mining reads the lake. The baseline is how the first version did it: pandas, one text after the other, on a sample.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.log_lines import START, Texts, _interaction
from tasks.signals import FAMILIES, REFERENCE, ROWS, _typed, calculator, find, prepare
from tasks.signals.detector import COLUMNS

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
            if len(rows) >= ROWS:
                out.write_table(pa.Table.from_pylist(rows[:ROWS], schema=SCHEMA))
                made += ROWS
                rows = rows[ROWS:]
        out.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))


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


def detectors(path: Path, families: list[str]) -> dict:
    """Run the families over the table in batches; CPU seconds by phase and family, and the peak of this process in MB."""
    spent = dict.fromkeys(["what is usual", "words and sentences", *families], 0.0)
    fired: dict[str, int] = {}
    rows = 0
    wanted = {f.FAMILY: f.DETECTORS for f in FAMILIES if f.FAMILY in families}

    def timed(phase: str, work):
        start = time.process_time()
        done = work()
        spent[phase] += time.process_time() - start
        return done

    with calculator() as engine:
        usual = timed("what is usual", lambda: _usual(path))
        engine.register("usual", usual)
        for batch in pq.ParquetFile(path).iter_batches(ROWS):
            chunk = _typed(pa.Table.from_batches([batch]))
            timed("words and sentences", lambda c=chunk: prepare(engine, c))
            for family, listed in wanted.items():
                found = timed(family, lambda d=listed: find(engine, d))
                for one in found["detector"].value_counts():
                    fired[one["values"].as_py()] = fired.get(one["values"].as_py(), 0) + one["counts"].as_py()
            rows += chunk.num_rows
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"interactions": rows, "cpu_s": spent, "peak_mb": peak, "fired": dict(sorted(fired.items()))}


def _usual(path: Path) -> pa.Table:
    import duckdb

    with duckdb.connect(":memory:", config={"memory_limit": "1GB"}) as engine:
        engine.execute(f"CREATE VIEW interactions AS SELECT * FROM read_parquet('{path}')")
        return engine.execute(REFERENCE).to_arrow_table()


if __name__ == "__main__":
    p = Path(sys.argv[1])
    if not p.exists():
        write_table(p, int(sys.argv[2]))
    r = detectors(p, [f.FAMILY for f in FAMILIES])
    print(json.dumps(r, indent=1), sum(r["cpu_s"].values()))
