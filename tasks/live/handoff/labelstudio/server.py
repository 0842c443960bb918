"""A Label Studio server: its REST API, the tokens that it takes, and what it says when something is wrong.

    server = connect()                  from FLYWHEEL_LABELSTUDIO_URL and FLYWHEEL_LABELSTUDIO_TOKEN
    server.get("/api/version")  ->  {"release": "1.23.2", …}

A personal access token (a JWT) is no key but a pledge: it is exchanged for one that lives five minutes, and exchanged again before
that is over. A legacy token (40 hex digits) is sent as it is. The SDK is not used: it brings pandas and OpenCV.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import os
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from tasks.errors import UNEXPECTED, Refused

URL, TOKEN = "FLYWHEEL_LABELSTUDIO_URL", "FLYWHEEL_LABELSTUDIO_TOKEN"
OLDEST = (1, 23)  # before it offsets were UTF-16 units, and personal tokens were different
NEWEST_TRIED = (1, 23)
TIMEOUT_S = 120.0  # an import of 1,000 candidates takes seconds, on a busy server more
EARLY_S = 60.0  # a token is renewed this long before it ends
LIFE_S = 300.0  # of a token that does not say
PAGE = 1000
TOKENS = "/user/account/personal-access-token"  # the page where people make one
GONE = 404


def connect(environment: Mapping[str, str] = os.environ) -> Server:
    """Raises Refused where no server or no token was named, or for an address to which a token must not be sent."""
    url, token = environment.get(URL, "").rstrip("/"), environment.get(TOKEN, "").strip()
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise Refused(f"{URL} is no address of a Label Studio", f"set {URL}=http://127.0.0.1:8080 and {TOKEN}")
    if parts.scheme == "http" and not _is_here(parts.hostname):
        raise Refused(f"{URL} is http: the token and the logs would travel in the clear", "use https, or a server on this machine")
    if not token:
        raise Refused(f"{TOKEN} is not set", f"make one in {url}{TOKENS} and set {TOKEN}")
    return Server(url, token)


class Server:
    """One server. Every call returns the decoded answer, or raises Refused."""

    def __init__(self, url: str, token: str, clock: Callable[[], float] = time.monotonic):
        self.url, self._token, self._clock = url, token, clock
        self._access, self._ends = "", 0.0
        # trust_env: neither a proxy nor a .netrc of this machine is asked; the server is what the operator named.
        self.http = httpx.Client(base_url=url, timeout=TIMEOUT_S, follow_redirects=False, trust_env=False)

    def get(self, path: str, missing_ok: bool = False, **params: Any) -> Any:
        return self._call("GET", path, missing_ok=missing_ok, params=params)

    def post(self, path: str, body: Any, **params: Any) -> Any:
        return self._call("POST", path, body, params=params)

    def patch(self, path: str, body: Any) -> Any:
        return self._call("PATCH", path, body)

    def delete(self, path: str) -> None:
        """What is gone already is no error."""
        self._call("DELETE", path, missing_ok=True)

    def version(self) -> tuple[int, ...]:
        """Raises Refused for a Label Studio that is older than what this was written for."""
        said = self.get("/api/version")
        release = str(said.get("release", "")) if isinstance(said, dict) else ""
        found = tuple(int(n) for n in re.findall(r"\d+", release)[:3])
        if found < OLDEST:
            raise Refused(
                f"{self.url} is Label Studio {release or '(it does not say which)'}, whose offsets and tokens are others",
                "pip install 'label-studio==1.23.2'",
            )
        return found

    def scripts_run(self) -> bool:
        """Whether the pages only report scripts that came with a text, instead of stopping them."""
        return "content-security-policy" not in self._send("GET", "/api/version", None, None).headers

    def projects(self, prefix: str) -> list[dict[str, Any]]:
        """The columns PROJECT of the projects whose title begins so; the oldest first."""
        found, page = [], 1
        while True:
            answer = self.get("/api/projects/", page=page, page_size=PAGE, include=PROJECT)
            found += answer["results"]
            if not answer.get("next"):
                return sorted((p for p in found if str(p["title"]).startswith(prefix)), key=lambda p: p["id"])
            page += 1

    def tasks(self, project: int, include: str, since: str = "") -> list[dict[str, Any]]:
        """All tasks of a project, by id: only the columns named. `since`: those that were changed after this time.

        Pages are counted from the start, so that a task which is deleted meanwhile moves another out of sight: a listing that
        came out shorter than the server says is made again.
        """
        for _ in range(5):
            found: dict[int, dict[str, Any]] = {}
            for page in self._pages(project, {"include": include}, _changed(since)):
                total = page["total"]
                found |= {t["id"]: t for t in page["tasks"]}
            if len(found) >= total:
                break
        return [found[i] for i in sorted(found)]

    def begun(self, project: int) -> int:
        """How many of its tasks have an answer that was begun and not submitted."""
        draft = {"filter": "filter:tasks:draft_exists", "operator": "equal", "type": "Boolean", "value": True}
        query = json.dumps({"filters": {"conjunction": "and", "items": [draft]}})
        return int(self.get("/api/tasks", project=project, page_size=1, include="id", query=query)["total"])

    def whole_tasks(self, project: int, ids: Collection[int], since: str = "") -> Iterator[dict[str, Any]]:
        """These tasks with their annotations; one that is gone is left out."""
        span = {
            "filter": "filter:tasks:id",
            "operator": "in",
            "type": "Number",
            "value": {"min": min(ids), "max": max(ids)},
        }
        for page in self._pages(project, {"fields": "all"}, [span, *_changed(since)]):
            yield from (t for t in page["tasks"] if t["id"] in ids)

    def _pages(self, project: int, columns: dict[str, str], filters: list[dict]) -> Iterator[dict[str, Any]]:
        query = {"filters": {"conjunction": "and", "items": filters}, "ordering": ["tasks:id"]}
        number, seen = 1, 0
        while True:
            where = {"project": project, "page": number, "page_size": PAGE, "query": json.dumps(query)} | columns
            page = self.get("/api/tasks", missing_ok=number > 1, **where)
            if page is None:  # the last page is gone, because tasks were deleted
                return
            yield page
            seen += len(page["tasks"])
            if seen >= page["total"] or not page["tasks"]:
                return
            number += 1

    def _call(self, method: str, path: str, body: Any = None, missing_ok: bool = False, params: dict | None = None) -> Any:
        answer = self._send(method, path, body, params)
        if answer.status_code == 401 and self._access:  # ended early, by its own clock: exchanged once more
            self._access = ""
            answer = self._send(method, path, body, params)
        status = answer.status_code
        if missing_ok and status == GONE:
            return None
        if status in (401, 403):
            raise Refused(
                f"{self.url} refuses the token of {TOKEN} ({status}): {_said(answer)}",
                f"make a new one in {self.url}{TOKENS}; a legacy token must be allowed by the organization",
            )
        if not 200 <= status < 300:
            raise Refused(f"{method} {self.url}{path} answered {status}: {_said(answer)}", _HINT, UNEXPECTED)
        if status == 204 or not answer.content:
            return None
        try:
            return answer.json()
        except ValueError:
            raise Refused(f"{self.url}{path} is no Label Studio: it answered no JSON", f"check {URL}") from None

    def _send(self, method: str, path: str, body: Any, params: dict | None) -> httpx.Response:
        headers = {"authorization": self._authorization()}
        content = None if body is None else json.dumps(body).encode()
        if content is not None:
            headers["content-type"] = "application/json"
        return self._tried(method, path, content=content, headers=headers, params=params)

    def _tried(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            self.http.cookies.clear()  # every answer opens a session, which would outlive the token
            return self.http.request(method, path, **more)
        except httpx.TimeoutException:
            raise Refused(f"{self.url} did not answer {method} {path} in {TIMEOUT_S:.0f} s", _HINT, UNEXPECTED) from None
        except httpx.HTTPError as e:
            check = f"start it, or check {URL} with: curl {self.url}/health"
            raise Refused(f"{self.url} does not answer: {e}", check, UNEXPECTED) from None

    def _authorization(self) -> str:
        if self._token.count(".") != 2:
            return f"Token {self._token}"
        if not self._access or self._clock() > self._ends - EARLY_S:
            answer = self._tried("POST", "/api/token/refresh/", json={"refresh": self._token})
            if answer.status_code != 200:
                raise Refused(
                    f"{self.url} does not exchange the token of {TOKEN} ({answer.status_code}): {_said(answer)}",
                    f"make a new one in {self.url}{TOKENS}",
                )
            self._access = str(answer.json()["access"])
            self._ends = self._clock() + _life(self._access)
        return f"Bearer {self._access}"


PROJECT = "id,title,label_config,task_number,num_tasks_with_annotations"
_HINT = "look into its log; the same command goes on from there, and does nothing twice"


def _changed(since: str) -> list[dict[str, Any]]:
    if not since:
        return []
    return [{"filter": "filter:tasks:updated_at", "operator": "greater", "type": "Datetime", "value": since}]


def _life(token: str) -> float:
    """Seconds that an access token lives by its own words; the two clocks need not agree, so the length is what counts."""
    try:
        middle = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
        return float(claims["exp"]) - float(claims["iat"])
    except (ValueError, KeyError, TypeError, IndexError):
        return LIFE_S


def _said(answer: httpx.Response) -> str:
    try:
        said = answer.json()
        return str(said.get("detail") or said.get("validation_errors") or said)[:500] if isinstance(said, dict) else str(said)[:500]
    except ValueError:
        return answer.reason_phrase or "no reason"


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
