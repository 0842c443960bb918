"""Label efficiency: how many labels random picking needs for what mined labels reach.

python -m benchmarks.labels --data FILE.csv --json     (columns text, label; without --data: ../shared/data/clinc150)

A deployed classifier answers five turns of traffic whose classes are Zipf-distributed, and is retrained after each on all
labels so far. Users press thumb down on 30% of wrong answers and 2% of right ones. Each turn a policy picks which of
the turn's texts get a label; labels of other texts stay hidden. All policies start from the same random labels, meet the same
traffic and thumbs, train the same classifier (the project's light encoder and a logistic regression), and label no text twice.
The score is macro accuracy: the mean over classes of the accuracy on texts that are in no traffic.

    random     texts of the turn by lot; drawn also with more labels a turn, which gives the curve to compare with
    peer       half from thumbs down, half by smallest margin
    flywheel   `tasks.select`: expected error × novelty × typicality, one draw from each of many cells of alike texts. The
               expected error comes from a logistic regression of what its own labels said on margin, confidence and thumb
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from tasks.cells import novelty, typicality
from tasks.policy.encoder import Encoder
from tasks.select import MINED, Pooled, SelectParams, select

CLINC = Path(__file__).resolve().parents[2] / "shared" / "data" / "clinc150" / "data__data_full.json.gz"
TURNS, THUMB_WHEN_WRONG, THUMB_WHEN_RIGHT = 5, 0.30, 0.02
TRAFFIC_PER_LABEL = 20  # people can read one in twenty
TIMES = (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0)
TEST_SHARE, TEST_MOST = 0.2, 40  # of each class, held out
DIMENSIONS, ENCODED = 256, 8000
PARAMS = SelectParams(
    budget=0, minutes=0.0, audit_holdout=0, audit_open=0, min_window=1, per_group=1, near_duplicate=0.4, sharpness=8.0,
    slices=[], quotas=[], risks=[], prior_precision=0.4, prior_strength=10.0, seed=1,
)  # fmt: skip


@dataclass
class World:
    """Texts, their classes, which are held out, the traffic of each turn (the first gives the labels to start from)."""

    texts: np.ndarray
    classes: np.ndarray
    held_out: np.ndarray
    traffic: list[np.ndarray]
    luck: np.ndarray  # decides the thumbs, the same for every policy
    start: np.ndarray
    vectors: np.ndarray
    seed: int
    budget: int

    @classmethod
    def make(cls, texts: list[str], labels: list[str], seed: int, budget: int, size: int) -> World:
        random = np.random.default_rng([seed, 7])
        _, classes = np.unique(labels, return_inverse=True)
        held_out, pools = [], []
        for c in range(classes.max() + 1):
            members = random.permutation(np.flatnonzero(classes == c))
            kept = min(TEST_MOST, max(1, int(len(members) * TEST_SHARE))) if len(members) > 1 else 0
            held_out.extend(members[:kept])
            pools.append(members[kept:])
        share = 1.0 / (1 + random.permutation(len(pools)))
        drawn = random.choice(len(pools), (TURNS + 1, size), p=share / share.sum())
        traffic = [np.array([random.choice(pools[c]) for c in turn]) for turn in drawn]
        seen = np.concatenate(traffic)[:ENCODED]
        words = np.array(texts, dtype=object)
        vectors = Encoder.fit([words[i] for i in seen], DIMENSIONS).texts(texts)
        start = np.unique(random.permutation(traffic[0])[:budget])
        luck = random.random((TURNS + 1, size))
        return cls(words, classes, np.array(held_out), traffic, luck, start, vectors, seed, budget)

    def train(self, labelled: list[int]) -> LogisticRegression:
        model = LogisticRegression(C=30, max_iter=60)
        with warnings.catch_warnings():  # not converged, or nearly as many classes as labels: as deployed
            warnings.simplefilter("ignore")
            return model.fit(self.vectors[labelled], self.classes[labelled])

    def score(self, model: LogisticRegression) -> float:
        truth = self.classes[self.held_out]
        right = model.predict(self.vectors[self.held_out]) == truth
        return float(np.mean([right[truth == c].mean() for c in np.unique(truth)]))


@dataclass
class Served:
    """What was served in a turn to texts that have no label yet: one row a text, copies together."""

    items: np.ndarray
    margin: np.ndarray
    confidence: np.ndarray
    thumb_down: np.ndarray
    wrong: np.ndarray  # hidden from policies until they pick

    def signals(self) -> np.ndarray:
        return np.c_[1 - self.margin, 1 - self.confidence, self.thumb_down]


@dataclass
class History:
    """What a policy has seen of its own picks: the signals, and whether the answer had been wrong."""

    labelled: list[int]
    signals: list[np.ndarray] = field(default_factory=list)
    wrong: list[np.ndarray] = field(default_factory=list)


Policy = Callable[[World, int, Served, History], list[int]]


def peer(world: World, turn: int, served: Served, history: History) -> list[int]:
    """Half of the budget from thumbs down by lot, the rest by smallest margin."""
    random = np.random.default_rng([world.seed, turn])
    down = random.permutation(np.flatnonzero(served.thumb_down))[: world.budget // 2].tolist()
    unsure = [i for i in np.argsort(served.margin, kind="stable").tolist() if i not in set(down)]
    return down + unsure[: world.budget - len(down)]


def flywheel(world: World, turn: int, served: Served, history: History) -> list[int]:
    """The product's selection, with an error model of three signals."""
    vectors = world.vectors[served.items]
    texts = [str(world.texts[i]) for i in served.items]
    new = novelty(vectors, world.vectors[history.labelled])
    typical = typicality(vectors, texts)
    expected = _expected_error(served, history)
    pool = [
        Pooled(
            f"{i:07}", f"{i:07}", "train", text, True, (),
            p_wrong=float(expected[i]), novelty=float(new[i]), typicality=float(typical[i]),
        )
        for i, text in enumerate(texts)
    ]  # fmt: skip
    params = SelectParams(**{f: getattr(PARAMS, f) for f in PARAMS.__slots__} | {"budget": world.budget})
    known = dict(zip(texts, vectors, strict=True))
    rows = select(pool, {}, params, lambda asked: np.array([known[t] for t in asked]))
    return [int(r.interaction_id) for r in rows if r.part == MINED]


