"""A real Label Studio for the tests and the benchmark, and people who answer in it as its page does.

It runs in an environment of its own (`make labelstudio`), on loopback, with an empty database: its first start takes a minute.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from tasks.kinds import CHOICE, CHOICES, RANKING, RATING, SPANS, TEXT, Field, Kind
from tasks.live.handoff.labelstudio.config import ALL_MARKED, NONE, NOTHING, UNACCEPTABLE, control
from tests.imports import ROOT

PROGRAM = ROOT / ".venv-labelstudio" / "bin" / "label-studio"
ADMIN, PASSWORD = "admin@example.org", "only-for-tests-1"
START_S = 420
ABSENT = f"{PROGRAM.relative_to(ROOT)} is not there: run `make labelstudio` (it needs the package registry)"


@dataclass(frozen=True)
class Running:
    """A server: its address, its process, the personal token of its owner and the same person's legacy token."""

    url: str
    pid: int
    token: str
    legacy: str


def installed() -> bool:
    """Whether it is there. Where it was asked for (FLYWHEEL_REQUIRE_LABELSTUDIO=1) its absence is a failure."""
    if not PROGRAM.is_file() and os.environ.get("FLYWHEEL_REQUIRE_LABELSTUDIO") == "1":
        raise RuntimeError(ABSENT)
    return PROGRAM.is_file()


