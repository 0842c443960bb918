"""Erasure: what came from one person is gone from every byte, stays out, and everything of others is as it was."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import BUSY, Refused
from tasks.live import kept, registry
from tasks.live.capture import capture, rebuild
from tasks.live.erasure.again import again, refuse_erased
from tasks.live.erasure.erase import Erased, Journal, erase, unfinished
from tasks.live.erasure.erase import resume as finish
from tasks.live.erasure.lines import TOMBSTONE, without
from tasks.live.erasure.needles import Needles, pieces
from tasks.live.erasure.subject import Wish
from tasks.live.erasure.theirs import Facts, Tombstones
from tasks.live.freeze import freeze
from tasks.live.handoff.receive import receive
from tasks.live.lake import TABLES, Lake
from tasks.live.lineage import why
from tasks.live.registry import tracking
from tasks.live.repository import COMMITTER
from tasks.live.segments import Segments
from tasks.live.status import as_text, read
from tasks.live.workspace import Workspace
from tasks.redact import Edge
from tests import lived
from tests.conftest import flywheel, git
from tests.erasing import POINTS
from tests.handmade import asked, log, said, workspace
from tests.imports import ROOT
from tests.lived import ADA, BEN, COMMENT, FIRST, KIM, SECRET, SHARED, SPOKEN, THEIRS, copied

WISH = Wish(user=KIM)
UNSURE = ("raw_segment", "raw_line", "received")


# An independent look into every byte: it shares no code with what is tested.


def everything(*roots: Path) -> Iterator[tuple[str, bytes]]:
    for root in roots:
        for path in sorted(p for p in root.rglob("*") if p.is_file() and not p.is_symlink()):
            data = path.read_bytes()
            yield str(path), data
            if data[:4] == b"PAR1":
                yield f"{path} (rows)", repr(pq.read_table(pa.BufferReader(data)).to_pylist()).encode()
            elif data[:4] == b"\x28\xb5\x2f\xfd":
                yield f"{path} (unpacked)", zstandard.ZstdDecompressor().decompressobj().decompress(data)
            elif data[:2] == b"\x1f\x8b":
                yield f"{path} (unpacked)", gzip.decompress(data)
            elif data[:16] == b"SQLite format 3\0":
                with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
                    yield f"{path} (dump)", "\n".join(db.iterdump()).encode("utf-8", "replace")
        if (root / ".git").exists():
            objects = ("cat-file", "--batch-all-objects", "--batch", "--unordered")
            yield f"{root}/.git", subprocess.run(["git", "-C", root, *objects], capture_output=True, check=True).stdout


def holding(words: Iterable[str], *roots: Path) -> list[tuple[str, str]]:
    """Where one of the words stands: as it is, or as JSON writes it."""
    spelled = {s.encode(): w for w in words for s in (w, json.dumps(w)[1:-1], json.dumps(w, ensure_ascii=False)[1:-1])}
    return sorted({(w, name) for name, data in everything(*roots) for s, w in spelled.items() if s in data})


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return lived.lived(tmp_path_factory.mktemp("erasure") / "work")


@pytest.fixture
def place(original: Workspace, tmp_path: Path) -> Workspace:
    return copied(original, tmp_path / "work")


def roots(place: Workspace) -> tuple[Path, Path]:
    return place.root, place.root.with_name(f"{place.root.name}-backup")


def pseudonym(place: Workspace, user: str = KIM) -> str:
    return Edge(place.pseudonym_key()).pseudonym("", user)


def ids(place: Workspace) -> list[str]:
    """Every id under which something of kim's is known."""
    lake, who = Lake(place.lake), pseudonym(place)
    own = lake.query('SELECT * FROM interactions WHERE "user" = $u', {"u": who}).to_pylist()
    found = [r[c] for r in own for c in ("interaction_id", "native_id", "response_id", "session_id")]
    which = {"i": [r["interaction_id"] for r in own]}
    named = {"candidates": "candidate_id", "asks": "ask_id", "annotations": "annotation_id", "signals": "signal_id"}
    for table, id in named.items():
        found += lake.query(f"SELECT {id} AS id FROM {table} WHERE list_contains($i, interaction_id)", which)["id"].to_pylist()
    return [who, *found, *(r["feedback_id"] for r in lake.query("SELECT * FROM feedback").to_pylist() if r["user"] == who)]


