"""A record of any log dialect -> the record that may be kept. Keys tell identities and credentials, patterns the rest.

    {"user": "kim", "authorization": "Bearer …", "req_body": "{\"messages\": …kim@example.org…}"}
 -> {"user": "u_5c0e…", "req_body": "{\"messages\": …[EMAIL_3fa91c]…}"}

Ids by which records are joined stay as they are; one that is personal itself (an e-mail as session id) becomes the same
surrogate wherever it stands, so that the join still holds.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterator
from operator import is_
from typing import Any, Protocol

import orjson

from tasks.redact import text as texts
from tasks.redact.keys import (
    CREDENTIAL_KEYS,
    ERROR_KEYS,
    IDENTITY_KEYS,
    PERSON_KEYS,
    TRACEBACK,
    TRACEBACK_KEYS,
    is_id,
    is_measure,
)

_SPACE = re.compile(r"\s")
_SESSION_KEYS = (
    "session_id", "sessionId", "session.id", "gen_ai.conversation.id", "conversation_id", "conversation_hash", "thread_id",
    "Helicone-Session-Id", "mlflow.trace.session", "langfuse.session.id", "traceloop.association.properties.session_id",
    "episode_id", "question_id",
)  # fmt: skip
_TENANT_KEYS = ("tenant", "tenant_id", "tenant.id", "tenantId")
MAX_DEPTH = 200  # deeper than any log; beyond it a record is refused before the interpreter's own limit


class NameFinder(Protocol):
    """The optional deeper tier: where persons' names stand in a text."""

    def persons(self, text: str) -> list[tuple[int, int]]:
        """Start and end of each name, in order, not overlapping."""


# A record of a shape that no dialect has -> the same in one that has a dialect; None for any other.
Translate = Callable[[dict[str, Any]], dict[str, Any] | None]


