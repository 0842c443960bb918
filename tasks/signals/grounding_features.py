"""How each sentence of an answer rests on the text that was retrieved for it, in numbers.

    question "when do they open?"   contexts [{"text": "hours Monday: 7:0-14:0 …"}]   response "Open from 8 am. Free parking!"
        row  start  end  words  found  best_found  grams  new_numbers  …
        0        0   15      2    0.5         0.5    0.0            1       "8 am" is no time of the source
        0       16   29      2    0.5         0.5    0.0            0

Words are compared by their first letters (truncation, the plainest of stemmers), times of day as 24-hour clock times, numbers
by value. Nothing is looked up: the features know the exchange and, for rarity, other documents.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import orjson
import pandas as pd
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, HashingVectorizer

from tasks.signals.facts import FACTS, Fact, fact_features, facts_of

STEM = 6
_TOKEN = re.compile(r"\d[\d.,:/]*\d|\d|[^\W\d_](?:[\w'’-]*\w)?")
_CLOCK = re.compile(r"\b(\d{1,2})(?::(\d{1,2}))?\s*([ap])\.?\s?m\b\.?", re.IGNORECASE)
_TIME = re.compile(r"\b(\d{1,2}):(\d{1,2})\b")
# A full stop before a small letter ends an abbreviation ("9 a.m. on"), not a sentence.
_SENTENCE = re.compile(r"[^\s].*?(?:[.!?][\"'”’)]*(?=\s+[^\sa-z]|\s*$)|(?=\n)|$)")
_NUMBERED = re.compile(r"^(?:\d{1,2}[.)]|[-*•])$")
_SPELLED = {"zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8",
            "nine": "9", "ten": "10", "eleven": "11", "twelve": "12"}  # fmt: skip
HEDGES = frozenset((
    "may", "might", "could", "possibly", "perhaps", "likely", "probably", "seems", "appears", "suggest", "suggests",
    "often", "typically", "generally", "usually",
))  # fmt: skip
FRAME = frozenset((
    "overall", "conclusion", "summary", "additionally", "however", "furthermore", "therefore", "important", "note",
    "ensure", "making", "offers", "provides", "known", "popular", "great", "perfect", "ideal",
))  # fmt: skip
NEGATIONS = frozenset((
    "not", "no", "never", "without", "neither", "nor", "none", "cannot", "lacks", "lack", "unable", "isn't",
    "doesn't", "don't", "didn't", "can't", "won't", "aren't", "wasn't", "unavailable", "unclear",
))  # fmt: skip
UNKNOWING = re.compile(
    r"\b(?:not|n't|no)\b.{0,40}\b(?:mention|specif|provid|information|state|clear|available|contain|given)"
    r"|unable to answer|cannot answer",
    re.IGNORECASE,
)
PASSAGE = re.compile(
    r"\bpassages?\b|\baccording to\b|\bbased on\b|\barticle\b|\bprovided\b|\bgiven\b|\bmentioned\b", re.IGNORECASE
)
GRAMS = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 4), n_features=2**18, alternate_sign=False)

SENTENCE = (
    "words", "found", "best_found", "window_found", "rare_found", "rare_best", "pairs", "best_pairs", "triples", "run", "run_share",
    "new_words", "new_rarity", "rarest_new", "numbers", "new_numbers", "far_numbers", "names", "new_names", "far_names",
    "asked", "hedges", "frame", "negations", "negation_differs", "unknowing", "passage", "quoted", "bullet", "colon",
    "place", "from_end", "is_last", "sentences", "cosine", "cosine_mean", "best_place", "best_next", "spread", "new_adjacent",
    "repeats", *FACTS,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rarity:
    """Inverse document frequency of stems; one that no document had is the rarest."""

    weights: Mapping[str, float]
    unknown: float

    @classmethod
    def of(cls, documents: Iterable[str]) -> Rarity:
        seen: Counter[str] = Counter()
        n = 0
        for text in documents:
            seen.update({t.stem for t in tokens(text)})
            n += 1
        return cls({s: math.log((n + 1) / (c + 0.5)) for s, c in seen.items()}, math.log((n + 1) / 0.5))

    def __call__(self, stem: str) -> float:
        return self.weights.get(stem, self.unknown)


@dataclass(frozen=True, slots=True)
class Token:
    """A word or number with its stem; `name`: written with a capital inside a sentence; `content`: it carries meaning."""

    text: str
    stem: str
    number: bool
    name: bool
    content: bool


def tokens(text: str) -> list[Token]:
    """The words of one sentence."""
    text = _CLOCK.sub(_clock, text)
    found = []
    for k, match in enumerate(_TOKEN.finditer(text)):
        word = match.group()
        if word[0].isdigit():
            found.append(Token(word, _number(word), True, False, True))
            continue
        lower = word.casefold().replace("’", "'").removesuffix("'s")
        if lower in _SPELLED:
            found.append(Token(word, _SPELLED[lower], k > 0, False, k > 0))
            continue
        content = lower not in ENGLISH_STOP_WORDS
        found.append(Token(word, lower[:STEM], False, k > 0 and word[0].isupper() and content, content))
    return found


def _clock(match: re.Match[str]) -> str:
    hour, minute = int(match[1]), int(match[2] or 0)
    return f" {hour % 12 + 12 * (match[3].lower() == 'p')}:{minute} "


def _number(word: str) -> str:
    if time := _TIME.fullmatch(word):
        return f"{int(time[1])}:{int(time[2])}"
    plain = word.replace(",", "").rstrip(".:/")
    return plain.removesuffix(".0") if re.fullmatch(r"\d+\.\d+", plain) else plain


def spans(text: str) -> list[tuple[int, int]]:
    """(start, end) of each sentence or line; a lone bullet or number belongs to what follows it."""
    found: list[tuple[int, int]] = []
    start = None
    for match in _SENTENCE.finditer(text):
        if not match.group().strip():
            continue
        begin = match.start() if start is None else start
        if _NUMBERED.match(match.group()):
            start = begin
            continue
        found.append((begin, match.end()))
        start = None
    return found


@dataclass(frozen=True, slots=True)
class _Source:
    """What is looked up in a source, prepared once however many answers rest on it."""

    sentences: tuple[frozenset[str], ...]
    pairs: tuple[frozenset[tuple[str, str]], ...]
    all_stems: frozenset[str]
    all_pairs: frozenset[tuple[str, str]]
    all_triples: frozenset[tuple[str, str, str]]
    places: Mapping[str, tuple[int, ...]]
    stems: tuple[str, ...]
    negated: tuple[bool, ...]
    grams: object
    facts: tuple[Fact, ...]


@lru_cache(maxsize=2_000)
def _source(texts: tuple[str, ...]) -> _Source:
    lines = [text[a:b] for text in texts for a, b in spans(text)] or [""]
    parsed = [tokens(line) for line in lines]
    stems = [[t.stem for t in p] for p in parsed]
    flat = [s for line in stems for s in (*line, "\n")]
    places: dict[str, list[int]] = {}
    for k, s in enumerate(flat):
        places.setdefault(s, []).append(k)
    return _Source(
        tuple(frozenset(s) for s in stems),
        tuple(frozenset(pairwise(s)) for s in stems),
        frozenset(flat),
        frozenset(pairwise(flat)),
        frozenset(_triples(flat)),
        {s: tuple(p) for s, p in places.items()},
        tuple(flat),
        tuple(any(t.text.casefold() in NEGATIONS for t in p) for p in parsed),
        GRAMS.transform(lines),
        facts_of(texts),
    )


def _triples(stems: Sequence[str]) -> Iterable[tuple[str, str, str]]:
    return zip(stems, stems[1:], stems[2:], strict=False)


def sentence_features(exchanges: pd.DataFrame, rarity: Rarity) -> pd.DataFrame:
    """One row a sentence of `exchanges` (question, response, contexts as JSON text): row, start, end and the SENTENCE columns.

    `row` is the position of the exchange; start and end are code points of the response.
    """
    keys, rows = [], []
    for k, (question, response, contexts) in enumerate(
        zip(exchanges["question"], exchanges["response"], exchanges["contexts"], strict=True)
    ):
        texts = tuple(d["text"] for d in orjson.loads(contexts)) if isinstance(contexts, str) else ()
        source = _source(texts or (str(question or ""),))
        for (start, end), values in _answer(str(question or ""), str(response or ""), source, rarity):
            keys.append((k, start, end))
            rows.append(values)
    frame = pd.DataFrame(np.array(rows, np.float32).reshape(len(rows), len(SENTENCE)), columns=list(SENTENCE))
    where = np.array(keys, np.int64).reshape(len(keys), 3)
    return pd.concat([pd.DataFrame(where, columns=["row", "start", "end"]), frame], axis=1)


def _answer(question: str, response: str, source: _Source, rarity: Rarity):
    where = spans(response)
    if not where:
        return
    parsed = [tokens(response[a:b]) for a, b in where]
    asked = {t.stem for t in tokens(question) if t.content}
    cosines = (GRAMS.transform([response[a:b] for a, b in where]) @ source.grams.T).toarray()
    best_before = -1
    said: set[str] = set()
    for k, ((a, b), words) in enumerate(zip(where, parsed, strict=True)):
        text = response[a:b]
        content = [t for t in words if t.content]
        stems = [t.stem for t in content]
        unique = set(stems)
        weights = {s: rarity(s) for s in unique}
        total, heavy = max(len(unique), 1), max(sum(weights.values()), 1e-6)
        overlaps = [len(unique & s) for s in source.sentences]
        best = int(np.argmax([o + c for o, c in zip(overlaps, cosines[k], strict=True)]))
        lines = source.sentences
        window = lines[best].union(*(lines[max(0, best - 1) : best + 2]))
        new = [s for s in unique if s not in source.all_stems]
        ordered = [t.stem for t in words]
        pairs = list(pairwise(ordered))
        triples = list(_triples(ordered))
        run = _longest_run(ordered, source)
        numbers = [t.stem for t in words if t.number]
        names = [t.stem for t in words if t.name]
        lowered = [t.text.casefold() for t in words]
        negated = any(w in NEGATIONS for w in lowered)
        flags = [t.content and t.stem not in source.all_stems for t in words]
        yield (
            (a, b),
            [
                len(content),
                len(unique & source.all_stems) / total if unique else 1.0,
                max(overlaps) / total if unique else 1.0,
                len(unique & window) / total if unique else 1.0,
                sum(w for s, w in weights.items() if s in source.all_stems) / heavy if unique else 1.0,
                sum(w for s, w in weights.items() if s in window) / heavy if unique else 1.0,
                sum(p in source.all_pairs for p in pairs) / max(len(pairs), 1),
                sum(p in source.pairs[best] for p in pairs) / max(len(pairs), 1),
                sum(t in source.all_triples for t in triples) / max(len(triples), 1),
                run,
                run / max(len(ordered), 1),
                len(new),
                sum(weights[s] for s in new),
                max((weights[s] for s in new), default=0.0),
                len(numbers),
                sum(n not in source.all_stems for n in numbers),
                sum(n not in window for n in numbers),
                len(names),
                sum(n not in source.all_stems for n in names),
                sum(n not in window for n in names),
                len(unique & asked) / total,
                sum(w in HEDGES for w in lowered),
                sum(w in FRAME for w in lowered),
                sum(w in NEGATIONS for w in lowered),
                float(negated != source.negated[best]),
                float(UNKNOWING.search(text) is not None),
                float(PASSAGE.search(text) is not None),
                float('"' in text or "“" in text),
                float(bool(_NUMBERED.match(text.split()[0]))),
                float(":" in text),
                k / len(where),
                len(where) - k,
                float(k == len(where) - 1),
                len(where),
                float(cosines[k].max()),
                float(np.sort(cosines[k])[-3:].mean()),
                best / len(lines),
                float(best_before >= 0 and best == best_before + 1),
                float(np.mean([o >= 0.5 * max(max(overlaps), 1) for o in overlaps])),
                sum(x and y for x, y in pairwise(flags)),
                len(unique & said) / total,
                *fact_features(text, words, source.facts),
            ],
        )
        best_before = best
        said |= unique


def _longest_run(stems: Sequence[str], source: _Source) -> int:
    """The longest run of consecutive words that the source has in the same order."""
    best = 0
    k = 0
    while k < len(stems) - best:
        for place in source.places.get(stems[k], ()):
            n = 1
            while k + n < len(stems) and place + n < len(source.stems) and source.stems[place + n] == stems[k + n]:
                n += 1
            best = max(best, n)
        k += 1
    return best