def state(place: Workspace) -> dict[str, object]:
    """What an erasure should leave the same, however often it died: tables, raw lines, mail, objects, git's page and tags."""
    lake = Lake(place.lake)
    segments = Segments(place.raw)
    return {
        "tables": {t: lake.query(f"SELECT * FROM {t} ORDER BY ALL").to_pylist() for t in TABLES},
        "raw": {s.name: body for s, body in segments.all()},
        "mail": files_in(place.inbox, place.outbox, place.answers),
        "objects": files_in(place.root / ".dvc/cache", place.state / "remote", roots(place)[1]),
        "tree": sorted(files_in(*(place.data / f for f in ("frozen", "curated", "dataset")))),
        "page": (place.root / "data/ERASED.md").read_text(), "tags": git(place.root, "tag"),
        "tombstones": {r["hash"] for r in Tombstones.of(place).rows},
    }  # fmt: skip


def files_in(*folders: Path) -> dict[str, bytes]:
    return {f"{f.name}/{p.relative_to(f)}": p.read_bytes() for f in folders for p in sorted(f.rglob("*")) if p.is_file()}


@pytest.mark.slow
def test_nothing_of_theirs_is_left_in_any_byte_of_the_workspace_its_history_and_both_remotes(place: Workspace):
    words = [*THEIRS, *ids(place)]
    before = holding(words, *roots(place))
    assert {w for w, _ in before} == set(words), "all of it was there, or the look would prove nothing"
    for part in ("raw", "lake", "inbox", "outbox", "answers", ".dvc/cache", "remote", "backup", "data/dataset"):
        assert any(part in name for _, name in before), part
    done = erase(place, WISH)
    left = holding(words, *roots(place))
    # Git has the reports for ever: counts, and ids of rows that name nothing any more.
    assert [(w, n) for w, n in left if not n.endswith(".git") or not re.fullmatch(r"[a-z]{2}_[0-9a-f]{24}", w)] == []
    assert (done.hits, done.where) == (0, []) and done.proof["remote backup"].files > 5
    assert not unfinished(place)


@pytest.mark.slow
def test_ids_of_rows_may_stay_in_the_changelog_for_they_name_nothing_any_more(place: Workspace):
    of_rows = [i for i in ids(place) if re.fullmatch(r"(ix|an)_[0-9a-f]{24}", i)]
    assert of_rows
    with place.changelog.open("a", encoding="utf-8") as changelog:
        changelog.write("- added, as " + ", ".join(of_rows) + "\n")
    git(place.root, "add", "data/CHANGELOG.md")
    git(place.root, *COMMITTER, "commit", "-qm", "what was added")
    done = erase(place, WISH)
    assert (done.hits, done.where) == (0, [])
    assert all(i in place.changelog.read_text(encoding="utf-8") for i in of_rows)


@pytest.mark.slow
def test_everything_of_others_is_as_it_was(place: Workspace, original: Workspace):
    erase(place, WISH)
    who = pseudonym(place)
    gone = {r["interaction_id"] for r in lived.rows(original, "interactions") if r["user"] == who}
    about = {r["candidate_id"] for r in lived.rows(original, "candidates") if r["interaction_id"] in gone}

    def of_others(row: dict) -> bool:
        return row.get("interaction_id") not in gone and row.get("candidate_id") not in about

    for table in TABLES:
        mine, theirs = lived.rows(place, table), [r for r in lived.rows(original, table) if of_others(r)]
        if table == "feedback":
            theirs = [r for r in theirs if r["user"] != who and not r["target"].startswith(FIRST[:5])]
        if table == "candidates":  # why one was chosen quoted them
            assert [r | {"reason": ""} for r in mine] == [r | {"reason": ""} for r in theirs]
            quoted = [(a, b) for a, b in zip(mine, theirs, strict=True) if a != b]
            assert 1 <= len(quoted) <= 3 and all("[erased]" in a["reason"] for a, _ in quoted)
        elif table == "signals":  # and so did what was found about others
            assert all(r in theirs for r in mine) and 1 <= len(theirs) - len(mine) <= 3
        elif table != "rejects":
            assert mine == theirs, table
    assert {r["code"] for r in lived.rows(place, "rejects")} == {"erased"}
    asked_too = [r for r in lived.rows(place, "interactions") if r["question"] == SHARED]
    assert len(asked_too) == 1, "the same question asked by another is the other's"
    # The raw lines, byte for byte; the line that both shared holds the other's span as it was.
    for segment, body in Segments(original.raw).all():
        _, now = Segments(place.raw).lines(segment.name)
        for before, after in zip(body.split(b"\n"), now, strict=False):
            assert after in (before, TOMBSTONE) or (SPOKEN[:10].encode() in before and b"Sunday mornings" in after)
    # Files of the snapshot in which nothing of theirs stood, in the cache and in both remotes.
    commit = kept.snapshots(original)[-1].commit
    files, lost = lived.digests(original, commit), next(iter(erase(place, WISH).files.values()))
    with kept.opened(place) as objects:
        for path, md5 in files.items():
            there = [objects.has(store, md5) for store in objects.stores]
            assert set(there) == {path not in lost}, path
    assert {"data/frozen/catalogue.jsonl", "data/frozen/guidelines/answer-1.md"} <= set(files) - set(lost)