class Edge:
    """Redacts records under one key. `texts` False leaves texts alone, never identities and credentials.

    `translate` knows the records of a team's own shape, and which of their fields are identities; `counts` says how many of
    each type were replaced.
    """

    def __init__(
        self,
        key: bytes,
        texts: bool = True,
        names: NameFinder | None = None,
        translate: Translate = lambda document: None,
    ):
        self.key = key
        self.texts = texts
        self.names = names
        self.translate = translate
        self.counts: dict[str, int] = {}
        self._pseudonyms: dict[tuple[str, str], str] = {}
        self.safe: set[str] = set()

    def look(self, labels: set[str]) -> bool:
        """Whether nothing in these labels (model names, versions, tenants) has to be replaced; remembers those it has seen."""
        new = labels - self.safe
        if any(self.text(label, "") is not label for label in new):
            return False
        if len(self.safe) < 100_000:
            self.safe |= new
        return True

    def pseudonym(self, tenant: str, user_id: str) -> str:
        """The same user of a tenant is the same pseudonym; without the key it leads nowhere."""
        known = self._pseudonyms.get((tenant, user_id))
        if known is None:
            if len(self._pseudonyms) > 100_000:
                self._pseudonyms.clear()
            known = "u_" + self._mac(tenant, user_id)[:16] if user_id else ""
            self._pseudonyms[tenant, user_id] = known
        return known

    def document(self, document: dict[str, Any], scope: str | None = None) -> dict[str, Any]:
        """The record as it may be kept; the same object where nothing had to change.

        `scope` is the conversation it belongs to, where the record does not say it itself. Raises RecursionError for a
        record that is nested more than MAX_DEPTH deep.
        """
        if "resourceSpans" in document or "resourceLogs" in document:
            return self._otlp(document, scope)
        if isinstance(rows := document.get("data"), list) and isinstance(document.get("meta"), dict):
            # A page of an API: each of its rows is a record of its own.
            return document | {"data": [self.document(r) if isinstance(r, dict) else r for r in rows]}
        tenant = str(next(_values(document, _TENANT_KEYS), ""))
        own = scope if scope is not None else conversation(document)
        return _Walk(self, tenant, own or _own_id(document)).clean(document)

    def _otlp(self, request: dict[str, Any], scope: str | None) -> dict[str, Any]:
        """One walk a resource: each may be another tenant's."""
        sessions = _sessions_of_traces(request) if scope is None else None
        found, changed = {}, False
        for key, value in request.items():
            if key in ("resourceSpans", "resourceLogs") and isinstance(value, list):
                new: Any = [
                    _Walk(self, _tenant(resource), scope or "", sessions).clean(resource, key, 1) for resource in value
                ]
                changed = changed or not all(map(is_, new, value))
            else:
                new = _Walk(self, "", scope or "").clean(value, key, 1)
                changed = changed or new is not value
            found[key] = new
        return found if changed else request

    def text(self, text: str, scope: str, tenant: str = "") -> str:
        """A text with its personal data replaced; the same object where there is none."""
        found = texts.redacted(text, lambda kind, value: self._surrogate(kind, value, tenant, scope))
        if self.names is not None:
            for start, end in reversed(self.names.persons(found)):
                found = found[:start] + self._surrogate("PERSON", found[start:end], tenant, scope) + found[end:]
        return found

    def line(self, line: bytes, scope: str = "") -> bytes:
        """Bytes that are no JSON: the same patterns, and identities and credentials where a key stands before them."""
        text = line.decode("utf-8", "surrogateescape")
        text = self.keyed(text)
        if self.texts:
            text = self.text(text, scope)
        return text.encode("utf-8", "surrogateescape")

    def keyed(self, text: str, tenant: str = "") -> str:
        """What is JSON in part only: identities and credentials go where a key stands before them."""
        return _KEYED.sub(lambda m: self._keyed(m, tenant), text)

    def _keyed(self, m: re.Match[str], tenant: str) -> str:
        key = m["key"].lower()
        if key not in CREDENTIAL_KEYS and key not in IDENTITY_KEYS:
            return m[0]
        found = m["value"] or m["number"]
        shown = "[SECRET]" if key in CREDENTIAL_KEYS else self.pseudonym(tenant, found)
        opening, closing = (m["open"], m["close"]) if m["value"] else ('"', '"')
        return f"{m['before']}{opening}{shown}{closing}"

    def _surrogate(self, kind: str, value: str, tenant: str, scope: str) -> str:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        return f"[{kind}_{self._mac(tenant, scope, kind, value)[:6]}]"

    def _mac(self, *words: str) -> str:
        return hmac.digest(self.key, "\0".join(words).encode("utf-8", "surrogatepass"), "sha256").hex()


# A key in quotes, and its value: text in quotes (as JSON, as JSON inside a text, as Python shows it), or a number.
_KEYED = re.compile(
    r"(?P<before>[\"'](?P<key>[\w.-]{2,60})\\?[\"']\s*:\s*)"
    r"(?:(?P<open>\\?[\"'])(?P<value>[^\"'\\]{1,300})(?P<close>\\?[\"']?)|(?P<number>-?\d[\d.]*))"
)


def conversation(document: dict[str, Any]) -> str | None:
    """The conversation that a record itself names, else its trace; None for one that only points at others (feedback)."""
    if "resourceSpans" in document or "resourceLogs" in document:
        return ""  # each span has its own
    if targets(document):
        return None
    trace = document.get("trace")
    if isinstance(trace, dict) and isinstance(trace.get("id"), str):
        return trace["id"]  # a Langfuse export: its observations and scores know the trace only
    if "parent_observation_id" in document or "bookmarked" in document or "parentObservationId" in document:
        return _string(document, "trace_id", "traceId", "id")
    extra = document.get("extra")
    if isinstance(extra, dict) and isinstance(extra.get("metadata"), dict):  # LangSmith: its session_id is the project
        found = next(_values(extra["metadata"], _SESSION_KEYS), None)
        return str(found) if found else _string(document, "trace_id", "id")
    found = next(_values(document, _SESSION_KEYS), None)
    return str(found) if found else _string(document, "trace_id", "traceId", "completion_id", "response_id")


