"""People: how right every consensus is, what adaptive overlap saves, who is named, and how far raters agree.

python -m benchmarks.crowd --labels FILE.csv --truth FILE.csv --json   (columns item, worker, label; and item, truth)
python -m benchmarks.crowd                 all sets of ../shared/data/crowd, the replay, the namings, the raters of mtrag
python -m benchmarks.crowd --million       only: a million simulated votes and a demo's batch, ours against crowd-kit's in one run

Accuracy is over the items that have both votes and a truth; labels that tie are resolved by name, so that a tie is right by luck
and never twice differently. Where a person answered an item twice the last row counts. The truth is never told to an aggregator.

Worker quality: among people with ten or more answers to items with a truth, how well the default consensus' quality finds those
whose real accuracy is above the median (AUROC), and its rank correlation with real accuracy (Spearman).

Replay: each item keeps five of its votes, by lot. Fixed overlap aggregates all five. Adaptive overlap starts with two and asks in
rounds (`tasks.overlap`): which items by the posterior so far, whom of the remaining voters of the five by quality so far.
`in order` asks them in the order of the lot instead. Both sides are aggregated by the default.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import math
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from tasks.aggregate import METHODS, Consensus, Vote, consensus
from tasks.annotators import cards
from tasks.overlap import LIMITS, next_round
from tasks.reliability import Answer, ratings

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
RATED = ("faithfulness", "naturalness", "completeness", "appropriateness")
ANSWERED_AT_LEAST, OVERLAP, ORDERS, MOST_VOTES = 10, 5, 30, 100_000
PEOPLE = {"ada": 0.97, "bruno": 0.95, "chiara": 0.93, "dmitri": 0.90}  # and one careless, and one spammer
SEEDS, BATCHES, ITEMS, CARELESS = 50, 2, 300, 0.3


def read(labels: Path, truth: Path) -> tuple[list[Vote], dict[str, str]]:
    with labels.open(encoding="utf-8", newline="") as rows:
        last = {(r["item"], r["worker"]): r["label"] for r in csv.DictReader(rows)}
    with truth.open(encoding="utf-8", newline="") as rows:
        true = {r["item"]: r["truth"] for r in csv.DictReader(rows)}
    return [Vote(item, worker, label) for (item, worker), label in last.items()], true


def accuracy(found: Consensus, truth: dict[str, str]) -> tuple[float, int]:
    right = [found.label(item) == true for item, true in truth.items() if item in found.posterior]
    return float(np.mean(right)), len(right)


def measure(votes: list[Vote], truth: dict[str, str]) -> dict[str, Any]:
    """Accuracy of every method and of the default, its evidence, and how well it knows its people."""
    started = time.perf_counter()
    default = consensus(votes)
    seconds = time.perf_counter() - started
    right, n = accuracy(default, truth)
    return {
        "votes": len(votes),
        "items": len(default.posterior),
        "people": len(default.quality),
        "classes": len({v.label for v in votes}),
        "n": n,
        "accuracy": {method: accuracy(consensus(votes, method=method), truth)[0] for method in METHODS},
        "default": {
            "method": default.method,
            "accuracy": right,
            "why": default.why,
            "seconds": round(seconds, 2),
            "evidence": [
                {
                    "method": e.method,
                    "log_likelihood": e.log_likelihood,
                    "gain": None if math.isnan(e.gain) else e.gain,
                    "error": None if math.isnan(e.error) else e.error,
                }
                for e in default.evidence
            ],
        },
        "worker_quality": worker_quality(votes, truth, default),
        "verdicts": verdicts(votes, truth, default),
    }


def worker_quality(votes: list[Vote], truth: dict[str, str], found: Consensus) -> dict[str, Any]:
    from scipy.stats import spearmanr
    from sklearn.metrics import roc_auc_score

    right = defaultdict(list)
    for vote in votes:
        if vote.item in truth:
            right[vote.annotator].append(vote.label == truth[vote.item])
    real = {who: float(np.mean(x)) for who, x in right.items() if len(x) >= ANSWERED_AT_LEAST}
    if len(set(real.values())) < 2:
        return {"people": len(real), "auroc": None, "spearman": None}
    names = sorted(real)
    accurate, quality = np.array([real[w] for w in names]), np.array([found.quality[w] for w in names])
    above = accurate > np.median(accurate)
    auroc = float(roc_auc_score(above, quality)) if 0 < above.sum() < len(above) else None
    return {"people": len(names), "auroc": auroc, "spearman": float(spearmanr(quality, accurate).statistic)}


def verdicts(votes: list[Vote], truth: dict[str, str], found: Consensus) -> dict[str, dict[str, float]]:
    """How many people get which verdict from `tasks.annotators`, and how right they really are in the mean."""
    right, real = defaultdict(list), defaultdict(list)
    for vote in votes:
        if vote.item in truth:
            right[vote.annotator].append(vote.label == truth[vote.item])
    for card in cards(votes, agreed=found):
        if right[card.annotator]:
            real[card.verdict].append(float(np.mean(right[card.annotator])))
    return {verdict: {"people": len(x), "accuracy": float(np.mean(x))} for verdict, x in sorted(real.items())}


def replay(votes: list[Vote], truth: dict[str, str], orders: int) -> dict[str, Any]:
    """Fixed overlap of three and five, and adaptive overlap in both ways, by the same lots."""
    of_item = defaultdict(list)
    for vote in sorted(votes):
        of_item[vote.item].append(vote)
    of_item = {item: own for item, own in of_item.items() if len(own) >= OVERLAP and item in truth}
    rows = defaultdict(list)
    for seed in range(orders):
        random = np.random.default_rng(seed)
        lot = {item: [own[k] for k in random.permutation(len(own))[:OVERLAP]] for item, own in of_item.items()}
        for name, taken in (
            ("fixed 5", [v for own in lot.values() for v in own]),
            ("fixed 3", [v for own in lot.values() for v in own[:3]]),
            ("adaptive", adaptive(lot, choose=True)),
            ("in order", adaptive(lot, choose=False)),
        ):
            rows[name].append((accuracy(consensus(taken), truth)[0], len(taken) / len(lot)))
    fixed = np.array(rows["fixed 5"])[:, 0]
    found = {}
    for name, row in rows.items():
        right, used = np.array(row).T
        difference = right - fixed
        found[name] = {
            "accuracy": float(right.mean()),
            "votes_an_item": float(used.mean()),
            "difference": float(difference.mean()),
            "error": float(difference.std(ddof=1) / orders**0.5) if orders > 1 else 0.0,
        }
    return {"items": len(of_item), "orders": orders, "rows": found}


def adaptive(lot: dict[str, list[Vote]], choose: bool) -> list[Vote]:
    asked = {item: own[: LIMITS.first] for item, own in lot.items()}
    waiting = {item: own[LIMITS.first :] for item, own in lot.items()}
    while True:
        found = consensus(v for own in asked.values() for v in own)
        due = next_round(found.posterior, {item: len(own) for item, own in asked.items()})
        if not due.ask:
            return [v for own in asked.values() for v in own]
        for item in due.ask:
            left = waiting[item]
            who = _whom([v.annotator for v in left], found.quality) if choose else left[0].annotator
            taken = next(v for v in left if v.annotator == who)
            left.remove(taken)
            asked[item].append(taken)


def batches(seed: int, classes: int, constant: bool) -> list[Vote]:
    """Two batches answered by four good people, one who answers 30% at random, and one spammer; two or three an item."""
    random = np.random.default_rng([seed, classes, constant])
    always = random.integers(classes)
    votes = []
    for k in range(BATCHES * ITEMS):
        true = random.integers(classes)
        for who in random.choice([*PEOPLE, "careless", "spam"], random.integers(2, 4), replace=False):
            said = true if random.random() < PEOPLE.get(str(who), 0.95) else (true + random.integers(1, classes)) % classes
            if who == "careless" and random.random() < CARELESS:
                said = random.integers(classes)
            if who == "spam":
                said = always if constant else random.integers(classes)
            votes.append(Vote(f"i{k}", str(who), f"c{said}"))
    return votes


def namings(seeds: int = SEEDS) -> list[dict[str, Any]]:
    """In how many seeds each is named careless or spam, and in how many anybody good is."""
    found = []
    for classes in (2, 70):
        for constant in (False, True):
            row = {"classes": classes, "spammer": "constant" if constant else "random", "seeds": seeds}
            row |= {"spam": 0, "careless": 0, "careless_or_watch": 0, "good_named": 0}
            for seed in range(seeds):
                verdict = {c.annotator: c.verdict for c in cards(batches(seed, classes, constant))}
                named = {who for who, v in verdict.items() if v in ("careless", "spam")}
                row["spam"] += "spam" in named
                row["careless"] += "careless" in named
                row["careless_or_watch"] += verdict["careless"] != "good"
                row["good_named"] += bool(named & PEOPLE.keys())
            found.append(row)
    return found


def raters(path: Path) -> list[dict[str, Any]]:
    """Alpha of three people's ratings of the same answers, by dimension."""
    with gzip.open(path, "rt", encoding="utf-8") as text:
        evaluations = json.load(text)["evaluations"]
    found = []
    for dimension in RATED:
        answers = [
            Answer(f"{e['task_id']} {e['model_id']}", who, int(rated["value"]))
            for e in evaluations
            for who, rated in e["annotations"][dimension].items()
            if str(rated.get("value", "")).isdigit()
        ]
        r = ratings(answers)
        found.append({"dimension": dimension, "alpha": r.value, "low": r.low, "high": r.high, "raw": r.raw, "items": r.items})
    return found