def start(home: Path) -> Running:
    home.mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    legacy = os.urandom(20).hex()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("LABEL_STUDIO_", "DJANGO_", "FLYWHEEL_"))} | {
        "HOME": str(home),
        "LABEL_STUDIO_BASE_DATA_DIR": str(home),
        "LABEL_STUDIO_USERNAME": ADMIN,
        "LABEL_STUDIO_PASSWORD": PASSWORD,
        "LABEL_STUDIO_USER_TOKEN": legacy,
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
        "COLLECT_ANALYTICS": "0",
        "LATEST_VERSION_CHECK": "0",
        "LS_CSP_REPORT_ONLY": "0",
    }
    command = [str(PROGRAM), "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port),
               "--data-dir", str(home), "--enable-legacy-api-token"]  # fmt: skip
    with (home / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=home, env=environment, stdout=log, stderr=log, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(START_S * 2):
            if process.poll() is not None:
                raise RuntimeError(f"Label Studio ended: {(home / 'log').read_text()[-4000:]}")
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{url}/health", timeout=5, trust_env=False).status_code == 200:
                    key = {"authorization": f"Token {legacy}"}
                    made = httpx.post(f"{url}/api/token/", headers=key, timeout=60, trust_env=False)
                    return Running(url, process.pid, made.json()["token"], legacy)
            time.sleep(0.5)
        raise RuntimeError(f"Label Studio did not answer: {(home / 'log').read_text()[-4000:]}")
    except BaseException:
        stop(process.pid)
        raise


def stop(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGTERM)


def shared(folder: Path) -> Running:
    """The one server of all test processes; its note lies in the folder that they share. Call it under a lock."""
    note = folder / "labelstudio.json"
    if not note.is_file():
        note.write_text(json.dumps(asdict(start(folder / "labelstudio"))), encoding="utf-8")
    return Running(**json.loads(note.read_text(encoding="utf-8")))


class Person:
    """Somebody with an account, who answers as the page does: by the session that a login opens."""

    def __init__(self, url: str, email: str = ADMIN, password: str = PASSWORD):
        self.email = email
        self.http = httpx.Client(base_url=url, timeout=60, trust_env=False, follow_redirects=True)
        form = self.http.get("/user/login/").text
        self.csrf = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', form).group(1)
        self.http.post("/user/login/", data={"csrfmiddlewaretoken": self.csrf, "email": email, "password": password})
        assert "sessionid" in self.http.cookies, f"{email} can't log in"
        self.id = self.http.get("/api/current-user/whoami").json()["id"]

    def call(self, method: str, path: str, body: Any = None, expect: Sequence[int] = (200, 201, 204)) -> Any:
        headers = {"x-csrftoken": self.http.cookies.get("csrftoken") or "", "referer": str(self.http.base_url)}
        answer = self.http.request(method, path, json=body, headers=headers)
        assert answer.status_code in expect, (answer.status_code, answer.text[:500])
        return answer.json() if answer.content else None

    def answer(self, task: int, results: list[dict], **more: Any) -> int:
        """Submit; returns the id of the annotation."""
        return self.call("POST", f"/api/tasks/{task}/annotations/", {"result": results, "lead_time": 12.5} | more)["id"]

    def skip(self, task: int) -> int:
        return self.call("POST", f"/api/tasks/{task}/annotations/?was_cancelled=1", {"result": [], "was_cancelled": True})["id"]

    def edit(self, annotation: int, results: list[dict]) -> None:
        self.call("PATCH", f"/api/annotations/{annotation}/", {"result": results})


def invited(url: str, name: str) -> Person:
    """A new account, made by the link that the owner gives to people."""
    owner = Person(url)
    link = owner.call("GET", "/api/invite")["invite_url"]
    with httpx.Client(base_url=url, timeout=60, trust_env=False, follow_redirects=True) as http:
        form = http.get(link).text
        csrf = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', form).group(1)
        email, password = f"{name}@example.org", "only-for-tests-2"
        http.post(link, data={"csrfmiddlewaretoken": csrf, "email": email, "password": password})
    return Person(url, email, password)


def results(kind: Kind, value: Mapping[str, Any], data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the page posts where a person answered this: the inverse of tasks.live.handoff.labelstudio.values.

    `data` is that of the task: the page knows documents and answers by their place only.
    """
    made: list[dict[str, Any]] = []
    for field in kind.fields:
        if field.type == RANKING or field.name in value:
            made += _RESULTS[field.type](kind, field, value, data)
    return [{"id": f"r{number}", "origin": "manual", "to_name": "question"} | item for number, item in enumerate(made)]


def _chosen(name: str, chosen: list[str], **more: Any) -> dict[str, Any]:
    return {"from_name": name, "type": "choices", "value": {"choices": chosen} | more.pop("at", {})} | more


def _choice(kind: Kind, field: Field, value: Mapping[str, Any], _: Any) -> list[dict]:
    return [_chosen(control(kind.name, field.name, CHOICE), [value[field.name]])]


def _several(kind: Kind, field: Field, value: Mapping[str, Any], _: Any) -> list[dict]:
    return [_chosen(control(kind.name, field.name, CHOICES), value[field.name] or [NONE])]


def _rating(kind: Kind, field: Field, value: Mapping[str, Any], _: Any) -> list[dict]:
    if not field.each:
        return [_chosen(control(kind.name, field.name, RATING), [str(value[field.name])])]
    return [
        _chosen(control(kind.name, field.name, RATING, place), [str(grade)], to_name=f"document_{place}")
        for place, grade in value[field.name].items()
    ]


def _written(kind: Kind, field: Field, value: Mapping[str, Any], _: Any) -> list[dict]:
    name = control(kind.name, field.name, TEXT)
    return [{"from_name": name, "type": "textarea", "value": {"text": [value[field.name]]}}]


def _spans(kind: Kind, field: Field, value: Mapping[str, Any], data: Mapping[str, Any]) -> list[dict]:
    name, made = control(kind.name, field.name, SPANS), []
    for number, span in enumerate(value[field.name]):
        # A line break is written as its page writes it.
        at = {"start": span["start"], "end": span["end"], "text": re.sub(r"[\r\n]", r"\\n", span["text"])}
        region = {"id": f"region{number}", "to_name": field.over}
        made.append(region | {"from_name": name, "type": "labels", "value": at | {"labels": [span["label"]]}})
        if "evidence" in span:
            said = {"start": at["start"], "end": at["end"], "text": [span["evidence"]["text"]]}
            made.append(region | {"from_name": f"{name}__evidence", "type": "textarea", "value": said})
            if len(data["contexts"]) > 1:
                made.append(_chosen(f"{name}__document", [str(span["evidence"]["context"] + 1)], at=at) | region)
    return [*made, _chosen(f"{name}__whole", [ALL_MARKED if value[field.name] else NOTHING], to_name=field.over)]


def _ranking(kind: Kind, field: Field, value: Mapping[str, Any], data: Mapping[str, Any]) -> list[dict]:
    name, made = control(kind.name, field.name, RANKING), []
    for place, answer in enumerate(data["answers"]):
        rank = next(n for n, group in enumerate(value[field.name], 1) if answer["id"] in group)
        made.append(_chosen(f"{name}__rank__{place}", [str(rank)], to_name=f"answer_{place}"))
        if answer["id"] in value.get(UNACCEPTABLE, []):
            made.append(_chosen(f"{name}__{UNACCEPTABLE}__{place}", [UNACCEPTABLE], to_name=f"answer_{place}"))
    return made


_RESULTS = {CHOICE: _choice, CHOICES: _several, RATING: _rating, TEXT: _written, SPANS: _spans, RANKING: _ranking}
