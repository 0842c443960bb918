"""The wall, looked at once more in the finished dataset: what a training row and a sealed row have in common.

    sealed      name, id, interaction_id, group_id, key            rows that judge; `key` is the last question, plain
    passages    key of a training question, key of a sealed one, share    the part of the sealed one's word 8-grams that are in the other

A passage counts where it is rare: word sequences that many training questions share are a template's, and give nothing away.
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
GRAMS = """
    CREATE TABLE {name} AS SELECT DISTINCT key, gram FROM (
        SELECT key, unnest(list_transform(range(1, len(words) - {n} + 2), lambda i: hash(list_slice(words, i, i + {n} - 1)))) AS gram
        FROM (SELECT key, string_split(key, ' ') AS words FROM {of}) WHERE len(words) >= {n}
    ) {where}
"""
PASSAGES = f"""
    CREATE TABLE passages AS
    WITH rare AS (
        SELECT gram FROM (SELECT t.gram FROM train_grams t SEMI JOIN sealed_grams s ON t.gram = s.gram)
        GROUP BY gram HAVING count(*) <= {COMMON}
    ), sizes AS (SELECT key, count(*) AS size FROM sealed_grams GROUP BY key)
    SELECT t.key, s.key AS sealed_key, count(*) / any_value(z.size) AS share
    FROM train_grams t JOIN sealed_grams s USING (gram) JOIN sizes z ON z.key = s.key WHERE t.gram IN (FROM rare)
    GROUP BY t.key, s.key
"""


def look(engine: Engine, train: Iterable[str], sealed: Iterable[str], words: int) -> None:
    """Make `sealed` and `passages` from tables that derive `asked`, the plain text of the last question."""
    train, sealed = list(train), list(sealed)
    none = "SELECT '' AS name, '' AS id, '' AS interaction_id, '' AS group_id, '' AS key LIMIT 0"
    engine.execute("CREATE TABLE sealed AS " + " UNION ALL ".join([SEALED.format(name=n) for n in sealed] or [none]))
    asked = " UNION ".join([f"""SELECT DISTINCT asked AS key FROM "{n}" """ for n in train] or ["SELECT '' AS key LIMIT 0"])
    engine.execute(f"CREATE TABLE asked_in_training AS {asked}")
    engine.execute(GRAMS.format(name="sealed_grams", n=words, of="(SELECT DISTINCT key FROM sealed)", where=""))
    only = "WHERE gram IN (SELECT gram FROM sealed_grams)"  # of millions, the few that matter
    engine.execute(GRAMS.format(name="train_grams", n=words, of="asked_in_training", where=only))
    engine.execute(PASSAGES)


def sides(names: Iterable[str], questions: Iterable[str]) -> tuple[list[str], list[str]]:
    """Of the tables that have questions, those that train and those that are sealed."""
    asking = [n for n in names if n in set(questions)]
    sealed = [n for n in asking if n.startswith(HOLDOUT) or n in ("evaluation", "regression")]
    return [n for n in asking if n not in sealed], sealed
