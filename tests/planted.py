"""One fault for each expectation of each suite: which row it is planted in, and what must be found.

Plant("weight", …)   changes one row of a table; the finding must name that row's id and no other
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from tasks.examples import HOLDOUT, TABLES, TRAIN
from tasks.records import canonical

Row = dict[str, Any]
LONG = "a long story " * 12_000
MAIL = "write to kim.lee@example.org"


@dataclass(frozen=True, slots=True)
class World:
    """What a plant may refer to: rows of other tables."""

    rows: dict[str, list[Row]]

    def sealed(self, least: int = 0) -> Row:
        return next(r for r in self.rows["evaluation"] if len(asked(r).split()) >= least)

    def straddler(self) -> Row:
        return next(e for e in self.rows["exchanges"] if e["side"] == "straddles")


@dataclass(frozen=True, slots=True)
class Plant:
    """`change` gives what becomes of a row, one that `fits`; `also` are other codes that the same row must then have."""

    code: str
    change: Callable[[Row, World], Row]
    fits: Callable[[Row], bool] = lambda row: True
    also: frozenset[str] = field(default=frozenset())


def plant(
    code: str, change: Callable[..., Row], also: str = "", fits: Callable[[Row], bool] = lambda row: True
) -> Plant:
    takes_world = change.__code__.co_argcount == 2
    return Plant(code, change if takes_world else lambda row, world: change(row), fits, frozenset(also.split()))


def asked(row: Row) -> str:
    return [m for m in orjson.loads(row["messages"]) if m["role"] == "user"][-1]["content"]


def _json(value: Any) -> str:
    return canonical(value).decode()


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def _talk(column: str, before: list[Any], row: Row) -> Row:
    """The conversation of a row with other messages before its last question."""
    messages = orjson.loads(row[column])
    last = max(k for k, m in enumerate(messages) if m["role"] == "user")
    return {column: _json([*before, *messages[last:]])}


def _asks(column: str, text: str, row: Row) -> Row:
    messages = orjson.loads(row[column])
    last = max(k for k, m in enumerate(messages) if m["role"] == "user")
    messages[last] = {**messages[last], "content": text}
    return {column: _json(messages)}


def _ends(column: str, text: str, row: Row) -> Row:
    messages = orjson.loads(row[column])
    return {column: _json([*messages[:-1], {**messages[-1], "content": text}])}


def examples(name: str, asks: Callable[[str, Row], Row], big: Callable[[Row], Row]) -> list[Plant]:
    """What common/example.json says, and the wall or the seal. `asks` gives a row another question."""
    found = [
        plant("null_value", lambda r: {"language": None}),
        plant("personal_data", lambda r: asks(f"can you {MAIL} about this one", r)),
        plant("foreign_id", lambda r: {"example_id": "row-7"}),
        plant("no_such_interaction", lambda r: {"interaction_id": "ix_nowhere"}),
        plant("wrong_group", lambda r: {"group_id": "gr_of_nobody"}),
        plant("bad_weight", lambda r: {"weight": 0.0}),
        plant("bad_copies", lambda r: {"copies": 0}),
        plant("bad_time", lambda r: {"arrived": 0}),
        plant("unknown_author", lambda r: {"author": "robot"}),
        plant("too_long", big),
    ]
    if name.startswith(HOLDOUT) or name == "evaluation":
        return [
            *found,
            plant("wrong_side", lambda r, w: {"interaction_id": w.straddler()["interaction_id"]}, "wrong_group"),
            plant("mined", lambda r, w: {"interaction_id": _mined(w)["interaction_id"]}, "wrong_group wrong_side"),
        ]
    if name == "regression":
        return found
    return [
        *found,
        plant("wrong_side", lambda r, w: {"beside": w.straddler()["interaction_id"]}),
        plant("shared_interaction", lambda r, w: {"beside": w.sealed()["interaction_id"]}, "wrong_side"),
        plant("shared_group", lambda r, w: {"group_id": w.sealed()["group_id"]}, "wrong_group"),
        plant("same_question", lambda r, w: asks(f"  {asked(w.sealed()).upper()}?! ", r)),
        plant(
            "shared_passage",
            lambda r, w: asks(f"good day and please tell me {asked(w.sealed(11))} thank you very much", r),
        ),
    ]


def _mined(world: World) -> Row:
    return next(e for e in world.rows["exchanges"] if e["part"] == "mined")


def turns(column: str) -> list[Plant]:
    return [
        plant("unknown_role", lambda r: _talk(column, [_user("hello you"), {"role": "critic", "content": "hm"}], r)),
        plant(
            "orphan_tool_result",
            lambda r: _talk(column, [_user("so what"), {"role": "tool", "content": "[]"}, _assistant("well")], r),
        ),
        plant("two_in_a_row", lambda r: _talk(column, [_user("first of all")], r)),
        plant("starts_midway", lambda r: _talk(column, [_assistant("as I said")], r)),
        plant(
            "late_system_prompt",
            lambda r: _talk(column, [_user("well"), _assistant("yes"), {"role": "system", "content": "be kind"}], r),
        ),
    ]


def answers(column: str) -> list[Plant]:
    return [
        plant("empty_answer", lambda r: _ends(column, " \u200b\n", r)),
        plant("control_characters", lambda r: _ends(column, "it is \u0007 ringing", r)),
        plant("placeholder", lambda r: _ends(column, "Dear {{ customer_name }}, it is on its way.", r)),
    ]


def _say(column: str) -> Callable[[str, Row], Row]:
    return lambda text, row: _asks(column, text, row)


def _big(column: str) -> Callable[[Row], Row]:
    return lambda row: _asks(column, LONG, row)


def _text(column: str) -> Callable[[str, Row], Row]:
    return lambda text, row: {column: text}


UNKNOWN = plant("unknown_origin", lambda r: {"origin": "a_bare_thumb"})
NO_QUESTION = plant("no_question", lambda r: {"prompt": _json([*orjson.loads(r["prompt"]), _assistant("hm")])})
ENDS_MESSAGES = plant("no_question", lambda r: {"messages": _json([*orjson.loads(r["messages"]), _assistant("hm")])})
BAD_TARGET = plant("unknown_answer", lambda r: {"target": "no-such-answer"})


def _other_prompt(row: Row) -> Row:
    return {"rejected": _json([_user("quite another question"), *orjson.loads(row["rejected"])[-1:]])}


def _tag(row: Row) -> Row:
    return {"tags": _json(["I-contradicted", *["O"] * (len(orjson.loads(row["tags"])) - 1)]), "spans": "[]"}


_SPANS = [
    plant("unknown_task", lambda r: {"task": "poetry"}),
    plant("empty_text", lambda r: {"text": " ", "tokens": "[]", "tags": "[]", "spans": "[]"}),
    plant("wrong_tags", lambda r: {"tags": _json(["O", *orjson.loads(r["tags"])])}),
    plant(
        "moved_span",
        lambda r: {"spans": _json([{"start": 0, "end": 3, "text": "elsewhere", "label": "product"}])},
        fits=lambda r: r["task"] == "entities",
    ),
    plant("broken_tags", _tag),
    plant(
        "unknown_option",
        lambda r: {"spans": r["spans"].replace('"contradicted"', '"dull"')},
        fits=lambda r: '"contradicted"' in r["spans"],
    ),
    plant(
        "unknown_option",
        lambda r: {"spans": r["spans"].replace('"product"', '"dull"')},
        fits=lambda r: '"product"' in r["spans"],
    ),
]
_RUBRIC = [
    NO_QUESTION,
    plant("no_score", lambda r: {"scores": "{}", "note": ""}),
    plant("bad_score", lambda r: {"scores": '{"tone":7}'}),
    plant("unknown_dimension", lambda r: {"scores": '{"charm":3}'}),
]
_SAFETY = [
    NO_QUESTION,
    plant("unknown_option", lambda r: {"policies": '["boredom"]', "route": ""}),
    plant("unknown_option", lambda r: {"action": "shrug", "route": ""}),
    plant("unknown_option", lambda r: {"action": "escalate", "route": "the moon"}),
    plant("route_without_escalation", lambda r: {"action": "answer", "route": "billing"}),
]
_GROUNDING = [
    NO_QUESTION,
    plant("no_contexts", lambda r: {"contexts": "[]"}),
    plant("empty_answer", lambda r: {"response": ""}),
]
_RETRIEVAL = [
    plant("bad_grade", lambda r: {"grade": 4}),
    plant("empty_query", lambda r: {"query": ""}),
    plant("empty_document", lambda r: {"document": " "}),
]
_CLASSIFICATION = [
    plant("unknown_task", lambda r: {"task": "mood", "labels": "[]"}),
    plant("empty_text", lambda r: {"text": ""}),
    *(
        plant("unknown_option", lambda r: {"labels": '["fog"]'}, fits=lambda r, task=task: r["task"] == task)
        for task in ("intent", "sentiment", "topics")
    ),
]


def _table(name: str) -> list[Plant]:
    """Every plant of an example table."""
    plain = name.removeprefix(f"{HOLDOUT}_")
    column = {"sft": "messages", "reward": "chosen", "evaluation": "messages", "regression": "messages"}.get(
        plain, "prompt"
    )
    say, big = _say(column), _big(column)
    if plain in ("retrieval", "spans", "classification"):
        text = "query" if plain == "retrieval" else "text"
        say, big = _text(text), lambda r: {text: LONG} | ({"spans": "[]"} if plain == "spans" else {})
        if plain == "spans":
            say = lambda t, r: {"text": t, "spans": "[]", "task": "entities"}  # noqa: E731
    if plain == "reward":
        say = lambda t, r: _asks("chosen", t, r) | _asks("rejected", t, r)  # noqa: E731
        big = lambda r: say(LONG, r)  # noqa: E731
    found = examples(name, say, big)
    if plain == "reward":
        found += [Plant(p.code, lambda r, w, p=p: _both(p.change(r, w), r), p.fits, p.also) for p in turns("chosen")]
    elif plain not in ("retrieval", "spans", "classification"):
        found += turns(column)
    return found + _OWN[plain]


def _both(changed: Row, row: Row) -> Row:
    """The same words before the answer that was rejected."""
    return changed | {"rejected": _json([*orjson.loads(changed["chosen"])[:-1], orjson.loads(row["rejected"])[-1]])}


_OWN: dict[str, list[Plant]] = {
    "sft": [
        plant("no_answer", lambda r: {"messages": _json(orjson.loads(r["messages"])[:-1])}),
        UNKNOWN, plant("unknown_answer", lambda r: {"action": "no-such-answer"}),
        plant("learns_nothing", lambda r: {"messages": _json([*(m := orjson.loads(r["messages"]))[:-1], {**m[-1], "weight": 0}])}),
        *answers("messages"),
    ],
    "preference": [
        NO_QUESTION, UNKNOWN,
        plant("no_answer", lambda r: {"rejected": _json([_user("not so")])}),
        plant("same_answers", lambda r: {"rejected": r["chosen"]}),
        plant("unknown_answer", lambda r: {"chosen_action": "no-such-answer"}),
        plant("unknown_answer", lambda r: {"rejected_action": "no-such-answer"}),
        *answers("chosen"),
    ],
    "unpaired": [
        NO_QUESTION, UNKNOWN,
        plant("no_answer", lambda r: {"completion": _json([_user("not so")])}),
        plant("empty_answer", lambda r: _ends("completion", " ", r), fits=lambda r: r["label"]),
        plant("control_characters", lambda r: _ends("completion", "so \u0000", r), fits=lambda r: r["label"]),
    ],
    "reward": [
        plant("no_answer", lambda r: {"chosen": (m := _json([_user("only this")])), "rejected": m}, "same_answers"),
        plant("no_answer", lambda r: {"rejected": _json([*orjson.loads(r["rejected"])[:-1], _user("so")])}),
        plant("other_prompt", _other_prompt),
        plant("same_answers", lambda r: {"rejected": r["chosen"]}),
        plant("bad_margin", lambda r: {"margin": 0.0}),
        *(Plant(p.code, lambda r, w, p=p: p.change(r, w), p.fits, p.also) for p in answers("chosen")),
    ],
    "prompts": [
        NO_QUESTION,
        plant("uncheckable", lambda r: {"checks": "[]", "ground_truth": " "}),
        plant("unknown_check", lambda r: {"checks": '[{"check":"mood","value":1}]'}),
        plant("control_characters", lambda r: {"ground_truth": "so \u202e it goes"}),
    ],
    "safety": _SAFETY, "grounding": _GROUNDING, "retrieval": _RETRIEVAL, "spans": _SPANS, "classification": _CLASSIFICATION,
    "rubric": _RUBRIC,
    "evaluation": [
        ENDS_MESSAGES, BAD_TARGET,
        plant("no_truth", lambda r: {"target": "", "target_text": ""}),
        plant("nothing_to_choose", lambda r: {"offered": _json([{"text": "a", "right": True}, {"text": "b", "right": True}])}),
    ],
    "regression": [
        ENDS_MESSAGES, BAD_TARGET,
        plant("no_truth", lambda r: {"target": "", "target_text": ""}),
        plant("no_cluster", lambda r: {"cluster_id": ""}),
        plant("seen_after_all", lambda r: {"seen": False}),
    ],
}  # fmt: skip
PLACED = [
    plant("no_such_interaction", lambda r: {"interaction_id": "ix_nowhere"}),
    plant("wrong_group", lambda r: {"group_id": "gr_of_nobody"}),
    plant("nobody", lambda r: {"annotators": "[]"}),
    plant("stale_guideline", lambda r: {"guideline": f"{r['kind'] if 'judgement_id' in r else 'answer'}/0"}),
    plant("null_value", lambda r: {"language": None}),
]
PLANTS: dict[str, list[Plant]] = {
    "exchanges": [
        plant("null_value", lambda r: {"prompt_name": None}),
        plant("personal_data", lambda r: {"response": f"Please {MAIL}."}),
        plant("foreign_id", lambda r: {"interaction_id": "row-7"}),
        plant("unknown_part", lambda r: {"part": "hunch"}),
        plant("mined", lambda r: {"part": "mined"}, fits=lambda r: r["side"] == "holdout"),
        plant("unknown_side", lambda r: {"side": "middle"}, fits=lambda r: r["part"] != "mined"),
        plant("split_group", lambda r, w: {"group_id": w.sealed()["group_id"]}, fits=lambda r: r["side"] == "train"),
        plant("no_group", lambda r: {"group_id": ""}),
        plant("bad_propensity", lambda r: {"propensity": 1.5}),
        plant("no_propensity", lambda r: {"propensity": 0.0}),
        plant("unknown_role", lambda r: {"messages": _json([{"role": "critic", "content": "hm"}, _user("why")])}),
    ],
    "annotations": [
        plant("null_value", lambda r: {"status": None}),
        plant("personal_data", lambda r: {"note": MAIL}),
        plant("no_such_interaction", lambda r: {"interaction_id": "ix_nowhere"}),
        plant("unknown_kind", lambda r: {"kind": "mood"}),
        plant("unknown_role", lambda r: {"role": "passer-by"}),
        plant("unknown_status", lambda r: {"status": "withdrawn"}),
        plant("no_annotator", lambda r: {"annotator": " "}),
        plant("bad_seconds", lambda r: {"seconds": -1.0}),
        plant("unknown_answer", lambda r: {"value": '{"correction":"no-such-answer","verdict":"wrong"}'},
        fits=lambda r: r["kind"] == "answer"),
    ],
    "thumbs": [
        plant("null_value", lambda r: {"name": None}),
        plant("personal_data", lambda r: {"comment": MAIL}),
        plant("bad_polarity", lambda r: {"polarity": 0}),
        plant("no_such_interaction", lambda r: {"interaction_id": "ix_nowhere"}),
        plant("wrong_side", lambda r, w: {"interaction_id": w.sealed()["interaction_id"]}),
        plant("bad_time", lambda r: {"user_since": r["ts"] + 1}),
    ],
    "labels": [
        *PLACED,
        plant("personal_data", lambda r: {"response": f"Please {MAIL}."}),
        plant("unknown_verdict", lambda r: {"verdict": "so-so"}),
        plant("bad_probability", lambda r: {"p_wrong": 1.5}),
        plant("bad_probability", lambda r: {"p_target": -0.5}),
        plant("too_few_votes", lambda r: {"votes": 1}),
        plant("unknown_answer", lambda r: {"target": "no-such-answer"}, fits=lambda r: r["target"]),
        plant("no_target_text", lambda r: {"target_text": ""}, fits=lambda r: r["target"]),
    ],
    "judgements": [
        *PLACED,
        plant("personal_data", lambda r: {"response": f"Please {MAIL}."}),
        plant("unknown_kind", lambda r: {"kind": "mood"}),
        plant("bad_probability", lambda r: {"confidence": 0.0}),
        plant("too_few_votes", lambda r: {"votes": 0}),
    ],
    "dropped": [
        plant("null_value", lambda r: {"met": None}),
        plant("no_reason", lambda r: {"reason": "Because!"}),
        plant("unknown_stage", lambda r: {"stage": "lunch"}),
    ],
    **{
        name: _table(name)
        for t in TABLES.values()
        for side in t.sides
        for name in [f"{HOLDOUT}_{t.name}" if side == HOLDOUT and TRAIN in t.sides else t.name]
    },
}  # fmt: skip