def targets(document: dict[str, Any]) -> list[str]:
    """The ids that a record which is only about others points at, the most exact first; [] for a record of its own."""
    target = document.get("target")
    if isinstance(target, dict) and "name" in document:
        if isinstance(target.get("session_id"), str):
            return [target["session_id"]]
        return [target[k] for k in ("response_id", "id", "trace_id") if isinstance(target.get(k), str)]
    feedback = (
        {"key", "run_id"} <= document.keys() or {"name", "value", "source"} <= document.keys()
        or "metric_name" in document or "target_id" in document or {"inference_id", "value"} <= document.keys()
    )  # fmt: skip
    if not feedback:
        return []
    names = ("observation_id", "observationId", "run_id", "inference_id", "target_id", "trace_id", "traceId")
    return [document[k] for k in names if isinstance(document.get(k), str)]


class _Walk:
    """One record on its way through the edge."""

    def __init__(self, edge: Edge, tenant: str, scope: str, sessions: dict[str, str] | None = None):
        self.edge, self.tenant, self.scope, self.sessions = edge, tenant, scope, sessions

    def clean(self, value: Any, key: str = "", depth: int = 0) -> Any:
        if depth > MAX_DEPTH:
            raise RecursionError(f"nested more than {MAX_DEPTH} deep")
        if isinstance(value, str):
            return self._string(value, key, depth)
        if isinstance(value, dict):
            return self._object(value, depth)
        if isinstance(value, list):
            found = [self.clean(v, key, depth + 1) for v in value if not _is_credential(v)]
            return value if len(found) == len(value) and all(map(is_, found, value)) else found
        return value

    def _object(self, row: dict[str, Any], depth: int) -> dict[str, Any]:
        outer = self.scope, self.tenant
        if self.sessions is not None and isinstance(trace := row.get("traceId"), str):  # a span, or a record of a log
            self.scope = self.sessions.get(trace, trace)
            self.tenant = _attribute_of(row, _TENANT_KEYS) or self.tenant
        named = row.get("key") if isinstance(row.get("value"), dict) else None  # an OTLP attribute
        found: dict[str, Any] = {}
        changed = False
        for key, value in row.items():
            low = key.lower()
            if low in CREDENTIAL_KEYS and value is not None:
                changed = True
                continue
            if (
                low in IDENTITY_KEYS
                and isinstance(value, str | int | float | list | dict)
                and not isinstance(value, bool)
            ):
                new: Any = self._identity(value, key, depth)
            elif isinstance(named, str) and key == "value":
                new = self._attribute(named, value, depth)
            elif low in ("source_id", "user_id") and isinstance(row.get("source_type"), str) and isinstance(value, str):
                new = self.edge.pseudonym(self.tenant, value)  # an MLflow assessment's source
            elif low in ERROR_KEYS and isinstance(value, str) and TRACEBACK in value:
                before, _, after = value.partition(TRACEBACK)
                new = self._string(before + after.strip().rpartition("\n")[2], key, depth)
            elif low in TRACEBACK_KEYS and isinstance(value, str):
                new = self._string(value.strip().rpartition("\n")[2], key, depth)
            else:
                new = self.clean(value, key, depth + 1)
            shown = key if len(key) < 6 or key in self.edge.safe else self._key(key)
            changed = changed or new is not value or shown is not key
            found[shown] = new
        self.scope, self.tenant = outer
        return found if changed else row

    def _identity(self, value: Any, key: str, depth: int) -> Any:
        """A user by an id, by several, or as an object with the id and the name in it."""
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return self.edge.pseudonym(self.tenant, str(value))
        if isinstance(value, list) and depth < MAX_DEPTH:
            return [self._identity(v, key, depth + 1) for v in value]
        if isinstance(value, dict):
            named = {
                k: self._identity(v, k, depth + 1)
                for k, v in value.items()
                if k.lower() in PERSON_KEYS and not isinstance(v, dict)
            }
            return self._object(value | named, depth + 1)
        return self.clean(value, key, depth + 1)

    def _key(self, key: str) -> str:
        """Keys are texts of a program, mostly: but a map from addresses to counts is one too."""
        if not self.edge.texts or self.edge.look({key}):
            return key
        return self._text(key)

    def _attribute(self, name: str, value: dict[str, Any], depth: int) -> Any:
        low = name.lower()
        if low in IDENTITY_KEYS and len(value) == 1 and isinstance(given := next(iter(value.values())), str | int):
            return {"stringValue": self.edge.pseudonym(self.tenant, str(given))}
        if isinstance(value.get("stringValue"), str):
            given = value["stringValue"].strip().rpartition("\n")[2] if low in TRACEBACK_KEYS else value["stringValue"]
            new = self._string(given, name, depth)
            return value if new is value["stringValue"] else {"stringValue": new}
        return self.clean(value, name, depth + 1)

    def _string(self, value: str, key: str, depth: int) -> str:
        start = value[:1]
        if start in ("{", "[", '"') or (start.isspace() and value.lstrip()[:1] in ("{", "[")):
            opened = _opened(value)
            if opened is not None:
                new = self.clean(opened, key, depth + 1)
                return value if new is opened else orjson.dumps(new).decode()
            value = self.edge.keyed(value, self.tenant)  # JSON that was cut
        if not self.edge.texts:
            return value
        if key and (is_id(key) or (is_measure(key) and _SPACE.search(value) is None)):
            # Only an e-mail makes an id personal beyond doubt; the same surrogate everywhere keeps the joins.
            return self.edge.text(value, "", self.tenant) if "@" in value else value
        return self._text(value)

    def _text(self, value: str) -> str:
        return self.edge.text(value, self.scope, self.tenant)


