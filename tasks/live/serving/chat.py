"""OpenAI's chat completions, as far as a policy can answer them: what was asked, the answer whole or in pieces, and errors.

    {"model": "champion", "messages": [{"role": "user", "content": "when do I see my money?"}], "user": "u-9"}
 -> {"id": "chatcmpl-…", "object": "chat.completion", "choices": [{"index": 0, "message": {…}, "finish_reason": "stop", …}], …}

Ours, beside OpenAI's fields: `contexts` (documents to rest on) and `candidates` (texts to choose from) in the request, `flywheel`
(version, confidence) in the answer. Sampling settings are taken and do nothing: a policy's answer is its best one.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from tasks.live.door import Refusal
from tasks.policy import Reply

MAX_MESSAGES, MAX_CONTEXTS, MAX_CANDIDATES, MAX_N = 256, 64, 64, 16
MAX_CHARACTERS = 200_000  # of all messages and documents together
MAX_NAME = 512  # characters of a user's or a session's name
ROLES = ("system", "developer", "user", "assistant", "tool")
# What would change what an answer is, and is not done here. A request that relies on one of these must hear so.
UNSUPPORTED = ("tools", "functions", "audio", "web_search_options", "prediction")
TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


class ApiError(Refusal):
    """An error in OpenAI's shape: `code` is for programs, `param` names the field that is wrong."""

    def __init__(self, status: int, message: str, code: str | None = None, param: str | None = None):
        super().__init__(status, message)
        self.code, self.param = code, param

    def body(self) -> bytes:
        kind = "server_error" if self.status >= 500 else TYPES.get(self.status, "invalid_request_error")
        return orjson.dumps({"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}})


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. `contexts` are {id, text, score}; `candidates` None where the policy brings its own answers."""

    id: str
    started: float
    model: str
    messages: list[dict[str, str]]
    contexts: list[dict[str, Any]]
    candidates: list[str] | None
    n: int
    max_tokens: int | None
    stream: bool
    stream_usage: bool
    user: str
    session: str
    tenant: str

    @property
    def actor(self) -> str:
        """Who stays on one side of a comparison, and counts once in it: the user, else the session; '' for neither."""
        who = self.user or self.session
        return f"{self.tenant}\0{'u' if self.user else 's'}\0{who}" if who else ""


@dataclass(frozen=True, slots=True)
class Choice:
    """A reply as it is sent: cut where the request said so."""

    reply: Reply
    text: str
    finish_reason: str


def asked(document: Any, now: float) -> Asked:
    """Read a request. Raises ApiError (400) with the field that is wrong."""
    if not isinstance(document, dict):
        raise ApiError(400, "the body is no JSON object")
    for name in UNSUPPORTED:
        if document.get(name):
            raise ApiError(400, f"'{name}' is not supported: a policy answers in text", "unsupported_parameter", name)
    if (document.get("response_format") or {"type": "text"}) != {"type": "text"}:
        raise ApiError(400, "'response_format' other than text is not supported", "unsupported_parameter", "response_format")
    metadata = document.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise ApiError(400, "'metadata' is an object of texts", param="metadata")
    options = document.get("stream_options") or {}
    contexts = _contexts(document.get("contexts") or [])
    messages = _messages(document.get("messages"))
    characters = sum(len(m["content"]) for m in messages) + sum(len(c["text"]) for c in contexts)
    if characters > MAX_CHARACTERS:
        raise ApiError(400, f"{characters:,} characters of messages and contexts; {MAX_CHARACTERS:,} are read",
                       "context_length_exceeded", "messages")  # fmt: skip
    limit = "max_completion_tokens" if document.get("max_completion_tokens") is not None else "max_tokens"
    return Asked(
        id=f"chatcmpl-{secrets.token_hex(12)}",
        started=now,
        model=_name(document, "model", required=True),
        messages=messages,
        contexts=contexts,
        candidates=_candidates(document.get("candidates")),
        n=_whole(document, "n", MAX_N) or 1,
        max_tokens=_whole(document, limit, 2**31),
        stream=document.get("stream") is True,
        stream_usage=isinstance(options, dict) and options.get("include_usage") is True,
        user=_name(document, "user"),
        session=_name(metadata, "session_id"),
        tenant=_name(metadata, "tenant"),
    )


def choices(of: Asked, replies: Sequence[Reply]) -> list[Choice]:
    """The replies, cut to `max_tokens` (words here: a policy may have no tokenizer)."""
    made = []
    for reply in replies[: of.n]:
        words = reply.text.split()
        if of.max_tokens is not None and len(words) > of.max_tokens:
            made.append(Choice(reply, " ".join(words[: of.max_tokens]), "length"))
        else:
            made.append(Choice(reply, reply.text, "stop"))
    return made


def completion(of: Asked, made: Sequence[Choice], version: str, digest: str) -> dict[str, Any]:
    return _head(of, "chat.completion", version, digest) | {
        "choices": [
            {
                "index": k,
                "message": {"role": "assistant", "content": c.text, "refusal": None},
                "logprobs": None,
                "finish_reason": c.finish_reason,
                "flywheel": _of_choice(c),
            }
            for k, c in enumerate(made)
        ],
        "usage": usage(of, made),
    }


def chunks(of: Asked, made: Sequence[Choice], version: str, digest: str) -> Iterator[bytes]:
    """The same as server-sent events: the role, the text word by word, why it ended, `[DONE]`."""
    head = _head(of, "chat.completion.chunk", version, digest) | ({"usage": None} if of.stream_usage else {})

    def event(k: int, delta: dict[str, Any], **more: Any) -> bytes:
        choice = {"index": k, "delta": delta, "logprobs": None, "finish_reason": None} | more
        return b"data: " + orjson.dumps(head | {"choices": [choice]}) + b"\n\n"

    for k, c in enumerate(made):
        yield event(k, {"role": "assistant", "content": "", "refusal": None})
        for piece in _pieces(c.text):
            yield event(k, {"content": piece})
        yield event(k, {}, finish_reason=c.finish_reason, flywheel=_of_choice(c))
    if of.stream_usage:
        yield b"data: " + orjson.dumps(head | {"choices": [], "usage": usage(of, made)}) + b"\n\n"
    yield b"data: [DONE]\n\n"


def usage(of: Asked, made: Sequence[Choice]) -> dict[str, int]:
    """Counted in words."""
    prompt, answer = sum(len(m["content"].split()) for m in of.messages), sum(len(c.text.split()) for c in made)
    return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}


def listed(name: str, version: str, digest: str, created: int) -> dict[str, Any]:
    """An entry of /v1/models."""
    return {"id": name, "object": "model", "created": created, "owned_by": "flywheel", "version": version, "digest": digest}


def shorter(of: Asked, n: int) -> Asked:
    """The same question for the shadow: one answer, no stream."""
    return replace(of, n=n, stream=False)


def _head(of: Asked, kind: str, version: str, digest: str) -> dict[str, Any]:
    return {
        "id": of.id, "object": kind, "created": int(of.started), "model": of.model, "system_fingerprint": f"fp_{digest[:12]}",
        "flywheel": {"version": version, "digest": digest},
    }  # fmt: skip


def _of_choice(choice: Choice) -> dict[str, Any]:
    return {"confidence": choice.reply.confidence, "action": choice.reply.action}


def _pieces(text: str) -> Iterator[str]:
    """Words with the space before them: put together they are the text, byte by byte."""
    start = 0
    for at in range(1, len(text)):
        if text[at] == " " and text[at - 1] != " ":
            yield text[start:at]
            start = at
    if text[start:]:
        yield text[start:]


def _messages(value: Any) -> list[dict[str, str]]:
    if not isinstance(value, list) or not value:
        raise ApiError(400, "'messages' is missing: a list of {role, content}", "missing_required_parameter", "messages")
    if len(value) > MAX_MESSAGES:
        raise ApiError(400, f"{len(value)} messages; {MAX_MESSAGES} are read", "context_length_exceeded", "messages")
    found = []
    for k, m in enumerate(value):
        where = f"messages[{k}]"
        if not isinstance(m, dict) or m.get("role") not in ROLES:
            raise ApiError(400, f"'{where}' needs a role of {', '.join(ROLES)}", "invalid_value", f"{where}.role")
        found.append({"role": m["role"], "content": _content(m.get("content"), f"{where}.content")})
    if found[-1]["role"] not in ("user", "tool") or not any(m["role"] == "user" for m in found):
        raise ApiError(400, "'messages' must end with what the user (or a tool) said", "invalid_value", "messages")
    return found


def _content(value: Any, where: str) -> str:
    """Text, or OpenAI's parts of it. Pictures and sounds are no text."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value:
        texts = [p.get("text") for p in value if isinstance(p, dict) and p.get("type") == "text"]
        if len(texts) == len(value) and all(isinstance(t, str) for t in texts):
            return "\n".join(texts)
        raise ApiError(400, f"'{where}' has parts that are no text", "unsupported_value", where)
    raise ApiError(400, f"'{where}' is no text", "invalid_type", where)


def _contexts(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or len(value) > MAX_CONTEXTS:
        raise ApiError(400, f"'contexts' is a list of {{id, text}}, of {MAX_CONTEXTS} at most", param="contexts")
    found = []
    for k, c in enumerate(value):
        if not isinstance(c, dict) or not isinstance(c.get("text"), str) or not isinstance(c.get("id", ""), str):
            raise ApiError(400, f"'contexts[{k}]' needs a text (and an id)", "invalid_type", f"contexts[{k}]")
        score = c.get("score")
        known = {"score": float(score)} if type(score) in (int, float) else {}
        found.append({"id": c.get("id", ""), "text": c["text"]} | known)
    return found


def _candidates(value: Any) -> list[str] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not 0 < len(value) <= MAX_CANDIDATES or not all(isinstance(v, str) for v in value):
        raise ApiError(400, f"'candidates' is a list of 1 to {MAX_CANDIDATES} texts", param="candidates")
    return value


def _name(document: dict[str, Any], key: str, required: bool = False) -> str:
    value = document.get(key)
    if value is None and not required:
        return ""
    if not isinstance(value, str) or len(value) > MAX_NAME or (required and not value):
        raise ApiError(400, f"'{key}' is a text of at most {MAX_NAME} characters", "invalid_type", key)
    return value


def _whole(document: dict[str, Any], key: str, most: int) -> int | None:
    value = document.get(key)
    if value is not None and (type(value) is not int or not 1 <= value <= most):
        raise ApiError(400, f"'{key}' is a whole number from 1 to {most}", "invalid_value", key)
    return value