@pytest.mark.slow
def test_a_rebuild_from_the_raw_segments_is_the_lake_that_is_left(place: Workspace):
    erase(place, WISH)
    before = {t: lived.rows(place, t) for t in ("interactions", "feedback", "rejects", "waiting", "parts")}
    account = rebuild(place)
    assert account.reasons == {"erased": len(before["rejects"])} and account.reject_share() == 0.0
    assert {t: lived.rows(place, t) for t in before} == before


@pytest.mark.slow
def test_the_old_logs_read_again_stay_out_and_are_counted(place: Workspace, original: Workspace):
    erase(place, WISH)
    before = {t: lived.rows(place, t) for t in ("interactions", "feedback")}
    words = [*THEIRS, *ids(original)]
    old = place.root.parent / "old"
    shutil.copytree(original.inbox, old)
    account = capture(place, [old])
    assert account.stored == 0 and account.reasons["erased"] >= 8 and account.seen > 60
    assert {t: lived.rows(place, t) for t in before} == before
    log(place.inbox / "new.jsonl", one("response-777", KIM, "s-new", "me again, after all"))
    assert capture(place).reasons == {"erased": 1}
    shutil.rmtree(old)
    (place.inbox / "new.jsonl").unlink()
    assert [x for x in holding(words, *roots(place)) if not x[1].endswith(".git")] == []


@pytest.mark.slow
def test_a_second_time_changes_nothing(place: Workspace):
    first = erase(place, WISH)
    before, commits = state(place), git(place.root, "rev-list", "--count", "HEAD")
    again = erase(place, WISH)
    assert state(place) == before and git(place.root, "rev-list", "--count", "HEAD") == commits
    assert (again.done, again.files, again.retrain, again.hits) == (first.done, first.files, first.retrain, 0)


@pytest.mark.slow
def test_killed_at_any_point_the_same_command_ends_in_the_same_place(original: Workspace, tmp_path: Path):
    straight = copied(original, tmp_path / "straight" / "work")
    erase(straight, WISH)
    want = state(straight)
    shutil.rmtree(straight.root)
    shutil.rmtree(roots(straight)[1])
    order = list(POINTS)
    random.Random(5).shuffle(order)
    for n, points in enumerate((POINTS[:13], POINTS[13:], order[:6])):
        place = copied(original, tmp_path / f"killed-{n}" / "work")
        command = [sys.executable, "-m", "tests.erasing", str(place.root), KIM, *points]
        died = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        assert len(json.loads(died.stdout)) >= len(points) // 2, died.stdout
        done = erase(place, WISH)
        assert done.hits == 0 and state(place) == want, points
        assert not unfinished(place)
        shutil.rmtree(place.root)


@pytest.mark.slow
def test_whoever_checks_an_old_snapshot_out_is_told(place: Workspace, tmp_path: Path):
    tag = kept.snapshots(place)[-1].tag
    done = erase(place, WISH)
    lost = done.files[tag]
    out = subprocess.run(["git", "-C", place.root, "checkout", tag], capture_output=True, text=True, check=True)
    assert f"Erased on {done.at[:10]}" in out.stderr and "flywheel retrain --force" in out.stderr
    assert "Erased on" in git(place.root, "log", "-1")
    dvc = Path(sys.executable).with_name("dvc")
    pulled = subprocess.run([dvc, "pull"], cwd=place.root, capture_output=True, text=True, check=False)
    assert pulled.returncode and "failed to transfer" in pulled.stderr
    assert all(md5 in pulled.stderr for md5 in lost.values()), "what dvc misses has the numbers that the note and the page list"
    assert all(md5 in out.stderr for md5 in lost.values())
    with pytest.raises(Refused, match="old commit"):
        erase(place, WISH)
    git(place.root, "checkout", "--quiet", "-")
    assert "Erased on" in why(place, tag).snapshot.erased
    # A clone has neither the note nor the hook: a tag beside the other says it, and a page on the branch.
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", place.root, clone], check=True)
    assert f"erased-{tag}" in git(clone, "tag", "--points-at", f"{tag}^{{commit}}")
    assert f"`{tag}`" in (clone / "data/ERASED.md").read_text()
    assert "Erased on" in git(clone, "tag", "--list", "-n", f"erased-{tag}")
    git(clone, "checkout", "--quiet", tag)
    (clone / ".dvc/config.local").write_text((place.root / ".dvc/config").read_text())
    rest = set(lived.digests(place, kept.snapshots(place)[-1].commit)) - set(lost)
    subprocess.run([dvc, "pull", "--quiet", *sorted(rest)], cwd=clone, check=True)
    assert rest and all((clone / p).is_file() for p in rest) and not any((clone / p).exists() for p in lost)


