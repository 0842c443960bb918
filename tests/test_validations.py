"""The page in a workspace: what validation said of earlier snapshots comes from git, and showing it again changes nothing."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.live import validations
from tasks.live.repository import git
from tasks.live.workspace import Workspace
from tasks.records import canonical
from tests import small
from tests.test_validate_page import MANY, finding, shown

pytestmark = pytest.mark.slow


def says(place: Workspace, document: dict[str, Any]) -> None:
    (place.reports / "validation.json").write_bytes(canonical(document) + b"\n")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Two published snapshots, the newer with a warning; a validation that failed lies in the workspace."""
    # Stages are run as `python`, by DVC, in a shell: this one.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    place = small.workspace(tmp_path / "w")
    says(place, shown(MANY[2:]))
    small.publish(place, 30)
    says(place, shown([finding(severity="warning", code="imbalance"), *MANY[2:]]))
    small.publish(place, 40)
    small.build(place, 50)
    says(place, shown(MANY))
    return place


def test_the_history_is_that_of_the_snapshots_the_newest_first(place: Workspace):
    past = validations.history(place)
    assert [p.document["failed"]["warning"] for p in past] == [1, 0]
    assert validations.history(place, most=1) == past[:1]


def test_the_page_of_a_failed_validation_is_written_too(place: Workspace):
    path = validations.show(place)
    assert path == place.reports / "validation.html"
    text = path.read_text(encoding="utf-8")
    assert "nothing was published" in text and all(p.tag in text for p in validations.history(place))


def test_a_page_once_published_is_the_same_when_it_is_shown_again(place: Workspace):
    says(place, shown(MANY[2:4]))
    first = validations.show(place).read_bytes()
    small.publish(place, 60)
    assert validations.show(place).read_bytes() == first
    assert git(place.root, "status", "--porcelain") == ""
    assert git(place.root, "ls-files", "data/reports/validation.html") != ""
