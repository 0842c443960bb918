"""Thumbs and the exchanges that they are about become one table of votes: who said what of which words.

    Thumb(user "u7", polarity 1, …) + Exchange("when do I see my money?", …)
      ->  {"actor": "u7", "asker": "u7", "polarity": 1, "said": "when do I see my money?", "response": "Refunds …", …}

`said` is everything that the user wrote in the conversation: a trigger or a claim may stand some turns before the answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from tasks.hygiene.params import DAY, HygieneParams
from tasks.records import arrow_schema


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """A thumb with its words. `asker` is the user who was answered, `actor` the one who voted ('' unknown)."""

    feedback_id: str
    interaction_id: str
    arrived: int
    actor: str
    asker: str
    tenant: str
    polarity: int
    ts: int
    user_since: int
    group_id: str
    said: str
    response: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """One exchange of other traffic, which nobody rated: what is ordinary."""

    interaction_id: str
    user: str
    said: str
    response: str


def votes(thumbs: pa.Table, exchanges: pa.Table) -> pa.Table:
    """Tables of Thumb and Exchange -> one of Vote, in the order (arrived, feedback_id). A thumb whose exchange is not among
    them is left out: freeze hands both.
    """
    place = pc.index_in(thumbs["interaction_id"], value_set=exchanges["interaction_id"].combine_chunks())
    here = pc.is_valid(place)
    thumbs, place = thumbs.filter(here), pc.drop_null(place)
    rated = exchanges.select(["user", "group_id", "messages", "response"]).take(place)
    made = pa.table(
        {
            "feedback_id": thumbs["feedback_id"],
            "interaction_id": thumbs["interaction_id"],
            "arrived": thumbs["arrived"],
            "actor": thumbs["user"],
            "asker": rated["user"],
            "tenant": thumbs["tenant"],
            "polarity": thumbs["polarity"],
            "ts": thumbs["ts"],
            "user_since": thumbs["user_since"],
            "group_id": rated["group_id"],
            "said": said(rated["messages"]),
            "response": rated["response"],
        },
        schema=arrow_schema(Vote),
    )
    return made.sort_by([("arrived", "ascending"), ("feedback_id", "ascending")])


def traffic(exchanges: pa.Table, rated: pa.Table) -> pa.Table:
    """Of a table of Exchange, those that no row of `rated` (Thumb or Vote) is about, as Spoken."""
    others = exchanges.filter(pc.invert(pc.is_in(exchanges["interaction_id"], value_set=rated["interaction_id"].combine_chunks())))
    return pa.table(
        [others["interaction_id"], others["user"], said(others["messages"]), others["response"]], schema=arrow_schema(Spoken)
    )


def said(messages: pa.ChunkedArray) -> pa.Array:
    """Per conversation (canonical JSON), what its user wrote, a line a message."""
    return pa.array(
        ["\n".join(_text(m["content"]) for m in orjson.loads(c) if m["role"] == "user") for c in messages.to_pylist()],
        pa.string(),
    )


def voted_again(found: pa.Table) -> np.ndarray:
    """Which votes the same actor took back by a later one on the same answer. Unknown actors take nothing back."""
    order = found.select(["actor", "interaction_id", "ts", "feedback_id"]).append_column("row", pa.array(np.arange(len(found))))
    order = order.sort_by([(c, "ascending") for c in ("actor", "interaction_id", "ts", "feedback_id")])
    again = np.zeros(len(found), bool)
    if len(found) > 1:
        same = pc.and_(
            pc.equal(order["actor"][:-1], order["actor"][1:]),
            pc.and_(pc.equal(order["interaction_id"][:-1], order["interaction_id"][1:]), pc.not_equal(order["actor"][:-1], "")),
        )
        again[order["row"].to_numpy()[:-1][same.to_numpy().astype(bool)]] = True
    return again


def new_votes(found: pa.Table, params: HygieneParams) -> np.ndarray:
    """Which votes were given by someone unknown, or first seen less than `aged_days` before."""
    unknown = actor_codes(found["actor"]) < 0
    return unknown | (found["ts"].to_numpy() - found["user_since"].to_numpy() < params.aged_days * DAY)


def actor_codes(actors: pa.ChunkedArray) -> np.ndarray:
    """A number for each actor, -1 for '': unknown actors count as one."""
    made = actors.combine_chunks().dictionary_encode()
    codes = made.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    names = made.dictionary.to_pylist()
    return np.where(codes == names.index(""), -1, codes) if "" in names else codes


def _text(content: object) -> str:
    """A message's text; of one in parts, that of its text parts."""
    if isinstance(content, str):
        return content
    return "\n".join(p.get("text") or "" for p in content if isinstance(p, dict)) if isinstance(content, list) else ""
