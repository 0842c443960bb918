"""What validating a million examples costs, and whether drift is seen when it is there and not when it isn't.

python -m benchmarks.validation --rows 1000000        CPU seconds and peak memory of the stage, by part
python -m benchmarks.validation --drift               false alarms over resamples, and power over planted shifts
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks import shards
from tasks.calculator import calculator
from tasks.examples import TABLES
from tasks.frozen import Curated, CuratedJudgement, Dropped, Exchange, Given, Thumb
from tasks.profile import CODE, NUMBER, TEXT, compared, profile
from tasks.records import arrow_schema, canonical, write_jsonl

ROOT = Path(__file__).resolve().parents[1]
NOON = 1_767_614_400_000_000
BATCH = 50_000
TOPICS = ("billing", "bike", "people", "scope")
WORDS = [
    a + b
    for a in ("ba", "de", "fi", "go", "hu", "ka", "le", "mi", "no", "pu")
    for b in ("ran", "tel", "sim", "dor", "pek", "lu", "vas")
]
ARGUMENTS = {
    "frozen": "frozen", "curated": "curated", "dataset": "dataset", "report": "reports/validation.json",
    "page": "reports/validation.md", "profile": "reports/profile.json", "quarantine": "reports/validation-quarantine.jsonl",
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="examples, over five tables")
    parser.add_argument("--drift", action="store_true")
    parser.add_argument("--folder", type=Path, help="keep the data set here")
    chosen = parser.parse_args()
    if chosen.drift:
        false_alarms()
        power()
        return
    with contextlib.ExitStack() as stack:
        root = chosen.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if not (root / "dataset").is_dir():
            write(root, chosen.rows)
        validated(root)


def validated(root: Path) -> None:
    """The stage in a process of its own, as DVC runs it."""
    code = (
        "import sys, resource, json; from tasks.stages import validate; rc = validate.main(sys.argv[1:]);"
        "u = resource.getrusage(resource.RUSAGE_SELF);"
        "print(json.dumps([rc, u.ru_utime + u.ru_stime, u.ru_maxrss / 1024]))"
    )
    arguments = [x for name, path in ARGUMENTS.items() for x in (f"--{name}", path)]
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=root, capture_output=True, text=True,
                          env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}, check=True)  # fmt: skip
    rc, cpu, peak = json.loads(done.stdout.splitlines()[-1])
    document = json.loads((root / "reports/validation.json").read_bytes())
    sizes = {t: n for t, n in document["tables"].items() if n > 1000}
    print(done.stderr.strip()[-500:])
    print("rows:", ", ".join(f"{t} {n:,}" for t, n in sizes.items()))
    print(f"exit {rc}, {document['checked']} expectations, failed {document['failed']}; {cpu:.1f} CPU s,"
          f" {time.perf_counter() - started:.1f} s, peak {peak:.0f} MiB")  # fmt: skip


def write(root: Path, rows: int) -> None:
    """Labels of which a million examples are made in five tables, a small sealed side, and what they rest on."""
    labels = rows // 4
    sealed = max(100, labels // 25)
    for name in ("frozen", "reports"):
        (root / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "params.yaml", root / "params.yaml")
    (root / "frozen" / "baseline.json").write_bytes(b"{}\n")
    shutil.copytree(ROOT / "data" / "guidelines", root / "frozen" / "guidelines", dirs_exist_ok=True)
    write_jsonl(root / "frozen" / "catalogue.jsonl", [
        {"id": f"a{k}", "kind": "answer", "topic": t, "title": f"A{k}", "text": _text(random.Random(k), 60), "source": ""}
        for k, t in enumerate(TOPICS * 10)
    ])  # fmt: skip
    places = {
        "exchanges": (root / "frozen/exchanges", Exchange), "annotations": (root / "frozen/annotations", Given),
        "thumbs": (root / "frozen/thumbs", Thumb), "labels": (root / "curated/labels", Curated),
        "judgements": (root / "curated/judgements", CuratedJudgement), "dropped": (root / "curated/dropped", Dropped),
        "dropped_by_build": (root / "dataset/parquet/dropped", Dropped),
    } | {f"{s}/{t.name}": (root / f"dataset/parquet/{s}/{t.name}", t.row) for t in TABLES.values() for s in t.sides}  # fmt: skip
    writers = {name: shards.Writer(*place) for name, place in places.items()}
    for start in range(0, labels + sealed, BATCH):
        made = _made(range(start, min(start + BATCH, labels + sealed)), labels)
        for name, values in made.items():
            writers[name].add(pa.Table.from_pylist(values, arrow_schema(places[name][1])))
    for writer in writers.values():
        writer.close()


def _text(chance: random.Random, words: int) -> str:
    return " ".join(chance.choices(WORDS, k=words))


def _made(numbers: range, labels: int) -> dict[str, list[dict]]:
    found: dict[str, list[dict]] = {}
    for k in numbers:
        for name, row in _of_label(k, k >= labels):
            found.setdefault(name, []).append(row)
    return found


def _of_label(k: int, sealed: bool) -> Iterator[tuple[str, dict]]:
    chance = random.Random(k)
    question, served, side = _text(chance, chance.randint(8, 30)), _text(chance, 60), "holdout" if sealed else "train"
    user = {"content": question, "role": "user"}
    said, right = ({"content": x, "role": "assistant"} for x in (served, _text(random.Random(k % 40), 60)))
    topic, language, arrived = TOPICS[k % 4], ("en", "de")[k % 3 == 0], NOON + k * 1000
    contexts = canonical([{"id": f"d{j}", "text": _text(chance, 60)} for j in range(2)]).decode()
    ix, gr = f"ix_{k:024x}", f"gr_{k // 2 if not sealed else k:024x}"
    where = {"interaction_id": ix, "arrived": arrived, "group_id": gr, "side": side, "part": "audit_holdout" if sealed else "mined",
             "propensity": 0.5, "session_id": f"s{k}", "user": f"u{k % 5000}", "tenant": "", "language": language,
             "messages": canonical([user]).decode(), "contexts": contexts, "tools": "[]", "question": question, "response": served,
             "outputs": "[]"}  # fmt: skip
    yield "exchanges", where | {"batch_id": "b", "ts": arrived, "model_version": "1", "prompt_name": ""}
    target = f"a{k % 40}"
    yield "labels", where | {"served": "", "verdict": "wrong", "target": target, "target_text": right["content"], "p_wrong": 0.95,
                             "p_target": 0.95, "votes": 2, "kind": "answer", "topic": topic, "annotators": '["ana","ben"]',
                             "guideline": "answer/1"}  # fmt: skip
    for who in ("ana", "ben"):
        yield "annotations", {
            "annotation_id": f"an_{k:022x}{who[:2]}", "batch_id": "b", "candidate_id": f"c{k}", "interaction_id": ix,
            "kind": "answer",
            "annotator": who, "role": "annotator", "value": canonical({"verdict": "wrong", "correction": target}).decode(),
            "status": "submitted", "note": "", "guideline": "answer/1", "ts": arrived, "received": 0, "seconds": 9.0, "shown": "[]",
            "source": "a", "native_id": "", "arrived": arrived,
        }  # fmt: skip
    common = {"interaction_id": ix, "beside": "", "group_id": gr, "arrived": arrived, "origin": "correction", "author": "approved",
              "weight": 0.95, "copies": 1, "topic": topic, "language": language, "guideline": "answer/1"}  # fmt: skip
    if sealed:
        yield "holdout/evaluation", common | {
            "example_id": f"ex_e{k:023x}", "origin": "label", "messages": where["messages"], "contexts": contexts, "target": target,
            "target_text": right["content"], "kind": "answer", "offered": "[]", "rubric": "",
        }  # fmt: skip
        return
    chosen, rejected = (canonical([m]).decode() for m in (right, said))
    yield (
        "train/sft",
        common
        | {
            "example_id": f"ex_a{k:023x}",
            "messages": canonical([user, right]).decode(),
            "tools": "[]",
            "action": target,
        },
    )
    yield "train/unpaired", common | {"example_id": f"ex_b{k:023x}", "origin": "verdict", "author": "model",
    "prompt": where["messages"],
                                      "completion": rejected, "label": k % 3 == 0}  # fmt: skip
    if k % 2:
        yield "train/preference", common | {
            "example_id": f"ex_c{k:023x}", "prompt": where["messages"], "contexts": contexts, "chosen": chosen,
            "rejected": rejected,
            "tools": "[]", "chosen_action": target, "rejected_action": "",
        }  # fmt: skip
        yield "train/reward", common | {
            "example_id": f"ex_d{k:023x}", "chosen": canonical([user, right]).decode(), "rejected": canonical([user,
            said]).decode(),
            "margin": 0.95,
        }  # fmt: skip
    yield "train/prompts", common | {
        "example_id": f"ex_f{k:023x}", "prompt": where["messages"], "contexts": contexts,
        "checks": canonical([{"check": "action", "value": target}]).decode(), "ground_truth": right["content"],
    }  # fmt: skip


# Drift


KINDS = {"topic": CODE, "language": CODE, "origin": CODE, "weight": NUMBER, "votes": NUMBER, "question": TEXT}


def snapshot(random: np.random.Generator, rows: int, tables: int = 16, **shift: float) -> dict:
    """A profile of `tables` tables with six columns each, drawn from one distribution; the first table is shifted."""
    found = {}
    with calculator() as engine:
        for k in range(tables):
            moved = shift if k == 0 else {}
            share = np.array([0.4, 0.3, 0.2, 0.1]) + moved.get("share", 0.0) * np.array([-1, 1, 0, 0])
            columns = {
                "topic": np.array(TOPICS)[random.choice(4, rows, p=share)],
                "language": np.where(random.random(rows) < 0.2, "de", "en"),
                "origin": np.array([f"o{j}" for j in range(60)])[np.minimum(59, random.geometric(0.1, rows))],
                "weight": random.beta(8 - moved.get("weight", 0.0), 2, rows),
                "votes": random.integers(2, 6, rows),
                "question": [" " * int(n) for n in random.lognormal(3 + moved.get("length", 0.0), 0.6, rows)],
            }
            engine.register("rows", pa.table(columns))
            found[f"t{k}"] = profile(engine, "rows", KINDS)
            engine.unregister("rows")
    return found


def false_alarms(snapshots: int = 200) -> None:
    print("| rows a table | snapshots without a change | with a false alarm |\n|---|---|---|")
    for rows in (100, 300, 1000, 5000):
        random, wrong = np.random.default_rng(rows), 0
        for _ in range(snapshots):
            found = compared(snapshot(random, rows), snapshot(random, rows), 0.2, 0.01, 100)
            wrong += any(c.drifted for c in found)
        print(f"| {rows:,} | {snapshots} | {wrong} ({wrong / snapshots:.1%}) |", flush=True)


def power(trials: int = 50) -> None:
    shifts = [
        ("share", 0.15),
        ("share", 0.25),
        ("share", 0.35),
        ("weight", 2.0),
        ("weight", 4.0),
        ("length", 0.3),
        ("length", 0.6),
    ]
    print("\n| planted in one of 96 columns | PSI | 100 rows | 300 | 1,000 | 5,000 |\n|---|---|---|---|---|---|")
    for name, size in shifts:
        seen, psi = [], 0.0
        for rows in (100, 300, 1000, 5000):
            random, hits = np.random.default_rng(rows), 0
            for _ in range(trials):
                found = compared(snapshot(random, rows), snapshot(random, rows, **{name: size}), 0.2, 0.01, 100)
                column = {"share": "topic", "weight": "weight", "length": "question"}[name]
                mine = next(c for c in found if (c.table, c.column) == ("t0", column))
                hits, psi = hits + mine.drifted, mine.psi
            seen.append(f"{hits / trials:.0%}")
        print(f"| {name} by {size} | {psi:.2f} | {' | '.join(seen)} |", flush=True)


if __name__ == "__main__":
    main()
