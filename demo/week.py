"""Simulated time: turn 0 starts on Monday 2026-01-05 at 08:00 UTC and a turn is one week; nobody looks at a clock.

turn_start(1)          1768204800000000000    nanoseconds since 1970, as in OTLP
stamp(turn_start(1))   "2026-01-12T08:00:00Z"
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

SECOND = 1_000_000_000
WEEK = 7 * 24 * 3600 * SECOND
FIRST_MONDAY = int(datetime(2026, 1, 5, 8, tzinfo=UTC).timestamp()) * SECOND
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def turn_start(turn: int) -> int:
    """The first nanosecond of a turn."""
    return FIRST_MONDAY + turn * WEEK


def stamp(time_ns: int) -> str:
    """ISO 8601 in UTC, to the second."""
    return (EPOCH + timedelta(seconds=time_ns // SECOND)).strftime("%Y-%m-%dT%H:%M:%SZ")
