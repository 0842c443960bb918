"""OTLP's protobuf -> the very documents that OTLP/JSON is: hexadecimal ids, 64-bit integers as text, enums as numbers."""

from __future__ import annotations

import base64
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError
from opentelemetry.proto.logs.v1.logs_pb2 import LogsData
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from tasks.errors import BadRecord

IDS = ("traceId", "spanId", "parentSpanId")
# Two bytes of protobuf may be an object of a hundred; 16 MB of spans as exporters write them are 650,000.
MAX_OBJECTS = 1_000_000
SMALL = 1024 * 1024  # bytes that cannot hold so many that it would hurt


def traces(data: bytes) -> dict[str, Any]:
    """A TracesData or an ExportTraceServiceRequest (the same bytes) -> {"resourceSpans": […]}. Raises BadRecord."""
    return _read(TracesData(), data)


def logs(data: bytes) -> dict[str, Any]:
    """A LogsData or an ExportLogsServiceRequest (the same bytes) -> {"resourceLogs": […]}. Raises BadRecord."""
    return _read(LogsData(), data)


def sniff(data: bytes) -> dict[str, Any]:
    """Traces or logs, as the bytes tell: one that is read as the other leaves fields that it does not know."""
    best: tuple[int, dict[str, Any]] | None = None
    for read, key in ((traces, "resourceSpans"), (logs, "resourceLogs")):
        try:
            document = read(data)
        except BadRecord:
            continue
        told = str(document.get(key)).count("'traceId'") + str(document.get(key)).count("'timeUnixNano'")
        if best is None or told > best[0]:
            best = (told, document)
    if best is None:
        raise BadRecord("bad_protobuf", "neither TracesData nor LogsData can be read in it")
    return best[1]


def _read(message: Any, data: bytes) -> dict[str, Any]:
    try:
        message.ParseFromString(data)
    except DecodeError as e:
        raise BadRecord("bad_protobuf", str(e)) from None
    if len(data) > SMALL and _too_many(message):
        raise BadRecord("bomb", f"more than {MAX_OBJECTS:,} objects in {len(data):,} bytes")
    document = MessageToDict(message, use_integers_for_enums=True)
    for outer, middle, inner in (("resourceSpans", "scopeSpans", "spans"), ("resourceLogs", "scopeLogs", "logRecords")):
        for resource in document.get(outer, []):
            for scope in resource.get(middle, []):
                for leaf in scope.get(inner, []):
                    for row in (leaf, *leaf.get("links", [])):
                        row.update({k: base64.b64decode(row[k]).hex() for k in IDS if k in row})
    return document


def _too_many(message: Any) -> bool:
    """Whether a message holds more than MAX_OBJECTS others; it stops counting there."""
    stack, seen = [message], 1
    while stack:
        for field, value in stack.pop().ListFields():
            if field.message_type is not None:
                seen += len(value) if field.is_repeated else 1
                if seen > MAX_OBJECTS:
                    return True
                stack += value if field.is_repeated else [value]
    return False
