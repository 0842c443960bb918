"""Agreed labels of the training side -> supervised, preference, unpaired, reward and prompt rows, a shard at a time, in SQL.

    label   {"interaction_id": "ix_1", "verdict": "wrong", "target": "refund-time", …}
    ->  sft        {"messages": [… the user, the assistant with the target's text], "action": "refund-time", …}
    ->  preference {"prompt": […], "chosen": target's text, "rejected": what was served, …}

A served answer becomes a target only where people confirmed it; a thumb alone never does. All nested columns are put together as
text: equal labels give equal bytes, and a million labels are a matter of seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import fields
from hashlib import md5

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from tasks.calculator import Engine
from tasks.examples import APPROVED, MODEL, TABLES, Preference
from tasks.frozen import Curated
from tasks.records import arrow_schema, canonical

MACROS = f"""
    CREATE MACRO example_id(name, of) AS 'ex_' || left(sha256('["' || name || '","' || of || '"]'), 24);
    CREATE MACRO said(text) AS '{{"content":' || to_json(text) || ',"role":"assistant"}}';
    CREATE MACRO alone(message) AS '[' || message || ']';
    CREATE MACRO after(messages, message) AS
        CASE WHEN messages = '[]' THEN '[' || message || ']' ELSE left(messages, length(messages) - 1) || ',' || message || ']' END;
    CREATE MACRO stripped(text) AS trim(text, ' ' || chr(9) || chr(10) || chr(13));
    CREATE MACRO author_of(target) AS CASE WHEN target <> '' THEN '{APPROVED}' ELSE '{MODEL}' END;
"""
COMMON = "interaction_id, group_id, arrived, copies, topic, language, guideline"
# The right answer: the approved text that people named or confirmed, or what was served where they said that it was right.
RIGHT = """
    SELECT *, CASE WHEN target_text <> '' THEN said(target_text)
                   WHEN verdict = 'right' AND outputs <> '[]' THEN (outputs::JSON->0)::VARCHAR
                   WHEN verdict = 'right' AND stripped(response) <> '' THEN said(response) END AS message
    FROM labels
"""
SFT = f"""
    SELECT example_id('sft', interaction_id) AS example_id, '' AS beside, {COMMON},
           CASE WHEN verdict = 'right' THEN 'confirmed' ELSE 'correction' END AS origin, author_of(target) AS author,
           round(p_target, 2) AS weight, after(messages, message) AS messages, tools, target AS action, session_id
    FROM ({RIGHT}) WHERE message IS NOT NULL ORDER BY arrived, example_id
"""
# A correction against what was served; and a confirmed answer against the approved answer that was retrieved beside it: to confirm
# one is to prefer it to the others.
PAIRS = f"""
    WITH retrieved AS (
        SELECT interaction_id, target, unnest(texts) AS text, generate_subscripts(texts, 1) AS place
        FROM (SELECT interaction_id, target, json_extract_string(contexts, '$[*].text') AS texts
              FROM labels WHERE verdict = 'right' AND target <> '' AND contexts <> '[]')
    ), other AS (
        SELECT r.interaction_id, arg_min(a.id, r.place) AS id, arg_min(a.text, r.place) AS text
        FROM retrieved r JOIN approved a ON stripped(r.text) = stripped(a.text)
        WHERE a.id <> r.target GROUP BY r.interaction_id
    )
    SELECT example_id('preference', interaction_id) AS example_id, '' AS beside, {COMMON}, origin, '{APPROVED}' AS author,
           round(p_target, 2) AS weight, messages AS prompt, contexts, alone(said(target_text)) AS chosen,
           alone(said(worse)) AS rejected, tools, target AS chosen_action, worse_action AS rejected_action
    FROM (
        SELECT *, 'correction' AS origin, response AS worse, served AS worse_action FROM labels
        WHERE verdict = 'wrong' AND target_text <> '' AND stripped(response) <> ''
        UNION ALL
        SELECT l.*, 'confirmed', o.text, o.id FROM labels l JOIN other o USING (interaction_id)
        WHERE l.verdict = 'right' AND l.target <> ''
    ) ORDER BY arrived, example_id
"""
# Two answers of opposite verdict to the very same prompt: `met` says who meets whom.
OPPOSITES = f"""
    SELECT example_id('preference', l.interaction_id || '+' || m.wrong_id) AS example_id, m.wrong_id AS beside, {COMMON},
           'opposite_verdicts' AS origin, '{MODEL}' AS author, round(least(p_target, m.p_wrong), 2) AS weight, messages AS prompt,
           contexts, alone(said(response)) AS chosen, alone(said(m.wrong_response)) AS rejected, tools, served AS chosen_action,
           m.wrong_served AS rejected_action
    FROM labels l JOIN met m ON m.right_id = l.interaction_id WHERE response <> m.wrong_response ORDER BY arrived, example_id
"""
UNPAIRED = f"""
    SELECT example_id('unpaired', interaction_id) AS example_id, '' AS beside, {COMMON}, 'verdict' AS origin,
           '{MODEL}' AS author, round(greatest(p_wrong, 1 - p_wrong), 2) AS weight, messages AS prompt,
           alone(said(response)) AS completion, verdict = 'right' AS label
    FROM labels WHERE stripped(response) <> '' ORDER BY arrived, example_id
"""
REWARD = """
    SELECT example_id('reward', example_id) AS example_id, * EXCLUDE (example_id, chosen, rejected),
           after(prompt, trim(chosen, '[]')) AS chosen, after(prompt, trim(rejected, '[]')) AS rejected, weight AS margin
    FROM preference ORDER BY arrived, example_id
