"""Measured columns: what several detectors want to know of a text, counted once for a whole table.

    question "when do I see my money?"  response "We ship to Norway"  contexts [{"text": "Refunds take 5 days …"}]
    ->  content_words 2, missing 2, missing_words [norway, ship], relevance 0.0, question_language 'en', …

NULL where there is nothing to measure: no documents, no words.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_array

from tasks.signals.bags import (
    Lexicon,
    Texts,
    alike,
    bag,
    content,
    first_words,
    grouped,
    meaning,
    read,
    shared,
    sizes,
    trigrams,
    without,
)
from tasks.signals.languages import FUNCTION_WORDS, LANGUAGES

SOON_S = 15 * 60  # a later question is a new errand
SHOWN = 6  # words in a piece of evidence
A_CLAIM = 4  # content words from which a sentence says something that a document could hold
WEAK = 0.4  # share of its content words in the documents below which a sentence is not supported by them
SPOKEN = 0.15  # share of a text's different words that are function words of one language (a third of ordinary prose)
WRITTEN = 0.5  # share of them, or of its characters, that are of one script
AT_LEAST = 3.0  # words of evidence for a language
MARGIN = 1.5  # by which it must lead: neighbouring languages share some of these words
SENTENCES = 4  # from which a text may repeat itself


def measured(exchanges: pa.Table, documents: pa.Array, parents: np.ndarray) -> pa.Table:
    """The measures of each row. `documents` are the retrieved texts of all rows, `parents` the row of each, ascending."""
    soon = pc.less_equal(exchanges["next_after_s"], SOON_S)
    follow = pc.if_else(soon, exchanges["next_question"], None)
    columns = [c.combine_chunks() for c in (exchanges["response"], exchanges["question"], follow)]
    lexicon, (answers, questions, followed, held) = read([*columns, documents])
    said, asked = bag(lexicon, answers), bag(lexicon, questions)
    every = _sizes(lexicon, answers, said)
    every |= {"answer_language": _language(lexicon, said), "question_language": _language(lexicon, asked)}
    asked = content(lexicon, asked)
    every["asked_again"] = _asked_again(lexicon, asked, followed, columns[1], columns[2])
    every |= _grounding(lexicon, answers, content(lexicon, said), asked, held, parents)
    return pa.table(every)


def _sizes(lexicon: Lexicon, texts: Texts, said: csr_array) -> dict[str, pa.Array]:
    """How long, how varied, and how many sentences that stood before."""
    n = said.shape[0]
    word = ~lexicon.empty[texts.codes]
    total = _per_text(word, texts.starts)
    rows, starts = _sentences(lexicon, texts)
    repeated = np.zeros(n, np.int64)
    # The sum of a random number per word stands for a sentence; short ones ("Yes.") may come twice.
    chance = np.random.default_rng(1).integers(0, 1 << 62, len(lexicon.words), np.int64)
    marks = np.where(word, chance[lexicon.word[texts.codes]], 0)
    key, length = _per_text(marks, starts), _per_text(word, starts)
    many = (np.bincount(rows, minlength=n)[rows] >= SENTENCES) & (length >= A_CLAIM) if len(rows) else np.zeros(0, bool)
    if many.any():
        row, mark = rows[many], key[many]
        order = np.lexsort((mark, row))
        again = (np.diff(row[order]) == 0) & (np.diff(mark[order]) == 0)
        np.add.at(repeated, row[order][1:][again], 1)
    return {
        "answer_words": pa.array(total),
        "varied_words": pa.array(sizes(said).astype(np.int64)),
        "sentences": pa.array(np.bincount(rows, minlength=n).astype(np.int64)),
        "repeated_sentences": pa.array(repeated),
    }


def _language(lexicon: Lexicon, texts: csr_array) -> pa.Array:
    """The language of each text, by its different words; '' where too little speaks for any."""
    evidence, length = texts @ lexicon.language, texts @ lexicon.spoken
    share = evidence / np.maximum(length, 1.0)[:, None]
    rows, best = np.arange(len(share)), share.argmax(axis=1)
    first = share[rows, best]
    share[rows, best] = 0
    enough = np.where(best < len(FUNCTION_WORDS), SPOKEN, WRITTEN)
    sure = (first >= enough) & (evidence[rows, best] >= AT_LEAST) & (first >= MARGIN * share.max(axis=1))
    return pa.array(np.array([*LANGUAGES, ""], object)[np.where(sure, best, len(LANGUAGES))], pa.string())


def _asked_again(lexicon: Lexicon, asked: csr_array, followed: Texts, text: pa.Array, follow: pa.Array) -> pa.Array:
    """How alike a question and the next one are: trigrams, for those that share a word that means something."""
    some = np.flatnonzero(shared(asked, bag(lexicon, followed, meaning(lexicon, followed))) > 0)
    found = np.zeros(len(text))
    if len(some):
        rows = pa.array(some)
        found[some] = alike(trigrams(text.take(rows)), trigrams(follow.take(rows)))
    return pa.array(found, mask=pc.is_null(follow).to_numpy(zero_copy_only=False))


def _grounding(
    lexicon: Lexicon, answers: Texts, answered: csr_array, asked: csr_array, documents: Texts, parents: np.ndarray
) -> dict[str, pa.Array]:
    """What the answer says and the documents do not; what the question asks and they speak of."""
    n = answered.shape[0]
    held = bag(lexicon, documents, meaning(lexicon, documents))
    has = np.zeros(n, bool)
    filled = sizes(held) > 0
    has[parents[filled]] = True
    support = shared(answered[parents], held)
    best, supported = _best(parents, np.where(filled, support, -1), n)
    _, relevant = _best(parents, shared(asked[parents], held), n)
    words, of_question = sizes(answered), sizes(asked)
    known, asks = has & (words > 0), has & (of_question > 0)
    missing = np.where(known, words - supported, 0)
    short = np.flatnonzero(known & (missing > 0))
    lacking = without(answered[short], held[best[short]])
    together = grouped(held, np.searchsorted(parents, np.arange(n + 1)))
    return {
        "documents": pa.array(np.bincount(parents, minlength=n).astype(np.int64)),
        "content_words": _or_null(words.astype(np.int64), known),
        "missing": _or_null(missing.astype(np.int64), known),
        "missing_words": _scattered(first_words(lexicon, lacking, SHOWN), short, n),
        "relevance": _or_null(np.divide(relevant, of_question, out=np.zeros(n), where=of_question > 0), asks),
        "question_words": pa.array(of_question.astype(np.int64)),
        **_claims(lexicon, answers, asked, together, has),
    }


def _claims(
    lexicon: Lexicon, answers: Texts, asked: csr_array, together: csr_array, has: np.ndarray
) -> dict[str, pa.Array]:
    """The least supported sentence, and the numbers and names, that neither the documents nor the question hold."""
    n = len(has)
    rows, starts = _sentences(lexicon, answers)
    claims = bag(lexicon, answers, meaning(lexicon, answers), starts)
    size = sizes(claims)
    judged = np.flatnonzero((size >= A_CLAIM) & has[rows])
    row = rows[judged]
    support = shared(claims[judged], together[row]) / size[judged]
    weak = np.bincount(row[support < WEAK], minlength=n) / np.maximum(np.bincount(row, minlength=n), 1)
    order = np.lexsort((judged, support, row))  # a row's least supported sentence, the earlier of two
    weakest = order[np.diff(row[order], prepend=-1) != 0]
    weakest = weakest[support[weakest] < WEAK]
    found = {
        "weak_sentences": _or_null(weak, np.isin(np.arange(n), row)),
        "weakest_sentence": _scattered(
            answers.spans(starts[judged[weakest]], starts[judged[weakest] + 1]), row[weakest], n
        ),
    }
    opens = np.zeros(len(answers.codes) + 1, bool)
    opens[starts] = True
    numbers = lexicon.number[answers.codes]
    # A name is a capital letter where no sentence begins.
    names = lexicon.name[answers.codes] & ~opens[:-1]
    for what, keep in (("new_numbers", numbers), ("new_names", names)):
        claimed = bag(lexicon, answers, keep)
        some = np.flatnonzero(has & (sizes(claimed) > 0))
        new = without(without(claimed[some], together[some]), asked[some])
        found[what] = _scattered(first_words(lexicon, new, SHOWN), some, n)
    return found


def _sentences(lexicon: Lexicon, texts: Texts) -> tuple[np.ndarray, np.ndarray]:
    """(the row of each sentence, where each begins among the words and, last, where all end)."""
    opens = np.zeros(len(texts.codes) + 1, bool)
    opens[1:] = lexicon.ends[texts.codes]
    opens[texts.starts] = True  # of an empty text too: its begin is the begin of the next
    starts = np.flatnonzero(opens)
    if not len(starts) or starts[-1] != len(texts.codes):
        starts = np.append(starts, len(texts.codes))
    rows = np.searchsorted(texts.starts, starts[:-1], side="right") - 1
    return rows, starts


def _per_text(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """The sum of the words' values in each text."""
    before = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
    return before[starts[1:]] - before[starts[:-1]]


def _best(parents: np.ndarray, score: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """(the first document with each row's highest score, that score); 0 and 0 for rows without documents."""
    which, highest = np.zeros(n, np.int64), np.zeros(n, np.int64)
    order = np.lexsort((np.arange(len(score)), -score, parents))
    first = order[np.diff(parents[order], prepend=-1) != 0]
    which[parents[first]], highest[parents[first]] = first, np.maximum(score[first], 0)
    return which, highest


def _or_null(values: np.ndarray, known: np.ndarray) -> pa.Array:
    return pa.array(values, mask=~known)


def _scattered(values: pa.Array, rows: np.ndarray, n: int) -> pa.Array:
    """A column of n rows with the values at these rows, NULL elsewhere."""
    at = np.full(n, -1, np.int64)
    at[rows] = np.arange(len(rows))
    return values.take(pa.array(at, mask=at < 0))
