"""Texts as sets of words, a table at a time: what two texts share is a product of sparse matrices, not a loop over rows.

    lexicon, (said, held) = read([answers, documents])      two Arrow arrays of texts, one vocabulary
    shared(bag(lexicon, said), bag(lexicon, held))          how many words each pair has in common

A word is a run of bytes between spaces and brackets, found with NumPy in the memory in which Arrow keeps the texts. Only the
vocabulary, which is small, is looked at word by word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from tasks.signals.languages import FUNCTION_WORDS, LANGUAGES, SCRIPTS

_SPACE = np.zeros(256, bool)
_SPACE[list(b' \t\n\r\v\f(){}<>"|/*#_`~=;')] = True
_EDGES = " \t\n\r\v\f(){}<>\"|/*#_`~=;.,:!?'[]-–—…“”„‘’«»。，、！？：；（）「」•·+&^\\\u00a0\u2028\u200b\ufeff"
_CJK = r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}])"
_NUMBER = r"^[$€£]?\d[\d,]*(\.\d+)?\s?[%€$£]?$"
_ENDS = r"[.!?:。！？][\"')\]”’»*]*\s*$|\n"
_NAME = r"^\p{Lu}[\p{L}\p{M}'.-]*\p{Ll}[\p{L}\p{M}]*$"
_SHORT = (
    "i'm i'll i've i'd you're you'll you've you'd it's that's there's what's here's we're we'll we've they're they'll he's she's let's "
    "can't cannot couldn't don't doesn't didn't won't wouldn't isn't aren't wasn't weren't shouldn't haven't hasn't hadn't"
)
STOP_WORDS = frozenset(ENGLISH_STOP_WORDS).union(*FUNCTION_WORDS.values(), _SHORT.split())


@dataclass(frozen=True, slots=True)
class Texts:
    """The words of `n` texts: text i has codes[starts[i]:starts[i + 1]]; `places` are the words' offsets in `memory`."""

    codes: np.ndarray
    starts: np.ndarray
    places: np.ndarray
    memory: pa.Buffer

    def spans(self, first: np.ndarray, end: np.ndarray) -> pa.Array:
        """The text from word `first` up to word `end` (exclusive), for each pair, as an Arrow array of strings, up to its first line
        break. Behind a text's own one lies what the next texts begin with, and which ones these are is chance.
        """
        data = memoryview(self.memory)
        cut = zip(self.places[first].tolist(), self.places[end].tolist(), strict=True)
        return pa.array([bytes(data[a:b]).partition(b"\n")[0] for a, b in cut], pa.binary()).cast(pa.string())


@dataclass(frozen=True, slots=True)
class Lexicon:
    """What is known of each code: its word (an alphabetical number into `words`), and what kind of word it is."""

    words: pa.Array
    word: np.ndarray
    empty: np.ndarray
    number: np.ndarray
    name: np.ndarray
    ends: np.ndarray
    content: np.ndarray  # (words,): whether it carries meaning
    language: np.ndarray  # (words, languages): 1 where a word speaks for a language
    spoken: np.ndarray  # (words,): 1 where it is a word of any language, not a number


def read(columns: Sequence[pa.Array]) -> tuple[Lexicon, list[Texts]]:
    """Arrow arrays of strings (null is '') -> their vocabulary and, per array, the words of each text."""
    cut = [_cut(c) for c in columns]
    coded = pa.chunked_array([c[0] for c in cut], pa.large_binary()).dictionary_encode()
    # One hash table went through all chunks, so the last one's dictionary holds every word.
    vocabulary = coded.chunks[-1].dictionary if coded.num_chunks else pa.array([], pa.large_binary())
    codes = np.concatenate([np.empty(0, np.int32), *(c.indices.to_numpy(zero_copy_only=False) for c in coded.chunks)])
    ends = np.cumsum([len(c[0]) for c in cut])
    texts = [
        Texts(codes[end - len(words) : end], starts, places, memory)
        for end, (words, starts, places, memory) in zip(ends, cut, strict=True)
    ]
    return _lexicon(vocabulary), texts


