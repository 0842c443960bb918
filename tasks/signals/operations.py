"""What went wrong around the answer: too slow, too dear, failed, a tool that failed, sent again by a machine."""

from __future__ import annotations

from tasks.signals.detector import ANSWER, USER, Detector

FAMILY = "operations"
UNUSUAL = 4.0  # robust standard deviations of the logarithm, within model and prompt
RETRY_S = 3.0  # nobody reads and asks again within it: a program did
TOOL_FAILED = r"^[\s\[(*#>!-]*(?:error|exception|traceback|failed|failure|timed? ?out|not found|unauthori[sz]ed|forbidden|[45]\d\d\b)|\\?\"(?:is_?error|error)\\?\":\s*(?:true|\\?\"[^\"\\]|\{)"
LAST = "CASE WHEN contains(messages, '\"role\":\"tool\"') THEN json_extract_string(messages, ['$[#-1].role', '$[#-1].content']) END"


def _beyond(*columns: str) -> tuple[str, str]:
    """(score, evidence) of whichever column lies furthest above what is usual."""
    z = f"greatest({', '.join(c + '_z' for c in columns)})"
    shown = " ".join(f"WHEN {c}_z = {z} THEN '{c} ' || round({c}, 4) || ', '" for c in columns)
    score = f"CASE WHEN {z} >= {UNUSUAL} THEN least(0.9, 0.2 + 0.05 * {z}) END"
    return score, f"CASE {shown} END || round({z}, 1) || ' robust standard deviations above the median'"


SLOW, DEAR = _beyond("latency_ms", "ttft_ms"), _beyond("cost_usd", "input_tokens", "output_tokens")

DETECTORS = (
    Detector(
        "slow", FAMILY, ANSWER, "Latency or time to the first token far above what is usual for the model and prompt.",
        score=SLOW[0], evidence=SLOW[1],
    ),
    Detector(
        "costly", FAMILY, ANSWER, "Cost or tokens far above what is usual for the model and prompt.", score=DEAR[0], evidence=DEAR[1],
    ),
    Detector(
        "failed", FAMILY, ANSWER, "The call ended in an error.",
        score="CASE WHEN status = 'error' OR error <> '' THEN 1.0 END",
        evidence="'failed: ' || coalesce(nullif(error, ''), status)",
    ),
    Detector(
        "tool_failed", FAMILY, ANSWER, "The tool's result that the model answered upon reports an error.",
        score=f"CASE WHEN ({LAST})[1] = 'tool' AND regexp_matches(({LAST})[2], '(?i){TOOL_FAILED}') THEN 0.7 END",
        evidence=f"'the tool said: ' || ({LAST})[2]",
    ),
    Detector(
        "retried", FAMILY, USER, "The same conversation was sent again at once, or after it had failed.",
        score=f"""CASE WHEN same_prompt_again AND (next_after_s < {RETRY_S} OR status = 'error' OR trim(response) = '') THEN 0.6 END""",
        evidence="'sent again after ' || round(next_after_s, 1) || ' s'",
    ),
)  # fmt: skip
