"""Tables in shards: what was written is read, in order; a change touches few files, and none that is older than it."""

from __future__ import annotations

from pathlib import Path

import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import shards
from tasks.errors import Refused
from tasks.examples import PERSON, TABLES, Supervised, example_id
from tasks.frozen import Dropped
from tasks.records import arrow_schema, canonical
from tests.handmade import NOON


def row(number: int, text: str = "hello") -> Supervised:
    return Supervised(
        example_id=example_id("sft", f"ix_{number}"), interaction_id=f"ix_{number}", beside="", group_id=f"gr_{number}",
        arrived=NOON + number // 300, origin="written", author=PERSON, weight=1.0, copies=1, topic="", language="en",
        guideline="correction/1", messages=canonical([{"role": "user", "content": text}]).decode(), tools="[]", action="",
    )  # fmt: skip


def written(folder: Path, rows: list[Supervised]) -> dict[str, bytes]:
    shards.write_rows(folder / "parquet", Supervised, rows, folder / "jsonl", TABLES["sft"].trains)
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def new(before: dict[str, bytes], after: dict[str, bytes]) -> int:
    """Bytes of files that were not there before: what has to be uploaded."""
    return sum(len(data) for data in set(after.values()) - set(before.values()))


@given(texts=st.lists(st.text(), max_size=20))
@settings(max_examples=40, deadline=None)
def test_what_was_written_is_read_back(texts: list[str], tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("shards")
    rows = [row(k, text.encode("utf-8", "replace").decode()) for k, text in enumerate(texts)]
    written(folder, rows[::-1])
    assert shards.read(folder / "parquet", Supervised) == sorted(rows, key=lambda r: (r.arrived, r.example_id))
    lines = [orjson.loads(line) for p in sorted((folder / "jsonl").iterdir()) for line in p.read_bytes().splitlines()]
    assert [x["example_id"] for x in lines] == [r.example_id for r in shards.read(folder / "parquet", Supervised)]
    assert all(set(x) == {"example_id", "prompt", "completion", "tools"} and isinstance(x["prompt"], list) for x in lines)


def test_a_table_without_rows_is_a_table(tmp_path: Path):
    shards.write_rows(tmp_path / "empty", Supervised, [])
    assert shards.read(tmp_path / "empty", Supervised) == []
    assert [p.name for p in (tmp_path / "empty").iterdir()] == [f"{shards.EMPTY}.parquet"]


def test_a_table_that_is_not_there_or_of_another_shape_is_refused(tmp_path: Path):
    with pytest.raises(Refused, match="does not exist"):
        shards.read(tmp_path / "nowhere", Supervised)
    shards.write_rows(tmp_path / "rows", Supervised, [row(1)])
    with pytest.raises(Refused, match="holds no rows of Dropped"):
        shards.read(tmp_path / "rows", Dropped)


@pytest.mark.slow
def test_rows_that_arrive_later_touch_the_last_file_and_new_ones_only(tmp_path: Path):
    rows = [row(k) for k in range(40_000)]
    before, after = written(tmp_path / "a", rows[:39_600]), written(tmp_path / "b", rows)
    kept = [name for name in before if after.get(name) == before[name]]
    assert len(kept) >= len(before) - 2, "all but the last shard, in either form"
    assert len(before) > 10


@pytest.mark.slow
@pytest.mark.parametrize("change", ["removed", "changed"])
def test_a_row_that_changes_or_goes_touches_its_own_file_or_the_one_beside_it(change: str, tmp_path: Path):
    rows = [row(k) for k in range(40_000)]
    other = [*rows[:20_000], *([row(20_000, "other words")] if change == "changed" else []), *rows[20_001:]]
    before, after = written(tmp_path / "a", rows), written(tmp_path / "b", other)
    assert 1 <= sum(after.get(name) != data for name, data in before.items() if name.startswith("parquet")) <= 2
    assert new(before, after) < sum(map(len, before.values())) / 3


def test_the_content_digest_sees_rows_and_not_where_they_are_cut(tmp_path: Path):
    rows = [row(k) for k in range(30)]
    written(tmp_path / "a", rows)
    table = pa.Table.from_pylist([{f: getattr(r, f) for f in arrow_schema(Supervised).names} for r in rows])
    writer = shards.Writer(tmp_path / "b" / "parquet", Supervised, tmp_path / "b" / "jsonl", TABLES["sft"].trains)
    for part in (table.sort_by([("arrived", "ascending"), ("example_id", "ascending")]).slice(k, 7) for k in range(0, 30, 7)):
        writer.add(part)
    writer.close()
    digest = shards.content_digest(tmp_path / "a" / "jsonl")
    assert digest == shards.content_digest(tmp_path / "b" / "jsonl")
    written(tmp_path / "a", rows[1:])
    assert digest != shards.content_digest(tmp_path / "a" / "jsonl")
