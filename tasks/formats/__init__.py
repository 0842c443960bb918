"""One module a log dialect: a line of bytes becomes interactions and feedback, or a BadRecord with a reason."""

from __future__ import annotations

import orjson

from tasks.errors import BadRecord
from tasks.formats import native, otlp
from tasks.formats.fields import Parsed

# A line longer than this is refused before it is parsed: memory stays bounded whatever a log holds.
MAX_LINE_BYTES = 16 * 1024 * 1024


def parse_line(line: bytes) -> Parsed:
    """Sniff the dialect of one JSON line and read it. Raises BadRecord; unknown dialects are named, never guessed."""
    if len(line) > MAX_LINE_BYTES:
        raise BadRecord("too_long", f"{len(line)} bytes; the limit is {MAX_LINE_BYTES}")
    try:
        document = orjson.loads(line.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as e:
        raise BadRecord("bad_json", str(e)) from None
    if not isinstance(document, dict):
        raise BadRecord("bad_json", f"a line must hold an object, not {type(document).__name__}")
    try:
        if "flywheel" in document:
            return native.parse(document)
        if "resourceSpans" in document:
            return otlp.parse(document)
    except (OverflowError, RecursionError, TypeError, ValueError) as e:
        # A record that a parser did not foresee must not stop all capture behind it.
        raise BadRecord("unreadable", f"{type(e).__name__}: {e}") from None
    known = ", ".join(sorted(document)[:5])
    raise BadRecord("unknown_dialect", f"keys {known}; expected OTLP/JSON (resourceSpans) or flywheel lines")
