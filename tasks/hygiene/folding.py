"""Texts as a reader sees them: look-alike letters, widths, case and invisible characters folded; and who hides something in them.

    fold("Ꮲаypal\\u200b ＬＯＧＩＮ")  ->  "paypal login"          hidden(["pay\\u200bpal"])  ->  {0: "U+200B inside a word"}

Look-alikes are those of Unicode's confusables (UTS 39, version 15.1) that stand for one ASCII letter, from scripts in which words
are written. They are folded only in words (or texts) that are otherwise Latin, so that Russian stays Russian.
"""

from __future__ import annotations

import functools
import re
import sys
import unicodedata

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

LOOKALIKES = {
    "a": "ɑΑαАаᎪ", "b": "ƄΒВЬᏏᏴꞴ", "c": "СсᏟᴄⲤⲥꮯ", "d": "ԁᎠᏧ", "e": "ΕЕеҽᎬꬲ", "f": "ϜքẝꞘꞙꬵ", "g": "ƍɡԌցᏀᏳᶃ", "h": "ΗНһհᎻᏂⲎ",
    "i": "ƖɩɪΙιІіӀӏᎥᏞⲒⳐꙇꭵ", "j": "ͿϳЈјᎫꞲ", "k": "ΚКᏦⲔ", "m": "ΜϺМᎷⲘ", "n": "ΝոռⲚ", "o": "ΟοσОоՕօᴏᴑⲞⲟꬽ", "p": "ΡρРрᏢⲢⲣ", "q": "ԛգզ",
    "r": "ƦгᎡᏒᴦⲅꭇꭈꮁ", "s": "ƽЅѕՏᏕᏚꜱꮪ", "t": "ΤТᎢⲦ", "u": "ʋυՍսᴜꞟꭎꭒ", "v": "νѴѵᏙᴠꮩ", "w": "ɯѡԜԝաᎳᏔᴡꮃ", "x": "ΧХхⲬꞳ",
    "y": "ɣʏΥγУуҮүᎩᎽᶌỿⲨꭚ", "z": "ΖᏃᴢꮓ",
}  # fmt: skip
_LATIN_OF = {ord(c): to for to, letters in LOOKALIKES.items() for c in letters}
# Letters of other scripts only: a word with a dotless ɪ or ɡ is phonetics and hides nothing.
_FOREIGN = "".join(c for letters in LOOKALIKES.values() for c in letters if not unicodedata.name(c).startswith("LATIN"))
_FOREIGN_RANGES = r"\x{0370}-\x{03ff}\x{0400}-\x{052f}\x{0531}-\x{0587}\x{13a0}-\x{13fd}\x{2c80}-\x{2cff}\x{ab70}-\x{abbf}"
_WORD = re.compile(r"\w+")
_PLAIN = r"^[\t\n\r -~]*$"
_UNSEEN = r"\x{200b}-\x{200d}\x{2060}-\x{2064}\x{feff}\x{180e}\x{115f}\x{1160}\x{3164}\x{034f}"
_DIRECTED = r"\x{202a}-\x{202e}\x{2066}-\x{2069}"
# Each is harmless somewhere: joiners in emoji and in Persian, marks of direction around a pasted number, tags in three flags.
_HIDDEN = (
    (r"[\x{202d}\x{202e}]", "text shown in another order than it is stored"),
    (rf"[A-Za-z][{_DIRECTED}]+[A-Za-z]", "a change of direction inside a word"),
    (rf"[A-Za-z][{_UNSEEN}]+[A-Za-z]", "an invisible character inside a word"),
    (r"[\x{200b}-\x{200f}\x{2060}-\x{2064}\x{feff}]{4,}", "a run of invisible characters"),
    (r"(^|[^\x{1f3f4}\x{e0020}-\x{e007f}])[\x{e0020}-\x{e007f}]", "tag characters, which can spell a hidden text"),
    (r"[\x{fe00}-\x{fe0f}\x{e0100}-\x{e01ef}]{2,}", "a run of variation selectors, which can spell a hidden text"),
)
_MIXED = rf"[A-Za-z][{_FOREIGN_RANGES}]|[{_FOREIGN_RANGES}][A-Za-z]"
LEAST_LETTERS, LEAST_LATIN = 4, 2  # of a word that mixes scripts: "αx" and "μm" are formulas