def _opened(text: str) -> Any:
    """JSON inside a string; None where it is a plain text after all."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict | list | str) else None


def _is_credential(value: Any) -> bool:
    """An OTLP attribute that holds a credential or an address of a person's machine."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("key"), str)
        and value["key"].lower() in CREDENTIAL_KEYS
        and "value" in value
    )


def _sessions_of_traces(request: dict[str, Any]) -> dict[str, str]:
    """The session of each trace in an OTLP request: a retrieval span does not say it, the chat span beside it does."""
    sessions: dict[str, str] = {}
    for row in _objects(request):
        trace = row.get("traceId")
        if isinstance(trace, str) and trace not in sessions and (session := _attribute_of(row, _SESSION_KEYS)):
            sessions[trace] = session
    return sessions


def _tenant(resource: Any) -> str:
    """The tenant that a resource of an OTLP request names for all of its spans."""
    inner = resource.get("resource") if isinstance(resource, dict) else None
    return _attribute_of(inner, _TENANT_KEYS) if isinstance(inner, dict) else ""


def _attribute_of(row: dict[str, Any], keys: tuple[str, ...]) -> str:
    """The OTLP attribute of a span, a record or a resource that has the first of the keys; '' where it has none."""
    attributes = row.get("attributes")
    if not isinstance(attributes, list):
        return ""
    found: dict[str, str] = {}
    for attribute in attributes:
        if isinstance(attribute, dict) and attribute.get("key") in keys and isinstance(attribute.get("value"), dict):
            value = next(iter(attribute["value"].values()), "")
            if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
                found.setdefault(attribute["key"], str(value))
    return next((found[k] for k in keys if k in found), "")


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a record, in the order in which they stand."""
    stack = [value]
    while stack:
        top = stack.pop()
        if isinstance(top, dict):
            yield top
            stack += [v for v in reversed(top.values()) if isinstance(v, dict | list)]
        else:
            stack += [v for v in reversed(top) if isinstance(v, dict | list)]


def _values(document: dict[str, Any], keys: tuple[str, ...]) -> Iterator[Any]:
    """The values of the first of the keys that a record has anywhere."""
    found: dict[str, Any] = {}
    for row in _objects(document):
        for key in keys:
            if key in row:
                value = row[key]
                if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
                    found.setdefault(key, value)
    return iter([found[k] for k in keys if k in found])


def _string(document: dict[str, Any], *keys: str) -> str | None:
    return next((document[k] for k in keys if isinstance(document.get(k), str) and document[k]), None)


def _own_id(document: dict[str, Any]) -> str:
    return _string(document, "id", "span_id", "request_id", "x-request-id", "custom_id", "uuid") or ""
