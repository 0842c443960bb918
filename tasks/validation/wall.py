"""The wall, looked at once more in the finished dataset: what a training row and a sealed row have in common.

    sealed      name, id, interaction_id, group_id, key            rows that judge; `key` is the last question, plain
    passages    key, sealed_key, share                             the part of a sealed question's runs of words that is in another

A passage counts where it is rare: word sequences that many training questions share are a template's, and give nothing away.
And a part of a question counts only if the question is long (twice a passage); a shorter one must be there whole. Two thirds of a
question of ten words may be everyday speech, and the firewall, which weighs how surprising words are, has let them pass.
"""

from __future__ import annotations

from collections.abc import Iterable

from tasks.calculator import Engine
from tasks.examples import HOLDOUT

COMMON = 50  # training questions that share a passage: from here on it is a template
# The regression suite holds prompts of the training side too, on purpose: those are not sealed.
SEALED = """
    SELECT '{name}' AS name, r.example_id AS id, r.interaction_id, r.group_id, r.asked AS key
    FROM "{name}" r LEFT JOIN exchanges e USING (interaction_id) WHERE coalesce(e.side, 'holdout') <> 'train'
"""
QUESTIONS = "CREATE TABLE {name} AS SELECT row_number() OVER (ORDER BY key) AS number, key FROM (SELECT DISTINCT key FROM ({of}))"
# Lists beside themselves, shifted: linear in the length of a question, which a stranger chooses. A question has a number here:
# its text beside each of its grams would be quadratic again.
GRAMS = """
    CREATE TABLE {name} AS SELECT DISTINCT number, gram FROM (
        SELECT number, hash(unnest(list_zip({shifted}, true))) AS gram
        FROM (SELECT number, string_split(key, ' ') AS words FROM {of}) WHERE len(words) >= {n}
    ) {where}
"""
# A question of 2 n words has n + 1 runs of n.
PASSAGES = """
    CREATE TABLE passages AS
    WITH rare AS (
        SELECT gram FROM train_grams GROUP BY gram HAVING count(*) <= {common}
    ), sizes AS (SELECT number, count(*) AS size FROM sealed_grams GROUP BY number
    ), shared AS (
        SELECT t.number AS training, s.number AS sealed, count(*) AS grams
        FROM train_grams t JOIN sealed_grams s USING (gram) WHERE t.gram IN (FROM rare) GROUP BY ALL
    )
    SELECT t.key, s.key AS sealed_key, grams / size AS share
    FROM shared JOIN sizes z ON z.number = sealed JOIN asked_in_training t ON t.number = training
    JOIN sealed_questions s ON s.number = sealed WHERE size > {n} OR grams = size
"""


def look(engine: Engine, train: Iterable[str], sealed: Iterable[str], words: int) -> None:
    """Make `sealed` and `passages` from tables that derive `asked`, the plain text of the last question."""
    train, sealed = list(train), list(sealed)
    none = "SELECT '' AS name, '' AS id, '' AS interaction_id, '' AS group_id, '' AS key LIMIT 0"
    engine.execute("CREATE TABLE sealed AS " + " UNION ALL ".join([SEALED.format(name=n) for n in sealed] or [none]))
    asked = " UNION ALL ".join([f"""SELECT asked AS key FROM "{n}" """ for n in train] or ["SELECT '' AS key LIMIT 0"])
    engine.execute(QUESTIONS.format(name="asked_in_training", of=asked))
    engine.execute(QUESTIONS.format(name="sealed_questions", of="SELECT key FROM sealed"))
    shifted = ", ".join(f"words[{k}:]" for k in range(1, words + 1))
    engine.execute(GRAMS.format(name="sealed_grams", shifted=shifted, n=words, of="sealed_questions", where=""))
    only = "WHERE gram IN (SELECT gram FROM sealed_grams)"  # of millions, the few that matter
    engine.execute(GRAMS.format(name="train_grams", shifted=shifted, n=words, of="asked_in_training", where=only))
    engine.execute(PASSAGES.format(common=COMMON, n=words))


def sides(names: Iterable[str], questions: Iterable[str]) -> tuple[list[str], list[str]]:
    """Of the tables that have questions, those that train and those that are sealed."""
    asking = [n for n in names if n in set(questions)]
    sealed = [n for n in asking if n.startswith(HOLDOUT) or n in ("evaluation", "regression")]
    return [n for n in asking if n not in sealed], sealed
