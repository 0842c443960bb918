"""Did the answer keep to the form that it was asked for: JSON, a tool's arguments, a list, a length?"""

from __future__ import annotations

from tasks.signals.detector import ANSWER, Detector, matches

FAMILY = "format"
JSON_PLEASE = (
    r"\b(?:(?:return|respond|reply|output|answer|give|produce|generate|write|format)\b[^.?!\n]{0,60}\b(?:valid |a |only |as |in |raw )*json\b|as (?:valid |a )?json\b)"
    r"[^?]{0,200}$"
)
# Unfenced: models put JSON into a code block, which those who parse it take off.
BARE = r"coalesce(nullif(regexp_extract(response, '(?s)^\s*```[A-Za-z]*\s*(.*?)\s*```\s*$', 1), ''), response)"
UNREADABLE = f"(trim(response) <> '' AND NOT json_valid({BARE}))::INTEGER"
SYSTEM = """CASE WHEN contains(messages, '"role":"system"') AND contains(lower(messages), 'json') THEN json_extract_string(messages, '$[0].content') END"""
DEMANDED = 'regexp_matches(params, \'"response_format":[^}]*json|"(?:guided_json|json_schema|responseSchema|response_schema)"|application/json\')'
CALLS = "'$[*].tool_calls[*].function"
LIST_PLEASE = r"\b(?:bullet(?:ed)?[- ](?:points?|list)|numbered list|(?:as|in|make|give me|write) a (?:short |bulleted )?list\b|as bullets)"
TABLE_PLEASE = r"\b(?:as|in|into) an? (?:markdown )?table\b"
ONE_WORD = r"\b(?:in|with|using|reply with|answer with) (?:only )?(?:one|a single|1) word\b"
ONE_SENTENCE = r"\b(?:in|with|as) (?:only )?(?:one|a single|1) (?:short )?sentence\b"
YES_OR_NO = r"\b(?:(?:answer|reply|respond)(?: only| just| simply)?(?: with)?:? [\"'“]?yes[\"'”]? or [\"'“]?no\b|yes or no only)"
AT_MOST = r"\b(?:at most|no more than|not more than|under|less than|fewer than|max(?:imum)?(?: of)?|up to|within|in) (\d{1,4}) words\b"
LENIENT = 1.25  # people count roughly
WORD_LIMIT = f"try_cast(nullif(regexp_extract(question, '(?i){AT_MOST}', 1), '') AS BIGINT)"
BREACHES = (
    (f"{matches('question', LIST_PLEASE)} AND NOT regexp_matches(response, '(?m)^\\s*(?:[-*•–]|\\d{{1,2}}[.)])\\s')", "no list in the answer"),
    (f"{matches('question', TABLE_PLEASE)} AND NOT regexp_matches(response, '\\||\\t|<table')", "no table in the answer"),
    (f"{matches('question', ONE_WORD)} AND answer_words > 3", "more than one word"),
    (f"{matches('question', ONE_SENTENCE)} AND sentences > 2", "more than one sentence"),
    (f"{matches('question', YES_OR_NO)} AND NOT {matches('response', '^[^a-z]*(?:yes|no)')}", "neither yes nor no"),
    (f"answer_words > {LENIENT} * {WORD_LIMIT}", "longer than asked"),
)  # fmt: skip
# One cheap look first: few questions say anything of form.
OF_FORM = matches("question", r"\b(?:list|bullets?|points?|table|words?|sentence|yes)\b")

DETECTORS = (
    Detector(
        "invalid_json", FAMILY, ANSWER, "JSON was demanded by a parameter (1.0) or asked for in words (0.6), and it cannot be read.",
        score=f"""CASE WHEN {DEMANDED} THEN {UNREADABLE} * 1.0
                  WHEN contains(lower(question), 'json') AND {matches("question", JSON_PLEASE)} THEN {UNREADABLE} * 0.6
                  WHEN {matches(f"({SYSTEM})", JSON_PLEASE)} THEN {UNREADABLE} * 0.6 END""",
        evidence="'not JSON: ' || left(response, 80)",
    ),
    Detector(
        "invalid_tool_call", FAMILY, ANSWER, "A tool call's arguments are no JSON object, or no such tool was offered.",
        score=f"""CASE WHEN contains(outputs, '"tool_calls"') THEN CASE
                    WHEN len(list_filter(TRY(json_extract_string(outputs, {CALLS}.arguments')),
                             lambda a: NOT json_valid(a) OR json_type(CASE WHEN json_valid(a) THEN a END) <> 'OBJECT')) > 0 THEN 1.0
                    WHEN tools <> '[]' AND len(list_filter(TRY(json_extract_string(outputs, {CALLS}.name')),
                             lambda t: NOT contains(tools, '"' || t || '"'))) > 0 THEN 1.0 END END""",
        evidence=f"""'tool call: ' || array_to_string(TRY(json_extract_string(outputs, {CALLS}.name')), ', ') || ' '
                     || array_to_string(TRY(json_extract_string(outputs, {CALLS}.arguments')), ' ')""",
    ),
    Detector(
        "format_breach", FAMILY, ANSWER,
        "The question asks for a list, a table, one word, one sentence, yes or no, or a number of words, and gets something else.",
        score=f"CASE WHEN trim(response) <> '' AND {OF_FORM} THEN CASE "
        + " ".join(f"WHEN {breach} THEN 0.7" for breach, _ in BREACHES) + " END END",
        evidence="CASE " + " ".join(f"WHEN {breach} THEN '{said}'" for breach, said in BREACHES) + " END",
    ),
)  # fmt: skip