"""
PROMPTS = f"""
    SELECT example_id('prompts', interaction_id) AS example_id, '' AS beside, {COMMON}, 'label' AS origin,
           author_of(target) AS author, round(p_target, 2) AS weight, messages AS prompt, contexts,
           CASE WHEN target_text <> '' THEN target_text ELSE response END AS ground_truth,
           '[' || concat_ws(',',
               CASE WHEN target <> '' THEN '{{"check":"action","value":' || to_json(target) || '}}' END,
               CASE WHEN contexts <> '[]' AND kind IN ('text', 'answer') THEN '{{"check":"grounded","value":true}}' END,
               CASE WHEN language <> '' THEN '{{"check":"language","value":' || to_json(language) || '}}' END
           ) || ']' AS checks
    FROM ({RIGHT}) WHERE message IS NOT NULL ORDER BY arrived, example_id
"""
MEETING = ["interaction_id", "messages", "contexts", "response", "served", "verdict", "target", "p_wrong"]
RATED = """
    SELECT interaction_id, response, served, verdict, p_wrong, md5(messages || contexts) AS prompt FROM rows WHERE target = ''
"""
MEETINGS = """
    SELECT r.interaction_id AS right_id, w.interaction_id AS wrong_id, w.response AS wrong_response, w.served AS wrong_served,
           w.p_wrong
    FROM rated r JOIN rated w USING (prompt) WHERE r.verdict = 'right' AND w.verdict = 'wrong' ORDER BY right_id, wrong_id
"""
# A person or a refusal is due: what should have been done, and what was said instead.
SAFETY = f"""
    SELECT example_id('safety', interaction_id) AS example_id, '' AS beside, {COMMON}, 'label' AS origin, '' AS author,
           round(p_target, 2) AS weight, messages AS prompt, response, '[]' AS policies, kind AS action, '' AS route
    FROM labels WHERE kind IN ('escalate', 'refuse') AND target <> '' ORDER BY arrived, example_id
"""


def prepare(engine: Engine, approved: pa.Table) -> None:
    """Give an engine the macros and the catalogue that the queries need."""
    engine.execute(MACROS)
    engine.register("approved", approved)


def examples(engine: Engine, labels: pa.Table, met: pa.Table, confirmed: Collection[bytes]) -> dict[str, pa.Table]:
    """One shard of labels -> the rows of each table, in order of arrival.

    `labels` are Curated columns and `copies`; `met` (right_id, wrong_id, wrong_response, wrong_served, p_wrong) says which wrong
    answers were given to the same prompts; `confirmed` has the turns that people called right (`turn_key`).
    """
    engine.register("labels", labels)
    engine.register("met", met)
    made = {"sft": _weighed(engine.execute(SFT).to_arrow_table(), confirmed)}
    pairs = [engine.execute(sql).to_arrow_table() for sql in (PAIRS, OPPOSITES)]
    schema = arrow_schema(Preference)
    pairs = [p.select(schema.names).cast(schema) for p in pairs]
    made["preference"] = _canonical(pa.concat_tables(pairs), Preference)
    engine.register("preference", made["preference"])
    for name, sql in (("unpaired", UNPAIRED), ("reward", REWARD), ("prompts", PROMPTS), ("safety", SAFETY)):
        made[name] = engine.execute(sql).to_arrow_table()
    order = [("arrived", "ascending"), ("example_id", "ascending")]
    return {name: _canonical(table, TABLES[name].row).sort_by(order) for name, table in made.items()}


def meetings(engine: Engine, labels: Iterable[pa.Table]) -> pa.Table:
    """Answers to the very same prompt of which one was right and one wrong, where nobody named what should have been said.

    `labels` hold the columns MEETING; the result is what `examples` takes as `met`.
    """
    rated = []
    for rows in (arrow_schema(Curated).empty_table().select(MEETING), *labels):
        engine.register("rows", rows)
        rated.append(engine.execute(RATED).to_arrow_table())
    engine.register("rated", pa.concat_tables(rated))
    return engine.execute(MEETINGS).to_arrow_table()


def due(engine: Engine, labels: pa.Table) -> pa.Table:
    """The safety rows of labels of the holdout side."""
    engine.register("labels", labels)
    return engine.execute(SAFETY).to_arrow_table()


def turn_key(session_id: str, text: str) -> bytes:
    return md5(f"{session_id}\n{text.strip()}".encode(errors="surrogatepass"), usedforsecurity=False).digest()


def _canonical(table: pa.Table, row: type) -> pa.Table:
    """The table with its JSON as `canonical` writes it: DuckDB writes control characters in capitals, \\u001F."""
    for name in (f.name for f in fields(row) if f.type == "Json"):
        if pc.any(pc.match_substring(table[name], "\\u00")).as_py():
            texts = [canonical(orjson.loads(t)).decode() if "\\u00" in t else t for t in table[name].to_pylist()]
            table = table.set_column(table.column_names.index(name), name, pa.array(texts, pa.string()))
    return table


def _weighed(sft: pa.Table, confirmed: Collection[bytes]) -> pa.Table:
    """Earlier answers of the assistant get weight 0 unless people called them right: only what was judged is learned."""
    messages = sft["messages"].to_pylist()
    for k, (text, session) in enumerate(zip(messages, sft["session_id"].to_pylist(), strict=True)):
        if text.count('"role":"assistant"') > 1:
            *earlier, last = orjson.loads(text)
            for m in earlier:
                if m["role"] == "assistant":
                    m["weight"] = int(turn_key(session, str(m.get("content") or "")) in confirmed)
            messages[k] = canonical([*earlier, last | {"weight": 1}]).decode()
    return sft.set_column(sft.column_names.index("messages"), "messages", pa.array(messages, pa.string()))