@pytest.mark.slow
def test_the_next_snapshot_is_made_without_them_and_made_again_to_the_byte(place: Workspace, tmp_path: Path):
    words = [*THEIRS, *ids(place)]
    erase(place, WISH)
    tag = lived.published(place)
    snapshots = kept.snapshots(place)
    assert snapshots[-1].tag == tag and len(snapshots) == 2
    pinned = lived.digests(place, snapshots[-1].commit)
    assert [x for x in holding(words, place.data, *roots(place)[1:]) if "/reports/" not in x[1]] == []
    assert pq.read_table(next((place.data / "dataset/parquet/train/sft").glob("*.parquet"))).num_rows > 3
    assert not freeze(place).changed, "an equal lake gives equal bytes"
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", place.root, clone], check=True)
    (clone / ".dvc/config.local").write_text((place.root / ".dvc/config").read_text())
    dvc = Path(sys.executable).with_name("dvc")
    subprocess.run([dvc, "pull", "--quiet", "data/frozen.dvc"], cwd=clone, check=True)
    again = [dvc, "repro", "--force", "--single-item", "curate", "build"]
    done = subprocess.run(again, cwd=clone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert lived.digests(Workspace(clone), "HEAD") == pinned and git(clone, "status", "--porcelain", "dvc.lock") == ""


@pytest.mark.slow
def test_the_models_that_learned_from_it_are_named_until_there_is_another(place: Workspace):
    done = erase(place, WISH)
    assert (done.retrain, done.judged) == (["2"], [])
    assert [bool(v["erased"]) for v in registry.versions(place)] == [False, True]
    assert why(place, "2").model.erased == done.at[:10]
    shown = as_text(read(place))
    assert f"holds what was erased on {done.at[:10]}: versions 2 learned from it; flywheel retrain --force" in shown
    lived.published(place)
    assert "holds what was erased" not in as_text(read(place))


@pytest.mark.slow
def test_tombstones_tell_nothing_and_need_the_key(place: Workspace):
    words = [*THEIRS, *ids(place)]
    erase(place, WISH)
    text = (place.state / "erased.jsonl").read_text()
    assert not any(w in text for w in words)
    known = Tombstones.of(place)
    assert known.has("user", "", pseudonym(place)) and not known.has("user", "", pseudonym(place, ADA))
    (place.state / "pseudonym.key").unlink()
    with pytest.raises(Refused, match="pseudonym"):
        Tombstones.of(place)


@pytest.mark.slow
def test_an_answer_that_comes_afterwards_is_not_kept(place: Workspace):
    sql = 'SELECT candidate_id FROM asks JOIN interactions USING (interaction_id) WHERE "user" = $u'
    theirs = Lake(place.lake).query(sql, {"u": pseudonym(place)})
    rows = [json.loads(x) for p in place.outbox.rglob("batch.jsonl") for x in p.read_bytes().splitlines()]
    late = next(r for r in rows if r["candidate_id"] == theirs["candidate_id"][0].as_py())
    erase(place, WISH)
    note = "I remember what they wrote about the saddle"
    given = {k: late[k] for k in ("batch_id", "candidate_id", "kind", "content_hash")}
    said_now = {"annotator": "cleo", "value": {"verdict": "right"}, "note": note, "time": "2026-01-07T09:00:00Z"}
    log(place.answers / "late.jsonl", given | said_now)
    account = receive(place)
    assert account.reasons == {"erased": 1}
    (place.answers / "late.jsonl").unlink()
    assert holding([note], place.data) == []


@pytest.mark.slow
def test_exports_lose_their_lines_and_who_has_copies_is_named(place: Workspace):
    tag = kept.snapshots(place)[-1].tag
    out = place.root / "out" / "openai-sft" / "sft.jsonl"
    log(out, {"messages": [{"role": "user", "content": SECRET}]}, {"messages": [{"role": "user", "content": "another's"}]})
    other = place.root / "out" / "sft.parquet"
    manifest = out.with_name("export-manifest.json")
    manifest.write_text(json.dumps({"example": SECRET, "read": 2}))
    pq.write_table(pa.table({"prompt": [SECRET, "another's"]}), other)
    notes = [{"out": path, "snapshot": tag} for path in (str(out.parent), "out/sft.parquet", "lost")]
    (place.state / "exports.jsonl").write_bytes(b"".join(orjson.dumps(n) + b"\n" for n in notes))
    done = erase(place, WISH)
    assert [json.loads(x)["messages"][0]["content"] for x in out.read_bytes().splitlines()] == ["another's"]
    assert not other.exists() and done.hits == 0
    assert json.loads(manifest.read_text()) == {"example": "[erased]", "read": 2}
    assert any("lost (it is not there any more)" in text for text in done.by_hand)


@pytest.mark.slow
def test_a_remote_that_can_not_be_reached_is_told_of_with_the_objects_to_delete(place: Workspace):
    backup = roots(place)[1]
    hidden = backup.with_name("elsewhere")
    backup.rename(hidden)
    backup.write_text("no folder")
    done = erase(place, WISH)
    told = [t for t in done.by_hand if t.startswith("remote backup")]
    assert told and len(re.findall(r"[0-9a-f]{32}", told[0])) > 5
    assert any("remote backup" in t for t in done.by_hand if "looked into" in t)
    backup.unlink()
    hidden.rename(backup)
    assert holding([SECRET], backup)
    erase(place, WISH)
    assert holding([SECRET], backup) == []


@pytest.mark.slow
def test_databases_and_artifacts_lose_the_texts_and_keep_the_rest(place: Workspace):
    with tracking.asking(place) as client:
        pass
    run = client.create_run(tracking.experiment(client, place), run_name="a run")
    client.log_param(run.info.run_id, "example", SECRET[:200])
    client.log_param(run.info.run_id, "other", "something of nobody's")
    client.log_text(run.info.run_id, json.dumps({"example": SECRET, "kept": "yes"}), "report.json")
    prefect = place.state / "prefect" / "prefect.db"
    prefect.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(prefect) as db:
        db.execute("CREATE TABLE artifact (id TEXT PRIMARY KEY, data JSON, blob BLOB)")
        long = "x" * 9000 + COMMENT + "y" * 9000  # over several pages
        db.execute("INSERT INTO artifact VALUES (?, ?, ?)", ("1", json.dumps({"example": SPOKEN, "n": 1}), long.encode()))
        db.execute("INSERT INTO artifact VALUES ('2', '{\"example\": \"kept\"}', NULL)")
    (place.state / "flow.log").write_text(f"looked at {SECRET}\nand at nothing\n")
    done = erase(place, WISH)
    assert done.hits == 0 and holding([SECRET, COMMENT, SPOKEN], place.state) == []
    params = client.get_run(run.info.run_id).data.params
    assert "[erased]" in params["example"] and params["other"] == "something of nobody's"
    with sqlite3.connect(prefect) as db:
        (one, two) = db.execute("SELECT data FROM artifact ORDER BY id").fetchall()
    assert json.loads(one[0])["n"] == 1 and json.loads(two[0]) == {"example": "kept"}
    assert "and at nothing" in (place.state / "flow.log").read_text()


@pytest.mark.slow
def test_the_command_says_what_would_go_then_what_went_and_exits_by_what_is_left(place: Workspace):
    before = state_of_files(place)
    planned = flywheel("erase", "--user", KIM, "--dry-run", "--workspace", place.root)
    assert planned.code == 0 and "would erase" in planned.out and state_of_files(place) == before
    done = flywheel("erase", "--user", KIM, "--json", "--workspace", place.root)
    assert done.code == 0, done.err
    document = done.document()
    assert document["hits"] == 0 and document["retrain"] == ["2"] and document["done"]["data/lake"]["interactions"] == 5
    assert KIM not in done.out and KIM not in (place.state / "erasures" / f"{document['id']}.json").read_text()
    assert flywheel("erase", "--workspace", place.root).code == 2
    assert flywheel("erase", "--user", "nobody-99", "--workspace", place.root).code == 2
    # In a file that nobody knows what to do about, they are found, and the exit code says so.
    (place.root / "notes.bin").write_bytes(b"\0\1" + KIM.encode())
    again = flywheel("erase", "--user", KIM, "--workspace", place.root)
    assert again.code == 7 and "notes.bin" in again.out


def state_of_files(place: Workspace) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in place.data.rglob("*") if p.is_file()}


