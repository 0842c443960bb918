"""Which language a text is in, from words that every sentence needs, or from its script. No model and no download.

The lists hold frequent function words that few other languages share. A text of which too little is known is in no language
('' in `bags.py`), and what is unknown is no evidence.
"""

from __future__ import annotations

FUNCTION_WORDS: dict[str, frozenset[str]] = {
    language: frozenset(words.split())
    for language, words in {
        "en": "the of and to is that it you for with this are not be your from have can will what how my i when which "
        "do does there would should their they been were was by or if as at on an",
        "de": "der die das und ist nicht ich zu den mit sie von für auf ein eine es im dem auch wie wird sind kann "
        "werden bei oder wenn aus nach mein meine ihr ihre wir haben habe einen einer zum zur",
        "fr": "le les des est et une vous pour que qui dans pas sur je ne avec votre ce cette sont au aux nous mon ma "
        "mes vos être avez comment quand où mais il elle du ou",
        "es": "el los las que es por una para con su del al lo como más pero mi usted puede cómo cuándo están está hay "
        "sus este esta son ser tiene qué yo muy sin y",
        "it": "il che di è per una non con sono della nel alla gli del le come può questo questa mio mia quando dove anche "
        "si ho essere delle dei lei ma più",
        "pt": "o os que não uma para com é do da dos das em por seu sua você como mais mas ao na no são está ser pode "
        "meu minha quando isso esta este um eu",
        "nl": "het een van en is niet op dat voor zijn met aan te ik je wordt kan ook bij naar hoe wat mijn deze dit als "
        "maar worden heeft hebben moet uw om de",
        "pl": "nie się jest na do że jak to czy są dla od po przez może mój moje kiedy tak ale aby które oraz lub być ma w z i",
        "sv": "och att det är som på för en med av inte den till jag du kan om har ett när var mitt min ska eller från hur vi",
        "tr": "ve bir bu için ile olarak de da ne çok daha nasıl var ama mı mi olan gibi sonra kadar ben benim değil",
    }.items()
}
# Chinese and Japanese share theirs: an answer in the other of the two is missed.
SCRIPTS: dict[str, str] = {
    "cyrillic": r"\p{Cyrillic}",
    "arabic": r"\p{Arabic}",
    "hebrew": r"\p{Hebrew}",
    "greek": r"\p{Greek}",
    "devanagari": r"\p{Devanagari}",
    "thai": r"\p{Thai}",
    "hangul": r"\p{Hangul}",
    "cjk": r"[\p{Han}\p{Hiragana}\p{Katakana}]",
}
LANGUAGES = (*FUNCTION_WORDS, *SCRIPTS)
