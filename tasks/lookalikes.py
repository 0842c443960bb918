"""Letters that look like others: a text disguised by them becomes the text that a person reads.

    "rеset my раsswоrd" (four of its letters are Cyrillic)  ->  "reset my password"

Only what mixes scripts is read this way: a text in Russian or Greek stays as it is. The table is Unicode's own (UTS 39).
"""

from __future__ import annotations

import functools
import re
import unicodedata

# Letters of scripts that have look-alikes of Latin ones: Greek to Hebrew (with Cyrillic and Armenian), Georgian, Cherokee, Lisu, …
_FOREIGN = "\u0370-\u05ff\u10a0-\u10ff\u13a0-\u13ff\u1d00-\u1dbf\u2c00-\u2dff\ua4d0-\ua4ff\ua640-\ua69f\uab30-\uabbf"
_LETTER = re.compile("[A-Za-z]")
_OTHER = re.compile(f"[{_FOREIGN}]")
_UNSEEN = "[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]*"  # may stand between two letters of a word
_MIXED = re.compile(f"[A-Za-z]{_UNSEEN}[{_FOREIGN}]|[{_FOREIGN}]{_UNSEEN}[A-Za-z]")


def unmasked(text: str) -> str:
    """The text with its look-alikes of Latin letters as those letters, where it mixes scripts within a word or is mostly Latin."""
    if text.isascii():
        return text
    text = unicodedata.normalize("NFKC", text)  # bold, wide and circled letters are ordinary ones before all else
    others = len(_OTHER.findall(text))
    if not others or not (_MIXED.search(text) or len(_LETTER.findall(text)) >= others):
        return text
    return text.translate(_table())


@functools.cache
def _table() -> dict[int, str]:
    from confusable_homoglyphs import confusables

    table = {}
    for character, like in confusables.confusables_data.items():
        if len(character) == 1 and re.match(f"[{_FOREIGN}]", character):
            latin = [x["c"] for x in like if len(x["c"]) == 1 and x["c"].isascii() and x["c"].isalpha()]
            if latin:  # a capital iota looks like an l, and stands for an I
                table[ord(character)] = "I" if latin[0] == "l" and character.isupper() else latin[0]
    return table