@pytest.mark.slow
def test_it_refuses_while_others_write(place: Workspace):
    with place.lock("lake"), pytest.raises(Refused) as refused:
        erase(place, WISH)
    assert refused.value.exit_code == BUSY and not unfinished(place)


@pytest.mark.slow
def test_one_that_was_killed_is_finished_without_saying_whose_it_was(place: Workspace):
    command = [sys.executable, "-m", "tests.erasing", str(place.root), KIM, "lake.Lake.rewrite:1"]
    died = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(died.stdout) == ["lake.Lake.rewrite:1"]
    (journal,) = unfinished(place)
    assert Journal.load(journal).wish == WISH and "is not finished: flywheel erase --resume" in as_text(read(place))
    (done,) = finish(place)
    assert isinstance(done, Erased) and done.hits == 0 and not unfinished(place)


# Without git: whose a record is.


@pytest.fixture
def small(tmp_path: Path) -> Workspace:
    return workspace(tmp_path / "work")


def questions(place: Workspace) -> list[str]:
    return Lake(place.lake).query("SELECT question FROM interactions ORDER BY ALL")["question"].to_pylist()


def one(name: str, user: str, session: str, text: str, **more: object) -> dict:
    return asked(name, user_id=user, session_id=session, messages=[{"role": "user", "content": text}], **more)


