"""The two errors that are meant for people; everything else is a bug and crashes."""

from __future__ import annotations

OK, UNEXPECTED, USAGE, INVALID, GATE_REFUSED, BUSY, PARTIAL, INTERRUPTED = 0, 1, 2, 3, 4, 6, 7, 130


class BadRecord(Exception):
    """One log record that cannot be read. Caught at capture and receive only, where it becomes a counted reject.

    `code` is one of a small set of lower_snake_case reasons; `message` says what was wrong with this record.
    """

    def __init__(self, code: str, message: str):
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class Refused(Exception):
    """The loop will not do this. Carries what happened and why, what to do about it, and the exit code."""

    def __init__(self, why: str, what_to_do: str, exit_code: int = USAGE):
        super().__init__(why, what_to_do, exit_code)  # all of it, or it could not come from another process
        self.why = why
        self.what_to_do = what_to_do
        self.exit_code = exit_code

    def __str__(self) -> str:
        return f"{self.why}\n  fix: {self.what_to_do}"
