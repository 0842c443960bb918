"""Near-duplicates of a million texts: recall and precision on planted copies, CPU seconds, memory; and beside peers.

    python -m benchmarks.near_duplicates [--texts 1000000] [--peer-texts 4000] [--seed 1] [--json]

Peers, on fewer texts in the same run: every pair compared exactly (scikit-learn's shingles and a sparse product, what
the wall did before), and datasketch's MinHash LSH where it is installed (`pip install datasketch`).
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.cost import Memory
from benchmarks.planted_texts import Corpus, Planted, overlap, trigrams
from tasks.collapse import collapse
from tasks.similar import normalise

THRESHOLD = 0.8
BINS = ((0.8, 0.82), (0.82, 0.85), (0.85, 0.9), (0.9, 1.0), (1.0, 1.01))


def read(path: Path) -> list[str]:
    return pq.read_table(path)["text"].to_pylist()


def write(folder: Path, corpus: Corpus) -> tuple[list[Path], int]:
    """The corpus as Parquet, a file a partition; and its characters."""
    paths, characters = [], 0
    for number, texts in enumerate(corpus.partitions()):
        paths.append(folder / f"{number:05d}.parquet")
        pq.write_table(pa.table({"text": texts}), paths[-1], compression="zstd")
        characters += sum(map(len, texts))
    return paths, characters


def found(paths: Sequence[Path]) -> tuple[np.ndarray, float, float | None]:
    """Who stands for whom, CPU seconds and peak MiB of this process, which holds nothing else."""
    with Memory() as memory:
        began, start = time.time(), time.process_time()
        keeper = collapse([partial(read, p) for p in paths], THRESHOLD)
        cpu = time.process_time() - start
        return keeper, cpu, memory.peak_mib(began, time.time())


def recall(keeper: np.ndarray, pairs: Sequence[Planted]) -> list[dict[str, float]]:
    rows = []
    for low, high in BINS:
        inside = [p for p in pairs if low <= p.overlap < high]
        met = [keeper[p.left] == keeper[p.right] for p in inside]
        rows.append({"from": low, "to": min(high, 1.0), "pairs": len(inside), "recall": round(float(np.mean(met)), 4)})
    return rows


def precision(keeper: np.ndarray, paths: Sequence[Path], size: int, seed: int, sample: int = 2000) -> float:
    """Of a sample of dropped texts: the share whose overlap with what is kept is .8, by the definition, one pair at a time."""
    dropped = np.flatnonzero(keeper != np.arange(len(keeper))).tolist()
    some = random.Random(seed).sample(dropped, min(sample, len(dropped)))
    wanted = sorted({*some, *(int(keeper[d]) for d in some)})
    texts: dict[int, str] = {}
    for part in sorted({w // size for w in wanted}):
        there = read(paths[part])
        texts |= {w: there[w % size] for w in wanted if w // size == part}
    return float(np.mean([overlap(trigrams(texts[d]), trigrams(texts[keeper[d]])) >= THRESHOLD for d in some]))


def exact_peer(texts: list[str]) -> set[tuple[int, int]]:
    """Every pair, exactly, by the product of sparse matrices."""
    from sklearn.feature_extraction.text import HashingVectorizer

    vectorizer = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 3), binary=True, norm=None, alternate_sign=False,
                                   dtype=np.float32, lowercase=False)  # fmt: skip
    sets = vectorizer.transform(normalise(t) for t in texts)
    sizes = sets.getnnz(axis=1)
    pairs: set[tuple[int, int]] = set()
    for start in range(0, len(texts), 512):
        shared = (sets[start : start + 512] @ sets.T).tocoo()
        near = shared.data >= THRESHOLD * (sizes[start + shared.row] + sizes[shared.col] - shared.data)
        pairs |= {
            (i, j) for i, j in zip((start + shared.row[near]).tolist(), shared.col[near].tolist(), strict=True) if i < j
        }
    return pairs


def datasketch_peer(texts: list[str]) -> set[tuple[int, int]]:
    from datasketch import MinHash, MinHashLSH

    lsh = MinHashLSH(threshold=THRESHOLD, num_perm=128)
    pairs = set()
    for number, text in enumerate(texts):
        sketch = MinHash(num_perm=128)
        sketch.update_batch([t.encode() for t in trigrams(text)])
        pairs |= {(other, number) for other in lsh.query(sketch)}
        lsh.insert(number, sketch)
    return pairs


def peers(texts: int, seed: int) -> list[dict[str, object]]:
    """CPU seconds and recall on planted pairs of overlap .8 and more, on a corpus of their size."""
    corpus = Corpus(texts, seed, share=0.3)
    made = [t for part in corpus.partitions() for t in part]
    near = [p for p in corpus.pairs if p.overlap >= THRESHOLD]
    rows: list[dict[str, object]] = []
    start = time.process_time()
    keeper = collapse([lambda: made], THRESHOLD)
    own = time.process_time() - start
    met = float(np.mean([keeper[p.left] == keeper[p.right] for p in near]))
    rows.append({"who": "flywheel", "texts": texts, "cpu_s": round(own, 2), "ratio": 1.0, "recall": round(met, 4)})
    for who, run in (("every pair, exactly", exact_peer), ("datasketch MinHash LSH", datasketch_peer)):
        start = time.process_time()
        try:
            pairs = run(made)
        except ModuleNotFoundError:
            continue
        cpu = time.process_time() - start
        met = float(np.mean([(p.left, p.right) in pairs for p in near]))
        rows.append(
            {"who": who, "texts": texts, "cpu_s": round(cpu, 2), "ratio": round(cpu / own, 1), "recall": round(met, 4)}
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--texts", type=int, default=1_000_000)
    parser.add_argument("--peer-texts", type=int, default=4_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one document on stdout")
    parser.add_argument("--of", type=Path, help=argparse.SUPPRESS)  # the measured process
    options = parser.parse_args()
    if options.of:
        keeper, cpu, peak = found(sorted(options.of.glob("*.parquet")))
        np.save(options.of / "keeper.npy", keeper)
        print(json.dumps({"cpu_s": round(cpu, 1), "peak_mib": peak}))
        return
    corpus = Corpus(options.texts, options.seed)
    with tempfile.TemporaryDirectory() as name:
        paths, characters = write(Path(name), corpus)
        # Another process, so that what made the texts is not counted.
        command = [sys.executable, "-m", "benchmarks.near_duplicates", "--of", name]
        cost = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        keeper = np.load(Path(name) / "keeper.npy")
        document = {
            "texts": options.texts,
            "megabytes": round(characters / 1e6),
            **cost,
            "dropped": int((keeper != np.arange(len(keeper))).sum()),
            "recall": recall(keeper, corpus.pairs),
            "precision": precision(keeper, paths, corpus.size, options.seed),
        }
    document["peers"] = peers(options.peer_texts, options.seed)
    if options.json:
        print(json.dumps(document, indent=2))
        return
    print(f"{document['texts']:,} texts, {document['megabytes']} MB: {cost['cpu_s']} CPU s, {cost['peak_mib']} MiB at most;"
          f" {document['dropped']:,} dropped, precision {document['precision']:.4f}\n")  # fmt: skip
    print("| overlap | planted pairs | recall |\n|---|---|---|")
    for row in document["recall"]:
        print(f"| {row['from']} to {row['to']} | {row['pairs']:,} | {row['recall']:.4f} |")
    print("\n| | texts | CPU s | ratio | recall at .8 and more |\n|---|---|---|---|---|")
    for row in document["peers"]:
        print(f"| {row['who']} | {row['texts']:,} | {row['cpu_s']} | {row['ratio']}× | {row['recall']:.4f} |")


if __name__ == "__main__":
    main()
