"""Where a model, a snapshot or a row comes from, and where a log line or a person's answer went: on a workspace that has lived."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest
import zstandard

from tasks.errors import Refused
from tasks.live import kept
from tasks.live.lineage import where_used, why
from tasks.live.segments import Segments
from tasks.live.workspace import Workspace
from tasks.redact import Edge
from tests import lived
from tests.conftest import flywheel, git
from tests.lived import BEN, FIRST, KIM, SECRET
from tests.lived import lived as made

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return made(tmp_path_factory.mktemp("lineage") / "work")


@pytest.fixture(scope="module")
def tag(place: Workspace) -> str:
    return kept.snapshots(place)[-1].tag


def kims_row(place: Workspace) -> str:
    """The supervised row that came of kim's question."""
    (file,) = (place.data / "dataset/parquet/train/sft").glob("*.parquet")
    return next(r["example_id"] for r in pq.read_table(file).to_pylist() if SECRET in json.loads(r["messages"])[0]["content"])


def test_a_row_leads_to_who_said_what_of_which_line_of_which_log(place: Workspace, tag: str):
    found = why(place, kims_row(place))
    assert (found.kind, found.row.table, found.row.snapshots) == ("row", "train/sft", [tag])
    (origin,) = found.origins
    assert origin.interaction.native_id == FIRST and origin.interaction.question == SECRET
    assert {(a.annotator, a.guideline, a.kind) for a in origin.annotations} == {(n, "answer/1", "answer") for n in ("ana", "ben")}
    assert origin.batches[0]["part"] and origin.feedback[0]["name"] == "thumb"
    assert [v.version for v in found.models] == ["2"]


def test_the_place_of_a_line_is_where_it_lies_byte_for_byte(place: Workspace):
    (origin,) = why(place, kims_row(place)).origins
    at = origin.place
    whole = zstandard.ZstdDecompressor().decompressobj().decompress(Path(at.file).read_bytes())
    line = whole[at.offset : at.offset + at.length]
    assert json.loads(line)["id"] == FIRST and whole[at.offset - 1 : at.offset] == b"\n"
    assert whole.split(b"\n")[at.line] == line, "and the line of the file that zstdcat shows"
    assert at.source == "monday.jsonl"


def test_a_model_leads_to_its_snapshot_its_verdict_and_its_rows(place: Workspace, tag: str):
    found = why(place, "2")
    assert found.model.snapshot == tag and found.snapshot.decision == "promote" and found.snapshot.reasons == ["it is better"]
    rows = {p.parent.relative_to(place.data / "dataset/parquet").as_posix(): pq.read_metadata(p).num_rows
            for p in (place.data / "dataset/parquet").rglob("*.parquet")}  # fmt: skip
    assert found.snapshot.rows == rows and rows["train/sft"] > 3
    assert why(place, tag).snapshot == found.snapshot
    assert why(place, found.snapshot.samples["train/sft"][0]).kind == "row"


def test_the_application_finds_its_own_ids(place: Workspace):
    assert why(place, FIRST).origins == why(place, kims_row(place)).origins


def test_an_interaction_goes_to_rows_models_batches_and_exports(place: Workspace, tag: str):
    (place.state / "exports.jsonl").write_bytes(orjson.dumps({"out": "out/openai", "snapshot": tag}) + b"\n")
    (origin,) = why(place, FIRST).origins
    used = where_used(place, origin.interaction.interaction_id)
    (holds,) = used.snapshots
    assert kims_row(place) in holds.rows["train/sft"] and {"frozen/exchanges", "curated/labels"} <= holds.rows.keys()
    assert holds.models[0].version == "2" and holds.exports == ["out/openai"]
    assert used.batches == [origin.batches[0]["batch_id"]] and used.annotations == 2
    (place.state / "exports.jsonl").unlink()


def test_a_user_an_annotator_an_annotation_and_a_segment_are_found_forward(place: Workspace):
    kim = where_used(place, KIM)
    assert kim.kind == "user as logged" and len(kim.interactions) == 5
    assert where_used(place, Edge(place.pseudonym_key()).pseudonym("", KIM)).interactions == kim.interactions
    ana = where_used(place, "ana")
    assert ana.kind == "annotator" and ana.annotations == 2 * len(ana.interactions) and len(ana.interactions) > 10
    (origin,) = why(place, FIRST).origins
    given = where_used(place, origin.annotations[0].annotation_id)
    assert given.interactions == [origin.interaction.interaction_id]
    at = origin.place
    assert where_used(place, f"{at.segment}:{at.line}").interactions == [origin.interaction.interaction_id]
    assert set(where_used(place, at.segment).interactions) > set(kim.interactions)
    assert where_used(place, f"data/raw/{at.segment}.jsonl.zst").interactions == where_used(place, at.segment).interactions


def test_what_nothing_has_is_refused_with_what_to_give(place: Workspace):
    for ask in (why, where_used):
        with pytest.raises(Refused, match=r"no model|nothing in this workspace"):
            ask(place, "ex_000000000000000000000000")
    with pytest.raises(Refused, match="no snapshot"):
        why(place, "snapshot-00000000")


def test_an_old_snapshot_is_read_from_the_remote_and_the_work_tree_stays_untouched(place: Workspace, tmp_path: Path):
    copy = lived.copied(place, tmp_path / "copy")
    row, before = kims_row(copy), git(copy.root, "status", "--porcelain")
    for name in ("frozen", "curated", "dataset"):
        subprocess.run(["rm", "-rf", copy.data / name, copy.root / ".dvc" / "cache"], check=True)
    found = why(copy, row)
    assert found.row.values["interaction_id"] == why(place, row).row.values["interaction_id"]
    assert not (copy.data / "dataset").exists() and git(copy.root, "status", "--porcelain") == before
    assert [x for x in where_used(copy, KIM).snapshots[0].rows] == [x for x in where_used(place, KIM).snapshots[0].rows]


def test_the_command_reads_aloud_and_as_one_document(place: Workspace, tag: str):
    row = kims_row(place)
    told = flywheel("why", row, "--workspace", place.root)
    assert told.code == 0, told.err
    for words in (f"a row of train/sft in {tag}", SECRET, "ana (annotator) on answer under answer/1", "record 50", "version 2"):
        assert words in told.out
    document = flywheel("why", row, "--json", "--workspace", place.root).document()
    assert document["origins"][0]["place"]["line"] == 50 and document["row"]["id"] == row
    used = flywheel("why", "--where-used", BEN, "--workspace", place.root)
    assert used.code == 0 and f"{tag} holds" in used.out and "train/sft" in used.out
    assert flywheel("why", "ex_nothing", "--workspace", place.root).code == 2


def test_a_line_of_a_segment_is_where_the_segment_says(place: Workspace):
    segments = Segments(place.raw)
    for segment, _ in segments.all():
        _, lines = segments.lines(segment.name)
        whole = zstandard.ZstdDecompressor().decompressobj().decompress((place.raw / f"{segment.name}.jsonl.zst").read_bytes())
        for n, line in enumerate(lines, 1):
            start, length = segments.place(segment.name, n)
            assert whole[start : start + length] == line