def bag(lexicon: Lexicon, texts: Texts, keep: np.ndarray | None = None, starts: np.ndarray | None = None) -> csr_array:
    """(texts, words): 1 where a text has a word. `keep` says of each word in the texts whether it counts (by default those
    that are not marks alone); `starts` cuts the words otherwise, as into sentences.
    """
    keep = ~lexicon.empty[texts.codes] if keep is None else keep
    starts = texts.starts if starts is None else starts
    before = _running(keep)
    columns = lexicon.word[texts.codes[keep]]
    made = csr_array(
        (np.ones(len(columns), np.int32), columns, before[starts]), shape=(len(starts) - 1, len(lexicon.words))
    )
    made.sum_duplicates()
    made.data[:] = 1
    return made


def content(lexicon: Lexicon, one: csr_array) -> csr_array:
    """The bags without words that carry no meaning."""
    keep = lexicon.content[one.indices] if one.nnz else np.zeros(0, bool)
    before = _running(keep)
    made = csr_array((one.data[keep], one.indices[keep], before[one.indptr]), shape=one.shape)
    made.has_sorted_indices = made.has_canonical_format = True
    return made


def sizes(one: csr_array) -> np.ndarray:
    """How many words each bag holds."""
    return np.diff(one.indptr)


def meaning(lexicon: Lexicon, texts: Texts) -> np.ndarray:
    """Which of the texts' words carry meaning: a mask to `keep`."""
    return (lexicon.content[lexicon.word] & ~lexicon.empty)[texts.codes]


def grouped(one: csr_array, cuts: np.ndarray) -> csr_array:
    """The bags from each cut up to the next, put together."""
    made = csr_array((one.data.copy(), one.indices.copy(), one.indptr[cuts]), shape=(len(cuts) - 1, one.shape[1]))
    made.sum_duplicates()
    made.data[:] = 1
    return made


def shared(one: csr_array, other: csr_array) -> np.ndarray:
    """How many words row i of the one has in common with row i of the other."""
    return np.diff(one.multiply(other).tocsr().indptr)


def trigrams(texts: pa.Array, at_most: int = 120) -> csr_array:
    """(texts, trigrams of bytes): 1 where a text, lower-cased and with a space at either end, has one. Forgives slips."""
    short = pc.binary_slice(pc.utf8_lower(texts.fill_null("")).cast(pa.binary()), 0, at_most)
    padded = pc.binary_join_element_wise(pa.scalar(b""), short, pa.scalar(b""), pa.scalar(b" "))
    memory, offsets = _memory(padded)
    bytes_ = memory.astype(np.int32)
    grams = (bytes_[:-2] << 16 | bytes_[1:-1] << 8 | bytes_[2:]) if len(bytes_) > 2 else np.empty(0, np.int32)
    inside = np.ones(len(grams) + 2, bool)
    inside[np.maximum(offsets[1:] - 1, 0)] = False
    inside[np.maximum(offsets[1:] - 2, 0)] = False
    inside = inside[: len(grams)]
    before = _running(inside)
    starts = before[np.minimum(offsets, len(grams))]
    made = csr_array((np.ones(int(before[-1]), np.int32), grams[inside], starts), shape=(len(texts), 1 << 24))
    made.sum_duplicates()
    made.data[:] = 1
    return made


def without(one: csr_array, other: csr_array) -> csr_array:
    """The words of row i of the one that row i of the other lacks."""
    left = (one - one.multiply(other)).tocsr()
    left.eliminate_zeros()
    left.sort_indices()
    return left


def alike(one: csr_array, other: csr_array) -> np.ndarray:
    """Cosine of two sets of words or trigrams, row by row; 0 where either is empty."""
    size = np.sqrt(sizes(one).astype(float) * sizes(other))
    return np.divide(shared(one, other), size, out=np.zeros(one.shape[0]), where=size > 0)


def first_words(lexicon: Lexicon, one: csr_array, n: int) -> pa.Array:
    """The first n words of each bag, alphabetically, as one list a row."""
    size = np.minimum(sizes(one), n)
    offsets = np.concatenate([[0], np.cumsum(size)]).astype(np.int32)
    rank = np.arange(int(offsets[-1])) - np.repeat(offsets[:-1], size)
    columns = one.indices[np.repeat(one.indptr[:-1], size) + rank]
    return pa.ListArray.from_arrays(pa.array(offsets), lexicon.words.take(pa.array(columns)))


def _running(keep: np.ndarray) -> np.ndarray:
    """How many are kept before each place, and in all."""
    before = np.zeros(len(keep) + 1, np.int32)
    np.cumsum(keep, dtype=np.int32, out=before[1:])
    return before


