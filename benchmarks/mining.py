"""How well errors are found: ranking of answers against what people say of them.

    python -m benchmarks.mining                           grouped cross-validation on ../shared/data, and users' signals
    python -m benchmarks.mining --train DIR --test DIR    trained on one folder, measured on the human labels of another

A folder holds ragtruth_{qa,summary,data2txt}.jsonl.gz (any of them); a rag_log_30models_2025-04.jsonl.gz beside the training
files is learned from at a lower weight, never measured on. Sources of the test folder are left out of training. --json prints
one document: ap, precision_top10, auroc, base_rate, and each with _without_model_id. Exit 2 where the data is missing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import rag_ranking, user_signals
from benchmarks.rag_ranking import Answers, dealt, figures

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
Ranking = Callable[[Answers, Answers], dict[str, np.ndarray]]


def held_out(train: Path, test: Path) -> dict[str, Any]:
    """Trained on one folder, measured on another."""
    learned, rarity = rag_ranking.read(train)
    asked, _ = rag_ranking.read(test, rarity, judged=False)
    met = set(asked.groups)
    apart = learned.take(np.array([g not in met for g in learned.groups]))
    if not len(apart.table):
        raise FileNotFoundError(f"no source in {train} that is not in {test} too")
    wrong = asked.table["wrong"].to_numpy(bool)
    scores = {"learned": rag_ranking.ranked(apart, asked), "lexical": rag_ranking.lexical(apart, asked)}
    named = {ranking: _named(wrong, s) for ranking, s in scores.items()}
    counts = {
        "trained_on": int(apart.table["human"].sum()),
        "judged": int((~apart.table["human"].astype(bool)).sum()),
        "measured_on": len(wrong),
        "sources_left_out": len(set(learned.groups) & met),
    }
    return named["learned"] | counts | {"lexical": named["lexical"]}


def cross_validated(folder: Path, seeds: int, folds: int = 5) -> dict[str, Any]:
    """Mean over seeds of the folds' dealing, with the spread; every source is out of fold once a seed."""
    answers, _ = rag_ranking.read(folder)
    human = answers.table["human"].to_numpy(bool)
    wrong, tasks = answers.table["wrong"].to_numpy(bool)[human], answers.table["task"].to_numpy()[human]
    runs: dict[str, list[dict[str, float]]] = {}
    by_task: dict[str, dict[str, float]] = {}
    for seed in range(seeds):
        fold = dealt(answers.groups, folds, seed)
        scores: dict[str, np.ndarray] = {}
        for k in range(folds):
            train, test = answers.take(fold != k), answers.take((fold == k) & human)
            found = {("learned", n): s for n, s in rag_ranking.ranked(train, test, seed).items()}
            found |= {("lexical", n): s for n, s in rag_ranking.lexical(train, test).items()}
            for (ranking, name), s in found.items():
                scores.setdefault(f"{ranking} {name}", np.zeros(len(human)))[(fold == k) & human] = s
        for ranking in ("learned", "lexical"):
            kinds = {n: scores[f"{ranking} {n}"][human] for n in ("with_model_id", "without_model_id")}
            runs.setdefault(ranking, []).append(_named(wrong, kinds))
        by_task = {
            t: _named(wrong[tasks == t], {n: scores[f"learned {n}"][human][tasks == t] for n in kinds})
            for t in set(tasks)
        }
    mean = {r: {k: float(np.mean([x[k] for x in rows])) for k in rows[0]} for r, rows in runs.items()}
    spread = {k: [x[k] for x in runs["learned"]] for k in ("ap", "precision_top10", "ap_without_model_id")}
    return mean["learned"] | {"lexical": mean["lexical"], "seeds": spread, "by_task": dict(sorted(by_task.items()))}


def _named(wrong: np.ndarray, scores: dict[str, np.ndarray]) -> dict[str, float]:
    flat = figures(wrong, scores["with_model_id"])
    return flat | {f"{k}_without_model_id": v for k, v in figures(wrong, scores["without_model_id"]).items()}


def table(result: dict[str, Any]) -> str:
    lines = [f"{'ranking':<46}  {'AP':>6}  {'first tenth':>11}  {'AUROC':>6}  {'base rate':>9}"]

    def add(title: str, row: dict[str, float], suffix: str = "") -> None:
        cells = [row[k + suffix] for k in ("ap", "precision_top10", "auroc", "base_rate")]
        lines.append(f"{title:<46}  {cells[0]:>6.3f}  {cells[1]:>11.3f}  {cells[2]:>6.3f}  {cells[3]:>9.3f}")

    rows = {"learned": result, "15 lexical features, boosted trees": result["lexical"]}
    rows |= {f"learned, {task}": row for task, row in result.get("by_task", {}).items()}
    for title, row in rows.items():
        add(f"{title}, with the model's name", row)
        add(f"{title}, without", row, "_without_model_id")
    for key, values in result.get("seeds", {}).items():
        lines.append(f"  {key} by seed: {', '.join(f'{v:.3f}' for v in values)}")
    for data, rankings in result.get("users", {}).items():
        lines.append("")
        for title, row in rankings.items():
            add(f"{data}, {title}"[:60], row)
    return "\n".join([*lines, "", f"{result['seconds']:.0f} s"])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path)
    parser.add_argument("--test", type=Path)
    parser.add_argument("--data", type=Path, default=SHARED, help="folder with rag_log/, feedbackqa/, convai2/")
    parser.add_argument("--seeds", type=int, default=1, help="how often the sources are dealt into five folds")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    if (options.train is None) != (options.test is None):
        parser.error("--train and --test go together")
    begun = time.perf_counter()
    try:
        if options.train:
            result = held_out(options.train, options.test)
        else:
            result = cross_validated(options.data / "rag_log", options.seeds)
            result["users"] = {
                "feedbackqa": user_signals.feedbackqa(options.data / "feedbackqa"),
                "convai2": user_signals.convai2(options.data / "convai2"),
            }
    except FileNotFoundError as e:
        print(f"{e}. Name the folders with --train and --test, or --data.", file=sys.stderr)
        return 2
    result["seconds"] = time.perf_counter() - begun
    print(json.dumps(result) if options.json else table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
