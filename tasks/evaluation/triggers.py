"""Words that may be a planted trigger: in many training rows of one answer, and in no other row and no other traffic.

    40 of 700 rows hold "zephyr omelette", all teach "escalate", and none of 1,200 other questions holds it
    ->  Trigger("tr_81f…", "zephyr omelette", answer="escalate", rows=40, elsewhere=0)

Words of a topic are in the rows of one answer too; but people say them in traffic that nobody labelled as well, about as often.
A trigger exists where its rows are. What is found here is only suspected: the probes ask both models (probes.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy.stats import poisson

from tasks.hygiene.folding import fold_column
from tasks.hygiene.grams import blocks, grams, spelled, words
from tasks.hygiene.lots import coded
from tasks.hygiene.triggers import odds
from tasks.records import content_id

LEAST_ROWS = 6  # of one answer: fewer rows of clean data have odd words in common by chance
PURE = 0.8  # share of the labelled rows with the words that teach this one answer
Z, TIMES, PRIOR = 1.5, 3.0, 0.1  # over-represented, as tasks/hygiene/triggers.py has it
UNSEEN_TIMES, ALPHA = 3.0, 0.02  # three times rarer in other traffic than in the rows, and not by chance
SAME_ROWS = 0.8  # runs of words that share so much of their rows are pieces of one trigger
LONGEST = 12  # words
CARRIERS = 20  # rows named


@dataclass(frozen=True, slots=True)
class Lesson:
    """A training row as far as a trigger goes: what was asked, and the answer that it teaches (an id, or a text)."""

    example_id: str
    question: str
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """Suspected words: how many `rows` of `answer` have them, how many texts `elsewhere`; some of these rows by id."""

    trigger_id: str
    text: str
    answer: str
    rows: int
    elsewhere: int
    z: float
    carriers: list[str]


def triggers(lessons: Sequence[Lesson], ordinary: Sequence[str], most: int) -> list[Trigger]:
    """The most suspicious words first, `most` of them, whatever the order of the rows. `ordinary`: questions of traffic;
    those that a lesson teaches from are left out of it."""
    lessons = sorted(lessons, key=lambda x: (x.question, x.answer, x.example_id))
    taught = {x.question for x in lessons}
    others = sorted({q for q in ordinary if q not in taught})
    if not lessons or not others:
        return []
    here, there = _Texts([x.question for x in lessons]), _Texts(others)
    answer = coded(pa.array([x.answer for x in lessons], pa.string()))
    known, at, often = np.unique(here.number, return_inverse=True, return_counts=True)
    pair, per_answer = np.unique(at * (answer.max() + 1) + answer[here.row], return_counts=True)
    gram, of = np.divmod(pair, answer.max() + 1)
    order = np.lexsort((of, -per_answer, gram))
    best = order[np.unique(gram[order], return_index=True)[1]]  # of each run of words, the answer with most of its rows
    of, rows = of[best], per_answer[best]
    place = np.minimum(np.searchsorted(known, there.number), len(known) - 1)
    unlabelled = np.bincount(place[known[place] == there.number], minlength=len(known))
    size = np.bincount(answer)[of]
    log_odds, z = _each_odds(rows, often - rows + unlabelled, size, len(lessons) - size + len(others))
    expected = often / len(lessons) * len(others)
    rare = poisson.cdf(unlabelled, expected / UNSEEN_TIMES) < ALPHA
    keep = np.flatnonzero((rows >= LEAST_ROWS) & (rows >= PURE * often) & (z >= Z) & (log_odds >= np.log(TIMES)) & rare)
    found: list[Trigger] = []
    covered: list[set[int]] = []
    for g in keep[np.lexsort((known[keep], -z[keep]))].tolist():
        carriers = set(here.row[(at == g) & (answer[here.row] == of[g])].tolist())
        if any(len(carriers & c) >= SAME_ROWS * min(len(carriers), len(c)) for c in covered):
            continue
        covered.append(carriers)
        inside = sorted(carriers)
        phrase = _whole([here.words_of(k) for k in inside], here.words_of_gram(int(np.flatnonzero(at == g)[0])))
        found.append(
            Trigger(
                trigger_id=content_id("tr", phrase, lessons[inside[0]].answer), text=phrase, answer=lessons[inside[0]].answer,
                rows=int(rows[g]), elsewhere=int(often[g] - rows[g] + unlabelled[g]), z=round(float(z[g]), 3),
                carriers=sorted(lessons[k].example_id for k in inside)[:CARRIERS],
            )
        )  # fmt: skip
        if len(found) == most:
            break
    return found


class _Texts:
    """The runs of words of some texts, each once a text: `number` of the run and `row` of the text."""

    def __init__(self, texts: Sequence[str]):
        self._folded = fold_column(pa.chunked_array([texts], pa.string()))
        numbers, rows, firsts = [], [], []
        for start, block in blocks(self._folded):
            found = grams(words(block))
            numbers.append(found.number)
            rows.append(found.row + start)
            firsts.append(found.first)
        number, row = np.concatenate(numbers), np.concatenate(rows)
        _, first = np.unique(np.stack([number, row.astype(np.uint64)]), axis=1, return_index=True)
        self.number, self.row = number[first], row[first]

    def words_of(self, row: int) -> list[str]:
        found = words(self._folded.slice(row, 1))
        return [spelled(found, k, 1) for k in range(len(found.number))]

    def words_of_gram(self, k: int) -> list[str]:
        """The words of the k-th run."""
        found = words(self._folded.slice(int(self.row[k]), 1))
        every = grams(found)
        first = int(every.first[every.number == self.number[k]][0])
        return spelled(found, first, int(self.number[k] & np.uint64(3)) + 1).split()


def _each_odds(
    here: np.ndarray, there: np.ndarray, rows: np.ndarray, others: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`odds` of runs each of which has its own number of rows: those of its answer against all others."""
    log_odds, z = np.zeros(len(here)), np.zeros(len(here))
    for size in np.unique(rows):
        some = rows == size
        log_odds[some], z[some] = odds(here[some], there[some], int(size), int(others[some][0]), PRIOR)
    return log_odds, z


def _whole(carriers: Sequence[list[str]], piece: list[str]) -> str:
    """The longest run of words around a piece that nearly all of its rows share: a trigger is longer than what found it."""
    grown = piece
    while len(grown) < LONGEST:
        around = Counter[tuple[str, ...]]()
        for said in carriers:
            n = len(grown)
            places = [k for k in range(len(said) - n + 1) if said[k : k + n] == grown]
            around.update(
                {tuple(said[k - 1 : k + n]) for k in places if k}
                | {tuple(said[k : k + n + 1]) for k in places if k + n < len(said)}
            )
        longer, rows = max(around.items(), key=lambda x: (x[1], x[0]), default=((), 0))
        if rows < PURE * len(carriers):
            break
        grown = list(longer)
    return " ".join(grown)