def _cut(texts: pa.Array) -> tuple[pa.Array, np.ndarray, np.ndarray, pa.Buffer]:
    """(each word with the spaces after it, where each text's words start, the words' places, the memory of the texts)."""
    texts = _spaced(texts.cast(pa.large_string()).fill_null(""))
    # A line break after each text, so that no word spans two; and one before all, so that every word follows a space.
    ended = pc.binary_join_element_wise(texts, pa.scalar("", texts.type), pa.scalar("\n", texts.type))
    memory, offsets = _memory(ended)
    space = _SPACE[memory]
    begins = ~space
    begins[1:] &= space[:-1]
    begin = np.flatnonzero(begins)
    places = np.concatenate([begin, [len(memory)]]).astype(np.int64)
    buffer = pa.py_buffer(memory)
    words = pa.Array.from_buffers(pa.large_binary(), len(begin), [None, pa.py_buffer(places), buffer])
    return words, np.searchsorted(begin, offsets), places, buffer


def _spaced(texts: pa.Array) -> pa.Array:
    """Scripts that write without spaces get one around each character; where there is none of them nothing is copied."""
    memory, offsets = _memory(texts)
    high = np.flatnonzero(memory >= 0xE0)  # the first byte of these scripts' characters, and of few others
    if not len(high):
        return texts
    rows = np.unique(np.searchsorted(offsets, high, side="right") - 1)
    mask = np.zeros(len(texts), bool)
    mask[rows] = True
    return pc.replace_with_mask(texts, mask, pc.replace_substring_regex(texts.take(pa.array(rows)), _CJK, r" \1 "))


def _memory(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """(all bytes of the texts in a row, the n + 1 offsets of the texts in them)."""
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    wide = np.int64 if pa.types.is_large_string(texts.type) or pa.types.is_large_binary(texts.type) else np.int32
    _, at, data = texts.buffers()
    if not len(texts):
        return np.empty(0, np.uint8), np.zeros(1, np.int64)
    offsets = np.frombuffer(at, wide, len(texts) + 1, texts.offset * np.dtype(wide).itemsize).astype(np.int64)
    whole = np.frombuffer(data, np.uint8) if data else np.empty(0, np.uint8)
    return whole[offsets[0] : offsets[-1]], offsets - offsets[0]


def _lexicon(vocabulary: pa.Array) -> Lexicon:
    raw = vocabulary.cast(pa.string())  # cut at spaces of ASCII only, so each word is whole characters
    bare = pc.utf8_trim(raw, characters=_EDGES)
    bare = pc.replace_substring(bare, "’", "'")
    number = pc.match_substring_regex(bare, _NUMBER)
    # 3,000 and 3000 are one number.
    normal = pc.utf8_lower(pc.if_else(number, pc.replace_substring(bare, ",", ""), bare))
    words = pc.unique(normal)
    words = words.take(pc.sort_indices(words)) if len(words) else pa.array([""])  # a matrix needs a column
    listed = words.cast(pa.string())
    known = _flag(pc.is_in(listed, pa.array(sorted(STOP_WORDS))))
    empty = _flag(pc.equal(pc.utf8_length(bare), 0))
    word = pc.index_in(normal, words).to_numpy(zero_copy_only=False).astype(np.int32)
    languages = np.zeros((len(words), len(LANGUAGES)), np.float32)
    for k, language in enumerate(LANGUAGES):
        speaks = (
            pc.is_in(listed, pa.array(sorted(FUNCTION_WORDS[language])))
            if language in FUNCTION_WORDS
            else pc.match_substring_regex(listed, SCRIPTS[language])
        )
        languages[:, k] = _flag(speaks)
    return Lexicon(
        words=words,
        word=word,
        empty=empty,
        number=_flag(number) & ~_flag(pc.starts_with(raw, "[")),
        name=_flag(pc.match_substring_regex(bare, _NAME)) & ~known[word],
        ends=_flag(pc.match_substring_regex(raw, _ENDS)),
        content=~known,
        language=languages,
        spoken=_flag(pc.match_substring_regex(listed, r"\pL")).astype(np.float32),
    )


def _flag(values: pa.Array) -> np.ndarray:
    return values.to_numpy(zero_copy_only=False).astype(bool)