def fold(text: str) -> str:
    """The text as it is read: NFKC, without what is invisible, look-alike letters as Latin ones, in lower case."""
    if text.isascii() and text.isprintable():
        return text.lower()
    seen = _invisible().sub("", unicodedata.normalize("NFKC", text))
    if not seen.isascii():
        seen = _WORD.sub(lambda word: _latin(word.group(), False), seen)
        # A whole word of look-alikes ("сосо") is read as Latin where most of what is around it is.
        letters = [c.isascii() for c in seen if c.isalpha()]
        if sum(letters) * 2 > len(letters) > sum(letters):
            seen = _WORD.sub(lambda word: _latin(word.group(), True), seen)
    return seen.casefold()


def fold_column(texts: pa.Array) -> pa.Array:
    """The same of an Arrow column (null is ''), plain ASCII at Arrow's speed."""
    texts = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    texts = texts.cast(pa.large_string()).fill_null("")
    odd = ~_flags(pc.match_substring_regex(texts, _PLAIN))
    lower = pc.ascii_lower(texts)
    if not odd.any():
        return lower
    folded = pa.array([fold(t) for t in texts.filter(pa.array(odd)).to_pylist()], pa.large_string())
    return pc.replace_with_mask(lower, odd, folded)


def hidden(texts: pa.Array) -> dict[int, str]:
    """Row -> what it hides. Rows that hide nothing are absent."""
    found: dict[int, str] = {}
    texts = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    rows = np.flatnonzero(~_flags(pc.match_substring_regex(texts.fill_null(""), _PLAIN)))
    odd = texts.fill_null("").take(pa.array(rows))
    for pattern, what in _HIDDEN:
        for row in rows[_flags(pc.match_substring_regex(odd, pattern))].tolist():
            found.setdefault(row, what)
    mixed = np.flatnonzero(_flags(pc.match_substring_regex(odd, _MIXED)))
    for row, text in zip(rows[mixed].tolist(), odd.take(pa.array(mixed)).to_pylist(), strict=True):
        word = next((w for w in _WORD.findall(text) if _disguised(w)), "")
        if word:
            found.setdefault(row, f"letters of another script in {word!r}")
    return found


def _latin(word: str, mostly: bool) -> str:
    """A word with its look-alikes as Latin letters, if that makes all of it Latin and some of it (or the text `mostly`) was."""
    if word.isascii() or not (mostly or any(c.isascii() and c.isalpha() for c in word)):
        return word
    plain = word.translate(_LATIN_OF)
    return plain if plain.isascii() else word


def _disguised(word: str) -> bool:
    if word.isascii() or len(word) < LEAST_LETTERS or not any(c in _FOREIGN for c in word):
        return False
    return sum(c.isascii() and c.isalpha() for c in word) >= LEAST_LATIN and word.translate(_LATIN_OF).isascii()


@functools.cache
def _invisible() -> re.Pattern[str]:
    """Controls, format characters, variation selectors and fillers, but for line ends and tabs, which are space."""
    codes = [c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c) in ("Cf", "Cc")]
    codes += [*map(chr, range(0xFE00, 0xFE10)), *map(chr, range(0xE0100, 0xE01F0)), *"\u034f\u115f\u1160\u3164\uffa0\u2800"]
    return re.compile("[" + "".join(re.escape(c) for c in codes if c not in "\n\t\r") + "]")


def _flags(values: pa.Array) -> np.ndarray:
    return values.to_numpy(zero_copy_only=False).astype(bool)
