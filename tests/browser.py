"""A real headless Chromium for the tests of the review page, and the page's server beside it."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from tasks.live.review.app import application
from tasks.live.workspace import Workspace

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def chromium() -> str:
    """Its path. Without one the tests are skipped where a person runs them, and fail where they must not be missing."""
    for name in NAMES:
        if path := shutil.which(name):
            return path
    why = "no Chromium is installed: `make browser` installs it, or says why it can't"
    if os.environ.get("CI") or os.environ.get("FLYWHEEL_REQUIRE_BROWSER"):
        pytest.fail(why)
    pytest.skip(why)


@contextlib.contextmanager
def served(place: Workspace, **options: Any) -> Iterator[str]:
    """The page's server on a free port, in this process: the tests look at its files. Gives its address."""
    config = uvicorn.Config(application(place, **options), host="127.0.0.1", port=0, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


class Desk:
    """A person before the page: what they see, and everything that went wrong or out while they looked."""

    def __init__(self, page: Any, address: str, place: Workspace):
        self.page, self.address, self.place = page, address, place
        self.asked: list[str] = []  # addresses of requests
        self.errors: list[str] = []
        page.on("request", lambda r: self.asked.append(r.url))
        page.on("pageerror", lambda e: self.errors.append(str(e)))
        page.on("console", lambda m: m.type in ("error", "warning") and self.errors.append(m.text))
        page.on("dialog", lambda d: (self.errors.append(f"dialog: {d.message}"), d.dismiss()))

    def sign_in(self, name: str = "ana", expert: bool = False) -> Desk:
        self.page.goto(self.address)
        self.page.fill("#name", name)
        if expert:
            self.page.check("#expert")
        self.page.keyboard.press("Enter")
        self.page.locator("#work:not([hidden]), #done:not([hidden])").wait_for()
        return self

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def says(self, text: str) -> None:
        self.page.locator("#message", has_text=text).wait_for()

    def quiet(self) -> bool:
        """Nothing ran that should not, and nothing was asked of any other address."""
        return not self.errors and all(url.startswith(self.address) for url in self.asked)
