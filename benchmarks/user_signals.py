"""What users say and do, and how well it ranks what is bad: FeedbackQA (ratings, reasons) and ConvAI2 (thumbs on messages).

    feedbackqa   a passage that was given as the answer, two users' ratings 0-3 and reasons; bad: their mean is 1 or less
    convai2      a bot's message, a thumb down or up; what was said before and what the user said next

Rankings are of rows whose question, or dialogue, the model has not seen.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from benchmarks.rag_ranking import dealt, figures
from tasks.error_model import ErrorModelParams, error_model
from tasks.signals.grounding_features import Rarity
from tasks.signals.relevance import relevance_features

RATINGS = {"Bad": 0, "Could be Improved": 1, "Acceptable": 2, "Excellent": 3}
BAD = 1.0  # a mean rating of 1 or less
Figures = dict[str, dict[str, float]]


def feedbackqa(folder: Path, folds: int = 5, seed: int = 0) -> Figures:
    """From the answer alone; from one user's rating or words to the other's verdict. Raises FileNotFoundError without data."""
    rows = [row for path in _files(folder) for row in json.loads(gzip.decompress(path.read_bytes()))]
    questions = [r["question"] for r in rows]
    answers = [" ".join(r["passage"]["reference"]["section_headers"] or []) + "\n" + r["passage"]["reference"]["section_content"]
               for r in rows]  # fmt: skip
    ratings = np.array([[RATINGS[x] for x in r["rating"][:2]] for r in rows], float)
    bad, fold = ratings.mean(axis=1) <= BAD, dealt(questions, folds, seed)
    weights = TfidfVectorizer(stop_words="english", sublinear_tf=True).fit(questions + answers)
    cosine = np.asarray(weights.transform(questions).multiply(weights.transform(answers)).sum(axis=1)).ravel()
    features = relevance_features(questions, answers, Rarity.of(sorted(set(answers)))).assign(words_cosine=cosine)
    learned = _out_of_fold(features, bad, questions, fold, seed)
    # One user's signal against the other's verdict: nobody is asked twice.
    other = ratings[:, 1] <= BAD
    words = _worded([r["feedback"][0] for r in rows], other, fold)
    said = features.assign(first_rating=ratings[:, 0], first_words=words)
    return {
        "answer: -cosine (baseline)": figures(bad, -cosine),
        "answer: error model": figures(bad, learned),
        "one user's rating, the other's verdict": figures(other, -ratings[:, 0]),
        "one user's words, the other's verdict": figures(other, words),
        "answer, rating and words, the other's verdict": figures(
            other, _out_of_fold(said, other, questions, fold, seed)
        ),
    }


def convai2(folder: Path, folds: int = 5, seed: int = 0) -> Figures:
    """Thumbs on a bot's messages, from what was said before, the message, and what the user said next."""
    rows, groups = [], []
    for path in _files(folder):
        for number, dialogue in enumerate(json.loads(gzip.decompress(path.read_bytes()))):
            turns = dialogue["dialog"]
            for k, turn in enumerate(turns):
                if turn.get("evaluation_score") is None or turn.get("sender_class") != "Bot":
                    continue
                before, after = (turns[k - 1] if k else None), (turns[k + 1] if k + 1 < len(turns) else None)
                earlier = " ".join(t["text"] for t in turns[:k] if t["sender"] == turn["sender"])
                said = (turn["text"], before["text"] if before else "", after["text"] if after else None, earlier)
                rows.append((*said, k, len(turns), turn["evaluation_score"] == 0))
                groups.append(f"{path.name}/{number}")
    text, before, after, earlier, place, length, down = (list(c) for c in zip(*rows, strict=True))
    bad, fold = np.array(down), dealt(groups, folds, seed)
    rarity = Rarity.of(text + before)
    answer = relevance_features(before, text, rarity)
    answer["repeats_itself"] = relevance_features(text, earlier, rarity)["asked_found"]
    answer["place"] = place
    answer["words"] = _worded(text, bad, fold)
    reply = relevance_features(text, [a or "" for a in after], rarity).add_prefix("reply_")
    reply["abandoned"] = [float(a is None) for a in after]
    reply["from_end"] = np.array(length) - np.array(place)
    reply["reply_words"] = _worded([a or "" for a in after], bad, fold)
    return {
        "message too long (baseline)": figures(bad, answer["answer_words"].to_numpy()),
        "abandoned after it": figures(bad, reply["abandoned"].to_numpy()),
        "message: error model": figures(bad, _out_of_fold(answer, bad, groups, fold, seed)),
        "message and reply: error model": figures(bad, _out_of_fold(answer.join(reply), bad, groups, fold, seed)),
    }


def _files(folder: Path) -> list[Path]:
    files = sorted(p for p in folder.glob("*.json.gz"))
    if not files:
        raise FileNotFoundError(f"{folder} has no *.json.gz")
    return files


def _out_of_fold(
    features: pd.DataFrame, bad: np.ndarray, groups: Sequence[str], fold: np.ndarray, seed: int
) -> np.ndarray:
    scores = np.zeros(len(bad))
    for k in np.unique(fold):
        out = fold == k
        flat = np.full(len(bad), bad[~out].mean())
        inside = [g for g, o in zip(groups, out, strict=True) if not o]
        model = error_model(
            features[~out], flat[~out], bad[~out].astype(float), inside, params=ErrorModelParams(seed=seed)
        )
        scores[out] = model.probability(features[out], flat[out])
    return scores


def _worded(texts: Sequence[str], bad: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """P(bad) from the words alone, out of fold."""
    texts, scores = np.array(texts, object), np.zeros(len(bad))
    for k in np.unique(fold):
        out = fold == k
        words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
        model = make_pipeline(words, LogisticRegression(C=2.0, max_iter=200)).fit(texts[~out], bad[~out])
        scores[out] = model.predict_proba(texts[out])[:, 1]
    return scores
