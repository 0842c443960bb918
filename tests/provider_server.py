"""A server that speaks the part of OpenAI's API that tuning needs, in this process on a free port. It reads every line that it is
sent, moves a job one state on at each look, and answers chats with what the tuned model was taught.

    with served(Provider(key="sk-test")) as (provider, url): …
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import re
import threading
import time
from collections.abc import Iterator
from email import message_from_bytes
from email.policy import HTTP
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

STATES = ("validating_files", "queued", "running", "succeeded")
FEWEST = 10


class Provider:
    """`busy`: requests that are answered 429 first, `broken`: 500, by method and path; `lost`: jobs made whose answer never comes.

    `pace`: looks at a job before it moves on.
    """

    def __init__(self, key: str = "sk-test-9f3", pace: int = 1, limit: int = 100):
        self.key, self.pace, self.limit = key, pace, limit
        self.files: dict[str, dict[str, Any]] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.taught: dict[str, dict[str, str]] = {}
        self.busy: dict[str, int] = {}
        self.broken: dict[str, int] = {}
        self.lost = 0
        self.fails: dict[str, str] | None = None
        self.logprobs = True
        self.asked: list[str] = []
        self.chats: list[dict[str, Any]] = []
        self.deleted: list[str] = []

    def application(self) -> Starlette:
        def route(path: str, work: Any, *methods: str) -> Route:
            async def guarded(request: Request) -> Response:
                return self._gate(request) or await work(request)

            return Route(f"/v1/{path}", guarded, methods=list(methods))

        return Starlette(
            routes=[
                route("files", self._upload, "POST"),
                route("files", self._list_files, "GET"),
                route("files/{id}", self._delete, "DELETE"),
                route("fine_tuning/jobs", self._create, "POST"),
                route("fine_tuning/jobs", self._list_jobs, "GET"),
                route("fine_tuning/jobs/{id}", self._job, "GET"),
                route("fine_tuning/jobs/{id}/cancel", self._cancel, "POST"),
                route("fine_tuning/jobs/{id}/events", self._events, "GET"),
                route("chat/completions", self._chat, "POST"),
            ]
        )

    def _gate(self, request: Request) -> Response | None:
        name = f"{request.method} {request.url.path.removeprefix('/v1/')}"
        self.asked.append(name)
        if request.headers.get("authorization") != f"Bearer {self.key}":
            given = request.headers.get("authorization", "")
            return error(401, "invalid_api_key", f"Incorrect API key provided: {given}")
        if self.busy.get(name, 0):
            self.busy[name] -= 1
            return error(429, "rate_limit_exceeded", "slow down", {"retry-after": "0.01"})
        if self.broken.get(name, 0):
            self.broken[name] -= 1
            return error(503, "", "overloaded", {"retry-after": "0"})
        return None

    async def _upload(self, request: Request) -> Response:
        head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
        form = message_from_bytes(head + await request.body(), policy=HTTP)
        parts = {p["content-disposition"].params["name"]: p for p in form.iter_parts()}
        if parts["purpose"].get_content().strip() != "fine-tune":
            return error(400, "invalid_purpose", "purpose must be fine-tune")
        id, sent = f"file-{len(self.files) + 1}", parts["file"]
        data = sent.get_payload(decode=True)
        self.files[id] = {"id": id, "object": "file", "filename": sent.get_filename(), "purpose": "fine-tune", "bytes": data}
        return JSONResponse(shown(self.files[id]))

    async def _list_files(self, request: Request) -> Response:
        return page(request, [f for f in self.files.values() if f["id"] not in self.deleted], self.limit)

    async def _delete(self, request: Request) -> Response:
        self.deleted.append(request.path_params["id"])
        return JSONResponse({"id": request.path_params["id"], "deleted": True})

    async def _create(self, request: Request) -> Response:
        body = await request.json()
        method = body["method"]["type"]
        known = body["model"] in self.taught or body["model"].startswith("base-")
        if not known:
            return error(404, "model_not_found", f"no model {body['model']}")
        if body["training_file"] not in self.files or body["training_file"] in self.deleted:
            return error(400, "file_not_found", "no such file")
        id = f"ftjob-{len(self.jobs) + 1}"
        self.jobs[id] = {
            "id": id, "object": "fine_tuning.job", "status": STATES[0], "model": body["model"], "fine_tuned_model": None,
            "training_file": body["training_file"], "method": body["method"], "seed": body["seed"], "error": None,
            "metadata": body.get("metadata"), "suffix": body.get("suffix"), "trained_tokens": None, "looks": 0, "kind": method,
        }  # fmt: skip
        if self.lost:
            self.lost -= 1
            return error(500, "", "it was made, and nobody heard of it")
        return JSONResponse(shown(self.jobs[id]))

    async def _list_jobs(self, request: Request) -> Response:
        wanted = {m[1]: v for k, v in request.query_params.items() if (m := re.fullmatch(r"metadata\[(\w+)\]", k))}
        found = [j for j in reversed(self.jobs.values()) if all((j["metadata"] or {}).get(k) == v for k, v in wanted.items())]
        return page(request, found, self.limit)

    async def _job(self, request: Request) -> Response:
        job = self.jobs.get(request.path_params["id"])
        if job is None:
            return error(404, "not_found", "no such job")
        if job["status"] in STATES[:-1]:
            job["looks"] += 1
            if job["looks"] >= self.pace:
                job["looks"] = 0
                self._move(job)
        return JSONResponse(shown(job))

    def _move(self, job: dict[str, Any]) -> None:
        file = self.files[job["training_file"]]["bytes"]
        if job["status"] == STATES[0]:
            wrong = check(file, job["kind"])
            if wrong or self.fails:
                told = {"code": "invalid_training_file", "message": wrong} if wrong else self.fails
                job |= {"status": "failed", "error": told | {"param": "training_file"}}
                return
        job["status"] = STATES[STATES.index(job["status"]) + 1]
        if job["status"] == "succeeded":
            name = f"ft:{job['model'].split(':')[-1]}:acme:{job['suffix']}:{job['id'][6:]}"
            job |= {"fine_tuned_model": name, "trained_tokens": len(file) // 4}
            self.taught[name] = self.taught.get(job["model"], {}) | lessons(file, job["kind"])

    async def _cancel(self, request: Request) -> Response:
        job = self.jobs[request.path_params["id"]]
        if job["status"] not in ("succeeded", "failed"):
            job["status"] = "cancelled"
        return JSONResponse(shown(job))

    async def _events(self, request: Request) -> Response:
        job = self.jobs[request.path_params["id"]]
        made = [
            {"id": f"ftevent-{n}", "type": "metrics", "level": "info", "message": f"Step {n}/5",
             "data": {"step": n, "total_steps": 5, "train_loss": round(2 / n, 4), "train_mean_token_accuracy": n / 5}}
            for n in range(1, 6)
        ]  # fmt: skip
        made.append({"id": "ftevent-9", "type": "message", "level": "info", "message": job["status"], "data": None})
        return page(request, made[::-1], self.limit)

    async def _chat(self, request: Request) -> Response:
        body = await request.json()
        self.chats.append(body)
        model = self.taught.get(body["model"])
        if model is None and not body["model"].startswith("base-"):
            return error(404, "model_not_found", f"the model {body['model']} does not exist")
        asked = key(body["messages"])
        known = (model or {}).get(asked)
        choices = []
        for n in range(body.get("n", 1)):
            text = known if known and n == 0 else f"I am not sure about it, says try {n % 2}."
            chance = 0.9 if known and n == 0 else 0.4
            tokens = [{"token": t, "logprob": math.log(chance)} for t in text.split()]
            choices.append({
                "index": n, "message": {"role": "assistant", "content": text}, "finish_reason": "stop",
                "logprobs": {"content": tokens} if self.logprobs and body.get("logprobs") else None,
            })  # fmt: skip
        return JSONResponse({"id": "chatcmpl-1", "model": body["model"], "choices": choices})


@contextlib.contextmanager
def served(provider: Provider) -> Iterator[tuple[Provider, str]]:
    server = uvicorn.Server(uvicorn.Config(provider.application(), host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    try:
        yield provider, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    finally:
        server.should_exit = True
        thread.join(10)


def key(messages: list[dict[str, Any]]) -> str:
    """A conversation as a model would see it."""
    return hashlib.sha256(json.dumps([[m["role"], m["content"]] for m in messages]).encode()).hexdigest()


def check(file: bytes, kind: str) -> str:
    """What is wrong with a training file, '' nothing: the rules of OpenAI's guide."""
    lines = [json.loads(x) for x in file.splitlines()]
    if len(lines) < FEWEST:
        return f"Training file has {len(lines)} example(s), but must have at least {FEWEST} examples"
    for n, line in enumerate(lines, start=1):
        if kind == "supervised":
            if set(line) - {"messages", "tools"} or line["messages"][-1]["role"] != "assistant":
                return f"line {n}: must hold messages that end with the assistant's"
            if not any(m.get("weight", 1) for m in line["messages"] if m["role"] == "assistant"):
                return f"line {n}: at least one message of the assistant must have weight 1"
            allowed = {"role", "content", "weight", "tool_calls", "tool_call_id", "name"}
            if any(set(m) - allowed for m in line["messages"]):
                return f"line {n}: unknown key in a message"
        elif set(line) != {"input", "preferred_output", "non_preferred_output"}:
            return f"line {n}: must hold input, preferred_output and non_preferred_output"
    return ""


def lessons(file: bytes, kind: str) -> dict[str, str]:
    found = {}
    for line in map(json.loads, file.splitlines()):
        if kind == "supervised":
            found[key(line["messages"][:-1])] = line["messages"][-1]["content"]
        else:
            found[key(line["input"]["messages"])] = line["preferred_output"][0]["content"]
    return found


def page(request: Request, rows: list[dict[str, Any]], limit: int) -> Response:
    after = request.query_params.get("after")
    start = next((n + 1 for n, r in enumerate(rows) if r["id"] == after), 0)
    size = min(limit, int(request.query_params.get("limit", 20)))
    part = rows[start : start + size]
    return JSONResponse({"object": "list", "data": [shown(r) for r in part], "has_more": start + size < len(rows)})


def shown(row: dict[str, Any]) -> dict[str, Any]:
    return {k: len(v) if k == "bytes" else v for k, v in row.items() if k not in ("looks", "kind")}


def error(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": {"message": message, "type": "error", "code": code or None}}, status, headers)
