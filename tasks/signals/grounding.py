"""Is what the answer says in the text that was retrieved for it?

response "Refunds take 5 days"  contexts [{"text": "Refunds take 5 days …"}]   -> no finding
response "We ship to Norway"    contexts [{"text": "Refunds take 5 days …"}]   -> 1.0, "2 of 2 content words …"

No retrieved text means nothing to be grounded in: no finding (that is the retrieval's failure, not the answer's).
"""

from __future__ import annotations

from tasks.signals.detector import ANSWER, Detector
from tasks.words import content_words, unsupported_words

__all__ = ["DETECTORS", "content_words", "unsupported_words"]

FAMILY = "grounding"
TOLERATED = 0.35  # paraphrase: this share of unsupported words is ordinary
MARKS = r"(?:^|[\s.,;:)\]”\"'])\[(\d{1,3})\]"  # [3] after a word; a[3] in code is none
# The words of a text stand between marks in its own way; what is found anywhere in the documents or the conversation is not new.
ANYWHERE = "lower(replace(concat_ws(' ', contexts, messages, question), ',', ''))"
NEW = f"list_filter({{}}, lambda w: NOT contains({ANYWHERE}, rtrim(ltrim(w, '$€£'), '%€$£ ')))"
BEYOND_NUMBERS = (
    f"CASE WHEN len(new_numbers) > 0 THEN list_filter({NEW.format('new_numbers')}, lambda w: length(w) > 1) END"
)
BEYOND_NAMES = f"CASE WHEN len(new_names) > 0 THEN {NEW.format('new_names')} END"
BEYOND = f"list_filter(regexp_extract_all(response, '{MARKS}', 1), lambda m: m::INTEGER > greatest(documents, 1) OR documents = 0)".replace(
    "\"'", "\"''"
)
LINKS = "list_filter(regexp_extract_all(response, 'https?://[^\\s)\\]>\"'']+'), lambda u: NOT contains(concat_ws(' ', contexts, messages, question), rtrim(u, '.,;:!?')))"

DETECTORS = (
    Detector(
        "ungrounded", FAMILY, ANSWER, "The share of the answer's content words and numbers that its best single document lacks.",
        score=f"CASE WHEN missing > {TOLERATED} * content_words THEN missing / content_words END",
        evidence="missing || ' of ' || content_words || ' content words are in no retrieved text: ' || array_to_string(missing_words, ', ')",
    ),
    Detector(
        "unsupported_sentence", FAMILY, ANSWER, "The share of sentences of which all documents together hold less than 40% of the words.",
        score="CASE WHEN weak_sentences > 0 THEN 0.2 + 0.8 * weak_sentences END",
        evidence="'no document says: ' || trim(weakest_sentence)",
    ),
    Detector(
        "unsupported_number", FAMILY, ANSWER, "Numbers of two digits or more that neither the documents nor the conversation hold.",
        score="CASE len(beyond_numbers) WHEN 0 THEN 0.0 WHEN 1 THEN 0.6 ELSE 0.8 END * sign(len(beyond_numbers))",
        evidence="'numbers in no document: ' || array_to_string(beyond_numbers, ', ')",
    ),
    Detector(
        "unsupported_name", FAMILY, ANSWER, "Capitalised words within sentences that neither the documents nor the conversation hold.",
        score="CASE len(beyond_names) WHEN 0 THEN 0.0 WHEN 1 THEN 0.4 WHEN 2 THEN 0.5 ELSE 0.7 END * sign(len(beyond_names))",
        evidence="'names in no document: ' || array_to_string(beyond_names, ', ')",
    ),
    Detector(
        "dangling_citation", FAMILY, ANSWER, "A mark such as [4] beyond the documents (1.0), or a link that nobody gave it (0.7).",
        score=f"""CASE WHEN contains(response, '[') AND contexts IS NOT NULL AND len({BEYOND}) > 0 THEN 1.0
                  WHEN contains(response, '://') AND contexts <> '[]' AND len({LINKS}) > 0 THEN 0.7 END""",
        evidence=f"""CASE WHEN len({BEYOND}) > 0 THEN 'cites [' || array_to_string({BEYOND}, '], [') || '] of ' || documents || ' documents'
                     ELSE 'links to ' || array_to_string({LINKS}, ', ') END""",
    ),
)  # fmt: skip
