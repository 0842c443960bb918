"""What a detector is, and what it may look at.

    Detector("empty_answer", "answer", ANSWER, "Nothing was answered.", score="CASE WHEN response = '' THEN 1.0 END",
             evidence="'empty answer'")

`score` and `evidence` are expressions of DuckDB SQL over the columns below. A score that is NULL, NaN or not above 0 is no
finding; one above 1 counts as 1. Evidence is made for findings only. A column that the caller does not have is NULL: unknown,
and NULL flows through SQL, so that what is unknown never counts as good or as bad.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

ANSWER, USER = "answer", "user"
TEXT, NUMBER, FLAG, LIST = pa.string(), pa.float64(), pa.bool_(), pa.list_(pa.string())

# One row an interaction; JSON columns hold canonical text as in tasks/records.py.
ANSWER_COLUMNS: dict[str, pa.DataType] = {
    "interaction_id": TEXT,
    "model": TEXT,  # that answered, and the prompt's name: outliers are measured among answers of the same two
    "prompt_name": TEXT,
    "messages": TEXT,
    "question": TEXT,
    "response": TEXT,
    "contexts": TEXT,
    "outputs": TEXT,
    "tools": TEXT,
    "params": TEXT,
    "finish_reason": TEXT,
    "status": TEXT,
    "error": TEXT,
    "confidence": NUMBER,
    "reward": NUMBER,  # the reward model's opinion, 0 to 1
    "latency_ms": NUMBER,
    "ttft_ms": NUMBER,
    "cost_usd": NUMBER,
    "input_tokens": NUMBER,
    "output_tokens": NUMBER,
    "peers": LIST,  # what other models answered to the same messages
}
# What users did afterwards; a replay on the holdout has none of it.
USER_COLUMNS: dict[str, pa.DataType] = {
    "thumb": FLAG,
    "low_rating": TEXT,  # the worst number that configuration calls bad, as "csat 2"
    "comment": TEXT,
    "edit": TEXT,
    "escalation": FLAG,
    "copied": FLAG,
    "next_question": TEXT,
    "next_contexts": TEXT,
    "next_after_s": NUMBER,
    "same_prompt_again": FLAG,  # the session's next interaction has the very messages of this one
    "silent_s": NUMBER,  # for how long the session has been silent since this, its last interaction
}
COLUMNS = ANSWER_COLUMNS | USER_COLUMNS


@dataclass(frozen=True, slots=True)
class Detector:
    """One kind of evidence. `side` is ANSWER (the answer and its making) or USER (what people did then).

    `fires` says when, for people. A `good` one is evidence that an interaction is right: never suspicion, but a feature.
    """

    name: str
    family: str
    side: str
    fires: str
    score: str
    evidence: str
    good: bool = False


def quoted(text: str) -> str:
    """A text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def matches(column: str, pattern: str) -> str:
    """SQL: whether RE2 finds the pattern in the column, upper and lower case alike."""
    return f"regexp_matches({column}, {quoted('(?i)' + pattern)})"


def found(column: str, pattern: str) -> str:
    """SQL: what RE2 finds there first."""
    return f"regexp_extract({column}, {quoted('(?i)' + pattern)})"
