"""Numbers as people read them; what is not known is said to be so.

    number(0.00012, 2) -> "0.00012"   number(0.0831, 3, True) -> "+0.083"   percent(0.815) -> "81.5%"   count(None) -> "unknown"
"""

from __future__ import annotations

import math
from typing import Any

UNKNOWN = "unknown"


def known(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def number(value: Any, digits: int, signed: bool = False) -> str:
    """With `signed` to so many decimals, else to so many significant digits."""
    if not known(value):
        return UNKNOWN
    return f"{value:+.{digits}f}" if signed else f"{value:.{digits}g}"


def percent(value: Any) -> str:
    return f"{value:.1%}" if known(value) else UNKNOWN


def points(value: Any) -> str:
    """A share as percentage points."""
    return f"{100 * value:g} points" if known(value) else UNKNOWN


def count(value: Any) -> str:
    return f"{value:,.0f}" if known(value) else UNKNOWN
