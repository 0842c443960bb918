"""How much of the personal data in the labelled corpus is found, type by type, and how much is taken that is none.

    python -m benchmarks.privacy_recall [--seed 1] [--misses]
"""

from __future__ import annotations

import argparse
from collections import Counter

from benchmarks.privacy_corpus import Labelled, corpus
from tasks.redact import Edge


def measure(seed: int = 1, of_each: int = 300) -> tuple[dict[str, float], list[Labelled], list[Labelled]]:
    """Recall by type, what was missed, and the look-alikes of which something was taken."""
    edge = Edge(b"a key of this benchmark")
    planted, found = Counter(), Counter()
    missed, taken = [], []
    for labelled in corpus(seed, of_each):
        left = edge.text(labelled.text, "s-1")
        if not labelled.kind:
            if left != labelled.text:
                taken.append(labelled)
            continue
        planted[labelled.kind] += 1
        if labelled.value in left:
            missed.append(labelled)
        else:
            found[labelled.kind] += 1
    return {kind: found[kind] / planted[kind] for kind in planted}, missed, taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--misses", action="store_true", help="show what was missed and what was taken wrongly")
    options = parser.parse_args()
    recall, missed, taken = measure(options.seed)
    print("| type | recall |\n|---|---|")
    for kind, share in recall.items():
        print(f"| {kind} | {share:.1%} |")
    alike = sum(1 for labelled in corpus(options.seed) if not labelled.kind)
    print(f"| look-alikes taken | {len(taken)} of {alike} ({len(taken) / alike:.1%}) |")
    if options.misses:
        for labelled in missed + taken:
            print(f"  {labelled.kind or 'TAKEN':8} {labelled.text!r}")


if __name__ == "__main__":
    main()
