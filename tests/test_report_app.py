"""The report's server: its own pages, to this machine's own browser, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tasks.live.report import FOLDER
from tasks.live.report.app import application
from tests.handmade import workspace


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    place = workspace(tmp_path / "work")
    folder = place.state / FOLDER
    folder.mkdir()
    (folder / "index.html").write_text("the turns", encoding="utf-8")
    (folder / "turn.json").write_text("{}", encoding="utf-8")
    (place.state / "pseudonym.key").write_text("secret", encoding="utf-8")
    (folder / "key.html").symlink_to(place.state / "pseudonym.key")
    (place.state / "other.html").write_text("secret", encoding="utf-8")
    return TestClient(application(place), base_url="http://127.0.0.1:8096")


def test_the_index_is_shown(client: TestClient):
    answer = client.get("/")
    assert (answer.status_code, answer.text) == (200, "the turns")
    assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["content-type"].startswith("text/html")


OTHERS = ["/key.html", "/turn.json", "/..%2fother.html", "/../other.html", "/%2e%2e/other.html", "/nothing.html", "/%00.html"]


@pytest.mark.parametrize("path", OTHERS)
def test_nothing_but_its_own_pages_is(client: TestClient, path: str):
    answer = client.get(path)
    assert answer.status_code == 404 and "secret" not in answer.text


def test_a_web_page_that_rebinds_its_name_gets_nothing(client: TestClient):
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 403