def test_a_conversation_is_its_users_also_where_a_line_does_not_name_them(small: Workspace):
    log(small.inbox / "a.jsonl", one("a", "u-1", "s-1", "the first question of mine"), one("b", "", "s-1", "and without my name"),
        one("c", "u-2", "s-2", "of another"))  # fmt: skip
    capture(small)
    erase(small, Wish(user="u-1"))
    assert questions(small) == ["of another"]


def test_where_several_people_share_a_session_only_their_own_turns_go(small: Workspace):
    two = one("a", "u-1", "room", "mine in the room, all mine"), one("b", "u-2", "room", "another's in the room")
    log(small.inbox / "a.jsonl", *two)
    capture(small)
    done = erase(small, Wish(user="u-1"))
    assert questions(small) == ["another's in the room"] and done.looked_for["sessions with other people in them"] == 1
    erase(small, Wish(session="room"))
    assert questions(small) == []


def test_the_same_ids_in_another_tenant_are_somebody_else(small: Workspace):
    log(small.inbox / "a.jsonl", one("a", "u-1", "s-1", "in the one house", tenant="acme"),
        one("a", "u-1", "s-1", "in the other house", tenant="bolt"),
        said("f", "a", user_id="u-2", tenant="bolt", comment="about the other house"))  # fmt: skip
    capture(small)
    with pytest.raises(Refused, match="'acme', 'bolt'"):
        erase(small, Wish(user="u-1"))
    erase(small, Wish(user="u-1", tenant="acme"))
    assert questions(small) == ["in the other house"] and Lake(small.lake).count("feedback") == 1


def test_one_interaction_goes_by_the_applications_own_id_and_the_rest_of_the_conversation_stays(small: Workspace):
    log(small.inbox / "a.jsonl", one("a", "u-1", "s-1", "this one, please"), one("b", "u-1", "s-1", "not this one, it may stay"),
        said("f", "a"), said("g", "b"))  # fmt: skip
    capture(small)
    erase(small, Wish(interaction="a"))
    assert questions(small) == ["not this one, it may stay"]
    assert Lake(small.lake).query("SELECT target FROM feedback")["target"].to_pylist() == ["b"]
    new = one("c", "u-1", "s-1", "and a new one of the day after")
    log(small.inbox / "b.jsonl", one("a", "u-1", "s-1", "this one, please"), new)
    assert capture(small).reasons == {"erased": 1}


def test_who_only_rated_is_forgotten_too(small: Workspace):
    log(small.inbox / "a.jsonl", one("a", "u-1", "s-1", "somebody's question here"),
        said("f", "a", user_id="u-9", comment="I know who asked this"))  # fmt: skip
    capture(small)
    done = erase(small, Wish(user="u-9"))
    assert Lake(small.lake).count("feedback") == 0 and questions(small) == ["somebody's question here"] and done.hits == 0


