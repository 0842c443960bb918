"""What the models themselves think: the policy's confidence, the reward model's opinion, and whether answers agree."""

from __future__ import annotations

from tasks.signals.detector import ANSWER, Detector

FAMILY = "model"
DOUBT = 0.3
DISAGREE = 0.6  # one minus the mean overlap of words: two honest wordings of one answer share half of theirs

# Few rows have candidates or peers, so these are compared as lists in SQL.
_WORDS = "list_distinct(string_split_regex(lower(trim({})), '[^\\p{{L}}\\p{{N}}]+'))"
_UNLIKE = "1 - len(list_intersect({a}, {b})) / nullif(len(list_distinct(list_concat({a}, {b}))), 0)"
OTHERS = "TRY(json_extract_string(outputs, '$[*].content'))[2:]"


def _unlike(others: str) -> str:
    """SQL: one minus the mean Jaccard overlap of the response's words with those of each of the others."""
    each = _UNLIKE.format(a=_WORDS.format("response"), b=_WORDS.format("o"))
    return f"list_avg(list_transform(list_filter({others}, lambda o: trim(o) <> ''), lambda o: {each}))"


CANDIDATES = f'CASE WHEN outputs LIKE \'%"role":"assistant"%"role":"assistant"%\' AND trim(response) <> \'\' THEN {_unlike(OTHERS)} END'
PEERS = f"CASE WHEN len(peers) > 0 AND trim(response) <> '' THEN {_unlike('peers')} END"

DETECTORS = (
    Detector(
        "low_confidence", FAMILY, ANSWER, "One minus the policy's calibrated probability of its own answer, above 0.3.",
        score=f"CASE WHEN 1 - confidence > {DOUBT} THEN 1 - confidence END",
        evidence="printf('confidence %.2f', confidence)",
    ),
    Detector(
        "low_reward", FAMILY, ANSWER, "The reward model's chance that a typical rejected answer would have been as good, above 0.3.",
        score=f"CASE WHEN 1 - reward > {DOUBT} THEN 1 - reward END",
        evidence="printf('reward %.2f', reward)",
    ),
    Detector(
        "candidates_disagree", FAMILY, ANSWER, "The model's other candidates for the same answer share few of its words.",
        score=f"CASE WHEN ({CANDIDATES}) >= {DISAGREE} THEN ({CANDIDATES}) END",
        evidence=f"'another candidate: ' || ({OTHERS})[1]",
    ),
    Detector(
        "models_disagree", FAMILY, ANSWER, "Other models' answers to the same messages share few of its words.",
        score=f"CASE WHEN ({PEERS}) >= {DISAGREE} THEN ({PEERS}) END",
        evidence="'another model: ' || peers[1]",
    ),
)  # fmt: skip
