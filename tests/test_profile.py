"""Profiles and drift: bins are fixed, no text gets out, what changed is seen, and what only looks changed is not."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks.calculator import calculator
from tasks.profile import CODE, NUMBER, TEXT, compared, kinds, profile

KINDS = {"topic": CODE, "weight": NUMBER, "question": TEXT}
SURE = {"psi": 0.2, "alpha": 0.01, "least": 100}


def of(
    seed: int,
    rows: int = 1000,
    share: float = 0.5,
    low: float = 0.0,
    length: int = 40,
    groups: int = 0,
    nulls: float = 0.0,
) -> dict[str, Any]:
    chance = np.random.default_rng(seed)
    columns: dict[str, Any] = {
        "topic": np.where(chance.random(rows) < share, "billing", "bike"),
        "weight": pa.array(low + (1 - low) * chance.random(rows), mask=chance.random(rows) < nulls),
        "question": ["x" * int(n) for n in chance.poisson(length, rows)],
    }
    if groups:
        columns["group_id"] = [f"g{k % groups}" for k in range(rows)]
        # Rows of one group are the same row again.
        columns = {c: pa.array(np.asarray(v)[[k % groups for k in range(rows)]].tolist()) for c, v in columns.items()}
    with calculator() as engine:
        engine.register("rows", pa.table(columns))
        return profile(engine, "rows", KINDS, "group_id" if groups else "")


def drifted(before: dict[str, Any], now: dict[str, Any], **sure: float) -> list[str]:
    return [c.column for c in compared({"t": before}, {"t": now}, **SURE | sure) if c.drifted]


def test_a_profile_counts_every_row_of_every_column():
    made = of(1, nulls=0.1)
    assert made["rows"] == made["groups"] == 1000
    for column in made["columns"].values():
        assert column["nulls"] + sum((column.get("shares") or column["bins"]).values()) + column.get("other", 0) == 1000
    weight = made["columns"]["weight"]
    assert weight["nulls"] > 50 and len(weight["deciles"]) == 11 and weight["deciles"] == sorted(weight["deciles"])


def test_equal_rows_in_another_order_give_the_same_profile():
    rows = {"topic": ["a", "b", "a"], "weight": [0.1, 0.25, 0.7], "question": ["so", "", "long"]}
    with calculator() as engine:
        engine.register("rows", pa.table(rows))
        engine.register("turned", pa.table({c: v[::-1] for c, v in rows.items()}))
        assert profile(engine, "rows", KINDS) == profile(engine, "turned", KINDS)


def test_no_text_and_no_id_is_in_a_profile():
    columns = {
        "example_id": "VARCHAR",
        "user": "VARCHAR",
        "question": "VARCHAR",
        "messages": "JSON",
        "topic": "VARCHAR",
        "arrived": "BIGINT",
    }
    assert kinds(columns, ["topic"]) == {"question": TEXT, "messages": TEXT, "topic": CODE}
    assert "xxx" not in json.dumps(of(1))


def test_an_empty_table_has_an_empty_profile_and_is_compared_with_nothing():
    with calculator() as engine:
        engine.register("rows", pa.table({c: pa.array([], pa.string()) for c in KINDS}))
        empty = profile(engine, "rows", {"topic": CODE})
    assert empty == {"rows": 0, "groups": 0, "columns": {}}
    assert compared({"t": empty}, {"t": of(1)}, **SURE) == []
    assert compared({}, {"t": of(1)}, **SURE) == [], "the first snapshot has no before"


def test_a_new_column_or_table_is_no_drift():
    now = of(1)
    before = {**now, "columns": {"topic": now["columns"]["topic"]}}
    assert {c.column for c in compared({"t": before}, {"t": now, "u": now}, **SURE)} == {"topic"}


@pytest.mark.parametrize(
    ("column", "shift"),
    [("topic", {"share": 0.8}), ("weight", {"low": 0.4}), ("question", {"length": 55}), ("weight", {"nulls": 0.4})],
)
def test_what_changed_is_seen_and_the_rest_is_not(column: str, shift: dict[str, Any]):
    assert drifted(of(1), of(2, **shift)) == [column]


def test_a_change_needs_rows_enough_and_size_enough():
    assert drifted(of(1, rows=60), of(2, rows=60, share=0.9)) == []
    assert drifted(of(1, rows=50_000), of(2, rows=50_000, share=0.55)) == [], "proved, and too small to matter"
    assert drifted(of(1, rows=50_000), of(2, rows=50_000, share=0.55), psi=0.005) == ["topic"]


def test_rows_that_come_by_the_group_are_no_more_evidence_than_their_groups():
    before, now = of(3, rows=4000, groups=110, share=0.5), of(8, rows=4000, groups=110, share=0.68)
    alone = {c: {**p, "groups": p["rows"]} for c, p in (("a", before), ("b", now))}
    found, naive = compared({"t": before}, {"t": now}, **SURE), compared({"t": alone["a"]}, {"t": alone["b"]}, **SURE)
    of_topic = [next(c for c in cs if c.column == "topic").p_value for cs in (found, naive)]
    assert of_topic[0] > 1e6 * of_topic[1]


def test_a_value_that_was_not_counted_apart_is_among_the_others_on_both_sides():
    many = [f"c{k:03d}" for k in range(150) for _ in range(20)]
    with calculator() as engine:
        engine.register("rows", pa.table({"topic": many}))
        whole = profile(engine, "rows", {"topic": CODE})
        engine.register("turned", pa.table({"topic": many[::-1]}))
    assert whole["columns"]["topic"]["other"] == 50 * 20
    (change,) = compared({"t": whole}, {"t": whole}, **SURE)
    assert (change.psi, change.drifted) == (0.0, False)


def test_numbers_of_any_size_have_a_bin():
    values = [-1e12, -3.0, -1.0, -0.01, 0.0, 1e-9, 0.04999, 0.05, 0.999, 1.0, 1.01, 7.0, 1e15, None, float("nan")]
    with calculator() as engine:
        engine.register("rows", pa.table({"weight": pa.array(values, pa.float64())}))
        made = profile(engine, "rows", {"weight": NUMBER})["columns"]["weight"]
    bins = {int(b): n for b, n in made["bins"].items()}
    assert made["nulls"] == 2 and sum(bins.values()) == 13
    assert bins[20] == 1 and bins[0] == 3 and bins[1] == 1 and min(bins) < -150 and max(bins) > 200