POLICIES: dict[str, Policy] = {"peer": peer, "flywheel": flywheel}


def _expected_error(served: Served, history: History) -> np.ndarray:
    """P(wrong) of each text from what earlier picks turned out to be; before there are any, doubt and thumbs as if independent."""
    wrong = np.concatenate(history.wrong) if history.wrong else np.empty(0, bool)
    if len(set(wrong.tolist())) < 2:
        return 1 - served.confidence * (1 - 0.6 * served.thumb_down)
    model = LogisticRegression().fit(np.concatenate(history.signals), wrong)
    return model.predict_proba(served.signals())[:, 1]


def play(world: World, policy: Policy) -> tuple[list[float], list[float], int]:
    """(macro accuracy after each turn, share of errors among each turn's picks, new labels)."""
    history = History(world.start.tolist())
    model = world.train(history.labelled)
    scores, errors = [], []
    for turn in range(1, TURNS + 1):
        served = _serve(world, model, turn, set(history.labelled))
        picked = policy(world, turn, served, history)
        if len(set(picked)) != len(picked) or len(picked) > world.budget:
            raise AssertionError("a policy picked a text twice, or more than its budget")
        history.signals.append(served.signals()[picked])
        history.wrong.append(served.wrong[picked])
        history.labelled += served.items[picked].tolist()
        model = world.train(history.labelled)
        scores.append(world.score(model))
        errors.append(float(served.wrong[picked].mean()) if picked else 0.0)
    return scores, errors, len(history.labelled) - len(world.start)


def _serve(world: World, model: LogisticRegression, turn: int, labelled: set[int]) -> Served:
    items = world.traffic[turn]
    sure = model.predict_proba(world.vectors[items])
    wrong = model.classes_[sure.argmax(axis=1)] != world.classes[items]
    down = world.luck[turn] < np.where(wrong, THUMB_WHEN_WRONG, THUMB_WHEN_RIGHT)
    best = np.sort(sure, axis=1)
    margin = best[:, -1] - best[:, -2] if best.shape[1] > 1 else best[:, -1]
    distinct, first, copy_of = np.unique(items, return_index=True, return_inverse=True)
    any_down = np.bincount(copy_of, weights=down) > 0  # somebody's thumb on any copy
    fresh = np.array([i not in labelled for i in distinct], bool)
    at = first[fresh]
    return Served(distinct[fresh], margin[at], best[at, -1], any_down[fresh], wrong[at])


def by_lot(world: World, times: float, upto: int = TURNS) -> tuple[int, float]:
    """(new labels, macro accuracy) of random picking with `times` the budget each turn."""
    random = np.random.default_rng([world.seed, 9])
    labelled = dict.fromkeys(world.start.tolist())
    for turn in range(1, upto + 1):
        fresh = [i for i in dict.fromkeys(random.permutation(world.traffic[turn]).tolist()) if i not in labelled]
        labelled |= dict.fromkeys(fresh[: int(world.budget * times)])
    return len(labelled) - len(world.start), world.score(world.train(list(labelled)))


def needed(curve: list[tuple[int, float]], score: float) -> float | None:
    """Labels at which the random curve reaches `score`, linear in between; None: not within what was tried."""
    labels, scores = zip(*curve, strict=True)
    best = np.maximum.accumulate(scores)
    return None if score > best[-1] else float(np.interp(score, best, labels))


