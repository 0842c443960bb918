"""Published chat data: WildChat, LMSYS-Chat-1M, ShareGPT, and arena pairs. One interaction an answer, a preference a pair.

    {"conversation_id": "33f0…", "model": "vicuna-13b", "conversation": [{"role": "user", …}, {"role": "assistant", …}], …}
    {"question_id": "q1", "model_a": …, "model_b": …, "winner": "model_b", "conversation_a": […], "conversation_b": […], …}

LMSYS and ShareGPT rows carry no time: theirs is 0, with the attribute `no_time`.
"""

from __future__ import annotations

from typing import Any

from tasks.errors import BadRecord
from tasks.formats.fields import Parsed, RawFeedback, RawInteraction, first, items, label, maybe_time_us, required_text
from tasks.formats.messages import Message, conversation

TIES = {"tie": "tie", "tie (bothbad)": "both_bad", "both_bad": "both_bad"}


def recognises(document: dict[str, Any]) -> bool:
    keys = document.keys()
    return (
        {"conversation_a", "conversation_b", "winner"} <= keys
        or isinstance(document.get("conversations"), list)
        or (
            isinstance(document.get("conversation"), list)
            and ("conversation_hash" in keys or "conversation_id" in keys)
        )
    )


def parse(row: dict[str, Any], origin: str = "") -> Parsed:
    if "winner" in row:
        return _arena(row)
    if "conversations" in row:
        id, dialect, turns = label(first(row, "id", "conversation_id")), "sharegpt", row["conversations"]
    else:
        dialect = "wildchat" if "conversation_hash" in row else "lmsys"
        id, turns = label(first(row, "conversation_hash", "conversation_id")), row["conversation"]
    if not id:
        raise BadRecord("missing_field", "the conversation has no id")
    common = {
        "model_served": label(row.get("model")),
        "language": label(row.get("language")),
        "user_id": label(row.get("hashed_ip")),
        "tools": [t for t in items(row, "tools") if isinstance(t, dict)],
    }
    return Parsed(
        interactions=_answers(dialect, id, _messages(row, turns), maybe_time_us(row.get("timestamp")), common, turns)
    )


def _messages(row: dict[str, Any], turns: Any) -> list[Message]:
    if not isinstance(turns, list) or not all(isinstance(t, dict) for t in turns):
        raise BadRecord("bad_message", "the conversation is no list of messages")
    system = row.get("system")
    return conversation(turns, system if isinstance(system, str) else None)


def _answers(
    dialect: str, id: str, messages: list[Message], ts: int | None, common: dict[str, Any], turns: list[dict[str, Any]]
) -> list[RawInteraction]:
    times = [maybe_time_us(t.get("timestamp")) for t in turns if str(first(t, "role", "from")) in ("assistant", "gpt")]
    found = []
    for place, message in enumerate(messages):
        if message["role"] != "assistant" or place == 0:
            continue
        at = times[len(found)] if len(found) < len(times) and times[len(found)] is not None else ts
        found.append(
            RawInteraction(
                dialect=dialect,
                native_id=f"{id}:{len(found)}",
                ts=at or 0,
                messages=messages[:place],
                outputs=[message],
                session_id=id,
                attributes={} if at else {"no_time": True},
                **common,
            )
        )
    if not found:
        raise BadRecord("no_content", "the conversation has no answer")
    return found


def _arena(row: dict[str, Any]) -> Parsed:
    id, ts = (
        required_text({"id": label(row.get("question_id"))}, "id"),
        maybe_time_us(first(row, "tstamp", "timestamp")),
    )
    language = label(row.get("language"))
    parsed, last = Parsed(), {}
    for side in ("a", "b"):
        turns = row.get(f"conversation_{side}")
        common = {"model_served": label(row.get(f"model_{side}")), "language": language}
        made = _answers("arena", f"{id}:{side}", _messages(row, turns), ts, common, turns)
        parsed.interactions += made
        last[side] = made[-1].native_id
    winner = label(row.get("winner"))
    if winner not in ("model_a", "model_b", *TIES):
        raise BadRecord("bad_value", f"winner is {winner[:40]!r}")
    chosen, rejected = ("b", "a") if winner == "model_b" else ("a", "b")
    parsed.feedback.append(
        RawFeedback(
            dialect="arena",
            native_id=id,
            target_type="pair",
            target=f"{last[chosen]}|{last[rejected]}",
            name="preference",
            value_type="preference",
            value={"chosen": last[chosen], "rejected": last[rejected], "tie": TIES.get(winner)},
            source_kind="human_end_user",
            user_id=label(first(row, "judge", "judge_hash")),
            ts=ts or 0,
        )
    )
    return parsed
