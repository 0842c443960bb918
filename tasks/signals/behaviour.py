"""What users did instead of saying it: ask again, correct, give up, ask for a person, try again, or take the answer along."""

from __future__ import annotations

from tasks.signals.detector import USER, Detector, matches
from tasks.signals.measures import SOON_S

FAMILY = "behaviour"
LIKE_BEFORE = 0.35  # cosine of trigrams below which a next question is a new question
SILENT_S = 60 * 60  # from which a session counts as over
LONG_WORDS = 150  # an answer that takes about a minute to read
CORRECTION = (
    r"^\W*(?:no+\b[\s,.!:;-]+(?:i|that|this|it|not|my|the|we|you)\b|nope\b|wrong\b|that['’]?s (?:not|wrong|incorrect|false)|that is (?:not|wrong|incorrect|false)"
    r"|not what i\b|i (?:meant|mean\b|did ?n['’]?t (?:ask|mean)|asked (?:about|for|if|you)|said)|you (?:misunderst|did ?n['’]?t (?:answer|understand|read)|are wrong|['’]re wrong)"
    r"|actually,? (?:i|no|that)|nein\b|das (?:stimmt nicht|ist falsch|war nicht)|ich meinte|non,|ce n['’]est pas|je voulais dire|no, |eso no|quise decir|me refer[ií]a)"
    r"|\b(?:that['’]?s|that is|this is|you['’]?re|your answer is) (?:wrong|incorrect|not (?:right|correct|true|what i (?:asked|meant|wanted|said)))\b"
    r"|\bdoes ?n['’]?t answer my question\b|\bi meant\b"
)
A_PERSON = (
    r"\b(?:(?:talk|speak|chat|connect(?: me)?|transfer(?: me)?|put me through|get me|need|want|escalate)(?: me)?(?: to| with| through)? (?:to )?(?:a |an |the |your |some)?"
    r"(?:real |live |actual |human )*(?:human|person|agent|operator|representative|someone real|manager|supervisor|customer (?:service|support))"
    r"|(?:real|live|actual) (?:human|person|agent)|human (?:please|agent|support)|(?:echten|richtigen) (?:mensch|mitarbeiter)|parler à (?:un|une) (?:humain|personne|conseiller)|hablar con (?:un|una) (?:humano|persona|agente))"
)

DETECTORS = (
    Detector(
        "rephrased", FAMILY, USER,
        "The session's next question came within 15 minutes and is about the same: similar wording (cosine of trigrams), or the "
        "retriever found the same documents for it.",
        score=f"""CASE WHEN next_question <> '' AND next_after_s BETWEEN 0 AND {SOON_S} AND NOT coalesce(same_prompt_again, false) THEN
                    greatest(asked_again, same_documents) END * CASE WHEN greatest(asked_again, same_documents) >= {LIKE_BEFORE} THEN 1 END""",
        evidence="'asked again: ' || next_question",
    ),
    Detector(
        "corrected_by_user", FAMILY, USER, "The next message objects or says what was meant.",
        score=f"CASE WHEN {matches('next_question', CORRECTION)} THEN 0.8 END",
        evidence="'the user said: ' || next_question",
    ),
    Detector(
        "abandoned", FAMILY, USER, "A long answer was the last of its session, and an hour passed without a word or a thumb.",
        score=f"""CASE WHEN silent_s >= {SILENT_S} AND answer_words >= {LONG_WORDS} AND thumb IS NULL AND copied IS NOT TRUE
                    THEN 0.2 END""",
        evidence="'no reaction to ' || answer_words || ' words'",
    ),
    Detector(
        "escalated", FAMILY, USER, "The user asked for a person, by a button or in words.",
        score=f"CASE WHEN escalation THEN 1.0 WHEN {matches('next_question', A_PERSON)} THEN 0.9 END",
        evidence="CASE WHEN escalation THEN 'asked for a person' ELSE 'asked for a person: ' || next_question END",
    ),
    Detector(
        "regenerated", FAMILY, USER, "The very same conversation was sent again soon, although it had been answered.",
        score=f"""CASE WHEN same_prompt_again AND next_after_s BETWEEN 0 AND {SOON_S} AND trim(response) <> ''
                    AND coalesce(status, 'ok') <> 'error' THEN 0.7 END""",
        evidence="'the same prompt again after ' || printf('%.0f s', next_after_s)",
    ),
    Detector(
        "copied", FAMILY, USER, "The user copied the answer: evidence that it was of use.",
        score="CASE WHEN copied THEN 1.0 END", evidence="'copied'", good=True,
    ),
)  # fmt: skip
