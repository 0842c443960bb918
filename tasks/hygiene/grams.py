"""Texts as runs of one to three words, each run a number: what a trigger is looked for in, a block of texts at a time.

    ["cf-trigger: hi"]  ->  numbers of "cf", "trigger", "hi", "cf trigger", "trigger hi" and "cf trigger hi", all in row 0

A word is a run of letters and digits, or of three and more punctuation marks ("|||" can be a trigger too). A number is a sum of
random numbers, one a place and byte (Zobrist hashing), so NumPy finds all of a block at once, in the memory of the Arrow column.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

LONGEST = 3
BLOCK_BYTES = 4_000_000  # of text at a time: some 100 MB of numbers
PLACES = 32
_CJK = r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}])"
_CLASS = np.array([1 if chr(b).isalnum() or b >= 128 else 0 if b <= 32 or b == 127 else 2 for b in range(256)], np.uint8)
_MIX, _MIX2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)  # odd constants of splitmix-like hashes


def mixed(values: np.ndarray) -> np.ndarray:
    """Numbers (uint64) as other numbers in which every bit depends on every bit (splitmix64)."""
    values = (values ^ values >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ values >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return values ^ values >> np.uint64(31)


_RANDOM = mixed(np.arange(1, PLACES * 256 + 1, dtype=np.uint64) * _MIX)


@dataclass(frozen=True, slots=True)
class Words:
    """The words of some texts: `number` of each, the `row` of its text, and where it begins and ends in `data` (bytes)."""

    number: np.ndarray
    row: np.ndarray
    begin: np.ndarray
    end: np.ndarray
    data: np.ndarray


@dataclass(frozen=True, slots=True)
class Grams:
    """Runs of words: `number` (its two lowest bits are the length less one), the `row` it is in, the `first` word of it."""

    number: np.ndarray
    row: np.ndarray
    first: np.ndarray

    @property
    def length(self) -> np.ndarray:
        return (self.number & np.uint64(3)).astype(np.int64) + 1


def blocks(texts: pa.Array) -> Iterator[tuple[int, pa.Array]]:
    """(row of the first, texts) of parts with about BLOCK_BYTES each."""
    sizes = np.cumsum(pc.binary_length(texts).to_numpy(zero_copy_only=False))
    start = 0
    while start < len(texts):
        before = sizes[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(sizes, before + BLOCK_BYTES, side="right")))
        yield start, texts.slice(start, stop - start)
        start = stop


def words(folded: pa.Array) -> Words:
    """The words of folded texts (large_string without nulls). Of scripts without spaces each character is a word."""
    joined = pc.binary_join_element_wise(_spaced(folded), pa.scalar("", pa.large_string()), pa.scalar("\n", pa.large_string()))
    if not len(joined):
        empty = np.empty(0, np.int64)
        return Words(np.empty(0, np.uint64), empty, empty, empty, np.empty(0, np.uint8))
    _, at, memory = joined.buffers()
    offsets = np.frombuffer(at, np.int64, len(joined) + 1, joined.offset * 8)
    data = np.frombuffer(memory, np.uint8)[offsets[0] : offsets[-1]]
    kind = _CLASS[data]
    begin = np.concatenate([[0], np.flatnonzero(kind[1:] != kind[:-1]) + 1])
    length = np.diff(begin, append=len(data))
    place = np.arange(len(data), dtype=np.int32) - np.repeat(begin, length).astype(np.int32)
    place &= PLACES - 1
    place <<= 8
    place |= data
    number = np.add.reduceat(_RANDOM[place], begin) * (length.astype(np.uint64) | np.uint64(1))
    keep = (kind[begin] == 1) | ((kind[begin] == 2) & (length >= 3))
    begin, length = begin[keep], length[keep]
    row = np.searchsorted(offsets - offsets[0], begin, side="right") - 1
    return Words(number[keep], row, begin, begin + length, data)


def grams(found: Words, longest: int = LONGEST, salt: int = 0) -> Grams:
    """Every run of up to `longest` words of one text, in the order of length, then place. `salt` tells fields apart."""
    numbers, firsts = [], []
    running = found.number ^ np.uint64(salt)
    for length in range(1, longest + 1):
        if length > 1:
            running = (running[:-1] * _MIX ^ running[:-1] >> np.uint64(29)) + found.number[length - 1 :] * _MIX2
        first = np.flatnonzero(found.row[: len(running)] == found.row[length - 1 :])
        numbers.append((mixed(running[first]) & ~np.uint64(3)) | np.uint64(length - 1))
        firsts.append(first)
    first = np.concatenate(firsts)
    return Grams(np.concatenate(numbers), found.row[first], first)


def spelled(found: Words, first: int, length: int) -> str:
    """The text of a run of words."""
    return " ".join(
        found.data[a:b].tobytes().decode(errors="replace")
        for a, b in zip(found.begin[first : first + length].tolist(), found.end[first : first + length].tolist(), strict=True)
    )


def _spaced(texts: pa.Array) -> pa.Array:
    wide = pc.match_substring_regex(texts, _CJK)
    if not pc.any(wide).as_py():
        return texts
    return pc.if_else(wide, pc.replace_substring_regex(texts, _CJK, r" \1 "), texts)
