"""What the name of a key tells: who somebody is, what opens a door, what is an id or a measure and no text.

"end_user_id" is an identity, "x-api-key" a credential, "traceId" an id, "createdAt" a measure
"""

from __future__ import annotations

import re
from functools import lru_cache

IDENTITY_KEYS = frozenset((
    "user_id", "userid", "user.id", "enduser.id", "enduser.pseudo.id", "end_user", "enduser", "end_user_id", "user",
    "safety_identifier", "request_user_id", "helicone_user", "mlflow.trace.user", "mlflow.user", "hashed_ip",
    "judge", "author", "authoruserid", "author_user_id", "actor", "customer_id", "customerid", "account_id",
    "accountid", "username", "user_name", "user.name", "user.email", "email", "ls_user_id", "langfuse.user.id",
    "traceloop.association.properties.user_id", "created_by", "createdby", "updated_by", "judge_hash", "user_hash",
    "prompt_cache_key", "authorusername", "author_user_name", "authoruseremail", "author_user_email", "user.full_name",
    "user-id", "x-user-id", "helicone-user-id", "remote_user", "process.owner",
))  # fmt: skip
# What tells a person where an identity is an object: {"user": {"id": …, "name": …}}.
PERSON_KEYS = frozenset((
    "id", "uid", "uuid", "sub", "name", "login", "handle", "first_name", "last_name", "full_name", "display_name", "firstname",
    "lastname", "fullname", "displayname",
))  # fmt: skip
_HEADERS = (
    "authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "api-key", "x-forwarded-for", "x-real-ip",
    "x-auth-token", "x-goog-api-key", "x-amz-security-token", "ocp-apim-subscription-key", "private-token",
)  # fmt: skip
CREDENTIAL_KEYS = frozenset((
    # As headers are written in JSON, in nginx's variables and in OpenTelemetry's attributes.
    *_HEADERS, *(h.replace("-", "_") for h in _HEADERS), *("http_" + h.replace("-", "_") for h in _HEADERS),
    *(f"http.{side}.header.{h}" for h in _HEADERS for side in ("request", "response")),
    "apikey", "client_ip", "clientip", "client.address", "requester_ip_address", "remote_addr",
    "remote_ip", "ip", "ip_address", "source_ip", "user_agent", "user-agent", "header", "headers",
    "proxy_server_request", "user_api_key", "user_api_key_hash", "user_api_key_alias", "user_api_key_user_email",
    "user_api_key_user_id", "user_api_key_end_user_id", "user_api_key_team_alias", "password", "passwd", "pwd",
    "passphrase", "secret", "secret_key", "access_key", "session_token", "public_key", "access_token", "refresh_token", "id_token",
    "auth_token", "bearer_token", "client_secret", "secret_access_key", "aws_secret_access_key", "aws_session_token", "private_key",
    "net.sock.peer.addr", "client.socket.address", "api_base",
))  # fmt: skip
# Texts in which a traceback may stand behind what was said.
ERROR_KEYS = frozenset(("error", "error_str", "error_message", "status_message", "statusmessage", "exception.message"))
TRACEBACK = "Traceback (most recent call last)"
TRACEBACK_KEYS = frozenset(("traceback", "exception.stacktrace", "stacktrace", "traceback_str", "stack_trace"))
# Values under these are ids by which records are joined, and (of one word) times and measures: a pattern for numbers must not
# fire in them.
_IDS = re.compile(
    r"(?:^|[._-])(?i:(?:trace|span|run|user|session|event|request|response|message|call|parent|project|conversation|thread|uu|gu)?ids?"
    r"|hash|digest|sha256|md5)$|[a-z](?:Ids?|Hash)$"
)
_MEASURES = re.compile(
    r"(?:^|[._-])(?i:nano|timestamp|created|updated|fingerprint|seed|intvalue|doublevalue|dotted_order|order|model|type|role|time|ts"
    r"|date|version|flywheel|at)$|[a-z](?:At|Time|Date|UnixNano)$"
)


@lru_cache(10_000)
def is_id(key: str) -> bool:
    return _IDS.search(key) is not None


@lru_cache(10_000)
def is_measure(key: str) -> bool:
    return _MEASURES.search(key) is not None
