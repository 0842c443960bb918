"""What a look at a workspace found: that something is as it should be, or what is not, why, and the command that mends it.

    Finding("fault", "champion", ".flywheel/models/9f1c27ab03de4f55 does not hold the model that its name is the digest of",
            "rm -r .flywheel/models/9f1c27ab03de4f55; the next turn fetches it")
"""

from __future__ import annotations

from dataclasses import dataclass

OK, WARNING, FAULT = "ok", "warning", "fault"


@dataclass(frozen=True, slots=True)
class Finding:
    """`check` is what was looked at; `why` what was found; `fix` the command, '' where nothing is to be done."""

    level: str
    check: str
    why: str
    fix: str = ""


def fault(check: str, why: str, fix: str) -> Finding:
    return Finding(FAULT, check, why, fix)


def warning(check: str, why: str, fix: str = "") -> Finding:
    return Finding(WARNING, check, why, fix)


def well(check: str, why: str = "") -> Finding:
    return Finding(OK, check, why)
