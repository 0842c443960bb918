"""The journal of champions: who is champion follows from what happened, and two who decide at once leave one winner."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tasks.live.registry import journal
from tasks.live.registry.journal import (
    ASKED,
    DECLINED,
    FIRST,
    MIRRORED,
    MOVED,
    PROMOTED,
    RECORDED,
    ROLLED_BACK,
    Entry,
    Journal,
)
from tasks.live.workspace import Workspace


def lived(*entries: Entry) -> Journal:
    return Journal(entries)


def test_rollbacks_go_back_one_by_one_and_what_was_rolled_back_is_known():
    now = lived(Entry(FIRST, "a"), Entry(PROMOTED, "b", "a"), Entry(PROMOTED, "c", "b"), Entry(ROLLED_BACK, "b", "c"))
    assert now.champion == "b" and [e.digest for e in now.champions] == ["a", "b"]
    assert now.was_rolled_back("c") and not now.was_rolled_back("b")
    again = lived(*now.entries, Entry(ROLLED_BACK, "a", "b"))
    assert again.champion == "a" and len(again.champions) == 1
    later = lived(*again.entries, Entry(PROMOTED, "d", "a"))
    assert [e.digest for e in later.champions] == ["a", "d"], "what was left by rollbacks is not come back to"


def test_a_move_in_mlflow_can_be_rolled_back_as_well():
    now = lived(Entry(FIRST, "a"), Entry(PROMOTED, "b", "a"), Entry(MOVED, "a", "b"))
    assert now.champion == "a" and now.champions[-2].digest == "b"


def test_a_version_is_known_once_it_is_recorded():
    now = lived(Entry(FIRST, "a", snapshot="base"), Entry(RECORDED, "b", version="2", snapshot="snapshot-1"))
    assert (now.version("a"), now.version("b"), now.snapshot("a")) == ("", "2", "base")
    assert now.recorded("snapshot-1").version == "2" and now.recorded("snapshot-2") is None
    assert now.challenger.digest == "b"


def test_changes_after_the_last_mirroring_are_owed():
    now = lived(Entry(FIRST, "a"), Entry(MIRRORED, "a"), Entry(PROMOTED, "b", "a"), Entry(ASKED, "c", "b"))
    assert [e.action for e in now.unmirrored()] == [PROMOTED] and now.mirrored == "a"


def test_a_question_is_about_one_challenger_and_one_champion():
    now = lived(Entry(FIRST, "a"), Entry(ASKED, "b", "a"), Entry(DECLINED, "b", "a", by="kim"))
    asked, declined = now.question("a", "b")
    assert asked is not None and declined.by == "kim"
    assert now.question("x", "b") == (None, None)


def test_of_many_who_promote_at_once_one_wins_and_nothing_is_lost(tmp_path: Path):
    place = Workspace(tmp_path)
    journal.add(place, lambda now: [Entry(FIRST, "a")])

    def promote(n: int) -> None:
        journal.add(place, lambda now: [Entry(PROMOTED, f"b{n}", "a", by=str(n))] if now.champion == "a" else [])
        journal.add(place, lambda now: [Entry(ASKED, f"q{n}")])

    threads = [threading.Thread(target=promote, args=(n,)) for n in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    now = journal.read(place)
    assert sum(e.action == PROMOTED for e in now.entries) == 1
    assert sum(e.action == ASKED for e in now.entries) == 12
    assert all(e.at.endswith("Z") for e in now.entries)


def test_a_decision_that_raises_changes_nothing(tmp_path: Path):
    place = Workspace(tmp_path)
    journal.add(place, lambda now: [Entry(FIRST, "a")])
    before = (tmp_path / ".flywheel" / "registry" / "journal.jsonl").read_bytes()

    def refuse(now: Journal) -> list[Entry]:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        journal.add(place, refuse)
    assert (tmp_path / ".flywheel" / "registry" / "journal.jsonl").read_bytes() == before


def test_the_word_that_promotes_is_the_verdicts():
    from tasks import verdict
    from tasks.live.registry import promotion

    assert promotion.PROMOTE == verdict.PROMOTE


def test_a_model_brings_the_code_and_the_needs_of_its_own_kind_only():
    from tasks.live.registry import packaged

    names = {kind: {p.relative_to(packaged.ROOT).as_posix() for p in packaged.code(kind)} for kind in ("answers", "llm")}
    assert "tasks/policy/answers.py" in names["answers"] and not any("policy/llm" in n for n in names["answers"])
    assert "tasks/policy/llm/policy.py" in names["llm"]
    assert not any("live" in n or "stages" in n for found in names.values() for n in found)
    needed = packaged.requirements("answers")
    assert any(r.startswith("numpy==") for r in needed) and not any(r.startswith("torch") or "+" in r for r in needed)
