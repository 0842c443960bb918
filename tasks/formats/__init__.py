"""One module a log dialect: a JSON record becomes interactions, feedback and parts, or a BadRecord with a reason.

A dialect module has `recognises(document)`, true for its own records by the keys that only they have, and
`parse(document, origin)`; and where its interactions are spread over several records, `MERGE`: the kind of a part ->
a function that completes an interaction with the data of the parts found (the newest last).
A team's own dialects are the modules in tasks/formats/own (docs/extend.md); they are asked first.
Identities and personal data are replaced before a document comes here (tasks/live/edge.py), in every dialect alike.
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from tasks.errors import BadRecord
from tasks.formats import (
    chats,
    gateway,
    helicone,
    langfuse,
    langsmith,
    litellm,
    mlflow_traces,
    native,
    openai_exports,
    otlp,
    tensorzero,
    vllm,
)
from tasks.formats.fields import Parsed, RawInteraction
from tasks.own import own

# The first that recognises a record reads it, so the ones with the more telling keys stand first.
DIALECTS = (
    *own("tasks.formats"), native, otlp, vllm, mlflow_traces, litellm, langsmith, helicone, langfuse, tensorzero, chats, openai_exports, gateway,
)  # fmt: skip
MERGE = {kind: merge for dialect in DIALECTS for kind, merge in getattr(dialect, "MERGE", {}).items()}

# A record longer than this is refused before it is parsed: memory stays bounded whatever a log holds.
MAX_LINE_BYTES = 16 * 1024 * 1024


def load_line(line: bytes) -> dict[str, Any]:
    """One line of bytes -> a JSON object. Raises BadRecord."""
    if len(line) > MAX_LINE_BYTES:
        raise BadRecord("too_long", f"{len(line)} bytes; the limit is {MAX_LINE_BYTES}")
    try:
        document = orjson.loads(line.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as e:
        if vllm.recognises_line(line):
            return {"vllm": line.decode("utf-8", "replace").rstrip()}
        raise BadRecord("bad_json", str(e)) from None
    if not isinstance(document, dict):
        raise BadRecord("bad_json", f"a record must be an object, not {type(document).__name__}")
    return document


def parse(document: dict[str, Any], origin: str = "") -> Parsed:
    """Sniff the dialect of one record and read it. `origin` is the folder it came from: what is joined there stays there.

    Raises BadRecord; unknown dialects are named, never guessed.
    """
    try:
        for dialect in DIALECTS:
            if dialect.recognises(document):
                return dialect.parse(document, origin)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as e:
        # A record that a parser did not foresee must not stop all capture behind it.
        raise BadRecord("unreadable", f"{type(e).__name__}: {e}") from None
    known = ", ".join(str(k)[:40] for k in sorted(document)[:6])
    raise BadRecord(
        "unknown_dialect",
        f"no dialect has the keys {known}; docs/dialects.md lists what is read, and how a mapping in dialects.toml reads any JSON lines",
    )


def complete(raw: RawInteraction, found: dict[tuple[str, str], list[Any]]) -> RawInteraction:
    """Merge into an interaction the parts that it wants and that were found; what is still wanted stays in `wants`."""
    missing = []
    for want in raw.wants:
        data = found.get((want.kind, want.key))
        if data:
            raw = MERGE[want.kind](raw, data)
        else:
            missing.append(want)
    return msgspec.structs.replace(raw, wants=tuple(missing))