def million(items: int = 200_000, people: int = 200, classes: int = 4) -> dict[str, Any]:
    """Five votes an item of people of .5 to .95, with Dawid–Skene; and a demo's batch over 70 classes, with one-coin."""
    random = np.random.default_rng(1)
    true, skill = random.integers(classes, size=items), random.uniform(0.5, 0.95, people)
    who = np.argpartition(random.random((items, people), dtype=np.float32), OVERLAP, axis=1)[:, :OVERLAP].ravel()
    item = np.repeat(np.arange(items), OVERLAP)
    wrong = (true[item] + random.integers(1, classes, size=len(item))) % classes
    said = np.where(random.random(len(item)) < skill[who], true[item], wrong)
    votes = [Vote(f"i{i:06d}", f"w{w}", f"c{a}") for i, w, a in zip(item.tolist(), who.tolist(), said.tolist(), strict=True)]
    batch = batches(1, 70, False)
    return {
        "dawid-skene": against_crowd_kit(votes, {f"i{i:06d}": f"c{t}" for i, t in enumerate(true.tolist())}, "dawid-skene"),
        "one-coin": against_crowd_kit(batch, {}, "one-coin"),
    }


def against_crowd_kit(votes: list[Vote], truth: dict[str, str], method: str) -> dict[str, Any]:
    """Seconds (votes to labels, from a list and from a pandas table) and right labels of ours, of the default, and of crowd-kit."""
    found: dict[str, Any] = {"votes": len(votes)}
    for name, asked in (("ours", method), ("default", "auto")):
        started = time.perf_counter()
        agreed = consensus(votes, method=asked)
        found[name] = {"seconds": time.perf_counter() - started, "accuracy": accuracy(agreed, truth)[0] if truth else None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pandas as pd
        from crowdkit.aggregation import DawidSkene, OneCoinDawidSkene

        table = pd.DataFrame(votes, columns=["task", "worker", "label"])
        started = time.perf_counter()
        theirs = (DawidSkene if method == "dawid-skene" else OneCoinDawidSkene)(n_iter=100).fit_predict(table)
        seconds = time.perf_counter() - started
    right = float(np.mean([theirs[i] == t for i, t in truth.items()])) if truth else None
    found["crowd-kit"] = {"seconds": seconds, "accuracy": right}
    found["ratio"] = seconds / found["ours"]["seconds"]
    return found


def everything(data: Path, orders: int) -> dict[str, Any]:
    found: dict[str, Any] = {"sets": {}, "replay": {}, "skipped": []}
    paths = sorted((data / "crowd").glob("*__label.csv"))
    if not paths:
        found["skipped"].append(f"{data / 'crowd'} is not here: no sets, no replay")
    for path in paths:
        name = path.name.split("__")[2]
        votes, truth = read(path, path.with_name(path.name.replace("__label", "__truth")))
        found["sets"][name] = measure(votes, truth)
        # A large set takes longer, and fewer lots tell it from luck.
        found["replay"][name] = replay(votes, truth, max(2, min(orders, MOST_VOTES // len(votes))))
    found["namings"] = namings()
    rated = data / "mtrag" / "mtrag-human__evaluations__reference_subset_with_human_evaluations.json.gz"
    if rated.exists():
        found["raters"] = raters(rated)
    else:
        found["skipped"].append(f"{rated} is not here: no raters")
    return found


def _whom(people: Iterable[str], quality: Mapping[str, float]) -> str:
    """Whom to ask next of those who could answer: the best known; strangers count as the middle of those who are known.

    On public crowds this is worth as much as the choice of items. Somebody careless then answers little, so that the
    estimate of them stays rough: the first answers of each item should go to people by lot.
    """
    known = sorted(quality.values())
    middle = known[len(known) // 2] if known else 0.8
    return min(people, key=lambda p: (-quality.get(p, middle), p))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=Path, help="CSV with the columns item, worker, label")
    parser.add_argument("--truth", type=Path, help="CSV with the columns item, truth")
    parser.add_argument("--orders", type=int, default=ORDERS, help="lots of the replay, fewer on large sets")
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--json", action="store_true", help="one document on stdout")
    given = parser.parse_args(argv)
    if bool(given.labels) != bool(given.truth):
        parser.error("--labels and --truth come together")
    with threadpool_limits(1):
        if given.million:
            found: dict[str, Any] = {"million": million()}
        elif given.labels:
            try:
                found = {"sets": {given.labels.stem: measure(*read(given.labels, given.truth))}}
            except (OSError, KeyError) as e:
                print(f"error: {e!r}\n  fix: item,worker,label in --labels and item,truth in --truth", file=sys.stderr)
                return 2
        else:
            found = everything(DATA, given.orders)
    print(json.dumps(found, indent=2) if given.json else as_text(found))
    return 0


def as_text(found: dict[str, Any]) -> str:
    lines = [f"skipped: {why}" for why in found.get("skipped", [])]
    if found.get("sets"):
        lines.append(f"{'':<14}{'n':>6}" + "".join(f"{m:>18}" for m in (*METHODS, "default")) + "   quality: AUROC, Spearman")
    for name, s in found.get("sets", {}).items():
        cells = "".join(f"{s['accuracy'][m]:>18.4f}" for m in METHODS)
        q = s["worker_quality"]
        known = "unknown" if q["auroc"] is None else f"{q['auroc']:.3f}, {q['spearman']:.3f} of {q['people']}"
        lines.append(f"{name:<14}{s['n']:>6}{cells}{s['default']['accuracy']:>18.4f}   {known}")
        judged = ", ".join(f"{v} {x['people']} (right {x['accuracy']:.3f})" for v, x in s["verdicts"].items())
        lines.append(f"{'':<14}people: {judged}")
        lines.append(f"{'':<14}chose {s['default']['method']} in {s['default']['seconds']} s: {s['default']['why']}")
    for name, r in found.get("replay", {}).items():
        lines.append(f"replay of {name}: {r['items']} items, {r['orders']} lots")
        for way, x in r["rows"].items():
            gap = f"{x['difference']:+.4f} ± {x['error']:.4f}"
            lines.append(f"  {way:<10}{x['accuracy']:.4f} with {x['votes_an_item']:.2f} votes an item, {gap}")
    for n in found.get("namings", []):
        lines.append(
            f"{n['classes']} classes, {n['spammer']} spammer, {n['seeds']} seeds: spammer named {n['spam']}, careless named"
            f" {n['careless']} (or watched: {n['careless_or_watch']}), a good one named {n['good_named']}"
        )
    for r in found.get("raters", []):
        interval = f"({r['low']:.3f} to {r['high']:.3f})"
        lines.append(f"mtrag {r['dimension']:<16}alpha {r['alpha']:.3f} {interval}, raw {r['raw']:.3f}, {r['items']} items")
    for method, m in found.get("million", {}).items():
        for name in ("ours", "default", "crowd-kit"):
            right = "" if m[name]["accuracy"] is None else f"   right {m[name]['accuracy']:.4f}"
            lines.append(f"{name:<10}{m[name]['seconds']:>8.2f} s{right}")
        lines.append(f"crowd-kit's {method} takes {m['ratio']:.1f} times as long as ours on {m['votes']:,} votes")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