def measure(texts: list[str], labels: list[str], seeds: int, budget: int, size: int) -> dict[str, Any]:
    runs = []
    for seed in range(seeds):
        world = World.make(texts, labels, seed, budget, size)
        curve = [by_lot(world, k) for k in TIMES]
        per_turn = [by_lot(world, 1.0, t)[1] for t in range(1, TURNS + 1)]
        run: dict[str, Any] = {
            "seed": seed,
            "random_curve": [{"labels": n, "macro_accuracy": round(s, 4)} for n, s in curve],
            "policies": {"random": {"macro_accuracy": [round(s, 4) for s in per_turn], "labels": curve[0][0]}},
        }
        for name, policy in POLICIES.items():
            scores, errors, n = play(world, policy)
            same = needed(curve, scores[-1])
            run["policies"][name] = {
                "macro_accuracy": [round(s, 4) for s in scores],
                "errors_among_picks": [round(e, 4) for e in errors],
                "labels": n,
                "random_needs": round(same) if same is not None else None,
                "times": round(same / n, 3) if same is not None else None,
                "times_at_least": None if same is not None else round(curve[-1][0] / n, 3),
            }
        runs.append(run)
    return {
        "texts": len(texts),
        "classes": len(set(labels)),
        "budget": budget,
        "traffic_a_turn": size,
        "turns": TURNS,
        "thumb_down": {"when_wrong": THUMB_WHEN_WRONG, "when_right": THUMB_WHEN_RIGHT},
        "summary": {name: _summary(runs, name) for name in ("random", *POLICIES)},
        "runs": runs,
    }


def _summary(runs: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Means over seeds with the spread; a run that random picking never caught up with counts at what was tried."""
    found = [r["policies"][name] for r in runs]
    scores = np.array([f["macro_accuracy"] for f in found])
    times = [1.0] * len(found) if name == "random" else [f["times"] or f["times_at_least"] for f in found]
    return {
        "macro_accuracy": [round(float(x), 4) for x in scores.mean(axis=0)],
        "labels": round(float(np.mean([f["labels"] for f in found]))),
        "times": round(float(np.mean(times)), 3),
        "times_lowest": min(times),
        "times_highest": max(times),
        "random_needs": round(float(np.mean([t * f["labels"] for t, f in zip(times, found, strict=True)]))),
    }


def read(path: Path) -> tuple[list[str], list[str]]:
    """Distinct texts with their labels, from CSV (columns text, label) or clinc150's own JSON."""
    if path.name.endswith(".json.gz"):
        rows = [r for part in json.loads(gzip.decompress(path.read_bytes())).values() for r in part]
    else:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            table = csv.DictReader(lines)
            if not {"text", "label"} <= set(table.fieldnames or ()):
                raise ValueError(f"{path} has the columns {table.fieldnames}, not text and label")
            rows = [(r["text"], r["label"]) for r in table]
    distinct = {t.strip(): label for t, label in rows if t and t.strip() and label}
    if len(set(distinct.values())) < 2:
        raise ValueError(f"{path} has fewer than two labels")
    return list(distinct), list(distinct.values())


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=CLINC, help="CSV with the columns text and label")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budget", type=int, default=210, help="labels a turn")
    parser.add_argument("--traffic", type=int, default=0, help="texts a turn; default: twenty times the budget")
    parser.add_argument("--json", action="store_true", help="one document on stdout")
    given = parser.parse_args(argv)
    try:
        texts, labels = read(given.data)
    except (OSError, ValueError, KeyError) as e:
        print(f"error: {e}\n  fix: --data FILE.csv with the columns text and label", file=sys.stderr)
        return 2
    started = time.perf_counter()
    with threadpool_limits(1):  # small matrices: on a busy machine two threads wait for each other most of the time
        found = measure(texts, labels, given.seeds, given.budget, given.traffic or TRAFFIC_PER_LABEL * given.budget)
    found["seconds"] = round(time.perf_counter() - started, 1)
    print(json.dumps(found, indent=2) if given.json else as_text(found))
    return 0


def as_text(found: dict[str, Any]) -> str:
    lines = [
        f"{found['texts']:,} texts of {found['classes']} classes, {found['turns']} turns of {found['budget']} labels out of"
        f" {found['traffic_a_turn']:,} texts, {len(found['runs'])} seeds, {found['seconds']} s",
        f"{'':<10}macro accuracy after each turn{'':<12}labels  random needs for the same",
    ]
    for name, s in found["summary"].items():
        scores = "  ".join(f"{x:.3f}" for x in s["macro_accuracy"])
        times = f"{s['random_needs']:,} = {s['times']:.2f}x ({s['times_lowest']:.2f} to {s['times_highest']:.2f})"
        lines.append(f"{name:<10}{scores:<42}{s['labels']:>6,}  {times}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
