"""Answers of a retrieval-augmented application, ranked by how likely people find something made up in them.

Two rankings: from the answer, its question and its source alone; and with the model's name, as logs have it. `lexical` is the
plain contender: 15 overlaps and lengths of the whole answer, boosted trees.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.rag_log import TASKS, rows_of, source_of
from tasks.error_model import ErrorModelParams, error_model
from tasks.grounding_model import Verdicts, grounding_model
from tasks.signals.grounding_features import Rarity, sentence_features, tokens

JUDGED = "rag_log_30models_2025-04.jsonl.gz"
JUDGE_WEIGHT = 0.3  # of a human's label: the judge is wrong at times, and nobody has measured how often
PULL = 50.0  # many features that say nearly the same
PRIOR = (
    "both_some_wrong"  # the noisy-or over the sentences: what is believed before the answers' verdicts are looked at
)


@dataclass(frozen=True, slots=True)
class Answers:
    """`table`: source_id, task, model, question, response, contexts, wrong, human; `sentences` their features by row, with the
    tasks as columns; `marked` (sentences,) whether a person marked a part of it."""

    table: pd.DataFrame
    sentences: pd.DataFrame
    marked: np.ndarray

    def take(self, keep: np.ndarray) -> Answers:
        """The answers where `keep` (n,) is true, renumbered."""
        number = np.cumsum(keep) - 1
        row = self.sentences["row"].to_numpy()
        sentences = self.sentences[keep[row]].reset_index(drop=True)
        sentences["row"] = number[row[keep[row]]]
        return Answers(self.table[keep].reset_index(drop=True), sentences, self.marked[keep[row]])

    @property
    def groups(self) -> list[str]:
        return self.table["source_id"].tolist()


def read(folder: Path, rarity: Rarity | None = None, judged: bool = True) -> tuple[Answers, Rarity]:
    """The answers of a folder with ragtruth_*.jsonl.gz and, if there and wanted, the judged log. Raises FileNotFoundError
    where there is none. `rarity` is that of the sources here where none is given.
    """
    files = [(task, folder / f"ragtruth_{task}.jsonl.gz") for task in TASKS]
    if not any(path.is_file() for _, path in files):
        raise FileNotFoundError(f"{folder} has no ragtruth_*.jsonl.gz")
    sources, contexts, rows, marks = {}, {}, [], []

    def add(source_id: str, model: str, response: str, wrong: bool, human: bool, spans: list) -> None:
        source = sources[source_id]
        rows.append((source_id, source.task, model, source.question, response, contexts[source_id], wrong, human))
        marks.append(spans)

    for task, path in files:
        for line in rows_of(path) if path.is_file() else ():
            source = source_of(task, str(line["source_id"]), line["source"])
            sources[source.source_id] = source
            documents = [{"id": str(k), "text": text} for k, text in enumerate(source.documents)]
            contexts[source.source_id] = orjson.dumps(documents).decode()
            for r in line["responses"]:
                spans = [(x["start"], x["end"]) for x in r["labels"]]
                add(source.source_id, r["model"], r["response"], bool(spans), True, spans)
    if judged and (folder / JUDGED).is_file():
        for line in rows_of(folder / JUDGED):
            if str(line["source_id"]) in sources:
                add(
                    str(line["source_id"]),
                    line["model"],
                    line["response"],
                    line["verdict"] == "Inconsistent",
                    False,
                    [],
                )

    names = ["source_id", "task", "model", "question", "response", "contexts", "wrong", "human"]
    table = pd.DataFrame(rows, columns=names)
    rarity = rarity or Rarity.of("\n".join(s.documents) for s in sources.values())
    sentences = sentence_features(table, rarity)
    where = sentences[["row", "start", "end"]].itertuples(index=False)
    marked = np.array([any(a < end and b > start for a, b in marks[row]) for row, start, end in where], bool)
    for task in TASKS:
        sentences[task] = (table["task"] == task).to_numpy(np.float32)[sentences["row"]]
    return Answers(table, sentences, marked), rarity


def ranked(train: Answers, test: Answers, seed: int = 0) -> dict[str, np.ndarray]:
    """P(wrong) of each test answer, by ranking: 'without_model_id' and 'with_model_id'. No source may stand on both sides."""
    if set(train.groups) & set(test.groups):
        raise ValueError("a source stands on both sides")
    human, wrong = train.table["human"].to_numpy(bool), train.table["wrong"].to_numpy(float)
    weight = np.where(human, 1.0, JUDGE_WEIGHT)
    verdicts = Verdicts(wrong, weight, train.groups, human, train.marked)
    grounding = grounding_model(train.sentences, train.table["response"], verdicts, seed=seed)
    learned, asked = grounding.out_of_fold, grounding.answer_features(test.sentences, test.table["response"])
    # The names of the models that people judged; the log's other models have none of these.
    known = sorted(set(train.table["model"][human]))
    scores = {}
    for name, models in (("without_model_id", []), ("with_model_id", known)):
        beside = [_beside(t, models) for t in (train.table, test.table)]
        fused = error_model(
            learned.join(beside[0]),
            learned[PRIOR].to_numpy(),
            wrong,
            train.groups,
            weight,
            ErrorModelParams(pull=PULL, seed=seed),
        )
        scores[name] = fused.probability(asked.join(beside[1]), asked[PRIOR].to_numpy())
    return scores


def _beside(table: pd.DataFrame, models: list[str]) -> pd.DataFrame:
    """What is known of an answer beside its text: the task, the model, and both together."""
    columns = {task: table["task"] == task for task in TASKS}
    columns |= {model: table["model"] == model for model in models}
    columns |= {f"{t} {m}": columns[t] & columns[m] for t in TASKS for m in models}
    return pd.DataFrame(columns, index=table.index).astype(float)


def lexical(train: Answers, test: Answers) -> dict[str, np.ndarray]:
    """The plain contender, on the human labels alone."""
    human = train.table["human"].to_numpy(bool)
    x, wrong = _lexical(train.table[human]), train.table["wrong"][human].to_numpy(bool)
    known = sorted(set(train.table["model"][human]))
    scores = {}
    for name, models in (("without_model_id", []), ("with_model_id", known)):
        fitted = HistGradientBoostingClassifier(max_iter=150, learning_rate=0.05, max_leaf_nodes=8, random_state=0).fit(
            np.hstack([x, _named(train.table[human], models)]), wrong
        )
        scores[name] = fitted.predict_proba(np.hstack([_lexical(test.table), _named(test.table, models)]))[:, 1]
    return scores


def _named(table: pd.DataFrame, models: list[str]) -> np.ndarray:
    return np.array([[m == k for k in models] for m in table["model"]], float).reshape(len(table), len(models))


def _lexical(table: pd.DataFrame) -> np.ndarray:
    rows = []
    for question, response, contexts in zip(table["question"], table["response"], table["contexts"], strict=True):
        source = "\n".join(d["text"] for d in orjson.loads(contexts))
        said, known, asked = (tokens(t) for t in (response, source, question))
        sets = [{t.stem for t in ts if t.content} for ts in (said, known, asked)]
        numbers = [{t.stem for t in ts if t.number} for ts in (said, known)]
        names = [{t.stem for t in ts if t.name} for ts in (said, known)]
        order = [[t.stem for t in ts] for ts in (said, known)]
        grams = [[set(zip(*(o[k:] for k in range(n)), strict=False)) for o in order] for n in (2, 3)]
        many = max(len(sets[0]), 1)
        rows.append([
            len(said), len(known), len(asked), len(said) / max(len(known), 1), response.count("."), response.count("\n"),
            len(sets[0] & sets[1]) / many, len(sets[0] - sets[1]), len(sets[0] & sets[2]) / many,
            len(sets[1] & sets[0]) / max(len(sets[1]), 1), len(numbers[0] - numbers[1]), len(numbers[0]),
            len(names[0] - names[1]),
            *(len(a & b) / max(len(a), 1) for a, b in grams),
        ])  # fmt: skip
    return np.array(rows, float)


def figures(wrong: np.ndarray, p: np.ndarray) -> dict[str, float]:
    """Average precision, precision among the tenth ranked first (ties in the order given), AUROC, share of wrong ones."""
    first = np.argsort(-p, kind="stable")[: max(1, round(len(p) * 0.1))]
    return {
        "ap": float(average_precision_score(wrong, p)),
        "precision_top10": float(wrong[first].mean()),
        "auroc": float(roc_auc_score(wrong, p)),
        "base_rate": float(wrong.mean()),
    }


def dealt(groups: list[str], folds: int, seed: int) -> np.ndarray:
    """(n,) folds; whole groups are dealt out."""
    names, group = np.unique(groups, return_inverse=True)
    return (np.random.default_rng(seed).permutation(len(names)) % folds)[group]
