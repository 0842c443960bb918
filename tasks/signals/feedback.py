"""What users said outright. Which way a metric points is configuration (tasks/metrics.py), decided before a table comes here."""

from __future__ import annotations

from tasks.signals.detector import USER, Detector, matches

FAMILY = "feedback"
# Words that told bad from good answers in FeedbackQA's reasons (docs/detectors.md has the figures), and their like.
UNHAPPY = (
    r"\b(?:wrong|incorrect|irrelevant|unrelated|useless|unhelpful|outdated|terrible|awful|nonsense|bad|made up|hallucinat|misses|missing|keeps|fails?"
    r"|does ?n['’o]t|does not|did ?n['’o]t|did not|is ?n['’o]t|is not|was not|not (?:what|my|helpful|true|right|correct|working|answer|provide|address|mention|relate)"
    r"|nothing|no (?:information|mention|answer)|any information|at all|falsch|hilft nicht|faux|mauvais|incorrecto|inútil)"
)
HAPPY = (
    r"\b(?:thanks|thank you|thx|great|good|perfect|helpful|awesome|excellent|love it|well done|clear(?:ly)?|direct(?:ly)?|detailed|answers (?:the|my|this)|addresses"
    r"|danke|super|merci|parfait|gracias)\b"
)

DETECTORS = (
    Detector(
        "negative_feedback", FAMILY, USER, "A thumb, or another yes-or-no metric, says that it was bad.",
        score="CASE WHEN NOT thumb THEN 1.0 END",
        evidence="'thumb down' || CASE WHEN comment <> '' THEN ': ' || comment ELSE '' END",
    ),
    Detector(
        "low_rating", FAMILY, USER, "A number is on the bad side of its threshold in params.yaml.",
        score="CASE WHEN low_rating <> '' THEN 0.9 END",
        evidence="'rated ' || low_rating",
    ),
    # People who write are more often unhappy than not, so a comment without a thumb is evidence even if its words say nothing.
    Detector(
        "negative_comment", FAMILY, USER,
        "A comment without a thumb: 0.8 if its words complain, 0.5 if they do not, none if they only thank.",
        score=f"""CASE WHEN comment <> '' AND thumb IS NULL THEN
                    CASE WHEN {matches("comment", UNHAPPY)} THEN 0.8 WHEN {matches("comment", HAPPY)} THEN 0.0 ELSE 0.5 END END""",
        evidence="'comment: ' || comment",
    ),
    Detector(
        "edited", FAMILY, USER, "Somebody replaced the answer.",
        score="CASE WHEN edit IS NOT NULL AND trim(edit) IS DISTINCT FROM trim(response) THEN 1.0 END",
        evidence="'replaced by: ' || edit",
    ),
)  # fmt: skip
