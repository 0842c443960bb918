"""Did the retriever find what was asked about, and did the answer use it?"""

from __future__ import annotations

from tasks.signals.detector import ANSWER, Detector

FAMILY = "retrieval"
USUAL = 0.8  # of a prompt's interactions have documents: then one without is missing something
FAR = 0.25  # share of the question's content words in the best document, below which it is about something else
NEAR = 0.5
UNUSED = 0.15  # share of the answer's content words in its best document, below which it did not come from there
ENOUGH = 3  # content words in a question or an answer, of which shares mean something
LOW_SCORE_Z = -3.5  # of the retriever's own best score, among the scores of the same model and prompt

DETECTORS = (
    Detector(
        "empty_context", FAMILY, ANSWER, "Nothing was retrieved, where four of five interactions of the same prompt have documents.",
        score=f"CASE WHEN contexts = '[]' AND with_documents >= {USUAL} THEN 0.5 END",
        evidence="'no documents; ' || round(100 * with_documents)::BIGINT || '% of such prompts have some'",
    ),
    Detector(
        "low_relevance", FAMILY, ANSWER, "The best document holds under a quarter of the question's words; or the retriever's own score is unusually low.",
        score=f"""CASE WHEN question_words >= {ENOUGH} AND relevance < {FAR} THEN 0.6 * (1 - relevance / {FAR}) + 0.1
                  WHEN retrieval_z <= {LOW_SCORE_Z} THEN 0.5 END""",
        evidence=f"""CASE WHEN question_words >= {ENOUGH} AND relevance < {FAR} THEN 'the best of ' || documents || ' documents has '
                     || round(100 * relevance)::BIGINT || '% of the question''s words'
                     ELSE 'best retrieval score ' || round(best_score, 3) || ', ' || round(retrieval_z, 1) || ' robust standard deviations' END""",
    ),
    Detector(
        "ignores_context", FAMILY, ANSWER, "A document is about the question, and the answer has hardly a word of it.",
        score=f"""CASE WHEN relevance >= {NEAR} AND question_words >= {ENOUGH} AND content_words >= {ENOUGH}
                  AND content_words - missing < {UNUSED} * content_words THEN 0.7 END""",
        evidence="content_words - missing || ' of ' || content_words || ' content words are from a document that has ' || round(100 * relevance)::BIGINT || '% of the question''s'",
    ),
)  # fmt: skip
