"""The firewall on a million training texts and ten thousand sealed ones: CPU seconds, memory, what is caught, false alarms.

    python -m benchmarks.firewall [--training 1000000] [--sealed 10000] [--peer-training 20000] [--data ../shared/data] [--json]

Peers, on fewer texts in the same run: what GPT-3 and lm-evaluation-harness call contaminated (any n-gram in common, a set of
tuples), every pair compared exactly, and datasketch's MinHash LSH where it is installed (`pip install datasketch`).
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.cost import Memory
from benchmarks.near_duplicates import read
from benchmarks.planted_texts import Corpus, trigrams
from benchmarks.real_sides import sides
from tasks.firewall import NEAR, NGRAM, FirewallParams, Met, firewall
from tasks.params import load
from tasks.similar import near_pairs, normalise, shingles

ROOT = Path(__file__).parents[1]
KINDS = ("exact", "disguised", "one word changed", "one word in ten changed", "one word in five changed", "quoted whole",
         "a third of it, rewritten around", "eight words of it, rewritten around")  # fmt: skip
LIKE = str.maketrans("aeopcyx", "аеорсух")  # Latin -> Cyrillic


def plant(kind: str, text: str, others: Sequence[str], draw: random.Random) -> str | None:
    """A training text that gives `text` away. `others` are texts to take words from; None where the text is too short."""
    words = text.split()
    strange = draw.choice(others).split() + draw.choice(others).split()
    if kind == "exact":
        return text.upper().replace(" ", "  ", 2) + "!"
    if kind == "disguised":
        return text.translate(LIKE).replace(" ", " \u200b", 1)
    if kind == "quoted whole":
        return f"{draw.choice(others)} {text} {draw.choice(others)}"
    if kind.endswith("changed"):
        count = {"one word": 1, "one word in ten": len(words) // 10, "one word in five": len(words) // 5}[kind[: -len(" changed")]]
        for at in draw.sample(range(len(words)), max(1, count)):
            words[at] = draw.choice(strange)
        return " ".join(words)
    keep = 8 if kind.startswith("eight") else max(8, len(words) // 3)
    if len(words) < keep or (keep == 8 and len(words) > 32):  # eight words of a long text are not that text
        return None
    at = draw.randrange(len(words) - keep + 1)
    return " ".join([*strange[: at % 7 + 1], *words[at : at + keep], *strange[-3:]])


def planted(training: list[str], sealed: Sequence[str], each: int, seed: int) -> dict[int, str]:
    """Plants `each` texts of every kind in place of training texts, everywhere; gives the kind by row."""
    draw = random.Random(seed)
    rows = draw.sample(range(len(training)), min(len(training), each * len(KINDS)))
    kinds = {}
    for number, row in enumerate(rows):
        kind = KINDS[number % len(KINDS)]
        source = draw.choice(sealed)
        text = plant(kind, source, training, draw) if len(source.split()) >= 5 else None
        if text is not None:
            training[row], kinds[row] = text, kind
    return kinds


def recall(met: Sequence[Met], kinds: dict[int, str]) -> dict[str, list[float]]:
    """By kind: texts planted, and the share of them that is refused."""
    rows = {m.row for m in met}
    return {
        kind: [len(of), round(sum(r in rows for r in of) / len(of), 4)]
        for kind in KINDS
        if (of := [r for r, k in kinds.items() if k == kind])
    }


def measured(folder: Path, params: FirewallParams) -> dict[str, object]:
    """In a process of its own, so that what made the texts is not counted."""
    sealed = read(folder / "sealed.parquet")
    paths = sorted(folder.glob("[0-9]*.parquet"))
    with Memory() as memory:
        began, start = time.time(), time.process_time()
        met = firewall([partial(read, p) for p in paths], sealed, params)
        cpu = time.process_time() - start
        peak = memory.peak_mib(began, time.time())
    start = time.process_time()
    for path in paths:
        read(path)
    return {"cpu_s": round(cpu, 1), "of_these_reading_s": round(time.process_time() - start, 1), "peak_mib": peak,
            "met": [[m.row, m.sealed, m.how, m.score, m.evidence] for m in met]}  # fmt: skip


def at_scale(training: int, sealed: int, length: int, seed: int, params: FirewallParams) -> dict[str, object]:
    corpus = Corpus(sealed + training, seed, share=0.0, length=length)
    with tempfile.TemporaryDirectory() as name:
        folder, kinds, characters, row, first = Path(name), {}, 0, 0, []
        for number, texts in enumerate(corpus.partitions()):
            if len(first) < sealed:  # whole partitions first: the sealed side
                first += texts
                continue
            here = planted(texts, first, 25, seed + number)
            kinds |= {row + k: kind for k, kind in here.items()}
            pq.write_table(pa.table({"text": texts}), folder / f"{number:05d}.parquet", compression="zstd")
            characters += sum(map(len, texts))
            row += len(texts)
        pq.write_table(pa.table({"text": first}), folder / "sealed.parquet")
        command = [sys.executable, "-m", "benchmarks.firewall", "--of", name]
        cost = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    met = [Met(*m) for m in cost.pop("met")]
    strangers = Counter(m.how for m in met if m.row not in kinds)
    return {"training": row, "sealed": len(first), "length": length, "megabytes": round(characters / 1e6), **cost,
            "recall": recall(met, kinds), "not_planted": dict(strangers)}  # fmt: skip


def real(data: Path, params: FirewallParams, seed: int) -> list[dict[str, object]]:
    """On each pair of clean sides what is refused, and why; beside any n-gram in common. Then with planted texts."""
    rows = []
    for name, (training, sealed) in sides(data).items():
        met = firewall([lambda t=training: t], sealed, params)
        how = Counter(m.how for m in met)
        ngrams = len(any_ngram(training, sealed, params.ngram) - {m.row for m in met if m.how not in (NGRAM,)})
        mixed = list(training)
        kinds = planted(mixed, sealed, max(25, min(200, len(mixed) // 16)), seed)
        caught = recall(firewall([lambda t=mixed: t], sealed, params), kinds)
        rows.append({"texts": name, "training": len(training), "sealed": len(sealed), "same": how["exact"], "near": how[NEAR],
                     "passages": how[NGRAM], "any_ngram": ngrams, "recall": caught})  # fmt: skip
    return rows


def any_ngram(training: Sequence[str], sealed: Sequence[str], n: int) -> set[int]:
    def grams(text: str) -> set[tuple[str, ...]]:
        words = normalise(text).split()
        return {tuple(words[k : k + n]) for k in range(len(words) - n + 1)}

    known = set().union(*map(grams, sealed))
    return {row for row, text in enumerate(training) if not known.isdisjoint(grams(text))}


def every_pair(training: Sequence[str], sealed: Sequence[str], near: float) -> set[int]:
    return set(near_pairs(shingles(training), shingles(sealed), near)[0].tolist())


def product(training: Sequence[str], sealed: Sequence[str], near: float) -> set[int]:
    """The definition by a product of sparse matrices."""
    left, right = shingles(training), shingles(sealed)
    sizes, found = right.getnnz(axis=1), set()
    for start in range(0, len(training), 512):
        block = left[start : start + 512]
        shared = (block @ right.T).tocoo()
        alike = shared.data >= near * (block.getnnz(axis=1)[shared.row] + sizes[shared.col] - shared.data)
        found |= set((start + shared.row[alike]).tolist())
    return found


def datasketch(training: Sequence[str], sealed: Sequence[str], near: float) -> set[int]:
    from datasketch import MinHash, MinHashLSH

    def sketch(text: str) -> MinHash:
        made = MinHash(num_perm=128)
        made.update_batch([t.encode() for t in trigrams(text)])
        return made

    lsh = MinHashLSH(threshold=near, num_perm=128)
    for number, text in enumerate(sealed):
        lsh.insert(number, sketch(text))
    return {row for row, text in enumerate(training) if lsh.query(sketch(text))}


def peers(training: int, sealed: int, length: int, seed: int, params: FirewallParams) -> list[dict[str, object]]:
    texts = [t for part in Corpus(training + sealed, seed, share=0.0, length=length).partitions() for t in part]
    first, rest = texts[:sealed], texts[sealed:]
    kinds = planted(rest, first, 40, seed)
    rows, own = [], 0.0
    for who, run in (
        ("flywheel, all three", lambda: {m.row for m in firewall([lambda: rest], first, params)}),
        ("any 8-gram in common", lambda: any_ngram(rest, first, params.ngram)),
        ("near: every pair, by a sparse product", lambda: product(rest, first, params.near)),
        ("near: every pair, by `near_pairs`", lambda: every_pair(rest, first, params.near)),
        ("near: datasketch MinHash LSH", lambda: datasketch(rest, first, params.near)),
    ):
        start = time.process_time()
        try:
            found = run()
        except ModuleNotFoundError:
            continue
        cpu = time.process_time() - start
        own = own or cpu
        rows.append({"who": who, "length": length, "training": training, "sealed": sealed, "cpu_s": round(cpu, 2),
                     "ratio": round(cpu / own, 1), "planted": round(sum(r in found for r in kinds) / len(kinds), 4),
                     "others": len(found - kinds.keys())})  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--training", type=int, default=1_000_000)
    parser.add_argument("--sealed", type=int, default=10_000)
    parser.add_argument("--lengths", type=int, nargs="*", default=[90, 750])
    parser.add_argument("--peer-training", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--json", action="store_true", help="one document on stdout")
    parser.add_argument("--of", type=Path, help=argparse.SUPPRESS)  # the measured process
    options = parser.parse_args()
    params = load(ROOT / "params.yaml", "firewall", FirewallParams)
    if options.of:
        print(json.dumps(measured(options.of, params)))
        return
    document = {
        "real": real(options.data, params, options.seed) if options.data.is_dir() else [],
        "peers": [r for n in options.lengths for r in peers(options.peer_training, 2000, n, options.seed, params)],
        "scale": [at_scale(options.training, options.sealed, n, options.seed, params) for n in options.lengths],
    }
    print(json.dumps(document, indent=2) if options.json else text(document))


def text(document: dict[str, list[dict]]) -> str:
    lines = ["| clean sides | training | sealed | the same | near | passages | any 8-gram |", "|---|---|---|---|---|---|---|"]
    for r in document["real"]:
        counts = (f"{r[k]:,}" for k in ("training", "sealed", "same", "near", "passages", "any_ngram"))
        lines.append(f"| {r['texts']} | {' | '.join(counts)} |")
    for name in ("real", "scale"):
        of = document[name]
        heads = [str(r.get("texts") or f"{r['length']} characters") for r in of]
        lines += ["", f"| planted | {' | '.join(heads)} |", "|---|" + "---|" * len(of)]
        for kind in KINDS:
            cells = [f"{c[1]:.3f} of {c[0]}" if (c := r["recall"].get(kind)) else "" for r in of]
            lines.append(f"| {kind} | {' | '.join(cells)} |")
    lines += ["", "| | characters | CPU s | ratio | planted met | others met |", "|---|---|---|---|---|---|"]
    for r in document["peers"]:
        lines.append(f"| {r['who']} | {r['length']} | {r['cpu_s']} | {r['ratio']}× | {r['planted']:.4f} | {r['others']} |")
    heads = ("training × sealed", "characters", "MB", "CPU s", "reading", "peak MiB", "not planted")
    lines += ["", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for r in document["scale"]:
        counts = (str(r[k]) for k in ("length", "megabytes", "cpu_s", "of_these_reading_s", "peak_mib", "not_planted"))
        lines.append(f"| {r['training']:,} × {r['sealed']:,} | {' | '.join(counts)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
