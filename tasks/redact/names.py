"""The deeper tier: persons' names, found by a spaCy model that the operator chose and installed.

Off by default: a model takes many times as long as the patterns, and how many names it misses depends on it and on the
language. docs/privacy.md says what to do before trusting one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.errors import Refused

if TYPE_CHECKING:
    from spacy.language import Language

PERSON = frozenset(("PERSON", "PER"))
# A name has no more than this; longer texts are cut there, so that one log line cannot take all memory.
MAX_CHARACTERS = 100_000


class Names:
    """Where a spaCy pipeline sees persons."""

    def __init__(self, pipeline: Language):
        self.pipeline = pipeline

    def persons(self, text: str) -> list[tuple[int, int]]:
        """Start and end of each name, in order, not overlapping. Surrogates that stand in the text already are no names."""
        if not any(c.isalpha() for c in text):
            return []
        found: list[tuple[int, int]] = []
        for start in range(0, len(text), MAX_CHARACTERS):
            document = self.pipeline(text[start : start + MAX_CHARACTERS])
            found += [
                (start + e.start_char, start + e.end_char)
                for e in document.ents
                if e.label_ in PERSON and "[" not in e.text and "]" not in e.text and "_" not in e.text
            ]
        return found


def load(model: str) -> Names:
    """A pipeline by the name of an installed package or the path of a folder. Raises Refused where there is none."""
    try:
        import spacy
    except ImportError as e:
        raise Refused(
            f"capture.names_model is {model!r}, but spaCy is not installed", 'pip install "flywheel[names]"'
        ) from e
    try:
        pipeline = spacy.load(model, exclude=["parser", "lemmatizer", "textcat"])
    except (OSError, ValueError) as e:
        raise Refused(
            f"capture.names_model: spaCy cannot load {model!r}: {e}", f"python -m spacy download {model}"
        ) from e
    # A model that knows no persons would redact nothing and say nothing.
    labels = {label for labels in pipeline.pipe_labels.values() for label in labels}
    if not labels & PERSON:
        raise Refused(
            f"capture.names_model: {model!r} labels no persons ({', '.join(sorted(PERSON))})",
            "name a model with named entities, e.g. en_core_web_sm",
        )
    return Names(pipeline)