def test_logs_that_are_no_lines_are_taken_apart_and_read_the_same_afterwards(small: Workspace):
    mine, others = one("a", "u-1", "s-1", "packed and all mine"), one("b", "u-2", "s-2", "packed, of another")
    (small.inbox / "a.jsonl.gz").write_bytes(gzip.compress(b"".join(orjson.dumps(d) + b"\n" for d in (mine, others))))
    listed = [one("c", "u-1", "s-1", "in a list, and mine"), one("d", "u-2", "s-2", "in a list, of another")]
    (small.inbox / "b.json").write_bytes(orjson.dumps(listed))
    with zipfile.ZipFile(small.inbox / "c.zip", "w") as z:
        z.writestr("c.jsonl", orjson.dumps(mine))
    capture(small)
    done = erase(small, Wish(user="u-1"))
    assert questions(small) == ["in a list, of another", "packed, of another"]
    left = b"".join(p.read_bytes() for p in small.inbox.rglob("*.jsonl"))
    assert left.count(b"of another") == 2 and b"mine" not in left
    assert capture(small).stored == 0
    assert any("c.zip" in t for t in done.by_hand) and done.where == ["data/inbox/c.zip"], "what can't be taken apart is found"


def test_a_growing_log_is_overwritten_in_place(small: Workspace):
    two = one("a", "u-1", "s-1", "mine, and the log grows on"), one("b", "u-2", "s-2", "of another person")
    path = log(small.inbox / "a.jsonl", *two)
    capture(small)
    inode, size = path.stat().st_ino, path.stat().st_size
    with path.open("ab") as app:  # the application has it open, and writes on after the erasure
        erase(small, Wish(user="u-1"))
        assert (path.stat().st_ino, path.stat().st_size) == (inode, size)
        app.write(orjson.dumps(one("c", "u-2", "s-2", "written after it")) + b"\n")
    assert b"mine" not in path.read_bytes()
    assert capture(small).stored == 1 and questions(small) == ["of another person", "written after it"]


def test_what_waits_in_the_spool_is_theirs_too(small: Workspace):
    small.spool.mkdir()
    edge = Edge(small.pseudonym_key())
    docs = [edge.document(d) for d in (one("a", "u-1", "s-1", "mine in the spool"), one("b", "u-2", "s-2", "of another there"))]
    log(small.inbox / "x.jsonl", one("c", "u-1", "s-9", "another conversation of mine"))
    capture(small)
    log(small.spool / "1.jsonl", *docs)
    erase(small, Wish(user="u-1"))
    assert b"mine" not in (small.spool / "1.jsonl").read_bytes()
    capture(small)
    assert questions(small) == ["of another there"]


def test_who_comes_back_with_a_backup_stops_the_next_snapshot_and_goes_again(small: Workspace):
    log(small.inbox / "a.jsonl", one("a", "u-1", "s-1", "mine, from the backup"), one("b", "u-2", "s-2", "of another one"),
        one("c", "u-3", "s-3", "this conversation went"), said("f", "b", user_id="u-4", comment="who only rated"))  # fmt: skip
    capture(small)
    for folder in ("lake", "raw"):
        shutil.copytree(small.data / folder, small.root / "backup" / folder)
    refuse_erased(small)
    for wish in (Wish(user="u-1"), Wish(session="s-3"), Wish(user="u-4")):
        erase(small, wish)
    refuse_erased(small)
    assert again(small) == []
    for folder in ("lake", "raw"):
        shutil.rmtree(small.data / folder)
        (small.root / "backup" / folder).rename(small.data / folder)
    assert len(questions(small)) == 3
    for look in (refuse_erased, freeze):
        with pytest.raises(Refused, match="rows of 3 who were erased"):
            look(small)
    assert rebuild(small).reasons == {"erased": 3} and questions(small) == ["of another one"]
    done = again(small)
    assert done and all(d.hits == 0 for d in done) and Lake(small.lake).count("feedback") == 0
    assert holding(["mine, from the backup", "who only rated"], small.data) == []
    refuse_erased(small)


def test_what_can_not_be_looked_into_is_named_and_not_taken_for_clean(small: Workspace):
    log(small.inbox / "a.jsonl", one("a", "u-1", "s-1", "the question of one who leaves"))
    capture(small)
    (small.root / "table.parquet").write_bytes(b"PAR1 of which the rest is lost PAR1")
    (small.root / "log.gz").write_bytes(gzip.compress(b"the question of one who leaves" * 99)[:-20])
    done = erase(small, Wish(user="u-1"))
    told = sorted(t.split(": ")[1] for t in done.by_hand if t.startswith("could not be looked into"))
    assert told == ["log.gz", "table.parquet"]


