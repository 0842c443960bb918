"""What can be seen in the answer alone, and beside its question."""

from __future__ import annotations

from tasks.signals.detector import ANSWER, Detector, found, matches

FAMILY = "answer"
CUT_OFF = ("length", "max_tokens", "error", "content_filter")
# How assistants decline, in their own words, where an answer begins. A rightful refusal fires too: precision is measured.
REFUSAL = (
    r"\b(?:i (?:can ?not|can['’]t|am unable to|['’]m unable to|am not able to|['’]m not able to|won['’]t be able to|must decline|(?:will not|won['’]t) (?:help|assist|provide|engage|answer|do))"
    r"|i['’]m unable to|i['’]m not able to|(?:i['’]?m|i am) (?:really |very |so )?sorry,? (?:but|that|i)\b|as an ai[^.]{0,80}(?:can ?not|can['’]t|unable|not able)|i (?:do not|don['’]t|cannot|can['’]t) (?:support|condone|encourage|endorse|promote)"
    r"|(?:is|are) (?:outside|beyond) (?:of )?(?:what|my|our)|against my (?:guidelines|programming|policy|principles)|not (?:appropriate|ethical|something i can)"
    r"|(?:kann|darf) ich (?:dir |ihnen |euch )?(?:leider )?nicht|tut mir leid|je ne (?:peux|suis) pas|je suis désolé|lo siento|no puedo (?:ayudar|responder|proporcionar))\b"
)
OPENS = 400  # characters in which a refusal shows
# Words without which a refusal has no reason that shows. A refused question that has none of them was likely harmless.
RISKY = (
    r"\b(?:kill|murder|bomb|explosi|weapon|gun\b|shoot|poison|drug|cocaine|heroin|meth\b|hack|malware|phish|steal|stole|rob\b|fraud|scam|launder|suicid|self.?harm|cut myself"
    r"|terroris|nazi|genocid|racis|slur|rape|porn|sexual|underage|minor\b|child abuse|stalk|blackmail|bribe|counterfeit|kidnap|torture|abuse|overdose|illegal|password of|credit card number"
    r"|diagnos|lawsuit|invest all|ssn|social security)"
)
ANSWERABLE = 0.5  # share of the question's words in one document from which the answer was likely there
LOOP_WORDS, LOOP_VARIED = (
    40,
    0.25,
)  # prose of any length we saw uses more than a quarter of its words once in 40 to 200 words
MANY_REPEATED = 3
UNUSUAL = 4.0  # robust standard deviations; of a normal distribution 6 in 100,000 are further out

SOMETHING = "trim(response) <> ''"
REFUSED = f"({SOMETHING} AND {matches(f'left(response, {OPENS})', REFUSAL)})"
NO_CALLS = "NOT contains(coalesce(outputs, ''), '\"tool_calls\"')"

DETECTORS = (
    Detector(
        "empty_answer", FAMILY, ANSWER, "No text and no tool call, and it is not reported as an error.",
        score=f"CASE WHEN regexp_matches(coalesce(response, ''), '^[\\s\\x{{a0}}\\x{{200b}}\\x{{feff}}]*$') AND {NO_CALLS} THEN 1.0 END",
        evidence="'empty answer'",
    ),
    Detector(
        "truncated", FAMILY, ANSWER,
        "The provider cut it off (0.9); or a long answer ends within a sentence of prose (0.4).",
        score=f"""CASE WHEN finish_reason IN {CUT_OFF} AND {SOMETHING} THEN 0.9
                  WHEN length(response) >= 400 AND regexp_matches(response, '[\\p{{Ll}},]\\s*$')
                   AND NOT regexp_matches(response, '(?:\\n\\s*(?:[-*•#|>]|\\d+[.)])[^\\n]*|```[^\\n]*|https?://\\S+)\\s*$') THEN 0.4 END""",
        evidence=f"CASE WHEN finish_reason IN {CUT_OFF} THEN 'cut off: ' || finish_reason ELSE 'ends with: ' || right(trim(response), 60) END",
    ),
    Detector(
        "refusal", FAMILY, ANSWER, "It opens as assistants do when they decline.",
        score="CASE WHEN refused THEN 0.4 END",
        evidence=f"'refusal: ' || {found(f'left(response, {OPENS})', REFUSAL)}",
    ),
    Detector(
        "over_refusal", FAMILY, ANSWER,
        "Declined although a document holds half of the question's words (0.8), or nothing in the question is risky (0.3).",
        score=f"""CASE WHEN refused THEN CASE WHEN relevance >= {ANSWERABLE} AND question_words >= 3 THEN 0.8
                  WHEN question <> '' AND NOT {matches("question", RISKY)} THEN 0.3 END END""",
        evidence=f"""CASE WHEN relevance >= {ANSWERABLE} AND question_words >= 3 THEN 'refused, though a document has '
                     || round(100 * relevance)::BIGINT || '% of the question''s words' ELSE 'refused a question without a risky word: ' || question END""",
    ),
    Detector(
        "repetition", FAMILY, ANSWER,
        "Three or more of its sentences stood there before; or fewer than a quarter of its words are different ones.",
        score=f"""CASE WHEN repeated_sentences >= {MANY_REPEATED} AND repeated_sentences >= 0.2 * sentences
                       THEN 0.5 + 0.5 * repeated_sentences / sentences
                  WHEN answer_words >= {LOOP_WORDS} AND varied_words < {LOOP_VARIED} * least(answer_words, 200)
                       THEN 1.0 - 2.0 * varied_words / answer_words END""",
        evidence="repeated_sentences || ' of ' || sentences || ' sentences again; ' || varied_words || ' different of ' || answer_words || ' words'",
    ),
    Detector(
        "wrong_language", FAMILY, ANSWER,
        "Question and answer are clearly in different languages, and the question names none.",
        score=f"""CASE WHEN answer_language <> question_language AND answer_language <> '' AND question_language <> '' AND NOT
                  {matches("question", "translat|übersetz|tradu[cz]|перев|翻译|翻訳|(?:in|into|auf|en|to) (?:the )?(?:english|german|french|spanish|italian|portuguese|dutch|polish|swedish|turkish|russian|chinese|japanese|korean|arabic|hindi|deutsch|englisch|anglais|français|inglés|español)")}
                  THEN 0.7 END""",
        evidence="'asked in ' || question_language || ', answered in ' || answer_language",
    ),
    Detector(
        "length_outlier", FAMILY, ANSWER, "Far longer or shorter than answers of the same model to the same prompt.",
        score=f"CASE WHEN abs(length_z) >= {UNUSUAL} AND {SOMETHING} THEN least(0.9, 0.2 + 0.05 * abs(length_z)) END",
        evidence="length(response) || ' characters, ' || round(length_z, 1) || ' robust standard deviations from the median'",
    ),
)  # fmt: skip