def test_what_a_process_that_died_half_wrote_goes_and_what_one_writes_now_stays(small: Workspace):
    log(small.inbox / "a.jsonl", one("a", "u-1", "s-1", "mine, and half written too"))
    capture(small)
    dead, alive = small.raw / ".00000009-ab.jsonl.zst.99999999.tmp", small.outbox / f".bt_1.{os.getppid()}.tmp"
    dead.write_bytes(b"mine, and half written too")
    alive.mkdir(parents=True)
    (small.data / "lake.rebuilt").mkdir()
    (small.data / "lake.rebuilt" / "rows").write_bytes(b"mine, and half written too")
    (small.lake / "interactions" / ".uncommitted-1.parquet").write_bytes(b"mine, and half written too")
    assert erase(small, Wish(user="u-1")).hits == 0
    assert not dead.exists() and alive.exists() and holding(["half written too"], small.root) == []


def test_a_table_is_written_anew_where_they_are_and_nowhere_else(small: Workspace):
    for day in range(3):
        asked_then = [one(f"{day}-{n}", f"u-{day}", f"s-{day}", f"question {n} of day {day}") for n in range(4)]
        log(small.inbox / f"{day}.jsonl", *asked_then)
        capture(small)
    files = {p.name: p.read_bytes() for p in (small.lake / "interactions").glob("*.parquet")}
    assert len(files) == 3
    erase(small, Wish(user="u-1"))
    now = {p.name: p.read_bytes() for p in (small.lake / "interactions").glob("*.parquet")}
    assert len(now) == 2 and now.items() <= files.items()
    assert len(questions(small)) == 8
    log(small.inbox / "3.jsonl", one("3-0", "u-3", "s-3", "the table can be appended to"))
    capture(small)
    assert len(questions(small)) == 9


def test_a_line_of_an_exporter_loses_their_spans_and_no_others():
    document = json.loads(lived.spans())
    edge = Edge(b"a key of this test")
    kept_line = orjson.dumps(edge.document(document))
    theirs = Facts({("user", "", edge.pseudonym("", KIM))})
    rest = without(kept_line, theirs, "inbox")
    assert rest is not None and not rest.is_tombstone and rest.others_lost == ()
    assert b"Zwetschgen" not in rest.line and edge.pseudonym("", KIM).encode() not in rest.line
    assert b"Sunday mornings" in rest.line and edge.pseudonym("", BEN).encode() in rest.line
    assert without(rest.line, theirs, "inbox") is None
    both = Facts({("user", "", edge.pseudonym("", who)) for who in (KIM, BEN)})
    assert without(kept_line, both, "inbox").is_tombstone


LETTERS = st.characters(codec="utf-8")


@given(st.lists(st.text(LETTERS, max_size=80), max_size=6), st.text(LETTERS, min_size=1, max_size=120))
def test_a_text_is_found_however_json_wraps_it(around: list[str], text: str):
    looked_for = pieces(text)
    needles = Needles(texts=looked_for)
    for wrapped in (json.dumps([*around, text]), json.dumps(json.dumps({"a": text}, ensure_ascii=False), ensure_ascii=False)):
        assert needles.found(wrapped.encode()) >= set(looked_for)


def test_an_id_is_found_as_a_whole_word_only():
    needles = Needles(ids=["session-1", "ix_0123456789abcdef01234567"])
    assert needles.found(b'{"s":"session-1"}') == {"session-1"}
    assert needles.found(b'"session-17" "my-session-1" ix_0123456789abcdef012345678') == set()
    assert needles.found(b"a ix_0123456789abcdef01234567,") == {"ix_0123456789abcdef01234567"}
    assert needles.lines(b'a\n"session-1"\n\nsession-1\n') == {1, 3}


def test_a_piece_that_stands_in_a_longer_one_hides_neither():
    needles = Needles(texts=["when do I see my", "when do I see my refund on the card"])
    assert needles.found(b"when do I see my refund on the card") == needles.texts


def test_without_git_and_without_snapshots_the_rest_is_erased(small: Workspace):
    assert not (small.root / ".git").exists()
    log(small.inbox / "a.jsonl", one("a", "u-1", "s-1", "no git around here at all"))
    capture(small)
    assert erase(small, Wish(user="u-1")).hits == 0
